//! A transfer's numbers, when they were written down, and how much of it crossed the network, over restarts.

use std::time::Duration;

use p2p_protocol::control::Progress;
use tokio::time::Instant;

use super::{Job, JobState};

impl JobState {
    /// A run begins, with so many bytes verified.
    pub(super) fn count_on(&mut self, verified: u64) {
        if self.had_bytes.is_none() {
            self.had_bytes = Some(verified);
            // It is written down with the next numbers.
            self.saved = None;
        }
        self.moved_before = self.progress.moved_bytes;
    }

    /// What has moved in all, with what a run says of itself. After a restart what was counted last may be a moment old, where the
    /// daemon was killed; that the receiver has more than at first says that at least that much came. (Else it may be another
    /// transfer that brought it.)
    pub(super) fn moved(&self, run: &Progress) -> u64 {
        let counted = self.moved_before + run.moved_bytes;
        match self.had_bytes {
            Some(had) if self.is_restored => counted.max(run.verified_bytes.saturating_sub(had)),
            _ => counted,
        }
    }
}

impl Job {
    /// Bytes that the receiver has verified.
    pub(crate) fn verified_bytes(&self) -> u64 {
        self.lock().progress.verified_bytes
    }

    /// Bytes of a chunk, once known.
    pub(crate) fn chunk_len(&self) -> u64 {
        self.lock().chunk_len
    }

    /// Bytes of the whole, once known.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.lock().progress.total_bytes
    }

    /// Bytes that the receiver had when it first began.
    pub(crate) fn had_bytes(&self) -> Option<u64> {
        self.lock().had_bytes
    }

    /// Whether the catalog's copy is older than `interval`; if so, it counts as renewed now.
    pub(crate) fn save_is_due(&self, interval: Duration) -> bool {
        let mut state = self.lock();
        let due = state.saved.is_none_or(|at| at.elapsed() >= interval);
        if due {
            state.saved = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use p2p_protocol::PeerId;

    use super::{
        super::{Wish, Word},
        *,
    };
    use crate::session::spec::Spec;

    fn begin(job: &Job, verified_bytes: u64) {
        let progress = Progress { total_bytes: 100, chunks_total: 10, verified_bytes, ..Progress::default() };
        job.start("a", PeerId([1; 32]), None, 10, progress);
    }

    fn show(job: &Job, verified_bytes: u64, moved_bytes: u64) {
        job.progress(Progress { verified_bytes, moved_bytes, ..Progress::default() }, Vec::new());
    }

    /// What the catalog knows of a job, after the daemon was killed.
    fn killed(job: &Job) -> Arc<Job> {
        let last = (job.last_event(), job.chunk_len(), job.had_bytes());
        Job::restored(job.spec().clone(), job.summary(), last, (Word::Open, None, None), Wish::default())
    }

    #[test]
    fn what_came_after_the_last_look_is_counted_too() {
        let spec = Spec::Serve { peer: PeerId([1; 32]), file_id: p2p_protocol::FileId([2; 32]) };
        let job = Job::new(1, spec, "a".into(), String::new());
        let moved = |job: &Job| job.summary().progress.moved_bytes;
        begin(&job, 20);
        show(&job, 30, 15);
        assert_eq!(moved(&job), 15, "another transfer may have brought it");
        let after = killed(&job);
        // What is there has to be hashed again before it counts.
        begin(&after, 0);
        assert_eq!(moved(&after), 15);
        show(&after, 60, 0);
        assert_eq!(moved(&after), 40, "it had 20 and has 60");
        show(&after, 100, 40);
        assert_eq!(moved(&after), 80);
        // What moved in vain counts as well.
        show(&after, 100, 90);
        assert_eq!(moved(&after), 105);
    }
}
