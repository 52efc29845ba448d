//! Chunks that come together with the offer that they belong to, before that was taken: the one chunk of a small file
//! may. They are left unread, within the budgets, until their conversation is ready for them; one that there is no room
//! for is stopped, and comes again when it is wanted.

use std::collections::HashMap;

use p2p_protocol::{
    limits::{MAX_BIDI_STREAMS, MAX_EARLY_CHUNKS, MAX_EARLY_LEN},
    wire::chunk::ChunkHeader,
};

/// Distance between the numbers of a peer's conversations: those of its bidirectional streams.
const STEP: u64 = 4;
const KIND: u64 = STEP - 1;
/// How far ahead of those that were seen a conversation's number can be: all that a peer may have open. What is ahead of that is
/// not honest; anything nearer has to be told as stopped, or its sender takes it for delivered.
const AHEAD: u64 = STEP * MAX_BIDI_STREAMS as u64;

/// What has come for the conversations of one connection that its peer opens, before they were ready for it.
#[derive(Debug)]
pub(super) struct Early<T> {
    /// The kind of stream, in the lowest bits of its number, of what the peer opens.
    kind: u64,
    /// The number of the first conversation that is not open yet.
    next: u64,
    conversations: HashMap<u64, Slot<T>>,
}

#[derive(Debug)]
enum Slot<T> {
    /// Nothing has come.
    Empty,
    /// This has.
    Held(T),
    /// Nothing has come, and nothing is to be held.
    Declined,
    /// Something had come, and was stopped, of which its sender need not learn: it may all have arrived before.
    Stopped,
    /// Something had, and was handed over; or the conversation is ready and nothing comes early any longer.
    Used,
}

/// What has become of an early chunk by the time that its conversation is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken<T> {
    /// None has come.
    Nothing,
    /// This one.
    Held(T),
    /// One has come and was stopped; its sender has to be told.
    Stopped,
}

/// What is to become of a chunk stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be held, if there is memory.
    Hold,
    /// It is honest, and there is no room.
    Stop,
    /// Nobody asked for it.
    Stray,
}

impl<T> Early<T> {
    /// `dialled` says whether this side opened the connection.
    pub(super) fn new(dialled: bool) -> Self {
        let kind = u64::from(dialled);
        Self { kind, next: kind, conversations: HashMap::new() }
    }

    /// The peer has opened a conversation.
    pub(super) fn open(&mut self, conversation: u64) {
        self.next = self.next.max(conversation + STEP);
        self.conversations.entry(conversation).or_insert(Slot::Empty);
    }

    /// A conversation has ended; what is held for it comes back.
    pub(super) fn close(&mut self, conversation: u64) -> Option<T> {
        match self.conversations.remove(&conversation) {
            Some(Slot::Held(held)) => Some(held),
            _ => None,
        }
    }

    /// A conversation is ready for what has come.
    pub(super) fn take(&mut self, conversation: u64) -> Taken<T> {
        let Some(slot) = self.conversations.get_mut(&conversation) else { return Taken::Nothing };
        match std::mem::replace(slot, Slot::Used) {
            Slot::Held(held) => Taken::Held(held),
            Slot::Stopped => Taken::Stopped,
            Slot::Empty | Slot::Declined | Slot::Used => Taken::Nothing,
        }
    }

