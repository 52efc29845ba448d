//! What something is offered together with, in a line.

use p2p_protocol::Batch;
use serde::Serialize;

/// One of several things that are offered together.
#[derive(Debug, Serialize)]
pub(crate) struct BatchLine {
    id: String,
    position: u32,
    count: u32,
    total_bytes: Option<u64>,
}

impl BatchLine {
    pub(crate) fn of(batch: Option<Batch>) -> Option<Self> {
        let Batch { id, position, count, total_bytes } = batch?;
        // People count from one on.
        Some(Self { id: id.to_string(), position: position.saturating_add(1), count, total_bytes })
    }
}
