//! Where what is received appears file by file, and what of it stays when it is given up.

use std::path::Path;

use p2p_protocol::control::State;

use super::Job;

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
}
