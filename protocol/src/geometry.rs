//! How a size is cut into chunks and pages. All arithmetic on peer-supplied numbers is here, checked.

use std::ops::Range;

use crate::limits::{
    CV_LEN, GROUP_LEN, MAX_CHUNK_LOG2, MAX_CHUNKS, MAX_FILE_LEN, MIN_CHUNK_LOG2, PAGE_CHUNKS,
};

/// A file's size and its chunk size: everything that says where each chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    size: u64,
    chunk_log2: u8,
}

/// Why a size and a chunk size do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// The chunk size is not one of the powers of two in use.
    #[error("chunk size 2^{0} is outside 2^{MIN_CHUNK_LOG2} to 2^{MAX_CHUNK_LOG2}")]
    ChunkSize(u8),
    /// More chunks than allowed.
    #[error("{size} bytes in chunks of 2^{chunk_log2} are more than {MAX_CHUNKS} chunks")]
    TooManyChunks {
        /// The file's size in bytes.
        size: u64,
        /// The chunk size as a power of two.
        chunk_log2: u8,
    },
}

impl Geometry {
    /// That of an empty file.
    pub(crate) const EMPTY: Self = Self { size: 0, chunk_log2: MIN_CHUNK_LOG2 };

    /// Checks and joins a size in bytes and a chunk size given as a power of two.
    pub fn new(size: u64, chunk_log2: u8) -> Result<Self, GeometryError> {
        if !(MIN_CHUNK_LOG2..=MAX_CHUNK_LOG2).contains(&chunk_log2) {
            return Err(GeometryError::ChunkSize(chunk_log2));
        }
        if size.div_ceil(1 << chunk_log2) > MAX_CHUNKS {
            return Err(GeometryError::TooManyChunks { size, chunk_log2 });
        }
        Ok(Self { size, chunk_log2 })
    }

    /// The chunk size that fits a file of this size: small files get small chunks, so that they
    /// spread over several streams; large ones get 1 MiB until the number of chunks forces more.
    pub fn for_size(size: u64) -> Result<Self, GeometryError> {
        let wanted = match size {
            0..=0x3ff_ffff => MIN_CHUNK_LOG2,
            _ => 20,
        };
        let mut log2 = wanted;
        while log2 < MAX_CHUNK_LOG2 && !Self::few(size, log2) {
            log2 += 1;
        }
        Self::new(size, log2)
    }

    /// The chunk size for a file of this size over a path that takes so many bytes a second, where that is known: the one that
    /// fits the file, unless such a chunk would take more than a second; then a smaller one, of which a break costs less
    /// and which shows sooner that something moves.
    pub fn for_path(size: u64, rate: Option<u64>) -> Result<Self, GeometryError> {
        let Self { mut chunk_log2, .. } = Self::for_size(size)?;
        let slow = |log2: u8| rate.is_some_and(|rate| 1 << log2 > rate);
        while chunk_log2 > MIN_CHUNK_LOG2 && slow(chunk_log2) && Self::few(size, chunk_log2 - 1) {
            chunk_log2 -= 1;
        }
        Self::new(size, chunk_log2)
    }

    /// Whether chunks of this size are so few that nothing about them grows large.
    fn few(size: u64, chunk_log2: u8) -> bool {
        size.div_ceil(1 << chunk_log2) <= MAX_CHUNKS / 16
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The chunk size as a power of two.
    pub fn chunk_log2(&self) -> u8 {
        self.chunk_log2
    }

    /// Bytes of every chunk but the last.
    pub fn chunk_len(&self) -> u64 {
        1 << self.chunk_log2
    }

    /// Number of chunks; an empty file has none.
    pub fn chunks(&self) -> u32 {
        // `new` bounds the count by MAX_CHUNKS, which fits.
        self.size.div_ceil(self.chunk_len()) as u32
    }

    /// Whether this is a chunk of the file.
    pub fn has(&self, chunk: u32) -> bool {
        chunk < self.chunks()
    }

    /// Offset of a chunk's first byte.
    pub fn offset(&self, chunk: u32) -> u64 {
        u64::from(chunk) << self.chunk_log2
    }

    /// Bytes of this chunk; zero for one that does not exist.
    pub fn len_of(&self, chunk: u32) -> u64 {
        self.size.saturating_sub(self.offset(chunk)).min(self.chunk_len())
    }

    /// The byte range of this chunk.
    pub fn bytes_of(&self, chunk: u32) -> Range<u64> {
        self.offset(chunk)..self.offset(chunk) + self.len_of(chunk)
    }

    /// The chunks that hold these bytes.
    pub fn chunks_with(&self, bytes: Range<u64>) -> Range<u32> {
        let end = bytes.end.min(self.size).div_ceil(self.chunk_len());
        (bytes.start >> self.chunk_log2).min(end) as u32..end as u32
    }

    /// Number of pages of chaining values. A file of no or one chunk has no list, so no page.
    pub fn pages(&self) -> u32 {
        match self.chunks() {
            0 | 1 => 0,
            n => u64::from(n).div_ceil(PAGE_CHUNKS) as u32,
        }
    }

    /// The page that holds this chunk's chaining value.
    pub fn page_of(&self, chunk: u32) -> u32 {
        chunk / PAGE_CHUNKS as u32
    }

    /// The chunks whose chaining values are on this page.
    pub fn page_chunks(&self, page: u32) -> Range<u32> {
        let start = u64::from(page) * PAGE_CHUNKS;
        let end = (start + PAGE_CHUNKS).min(u64::from(self.chunks()));
        start.min(end) as u32..end as u32
    }

    /// Number of groups: the pieces at whose size chaining values are kept on disk.
    pub fn groups(&self) -> u64 {
        self.size.div_ceil(GROUP_LEN)
    }

    /// The groups of this chunk.
    pub fn groups_of(&self, chunk: u32) -> Range<u64> {
        let per_chunk = self.chunk_len() / GROUP_LEN;
        let start = u64::from(chunk) * per_chunk;
        start..(start + per_chunk).min(self.groups())
    }

    /// Bytes of the whole stored list of chaining values.
    pub fn list_len(&self) -> u64 {
        self.groups() * CV_LEN as u64
    }
}

const _: () = assert!(MAX_FILE_LEN.div_ceil(1 << MAX_CHUNK_LOG2) <= MAX_CHUNKS);

#[cfg(test)]
mod tests {
    use super::*;

