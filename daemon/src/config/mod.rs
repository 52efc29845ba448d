//! What holds for this daemon: flag before environment before config file before default, each value with its
//! origin.

mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hooks;
mod load;
mod new;
mod show;

use std::{
    ffi::OsString,
    fmt, io,
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use p2p_protocol::rate::Timetable;

pub use hooks::Hooks;
pub use load::Load;
pub(crate) use new::write_new;

use crate::{
    Congestion,
    args::{Args, parse_listen},
    logging,
    peers::DEFAULT_PORT,
};

const CONFIG_FILE: &str = "config.toml";
const DEFAULT_LOG: &str = "info";

const ENV_HOME: &str = "P2P_HOME";
const ENV_LISTEN: &str = "P2P_LISTEN";
const ENV_INBOX: &str = "P2P_INBOX";
const ENV_CONFIG: &str = "P2P_CONFIG";
const ENV_LOG: &str = "P2P_LOG";
const ENV_DEBUGGABLE: &str = "P2P_DEBUGGABLE";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Flag,
    /// This variable of the environment.
    Env(&'static str),
    /// This config file.
    File(PathBuf),
    /// Nobody said anything else.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    /// What holds.
    pub(crate) value: T,
    /// Who said so.
    pub(crate) origin: Origin,
}

impl<T> Setting<T> {
    fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }
}

/// What happens to a trusted peer's offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// It is taken.
    #[default]
    Always,
    /// It waits until the owner says yes or no.
    Ask,
}

/// Where the daemon may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WriteOnlyIn {
    /// Wherever its user may.
    Anywhere,
    /// In its home, its inbox and these folders, absolute.
    Folders(Vec<PathBuf>),
}

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The state folder, absolute.
    pub(crate) home: Setting<PathBuf>,
    /// The config file, absolute; the default one need not exist.
    pub(crate) config: Setting<PathBuf>,
    /// Addresses to listen on, at least one.
    pub(crate) listen: Setting<Vec<SocketAddr>>,
    /// Where received files land, absolute.
    pub(crate) inbox: Setting<PathBuf>,
    /// What to log; a valid filter.
    pub(crate) log: Setting<String>,
    /// What happens to a trusted peer's offer.
    pub(crate) accept: Setting<Accept>,
    /// What decides how much may be on its way to a peer.
    pub(crate) congestion: Setting<Congestion>,
    /// Where the daemon may write.
    pub(crate) write_only_in: Setting<WriteOnlyIn>,
    /// Whether debuggers and profilers of the same user may look into it.
    pub(crate) debuggable: Setting<bool>,
    /// Transfers that run at a time.
    pub(crate) max_transfers: Setting<usize>,
    /// Transfers to or from one target that run at a time.
    pub(crate) max_transfers_per_peer: Setting<usize>,
    /// Limits on bandwidth.
    pub(crate) limit: Setting<Timetable>,
    /// Programs that are run when something happens.
    pub(crate) hooks: Setting<Hooks>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The platform names no folder, as where HOME is not set.
    #[error("no {what} is known for this user; give one with {flag} or {env}")]
    NoFolder { what: &'static str, flag: &'static str, env: &'static str },
    /// A variable of the environment has a value that makes no sense.
    #[error("{name}: {why}")]
    Env { name: &'static str, why: String },
    /// A flag has a value that makes no sense.
    #[error("{name}: {why}")]
    Flag { name: &'static str, why: String },
    /// The config file cannot be read.
    #[error("{path}: cannot read the config file: {source}")]
    Read { path: PathBuf, source: io::Error },
    /// There is one already.
    #[error("{path} is there already, and stays as it is; move it away to have a new one")]
    Exists { path: PathBuf },
    /// A new config file cannot be written.
    #[error("{path}: cannot write the config file: {source}")]
    Write { path: PathBuf, source: io::Error },
    /// Something in the config file makes no sense. Lines and columns count from one.
    #[error("{path}:{line}:{column}: {problem}")]
    File { path: PathBuf, line: usize, column: usize, problem: FileProblem },
}

/// What makes no sense in a config file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileProblem {
    /// Not TOML.
    #[error("{0}")]
    Syntax(String),
    /// No setting has this name.
    #[error("unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey { key: String, nearest: &'static str },
    /// The setting says where this file is, so it cannot stand in it.
    #[error("`{key}` cannot be set here; use --{key} or {env}")]
    NotHere { key: &'static str, env: &'static str },
    /// A value of the wrong type.
    #[error("`{key}` must be {wants}")]
    Type { key: &'static str, wants: &'static str },
    /// A value of the right type that makes no sense.
    #[error("`{key}`: {why}")]
    Value { key: &'static str, why: String },
}

/// What the process finds around it.
#[derive(Clone)]
struct Surroundings<'a> {
    env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The platform's folder for state.
    state: Option<PathBuf>,
    /// The user's folder for downloads.
    downloads: Option<PathBuf>,
    /// The user's home folder, for `~/`.
    user: Option<PathBuf>,
}

impl Surroundings<'static> {
    fn of_the_process() -> Self {
        let project = directories::ProjectDirs::from("", "", "p2p");
        let user = directories::UserDirs::new();
        Self {
            env: &|name| std::env::var_os(name),
            state: project.map(|dirs| dirs.state_dir().unwrap_or(dirs.data_local_dir()).to_owned()),
            downloads: user.as_ref().map(|dirs| match dirs.download_dir() {
                Some(downloads) => downloads.to_owned(),
                None => dirs.home_dir().join("Downloads"),
            }),
            user: user.map(|dirs| dirs.home_dir().to_owned()),
        }
    }
}

