//! What a transfer's owner says of a peer's offer, where it is asked.

use p2p_protocol::{Answer, Geometry, control::WaitReason};

use super::{Job, now_ms};

/// An owner's word on an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// None yet.
    Open,
    Yes,
    No,
}

impl Word {
    /// The same, of all that was offered together.
    pub(crate) fn of(answer: &Answer) -> Self {
        if answer.yes { Self::Yes } else { Self::No }
    }
}

impl Job {
    /// Its owner is asked. What is offered shows in its numbers.
    pub(crate) fn ask_owner(&self, geometry: Geometry) {
        {
            let mut state = self.lock();
            state.asks = true;
            state.chunk_len = geometry.chunk_len();
            state.progress.total_bytes = geometry.size();
            state.progress.chunks_total = geometry.chunks();
        }
        self.wait(WaitReason::Accept);
    }

    /// What its owner said.
    pub(crate) fn word(&self) -> Word {
        *self.word.borrow()
    }

    /// Whether its owner has to say something.
    pub(crate) fn asks(&self) -> bool {
        self.lock().asks
    }

    /// Waits for that. Cancel-safe.
    pub(crate) async fn owner_says(&self) -> Word {
        let mut word = self.word.subscribe();
        // The sender is this job's own, so that there will be a word or nobody waits.
        word.wait_for(|word| *word != Word::Open).await.map_or(Word::Open, |word| *word)
    }

    /// When its owner said no, where the sender may not know yet.
    pub(crate) fn untold_ms(&self) -> Option<u64> {
        self.lock().untold_ms
    }

    /// The same, but where the sender hears it on this connection.
    pub(crate) fn untold_on(&self, connection: u64) -> Option<u64> {
        let state = self.lock();
        state.untold_ms.filter(|_| state.telling_on != Some(connection))
    }

    /// The sender hears it on this connection, or loses that.
    pub(crate) fn telling_on(&self, connection: u64) {
        self.lock().telling_on = Some(connection);
    }

    /// The sender knows that its owner said no.
    pub(crate) fn told(&self) {
        self.lock().untold_ms = None;
    }

    /// Takes its owner's word; false if nobody asked for it.
    pub(crate) fn decide(&self, word: Word) -> bool {
        let mut state = self.lock();
        if state.is_over() || !state.asks {
            return false;
        }
        state.asks = false;
        state.untold_ms = (word == Word::No).then(now_ms);
        if state.waiting == Some(WaitReason::Accept) {
            state.waiting = Some(WaitReason::Peer);
        }
        drop(state);
        self.word.send_replace(word);
        true
    }
}
