//! What happened to a transfer and is not in the catalog yet. It goes there together with the transfer, and so costs no sync.

use p2p_protocol::control::{Happening, LogEntry};

use super::{Job, JobState, now_ms};

/// Entries that wait; beyond these the oldest go.
const MOST: usize = 64;
/// Tries that are noted one by one; after that each of twice as many.
const TRIES_NOTED: u32 = 8;

impl Job {
    /// Notes down what happened.
    pub(crate) fn happened(&self, what: Happening) {
        self.note(&mut self.lock(), what, |_| {});
    }

    /// The same, of a state that is held, with what else there is to say.
    pub(super) fn note(&self, state: &mut JobState, what: Happening, more: impl FnOnce(&mut LogEntry)) {
        let mut entry = LogEntry {
            transfer: Some(self.number),
            direction: Some(self.spec.direction()),
            name: state.name.clone(),
            peer: state.peer,
            target: state.target.clone(),
            ..LogEntry::new(now_ms(), what)
        };
        more(&mut entry);
        if state.history.len() >= MOST {
            state.history.remove(0);
        }
        state.history.push(entry);
    }

    /// It is tried again, for this reason.
    pub(super) fn note_retry(&self, state: &mut JobState, attempt: u32, reason: &str) {
        if attempt <= TRIES_NOTED || attempt.is_power_of_two() {
            self.note(state, Happening::Retrying, |entry| {
                entry.attempt = Some(attempt);
                entry.detail = Some(reason.to_owned());
            });
        }
    }

    /// What was not taken yet.
    pub(crate) fn take_history(&self) -> Vec<LogEntry> {
        std::mem::take(&mut self.lock().history)
    }
}
