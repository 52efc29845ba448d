//! One transfer as this daemon's owner sees it: its numbers, its state, and who is watching it.
//!
//! ```text
//!            run starts              content durable
//!  Waiting ────────────▶ Active ──────────────────────▶ Done
//!     ▲  ▲                 │ │
//!     │  └─── connection ──┘ ├── owner, or peer ───────▶ Cancelled ─┐
//!     │       broke          └── cannot be helped ─────▶ Failed ────┤
//!     └──────────────────────── retry ──────────────────────────────┘
//! ```

mod batch;
mod numbers;
mod ticket;

mod history;
mod shown;
mod wishes;
mod word;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use p2p_protocol::{
    Answer, Batch, ChunkRange, FileId, PeerId,
    control::{Detail, Direction, Happening, LogEntry, Progress, State, Summary, TransferEvent, WaitReason},
    reason::{ChunkFailure, Failure},
    token::ClaimId,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub(crate) use wishes::Wish;
pub(crate) use word::Word;

use super::{error::RunError, spec::Spec};

/// Chunk failures that a job remembers for its owner.
const REMEMBERED_FAILURES: usize = 64;
/// Events a watcher may lag behind before progress is left out for it.
const WATCHER_BUFFER: usize = 256;
/// Chunk ranges that a detailed view holds.
const SHOWN_RANGES: usize = 1024;

/// A transfer.
#[derive(Debug)]
pub(crate) struct Job {
    number: u64,
    spec: Spec,
    created_ms: u64,
    state: Mutex<JobState>,
    /// Held by the run that works on the job: there is never more than one.
    pub(crate) running: tokio::sync::Mutex<()>,
    /// The connection that the run works on, where a peer started it.
    on: Mutex<Option<u64>>,
    /// What its owner said of it, where a peer offered it and the owner is asked.
    word: watch::Sender<Word>,
    /// What its owner wishes of it.
    wish: watch::Sender<Wish>,
}

/// Takes back, when it is dropped, that a job's run works on a connection.
pub(crate) struct RunsOn<'a>(&'a Job);

