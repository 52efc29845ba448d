//! What a receiver's numbers are: how far it is, and what it lacks.

use super::Receiver;
use crate::{ChunkRange, ChunkSet, control::Progress, transfer::Now};

impl Receiver {
    /// The numbers for a progress line. `moved_bytes` is left to the caller, who sees the streams.
    pub fn progress(&self, now: Now) -> Progress {
        let streams = self.wanted.values().filter(|admitted| **admitted).count() as u32;
        let shown = self.shown();
        let (total_bytes, chunks_total) = match &self.alone {
            Some(alone) => (self.layout.bytes_of(alone), alone.len()),
            None => (self.layout.size(), self.geometry.chunks()),
        };
        Progress {
            verified_bytes: self.layout.spared() + self.layout.bytes_of(&shown),
            total_bytes,
            chunks_verified: shown.len(),
            chunks_total,
            chunks_failed: self.failed,
            moved_bytes: 0,
            rate: self.rate.rate(now),
            streams,
            parallel: streams > 1,
            limited: false,
            waits: None,
        }
    }

    /// Chunks that are verified.
    pub fn verified(&self) -> &ChunkSet {
        &self.verified
    }

    /// Chunks that are not verified and are to be.
    pub fn missing(&self) -> Vec<ChunkRange> {
        self.lacking(&self.shown()).ranges()
    }

    /// What counts as verified, as far as it is to be here in the end.
    fn shown(&self) -> ChunkSet {
        let mut shown = self.verified.clone();
        shown.union(&self.claimed);
        if let Some(alone) = &self.alone {
            shown.intersect(alone);
        }
        shown
    }

    fn lacking(&self, have: &ChunkSet) -> ChunkSet {
        match &self.alone {
            Some(alone) => {
                let mut lacking = alone.clone();
                lacking.subtract(have);
                lacking
            }
            None => have.missing(self.geometry.chunks()),
        }
    }

    /// Whether everything that is to be here is verified.
    pub(super) fn has_all(&self) -> bool {
        match &self.alone {
            Some(_) => self.lacking(&self.verified).is_empty(),
            None => self.verified.len() == self.geometry.chunks(),
        }
    }

    /// Chunks, from the first of those that are to be here, that are verified without a gap: all before this one.
    pub fn verified_prefix(&self) -> u32 {
        let chunks = self.geometry.chunks();
        match &self.alone {
            Some(_) => self.lacking(&self.verified).first().unwrap_or(chunks),
            None => self.verified.first_missing(chunks).unwrap_or(chunks),
        }
    }
}
