//! What a transfer is offered together with, and what its owner said of all of that.

use p2p_protocol::{
    Answer, Batch, Geometry,
    control::{State, TransferEvent},
    reason::Failure,
};

use super::{Job, JobState, Word};

impl Job {
    /// What it is offered together with.
    pub(crate) fn batch(&self) -> Option<Batch> {
        self.lock().batch
    }

    /// It is offered together with this, from now on.
    pub(crate) fn offer_with(&self, batch: Option<Batch>) {
        self.lock().batch = batch;
    }

    /// A peer offers it under this name, together with this. A yes is to what was shown: what is called otherwise now, or is of another
    /// size, is another question.
    pub(crate) fn offered(&self, batch: Option<Batch>, name: String, geometry: Geometry) {
        let mut state = self.lock();
        state.batch = batch;
        if state.name == name && state.progress.total_bytes == geometry.size() {
            return;
        }
        state.name = name;
        state.progress.total_bytes = geometry.size();
        state.progress.chunks_total = geometry.chunks();
        drop(state);
        self.word.send_if_modified(|word| {
            let said = *word == Word::Yes;
            if said {
                *word = Word::Open;
            }
            said
        });
    }

    /// How much it is, before the two sides have agreed. It counts from now on for what comes along with it.
    pub(crate) fn measured(&self, geometry: Geometry) {
        let mut state = self.lock();
        if state.progress.total_bytes == 0 {
            state.progress.total_bytes = geometry.size();
            state.progress.chunks_total = geometry.chunks();
        }
    }

    /// What its owner said of all that it was offered together with.
    pub(crate) fn answer(&self) -> Option<Answer> {
        self.lock().answer
    }

    /// Takes its owner's word on all that it is offered together with, as that was when the word was given.
    pub(crate) fn answered(&self, answer: Answer) {
        self.lock().answer = Some(answer);
        if answer.yes {
            self.word.send_replace(Word::Yes);
        }
    }
}

impl JobState {
    /// What was refused with others is another offer when it is taken up again: the word that was said of them is no answer to that.
    pub(super) fn leave_refused_batch(&mut self) {
        let refused = matches!(self.last, Some(TransferEvent::Failed { failure: Failure::Refused, .. }));
        if refused && self.state == State::Failed {
            self.batch = None;
        }
    }
}
