//! What every command has at hand: which daemon, whether it may be started, and where to print.

use std::{io::IsTerminal, path::PathBuf, time::Duration};

use tokio::time::Instant;

use crate::{
    args::Global,
    client::{Client, ConnectError},
    error::CliError,
    format::shell_word,
    output::Output,
    start,
};

/// How long a daemon that died is waited for, and one that was started may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whoever may answer a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Person {
    /// A script, or a pipe: nobody.
    Absent,
    /// Standard input and error are terminals.
    AtTerminal,
    /// A test, and its answer.
    #[cfg(test)]
    Says(&'static str),
}

impl Person {
    /// Waits for a line. Nobody says nothing.
    pub(crate) async fn answer(self) -> String {
        match self {
            Self::Absent => String::new(),
            Self::AtTerminal => {
                let line =
                    tokio::task::spawn_blocking(|| std::io::stdin().lines().next().and_then(Result::ok));
                line.await.ok().flatten().unwrap_or_default()
            }
            #[cfg(test)]
            Self::Says(answer) => answer.to_owned(),
        }
    }
}

/// What a command runs with.
#[derive(Debug)]
pub(crate) struct Context {
    /// The daemon's state folder, absolute.
    pub(crate) home: PathBuf,
    /// Whether that is where a daemon without settings has it.
    pub(crate) home_is_default: bool,
    /// Whether `--home` was typed, so that commands to type next need it too.
    pub(crate) home_was_typed: bool,
    /// The daemon's program, which lies beside this one.
    pub(crate) program: PathBuf,
    /// Whether a daemon may be started where none runs.
    pub(crate) may_start: bool,
    /// Whether there is a person to ask.
    pub(crate) person: Person,
    /// How long a command waits for a daemon that died or that it started.
    pub(crate) patience: Duration,
    /// When the command stops waiting for a transfer, as typed.
    pub(crate) timeout: Timeout,
    pub(crate) out: Output,
}

/// The end of a command's time with a transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timeout(Option<(Duration, Instant)>);

impl Timeout {
    /// This long from now; `None` for never.
    pub(crate) fn after(time: Option<Duration>) -> Self {
        Self(time.and_then(|time| Some((time, Instant::now().checked_add(time)?))))
    }

    /// Waits for it; returns how long it was. Cancel-safe.
    pub(crate) async fn wait(self) -> Duration {
        match self.0 {
            Some((time, at)) => {
                tokio::time::sleep_until(at).await;
                time
            }
            None => std::future::pending().await,
        }
    }
}

impl Context {
    /// Resolves what was typed against the environment.
    pub(crate) fn new(global: &Global, out: Output) -> Result<Self, CliError> {
        let default = default_home();
        let from_env = home_from_env();
        let home = match global.home.as_ref().or(from_env.as_ref()).or(default.as_ref()) {
            Some(home) => {
                std::path::absolute(home).map_err(|error| CliError::io("bad --home", home, &error))?
            }
            None => {
                return Err(CliError::usage("this user has no home folder")
                    .hint("name a state folder with --home DIR"));
            }
        };
        let me = std::env::current_exe()
            .map_err(|error| CliError::daemon(format!("cannot tell where this program lies: {error}")))?;
        Ok(Self {
            home_is_default: default.as_ref() == Some(&home),
            home_was_typed: global.home.is_some() && global.home != from_env,
            home,
            program: me.with_file_name("p2pd"),
            may_start: !global.no_start,
            person: if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !global.json {
                Person::AtTerminal
            } else {
                Person::Absent
            },
            patience: PATIENCE,
            timeout: Timeout::default(),
            out,
        })
    }

    /// A connection for a command that only looks.
    pub(crate) async fn connect(&self) -> Result<Client, CliError> {
        match Client::connect(&self.home).await {
            Ok(client) => Ok(client),
            Err(ConnectError::NotRunning) => {
                Err(CliError::daemon(format!("no daemon runs for {}", self.home.display())).hint(
                    "start one with `p2pd`, or with a command that moves something, such as `p2p send`",
                ))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A connection for a command that moves or changes something: the daemon is started where none runs.
    pub(crate) async fn connect_or_start(&self) -> Result<Client, CliError> {
        match Client::connect(&self.home).await {
            Ok(client) => Ok(client),
            Err(ConnectError::NotRunning) if self.may_start => start::start(self).await,
            Err(ConnectError::NotRunning) => Err(CliError::daemon(format!(
                "no daemon runs for {}, and --no-start forbids starting one",
                self.home.display()
            ))
            .hint("start one with `p2pd`")),
            Err(error) => Err(error.into()),
        }
    }

    /// A command line of this program for a person to type next.
    pub(crate) fn suggest(&self, command: &str) -> String {
        if self.home_was_typed {
            format!("p2p --home {} {command}", shell_word(&self.home.to_string_lossy()))
        } else {
            format!("p2p {command}")
        }
    }
}

/// The state folder that the environment names.
pub(crate) fn home_from_env() -> Option<PathBuf> {
    std::env::var_os("P2P_HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// Where a daemon without settings keeps its state.
pub(crate) fn default_home() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "p2p")?;
    Some(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_owned())
}
