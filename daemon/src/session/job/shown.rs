//! A folder that is received: where it appears file by file, what of it stays when it is given up, and what is worth a word.

use std::path::Path;

use p2p_protocol::control::State;

use super::Job;
use crate::store::Remark;

impl Job {
    /// What is received appears there file by file.
    pub(crate) fn shows(&self, path: &Path) {
        let mut state = self.lock();
        state.is_shown = true;
        state.path = Some(path.display().to_string());
    }

    /// Where what had arrived whole stays of a transfer that was given up.
    pub(crate) fn left(&self) -> Option<String> {
        let state = self.lock();
        state.path.clone().filter(|_| state.is_shown && state.state == State::Cancelled)
    }

    /// What it leaves here, now that it is given up.
    pub(crate) fn leaves(&self, path: Option<&Path>) {
        let mut state = self.lock();
        if state.is_shown {
            state.path = path.map(|path| path.display().to_string());
        }
    }

    /// Something about the folder is worth a word.
    pub(crate) fn remark(&self, remark: Remark) {
        tracing::warn!(transfer = self.number, ?remark, "about the folder");
        self.lock().tell(&remark.event(self.number));
    }
}
