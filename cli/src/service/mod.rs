//! The daemon as a service of its user: what is written and run for that, with whichever manager the system has.

mod launchd;
mod startup;
mod steps;
mod systemd;

use std::path::{Path, PathBuf};

use p2p_protocol::reason::Failure;

pub(crate) use steps::{Step, Trouble};

use crate::{context::Context, error::CliError, start::LOG};

/// What starts programs for a user at login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    /// A user's systemd.
    Systemd,
    /// macOS.
    Launchd,
    /// Windows' folder of what is started at login. It starts, and nothing else.
    Startup,
}

/// What can be asked of a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Make it a service, and start it; anew, if its file has changed.
    Install {
        /// Whether the file is not there yet, or says something else.
        changed: bool,
    },
    Uninstall,
    Start,
    Stop,
    Restart,
}

/// How a manager sees a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether it runs, as far as the manager can tell.
    pub(crate) active: Option<bool>,
    /// The manager's own word for it.
    pub(crate) word: Option<String>,
}

/// The service of one state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) manager: Manager,
    /// What the manager calls it.
    pub(crate) name: String,
    /// What the manager reads.
    pub(crate) file: PathBuf,
    /// A folder of the system has the file already, as a package put it there.
    pub(crate) packaged: bool,
    /// Where what it says goes, if the manager keeps no log.
    log: PathBuf,
    program: String,
    /// The state folder, where it is not the usual one.
    home: Option<String>,
}

/// The folders of a user that managers look into.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pub(crate) config: PathBuf,
    pub(crate) home: PathBuf,
}

impl Manager {
    /// That of this system, if p2p knows one.
    pub(crate) fn of_this_system() -> Option<Self> {
        if cfg!(target_os = "linux") {
            Some(Self::Systemd)
        } else if cfg!(target_os = "macos") {
            Some(Self::Launchd)
        } else if cfg!(windows) {
            Some(Self::Startup)
        } else {
            None
        }
    }

    /// Its name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Launchd => "launchd",
            Self::Startup => "startup",
        }
    }
}

impl Service {
    /// The service of this context's state folder.
    pub(crate) fn of(ctx: &Context) -> Result<Self, CliError> {
        let manager = Manager::of_this_system().ok_or_else(|| {
            no_manager(
                "p2p knows no service manager of this system: systemd, launchd or Windows' start-up folder",
            )
        })?;
        let dirs =
            directories::BaseDirs::new().ok_or_else(|| CliError::usage("this user has no home folder"))?;
        let folders = Folders { config: dirs.config_dir().to_owned(), home: dirs.home_dir().to_owned() };
        let home = (!ctx.home_is_default).then_some(ctx.home.as_path());
        Self::new(manager, &folders, &stable(&ctx.program), &ctx.home, home)
    }

    /// The service of a state folder; `named` says it where it is not the usual one.
    pub(crate) fn new(
        manager: Manager,
        folders: &Folders,
        program: &Path,
        home: &Path,
        named: Option<&Path>,
    ) -> Result<Self, CliError> {
        let stem = match named {
            // One of its own for every state folder, with the same name each time.
            Some(home) => {
                format!("p2pd-{}", &blake3::hash(home.as_os_str().as_encoded_bytes()).to_hex()[..8])
            }
            None => "p2pd".to_owned(),
        };
        let (name, file) = match manager {
            Manager::Systemd => {
                let name = format!("{stem}.service");
                let file = folders.config.join("systemd/user").join(&name);
                (name, file)
            }
            Manager::Launchd => {
                let file = folders.home.join("Library/LaunchAgents").join(format!("{stem}.plist"));
                (stem, file)
            }
            Manager::Startup => {
                let folder = folders.config.join("Microsoft/Windows/Start Menu/Programs/Startup");
                let file = folder.join(format!("{stem}.cmd"));
                (stem, file)
            }
        };
        let (program, log) = (text(program)?, home.join(LOG));
        let mut service =
            Self { manager, name, file, packaged: false, log, program, home: named.map(text).transpose()? };
        if manager == Manager::Systemd
            && let Some(file) = systemd::packaged(&service)
        {
            (service.file, service.packaged) = (file, true);
        }
        Ok(service)
    }

    /// What the file says.
    pub(crate) fn text(&self) -> String {
        match self.manager {
            Manager::Systemd => systemd::text(self),
            Manager::Launchd => launchd::text(self),
            Manager::Startup => startup::text(self),
        }
    }

    /// Whether it is there to be started.
    pub(crate) fn is_installed(&self) -> bool {
        match self.manager {
            Manager::Systemd => systemd::is_installed(self),
            Manager::Launchd | Manager::Startup => self.file.exists(),
        }
    }

    /// What has to be done for this.
    pub(crate) fn steps(&self, ask: Ask) -> Vec<Step> {
        match self.manager {
            Manager::Systemd => systemd::steps(self, ask),
            Manager::Launchd => launchd::steps(self, ask, rustix::process::geteuid().as_raw()),
            Manager::Startup => startup::steps(self, ask),
        }
    }

    /// How the manager sees it.
    pub(crate) fn state(&self) -> Result<State, Trouble> {
        match self.manager {
            Manager::Systemd => systemd::state(self),
            Manager::Launchd => launchd::state(self, rustix::process::geteuid().as_raw()),
            Manager::Startup => Ok(State::default()),
        }
    }

    /// Fails where there is no manager to ask.
    pub(crate) fn reach_manager(&self) -> Result<(), Trouble> {
        match self.state() {
            Err(Trouble::NoManager(said)) => Err(Trouble::NoManager(said)),
            // What is not installed need not be known to it.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The command that shows what it said last, and perhaps what it says from then on.
    pub(crate) fn logs(&self, lines: u32, follow: bool) -> Vec<String> {
        match self.manager {
            Manager::Systemd => systemd::logs(self, lines, follow),
            Manager::Launchd => launchd::logs(self, lines, follow),
            Manager::Startup => startup::logs(self, lines, follow),
        }
    }

    /// What a person should know who has just installed it.
    pub(crate) fn advice(&self) -> Option<String> {
        match self.manager {
            Manager::Systemd => systemd::lingering_advice(rustix::process::geteuid().as_raw()),
            Manager::Launchd | Manager::Startup => None,
        }
    }
}

/// Nothing here starts programs for its users.
pub(crate) fn no_manager(message: impl Into<String>) -> CliError {
    CliError::new(Failure::Daemon, message)
        .hint("without one, commands that need the daemon start it, and it stays until it is told to end")
}

/// A path as a manager's file can name it.
fn text(path: &Path) -> Result<String, CliError> {
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(CliError::usage(format!("{} cannot be named in a service's file", path.display()))
            .hint("use a path without control characters, in UTF-8")),
    }
}

/// The program under a name that outlives its next version: where the PATH has a link to this very file, as in a profile
/// of Nix or Homebrew, that.
fn stable(program: &Path) -> PathBuf {
    let found = std::env::var_os("PATH").and_then(|folders| {
        let name = program.file_name()?;
        let real = program.canonicalize().ok()?;
        let named = std::env::split_paths(&folders).map(|folder| folder.join(name));
        named
            .filter(|path| path.is_absolute())
            .find(|path| path.canonicalize().is_ok_and(|found| found == real))
    });
    found.unwrap_or_else(|| program.to_owned())
}

#[cfg(test)]
mod tests;
