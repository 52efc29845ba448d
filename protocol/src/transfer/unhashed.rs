//! What a provider has still to hash before it can name the File ID.

use std::collections::BTreeSet;

use super::Now;
use crate::{
    ChunkSet,
    limits::{HASHES_AT_ONCE, HASHING_WORD},
};

/// The chunks that are not hashed yet. A chunk that is sent is hashed on the way; what the receiver has already is
/// hashed when there is nothing to send.
#[derive(Clone, Debug)]
pub(super) struct Unhashed {
    left: ChunkSet,
    /// Those of them that the receiver has, as far as it said.
    there: ChunkSet,
    /// Those that are being hashed without being sent.
    busy: BTreeSet<u32>,
    /// Whether the receiver has said what it wants first: before that, nothing to send means nothing.
    asked: bool,
    finishing: bool,
    said: (Now, u32),
}

impl Unhashed {
    pub(super) fn new(hashed: &ChunkSet, have: &ChunkSet, chunks: u32, now: Now) -> Self {
        let left = hashed.missing(chunks);
        let mut there = have.clone();
        there.subtract(hashed);
        let said = (now, left.len());
        Self { left, there, busy: BTreeSet::new(), asked: false, finishing: false, said }
    }

    /// The receiver has said what it wants.
    pub(super) fn asked(&mut self) {
        self.asked = true;
    }

    /// A chunk is to be sent, and so hashed on the way.
    pub(super) fn wanted(&mut self, chunk: u32) {
        self.there.remove(chunk);
    }

    /// A chunk was hashed.
    pub(super) fn hashed(&mut self, chunk: u32) {
        self.left.remove(chunk);
        self.there.remove(chunk);
        self.busy.remove(&chunk);
    }

    /// The next chunk to hash without sending it, while no chunk waits to be sent. While none is on its way either,
    /// `idle`, that may be one of which the receiver has not said that it is there: it is not wanted.
    pub(super) fn next(&mut self, idle: bool) -> Option<u32> {
        if !self.asked || self.busy.len() >= HASHES_AT_ONCE {
            return None;
        }
        let chunk = match self.there.first() {
            Some(chunk) => chunk,
            None if idle => self.left.iter().find(|chunk| !self.busy.contains(chunk))?,
            None => return None,
        };
        self.there.remove(chunk);
        self.busy.insert(chunk);
        Some(chunk)
    }

    /// Whether everything is hashed; true once.
    pub(super) fn finish(&mut self) -> bool {
        self.left.is_empty() && self.busy.is_empty() && !std::mem::replace(&mut self.finishing, true)
    }

    /// What to say to a receiver that hears nothing else, if it is time.
    pub(super) fn word(&mut self, now: Now) -> Option<u32> {
        let (at, before) = self.said;
        let left = self.left.len();
        if self.busy.is_empty() || left >= before || now.saturating_sub(at) < HASHING_WORD {
            return None;
        }
        self.said = (now, left);
        Some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_hashed_first_and_the_rest_only_when_idle() {
        let set = |chunks: &[u32]| chunks.iter().copied().collect::<ChunkSet>();
        let mut unhashed = Unhashed::new(&set(&[0]), &set(&[0, 5]), 8, Now::ZERO);
        assert_eq!(unhashed.next(true), None, "the receiver has not said what it wants");
        unhashed.asked();
        unhashed.wanted(1);
        assert_eq!((unhashed.next(false), unhashed.next(false)), (Some(5), None));
        let more: Vec<u32> = std::iter::from_fn(|| unhashed.next(true)).collect();
        assert_eq!(more, [1, 2, 3]);
        assert_eq!(unhashed.word(HASHING_WORD), None, "nothing new");
        [1, 2, 3].into_iter().for_each(|chunk| unhashed.hashed(chunk));
        assert_eq!(unhashed.word(HASHING_WORD / 2), None);
        assert_eq!((unhashed.word(HASHING_WORD), unhashed.word(HASHING_WORD * 3)), (Some(4), None));
        for chunk in [4, 5, 6, 7] {
            assert!(!unhashed.finish());
            unhashed.hashed(chunk);
        }
        assert!(unhashed.finish() && !unhashed.finish());
    }
}
