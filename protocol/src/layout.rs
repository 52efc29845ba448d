//! Where the bytes of a transfer's chunks lie: in one file, or in the files of a folder.

use std::{ops::Range, sync::Arc};

use crate::{ChunkSet, Geometry, plan::Plan};

/// How a file or a folder is cut into chunks.
#[derive(Clone, Debug)]
pub enum Layout {
    /// One file.
    File(Geometry),
    /// A folder, or those of its files that are not here yet.
    Folder(Arc<Plan>),
}

impl From<Geometry> for Layout {
    fn from(geometry: Geometry) -> Self {
        Self::File(geometry)
    }
}

impl Layout {
    /// That of a file; for a folder one with as many chunks.
    pub fn geometry(&self) -> Geometry {
        match self {
            Self::File(geometry) => *geometry,
            Self::Folder(plan) => plan.nominal(),
        }
    }

    /// The plan, for a folder.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        match self {
            Self::File(_) => None,
            Self::Folder(plan) => Some(plan),
        }
    }

    /// Number of chunks.
    pub fn chunks(&self) -> u32 {
        match self {
            Self::File(geometry) => geometry.chunks(),
            Self::Folder(plan) => plan.chunks(),
        }
    }

    /// Whether this is one of the chunks.
    pub fn has(&self, chunk: u32) -> bool {
        chunk < self.chunks()
    }

    /// The most bytes that a chunk may have.
    pub fn chunk_len(&self) -> u64 {
        self.geometry().chunk_len()
    }

    /// Bytes of the whole: a folder's files all together, those too that need not be moved.
    pub fn size(&self) -> u64 {
        match self {
            Self::File(geometry) => geometry.size(),
            Self::Folder(plan) => plan.manifest().size(),
        }
    }

    /// Bytes that need not be moved, as they are part of no chunk.
    pub fn spared(&self) -> u64 {
        match self {
            Self::File(_) => 0,
            Self::Folder(plan) => plan.manifest().size() - plan.bytes(),
        }
    }

    /// Bytes of this chunk; zero for one that does not exist.
    pub fn len_of(&self, chunk: u32) -> u64 {
        match self {
            Self::File(geometry) => geometry.len_of(chunk),
            Self::Folder(plan) if self.has(chunk) => plan.len_of(chunk),
            Self::Folder(_) => 0,
        }
    }

    /// Bytes of these chunks.
    pub fn bytes_of(&self, chunks: &ChunkSet) -> u64 {
        match self {
            Self::File(geometry) => {
                let full = u64::from(chunks.len()) * geometry.chunk_len();
                match geometry.chunks().checked_sub(1) {
                    Some(last) if chunks.contains(last) => {
                        full - geometry.chunk_len() + geometry.len_of(last)
                    }
                    _ => full,
                }
            }
            Self::Folder(plan) => chunks
                .ranges()
                .iter()
                .map(|range| plan.bytes_of(range.start..range.start + range.count))
                .sum(),
        }
    }

    /// Number of pages of chaining values. A folder has none: its manifest and proofs stand in for them.
    pub fn pages(&self) -> u32 {
        match self {
            Self::File(geometry) => geometry.pages(),
            Self::Folder(_) => 0,
        }
    }

    /// Number of the chaining values that are kept, of groups.
    pub fn groups(&self) -> u64 {
        match self {
            Self::File(geometry) => geometry.groups(),
            Self::Folder(plan) => plan.groups(),
        }
    }

    /// Those of a chunk, as places among all of them.
    pub fn groups_of(&self, chunk: u32) -> Range<u64> {
        match self {
            Self::File(geometry) => geometry.groups_of(chunk),
            Self::Folder(plan) => plan.groups_of(chunk),
        }
    }
}
