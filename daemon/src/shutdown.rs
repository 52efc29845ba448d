//! The signals that ask the daemon to end, and one that must not.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};
use tokio_util::sync::CancellationToken;

/// A token that SIGTERM and SIGINT cancel. From this call on the signals no longer end the process by
/// themselves, so whoever holds the token has to.
///
/// # Errors
/// The system does not let the signals be handled.
pub(crate) fn signal() -> io::Result<CancellationToken> {
    let mut terminate = unix::signal(SignalKind::terminate())?;
    let mut interrupt = unix::signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "shutting down");
        cancelled.cancel();
    });
    Ok(token)
}

/// Lets a write beyond the limit on the size of files fail as on a full disk. By itself the signal that comes with it
/// would end the process.
///
/// # Errors
/// The system does not let the signal be handled.
pub(crate) fn outlive_size_limits() -> io::Result<()> {
    // What is installed once stays, whether anybody listens or not.
    unix::signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    /// Both in one test: a signal reaches every handler of this process.
    #[tokio::test]
    async fn both_signals_cancel() {
        for signal in [Signal::TERM, Signal::INT] {
            let token = super::signal().unwrap();
            assert!(!token.is_cancelled());
            kill_process(getpid(), signal).unwrap();
            token.cancelled().await;
        }
    }
}
