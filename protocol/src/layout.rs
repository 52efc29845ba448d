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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        FileId,
        limits::GROUP_LEN,
        manifest::{Entry, Manifest, Node},
    };

    fn folder(sizes: &[u64], wanted: &ChunkSet) -> Layout {
        let file = |(at, size): (usize, &u64)| Entry {
            path: format!("{at:06}"),
            modified_ns: None,
            node: Node::File { size: *size, file_id: FileId([0; 32]), executable: false },
        };
        let manifest = Manifest::new(sizes.iter().enumerate().map(file).collect()).unwrap();
        Layout::Folder(Arc::new(Plan::new(Arc::new(manifest), wanted, 18).unwrap()))
    }

    #[test]
    fn a_file_is_cut_as_its_geometry_says() {
        let layout = Layout::from(Geometry::new(2 * GROUP_LEN + 5, 18).unwrap());
        assert_eq!((layout.chunks(), layout.pages(), layout.groups()), (3, 1, 3));
        assert_eq!((layout.chunk_len(), layout.size(), layout.spared()), (GROUP_LEN, 2 * GROUP_LEN + 5, 0));
        assert_eq!([0, 2, 3].map(|chunk| layout.len_of(chunk)), [GROUP_LEN, 5, 0]);
        assert_eq!(layout.groups_of(2), 2..3);
        let bytes = |chunks: &[u32]| layout.bytes_of(&chunks.iter().copied().collect());
        assert_eq!((bytes(&[]), bytes(&[1]), bytes(&[2]), bytes(&[0, 2])), (0, GROUP_LEN, 5, GROUP_LEN + 5));
        assert_eq!(Layout::from(Geometry::EMPTY).bytes_of(&ChunkSet::new()), 0);
    }

    #[test]
    fn a_folder_is_cut_as_its_plan_says() {
        let layout = folder(&[7, GROUP_LEN + 5, 9, 100], &[0, 1, 2].into_iter().collect());
        assert_eq!((layout.chunks(), layout.pages(), layout.groups()), (3, 0, 2));
        assert_eq!((layout.chunk_len(), layout.geometry().chunks()), (GROUP_LEN, 3));
        assert_eq!((layout.size(), layout.spared()), (GROUP_LEN + 121, 100));
        assert_eq!([0, 1, 2, 3].map(|chunk| layout.len_of(chunk)), [16, GROUP_LEN, 5, 0]);
        assert_eq!([0, 1, 2].map(|chunk| layout.groups_of(chunk)), [0..0, 0..1, 1..2]);
        assert_eq!([2, 3].map(|chunk| layout.has(chunk)), [true, false]);
        assert_eq!(layout.bytes_of(&[0, 2].into_iter().collect()), 21);
    }
}
