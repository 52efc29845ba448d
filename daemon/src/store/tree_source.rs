//! A folder that is open for sending.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use cap_std::fs::Dir;
use p2p_protocol::{
    Cv, FileId, Layout, Manifest, Plan,
    control::TransferEvent,
    limits::GROUP_LEN,
    manifest::Entry,
    plan::Span,
    proof::ProofTree,
    tree::{self, Expected},
};

use super::{
    Store,
    error::StoreError,
    file_source::ChunkData,
    folders::{Folders, Recent, lock},
    hashing::hash_file,
    source::Chunk,
    stamp::Stamp,
};
use crate::{
    buffer::Buffer,
    disk::{is_hole, is_zero, read_full},
};

/// A folder whose files were hashed. A file is opened when it is read, and must still be what it was then.
#[derive(Debug)]
pub(crate) struct TreeSource {
    store: Store,
    path: PathBuf,
    folders: Folders,
    manifest: Arc<Manifest>,
    /// Of each entry that is a file: what it was before it was hashed.
    stamps: Vec<Option<Stamp>>,
    allocated: u64,
    modified_ns: Option<i64>,
    left_out: Vec<LeftOut>,
    list_len: usize,
    files: Mutex<Recent<u32, File>>,
    trees: Mutex<Recent<u32, ProofTree>>,
}

/// Something in a folder that is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Where, from the folder on.
    pub(crate) path: String,
    /// What it is.
    pub(crate) what: &'static str,
}

/// What its owner should know about a folder that is sent or shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remark {
    /// Something is not sent.
    LeftOut(LeftOut),
    /// Two names are one where case or normal forms are folded.
    SameName([String; 2]),
}

impl Remark {
    /// A hard link is a copy where it was received.
    pub(crate) fn copied(path: String) -> Self {
        Self::LeftOut(LeftOut {
            path,
            what: "the hard link: the file system here has none, so that it is a copy",
        })
    }

    /// Something that was put into a folder while that was received.
    pub(crate) fn of_others(path: String) -> Self {
        Self::LeftOut(LeftOut { path, what: "not of the folder: somebody put it there while that arrived" })
    }

    /// Where that is which was in a folder's older copy.
    pub(crate) fn left_over(path: &Path) -> Self {
        let path = path.display().to_string();
        Self::LeftOut(LeftOut {
            path,
            what: "what was in the older copy, and is not in this one, is kept there",
        })
    }

    /// The same, for who follows a transfer.
    pub(crate) fn event(self, transfer: u64) -> TransferEvent {
        match self {
            Self::LeftOut(LeftOut { path, what }) => {
                TransferEvent::LeftOut { transfer, path, what: what.to_owned() }
            }
            Self::SameName(paths) => TransferEvent::SameName { transfer, paths },
        }
    }
}

/// Everything that a source is made of.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) root: Dir,
    pub(super) manifest: Manifest,
    pub(super) stamps: Vec<Option<Stamp>>,
    pub(super) allocated: u64,
    pub(super) modified_ns: Option<i64>,
    pub(super) left_out: Vec<LeftOut>,
}

impl TreeSource {
    pub(super) fn new(store: Store, found: Found) -> Self {
        let Found { path, root, manifest, stamps, allocated, modified_ns, left_out } = found;
        Self {
            store,
            path,
            folders: Folders::new(root),
            list_len: manifest.encode().len(),
            manifest: Arc::new(manifest),
            stamps,
            allocated,
            modified_ns,
            left_out,
            files: Mutex::default(),
            trees: Mutex::default(),
        }
    }

    /// What is in it.
    pub(crate) fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that its files occupy on disk, each counted with its size at most.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// The folder's own modification time in nanoseconds since 1970 UTC.
    pub(crate) fn modified_ns(&self) -> Option<i64> {
        self.modified_ns
    }

    /// Bytes of the list of its entries, as it travels.
    pub(crate) fn list_len(&self) -> usize {
        self.list_len
    }

    /// What is not sent of it.
    pub(super) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// What is worth a word about it.
    pub(super) fn remarks(&self) -> Vec<Remark> {
        let left_out = self.left_out.iter().cloned().map(Remark::LeftOut);
        let alike = self.manifest.alike();
        let alike = alike.into_iter().map(|paths| Remark::SameName(paths.map(str::to_owned)));
        left_out.chain(alike).collect()
    }

    fn entry(&self, number: u32) -> Result<(&Entry, Stamp, FileId), StoreError> {
        let entry = self.manifest.entries().get(number as usize);
        let stamp = self.stamps.get(number as usize).copied().flatten();
        match (entry, stamp, self.manifest.file(number)) {
            (Some(entry), Some(stamp), Some((_, id))) => Ok((entry, stamp, id)),
            _ => Err(StoreError::io("read the source", &self.path)(io::ErrorKind::InvalidInput.into())),
        }
    }

    fn path_of(&self, entry: &Entry) -> PathBuf {
        self.path.join(&entry.path)
    }

    fn changed(&self, entry: &Entry) -> StoreError {
        StoreError::SourceChanged { path: self.path_of(entry) }
    }

