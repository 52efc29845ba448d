//! Ctrl-C.

use p2p_protocol::reason::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;

/// Ctrl-C from the moment this exists: it no longer ends the process by itself, so whoever holds this waits
/// for it.
#[derive(Debug)]
pub(crate) struct Interrupt(Signal);

impl Interrupt {
    pub(crate) fn listen() -> Result<Self, CliError> {
        signal(SignalKind::interrupt())
            .map(Self)
            .map_err(|error| CliError::new(Failure::Other, format!("cannot wait for Ctrl-C: {error}")))
    }

    /// Waits for Ctrl-C. Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime is going down, and with it whatever else is waited for.
            std::future::pending::<()>().await;
        }
    }
}