    /// A conversation will not be ready for long, so that nothing is held for it; what is comes back, to be stopped.
    pub(super) fn decline(&mut self, conversation: u64) -> Option<T> {
        let slot = self.conversations.get_mut(&conversation)?;
        match std::mem::replace(slot, Slot::Declined) {
            Slot::Held(held) => {
                *slot = Slot::Stopped;
                Some(held)
            }
            Slot::Empty => None,
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Judges a chunk that no transfer waits for. One early chunk of a conversation is judged kindly, once.
    pub(super) fn judge(&mut self, header: &ChunkHeader) -> Verdict {
        let (number, ahead) = (header.transfer, self.next + AHEAD);
        let fits = header.index == 0 && u64::from(header.len) <= MAX_EARLY_LEN && number & KIND == self.kind;
        if !fits {
            return Verdict::Stray;
        }
        let slot = match self.conversations.get_mut(&number) {
            Some(slot) => slot,
            None if (self.next..ahead).contains(&number) => {
                self.conversations.entry(number).or_insert(Slot::Empty)
            }
            None => return Verdict::Stray,
        };
        match slot {
            Slot::Empty => *slot = Slot::Stopped,
            Slot::Declined => {
                *slot = Slot::Stopped;
                return Verdict::Stop;
            }
            _ => return Verdict::Stray,
        }
        let held = self.conversations.values().filter(|slot| matches!(slot, Slot::Held(_))).count();
        if held < MAX_EARLY_CHUNKS { Verdict::Hold } else { Verdict::Stop }
    }

    /// Holds what was judged to be held.
    pub(super) fn hold(&mut self, conversation: u64, chunk: T) {
        self.conversations.insert(conversation, Slot::Held(chunk));
    }

    /// After a while: what is held for a conversation that never came is given back.
    pub(super) fn expire(&mut self, conversation: u64) -> Option<T> {
        if conversation < self.next { None } else { self.close(conversation) }
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::wire::chunk::Encoding;

    use super::*;

    fn header(transfer: u64) -> ChunkHeader {
        ChunkHeader { transfer, index: 0, len: 5, encoding: Encoding::Raw, cv: None, proof: Vec::new() }
    }

    #[test]
    fn one_chunk_of_each_conversation_is_held() {
        let mut early = Early::new(false);
        early.open(0);
        for number in [0, 4] {
            assert_eq!(early.judge(&header(number)), Verdict::Hold);
            early.hold(number, number);
            assert_eq!(early.judge(&header(number)), Verdict::Stray, "a second one");
        }
        early.open(4);
        assert_eq!((early.take(0), early.take(0)), (Taken::Held(0), Taken::Nothing));
        assert_eq!(early.close(4), Some(4));
        assert_eq!(early.judge(&header(0)), Verdict::Stray, "it is ready, and this is not wanted");
        assert_eq!((early.close(0), early.judge(&header(0))), (None, Verdict::Stray), "it is over");
    }

    #[test]
    fn what_was_stopped_is_told_to_its_sender() {
        let mut early = Early::new(false);
        for number in [0, 4, 8] {
            early.open(number);
        }
        assert_eq!(early.judge(&header(0)), Verdict::Hold);
        early.hold(0, "chunk");
        assert_eq!((early.decline(0), early.take(0)), (Some("chunk"), Taken::Stopped));
        assert_eq!(early.decline(4), None);
        assert_eq!((early.judge(&header(4)), early.judge(&header(4))), (Verdict::Stop, Verdict::Stray));
        assert_eq!(early.take(4), Taken::Stopped);
        assert_eq!((early.decline(8), early.take(8)), (None, Taken::Nothing));
        assert_eq!(early.judge(&header(8)), Verdict::Stray, "it is ready");
        // Judged to be held, and there was no memory.
        assert_eq!((early.judge(&header(12)), early.take(12)), (Verdict::Hold, Taken::Stopped));
    }

    #[test]
    fn only_what_may_be_early_is() {
        let mut early = Early::<()>::new(true);
        for number in [0, 2, 3, 1 + AHEAD, u64::MAX - 2] {
            assert_eq!(early.judge(&header(number)), Verdict::Stray, "{number}");
        }
        for number in [1, 5] {
            early.open(number);
        }
        assert_eq!(early.judge(&ChunkHeader { index: 1, ..header(1) }), Verdict::Stray);
        let long = ChunkHeader { len: MAX_EARLY_LEN as u32 + 1, ..header(5) };
        assert_eq!(early.judge(&long), Verdict::Stray);
        assert_eq!(early.judge(&header(5)), Verdict::Hold);
        assert_eq!(early.conversations.len(), 2, "what is no early chunk leaves nothing");
    }

    #[test]
    fn every_conversation_that_may_be_open_is_told_what_was_stopped() {
        let mut early = Early::new(false);
        let numbers: Vec<u64> = (0..MAX_BIDI_STREAMS.into()).map(|n| n * STEP).collect();
        for number in numbers.iter().rev() {
            if early.judge(&header(*number)) == Verdict::Hold {
                early.hold(*number, ());
            }
        }
        for number in numbers {
            early.open(number);
            assert!(matches!(early.take(number), Taken::Held(()) | Taken::Stopped), "{number}");
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_stopped_and_no_fault() {
        let mut early = Early::new(false);
        let numbers = (0..).map(|n| n * STEP);
        for number in numbers.clone().take(MAX_EARLY_CHUNKS) {
            assert_eq!(early.judge(&header(number)), Verdict::Hold);
            early.hold(number, ());
        }
        let next = MAX_EARLY_CHUNKS as u64 * STEP;
        assert_eq!((early.judge(&header(next)), early.judge(&header(next))), (Verdict::Stop, Verdict::Stray));
        early.open(0);
        assert_eq!(
            (early.expire(0), early.expire(STEP)),
            (None, Some(())),
            "only what nobody opened expires"
        );
        assert_eq!(early.judge(&header(next + STEP)), Verdict::Hold);
    }
}
