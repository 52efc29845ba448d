//! A partial: content on its way in.
//!
//! Beside the destination, in its folder `.p2p`, a partial has three files: `.part`, the data, of its final size from
//! the start and sparse; `.log`, which says what of it is durable, and is locked by the one writer; `.cvs`, the
//! chaining values of what was stored, for serving the file later without hashing it again.
//!
//! ```text
//!            write                    checkpoint                    sync fails
//!  (absent) ───────▶ pending ───────▶ syncing ───────▶ durable      pending, syncing ─▶ (absent)
//! ```
//!
//! Chunks are written by many threads at once. The sets are under one short lock; no system call is made under it.

use std::{
    fs::File,
    io,
    ops::Range,
    path::PathBuf,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use cap_std::fs::Dir;
use p2p_protocol::{
    ChunkSet, Cv, FileId, Geometry, Layout,
    limits::{CHECKPOINT_BYTES, CV_LEN},
    tree::{self, Expected, Payload, VerifiedChunk},
};

use super::{
    Store,
    data::{Data, Place},
    error::StoreError,
    folder::Folder,
    layout::{CVS, PART, PARTIALS, PartialKey},
    list::{bytes_of, cv_of},
    log::{Log, Record},
    recover::{PartialSpec, remove_files},
    shown::Shown,
};
use crate::buffer::Buffer;
use crate::disk::{is_hole, is_unsupported, read_exact, read_full, write_all};

/// Chunks whose values are read at once.
const VALUES_AT_ONCE: usize = 1 << 12;
/// Room for what lies beside the data and grows with it.
const BESIDE_DATA: u64 = 1 << 16;

/// A partial, with its lock. Dropping it without [`Partial::park`] is as good as a crash.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(super) store: Store,
    pub(super) folder: Folder,
    pub(super) partials: Dir,
    pub(super) spec: PartialSpec,
    pub(super) data: Data,
    pub(super) values: Option<File>,
    layout: Layout,
    /// That of the layout.
    geometry: Geometry,
    /// The content, once it is known.
    identity: OnceLock<FileId>,
    doubtful: ChunkSet,
    claimed: ChunkSet,
    /// Held through a whole checkpoint, so that there is one at a time.
    pub(super) journal: Mutex<Journal>,
    state: Mutex<State>,
    /// Held by whoever writes into the data. File systems let one in at a time, and have the others spin.
    writing: Mutex<()>,
    /// The file's first so many bytes have space reserved.
    reserved: Mutex<u64>,
    /// Where a folder appears while it is filled.
    pub(super) shown: Option<Shown>,
}

/// What checkpoints write to.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) log: Log,
    /// Whether the folder entries of the partial's files, and of their folder, are known to be durable.
    pub(super) anchored: bool,
    /// The files are gone: published, or discarded.
    pub(super) ended: bool,
}

/// Which chunks are how far.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Written, verified, synced and recorded.
    pub(super) durable: ChunkSet,
    /// Written since the last checkpoint began.
    pub(super) pending: ChunkSet,
    /// Being synced.
    pub(super) syncing: ChunkSet,
    /// Named by an earlier run's records, and not yet found right by this one. Their data was synced then, so one
    /// that hashes right need not be written anew; one that is written has to be withdrawn first.
    pub(super) claimed: ChunkSet,
    /// Doubtful ones that have not been hashed yet.
    pub(super) unchecked: ChunkSet,
    /// Whether the file's length may be in memory only. A sync that failed may have lost it like anything else, and a
    /// content that ends with a hole has nothing else that would bring it back.
    pub(super) length_in_doubt: bool,
    /// Whether what shows as a hole is one on the disk too: the file is of this run, and no sync of it has failed. Another
    /// may have been punched, and the disk may not know of it.
    holes_hold: bool,
    /// Counts failed syncs. A write that saw one does not know which of its pages that took.
    generation: u64,
}

impl State {
    /// The state right after opening a file of an earlier run, or after making one.
    pub(super) fn found(durable: ChunkSet, claimed: ChunkSet, unchecked: ChunkSet, is_new: bool) -> Self {
        let (length_in_doubt, holes_hold) = (!is_new, is_new);
        Self { durable, claimed, unchecked, length_in_doubt, holes_hold, ..Self::default() }
    }

