//! All transfers of this daemon: the live ones in memory, and every one in the catalog.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use p2p_protocol::{
    Answer, PeerId,
    control::{Direction, Happening, LogEntry, LogRequest, State, Summary, TransferEvent},
    limits::{ANSWER_LIFE, MAX_INCOMING_PER_PEER, MAX_JOBS, MAX_JOBS_PER_PEER, MAX_SERVED_PER_PEER},
    reason::Failure,
    wire::peer::Offer,
};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{broadcast, mpsc},
};

use super::{
    error::RunError,
    job::{Job, Wish, Word, now_ms},
    spec::Spec,
};
use crate::store::{JobRow, LogRow, Store};

/// Ended transfers kept in memory for `list` and `show`; the catalog keeps more.
const ENDED_IN_MEMORY: usize = 1000;
/// How often a running transfer's numbers go to the catalog.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// What the catalog keeps of a transfer besides what it is about.
#[derive(Serialize, Deserialize)]
struct Saved {
    summary: Summary,
    /// How it ended.
    last: Option<TransferEvent>,
    /// Whether its owner said yes to it.
    #[serde(default)]
    accepted: bool,
    /// What its owner said of all that it was offered together with.
    #[serde(default)]
    answer: Option<Answer>,
    /// When its owner said no, as long as the sender was not told.
    #[serde(default)]
    untold_ms: Option<u64>,
    /// What its owner wishes.
    #[serde(default)]
    wish: Wish,
    /// Bytes of a chunk, once known.
    #[serde(default)]
    chunk_len: u64,
    /// Bytes that the receiver had when it first began.
    #[serde(default)]
    had_bytes: Option<u64>,
}

/// The transfers.
#[derive(Debug)]
pub(crate) struct Registry {
    store: Store,
    jobs: Mutex<BTreeMap<u64, Arc<Job>>>,
    /// Numbers of transfers as they are made, for those who watch all.
    made: broadcast::Sender<u64>,
    /// Most unfinished ones.
    places: usize,
    /// Most of them that one peer has begun.
    places_of_peer: usize,
    /// How many ended transfers are kept in memory.
    ended: usize,
}

impl Registry {
    /// Reads the catalog.
    pub(crate) fn load(store: Store) -> Result<Self, RunError> {
        Self::with_places(store, MAX_JOBS, MAX_JOBS_PER_PEER, ENDED_IN_MEMORY)
    }

