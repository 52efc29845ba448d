//! Chunks whose bytes match the chaining value that came with them, and that no list has proven yet.

use std::{collections::BTreeMap, ops::Range};

use crate::{ChunkSet, Cv, Geometry};

/// Values that are only claimed, and the chunks that are here under them.
#[derive(Clone, Debug)]
pub(super) struct Unproven {
    geometry: Geometry,
    /// By page, so that a value costs no more than its bytes; only those of `valued` mean anything.
    values: BTreeMap<u32, Vec<Cv>>,
    valued: ChunkSet,
    /// Those whose bytes are here and match.
    stored: ChunkSet,
}

impl Unproven {
    pub(super) fn new(geometry: Geometry) -> Self {
        let (valued, stored) = (ChunkSet::new(), ChunkSet::new());
        Self { geometry, values: BTreeMap::new(), valued, stored }
    }

    /// From now on a chunk is read, or was read earlier, against this value.
    pub(super) fn claim(&mut self, chunk: u32, value: Cv) {
        if !self.geometry.has(chunk) {
            return;
        }
        let page = self.geometry.page_of(chunk);
        let chunks = self.geometry.page_chunks(page);
        let values = self.values.entry(page).or_insert_with(|| vec![Cv([0; 32]); chunks.len()]);
        if let Some(place) = values.get_mut((chunk - chunks.start) as usize) {
            *place = value;
            self.valued.insert(chunk);
        }
    }

    /// The value that is claimed of a chunk.
    pub(super) fn value(&self, chunk: u32) -> Option<Cv> {
        if !self.valued.contains(chunk) {
            return None;
        }
        let page = self.geometry.page_of(chunk);
        let first = self.geometry.page_chunks(page).start;
        self.values.get(&page)?.get((chunk - first) as usize).copied()
    }

    /// A chunk is here. One of which no value is claimed was checked against the list.
    pub(super) fn store(&mut self, chunk: u32) {
        if self.valued.contains(chunk) {
            self.stored.insert(chunk);
        }
    }

    /// These chunks are here no longer.
    pub(super) fn lose(&mut self, chunks: &ChunkSet) {
        self.stored.subtract(chunks);
    }

    /// A chunk was proven or refuted, or is read against the list from now on.
    pub(super) fn forget(&mut self, chunk: u32) {
        self.stored.remove(chunk);
        if self.valued.remove(chunk) {
            let page = self.geometry.page_of(chunk);
            let chunks = self.geometry.page_chunks(page);
            if self.valued.next_from(chunks.start).is_none_or(|next| next >= chunks.end) {
                self.values.remove(&page);
            }
        }
    }

    /// The first chunk, from this one on, that is here and unproven.
    pub(super) fn next_from(&self, chunk: u32) -> Option<u32> {
        self.stored.next_from(chunk)
    }

    /// Those of these chunks that are here and unproven.
    pub(super) fn among(&self, chunks: Range<u32>) -> Vec<u32> {
        let mut found = Vec::new();
        let mut next = self.stored.next_from(chunks.start);
        while let Some(chunk) = next.filter(|chunk| *chunk < chunks.end) {
            found.push(chunk);
            next = self.stored.next_from(chunk + 1);
        }
        found
    }

    /// Whether everything that is here is proven.
    pub(super) fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PAGE_CHUNKS;

    #[test]
    fn values_are_kept_for_as_long_as_they_are_of_use() {
        let page = PAGE_CHUNKS as u32;
        let mut unproven = Unproven::new(Geometry::new((PAGE_CHUNKS + 3) << 18, 18).unwrap());
        unproven.store(2);
        assert!(unproven.is_empty(), "what no value is claimed of was checked against the list");
        for chunk in [2, page, page + 9] {
            unproven.claim(chunk, Cv([chunk as u8; 32]));
        }
        assert_eq!(unproven.value(2), Some(Cv([2; 32])));
        assert_eq!((unproven.value(3), unproven.value(page + 9)), (None, None));
        unproven.store(2);
        unproven.store(page);
        assert_eq!(unproven.among(0..page + 1), [2, page]);
        unproven.lose(&[page].into_iter().collect());
        assert_eq!((unproven.next_from(0), unproven.next_from(3)), (Some(2), None));
        unproven.forget(2);
        assert!(unproven.is_empty() && unproven.values.len() == 1);
        unproven.forget(page);
        assert!(unproven.values.is_empty());
    }
}