    /// Opens a file that must be what it was when it was hashed.
    fn open(&self, entry: &Entry, stamp: Stamp) -> Result<File, StoreError> {
        let file = self.folders.open(&entry.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => self.changed(entry),
            // A link has taken its place.
            _ if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::LOOP) => {
                self.changed(entry)
            }
            _ => StoreError::io("open", &self.path_of(entry))(error),
        })?;
        self.check(entry, stamp, &file)?;
        Ok(file)
    }

    fn check(&self, entry: &Entry, stamp: Stamp, file: &File) -> Result<(), StoreError> {
        let found = file.metadata().map_err(StoreError::io("look at the source", &self.path_of(entry)))?;
        if Stamp::of(&found) == stamp { Ok(()) } else { Err(self.changed(entry)) }
    }

    fn read(&self, entry: &Entry, file: &File, into: &mut [u8], offset: u64) -> Result<(), StoreError> {
        let read = read_full(&**self.store.disk(), file, into, offset);
        let read = read.map_err(StoreError::io("read the source", &self.path_of(entry)))?;
        if read == into.len() { Ok(()) } else { Err(self.changed(entry)) }
    }

    /// A chunk's bytes; of a piece of a long file also its value, and the proof of that.
    pub(crate) fn read_chunk(&self, plan: &Plan, chunk: u32) -> Result<Chunk, StoreError> {
        match plan.span(chunk) {
            Some(Span::Files(numbers)) => {
                let data = ChunkData::Bytes(self.read_files(numbers)?);
                Ok(Chunk { data, cv: None, proof: Vec::new() })
            }
            Some(Span::Piece { entry: number, geometry, piece }) => {
                let (entry, stamp, _) = self.entry(number)?;
                let kept = lock(&self.files).get(&number);
                let file = match kept {
                    Some(file) => file,
                    None => {
                        let file = Arc::new(self.open(entry, stamp)?);
                        lock(&self.files).put(number, file.clone());
                        file
                    }
                };
                let range = geometry.bytes_of(piece);
                let data = if is_hole(&file, range.clone()) {
                    ChunkData::Zeros
                } else {
                    let mut bytes = Buffer::take((range.end - range.start) as usize);
                    self.read(entry, &file, &mut bytes, range.start)?;
                    if is_zero(&bytes) { ChunkData::Zeros } else { ChunkData::Bytes(bytes.freeze()) }
                };
                self.check(entry, stamp, &file)?;
                let proof = self.tree(number, geometry.chunk_len())?.prove(piece);
                let absent = || {
                    StoreError::io("prove a piece of", &self.path_of(entry))(
                        io::ErrorKind::InvalidInput.into(),
                    )
                };
                let (value, proof) = proof.ok_or_else(absent)?;
                Ok(Chunk { data, cv: Some(value), proof })
            }
            None => Err(StoreError::io("read the source", &self.path)(io::ErrorKind::InvalidInput.into())),
        }
    }

    fn read_files(&self, numbers: &[u32]) -> Result<Bytes, StoreError> {
        let sizes: u64 =
            numbers.iter().filter_map(|number| self.manifest.file(*number)).map(|(size, _)| size).sum();
        let mut bytes = Buffer::take(sizes as usize);
        let mut rest: &mut [u8] = &mut bytes;
        for number in numbers {
            let (entry, stamp, _) = self.entry(*number)?;
            let file = self.open(entry, stamp)?;
            let (content, after) = rest.split_at_mut((stamp.size as usize).min(rest.len()));
            self.read(entry, &file, content, 0)?;
            self.check(entry, stamp, &file)?;
            rest = after;
        }
        Ok(bytes.freeze())
    }

    /// The values of a file, one per group; `None` where no list of it is stored.
    pub(super) fn values(&self, number: u32) -> Result<Option<Vec<Cv>>, StoreError> {
        let (entry, stamp, id) = self.entry(number)?;
        let groups = stamp.size.div_ceil(GROUP_LEN);
        let Some(list) = self.store.lists().load(id, groups) else { return Ok(None) };
        let values = list.read(&**self.store.disk(), 0..groups);
        let path = self.path_of(entry);
        values.map(Some).map_err(StoreError::io("read the list of chaining values of", &path))
    }

    /// The tree over the values of a file's pieces: of its stored list, or hashed again where that is gone.
    fn tree(&self, number: u32, chunk_len: u64) -> Result<Arc<ProofTree>, StoreError> {
        if let Some(known) = lock(&self.trees).get(&number) {
            return Ok(known);
        }
        let (entry, stamp, id) = self.entry(number)?;
        let path = self.path_of(entry);
        let read = || StoreError::io("read the list of chaining values of", &path);
        let groups = stamp.size.div_ceil(GROUP_LEN);
        let list = match self.store.lists().load(id, groups) {
            Some(list) => list,
            None => match hash_file(&self.store, &self.open(entry, stamp)?, &path, stamp.size, &|_| true)? {
                (found, Some(list)) if found == id => list,
                _ => return Err(self.changed(entry)),
            },
        };
        let values = list.read(&**self.store.disk(), 0..groups).map_err(read())?;
        let per_chunk = (chunk_len / GROUP_LEN) as usize;
        let values: Vec<Cv> = values.chunks(per_chunk).filter_map(tree::merge).collect();
        let made = ProofTree::new(&values).ok_or_else(|| read()(io::ErrorKind::InvalidData.into()))?;
        let made = Arc::new(made);
        lock(&self.trees).put(number, made.clone());
        Ok(made)
    }

    /// Reads a chunk again and compares it with what was hashed.
    pub(crate) fn chunk_is_intact(&self, layout: &Layout, chunk: u32) -> Result<bool, StoreError> {
        let Some(plan) = layout.plan() else { return Ok(false) };
        let Chunk { data, cv, .. } = match self.read_chunk(plan, chunk) {
            Err(StoreError::SourceChanged { .. }) => return Ok(false),
            read => read?,
        };
        let bytes = match data {
            ChunkData::Bytes(bytes) => Some(bytes),
            ChunkData::Zeros => None,
        };
        let expected = cv.map_or(Expected::Files, Expected::Subtree);
        Ok(tree::verify_in(layout, chunk, expected, bytes).is_some())
    }
}
