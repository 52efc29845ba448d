//! How far a transfer is.

use serde::{Deserialize, Serialize};

use crate::waits::{Shares, Stage};

/// The numbers of a running transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes that the receiver has verified.
    pub verified_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Chunks that the receiver has verified.
    pub chunks_verified: u32,
    /// Chunks in all.
    pub chunks_total: u32,
    /// Chunks that were dropped and asked for again.
    pub chunks_failed: u32,
    /// Chunk payload that crossed the network since the transfer's first start in this daemon, in bytes.
    pub moved_bytes: u64,
    /// Bytes per second at which verification goes on.
    pub rate: u64,
    /// Chunk streams in flight.
    pub streams: u32,
    /// Whether chunks travel side by side.
    pub parallel: bool,
    /// Whether a limit on bandwidth holds it back.
    #[serde(default)]
    pub limited: bool,
    /// Where its chunks spend their time, as far as it can be told here; `None` where nothing moves.
    #[serde(default)]
    pub waits: Option<Shares>,
}

impl Progress {
    /// Nothing moves any longer.
    pub fn stand_still(&mut self) {
        (self.rate, self.streams, self.waits) = (0, 0, None);
    }

    /// What limits it now, as far as it can be told here.
    pub fn limited_by(&self) -> Option<Stage> {
        self.waits.and_then(|waits| waits.largest())
    }
}
