//! What of a transfer is missing, and what failed.

use p2p_protocol::ChunkRange;
use serde::Serialize;

/// A run of chunks that are not verified.
#[derive(Debug, Serialize)]
pub(crate) struct Missing {
    first_chunk: u32,
    chunks: u32,
    offset: u64,
    pub(super) bytes: u64,
}

impl Missing {
    /// The bytes of a range, of which the file's end may cut the last chunk.
    pub(crate) fn new(range: ChunkRange, chunk_bytes: u64, total_bytes: u64) -> Self {
        let at = |chunk: u64| chunk.saturating_mul(chunk_bytes).min(total_bytes);
        let offset = at(u64::from(range.start));
        let end = at(u64::from(range.start) + u64::from(range.count));
        Self { first_chunk: range.start, chunks: range.count, offset, bytes: end - offset }
    }

    /// First and last byte, and how many: `None` for a range of nothing.
    pub(crate) fn span(&self) -> Option<(u64, u64, u64)> {
        (self.bytes > 0).then(|| (self.offset, self.offset + self.bytes - 1, self.bytes))
    }
}

/// A chunk that was not accepted.
#[derive(Debug, Serialize)]
pub(crate) struct FailedChunk {
    pub(crate) chunk: u32,
    pub(crate) reason: &'static str,
}
