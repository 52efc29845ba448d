//! A hashed file, open for sending.

use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use p2p_protocol::{Cv, FileId, Geometry, limits::GROUP_LEN, tree};

use super::{
    disk::{Disk, is_hole, is_zero, read_full},
    error::StoreError,
    list::List,
    stamp::Stamp,
};
use crate::buffer::Buffer;

/// An open, hashed, regular file. Its bytes are read by position, never mapped: a file that is cut short
/// while it is sent gives an error, not a signal.
#[derive(Debug)]
pub(crate) struct Source {
    disk: Arc<dyn Disk>,
    file: File,
    path: PathBuf,
    id: FileId,
    /// What the file was when it was hashed.
    stamp: Stamp,
    allocated: u64,
    executable: bool,
    list: Option<List>,
}

/// The bytes of a chunk.
#[derive(Debug)]
pub(crate) enum ChunkData {
    /// As they are.
    Bytes(Bytes),
    /// The chunk is nothing but zeros.
    Zeros,
}

impl Source {
    /// A file that had this identity and list when it had this stamp.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        opened: super::import::Opened,
        id: FileId,
        list: Option<List>,
    ) -> Self {
        let super::import::Opened { file, path, stamp, found } = opened;
        Self {
            disk,
            file,
            path,
            id,
            stamp,
            allocated: found.blocks().saturating_mul(512).min(stamp.size),
            executable: found.mode() & 0o111 != 0,
            list,
        }
    }

    /// Size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.stamp.size
    }

    /// The content's identity.
    pub(crate) fn file_id(&self) -> FileId {
        self.id
    }

    /// The file's own name; what is not UTF-8 in it is replaced.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
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
        match &self.list {
            Some(list) if !chunks.is_empty() => {
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
        let Some(list) = &self.list else { return Ok(tree::hash_small(&bytes) == self.id) };
        let groups = geometry.groups_of(chunk);
        let values = list.read(&*self.disk, groups.clone());
        let values = values.map_err(StoreError::io("read the list of chaining values of", &self.path))?;
        let parts = bytes.chunks(GROUP_LEN as usize).zip(groups).zip(values);
        Ok(parts.into_iter().all(|((bytes, group), value)| tree::hash_group(group, bytes) == value))
    }
}
