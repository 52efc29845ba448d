//! What a peer has put here before: offering it again costs no byte.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use p2p_protocol::{
    ChunkSet, FileId, Geometry, PeerId, SafeName,
    control::Progress,
    limits::TRANSFER_PROGRESS_DEADLINE,
    policy::Permit,
    reason::{AbortReason, Failure, PeerMisbehaved},
    wire::peer::{Accept, AcceptFolder, Done, Message, Seal, Want},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Sessions, blocking,
    error::RunError,
    job::{Job, now_ms},
    links::Link,
    run::{closed_by, hear},
    say, shares,
};
use crate::{
    store::{PartialKey, Published, Store, StoreError, Trust},
    transport::ControlStream,
};

/// Copies of one name that are looked through for one received before.
const MAX_NUMBERED: u32 = 100;

/// A file that is here already.
pub(super) struct Finished {
    /// Where.
    pub(super) path: PathBuf,
    /// Whether the provider may fetch it back.
    pub(super) fetchable: bool,
    /// Where the owner can fetch it again.
    pub(super) fetch_from: Option<String>,
    /// Whether the offer was taken by an eager fetch already.
    pub(super) eager: bool,
    /// File ID and size of what is here, where that is a part of what is offered.
    pub(super) part: Option<(FileId, u64)>,
}

/// Accepts and completes an offer of what is here already, at no cost.
pub(super) async fn finish_at_once(
    job: &Job,
    link: &Link,
    control: &mut ControlStream,
    permit: &Permit,
    id: FileId,
    finished: Finished,
) -> Result<(), RunError> {
    let geometry = permit.geometry();
    let chunks = geometry.chunks();
    let (own, size) = finished.part.unwrap_or((id, geometry.size()));
    let progress = Progress {
        verified_bytes: size,
        total_bytes: size,
        chunks_verified: chunks,
        chunks_total: chunks,
        ..Progress::default()
    };
    job.start(&permit.name().to_string(), link.peer(), Some(own), geometry.chunk_len(), progress);
    let here = match permit.manifest_len() {
        Some(_) => nothing_of(geometry),
        None if finished.eager => Message::Verified(ChunkSet::full(chunks).ranges()),
        None => has_all(geometry),
    };
    say(control, &here).await?;
    be_done(job, control, permit, id, finished).await
}

/// The answer to an offer of which every chunk is here.
fn has_all(geometry: Geometry) -> Message {
    let chunks = geometry.chunks();
    let have = ChunkSet::full(chunks).ranges();
    Message::Accept(Accept { chunk_log2: geometry.chunk_log2(), have_count: chunks, have })
}

/// The answer to an offer of a folder that is here: none of its files is to be moved.
fn nothing_of(geometry: Geometry) -> Message {
    let accept = Accept { chunk_log2: geometry.chunk_log2(), have_count: 0, have: Vec::new() };
    Message::AcceptFolder(AcceptFolder { files: Vec::new(), accept })
}

async fn be_done(
    job: &Job,
    control: &mut ControlStream,
    permit: &Permit,
    id: FileId,
    finished: Finished,
) -> Result<(), RunError> {
    let Finished { path, fetchable, fetch_from, eager: _, part } = finished;
    let (own, size) = part.unwrap_or((id, permit.geometry().size()));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    say(control, &Message::Done(Done { file_id: id, name, fetchable })).await?;
    job.done(own, path.display().to_string(), size, fetch_from);
    Ok(())
}

