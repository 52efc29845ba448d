//! The chunk plan of a folder: which bytes of which files each chunk carries. Both sides derive it from the manifest, the
//! files that are wanted and the chunk size; nobody sends it.
//!
//! Files no longer than a chunk are packed: a chunk is a run of whole ones, in the order of the manifest, as many as
//! fit. Those chunks come first. Then come the longer files, one after the other, each cut like a file that is sent by
//! itself, so that the chaining values of its pieces are those of its own hash tree; its last piece shares its chunk
//! with nobody.

use std::{ops::Range, sync::Arc};

use crate::{
    ChunkSet, FileId, Geometry,
    geometry::GeometryError,
    limits::{MAX_CHUNKS, MAX_FILES_PER_CHUNK},
    manifest::Manifest,
};

/// The plan of one transfer of a folder.
#[derive(Clone, Debug)]
pub struct Plan {
    manifest: Arc<Manifest>,
    files: ChunkSet,
    chunk_log2: u8,
    /// The packed files, as numbers of entries; chunk `n` has those from `cuts[n]` to `cuts[n + 1]`.
    packed: Vec<u32>,
    cuts: Vec<u32>,
    /// Bytes of the chunks in front of each packed one, and of all of them.
    packed_bytes: Vec<u64>,
    long: Vec<Long>,
    chunks: u32,
    bytes: u64,
    groups: u64,
}

/// A file of more than one chunk.
#[derive(Clone, Debug)]
struct Long {
    entry: u32,
    geometry: Geometry,
    first_chunk: u32,
    bytes_before: u64,
    groups_before: u64,
}

/// What a chunk carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span<'a> {
    /// These entries' whole content, one after the other.
    Files(&'a [u32]),
    /// A piece of one file.
    Piece {
        /// The entry.
        entry: u32,
        /// How that file is cut.
        geometry: Geometry,
        /// Which of its chunks this is.
        piece: u32,
    },
}

impl Plan {
    /// The plan for these of a folder's files, given by their numbers. Files without content need no chunk.
    pub fn new(manifest: Arc<Manifest>, wanted: &ChunkSet, chunk_log2: u8) -> Result<Self, GeometryError> {
        let chunk_len = Geometry::new(0, chunk_log2)?.chunk_len();
        let (mut packed, mut cuts, mut packed_bytes) = (Vec::new(), vec![0], vec![0]);
        let (mut filled, mut bytes) = (0, 0);
        let mut long_files = Vec::new();
        let entries = wanted.iter().filter_map(|number| manifest.files().get(number as usize).copied());
        for entry in entries {
            let Some((size, _)) = manifest.file(entry) else { continue };
            if size > chunk_len {
                long_files.push((entry, size));
            } else if size > 0 {
                let files = packed.len() as u32 - cuts.last().copied().unwrap_or(0);
                if filled + size > chunk_len || files as usize >= MAX_FILES_PER_CHUNK {
                    cuts.push(packed.len() as u32);
                    packed_bytes.push(bytes);
                    filled = 0;
                }
                packed.push(entry);
                filled += size;
                bytes += size;
            }
        }
        if filled > 0 {
            cuts.push(packed.len() as u32);
            packed_bytes.push(bytes);
        }
        let mut chunks = cuts.len() as u64 - 1;
        let mut groups = 0;
        let mut long = Vec::with_capacity(long_files.len());
        for (entry, size) in long_files {
            let geometry = Geometry::new(size, chunk_log2)?;
            long.push(Long {
                entry,
                geometry,
                first_chunk: chunks as u32,
                bytes_before: bytes,
                groups_before: groups,
            });
            chunks += u64::from(geometry.chunks());
            if chunks > MAX_CHUNKS {
                return Err(GeometryError::TooManyChunks { size: manifest.size(), chunk_log2 });
            }
            bytes += size;
            groups += geometry.groups();
        }
        let (chunks, files) = (chunks as u32, wanted.clone());
        Ok(Self { manifest, files, chunk_log2, packed, cuts, packed_bytes, long, chunks, bytes, groups })
    }

