//! Several things that are offered together: how this daemon's owner sends them, and how those of a peer are seen as one.

use std::{fs::Metadata, path::PathBuf, sync::Arc};

use p2p_protocol::{
    Along, Answer, Batch, BatchId, PeerId, control::SendRequest, limits::MAX_BATCH, wire::peer::Offer,
};

use super::{
    Begun, Registry, RunError, Sessions, blocking,
    job::{Job, now_ms},
    registry::brings_other,
    run::path_of,
};

impl Sessions {
    /// Sends several files and folders to one target, as one offer. Where one of them cannot be begun, those before it are.
    pub(crate) async fn send_each(
        self: &Arc<Self>,
        sends: Vec<SendRequest>,
    ) -> (Vec<Begun>, Result<(), RunError>) {
        // What is wrong with one is found out before any is begun.
        if let Err(error) = sends.iter().try_for_each(|send| self.check(send)) {
            return (Vec::new(), Err(error));
        }
        // A folder's size is known once it has been walked through, which is what its transfer does.
        let paths: Vec<_> = sends.iter().map(|send| path_of(&send.path)).collect();
        let size = |path: &PathBuf| path.metadata().ok().filter(Metadata::is_file).map(|found| found.len());
        let sizes = blocking(&self.workers, move || paths.iter().map(size).collect::<Vec<_>>()).await;
        // From here on nothing is waited for, so that no client that goes away leaves half of it undone.
        let mut sizes = sizes.unwrap_or_default().into_iter();
        let (mut all, mut made, mut result) = (Vec::new(), Vec::new(), Ok(()));
        for send in sends {
            let size = sizes.next().flatten();
            match self.make(send) {
                Ok((job, is_new)) => {
                    made.extend(is_new.then(|| (job.clone(), size)));
                    all.push(job);
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        for together in made.chunks(MAX_BATCH as usize) {
            let total_bytes = together.iter().try_fold(0_u64, |sum, (_, size)| sum.checked_add((*size)?));
            self.offer_together(together.iter().map(|(job, _)| job), total_bytes);
        }
        let begun = all.iter().map(|job| Begun::of(job)).collect();
        // They ask for their places in the order in which they were typed.
        made.into_iter().for_each(|(job, _)| self.spawn_in_order(job));
        (begun, result)
    }

    /// Says of transfers that they belong together. One alone is an offer like any other.
    pub(super) fn offer_together<'a>(
        &self,
        jobs: impl ExactSizeIterator<Item = &'a Arc<Job>>,
        total_bytes: Option<u64>,
    ) {
        let Some(count) = u32::try_from(jobs.len()).ok().filter(|count| *count > 1) else { return };
        let id = BatchId(rand::random());
        for (position, job) in (0..).zip(jobs) {
            job.offer_with(Some(Batch { id, position, count, total_bytes }));
            self.registry.save(job);
        }
    }
}

/// What is here of a batch.
#[derive(Default)]
struct Together {
    /// Bytes of what came before, or is on its way.
    here: u64,
    /// What its owner said of all of it.
    answer: Option<Answer>,
}

impl Sessions {
    /// What an offer comes along with. One that contradicts what came before of its batch stands for itself.
    pub(super) fn along(&self, peer: &PeerId, offer: &Offer, batch: Option<Batch>) -> (Option<Batch>, Along) {
        let Some(batch) = batch else { return (None, Along::default()) };
        match self.registry.gather(&batch, |job| brings_other(job, peer, offer)) {
            Some(Together { here, .. }) => (Some(batch), Along { here, total: batch.total_bytes }),
            None => {
                tracing::warn!(%peer, batch = %batch.id, "an offer contradicts what it was offered together with");
                (None, Along::default())
            }
        }
    }
}

impl Registry {
    /// The word that its owner has said already on all that a transfer is offered together with, and that covers it.
    pub(super) fn answer_to(&self, job: &Job) -> Option<Answer> {
        let batch = job.batch()?;
        let peer = job.peer();
        // What was in the same place was an earlier try of the same.
        let another = |other: &Job| other.batch().is_some_and(|other| other.position != batch.position);
        let together = self.gather(&batch, |other| another(other) && other.peer() == peer)?;
        let bytes = together.here.saturating_add(job.total_bytes());
        together.answer.filter(|answer| answer.covers(&batch, bytes, now_ms()))
    }

    fn gather(&self, batch: &Batch, is_other: impl Fn(&Job) -> bool) -> Option<Together> {
        let mut together = Together::default();
        for job in self.all() {
            let Some(other) = job.batch().filter(|other| other.id == batch.id) else { continue };
            if !is_other(&job) {
                continue;
            }
            if !other.goes_with(batch) {
                return None;
            }
            together.here = together.here.saturating_add(job.total_bytes());
            together.answer = together.answer.or(job.answer());
        }
        Some(together)
    }

    /// What the same peer has offered together with a transfer, and what waits for its owner's word.
    pub(super) fn asked_with(&self, job: &Job) -> Vec<Arc<Job>> {
        let (Some(batch), peer) = (job.batch(), job.peer()) else { return Vec::new() };
        let mut others = self.all();
        others.retain(|other| {
            let same = other.batch().is_some_and(|other| other.id == batch.id) && other.peer() == peer;
            same && other.number() != job.number() && other.asks()
        });
        others
    }
}