    fn with_places(
        store: Store,
        places: usize,
        places_of_peer: usize,
        ended: usize,
    ) -> Result<Self, RunError> {
        let mut jobs = BTreeMap::new();
        for row in store.catalog().jobs()? {
            let parsed =
                (serde_json::from_str::<Spec>(&row.spec), serde_json::from_str::<Saved>(&row.summary));
            match parsed {
                (
                    Ok(spec),
                    Ok(Saved { summary, last, accepted, answer, untold_ms, wish, chunk_len, had_bytes }),
                ) => {
                    let summary = Summary { transfer: row.number, ..summary };
                    let word = if accepted { Word::Yes } else { Word::Open };
                    jobs.insert(
                        row.number,
                        Job::restored(
                            spec,
                            summary,
                            (last, chunk_len, had_bytes),
                            (word, answer, untold_ms),
                            wish,
                        ),
                    );
                }
                // Written by another version: history, not data, so leaving it out loses nothing.
                _ => tracing::warn!(
                    transfer = row.number,
                    "a transfer in the catalog is not readable, left out"
                ),
            }
        }
        let registry = Self {
            store,
            jobs: Mutex::new(jobs),
            made: broadcast::Sender::new(1024),
            places,
            places_of_peer,
            ended,
        };
        registry.prune();
        Ok(registry)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transfer that this request, made once more, is for, or an unfinished one that does the same work, or else a new one, and
    /// whether it is new.
    pub(crate) fn find_or_make(
        &self,
        spec: Spec,
        name: String,
        target: String,
    ) -> Result<(Arc<Job>, bool), RunError> {
        let mut jobs = self.lock();
        let is_it =
            |job: &&Arc<Job>| job.spec().same_request(&spec) || !job.is_over() && job.spec().same_work(&spec);
        if let Some(job) = jobs.values().find(is_it) {
            return Ok((job.clone(), false));
        }
        if jobs.values().filter(|job| !job.is_over()).count() >= self.places {
            return Err(RunError::new(
                Failure::Conflict,
                format!("there are {} unfinished transfers already; cancel some, or wait", self.places),
            ));
        }
        if let Some((peer, way)) = spec.begun_by() {
            let its = |job: &&Arc<Job>| !job.is_over() && job.spec().begun_by() == Some((peer, way));
            // What it fetches is over when it goes, so that there are only those that run.
            let most = if way == Direction::Serve { MAX_SERVED_PER_PEER } else { self.places_of_peer };
            if jobs.values().filter(its).count() >= most {
                tracing::warn!(%peer, most, "a peer has begun too much that is not done, and is told to wait");
                return Err(RunError::new(
                    Failure::Conflict,
                    format!("{peer} has begun {most} transfers that are not done"),
                ));
            }
        }
        // The row is made first, with what little is known, to get a number that is never used again.
        let draft = Job::new(0, spec.clone(), name.clone(), target.clone());
        let draft = row(&draft)?;
        let number = may_block(|| self.store.catalog().insert_job(&draft))?;
        let job = Job::new(number, spec, name, target);
        job.happened(Happening::Queued);
        jobs.insert(number, job.clone());
        drop(jobs);
        self.save(&job);
        let _ = self.made.send(number);
        Ok((job, true))
    }

    /// Whether an unfinished transfer does this work.
    pub(crate) fn has_unfinished(&self, spec: &Spec) -> bool {
        self.lock().values().any(|job| !job.is_over() && job.spec().same_work(spec))
    }

    /// Transfers of this peer that run here now, but for that of the content offered, which would go on.
    pub(crate) fn room_for(&self, peer: &PeerId, offer: &Offer) -> (usize, usize) {
        let runs = |job: &&Arc<Job>| brings_other(job, peer, offer) && job.running.try_lock().is_err();
        (self.lock().values().filter(runs).count(), MAX_INCOMING_PER_PEER)
    }

    /// Bytes of what a peer sends here and that is not complete yet, but for the content offered.
    pub(crate) fn coming_from(&self, peer: &PeerId, offer: &Offer) -> u64 {
        let jobs = self.lock();
        let coming = jobs.values().filter(|job| brings_other(job, peer, offer) && !job.is_over());
        coming.map(|job| job.total_bytes()).fold(0, u64::saturating_add)
    }

    /// Transfers of what a peer offers to which their owner said no, and of which it heard nothing before this connection.
    pub(super) fn untold(&self, peer: &PeerId, offer: &Offer, connection: u64) -> Vec<Arc<Job>> {
        let now_ms = now_ms();
        let lately = |at_ms: u64| u128::from(now_ms.saturating_sub(at_ms)) < ANSWER_LIFE.as_millis();
        let mut jobs = self.all();
        jobs.retain(|job| {
            job.is_over()
                && job.untold_on(connection).is_some_and(lately)
                && brings(job, peer, offer) == Some(true)
        });
        jobs
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Job>> {
        self.lock().get(&number).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Job>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn unfinished(&self) -> usize {
        self.lock().values().filter(|job| !job.is_over()).count()
    }

    /// Writes a transfer to the catalog. A failure is logged: the catalog is a cache.
    pub(crate) fn save(&self, job: &Job) {
        let history: Vec<LogRow> = job.take_history().iter().filter_map(log_row).collect();
        let saved =
            row(job).and_then(|row| Ok(may_block(|| self.store.catalog().update_job(&row, &history))?));
        if let Err(error) = saved {
            tracing::warn!(transfer = job.number(), %error, "the catalog did not take a transfer's state");
        }
        if job.is_over() {
            self.prune();
        }
    }

    /// Writes a running transfer to the catalog, if that was not done lately.
    pub(crate) fn save_if_due(&self, job: &Job) {
        if job.save_is_due(SAVE_INTERVAL) {
            self.save(job);
        }
    }

    /// Notes down what happened to a peer.
    pub(crate) fn note(&self, entry: &LogEntry) {
        let rows: Vec<LogRow> = log_row(entry).into_iter().collect();
        if let Err(error) = may_block(|| self.store.catalog().note(&rows)) {
            tracing::warn!(%error, "the catalog did not take what happened");
        }
    }

    /// What happened. What another version wrote and this one cannot read is left out.
    pub(crate) fn log(&self, request: LogRequest) -> Result<Vec<LogEntry>, RunError> {
        let LogRequest { transfer, since_ms, entries } = request;
        let found = may_block(|| self.store.catalog().log(transfer, since_ms, entries))?;
        Ok(found.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    /// Drops the oldest ended transfers from memory, those that failed last: what they keep on the disk can be taken up again or
    /// removed as long as they are known. It looks at all of them, and so not every time.
    fn prune(&self) {
        let mut jobs = self.lock();
        if jobs.len() < self.ended {
            return;
        }
        let over = jobs.iter().filter(|(_, job)| job.is_over());
        let mut ended: Vec<_> = over.map(|(number, job)| (job.state() == State::Failed, *number)).collect();
        ended.sort_unstable();
        for (_, number) in ended.iter().take(ended.len().saturating_sub(self.ended)) {
            jobs.remove(number);
        }
    }

    /// The events of every transfer from now on, the unfinished ones' state first.
    pub(crate) fn watch_all(self: &Arc<Self>) -> mpsc::Receiver<TransferEvent> {
        let (sender, receiver) = mpsc::channel(1024);
        let mut made = self.made.subscribe();
        for job in self.all().into_iter().filter(|job| !job.is_over()) {
            tokio::spawn(forward(job.watch(), sender.clone()));
        }
        let registry = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let number = tokio::select! {
                    () = sender.closed() => break,
                    number = made.recv() => number,
                };
                match number {
                    Ok(number) => {
                        let Some(registry) = registry.upgrade() else { break };
                        if let Some(job) = registry.get(number) {
                            tokio::spawn(forward(job.watch(), sender.clone()));
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => break,
                }
            }
        });
        receiver
    }
}

/// Waits for the catalog's disk without holding up what else this thread would do.
fn may_block<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Passes events on until they end, or nobody takes them.
pub(crate) async fn forward(mut events: mpsc::Receiver<TransferEvent>, to: mpsc::Sender<TransferEvent>) {
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = to.closed() => break,
        };
        let Some(event) = event else { break };
        if to.send(event).await.is_err() {
            break;
        }
    }
}

/// Whether a peer sends something here in this transfer, and not the content that it offers now.
pub(super) fn brings_other(job: &Job, peer: &PeerId, offer: &Offer) -> bool {
    brings(job, peer, offer) == Some(false)
}

/// Whether this transfer is of the content that a peer offers now, where it is one of what that peer sends here.
fn brings(job: &Job, peer: &PeerId, offer: &Offer) -> Option<bool> {
    match job.spec() {
        Spec::Receive { peer: from, file_id } => (from == peer).then(|| Some(*file_id) == offer.file_id),
        Spec::ReceiveUnsealed { peer: from, key } => (from == peer).then(|| Some(*key) == offer.resume_key),
        Spec::Send { .. } | Spec::Fetch { .. } | Spec::Serve { .. } => None,
    }
}

fn log_row(entry: &LogEntry) -> Option<LogRow> {
    let text = serde_json::to_string(entry).ok()?;
    Some(LogRow { at_ms: entry.at_ms, transfer: entry.transfer, entry: text })
}

fn row(job: &Job) -> Result<JobRow, RunError> {
    let summary = job.summary();
    let text = |result: Result<String, serde_json::Error>| {
        result.map_err(|error| {
            RunError::new(Failure::Other, format!("a transfer cannot be written down: {error}"))
        })
    };
    let (last, accepted) = (job.last_event(), job.word() == Word::Yes);
    let (answer, untold_ms) = (job.answer(), job.untold_ms());
    let (wish, chunk_len, had_bytes) = (job.wish(), job.chunk_len(), job.had_bytes());
    let saved = Saved { summary, last, accepted, answer, untold_ms, wish, chunk_len, had_bytes };
    let summary = &saved.summary;
    Ok(JobRow {
        number: summary.transfer,
        direction: summary.direction,
        state: summary.state,
        spec: text(serde_json::to_string(job.spec()))?,
        created_ms: summary.created_ms,
        ended_ms: summary.ended_ms.or_else(|| job.is_over().then(now_ms)),
        summary: text(serde_json::to_string(&saved))?,
    })
}

#[cfg(test)]
mod tests {
    use p2p_protocol::{
        FileId,
        control::{KeyPolicy, Output, RequestId},
    };

    use super::*;
    use crate::{disk::System, workers::Workers};

    /// Fault 38.
    #[test]
    fn a_full_queue_is_a_conflict_and_has_room_again_when_something_ends() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(Arc::new(System), Workers::Threads, home.path()).unwrap();
        let registry = Registry::with_places(store, 3, 3, 3).unwrap();
        let find = |n: u8| {
            let spec = Spec::Receive { peer: PeerId([1; 32]), file_id: FileId([n; 32]) };
            registry.find_or_make(spec, n.to_string(), "peer".into())
        };
        let jobs: Vec<_> = (0..3).map(|n| find(n).unwrap().0).collect();
        let full = find(3).unwrap_err();
        assert_eq!(full.failure, Failure::Conflict);
        assert!(full.message.contains("3 unfinished"), "{full}");
        assert!(!find(2).unwrap().1, "what is there already needs no place");
        jobs[0].fail(&RunError::cancelled());
        assert!(find(3).unwrap().1);
        assert_eq!(find(4).unwrap_err().failure, Failure::Conflict);
    }

    /// Fault 38.
    #[test]
    fn one_peer_does_not_take_every_place() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(Arc::new(System), Workers::Threads, home.path()).unwrap();
        let registry = Registry::with_places(store, 9, 2, 9).unwrap();
        let [a, b] = [1, 2].map(|n| PeerId([n; 32]));
        let make = |spec: Spec| registry.find_or_make(spec, "x".into(), "peer".into());
        let receive = |peer, n: u8| make(Spec::Receive { peer, file_id: FileId([n; 32]) });
        let first = receive(a, 0).unwrap().0;
        receive(a, 1).unwrap();
        make(Spec::Serve { peer: a, file_id: FileId([1; 32]) }).unwrap();
        assert_eq!(receive(a, 2).unwrap_err().failure, Failure::Conflict);
        assert!(!receive(a, 0).unwrap().1, "what is there already goes on");
        receive(b, 2).unwrap();
        first.fail(&RunError::cancelled());
        assert!(receive(a, 2).unwrap().1);
    }