/// Accepts an offer without File ID of what its key says is here, and waits for the provider to hash and to name it.
async fn hear_name(
    job: &Job,
    link: &Link,
    control: &mut ControlStream,
    permit: &Permit,
    stop: &CancellationToken,
) -> Result<FileId, RunError> {
    let geometry = permit.geometry();
    let chunks = geometry.chunks();
    let progress = Progress { total_bytes: geometry.size(), chunks_total: chunks, ..Progress::default() };
    job.start(&permit.name().to_string(), link.peer(), None, geometry.chunk_len(), progress);
    say(control, &has_all(geometry)).await?;
    say(control, &Message::Want(Want { ranges: Vec::new(), credit: 1 })).await?;
    let (mut left, mut deadline) = (chunks.saturating_add(1), Instant::now() + TRANSFER_PROGRESS_DEADLINE);
    loop {
        let heard = tokio::time::timeout_at(deadline, hear(job, control, stop)).await;
        match heard.map_err(|_| RunError::stalled())?? {
            Message::Seal(Seal { file_id, size, chunks: count }) => {
                if (size, count) != (geometry.size(), chunks) {
                    return Err(PeerMisbehaved::FalseSeal.into());
                }
                job.sealed(file_id);
                return Ok(file_id);
            }
            Message::Hashing(word) if word.left < left => {
                left = word.left;
                deadline = Instant::now() + TRANSFER_PROGRESS_DEADLINE;
            }
            Message::Hashing(word) if word.left <= chunks => {}
            other => return Err(closed_by(other)),
        }
    }
}

impl Sessions {
    /// Completes an offer of what this peer has put here before, if it is that; false if it has to be received. What was
    /// begun of it since, because it was not here for a while, is of no use any longer. A transfer that is not new may have been
    /// cut off when this was all that was noted of it; the rest of the note is made good then, and else not: its owner may
    /// have taken it back since.
    #[expect(clippy::too_many_arguments, reason = "each is a different part of one conversation")]
    pub(super) async fn received_before(
        &self,
        job: &Job,
        is_new: bool,
        link: &Link,
        control: &mut ControlStream,
        permit: &Permit,
        key: PartialKey,
        receipt: &Arc<Receipt>,
        stop: &CancellationToken,
    ) -> Result<bool, RunError> {
        let peer = link.peer();
        let fetchable = receipt.fetchable;
        let finished = |path| Finished { path, fetchable, fetch_from: None, eager: false, part: None };
        if let Some(id) = permit.file_id() {
            let Some(path) = self.has_received(peer, id, permit).await? else { return Ok(false) };
            self.make_good(job, is_new, receipt, id, &path).await?;
            finish_at_once(job, link, control, permit, id, finished(path)).await?;
        } else {
            let Some(path) = self.receipt(peer, key.stand_in(), permit).await? else { return Ok(false) };
            let id = hear_name(job, link, control, permit, stop).await?;
            if !self.is_still(&path, id, permit).await? {
                // Now that it has a name, it is offered under that.
                let message = "what was received before is not here any longer";
                return Err(RunError {
                    passing: true,
                    tell: Some(AbortReason::OfferAgain),
                    ..RunError::new(Failure::Conflict, message)
                });
            }
            self.make_good(job, is_new, receipt, id, &path).await?;
            be_done(job, control, permit, id, finished(path)).await?;
        }
        Ok(true)
    }

    async fn make_good(
        &self,
        job: &Job,
        is_new: bool,
        receipt: &Arc<Receipt>,
        id: FileId,
        path: &Path,
    ) -> Result<(), RunError> {
        self.clean_up(job).await;
        if !is_new {
            let (receipt, published) =
                (receipt.clone(), Published { path: path.to_owned(), ..Published::default() });
            blocking(&self.workers, move || receipt.note(id, &published)).await?;
        }
        Ok(())
    }

    /// Where this peer put this content, if it is there still.
    pub(super) async fn has_received(
        &self,
        peer: PeerId,
        id: FileId,
        permit: &Permit,
    ) -> Result<Option<PathBuf>, RunError> {
        match self.receipt(peer, id, permit).await? {
            Some(path) if self.is_still(&path, id, permit).await? => Ok(Some(path)),
            _ => Ok(None),
        }
    }