impl Surroundings<'_> {
    /// A variable that is set to something.
    fn env(&self, name: &str) -> Option<OsString> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    fn env_text(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let text = self.env(name).map(OsString::into_string).transpose();
        text.map_err(|_| ConfigError::Env { name, why: "not valid UTF-8".to_owned() })
    }

    /// A path in a variable. A relative one would mean another folder each time the daemon is started.
    fn env_path(&self, name: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        match self.env(name).map(PathBuf::from) {
            Some(path) if path.is_relative() => {
                Err(ConfigError::Env { name, why: format!("{} is not an absolute path", path.display()) })
            }
            path => Ok(path),
        }
    }
}

impl Settings {
    /// What holds for this process.
    ///
    /// # Errors
    /// A value makes no sense; the message says which, and where it stands.
    pub(crate) fn resolve(args: &Args) -> Result<Self, ConfigError> {
        Self::resolve_in(args, &Surroundings::of_the_process())
    }

    fn resolve_in(args: &Args, around: &Surroundings<'_>) -> Result<Self, ConfigError> {
        let (home, config) = Self::places(args, around)?;
        let file = file::read(&config, around.user.as_deref())?;
        Self::settle(args, around, home, config, file)
    }

    /// The state folder and the config file.
    fn places(
        args: &Args,
        around: &Surroundings<'_>,
    ) -> Result<(Setting<PathBuf>, Setting<PathBuf>), ConfigError> {
        let home = match (&args.home, around.env(ENV_HOME)) {
            (Some(path), _) => Setting::new(absolute(path, "--home")?, Origin::Flag),
            (None, Some(path)) => Setting::new(absolute(Path::new(&path), ENV_HOME)?, Origin::Env(ENV_HOME)),
            (None, None) => {
                let no = ConfigError::NoFolder { what: "state folder", flag: "--home", env: ENV_HOME };
                Setting::new(around.state.clone().ok_or(no)?, Origin::Default)
            }
        };
        let config = match (&args.config, around.env_path(ENV_CONFIG)?) {
            (Some(path), _) => Setting::new(absolute(path, "--config")?, Origin::Flag),
            (None, Some(path)) => Setting::new(path, Origin::Env(ENV_CONFIG)),
            (None, None) => Setting::new(home.value.join(CONFIG_FILE), Origin::Default),
        };
        Ok((home, config))
    }