    /// Whoever asks again because the daemon has died cannot know how far it came.
    ///
    /// Fault 1.
    #[test]
    fn a_request_that_is_made_again_is_for_the_same_transfer_also_when_that_is_over() {
        let home = tempfile::tempdir().unwrap();
        let open = || Store::open(Arc::new(System), Workers::Threads, home.path()).unwrap();
        let mut registry = Registry::with_places(open(), 9, 9, 9).unwrap();
        let fetch = |request: Option<u8>, output: &[u8]| Spec::Fetch {
            file_id: FileId([3; 32]),
            from: vec!["host".into()],
            output: Output::Path(output.to_vec()),
            key: KeyPolicy::Known,
            ticket: None,
            only: Vec::new(),
            range: None,
            progressive: false,
            request: request.map(|n| RequestId([n; 16])),
        };
        let make = |registry: &Registry, request, output: &[u8]| {
            let (job, is_new) =
                registry.find_or_make(fetch(request, output), "x".into(), "host".into()).unwrap();
            (job.number(), is_new)
        };
        assert_eq!(make(&registry, Some(1), b"/a"), (1, true));
        registry.get(1).unwrap().fail(&RunError::cancelled());
        registry.save(&registry.get(1).unwrap());
        drop(registry);
        registry = Registry::with_places(open(), 9, 9, 9).unwrap();
        assert_eq!(make(&registry, Some(1), b"/a"), (1, false));
        assert_eq!(make(&registry, Some(2), b"/a"), (2, true), "another command wants another");
        assert_eq!(make(&registry, Some(3), b"/a"), (2, false), "unless one does that already");
        assert_eq!(make(&registry, None, b"/b"), (3, true));
        registry.get(3).unwrap().fail(&RunError::cancelled());
        assert_eq!(make(&registry, None, b"/b"), (4, true), "without a name no two are the same");
    }

    /// What a failed transfer has on the disk could not be removed by `cancel` once nobody knows of it.
    #[test]
    fn what_failed_is_remembered_longest() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(Arc::new(System), Workers::Threads, home.path()).unwrap();
        let registry = Registry::with_places(store, 9, 9, 2).unwrap();
        let end = |n: u8, error: &RunError| {
            let spec = Spec::Receive { peer: PeerId([1; 32]), file_id: FileId([n; 32]) };
            let (job, _) = registry.find_or_make(spec, n.to_string(), "peer".into()).unwrap();
            job.fail(error);
            registry.save(&job);
            job.number()
        };
        let stalled = RunError::new(Failure::Unreachable, "nobody is there");
        let failed = end(0, &stalled);
        let others: Vec<u64> = (1..4).map(|n| end(n, &RunError::cancelled())).collect();
        let known: Vec<u64> = registry.all().iter().map(|job| job.number()).collect();
        assert_eq!(known, [failed, others[2]]);
        let more = [end(4, &stalled), end(5, &stalled)];
        let known: Vec<u64> = registry.all().iter().map(|job| job.number()).collect();
        assert_eq!(known, more, "they have a bound too");
    }
}
