//! The settings as `p2p config` shows them.

use std::{net::SocketAddr, path::Path};

use serde::Serialize;

use super::{Accept, Origin, Settings, WriteOnlyIn, hooks, load};

/// The settings as one line of JSON.
#[derive(Serialize)]
struct Line {
    event: &'static str,
    settings: Vec<Shown>,
}

#[derive(Serialize)]
pub(super) struct Shown {
    pub(super) key: &'static str,
    pub(super) value: toml::Value,
    pub(super) origin: String,
}

impl Settings {
    /// One `key = value  # from origin` a line; without the origins it would be a config file.
    pub(crate) fn for_people(&self) -> String {
        let line = |shown: Shown| format!("{} = {}  # from {}\n", shown.key, shown.value, shown.origin);
        self.shown().into_iter().map(line).collect()
    }

    /// One object: `{"event":"config","settings":[{"key","value","origin"}]}`.
    ///
    /// # Errors
    /// The values cannot be written as JSON.
    pub(crate) fn for_programs(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Line { event: "config", settings: self.shown() })
    }

    pub(super) fn shown(&self) -> Vec<Shown> {
        let one = |key, value, origin: &Origin| Shown { key, value, origin: origin.to_string() };
        vec![
            one("home", path(&self.home.value), &self.home.origin),
            one("config", path(&self.config.value), &self.config.origin),
            one("listen", addresses(&self.listen.value), &self.listen.origin),
            one("inbox", path(&self.inbox.value), &self.inbox.origin),
            one("log", self.log.value.clone().into(), &self.log.origin),
            one("accept", self.accept.value.word().into(), &self.accept.origin),
            one("congestion", self.congestion.value.word().into(), &self.congestion.origin),
            one("write_only_in", folders(&self.write_only_in.value), &self.write_only_in.origin),
            one("debuggable", self.debuggable.value.into(), &self.debuggable.origin),
            one("max_transfers", number(self.max_transfers.value), &self.max_transfers.origin),
            one(
                "max_transfers_per_peer",
                number(self.max_transfers_per_peer.value),
                &self.max_transfers_per_peer.origin,
            ),
            one("limit", load::shown(&self.limit.value), &self.limit.origin),
            one("hooks", hooks::shown(&self.hooks.value), &self.hooks.origin),
        ]
    }
}

impl Accept {
    fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Ask => "ask",
        }
    }
}

fn path(path: &Path) -> toml::Value {
    path.to_string_lossy().into_owned().into()
}

fn number(number: usize) -> toml::Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn folders(write_only_in: &WriteOnlyIn) -> toml::Value {
    match write_only_in {
        WriteOnlyIn::Anywhere => "anywhere".into(),
        WriteOnlyIn::Folders(folders) => folders.iter().map(|folder| path(folder)).collect::<Vec<_>>().into(),
    }
}

fn addresses(addresses: &[SocketAddr]) -> toml::Value {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().into()
}