    fn settle(
        args: &Args,
        around: &Surroundings<'_>,
        home: Setting<PathBuf>,
        config: Setting<PathBuf>,
        file: file::Values,
    ) -> Result<Self, ConfigError> {
        let from_file = || Origin::File(config.value.clone());

        let listen = match (args.listen.as_slice(), around.env_text(ENV_LISTEN)?, file.listen) {
            ([_, ..], _, _) => Setting::new(args.listen.clone(), Origin::Flag),
            ([], Some(list), _) => Setting::new(
                parse_list(&list).map_err(|why| ConfigError::Env { name: ENV_LISTEN, why })?,
                Origin::Env(ENV_LISTEN),
            ),
            ([], None, Some(addresses)) => Setting::new(addresses, from_file()),
            ([], None, None) => {
                Setting::new(vec![(Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into()], Origin::Default)
            }
        };
        let inbox = match (&args.inbox, around.env_path(ENV_INBOX)?, file.inbox) {
            (Some(path), _, _) => Setting::new(absolute(path, "--inbox")?, Origin::Flag),
            (None, Some(path), _) => Setting::new(path, Origin::Env(ENV_INBOX)),
            (None, None, Some(path)) => Setting::new(path, from_file()),
            (None, None, None) => {
                let no = ConfigError::NoFolder { what: "download folder", flag: "--inbox", env: ENV_INBOX };
                Setting::new(around.downloads.as_ref().ok_or(no)?.join("p2p"), Origin::Default)
            }
        };
        let log = match (&args.log, around.env_text(ENV_LOG)?, file.log) {
            (Some(filter), _, _) => {
                check_filter(filter).map_err(|why| ConfigError::Flag { name: "--log", why })?;
                Setting::new(filter.clone(), Origin::Flag)
            }
            (None, Some(filter), _) => {
                check_filter(&filter).map_err(|why| ConfigError::Env { name: ENV_LOG, why })?;
                Setting::new(filter, Origin::Env(ENV_LOG))
            }
            (None, None, Some(filter)) => Setting::new(filter, from_file()),
            (None, None, None) => Setting::new(DEFAULT_LOG.to_owned(), Origin::Default),
        };
        let accept = match file.accept {
            Some(accept) => Setting::new(accept, from_file()),
            None => Setting::new(Accept::default(), Origin::Default),
        };
        let congestion = match file.congestion {
            Some(congestion) => Setting::new(congestion, from_file()),
            None => Setting::new(Congestion::default(), Origin::Default),
        };
        let write_only_in = match file.write_only_in {
            Some(write_only_in) => Setting::new(write_only_in, from_file()),
            None => Setting::new(WriteOnlyIn::Anywhere, Origin::Default),
        };
        let debuggable = match (around.env_text(ENV_DEBUGGABLE)?, file.debuggable) {
            (Some(text), _) => Setting::new(
                parse_bool(&text).map_err(|why| ConfigError::Env { name: ENV_DEBUGGABLE, why })?,
                Origin::Env(ENV_DEBUGGABLE),
            ),
            (None, Some(debuggable)) => Setting::new(debuggable, from_file()),
            (None, None) => Setting::new(false, Origin::Default),
        };
        let or_default = |value: Option<usize>, default| match value {
            Some(value) => Setting::new(value, from_file()),
            None => Setting::new(default, Origin::Default),
        };
        let load = Load::default();
        Ok(Self {
            max_transfers: or_default(file.max_transfers, load.max_transfers),
            max_transfers_per_peer: or_default(file.max_transfers_per_peer, load.max_transfers_per_peer),
            limit: match file.limit {
                Some(limit) => Setting::new(limit, from_file()),
                None => Setting::new(load.limit, Origin::Default),
            },
            hooks: match file.hooks {
                Some(hooks) => Setting::new(hooks, from_file()),
                None => Setting::new(Hooks::default(), Origin::Default),
            },
            home,
            config,
            listen,
            inbox,
            log,
            accept,
            congestion,
            write_only_in,
            debuggable,
        })
    }
}

/// A path on the command line is relative to where that was typed.
fn absolute(path: &Path, name: &'static str) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|error| ConfigError::Flag { name, why: error.to_string() })
}

fn parse_list(list: &str) -> Result<Vec<SocketAddr>, String> {
    list.split(',').map(|text| parse_listen(text.trim())).collect()
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn check_filter(filter: &str) -> Result<(), String> {
    logging::parse_filter(filter).map(|_| ()).map_err(|error| {
        format!("{filter:?} is no log filter ({error}); try info, debug or info,quinn=debug")
    })
}

#[cfg(test)]
mod tests;