    /// Faults 45 and 47.
    #[test]
    fn hostile_numbers_are_refused() {
        assert!(Geometry::new(u64::MAX, 18).is_err());
        assert!(Geometry::new(u64::MAX, 22).is_err());
        assert!(Geometry::new(1, 0).is_err());
        assert!(Geometry::new(1, 17).is_err());
        assert!(Geometry::new(1, 23).is_err());
        assert!(Geometry::new(1, 255).is_err());
        assert!(Geometry::for_size(u64::MAX).is_err());
        assert!(Geometry::for_size(MAX_FILE_LEN + 1).is_err());
    }

    #[test]
    fn every_size_up_to_the_largest_has_a_chunk_size() {
        for size in [0, 1, 1 << 18, 1 << 26, 1 << 30, 1 << 40, 1 << 45, MAX_FILE_LEN] {
            let g = Geometry::for_size(size).unwrap();
            let total: u64 =
                if g.chunks() == 0 { 0 } else { g.offset(g.chunks() - 1) + g.len_of(g.chunks() - 1) };
            assert_eq!(total, size);
        }
    }

    #[test]
    fn pages_and_groups_cover_the_file_exactly() {
        let g = Geometry::new((PAGE_CHUNKS << 18) * 2 + 5, 18).unwrap();
        assert_eq!(g.pages(), 3);
        assert_eq!(g.page_chunks(2), 8192..8193);
        assert_eq!(g.page_chunks(3), 8193..8193);
        assert_eq!(g.len_of(8192), 5);
        assert_eq!(g.len_of(8193), 0);
        let g = Geometry::new(3 << 20, 20).unwrap();
        assert_eq!(g.groups_of(2), 8..12);
        assert_eq!(Geometry::new(10, 18).unwrap().pages(), 0);
    }

    #[test]
    fn the_chunk_size_fits_the_size_of_the_file() {
        let log2 = |size| Geometry::for_size(size).unwrap().chunk_log2();
        assert_eq!([0, 1, (64 << 20) - 1].map(log2), [18, 18, 18]);
        assert_eq!([64 << 20, 1 << 30, 1 << 40].map(log2), [20, 20, 20]);
        assert_eq!([(1 << 40) + 1, 1 << 41, (1 << 41) + 1, MAX_FILE_LEN].map(log2), [21, 21, 22, 22]);
    }

    #[test]
    fn on_a_slow_path_chunks_are_smaller_if_they_do_not_become_too_many() {
        let log2 = |size, rate| Geometry::for_path(size, rate).unwrap().chunk_log2();
        let rates =
            [None, Some(u64::MAX), Some(1 << 20), Some((1 << 20) - 1), Some(1 << 19), Some(1 << 18), Some(0)];
        assert_eq!(rates.map(|rate| log2(1 << 30, rate)), [20, 20, 20, 19, 19, 18, 18]);
        assert_eq!(rates.map(|rate| log2(1 << 20, rate)), [18; 7]);
        assert_eq!(
            [1 << 38, (1 << 38) + 1, 1 << 40, 1 << 42].map(|size| log2(size, Some(1))),
            [18, 19, 20, 22]
        );
        assert!(Geometry::for_path(u64::MAX, Some(1)).is_err());
    }

    #[test]
    fn a_chunk_after_the_last_is_none() {
        let g = Geometry::new((2 << 18) + 1, 18).unwrap();
        assert_eq!([1, 2, 3, u32::MAX].map(|chunk| g.has(chunk)), [true, true, false, false]);
        assert_eq!((g.list_len(), Geometry::EMPTY.list_len()), (3 * CV_LEN as u64, 0));
    }
}