    /// The folder.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// The numbers of the files that the plan is for.
    pub fn files(&self) -> &ChunkSet {
        &self.files
    }

    /// The folder's File ID.
    pub fn id(&self) -> FileId {
        self.manifest.id()
    }

    /// The chunk size as a power of two.
    pub fn chunk_log2(&self) -> u8 {
        self.chunk_log2
    }

    /// Number of chunks.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Bytes of all chunks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A file's geometry with this plan's number of chunks, where nothing but that counts.
    pub fn nominal(&self) -> Geometry {
        let size = u64::from(self.chunks) << self.chunk_log2;
        Geometry::new(size, self.chunk_log2).unwrap_or(Geometry::EMPTY)
    }

    /// What a chunk carries; `None` for one that does not exist.
    pub fn span(&self, chunk: u32) -> Option<Span<'_>> {
        if let (Some(start), Some(end)) = (self.cuts.get(chunk as usize), self.cuts.get(chunk as usize + 1)) {
            return Some(Span::Files(&self.packed[*start as usize..*end as usize]));
        }
        let Long { entry, geometry, first_chunk, .. } = self.long_at(chunk)?;
        Some(Span::Piece { entry: *entry, geometry: *geometry, piece: chunk - first_chunk })
    }

    fn long_at(&self, chunk: u32) -> Option<&Long> {
        let after = self.long.partition_point(|long| long.first_chunk <= chunk);
        self.long.get(after.checked_sub(1)?).filter(|long| chunk - long.first_chunk < long.geometry.chunks())
    }

    /// Bytes of this chunk; zero for one that does not exist.
    pub fn len_of(&self, chunk: u32) -> u64 {
        self.bytes_before(chunk.saturating_add(1)) - self.bytes_before(chunk)
    }

    /// Bytes of these chunks.
    pub fn bytes_of(&self, chunks: Range<u32>) -> u64 {
        self.bytes_before(chunks.end) - self.bytes_before(chunks.start)
    }

    fn bytes_before(&self, chunk: u32) -> u64 {
        if let Some(bytes) = self.packed_bytes.get(chunk as usize) {
            return *bytes;
        }
        self.long_at(chunk)
            .map_or(self.bytes, |long| long.bytes_before + long.geometry.offset(chunk - long.first_chunk))
    }

    /// Number of groups of all long files: the values that are kept of them.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// The groups of this chunk among those of all long files; none for one of whole files.
    pub fn groups_of(&self, chunk: u32) -> Range<u64> {
        self.long_at(chunk).map_or(0..0, |long| {
            let groups = long.geometry.groups_of(chunk - long.first_chunk);
            long.groups_before + groups.start..long.groups_before + groups.end
        })
    }

    /// The long files, each with its geometry, its chunks and its groups among those of all.
    pub fn long_files(&self) -> impl Iterator<Item = (u32, Geometry, Range<u32>, Range<u64>)> {
        self.long.iter().map(|long| {
            let chunks = long.first_chunk..long.first_chunk + long.geometry.chunks();
            let groups = long.groups_before..long.groups_before + long.geometry.groups();
            (long.entry, long.geometry, chunks, groups)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limits::GROUP_LEN,
        manifest::{Entry, Node},
    };

    fn manifest(sizes: &[u64]) -> Arc<Manifest> {
        let file = |(at, size): (usize, &u64)| Entry {
            path: format!("{at:06}"),
            modified_ns: None,
            node: Node::File {
                size: *size,
                file_id: if *size == 0 { crate::tree::empty_id() } else { FileId([0; 32]) },
                executable: false,
            },
        };
        Arc::new(Manifest::new(sizes.iter().enumerate().map(file).collect()).unwrap())
    }

    fn plan(sizes: &[u64]) -> Plan {
        Plan::new(manifest(sizes), &ChunkSet::full(sizes.len() as u32), 18).unwrap()
    }

    #[test]
    fn small_files_share_chunks_and_long_ones_are_cut() {
        let half = GROUP_LEN / 2;
        let plan = plan(&[half, 0, 3 * GROUP_LEN + 1, half, 1, GROUP_LEN, GROUP_LEN + 1]);
        let entries = |chunk| match plan.span(chunk).unwrap() {
            Span::Files(entries) => (entries.to_vec(), None),
            Span::Piece { entry, piece, .. } => (vec![entry], Some(piece)),
        };
        assert_eq!(entries(0), (vec![0, 3], None));
        assert_eq!(entries(1), (vec![4], None));
        assert_eq!(entries(2), (vec![5], None));
        assert_eq!([3, 4, 5, 6].map(entries), [0, 1, 2, 3].map(|piece| (vec![2], Some(piece))));
        assert_eq!([7, 8].map(entries), [0, 1].map(|piece| (vec![6], Some(piece))));
        assert_eq!((plan.chunks(), plan.span(9)), (9, None));
        let lens: Vec<u64> = (0..10).map(|chunk| plan.len_of(chunk)).collect();
        assert_eq!(lens, [GROUP_LEN, 1, GROUP_LEN, GROUP_LEN, GROUP_LEN, GROUP_LEN, 1, GROUP_LEN, 1, 0]);
        assert_eq!(plan.bytes(), lens.iter().sum::<u64>());
        assert_eq!(plan.bytes_of(1..7), lens[1..7].iter().sum::<u64>());
        let groups: Vec<_> = (0..10).map(|chunk| plan.groups_of(chunk)).collect();
        assert_eq!(groups[..3], [0..0, 0..0, 0..0]);
        assert_eq!(groups[3..], [0..1, 1..2, 2..3, 3..4, 4..5, 5..6, 0..0]);
        assert_eq!((plan.groups(), plan.nominal().chunks()), (6, 9));
        assert_eq!(
            plan.long_files().map(|(entry, _, chunks, groups)| (entry, chunks, groups)).collect::<Vec<_>>(),
            [(2, 3..7, 0..4), (6, 7..9, 4..6)]
        );
        assert_eq!((plan.chunk_log2(), plan.files()), (18, &ChunkSet::full(7)));
    }

    #[test]
    fn a_chunk_has_only_so_many_files() {
        let plan = plan(&[1; MAX_FILES_PER_CHUNK + 1]);
        assert_eq!((plan.chunks(), plan.len_of(0), plan.len_of(1)), (2, MAX_FILES_PER_CHUNK as u64, 1));
    }

    #[test]
    fn only_what_is_wanted_is_in_the_plan() {
        let manifest = manifest(&[5, 6, 2 * GROUP_LEN, 7]);
        let wanted = [1, 3, 99].into_iter().collect();
        let plan = Plan::new(manifest.clone(), &wanted, 18).unwrap();
        assert_eq!((plan.chunks(), plan.span(0)), (1, Some(Span::Files(&[1, 3]))));
        let nothing = Plan::new(manifest, &ChunkSet::new(), 18).unwrap();
        assert_eq!((nothing.chunks(), nothing.bytes(), nothing.span(0)), (0, 0, None));
        assert_eq!((nothing.len_of(0), nothing.groups_of(0)), (0, 0..0));
    }

    /// Fault 45.
    #[test]
    fn impossible_numbers_are_refused() {
        let (huge, all) = (manifest(&[MAX_CHUNKS << 22]), ChunkSet::full(1));
        assert!(Plan::new(huge.clone(), &all, 22).is_ok());
        assert!(Plan::new(huge.clone(), &all, 21).is_err());
        assert!(Plan::new(huge, &all, 63).is_err());
        let two = manifest(&[MAX_CHUNKS << 17, MAX_CHUNKS << 17]);
        assert!(Plan::new(two.clone(), &ChunkSet::full(2), 18).is_ok());
        let three = manifest(&[MAX_CHUNKS << 17, MAX_CHUNKS << 17, (1 << 18) + 1]);
        assert!(Plan::new(three, &ChunkSet::full(3), 18).is_err());
    }
}