impl Drop for RunsOn<'_> {
    fn drop(&mut self) {
        *self.0.on.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[derive(Debug)]
struct JobState {
    state: State,
    name: String,
    file_id: Option<FileId>,
    peer: Option<PeerId>,
    target: String,
    path: Option<String>,
    landed: Option<String>,
    /// Whether what is received appears file by file.
    is_shown: bool,
    progress: Progress,
    /// Payload bytes moved by earlier runs, so that `progress.moved_bytes` only grows.
    moved_before: u64,
    waiting: Option<WaitReason>,
    /// Whether its owner has to be asked before anything moves.
    asks: bool,
    /// When its owner said no, as long as the sender was not told.
    untold_ms: Option<u64>,
    /// The connection on which the sender is told.
    telling_on: Option<u64>,

    /// Bytes that the receiver had when it first began.
    had_bytes: Option<u64>,
    /// By which ticket the peer fetches it.
    ticket: Option<ClaimId>,
    /// The daemon has started since it was made.
    is_restored: bool,

    /// What it is offered together with, and what its owner said of all of that.
    batch: Option<Batch>,
    answer: Option<Answer>,
    error: Option<String>,
    ended_ms: Option<u64>,
    chunk_len: u64,
    missing: Vec<ChunkRange>,
    failed_chunks: VecDeque<(u32, ChunkFailure)>,
    /// The event that opened the current run, for those who attach later.
    started: Option<TransferEvent>,
    /// The event that ended the job.
    last: Option<TransferEvent>,
    watchers: Vec<mpsc::Sender<TransferEvent>>,
    /// What happened and is not in the catalog yet.
    history: Vec<LogEntry>,
    saved: Option<Instant>,
    run: CancellationToken,
    cancel: CancellationToken,
}

/// Milliseconds since 1970 UTC. A clock set before that counts as 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Job {
    /// A new transfer that waits to be run.
    pub(crate) fn new(number: u64, spec: Spec, name: String, target: String) -> Arc<Self> {
        let (file_id, peer) = match &spec {
            Spec::Send { .. } => (None, None),
            // A part has a File ID of its own, which follows from what is in the folder.
            Spec::Fetch { file_id, only, .. } => (Some(*file_id).filter(|_| only.is_empty()), None),
            Spec::Receive { peer, file_id } | Spec::Serve { peer, file_id } => (Some(*file_id), Some(*peer)),
            Spec::ReceiveUnsealed { peer, .. } => (None, Some(*peer)),
        };
        let path = spec.source().map(|path| path.display().to_string());
        let state = JobState { path, ..JobState::waiting(name, target, file_id, peer) };
        Self::build(number, spec, now_ms(), state)
    }

    /// A transfer of an earlier daemon, as its catalog kept it.
    pub(crate) fn restored(
        spec: Spec,
        summary: Summary,
        (last, chunk_len, had_bytes): (Option<TransferEvent>, u64, Option<u64>),
        (word, answer, untold_ms): (Word, Option<Answer>, Option<u64>),
        wish: Wish,
    ) -> Arc<Self> {
        let mut state = JobState::waiting(summary.name, summary.target, summary.file_id, summary.peer);
        (state.path, state.landed) = (summary.path, summary.landed);
        state.is_shown = summary.progressive;
        state.moved_before = summary.progress.moved_bytes;
        state.progress = summary.progress;
        state.progress.stand_still();
        state.error = summary.error;
        state.ended_ms = summary.ended_ms;
        state.state = if summary.state == State::Active { State::Waiting } else { summary.state };
        state.last = last;
        (state.batch, state.answer, state.chunk_len) = (summary.batch, answer, chunk_len);
        (state.untold_ms, state.had_bytes, state.is_restored) = (untold_ms, had_bytes, true);
        state.asks = summary.waiting == Some(WaitReason::Accept) && word == Word::Open;
        if !state.is_over() {
            state.waiting = Some(if wish.paused { WaitReason::Paused } else { state.waits_for() });
        }
        let job = Self::build(summary.transfer, spec, summary.created_ms, state);
        job.word.send_replace(word);
        job.wish.send_replace(wish);
        job
    }

    fn build(number: u64, spec: Spec, created_ms: u64, state: JobState) -> Arc<Self> {
        Arc::new(Self {
            number,
            spec,
            created_ms,
            state: Mutex::new(state),
            running: tokio::sync::Mutex::default(),
            on: Mutex::default(),
            word: watch::Sender::new(Word::Open),
            wish: watch::Sender::new(Wish::default()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, JobState> {
        // Every change below leaves the state whole, so a panic elsewhere does not make it unusable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    pub(crate) fn state(&self) -> State {
        self.lock().state
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// Whether both sides agreed on it once, in this daemon or an earlier one.
    pub(crate) fn has_started(&self) -> bool {
        self.lock().peer.is_some()
    }

    /// The other side, once known.
    pub(crate) fn peer(&self) -> Option<PeerId> {
        self.lock().peer
    }

    /// The content's identity, once known.
    pub(crate) fn file_id(&self) -> Option<FileId> {
        self.lock().file_id
    }

    /// Whether the job's run works on this connection.
    pub(crate) fn runs_on(&self, connection: u64) -> bool {
        *self.on.lock().unwrap_or_else(PoisonError::into_inner) == Some(connection)
    }

    /// Says that it does, from now on.
    pub(crate) fn run_on(&self, connection: u64) -> RunsOn<'_> {
        *self.on.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        RunsOn(self)
    }

    /// Ends when the owner cancels the job.
    pub(crate) fn cancelled(&self) -> CancellationToken {
        self.lock().cancel.clone()
    }

    /// Marks the job cancelled; false if it is over already.
    pub(crate) fn cancel(&self) -> bool {
        let state = self.lock();
        if state.is_over() {
            return false;
        }
        state.cancel.cancel();
        true
    }

    /// Stops the run that works on the job, if any, without ending the job, and returns the token of the
    /// run that takes its place. The caller then waits for [`Job::running`].
    pub(crate) fn supersede(&self, parent: &CancellationToken) -> CancellationToken {
        let mut state = self.lock();
        state.run.cancel();
        state.run = parent.child_token();
        state.run.clone()
    }

    /// Makes a job that ended without success wait again; false if it did not end so.
    pub(crate) fn revive(&self) -> bool {
        let mut state = self.lock();
        if !matches!(state.state, State::Failed | State::Cancelled) {
            return false;
        }
        state.leave_refused_batch();
        state.state = State::Waiting;
        state.ended_ms = None;
        state.last = None;
        state.error = None;
        state.cancel = CancellationToken::new();
        true
    }

    /// The content has a name now.
    pub(crate) fn sealed(&self, file_id: FileId) {
        tracing::info!(transfer = self.number, %file_id, "sealed");
        self.lock().file_id = Some(file_id);
    }

    /// Both sides agreed; chunks will move now. The content may have no name yet.
    pub(crate) fn start(
        &self,
        name: &str,
        peer: PeerId,
        file_id: Option<FileId>,
        chunk_len: u64,
        progress: Progress,
    ) {
        let mut state = self.lock();
        if state.is_over() {
            return;
        }
        state.state = State::Active;
        state.error = None;
        state.name = name.to_owned();
        state.peer = Some(peer);
        state.file_id = file_id.or(state.file_id);
        state.chunk_len = chunk_len;
        state.count_on(progress.verified_bytes);
        let moved_bytes = state.moved_before;
        state.progress = Progress { moved_bytes, ..progress };
        state.waiting = None;
        let event = TransferEvent::Started {
            transfer: self.number,
            direction: self.spec.direction(),
            name: name.to_owned(),
            peer,
            total_bytes: progress.total_bytes,
            resumed_bytes: progress.verified_bytes,
            batch: state.batch,
            target: state.target.clone(),
        };
        self.note(&mut state, Happening::Started, |entry| {
            entry.bytes = Some(progress.total_bytes);
            entry.moved_bytes = Some(progress.verified_bytes);
        });
        state.started = Some(event.clone());
        state.tell(&event);
    }

    /// Nothing moves for now.
    pub(crate) fn wait(&self, reason: WaitReason) {
        let mut state = self.lock();
        if !state.is_over() && state.waiting != Some(reason) {
            state.waiting = Some(reason);
            state.tell(&TransferEvent::Waiting { transfer: self.number, reason });
        }
    }

    /// What is wrong for now, if anything.
    pub(crate) fn troubled(&self, why: Option<String>) {
        self.lock().error = why;
    }

    /// Something moves again.
    pub(crate) fn resume(&self) {
        self.lock().waiting = None;
    }

    /// New numbers from the run; `moved_bytes` counts that run alone.
    pub(crate) fn progress(&self, progress: Progress, missing: Vec<ChunkRange>) {
        let mut state = self.lock();
        if state.is_over() {
            return;
        }
        let moved_bytes = state.moved(&progress);
        // Why nothing moves is told better than by where the time goes.
        let waits = progress.waits.filter(|_| state.waiting.is_none());
        state.progress = Progress { moved_bytes, waits, ..progress };
        state.missing = missing;
        state.missing.truncate(SHOWN_RANGES);
        let progress = state.progress;
        state.tell(&TransferEvent::Progress { transfer: self.number, progress });
    }

    /// A chunk was dropped by the receiver.
    pub(crate) fn chunk_failed(&self, chunk: u32, peer: PeerId, reason: ChunkFailure) {
        tracing::warn!(transfer = self.number, chunk, %peer, %reason, "chunk failed");
        let mut state = self.lock();
        if state.failed_chunks.len() == REMEMBERED_FAILURES {
            state.failed_chunks.pop_front();
        }
        state.failed_chunks.push_back((chunk, reason));
        state.tell(&TransferEvent::ChunkFailed { transfer: self.number, chunk, peer, reason });
    }

    /// The run broke, and another will follow.
    pub(crate) fn retrying(&self, attempt: u32, pause: Duration, reason: &str) {
        tracing::info!(transfer = self.number, attempt, ?pause, reason, "transfer broke, trying again");
        let mut state = self.lock();
        if state.is_over() {
            return;
        }
        self.note_retry(&mut state, attempt, reason);
        state.state = State::Waiting;
        state.waiting = Some(WaitReason::Peer);
        state.error = Some(reason.to_owned());
        state.progress.stand_still();
        state.tell(&TransferEvent::Retrying {
            transfer: self.number,
            attempt,
            in_ms: pause.as_millis() as u64,
            reason: reason.to_owned(),
        });
    }

    /// The run of a transfer that a peer started broke; the peer may come back.
    pub(crate) fn interrupted(&self, reason: &str) {
        tracing::info!(transfer = self.number, reason, "transfer interrupted, waiting for the peer");
        let mut state = self.lock();
        if !state.is_over() {
            if state.state == State::Active {
                self.note(&mut state, Happening::Interrupted, |entry| entry.detail = Some(reason.to_owned()));
            }
            state.state = State::Waiting;
            let paused = self.wish().paused;
            state.error = (!paused).then(|| reason.to_owned());
            state.progress.stand_still();
            let reason = if paused { WaitReason::Paused } else { state.waits_for() };
            state.waiting = Some(reason);
            state.tell(&TransferEvent::Waiting { transfer: self.number, reason });
        }
    }

    /// The content is durable at the receiver, at `path` here or under that name there.
    pub(crate) fn done(&self, file_id: FileId, path: String, bytes: u64, fetch_from: Option<String>) {
        tracing::info!(transfer = self.number, %file_id, path, bytes, "transfer done");
        let mut state = self.lock();
        state.progress.verified_bytes = bytes;
        state.progress.total_bytes = bytes;
        state.progress.chunks_verified = state.progress.chunks_total;
        state.missing.clear();
        state.file_id = Some(file_id);
        if matches!(self.spec.direction(), Direction::Fetch | Direction::Receive) {
            state.path = Some(path.clone());
        }
        state.landed = Some(path.clone());
        let moved_bytes = state.progress.moved_bytes;
        let millis = now_ms().saturating_sub(self.created_ms);
        let (transfer, part_of) = (self.number, self.spec.part_of(file_id));
        self.note(&mut state, Happening::Done, |entry| {
            (entry.bytes, entry.moved_bytes) = (Some(bytes), Some(moved_bytes));
            (entry.millis, entry.detail) = (Some(millis), Some(path.clone()));
        });
        state.end(
            State::Done,
            None,
            TransferEvent::Done { transfer, file_id, path, bytes, moved_bytes, millis, fetch_from, part_of },
        );
    }

    /// The transfer ended without success.
    pub(crate) fn fail(&self, error: &RunError) {
        tracing::warn!(transfer = self.number, error = %error.message, "transfer failed");
        let (end, what) = match error.failure {
            Failure::Cancelled => (State::Cancelled, Happening::Cancelled),
            _ => (State::Failed, Happening::Failed),
        };
        let mut state = self.lock();
        self.note(&mut state, what, |entry| entry.detail = Some(error.message.clone()));
        state.end(
            end,
            Some(error.message.clone()),
            TransferEvent::Failed {
                transfer: self.number,
                failure: error.failure,
                message: error.message.clone(),
                key: error.key,
            },
        );
    }

    /// The state so far and then everything that happens, until the job ends.
    pub(crate) fn watch(&self) -> mpsc::Receiver<TransferEvent> {
        let (sender, receiver) = mpsc::channel(WATCHER_BUFFER);
        let mut state = self.lock();
        let transfer = self.number;
        let mut replay: Vec<TransferEvent> = Vec::new();
        match (&state.last, &state.started) {
            (Some(last), started) => {
                replay.extend(started.clone());
                replay.push(last.clone());
            }
            (None, started) => {
                replay.extend(started.clone());
                replay.extend(state.waiting.map(|reason| TransferEvent::Waiting { transfer, reason }));
                replay.push(TransferEvent::Progress { transfer, progress: state.progress });
            }
        }
        for event in replay {
            // The buffer is empty, so there is room.
            let _ = sender.try_send(event);
        }
        if state.last.is_none() {
            state.watchers.retain(|watcher| !watcher.is_closed());
            state.watchers.push(sender);
        }
        receiver
    }

    /// How the job ended, if it has.
    pub(crate) fn last_event(&self) -> Option<TransferEvent> {
        self.lock().last.clone()
    }

    /// The job as a line of a list.
    pub(crate) fn summary(&self) -> Summary {
        let state = self.lock();
        Summary {
            transfer: self.number,
            direction: self.spec.direction(),
            state: state.state,
            name: state.name.clone(),
            file_id: state.file_id,
            peer: state.peer,
            target: state.target.clone(),
            path: state.path.clone(),
            progress: state.progress,
            priority: self.wish().priority,
            limit: self.wish().limit,
            background: self.wish().background,
            progressive: self.spec.is_progressive() || state.is_shown,
            waiting: state.waiting,
            error: state.error.clone(),
            created_ms: self.created_ms,
            ended_ms: state.ended_ms,
            batch: state.batch,
            landed: state.landed.clone(),
        }
    }

    /// The job in full.
    pub(crate) fn detail(&self) -> Detail {
        let summary = self.summary();
        let state = self.lock();
        Detail {
            summary,
            chunk_len: state.chunk_len,
            missing: state.missing.clone(),
            failed_chunks: state.failed_chunks.iter().copied().collect(),
        }
    }
}

impl JobState {
    fn waiting(name: String, target: String, file_id: Option<FileId>, peer: Option<PeerId>) -> Self {
        Self {
            state: State::Waiting,
            name,
            file_id,
            peer,
            target,
            path: None,
            landed: None,
            is_shown: false,
            progress: Progress::default(),
            moved_before: 0,
            waiting: None,
            asks: false,
            untold_ms: None,
            telling_on: None,

            had_bytes: None,
            ticket: None,

            is_restored: false,

            batch: None,
            answer: None,
            error: None,
            ended_ms: None,
            chunk_len: 0,
            missing: Vec::new(),
            failed_chunks: VecDeque::new(),
            started: None,
            last: None,
            watchers: Vec::new(),
            history: Vec::new(),
            saved: None,
            run: CancellationToken::new(),
            cancel: CancellationToken::new(),
        }
    }

    /// What a transfer that a peer started and that does not run waits for.
    fn waits_for(&self) -> WaitReason {
        if self.asks { WaitReason::Accept } else { WaitReason::Peer }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Failed | State::Cancelled)
    }

    fn end(&mut self, state: State, error: Option<String>, event: TransferEvent) {
        self.state = state;
        self.error = error;
        self.waiting = None;
        self.ended_ms = Some(now_ms());
        self.progress.stand_still();
        self.tell(&event);
        self.last = Some(event);
        self.watchers.clear();
    }

    /// Passes an event on. A watcher that lags loses progress, which the next one replaces; one that
    /// cannot even take something of weight is let go, and its client sees the stream end.
    fn tell(&mut self, event: &TransferEvent) {
        let droppable = matches!(event, TransferEvent::Progress { .. });
        self.watchers.retain(|watcher| {
            if droppable && watcher.capacity() < WATCHER_BUFFER / 2 {
                return !watcher.is_closed();
            }
            watcher.try_send(event.clone()).is_ok()
        });
    }
}