    pub(super) fn is_stored(&self, chunk: u32) -> bool {
        self.durable.contains(chunk) || self.pending.contains(chunk) || self.syncing.contains(chunk)
    }

    /// Takes back that a chunk counts. What the log may say of it becomes a claim.
    fn doubt(&mut self, chunk: u32) {
        let recorded = self.durable.remove(chunk);
        if (self.pending.remove(chunk) | self.syncing.remove(chunk)) || recorded {
            self.unchecked.insert(chunk);
        }
        if recorded {
            self.claimed.insert(chunk);
        }
    }

    /// The same of several.
    pub(super) fn doubt_all(&mut self, chunks: &ChunkSet) {
        chunks.iter().for_each(|chunk| self.doubt(chunk));
    }

    /// After a failed sync: takes back everything that was not durable before.
    pub(super) fn lose(&mut self) -> ChunkSet {
        self.generation += 1;
        self.length_in_doubt = true;
        self.holes_hold = false;
        let mut lost = std::mem::take(&mut self.syncing);
        lost.union(&std::mem::take(&mut self.pending));
        lost
    }
}

/// Everything that a partial is made of.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) folder: Folder,
    pub(super) partials: Dir,
    pub(super) spec: PartialSpec,
    pub(super) data: Data,
    pub(super) values: Option<File>,
    pub(super) log: Log,
    pub(super) anchored: bool,
    pub(super) state: State,
    pub(super) layout: Layout,
    pub(super) doubtful: ChunkSet,
}

