//! The chunk plan: the deterministic list of segments behind each chunk. Both sides derive it from the
//! manifest and the chunk size, nobody sends it.
//!
//! A single file's chunk is one segment. A folder's chunk will be a run of them, so that small files
//! share one; sessions and stores already speak in segments so that nothing on the wire has to change.

use crate::Geometry;

/// A run of bytes of one file of the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of the file in the manifest; 0 in a transfer of a single file.
    pub file: u32,
    /// Offset of the first byte in that file.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// The plan of one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlan {
    geometry: Geometry,
}

impl ChunkPlan {
    /// The plan for a single file.
    pub fn single(geometry: Geometry) -> Self {
        Self { geometry }
    }

    /// The segments of a chunk, in the order of their bytes in the chunk's payload.
    pub fn segments(&self, chunk: u32) -> impl Iterator<Item = Segment> + use<> {
        let bytes = self.geometry.bytes_of(chunk);
        let len = bytes.end - bytes.start;
        (len > 0).then_some(Segment { file: 0, offset: bytes.start, len }).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_file_is_cut_without_gap_or_overlap() {
        let geometry = Geometry::new((1 << 20) + 7, 18).unwrap();
        let plan = ChunkPlan::single(geometry);
        let mut next = 0;
        for segment in (0..geometry.chunks()).flat_map(|chunk| plan.segments(chunk)) {
            assert_eq!((segment.file, segment.offset), (0, next));
            next += segment.len;
        }
        assert_eq!(next, geometry.size());
        assert_eq!(plan.segments(geometry.chunks()).count(), 0);
    }
}
