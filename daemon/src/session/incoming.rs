//! One chunk on its way in: off the network, verified, written.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use p2p_protocol::{
    reason::ChunkFailure,
    tree::{self, Expected},
    waits::{Place, Stage},
    wire::chunk::{ChunkHeader, Encoding},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    blocking,
    receive::News,
    waits::{Stay, Waits},
};
use crate::{
    store::Partial,
    transport::{ChunkReceiver, ChunkStreamError},
    workers::Workers,
};

/// A chunk, and what its task works with.
pub(super) struct Incoming {
    pub(super) header: ChunkHeader,
    pub(super) stream: ChunkReceiver,
    /// What it is verified against, once that is known.
    pub(super) expected: oneshot::Receiver<Expected>,
    /// Payload bytes that have come in.
    pub(super) moved: Arc<AtomicU64>,
    /// Whether chunks may be written.
    pub(super) gate: watch::Receiver<bool>,
    pub(super) writes: Arc<Semaphore>,
    pub(super) partial: Arc<Partial>,
    pub(super) workers: Workers,
    pub(super) waits: Arc<Waits>,
}

/// A chunk that is here, its turn to be written, and that it waits for that no longer.
struct Here {
    bytes: Bytes,
    expected: Expected,
    stay: Stay,
    _place: Option<OwnedSemaphorePermit>,
}

impl Incoming {
    /// All of it. `None` where the run ended before the chunk was here.
    pub(super) async fn take_in(self, halt: CancellationToken) -> Option<News> {
        let (chunk, encoding) = (self.header.index, self.header.encoding);
        let (workers, partial) = (self.workers.clone(), self.partial.clone());
        let here = tokio::select! {
            here = self.read() => here,
            () = halt.cancelled() => return None,
        };
        Some(match here {
            Ok(here) => store(&workers, (chunk, encoding), here, partial).await,
            Err(reason) => News::Failed(chunk, reason),
        })
    }

    /// Reads it at once, whatever it waits for then: what is granted never stays on the network.
    async fn read(self) -> Result<Here, ChunkFailure> {
        let Self { header, stream, expected, moved, mut gate, writes, waits, .. } = self;
        let stay = waits.at(Place::At(Stage::Path));
        let bytes = read_chunk(&header, stream, &moved).await?;
        drop(stay);
        let Ok(expected) = expected.await else { return Err(ChunkFailure::NotStored) };
        let mut stay = waits.in_line();
        if !*gate.borrow() {
            // It waits for a checkpoint.
            stay.go_on_to_disk();
            // An error means that the run is over, which `halt` says too.
            let _ = gate.wait_for(|open| *open).await;
            stay = waits.in_line();
        }
        let place = writes.acquire_owned().await.ok();
        Ok(Here { bytes, expected, stay, _place: place })
    }
}

/// Reads a chunk's payload, and adds to `moved` as it comes.
async fn read_chunk(
    header: &ChunkHeader,
    stream: ChunkReceiver,
    moved: &AtomicU64,
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
async fn store(
    workers: &Workers,
    (chunk, encoding): (u32, Encoding),
    here: Here,
    partial: Arc<Partial>,
) -> News {
    let Here { bytes, expected, mut stay, _place } = here;
    let stored = blocking(workers, move || {
        stay.go_on(Stage::Hashing);
        let bytes = (encoding == Encoding::Raw).then_some(bytes);
        let verified = tree::verify_in(partial.layout(), chunk, expected, bytes);
        let Some(verified) = verified else { return News::Failed(chunk, ChunkFailure::Corrupt) };
        stay.go_on_to_disk();
        match partial.write(verified) {
            Ok(()) => News::Stored(chunk),
            Err(error) if error.is_full() || error.is_gone() => News::NoSpace(chunk, error),
            Err(error) => News::StorageFailed(error),
        }
    });
    stored.await.unwrap_or(News::Failed(chunk, ChunkFailure::NotStored))
}
