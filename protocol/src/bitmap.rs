//! Sets of chunks: a Roaring bitmap in memory and on disk, ranges on the wire.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_RANGES;

/// The chunks `start..start + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRange {
    /// First chunk.
    pub start: u32,
    /// Number of chunks; never zero on the wire.
    pub count: u32,
}

/// A set of chunk indices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChunkSet(RoaringBitmap);

/// Why a list of ranges is not a set of this file's chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    /// The list is longer than allowed.
    #[error("more than {MAX_RANGES} ranges")]
    TooMany,
    /// A range is empty, overflows, or reaches past the last chunk.
    #[error("range {0:?} is empty or outside the file")]
    Outside(ChunkRange),
}

impl ChunkSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The set `0..count`.
    pub fn full(count: u32) -> Self {
        let mut set = RoaringBitmap::new();
        set.insert_range(0..count);
        Self(set)
    }

    /// Adds a chunk; false if it was there.
    pub fn insert(&mut self, chunk: u32) -> bool {
        self.0.insert(chunk)
    }

    /// Takes a chunk out; false if it was not there.
    pub fn remove(&mut self, chunk: u32) -> bool {
        self.0.remove(chunk)
    }

    /// Whether the chunk is in the set.
    pub fn contains(&self, chunk: u32) -> bool {
        self.0.contains(chunk)
    }

    /// Number of chunks.
    pub fn len(&self) -> u32 {
        self.0.len() as u32
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Chunks in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter()
    }

    /// The smallest chunk, if any.
    pub fn first(&self) -> Option<u32> {
        self.0.min()
    }

    /// The largest chunk, if any.
    pub fn last(&self) -> Option<u32> {
        self.0.max()
    }

    /// The smallest chunk that is not below `from`, if any.
    pub fn next_from(&self, from: u32) -> Option<u32> {
        self.0.range(from..).next()
    }

    /// The first chunk of `0..count` that is not in the set.
    pub fn first_missing(&self, count: u32) -> Option<u32> {
        let mut expected = 0;
        for range in self.ranges() {
            if range.start > expected {
                break;
            }
            expected = range.start + range.count;
        }
        (expected < count).then_some(expected)
    }

    /// Adds all chunks of another set.
    pub fn union(&mut self, other: &Self) {
        self.0 |= &other.0;
    }

    /// Takes out all chunks of another set.
    pub fn subtract(&mut self, other: &Self) {
        self.0 -= &other.0;
    }

    /// Keeps only what is in another set too.
    pub fn intersect(&mut self, other: &Self) {
        self.0 &= &other.0;
    }

    /// The chunks of `0..count` that are not in the set.
    pub fn missing(&self, count: u32) -> Self {
        let mut missing = Self::full(count);
        missing.subtract(self);
        missing
    }

    /// The set as ascending, non-adjacent ranges.
    pub fn ranges(&self) -> Vec<ChunkRange> {
        let mut iter = self.0.iter();
        let runs = std::iter::from_fn(|| iter.next_range());
        runs.map(|run| ChunkRange { start: *run.start(), count: run.end() - run.start() + 1 }).collect()
    }

    /// The set cut into messages of at most [`MAX_RANGES`] ranges each.
    pub fn wire(&self) -> Vec<Vec<ChunkRange>> {
        self.ranges().chunks(MAX_RANGES).map(<[_]>::to_vec).collect()
    }

    /// Reads a peer's list: every range must lie within `0..count`. Overlaps are harmless.
    pub fn from_wire(ranges: &[ChunkRange], count: u32) -> Result<Self, RangesError> {
        if ranges.len() > MAX_RANGES {
            return Err(RangesError::TooMany);
        }
        let mut set = RoaringBitmap::new();
        for range in ranges {
            match range.start.checked_add(range.count) {
                Some(end) if range.count > 0 && end <= count => set.insert_range(range.start..end),
                _ => return Err(RangesError::Outside(*range)),
            };
        }
        Ok(Self(set))
    }

    /// The portable Roaring serialisation, for the checkpoint log.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        // Writing to a Vec cannot fail.
        let _ = self.0.serialize_into(&mut bytes);
        bytes
    }

    /// Reads the portable Roaring serialisation; `None` if it is malformed or reaches past `count`.
    pub fn from_bytes(bytes: &[u8], count: u32) -> Option<Self> {
        let set = RoaringBitmap::deserialize_from(bytes).ok()?;
        set.max().is_none_or(|last| last < count).then_some(Self(set))
    }
}

impl FromIterator<u32> for ChunkSet {
    fn from_iter<T: IntoIterator<Item = u32>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_round_trip_and_merge() {
        let set: ChunkSet = [0, 1, 2, 7, 9, 10, 65535, 65536].into_iter().collect();
        let ranges = set.ranges();
        assert_eq!(ranges.first(), Some(&ChunkRange { start: 0, count: 3 }));
        assert_eq!(ranges.last(), Some(&ChunkRange { start: 65535, count: 2 }));
        assert_eq!(ChunkSet::from_wire(&ranges, 70000), Ok(set.clone()));
        assert_eq!(ChunkSet::from_bytes(&set.to_bytes(), 70000), Some(set.clone()));
        assert_eq!(ChunkSet::from_bytes(&set.to_bytes(), 65536), None);
        assert_eq!(set.first_missing(70000), Some(3));
        assert_eq!(ChunkSet::full(5).first_missing(5), None);
        assert_eq!(ChunkSet::new().first_missing(0), None);
    }

    /// Fault 44.
    #[test]
    fn forged_ranges_are_refused() {
        for (start, count) in [(0, 0), (5, 1), (u32::MAX, 2), (0, 6)] {
            let range = ChunkRange { start, count };
            assert_eq!(ChunkSet::from_wire(&[range], 5), Err(RangesError::Outside(range)));
        }
        let mut many = vec![ChunkRange { start: 0, count: 1 }; MAX_RANGES];
        assert_eq!(ChunkSet::from_wire(&many, 5), Ok(ChunkSet::full(1)));
        many.push(ChunkRange { start: 0, count: 1 });
        assert_eq!(ChunkSet::from_wire(&many, 5), Err(RangesError::TooMany));
    }
}
