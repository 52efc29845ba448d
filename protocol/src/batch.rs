//! Several things that a provider offers together: what each of them says of the others, and what an owner's word on them covers.
//!
//! Each is a transfer of its own. A provider can say of them what it likes, so a word holds for no more than what was said when
//! it was given.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{ANSWER_LIFE, MAX_BATCH};

/// Stands for things that are offered together. It is random, and means something only together with the provider's Peer ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchId(pub [u8; 16]);

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One of several things that are offered together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Which batch.
    pub id: BatchId,
    /// Which of them, in the order that the provider's owner gave them; from 0 on.
    pub position: u32,
    /// How many there are.
    pub count: u32,
    /// Bytes of all of them, where that was known before they were looked into.
    pub total_bytes: Option<u64>,
}

impl Batch {
    /// Whether there can be such a thing.
    pub fn is_possible(&self) -> bool {
        (2..=MAX_BATCH).contains(&self.count) && self.position < self.count
    }

    /// Whether both can be true of one batch.
    pub fn goes_with(&self, other: &Self) -> bool {
        self.id == other.id
            && self.position != other.position
            && (self.count, self.total_bytes) == (other.count, other.total_bytes)
    }
}

/// What is offered along with something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Along {
    /// Bytes of what is here of it, or on its way.
    pub here: u64,
    /// Bytes of all of it, where the provider says.
    pub total: Option<u64>,
}

impl Along {
    /// The least that something and all that is offered along with it come to.
    pub fn whole(&self, size: u64) -> u64 {
        size.saturating_add(self.here).max(self.total.unwrap_or(0))
    }

    /// The same without what is here already, or on its way.
    pub fn rest(&self, size: u64) -> u64 {
        self.whole(size).saturating_sub(self.here)
    }
}

/// What an owner said of things that are offered together, and what it was told of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What was offered.
    pub batch: Batch,
    /// Whether it was a yes.
    pub yes: bool,
    /// When, in milliseconds since 1970 UTC.
    pub at_ms: u64,
}

impl Answer {
    /// Whether it answers an offer too that comes with this; `bytes` is what it and the others come to that are here. More than
    /// the owner was told of is another question.
    pub fn covers(&self, batch: &Batch, bytes: u64, now_ms: u64) -> bool {
        let age = now_ms.saturating_sub(self.at_ms);
        let told = Batch { position: batch.position, ..self.batch };
        let fits = !self.yes || self.batch.total_bytes.is_none_or(|total| bytes <= total);
        told == *batch && fits && u128::from(age) < ANSWER_LIFE.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Batch = Batch { id: BatchId([1; 16]), position: 0, count: 3, total_bytes: Some(10) };

    #[test]
    fn a_batch_has_a_few_members_and_each_its_place() {
        let possible = |position, count| Batch { position, count, ..BATCH }.is_possible();
        assert!(possible(0, 2) && possible(MAX_BATCH - 1, MAX_BATCH));
        assert!(!possible(0, 0) && !possible(0, 1) && !possible(3, 3) && !possible(0, MAX_BATCH + 1));
        assert!(!possible(u32::MAX, u32::MAX));
        assert_eq!(BATCH.id.to_string(), "01".repeat(16));
    }

    #[test]
    fn what_contradicts_itself_does_not_go_together() {
        let second = Batch { position: 1, ..BATCH };
        assert!(BATCH.goes_with(&second));
        assert!(!BATCH.goes_with(&BATCH), "a place is taken once");
        assert!(!BATCH.goes_with(&Batch { count: 4, ..second }));
        assert!(!BATCH.goes_with(&Batch { total_bytes: None, ..second }));
        assert!(!BATCH.goes_with(&Batch { id: BatchId([2; 16]), ..second }));
    }

    #[test]
    fn a_word_holds_for_what_the_owner_was_told_and_for_a_while() {
        let yes = Answer { batch: BATCH, yes: true, at_ms: 1000 };
        let second = Batch { position: 1, ..BATCH };
        assert!(yes.covers(&second, 10, 2000));
        assert!(!yes.covers(&second, 11, 2000), "more than was said");
        assert!(!yes.covers(&Batch { count: 4, ..second }, 10, 2000));
        assert!(!yes.covers(&Batch { total_bytes: Some(20), ..second }, 10, 2000));
        assert!(!yes.covers(&second, 10, 1000 + ANSWER_LIFE.as_millis() as u64));
        let no = Answer { yes: false, ..yes };
        assert!(no.covers(&second, 11, 2000), "more of what is not wanted is not wanted either");
        let open = Answer { batch: Batch { total_bytes: None, ..BATCH }, ..yes };
        assert!(open.covers(&Batch { total_bytes: None, ..second }, u64::MAX, 2000));
    }
}
