//! A file that is open for sending, hashed or to be hashed on the way.

use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;
use p2p_protocol::{ChunkSet, Cv, FileId, Geometry, ResumeKey, limits::GROUP_LEN, tree};

use super::{
    draft::Draft,
    error::StoreError,
    hashing::{hash_groups, zero_groups},
    list::List,
    stamp::Stamp,
};
use crate::buffer::Buffer;
use crate::disk::{Disk, is_hole, is_zero, read_full};

/// An open, regular file. Its bytes are read by position, never mapped: a file that is cut short
/// while it is sent gives an error, not a signal.
#[derive(Debug)]
pub(crate) struct FileSource {
    disk: Arc<dyn Disk>,
    file: File,
    path: PathBuf,
    /// What the file was before it was hashed.
    stamp: Stamp,
    allocated: u64,
    executable: bool,
    content: RwLock<Content>,
}

/// What is known of the content.
#[derive(Debug)]
enum Content {
    /// All.
    Hashed(FileId, Option<List>),
    /// As much as was read.
    Draft(Draft),
}

/// The bytes of a chunk.
#[derive(Debug)]
pub(crate) enum ChunkData {
    /// As they are.
    Bytes(Bytes),
    /// The chunk is nothing but zeros.
    Zeros,
}

impl FileSource {
    /// A file that had this identity and list when it had this stamp.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        opened: super::import::Opened,
        id: FileId,
        list: Option<List>,
    ) -> Self {
        Self::with(disk, opened, Content::Hashed(id, list))
    }

    /// A file that is hashed when it is read.
    pub(super) fn unhashed(disk: Arc<dyn Disk>, opened: super::import::Opened, draft: Draft) -> Self {
        Self::with(disk, opened, Content::Draft(draft))
    }

    fn with(disk: Arc<dyn Disk>, opened: super::import::Opened, content: Content) -> Self {
        let super::import::Opened { file, path, stamp, found } = opened;
        Self {
            disk,
            file,
            path,
            stamp,
            allocated: found.blocks().saturating_mul(512).min(stamp.size),
            executable: found.mode() & 0o111 != 0,
            content: RwLock::new(content),
        }
    }

    fn content(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.stamp.size
    }

    /// The content's identity, once all of it is hashed.
    pub(crate) fn file_id(&self) -> Option<FileId> {
        match &*self.content() {
            Content::Hashed(id, _) => Some(*id),
            Content::Draft(_) => None,
        }
    }

    /// What stands for the content while it has no name.
    pub(crate) fn resume_key(&self, secret: &[u8; 32]) -> ResumeKey {
        ResumeKey::derive(secret, &self.stamp.to_bytes())
    }

    /// What the file was before it was hashed.
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The chunks that are hashed.
    pub(crate) fn hashed(&self, geometry: Geometry) -> ChunkSet {
        match &*self.content() {
            Content::Hashed(..) => ChunkSet::full(geometry.chunks()),
            Content::Draft(draft) => draft.chunks(geometry),
        }
    }

    /// The content's identity, now that every chunk was read. The file must still be what it was before.
    pub(crate) fn seal(&self) -> Result<FileId, StoreError> {
        self.check_unchanged()?;
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let draft = match &mut *content {
            Content::Hashed(id, _) => return Ok(*id),
            Content::Draft(draft) => draft,
        };
        let kept = || StoreError::io("write the list of chaining values for", &self.path);
        let incomplete = || kept()(std::io::ErrorKind::UnexpectedEof.into());
        let (id, list) = draft.finish().map_err(kept())?.ok_or_else(incomplete)?;
        draft.store.remember_sent(self.stamp, id, draft.begun);
        *content = Content::Hashed(id, Some(list));
        Ok(id)
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that it occupies on disk, at most its size; less for a sparse file.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Whether anybody may execute it.
    pub(crate) fn executable(&self) -> bool {
        self.executable
    }

    /// Modification time in nanoseconds since 1970 UTC.
    pub(crate) fn modified_ns(&self) -> Option<i64> {
        Some(self.stamp.mtime_ns)
    }

    /// The top level of chaining values, one per page; empty for a file of no page.
    pub(crate) fn top(&self, geometry: Geometry) -> Result<Vec<Cv>, StoreError> {
        let mut top = Vec::with_capacity(geometry.pages() as usize);
        for page in 0..geometry.pages() {
            top.extend(tree::merge(&self.page(geometry, page)?));
        }
        Ok(top)
    }

    /// One page of chaining values, one per chunk; empty for a page that does not exist.
    pub(crate) fn page(&self, geometry: Geometry, page: u32) -> Result<Vec<Cv>, StoreError> {
        let chunks = geometry.page_chunks(page);
        match &*self.content() {
            Content::Hashed(_, Some(list)) if !chunks.is_empty() => {
                let groups = geometry.groups_of(chunks.start).start..geometry.groups_of(chunks.end - 1).end;
                let values = list.read(&*self.disk, groups);
                let values =
                    values.map_err(StoreError::io("read the list of chaining values of", &self.path))?;
                Ok(tree::chunks_from_groups(geometry, &values))
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A chunk's bytes, read at once. A hole is not read at all.
    pub(crate) fn read_chunk(&self, geometry: Geometry, chunk: u32) -> Result<ChunkData, StoreError> {
        let range = geometry.bytes_of(chunk);
        if is_hole(&self.file, range.clone()) {
            // The same answer comes for a range that was cut off.
            self.check_unchanged()?;
            return Ok(ChunkData::Zeros);
        }
        let bytes = self.read(range)?;
        Ok(if is_zero(&bytes) { ChunkData::Zeros } else { ChunkData::Bytes(bytes.freeze()) })
    }

    /// The chaining value of a chunk with these bytes, of a file that has more than one chunk. A chunk that was read before
    /// and was another then says that the file has changed.
    pub(crate) fn value_of(
        &self,
        geometry: Geometry,
        chunk: u32,
        data: &ChunkData,
    ) -> Result<Cv, StoreError> {
        let groups = geometry.groups_of(chunk);
        let listed = || StoreError::io("keep the list of chaining values of", &self.path);
        let values = match &*self.content() {
            Content::Hashed(_, Some(list)) => list.read(&*self.disk, groups).map_err(listed())?,
            Content::Hashed(_, None) => Vec::new(),
            Content::Draft(draft) => {
                let values = match data {
                    ChunkData::Zeros => zero_groups(groups.start, geometry.len_of(chunk)),
                    ChunkData::Bytes(bytes) => hash_groups(groups.start, bytes),
                };
                if !draft.put(groups, &values).map_err(listed())? {
                    return Err(self.changed());
                }
                values
            }
        };
        tree::merge(&values).ok_or_else(|| listed()(std::io::ErrorKind::UnexpectedEof.into()))
    }

    /// A chunk's bytes and its chaining value.
    #[cfg(test)]
    pub(super) fn read_hashed(&self, geometry: Geometry, chunk: u32) -> Result<(ChunkData, Cv), StoreError> {
        let data = self.read_chunk(geometry, chunk)?;
        let value = self.value_of(geometry, chunk, &data)?;
        Ok((data, value))
    }

    fn read(&self, range: std::ops::Range<u64>) -> Result<Buffer, StoreError> {
        let mut bytes = Buffer::take((range.end - range.start) as usize);
        let read = read_full(&*self.disk, &self.file, &mut bytes, range.start);
        let read = read.map_err(StoreError::io("read the source", &self.path))?;
        if read == bytes.len() { Ok(bytes) } else { Err(self.changed()) }
    }

    fn changed(&self) -> StoreError {
        StoreError::SourceChanged { path: self.path.clone() }
    }

    /// Whether the open file and what lies at its path are still what was hashed.
    pub(crate) fn check_unchanged(&self) -> Result<(), StoreError> {
        let open = self.file.metadata().map_err(StoreError::io("look at the source", &self.path))?;
        let named = std::fs::symlink_metadata(&self.path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => self.changed(),
            _ => StoreError::io("look at the source", &self.path)(error),
        })?;
        if Stamp::of(&open) == self.stamp && Stamp::of(&named) == self.stamp {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    /// Reads a chunk again and compares it with what was hashed.
    pub(crate) fn chunk_is_intact(&self, geometry: Geometry, chunk: u32) -> Result<bool, StoreError> {
        let bytes = match self.read(geometry.bytes_of(chunk)) {
            Err(StoreError::SourceChanged { .. }) => return Ok(false),
            read => read?,
        };
        let groups = geometry.groups_of(chunk);
        let values = match &*self.content() {
            Content::Hashed(id, None) => return Ok(tree::hash_small(&bytes) == *id),
            Content::Hashed(_, Some(list)) => list.read(&*self.disk, groups.clone()).map(Some),
            Content::Draft(draft) => draft.values(groups.clone()),
        };
        let values = values.map_err(StoreError::io("read the list of chaining values of", &self.path))?;
        // Of what was not hashed nothing can be said.
        let Some(values) = values else { return Ok(true) };
        let parts = bytes.chunks(GROUP_LEN as usize).zip(groups).zip(values);
        Ok(parts.into_iter().all(|((bytes, group), value)| tree::hash_group(group, bytes) == value))
    }
}
