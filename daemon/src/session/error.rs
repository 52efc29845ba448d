//! How a run of a transfer ends without success.

use std::path::Path;

use p2p_protocol::{
    PeerId,
    control::RequestError,
    reason::{AbortReason, Failure, PeerMisbehaved, RefuseReason},
};

use super::{Sessions, links::Link};
use crate::{
    peers::{KeyError, PeersError},
    store::{ExcludeError, StoreError},
    transport::TransportError,
};

/// Why a run ended, and whether another may succeed without anybody doing anything.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct RunError {
    pub(crate) failure: Failure,
    pub(crate) message: String,
    /// The key found at the target, where the failure is about a key.
    pub(crate) key: Option<PeerId>,
    /// Whether to try again.
    pub(crate) passing: bool,
    /// What to tell the peer, if the conversation is still open.
    pub(crate) tell: Option<AbortReason>,
    /// Whether the peer was there in this run, so that it is worth waiting for.
    pub(crate) met: bool,
    /// Whether the run used a connection of earlier times that had died, so that a new one may do.
    pub(crate) stale: bool,
    /// What the peer did wrong, for which its connection is closed.
    pub(crate) fault: Option<PeerMisbehaved>,
}

impl RunError {
    pub(crate) fn new(failure: Failure, message: impl Into<String>) -> Self {
        Self {
            failure,
            message: message.into(),
            key: None,
            passing: false,
            tell: None,
            met: false,
            stale: false,
            fault: None,
        }
    }

    /// The same, after a run on this connection, which was dialled for it or before. One that is dead is not used again.
    pub(crate) fn on(self, link: &Link, fresh: bool) -> Self {
        let stale = !fresh && link.connection().is_closed().is_some() && self.passing;
        Self { met: true, stale, ..self }
    }

    /// The owner cancelled the transfer.
    pub(crate) fn cancelled() -> Self {
        Self { tell: Some(AbortReason::Cancelled), ..Self::new(Failure::Cancelled, "cancelled") }
    }

    /// The run was stopped, but not the transfer: the daemon shuts down, or another run takes over.
    pub(crate) fn stopped() -> Self {
        Self {
            passing: true,
            tell: Some(AbortReason::ShuttingDown),
            ..Self::new(Failure::Unreachable, "the daemon is shutting down")
        }
    }

    /// The run was stopped because the owner holds the transfer back.
    pub(crate) fn paused() -> Self {
        Self {
            passing: true,
            tell: Some(AbortReason::Paused),
            ..Self::new(Failure::Unreachable, "paused by you")
        }
    }

    /// The command that a file was fetched for has gone.
    pub(crate) fn client_gone() -> Self {
        Self {
            tell: Some(AbortReason::Cancelled),
            ..Self::new(Failure::Cancelled, "the command that read the file has gone")
        }
    }

    /// Nothing moved for too long.
    pub(crate) fn stalled() -> Self {
        Self {
            passing: true,
            tell: Some(AbortReason::Stalled),
            ..Self::new(Failure::Unreachable, "nothing moved within the deadline")
        }
    }

    /// The peer gave the transfer up.
    pub(crate) fn aborted(reason: AbortReason) -> Self {
        Self { passing: reason.is_passing(), ..Self::new(reason.failure(), reason.to_string()) }
    }

    /// The peer did not take the offer or the request.
    pub(crate) fn refused(reason: RefuseReason) -> Self {
        Self { passing: reason.is_passing(), ..Self::new(reason.failure(), reason.to_string()) }
    }

    /// The request of a client that is answered with this error.
    pub(crate) fn into_request(self) -> RequestError {
        RequestError { failure: self.failure, message: self.message, key: self.key }
    }
}

impl Sessions {
    /// What it comes to that a destination could not be opened. Where that was forbidden because the daemon is confined, the
    /// owner has to know of the setting.
    pub(super) fn explain(&self, error: StoreError, folder: &Path) -> RunError {
        let forbidden = error.is_forbidden();
        let mut error = RunError::from(error);
        if forbidden
            && let Some(folders) = &self.confined_to
            && !self.store.is_in_one_of(folder, folders)
        {
            let shown: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
            error.message.push_str(&format!(
                "; this daemon may write only in {}: name the folder in `write_only_in` in its config file, and restart it",
                shown.join(", ")
            ));
        }
        error
    }
}

impl From<PeerMisbehaved> for RunError {
    fn from(fault: PeerMisbehaved) -> Self {
        let failure = match fault {
            PeerMisbehaved::ForgedList(_) | PeerMisbehaved::BadChunks(_) | PeerMisbehaved::WrongFile => {
                Failure::Integrity
            }
            _ => Failure::Other,
        };
        Self { fault: Some(fault), ..Self::new(failure, format!("the peer broke the protocol: {fault}")) }
    }
}

impl From<TransportError> for RunError {
    fn from(error: TransportError) -> Self {
        if let TransportError::Misbehaved(fault) = error {
            return fault.into();
        }
        let failure = error.failure();
        Self { passing: failure == Failure::Unreachable, ..Self::new(failure, error.to_string()) }
    }
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        let failure = error.failure();
        // A partial that somebody removed under a run is begun anew by the next one.
        let passing =
            matches!(error, StoreError::Removed { .. } | StoreError::Busy { .. }) || error.is_exhausted();
        let tell = match failure {
            _ if passing => AbortReason::OfferAgain,
            Failure::Integrity => AbortReason::SourceChanged,
            _ => AbortReason::Storage,
        };
        Self { tell: Some(tell), passing, ..Self::new(failure, error.to_string()) }
    }
}

impl From<ExcludeError> for RunError {
    fn from(error: ExcludeError) -> Self {
        Self::new(Failure::Usage, error.to_string())
    }
}

impl From<PeersError> for RunError {
    fn from(error: PeersError) -> Self {
        Self::new(error.failure(), error.to_string())
    }
}

impl From<KeyError> for RunError {
    fn from(error: KeyError) -> Self {
        let (failure, key) = match &error {
            KeyError::Unknown { found, .. } => (Failure::UnknownKey, Some(*found)),
            KeyError::Changed { found, .. } | KeyError::WrongPeer { found, .. } => {
                (Failure::Refused, Some(*found))
            }
            _ => (Failure::Refused, None),
        };
        Self { key, ..Self::new(failure, error.to_string()) }
    }
}
