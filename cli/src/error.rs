//! What a command that did not succeed tells its user: what happened, what to do, and the exit code.

use std::{io, path::Path, time::Duration};

use p2p_protocol::{PeerId, control::RequestError, reason::Failure};

/// The exit code of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Why a command ends without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of the classes that daemon and command line share.
    Failure(Failure),
    /// Ctrl-C; a transfer goes on without its watcher.
    Interrupted,
    /// The time that was typed is over; a transfer goes on without its watcher.
    TimedOut,
    /// Whoever read standard output is gone: there is nobody to tell anything.
    NobodyReads,
    /// A program that ran on this command's behalf has said all and ended with this code.
    Passed(u8),
    /// Everything was said already; the command ends with this code.
    Said(u8),
}

/// A command that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CliError {
    pub(crate) kind: Kind,
    /// What happened and where; may hold text of foreign origin.
    pub(crate) message: String,
    /// What to do about it, a line each.
    pub(crate) hints: Vec<String>,
    /// The transfer that it is about.
    pub(crate) transfer: Option<u64>,
    /// The key that was found at a target, where it is about a key.
    pub(crate) key: Option<PeerId>,
}

impl CliError {
    pub(crate) fn new(failure: Failure, message: impl Into<String>) -> Self {
        Self::of(Kind::Failure(failure), message)
    }

    fn of(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new(), transfer: None, key: None }
    }

    /// The command makes no sense as typed.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Failure::Usage, message)
    }

    /// The daemon cannot be reached, started or understood.
    pub(crate) fn daemon(message: impl Into<String>) -> Self {
        Self::new(Failure::Daemon, message)
    }

    /// Ctrl-C.
    pub(crate) fn interrupted(transfer: Option<u64>) -> Self {
        Self { transfer, ..Self::of(Kind::Interrupted, "interrupted") }
    }

    /// The command's time is over.
    pub(crate) fn timed_out(transfer: Option<u64>, time: Duration) -> Self {
        let time = humantime::format_duration(time);
        Self { transfer, ..Self::of(Kind::TimedOut, format!("not done within {time}")) }
    }

    /// Another program's exit, passed on.
    pub(crate) fn passed(code: u8, message: impl Into<String>) -> Self {
        let message = message.into();
        // It begins with its own name, as it does where it speaks for itself.
        let said = message.strip_prefix("p2pd: ").map(str::to_owned);
        Self::of(Kind::Passed(code), said.unwrap_or(message))
    }

    /// What there is to say was said.
    pub(crate) fn said(code: u8, message: impl Into<String>) -> Self {
        Self::of(Kind::Said(code), message)
    }

    /// Something that the file system refused, as the exit codes see it.
    pub(crate) fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let failure = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::NotFound,
            _ => Failure::Storage,
        };
        Self::new(failure, format!("{what} {}: {error}", path.display()))
    }

    /// Standard output did not take what was written.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => {
                Self::of(Kind::NobodyReads, "nobody reads standard output any longer")
            }
            _ => Self::new(Failure::Storage, format!("cannot write to standard output: {error}")),
        }
    }

    /// What the daemon answered instead of doing it.
    pub(crate) fn request(error: RequestError) -> Self {
        Self { key: error.key, ..Self::new(error.failure, error.message) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(crate) fn about(mut self, transfer: Option<u64>) -> Self {
        self.transfer = transfer;
        self
    }

    pub(crate) fn is(&self, failure: Failure) -> bool {
        self.kind == Kind::Failure(failure)
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failure(failure) => failure.exit_code(),
            Kind::Interrupted => INTERRUPTED,
            Kind::NobodyReads | Kind::TimedOut => Failure::Other.exit_code(),
            Kind::Passed(code) | Kind::Said(code) => code,
        }
    }

    /// The word for it in JSON.
    pub(crate) fn code(&self) -> &'static str {
        match self.kind {
            Kind::Failure(failure) => failure.code(),
            Kind::Interrupted => "interrupted",
            Kind::TimedOut => "timeout",
            Kind::Passed(code) => code_of(code),
            Kind::NobodyReads | Kind::Said(_) => Failure::Other.code(),
        }
    }
}

/// The word for what another program's exit code means.
fn code_of(exit_code: u8) -> &'static str {
    let known = [
        Failure::Usage,
        Failure::Daemon,
        Failure::Unreachable,
        Failure::Refused,
        Failure::NotFound,
        Failure::Integrity,
        Failure::Storage,
        Failure::Conflict,
    ];
    known.into_iter().find(|failure| failure.exit_code() == exit_code).unwrap_or(Failure::Other).code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemons_program_says_has_its_word_and_not_its_name() {
        let error = CliError::passed(2, "p2pd: config.toml:1: unknown key");
        assert_eq!((error.code(), error.exit_code()), ("usage", 2));
        assert_eq!(error.message, "config.toml:1: unknown key");
        assert_eq!(CliError::passed(77, "x").code(), "error");
    }

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let code = |failure| CliError::new(failure, "").exit_code();
        assert_eq!(code(Failure::Other), 1);
        assert_eq!(code(Failure::Cancelled), 1);
        assert_eq!(code(Failure::Usage), 2);
        assert_eq!(code(Failure::Daemon), 3);
        assert_eq!(code(Failure::Unreachable), 4);
        assert_eq!(code(Failure::Refused), 5);
        assert_eq!(code(Failure::UnknownKey), 5);
        assert_eq!(code(Failure::NotFound), 6);
        assert_eq!(code(Failure::Integrity), 7);
        assert_eq!(code(Failure::Storage), 8);
        assert_eq!(code(Failure::Conflict), 9);
        assert_eq!(CliError::interrupted(None).exit_code(), 130);
        assert_eq!(CliError::timed_out(None, Duration::from_secs(90)).exit_code(), 1);
        assert_eq!(CliError::stdout(&io::ErrorKind::BrokenPipe.into()).exit_code(), 1);
        assert_eq!(CliError::stdout(&io::ErrorKind::StorageFull.into()).exit_code(), 8);
    }

    #[test]
    fn what_the_file_system_says_has_its_class() {
        let of = |kind: io::ErrorKind| CliError::io("cannot read", Path::new("/x"), &kind.into());
        assert!(of(io::ErrorKind::NotFound).is(Failure::NotFound));
        assert!(of(io::ErrorKind::NotADirectory).is(Failure::NotFound));
        assert!(of(io::ErrorKind::PermissionDenied).is(Failure::Storage));
    }
}
