//! What is open for sending: a file or a folder.

use std::{path::Path, sync::Arc};

use p2p_protocol::{ChunkSet, Cv, FileId, Geometry, Layout, Manifest, ResumeKey, manifest::ManifestError};

use super::{
    error::StoreError,
    file_source::{ChunkData, FileSource},
    tree_source::{Remark, TreeSource},
};

/// A file or folder that is open for sending.
#[derive(Debug)]
pub(crate) enum Source {
    /// A file.
    File(FileSource),
    /// A folder.
    Folder(TreeSource),
}

/// A chunk that was read.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Its bytes.
    pub(crate) data: ChunkData,
    /// Its chaining value, where that travels along.
    pub(crate) cv: Option<Cv>,
    /// The values that prove it.
    pub(crate) proof: Vec<Cv>,
}

impl Source {
    /// Size in bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::File(file) => file.size(),
            Self::Folder(folder) => folder.manifest().size(),
        }
    }

    /// The content's identity, once all of it is hashed.
    pub(crate) fn file_id(&self) -> Option<FileId> {
        match self {
            Self::File(file) => file.file_id(),
            Self::Folder(folder) => Some(folder.manifest().id()),
        }
    }

    /// What stands for the content while it has no name. A folder always has one.
    pub(crate) fn resume_key(&self, secret: &[u8; 32]) -> Option<ResumeKey> {
        match self {
            Self::File(file) => Some(file.resume_key(secret)),
            Self::Folder(_) => None,
        }
    }

    /// What is in it, for a folder.
    pub(crate) fn manifest(&self) -> Option<&Arc<Manifest>> {
        match self {
            Self::File(_) => None,
            Self::Folder(folder) => Some(folder.manifest()),
        }
    }

    /// Bytes of the list of a folder's entries, as it travels.
    pub(crate) fn list_len(&self) -> usize {
        match self {
            Self::File(_) => 0,
            Self::Folder(folder) => folder.list_len(),
        }
    }

    /// How it is cut, in chunks of this size; for a folder only these files, by their numbers.
    pub(crate) fn layout(
        &self,
        chunk_log2: u8,
        files: &ChunkSet,
    ) -> Result<Layout, p2p_protocol::geometry::GeometryError> {
        match self {
            Self::File(file) => Ok(Geometry::new(file.size(), chunk_log2)?.into()),
            Self::Folder(folder) => {
                let plan = p2p_protocol::Plan::new(folder.manifest().clone(), files, chunk_log2)?;
                Ok(Layout::Folder(plan.into()))
            }
        }
    }

    /// The values of one of a folder's files, by the number of its entry; `None` where no list of it is stored.
    pub(crate) fn values_of(&self, entry: u32) -> Result<Option<Vec<Cv>>, StoreError> {
        match self {
            Self::File(_) => Ok(None),
            Self::Folder(folder) => folder.values(entry),
        }
    }

    /// What is worth a word about a folder.
    pub(crate) fn remarks(&self) -> Vec<Remark> {
        match self {
            Self::File(_) => Vec::new(),
            Self::Folder(folder) => folder.remarks(),
        }
    }

    /// The chunks that are hashed.
    pub(crate) fn hashed(&self, geometry: Geometry) -> ChunkSet {
        match self {
            Self::File(file) => file.hashed(geometry),
            Self::Folder(_) => ChunkSet::full(geometry.chunks()),
        }
    }

    /// The content's identity, now that every chunk was read. A file must still be what it was before.
    pub(crate) fn seal(&self) -> Result<FileId, StoreError> {
        match self {
            Self::File(file) => file.seal(),
            Self::Folder(folder) => Ok(folder.manifest().id()),
        }
    }

    /// Its own name; what is not UTF-8 in it is replaced.
    pub(crate) fn name(&self) -> String {
        let name = self.path().file_name().map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_default()
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(file) => file.path(),
            Self::Folder(folder) => folder.path(),
        }
    }

    /// Bytes that it occupies on disk, at most its size; less for what is sparse.
    pub(crate) fn allocated(&self) -> u64 {
        match self {
            Self::File(file) => file.allocated(),
            Self::Folder(folder) => folder.allocated(),
        }
    }

    /// Whether anybody may execute it.
    pub(crate) fn executable(&self) -> bool {
        match self {
            Self::File(file) => file.executable(),
            Self::Folder(_) => false,
        }
    }

    /// Modification time in nanoseconds since 1970 UTC.
    pub(crate) fn modified_ns(&self) -> Option<i64> {
        match self {
            Self::File(file) => file.modified_ns(),
            Self::Folder(folder) => folder.modified_ns(),
        }
    }

    /// The top level of chaining values, one per page; empty for what has no page.
    pub(crate) fn top(&self, geometry: Geometry) -> Result<Vec<Cv>, StoreError> {
        match self {
            Self::File(file) => file.top(geometry),
            Self::Folder(_) => Ok(Vec::new()),
        }
    }

    /// One page of chaining values, one per chunk; empty for a page that does not exist.
    pub(crate) fn page(&self, geometry: Geometry, page: u32) -> Result<Vec<Cv>, StoreError> {
        match self {
            Self::File(file) => file.page(geometry, page),
            Self::Folder(_) => Ok(Vec::new()),
        }
    }

    /// Reads a chunk of what must still be what it was; with its value where `valued`, or where it is a piece of a
    /// folder's file. `hashing` is called when it has been read and is to be hashed.
    pub(crate) fn read(
        &self,
        layout: &Layout,
        chunk: u32,
        valued: bool,
        hashing: impl FnOnce(),
    ) -> Result<Chunk, StoreError> {
        match (self, layout) {
            (Self::File(file), layout) => {
                let geometry = layout.geometry();
                let data = file.read_chunk(geometry, chunk)?;
                let cv = if valued {
                    hashing();
                    Some(file.value_of(geometry, chunk, &data)?)
                } else {
                    None
                };
                file.check_unchanged()?;
                Ok(Chunk { data, cv, proof: Vec::new() })
            }
            (Self::Folder(folder), Layout::Folder(plan)) => folder.read_chunk(plan, chunk),
            (Self::Folder(folder), Layout::File(_)) => Err(StoreError::BadTree {
                path: folder.path().to_owned(),
                error: ManifestError::Malformed.into(),
            }),
        }
    }

    /// Reads a chunk again and compares it with what was hashed.
    pub(crate) fn chunk_is_intact(&self, layout: &Layout, chunk: u32) -> Result<bool, StoreError> {
        match self {
            Self::File(file) => file.chunk_is_intact(layout.geometry(), chunk),
            Self::Folder(folder) => folder.chunk_is_intact(layout, chunk),
        }
    }
}
