//! The list of a source that is hashed while it is sent.
//!
//! Whoever reads a chunk puts the values of its groups here. Once all of them are, they name the content; until then
//! they are good for one thing: that a chunk which is read again, and is another now, is noticed.

use std::{
    io,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use p2p_protocol::{ChunkSet, Cv, FileId, Geometry};

use super::{
    Store,
    import::now_ns,
    list::{List, ListWriter},
};

/// Values as far as they are known.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) store: Store,
    groups: u64,
    writer: Option<ListWriter>,
    /// Groups that are hashed. Held while values are compared and written, so that none is written twice.
    done: Mutex<ChunkSet>,
    /// The time in nanoseconds since 1970 UTC before the first byte was read.
    pub(super) begun: i64,
}

impl Draft {
    /// Nothing is known yet.
    pub(super) fn new(store: Store, groups: u64) -> io::Result<Self> {
        let writer = Some(store.lists().begin(groups)?);
        Ok(Self { store, groups, writer, done: Mutex::default(), begun: now_ns() })
    }

    fn writer(&self) -> io::Result<&ListWriter> {
        // It is gone once finishing has failed.
        self.writer.as_ref().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Puts the values of these groups. False if one of them had another before.
    pub(super) fn put(&self, groups: Range<u64>, values: &[Cv]) -> io::Result<bool> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = self.writer()?;
        for (group, value) in groups.clone().zip(values) {
            if done.contains(group as u32) && writer.read(group..group + 1)? != [*value] {
                return Ok(false);
            }
        }
        writer.put(groups.start, values)?;
        for group in groups {
            done.insert(group as u32);
        }
        Ok(true)
    }

    /// The values of these groups, if all of them are known.
    pub(super) fn values(&self, groups: Range<u64>) -> io::Result<Option<Vec<Cv>>> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.clone().all(|group| done.contains(group as u32)) {
            return self.writer()?.read(groups).map(Some);
        }
        Ok(None)
    }

    /// The chunks of which every group is known.
    pub(super) fn chunks(&self, geometry: Geometry) -> ChunkSet {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let per_chunk = geometry.groups_of(0).count().max(1) as u32;
        let mut chunks = ChunkSet::new();
        for range in done.ranges() {
            let end = range.start + range.count;
            let whole = if u64::from(end) == self.groups { geometry.chunks() } else { end / per_chunk };
            for chunk in range.start.div_ceil(per_chunk)..whole {
                chunks.insert(chunk);
            }
        }
        chunks
    }

    /// The complete list, and what it names. `None` while a value is missing.
    pub(super) fn finish(&mut self) -> io::Result<Option<(FileId, List)>> {
        let done = self.done.get_mut().unwrap_or_else(PoisonError::into_inner);
        if u64::from(done.len()) != self.groups {
            return Ok(None);
        }
        match self.writer.take() {
            Some(writer) => writer.finish(self.groups),
            None => Ok(None),
        }
    }
}