    /// Where this peer put this content, or what this stands for, under the name that is offered, as far as the size
    /// tells.
    async fn receipt(&self, peer: PeerId, id: FileId, permit: &Permit) -> Result<Option<PathBuf>, RunError> {
        let (store, name, size) = (self.store.clone(), permit.name().clone(), permit.geometry().size());
        let is_folder = permit.manifest_len().is_some();
        blocking(&self.workers, move || {
            let path = store.catalog().receipt(peer, id)?.filter(|path| is_named(path, &name));
            Ok::<_, StoreError>(
                path.filter(
                    |path| if is_folder { store.is_folder(path) } else { store.is_file_of(path, size) },
                ),
            )
        })
        .await?
        .or_else(|error| {
            // Without the catalog the content is taken again, and found identical at the end.
            tracing::warn!(%peer, %error, "whether this was received before is not known");
            Ok(None)
        })
    }

    async fn is_still(&self, path: &Path, id: FileId, permit: &Permit) -> Result<bool, RunError> {
        let (store, path, size) = (self.store.clone(), path.to_owned(), permit.geometry().size());
        let is_folder = permit.manifest_len().is_some();
        let identical =
            blocking(&self.workers, move || store.holds(&path, id, size, is_folder, Trust::Cache)).await?;
        Ok(identical.unwrap_or_else(|error| {
            tracing::warn!(%error, "whether this was received before is not known");
            false
        }))
    }
}

/// Whether a path has this name, or one that it was given because this one was taken.
fn is_named(path: &Path, name: &SafeName) -> bool {
    let Some(is) = path.file_name().and_then(std::ffi::OsStr::to_str) else { return false };
    is == name.as_str() || (1..MAX_NUMBERED).any(|n| is == name.numbered(n).as_str())
}

/// A note of what a peer puts here.
pub(super) struct Receipt {
    store: Store,
    peer: PeerId,
    /// What stands for the content where the peer offers it before it knows the File ID.
    stand_in: Option<FileId>,
    /// Whether the peer may fetch it back.
    fetchable: bool,
    created_ms: u64,
    /// Where it was said to be, as far as that is in the catalog.
    noted: Mutex<Option<PathBuf>>,
}

impl Receipt {
    pub(super) fn new(store: Store, peer: PeerId, stand_in: Option<FileId>, fetchable: bool) -> Self {
        Self { store, peer, stand_in, fetchable, created_ms: now_ms(), noted: Mutex::default() }
    }

    /// Notes where content is about to be that is here as a whole. Whoever comes for it looks whether it really is, so that this is no harm
    /// where it is not; and if it is, all that was still to be said of it may be lost.
    pub(super) fn foresee(&self, id: FileId, path: &Path) {
        let ids: Vec<FileId> = std::iter::once(id).chain(self.stand_in).collect();
        match self.store.catalog().put_receipts(self.peer, ids, path) {
            Ok(()) => *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.to_owned()),
            Err(error) => not_noted(path, &error),
        }
    }

    /// Notes where it is, so that its being offered again costs nothing, and lets the peer fetch it back.
    pub(super) fn note(&self, id: FileId, published: &Published) {
        let path = &published.path;
        if self.noted.lock().unwrap_or_else(PoisonError::into_inner).as_ref() != Some(path) {
            self.foresee(id, path);
        }
        if self.fetchable
            && published.is_exact()
            && let Err(error) = self.share_back(id, path)
        {
            not_noted(path, &error);
        }
    }

    fn share_back(&self, id: FileId, path: &Path) -> Result<(), StoreError> {
        let catalog = self.store.catalog();
        let existing = catalog.share(id)?;
        catalog.put_share(&shares::share_back(existing, id, path.to_owned(), self.peer, self.created_ms))
    }
}

/// The catalog is a cache: without the note the file is there all the same.
fn not_noted(path: &Path, error: &StoreError) {
    tracing::warn!(path = %path.display(), %error, "not noted in the catalog");
}