impl Partial {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { store, folder, partials, spec, data, values, log, anchored, state, .. } = parts;
        let identity = spec.key.file_id().or(spec.file_id).map_or_else(OnceLock::new, OnceLock::from);
        Self {
            store,
            folder,
            partials,
            spec,
            data,
            values,
            geometry: parts.layout.geometry(),
            layout: parts.layout,
            identity,
            doubtful: parts.doubtful,
            claimed: state.claimed.clone(),
            journal: Mutex::new(Journal { log, anchored, ended: false }),
            state: Mutex::new(state),
            writing: Mutex::new(()),
            reserved: Mutex::new(0),
            shown: None,
        }
    }

    /// How the content is cut, in force.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The content's identity, once known.
    pub(crate) fn file_id(&self) -> Option<FileId> {
        self.identity.get().copied()
    }

    /// The provider has named the content. What is here has to be proven against its list before it is published.
    pub(crate) fn seal(&self, id: FileId) {
        // A second name would be refused before it comes here; the first one stays.
        let _ = self.identity.set(id);
    }

    /// Of a partial that was begun without a File ID: the values that its chunks were checked against, as far as they
    /// are here. They were not synced, and may be of an earlier try, so that none of them is more than a claim.
    pub(crate) fn values(&self) -> Result<Option<Vec<(u32, Cv)>>, StoreError> {
        let (PartialKey::Unsealed(..), Some(values)) = (&self.spec.key, &self.values) else {
            return Ok(None);
        };
        let disk = &**self.store.disk();
        let mut here = self.verified();
        here.union(&self.doubtful);
        here.union(&self.claimed);
        let mut found = Vec::with_capacity(here.len() as usize);
        for range in here.ranges() {
            for start in (range.start..range.start + range.count).step_by(VALUES_AT_ONCE) {
                let end = (range.start + range.count).min(start + VALUES_AT_ONCE as u32);
                let groups = self.geometry.groups_of(start).start..self.geometry.groups_of(end - 1).end;
                let mut bytes = vec![0; (groups.end - groups.start) as usize * CV_LEN];
                let read = read_full(disk, values, &mut bytes, groups.start * CV_LEN as u64);
                read.map_err(StoreError::io("read", &self.path_of(CVS)))?;
                let groups: Vec<Cv> = bytes.chunks_exact(CV_LEN).map(cv_of).collect();
                let per_chunk = self.geometry.groups_of(start).count();
                for (chunk, values) in (start..).zip(groups.chunks(per_chunk)) {
                    // What was never written, or is lost, reads as zeros.
                    if !values.contains(&Cv([0; CV_LEN])) {
                        found.extend(tree::merge(values).map(|value| (chunk, value)));
                    }
                }
            }
        }
        Ok(Some(found))
    }

    /// Chunks that are durable and can be believed.
    pub(crate) fn verified(&self) -> ChunkSet {
        self.state().durable.clone()
    }

    /// Whether nothing at all was here when the partial was opened, so that its chunk size is the one asked for.
    pub(crate) fn is_new(&self) -> bool {
        let nothing = self.verified().is_empty() && self.claimed.is_empty() && self.doubtful.is_empty();
        nothing && self.geometry == self.spec.geometry
    }

    /// Those of the doubtful chunks that an earlier run recorded as durable.
    pub(crate) fn claimed(&self) -> ChunkSet {
        self.claimed.clone()
    }

    /// Chunks that may have been here when the partial was opened; each counts once [`Self::recheck`] has found it
    /// right.
    pub(crate) fn doubtful(&self) -> ChunkSet {
        self.doubtful.clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stem(&self) -> String {
        self.spec.key.to_string()
    }

    pub(super) fn path_of(&self, ending: &str) -> PathBuf {
        self.folder.path.join(PARTIALS).join(format!("{}{ending}", self.stem()))
    }

    pub(super) fn io(&self, what: &'static str) -> impl FnOnce(io::Error) -> StoreError + use<> {
        StoreError::io(what, &self.path_of(PART))
    }

    /// Whether the partial still has its name, in the folder that the destination's path names. A file that was
    /// removed can be written to without an error, and nothing would come of it.
    pub(super) fn check_place(&self) -> Result<(), StoreError> {
        let removed = self.data.is_removed().map_err(self.io("look at the partial file"))?;
        let gone = || StoreError::Gone { path: self.folder.path.clone() };
        let named = match std::fs::metadata(&self.folder.path) {
            Ok(named) => named,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(gone());
            }
            Err(error) => return Err(StoreError::io("look at the folder", &self.folder.path)(error)),
        };
        if removed {
            return Err(StoreError::Removed { path: self.path_of(PART) });
        }
        let open = self.folder.dir.dir_metadata().map_err(|_| gone())?;
        use cap_std::fs::MetadataExt as _;
        use std::os::unix::fs::MetadataExt;
        if (open.dev(), open.ino()) == (MetadataExt::dev(&named), MetadataExt::ino(&named)) {
            Ok(())
        } else {
            Err(gone())
        }
    }

    /// Reserves space for the file's first so many bytes, if the content is not sparse. A file system that cannot
    /// do that is fine.
    pub(crate) fn reserve(&self, up_to: u64) -> Result<(), StoreError> {
        let Data::File(data) = &self.data else { return Ok(()) };
        let up_to = up_to.min(self.geometry.size());
        if self.spec.allocated < self.geometry.size() {
            return Ok(());
        }
        let mut reserved = self.reserved();
        if up_to <= *reserved {
            return Ok(());
        }
        match self.store.disk().reserve(data, *reserved, up_to - *reserved) {
            Err(error) if is_unsupported(&error) => {}
            result => result.map_err(self.io("reserve space for"))?,
        }
        *reserved = up_to;
        Ok(())
    }

    fn reserved(&self) -> MutexGuard<'_, u64> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a reservation that is under way, and makes none from now on: it would show as a change of the file.
    pub(super) fn reserve_no_more(&self) {
        *self.reserved() = u64::MAX;
    }

    /// Whether the folder is there and has room for what is missing and not reserved yet, or for a whole window of it. True also
    /// for a partial that was removed: its next checkpoint says so.
    pub(crate) fn has_room(&self) -> bool {
        match self.check_place() {
            Ok(()) => {}
            Err(StoreError::Removed { .. }) => return true,
            Err(_) => return false,
        }
        if self.shown.as_ref().is_some_and(|shown| !shown.has_its_name(&self.folder)) {
            return false;
        }
        let stored = {
            let state = self.state();
            u64::from(state.durable.len()) + u64::from(state.pending.len()) + u64::from(state.syncing.len())
        };
        let (chunk_len, size) = (self.geometry.chunk_len(), self.layout.size());
        let missing = u64::from(self.geometry.chunks()).saturating_sub(stored) * chunk_len;
        let need = match &self.data {
            _ if missing == 0 => 0,
            Data::Folder(_) => missing.min(size),
            // What is reserved has its room already; the log and the values grow all the same.
            Data::File(file) => {
                let has = file
                    .metadata()
                    .map_or(0, |found| std::os::unix::fs::MetadataExt::blocks(&found).saturating_mul(512));
                size.saturating_sub(has.max(stored * chunk_len)) + BESIDE_DATA
            }
        };
        let need = need.min(CHECKPOINT_BYTES);
        self.store.disk().free(&self.folder.dir).is_ok_and(|free| free >= need)
    }

    /// Stores a chunk. It counts once a checkpoint that began afterwards has returned it.
    pub(crate) fn write(&self, chunk: VerifiedChunk<Bytes>) -> Result<(), StoreError> {
        let index = chunk.index();
        let mut generation = {
            let state = self.state();
            if state.is_stored(index) {
                return Ok(());
            }
            if state.claimed.contains(index) {
                drop(state);
                self.withdraw(index)?;
                self.state().generation
            } else {
                state.generation
            }
        };
        loop {
            self.put(&chunk)?;
            let mut state = self.state();
            if state.generation == generation {
                state.unchecked.remove(index);
                state.pending.insert(index);
                return Ok(());
            }
            generation = state.generation;
        }
    }

    /// Writes a chunk and its values where they belong.
    fn put(&self, chunk: &VerifiedChunk<Bytes>) -> Result<(), StoreError> {
        let disk = &**self.store.disk();
        let place = self.data.place(&self.layout, chunk.index(), true).map_err(self.io("write"))?;
        match (place, chunk.payload()) {
            (Place::Range(file, range), Payload::Bytes(bytes)) => {
                let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
                write_all(disk, &file, bytes, range.start).map_err(self.io("write"))?;
            }
            (Place::Range(file, range), Payload::Zeros(_)) => {
                if !(self.holes_hold() && is_hole(&file, range.clone())) {
                    self.put_zeros(&file, range).map_err(self.io("write"))?;
                }
            }
            (Place::Files(staging, entries), Payload::Bytes(bytes)) => {
                staging.write_files(entries, bytes).map_err(self.io("write"))?;
            }
            (Place::Files(..), Payload::Zeros(_)) => {
                return Err(self.io("write")(io::ErrorKind::InvalidInput.into()));
            }
        }
        self.put_values(chunk)
    }

    fn holes_hold(&self) -> bool {
        self.state().holes_hold
    }

    fn put_values(&self, chunk: &VerifiedChunk<Bytes>) -> Result<(), StoreError> {
        let Some(values) = &self.values else { return Ok(()) };
        let first = self.layout.groups_of(chunk.index()).start;
        let bytes = bytes_of(chunk.groups());
        let written = write_all(&**self.store.disk(), values, &bytes, first * CV_LEN as u64);
        written.map_err(StoreError::io("write", &self.path_of(CVS)))
    }

    fn place_of(&self, chunk: u32) -> io::Result<Place<'_>> {
        self.data.place(&self.layout, chunk, false)
    }

    fn put_zeros(&self, file: &File, range: Range<u64>) -> io::Result<()> {
        let disk = &**self.store.disk();
        match disk.punch(file, range.start, range.end - range.start) {
            Err(error) if is_unsupported(&error) => {
                let zeros = vec![0; (range.end - range.start) as usize];
                write_all(disk, file, &zeros, range.start)
            }
            other => other,
        }
    }

    /// Takes back, durably, what the log says about a chunk that is to be written again. Otherwise, if the sync of
    /// what is written now failed and the daemon then died, the old record and the page cache together would
    /// vouch for bytes that are not on the disk.
    fn withdraw(&self, chunk: u32) -> Result<(), StoreError> {
        let mut journal = self.journal();
        if !self.state().claimed.contains(chunk) {
            return Ok(());
        }
        let withdrawn: ChunkSet = {
            // Those that were hashed and found wrong will be written too.
            let state = self.state();
            let wrong = |other: &u32| !state.unchecked.contains(*other) && !state.is_stored(*other);
            state.claimed.iter().filter(wrong).chain([chunk]).collect()
        };
        let appended = journal.log.append(&**self.store.disk(), &Record::Withdrawn(withdrawn.clone()));
        appended
            .map_err(|error| StoreError::io("write", &self.path_of(super::layout::LOG))(error.into_io()))?;
        self.state().claimed.subtract(&withdrawn);
        Ok(())
    }

    /// Hashes what is stored of a doubtful chunk. If it is right, it counts like one that was just written: at
    /// the next checkpoint. One that no record names is written anew, as its bytes may be in memory only. A chunk that
    /// counted until now, under a value that turned out to be another than the list's, does not until then.
    pub(crate) fn recheck(&self, chunk: u32, expected: Expected) -> Result<bool, StoreError> {
        if self.state().is_stored(chunk) {
            // No checkpoint runs while the journal is held.
            let _journal = self.journal();
            self.state().doubt(chunk);
        }
        let generation = self.state().generation;
        let verified = self.verify_stored(chunk, expected);
        let mut state = self.state();
        let Some(verified) = verified else {
            state.unchecked.remove(chunk);
            return Ok(false);
        };
        let is_named = state.claimed.contains(chunk) && state.generation == generation;
        drop(state);
        if is_named {
            self.put_values(&verified)?;
            let mut state = self.state();
            if state.generation == generation {
                state.unchecked.remove(chunk);
                state.pending.insert(chunk);
                return Ok(true);
            }
        }
        self.write(verified)?;
        Ok(true)
    }

    /// What is stored of a chunk, if it is right. What cannot be read is not.
    fn verify_stored(&self, chunk: u32, expected: Expected) -> Option<VerifiedChunk<Bytes>> {
        let found = self.place_of(chunk).and_then(|place| match place {
            Place::Range(file, range) => {
                // What is stored of a folder's piece is compared with the value that was kept of it.
                let expected = if expected == Expected::Files { self.kept_value(chunk)? } else { expected };
                let holds = is_hole(&file, range.clone());
                let bytes = if holds { None } else { Some(self.read_range(&file, range)?) };
                Ok((bytes, expected))
            }
            Place::Files(staging, entries) => Ok((Some(staging.read_files(entries)?), expected)),
        });
        match found {
            Ok((bytes, expected)) => tree::verify_in(&self.layout, chunk, expected, bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(chunk, path = %self.path_of(PART).display(), %error, "a stored chunk cannot be read");
                None
            }
        }
    }

    /// The value that was written with a chunk. It was not synced; one that is lost, zeros, is that of no chunk.
    fn kept_value(&self, chunk: u32) -> io::Result<Expected> {
        let groups = self.layout.groups_of(chunk);
        let values = self.values.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let mut bytes = vec![0; (groups.end - groups.start) as usize * CV_LEN];
        read_full(&**self.store.disk(), values, &mut bytes, groups.start * CV_LEN as u64)?;
        let values: Vec<Cv> = bytes.chunks_exact(CV_LEN).map(cv_of).collect();
        Ok(Expected::Subtree(tree::merge(&values).ok_or(io::ErrorKind::InvalidInput)?))
    }

    pub(super) fn read_range(&self, file: &File, range: Range<u64>) -> io::Result<Bytes> {
        let mut bytes = Buffer::take((range.end - range.start) as usize);
        read_exact(&**self.store.disk(), file, &mut bytes, range.start)?;
        Ok(bytes.freeze())
    }

    /// The bytes of a chunk that was verified.
    pub(crate) fn read(&self, chunk: u32) -> Result<Bytes, StoreError> {
        if !self.state().is_stored(chunk) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, format!("chunk {chunk} is not here"));
            return Err(self.io("read")(error));
        }
        let read = self.place_of(chunk).and_then(|place| match place {
            Place::Range(file, range) => self.read_range(&file, range),
            Place::Files(staging, entries) => staging.read_files(entries),
        });
        read.map_err(self.io("read"))
    }

    /// Removes the partial.
    pub(crate) fn discard(&self) -> Result<(), StoreError> {
        let mut journal = self.journal();
        if journal.ended {
            return Ok(());
        }
        remove_files(&self.store, &self.folder, &self.partials, &self.stem())?;
        journal.ended = true;
        Ok(())
    }

    /// Whether there is nothing in it that is worth keeping.
    pub(super) fn is_empty(&self) -> bool {
        let has_none = {
            let state = self.state();
            let sets = [&state.durable, &state.pending, &state.syncing, &state.claimed, &state.unchecked];
            sets.into_iter().all(ChunkSet::is_empty)
        };
        has_none && self.is_withdrawn()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // An offer that came to nothing leaves nothing.
        if self.is_empty() {
            let _ = self.discard();
        }
    }
}
