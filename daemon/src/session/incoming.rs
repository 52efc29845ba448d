//! One chunk on its way in: off the network, verified, written.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use p2p_protocol::{
    reason::ChunkFailure,
    tree::{self, Expected},
    wire::chunk::{ChunkHeader, Encoding},
};

use super::{blocking, receive::News};
use crate::{
    store::Partial,
    transport::{ChunkReceiver, ChunkStreamError},
    workers::Workers,
};

/// Reads a chunk's payload, and adds to `moved` as it comes.
pub(super) async fn read_chunk(
    header: &ChunkHeader,
    stream: ChunkReceiver,
    moved: Arc<AtomicU64>,
) -> Result<Bytes, ChunkFailure> {
    let count = |bytes: u64| {
        moved.fetch_add(bytes, Ordering::Relaxed);
    };
    match stream.payload(header, &count).await {
        Ok(bytes) => Ok(bytes),
        Err(ChunkStreamError::Stalled) => Err(ChunkFailure::Stalled),
        Err(_) => Err(ChunkFailure::Truncated),
    }
}

/// Verifies a chunk and writes it where it belongs.
pub(super) async fn store_chunk(
    workers: &Workers,
    (chunk, encoding): (u32, Encoding),
    bytes: Bytes,
    expected: Expected,
    partial: Arc<Partial>,
) -> News {
    let stored = blocking(workers, move || {
        let bytes = (encoding == Encoding::Raw).then_some(bytes);
        let verified = tree::verify_in(partial.layout(), chunk, expected, bytes);
        let Some(verified) = verified else { return News::Failed(chunk, ChunkFailure::Corrupt) };
        match partial.write(verified) {
            Ok(()) => News::Stored(chunk),
            Err(error) if error.is_full() || error.is_gone() => News::NoSpace(chunk, error),
            Err(error) => News::StorageFailed(error),
        }
    });
    stored.await.unwrap_or(News::Failed(chunk, ChunkFailure::NotStored))
}
