//! What happened, as the daemon remembers it.

use serde::{Deserialize, Serialize};

use super::Direction;
use crate::PeerId;

/// `p2p log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRequest {
    /// Of one transfer only.
    pub transfer: Option<u64>,
    /// Not before this, in milliseconds since 1970 UTC.
    pub since_ms: u64,
    /// So many entries at most, the newest.
    pub entries: u32,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Happening {
    /// A transfer was made.
    Queued,
    /// The two sides agreed; chunks move.
    Started,
    /// It broke, and is tried again.
    Retrying,
    /// It broke, and its peer is waited for.
    Interrupted,
    /// Its owner holds it back.
    Paused,
    /// Its owner lets it go on.
    Resumed,
    /// It is durable at the receiver.
    Done,
    /// It ended without success.
    Failed,
    /// Its owner ended it.
    Cancelled,
    /// A peer was trusted.
    Trusted,
    /// A peer was forgotten.
    Forgotten,
}

/// Something that happened. What does not belong to it is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// What.
    pub what: Happening,
    /// To which transfer.
    pub transfer: Option<u64>,
    /// Which way it goes.
    pub direction: Option<Direction>,
    /// The file's name, or the peer's.
    pub name: String,
    /// The peer.
    pub peer: Option<PeerId>,
    /// The peer, as typed.
    pub target: String,
    /// Bytes in all.
    pub bytes: Option<u64>,
    /// Bytes that moved, or, at the start, that were there already.
    pub moved_bytes: Option<u64>,
    /// Milliseconds since the transfer was made.
    pub millis: Option<u64>,
    /// Which try comes next.
    pub attempt: Option<u32>,
    /// Why, or where it is now.
    pub detail: Option<String>,
}

impl LogEntry {
    /// Nothing but when and what.
    pub fn new(at_ms: u64, what: Happening) -> Self {
        Self {
            at_ms,
            what,
            transfer: None,
            direction: None,
            name: String::new(),
            peer: None,
            target: String::new(),
            bytes: None,
            moved_bytes: None,
            millis: None,
            attempt: None,
            detail: None,
        }
    }
}
