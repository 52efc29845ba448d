//! The receiver's side of one conversation, after the offer was accepted: the pure machine decides, this
//! driver verifies, stores, checkpoints and publishes.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use p2p_protocol::{
    ChunkSet, FileId,
    control::{Progress, WaitReason},
    limits::{CHECKPOINT_BYTES, CHECKPOINT_INTERVAL, MAX_FAILED_SYNCS, MAX_FRAME_LEN},
    reason::{ChunkFailure, Failure, close},
    transfer::{Admission, Now, Receiver, ReceiverAction, ReceiverInput, ReceiverStart},
    tree::Expected,
    waits::Stage,
    wire::chunk::ChunkHeader,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    blocking,
    budget::{Allowance, Pool},
    ending::Ending,
    error::RunError,
    incoming::Incoming,
    job::Job,
    limiter::Flow,
    links::{ChunkQueue, Link},
    provide::closed_early,
    registry::Registry,
    say,
    waits::Waits,
};
use crate::{
    store::{Partial, Published, Remark, StoreError},
    transport::{ChunkReceiver, ControlStream},
    workers::Workers,
};

/// How often the machine sees the clock, and clients see progress.
const TICK: Duration = Duration::from_millis(100);
/// Chunks that one run verifies and writes at once, so that a disk that stalls leaves threads to other runs.
const WRITES_AT_ONCE: usize = 8;

/// Everything that a receiver's run works with.
pub(crate) struct Receiving<'a> {
    pub(crate) job: &'a Job,
    pub(crate) registry: &'a Registry,
    pub(crate) workers: Workers,
    pub(crate) link: &'a Arc<Link>,
    pub(crate) control: &'a mut ControlStream,
    pub(crate) chunks: ChunkQueue,
    pub(crate) partial: Arc<Partial>,
    /// What the provider has, where the partial is of a part of that.
    pub(crate) part_of: Option<FileId>,
    /// The bytes of the file that are wanted, where that is not all of it.
    pub(crate) bytes: Option<Range<u64>>,
    /// Room for what an eager fetch has asked for, where it was one.
    pub(crate) eager: Option<Allowance>,
    /// The name that the provider gave.
    pub(crate) name: String,
    pub(crate) ending: Ending,
    /// Who may have how many unverified bytes on the way.
    pub(crate) pool: Arc<Pool>,
    /// Limits on bandwidth.
    pub(crate) flow: Arc<Flow>,
    /// Whether the provider may fetch the file back; told in `Done`.
    pub(crate) fetchable: bool,
    /// Ends the run without ending the transfer.
    pub(crate) stop: CancellationToken,
}

/// What a task of the run has to say.
pub(super) enum News {
    Stored(u32),
    Failed(u32, ChunkFailure),
    /// The disk is full, or its folder gone.
    NoSpace(u32, StoreError),
    StorageFailed(StoreError),
    Rechecked(u32, bool),
    Checkpointed(Result<ChunkSet, StoreError>),
    Published(Result<Published, StoreError>),
    Fed(Result<(), RunError>),
    SpaceChecked(bool),
    Reserved(Result<(), StoreError>),
    /// A background task did not end as it should.
    Broken(RunError),
}

struct Run<'a> {
    job: &'a Job,
    registry: &'a Registry,
    workers: Workers,
    link: &'a Arc<Link>,
    partial: Arc<Partial>,
    bytes: Option<Range<u64>>,
    writes: Arc<Semaphore>,
    allowance: Allowance,
    flow: Arc<Flow>,
    waits: Arc<Waits>,
    machine: Receiver,
    begun: Instant,
    ending: Ending,
    published: Option<Published>,
    tasks: JoinSet<()>,
    news: mpsc::Sender<News>,
    /// Ends the chunk tasks that still wait for the network.
    halt: CancellationToken,
    /// Chunks that are being read before their page has come, and wait to be told what to verify against.
    held: HashMap<u32, oneshot::Sender<Expected>>,
    /// Payload bytes that have come in; written by the chunk tasks.
    moved: Arc<AtomicU64>,
    moved_seen: u64,
    /// Bytes stored since the last checkpoint began.
    window: u64,
    window_opened: Option<Instant>,
    checkpointing: bool,
    /// Syncs that failed one after the other.
    failed_syncs: u32,
    /// Whether chunks may be written. While one checkpoint syncs the next window fills; a third never opens.
    /// Chunks are read off the network all the same, so that other transfers go on.
    gate: watch::Sender<bool>,
    fetchable: bool,
}

/// Receives until the file is durable under its final name and the provider has been told.
pub(crate) async fn receive(run: Receiving<'_>) -> Result<Published, RunError> {
    let Receiving {
        job,
        registry,
        workers,
        link,
        control,
        mut chunks,
        partial,
        part_of,
        bytes,
        eager,
        name,
        ending,
        pool,
        flow,
        ..
    } = run;
    let (fetchable, stop, cancelled) = (run.fetchable, run.stop, job.cancelled());
    let chunk_len = partial.layout().chunk_len();
    let is_eager = eager.is_some();
    let place = async {
        match eager {
            Some(mut allowance) => {
                allowance.narrow(chunk_len);
                Some(allowance)
            }
            None => Allowance::take(link.pool(), &pool, chunk_len).await,
        }
    };
    tokio::pin!(place);
    let wait_for_place = async {
        // Usually there is room, and nothing to be said.
        match tokio::time::timeout(TICK, &mut place).await {
            Ok(allowance) => allowance,
            Err(_) => {
                job.wait(WaitReason::Queue);
                place.await
            }
        }
    };
    let allowance = tokio::select! {
        biased;
        allowance = wait_for_place => allowance.ok_or_else(RunError::stopped)?,
        () = cancelled.cancelled() => return Err(RunError::cancelled()),
        () = stop.cancelled() => return Err(job.stopped()),
        gone = link.connection().closed() => return Err(gone.into()),
    };
    let recorded = partial.clone();
    let values = blocking(&workers, move || recorded.values()).await?.unwrap_or_else(|error| {
        tracing::warn!(transfer = job.number(), %error, "what is here is hashed when the File ID is known");
        Some(Vec::new())
    });
    let begun = Instant::now();
    let start = ReceiverStart {
        layout: partial.layout().clone(),
        file_id: part_of.or(partial.file_id()),
        verified: partial.verified(),
        doubtful: partial.doubtful(),
        claimed: partial.claimed(),
        values,
        credit: flow.credit(&allowance, link, chunk_len, TICK),
        eager: is_eager,
        wanted: bytes.clone().map(|bytes| partial.layout().geometry().chunks_with(bytes).collect()),
    };
    let (sender, mut news) = mpsc::channel(64);
    let mut run = Run {
        job,
        registry,
        workers,
        link,
        machine: Receiver::new(start, begun.elapsed()),
        partial,
        bytes,
        writes: Arc::new(Semaphore::new(WRITES_AT_ONCE)),
        allowance,
        flow,
        waits: Waits::new(Stage::Disk),
        begun,
        ending,
        published: None,
        tasks: JoinSet::new(),
        news: sender,
        halt: CancellationToken::new(),
        held: HashMap::new(),
        moved: Arc::default(),
        moved_seen: 0,
        window: 0,
        window_opened: None,
        checkpointing: false,
        failed_syncs: 0,
        gate: watch::Sender::new(true),
        fetchable,
    };
    let progress = run.machine.progress(run.now());
    job.start(&name, link.peer(), run.partial.file_id(), chunk_len, progress);
    let result = run.converse(control, &mut chunks, &mut news, &stop).await;
    if result.is_err() {
        run.settle(&mut news).await;
    }
    run.show();
    match run.published.take() {
        // The file is under its name, whatever became of the conversation: a provider that did not hear of it
        // will when it asks again.
        Some(published) => Ok(published),
        None => result,
    }
}

impl Run<'_> {
    async fn converse(
        &mut self,
        control: &mut ControlStream,
        chunks: &mut ChunkQueue,
        news: &mut mpsc::Receiver<News>,
        stop: &CancellationToken,
    ) -> Result<Published, RunError> {
        let cancelled = self.job.cancelled();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.act(control, stop, &cancelled).await? {
                return self.published.clone().ok_or_else(closed_early);
            }
            tokio::select! {
                message = control.receiver.recv(MAX_FRAME_LEN) => match message? {
                    Some(message) => self.input(ReceiverInput::Message(message))?,
                    None => return Err(closed_early()),
                },
                chunk = chunks.next() => match chunk {
                    Some((header, stream)) => self.take_chunk(header, stream)?,
                    None => return Err(self.link.connection().closed().await.into()),
                },
                Some(said) = news.recv() => self.hear(said)?,
                Some(_) = self.tasks.join_next() => {}
                _ = tick.tick() => self.tick()?,
                () = cancelled.cancelled() => return Err(RunError::cancelled()),
                () = stop.cancelled() => return Err(self.job.stopped()),
            }
        }
    }

    fn now(&self) -> Now {
        self.begun.elapsed()
    }

    fn input(&mut self, input: ReceiverInput) -> Result<(), RunError> {
        let now = self.now();
        Ok(self.machine.handle(input, now)?)
    }

    /// Carries out what the machine asks for. True once the conversation is complete.
    async fn act(
        &mut self,
        control: &mut ControlStream,
        stop: &CancellationToken,
        cancelled: &CancellationToken,
    ) -> Result<bool, RunError> {
        while let Some(action) = self.machine.next_action() {
            match action {
                ReceiverAction::Send(message) => tokio::select! {
                    said = say(control, &message) => said?,
                    () = cancelled.cancelled() => return Err(RunError::cancelled()),
                    () = stop.cancelled() => return Err(self.job.stopped()),
                },
                ReceiverAction::Take { chunk, expected } => {
                    if let Some(waiting) = self.held.remove(&chunk) {
                        // Fails only where the run is over.
                        let _ = waiting.send(expected);
                    }
                }
                ReceiverAction::Recheck { chunk, expected } => {
                    let partial = self.partial.clone();
                    self.work(move || match partial.recheck(chunk, expected) {
                        Ok(good) => News::Rechecked(chunk, good),
                        Err(error) => News::StorageFailed(error),
                    });
                }
                ReceiverAction::Sealed(id) => {
                    self.partial.seal(id);
                    self.job.sealed(id);
                }
                ReceiverAction::ReserveUpTo(bytes) => {
                    let partial = self.partial.clone();
                    self.work(move || News::Reserved(partial.reserve(bytes)));
                }
                ReceiverAction::Publish => self.publish(),
                ReceiverAction::Completed => return Ok(true),
                ReceiverAction::Aborted(reason) => return Err(RunError::aborted(reason)),
                ReceiverAction::ChunkFailed { chunk, reason } => {
                    self.job.chunk_failed(chunk, self.link.peer(), reason);
                }
                ReceiverAction::Paused => self.job.wait(WaitReason::Space),
                ReceiverAction::PollSpace => {
                    let partial = self.partial.clone();
                    self.work(move || News::SpaceChecked(partial.has_room()));
                }
                ReceiverAction::Stalled => return Err(RunError::stalled()),
                ReceiverAction::GaveUp { chunk, reason } => {
                    return Err(RunError {
                        passing: true,
                        ..RunError::new(Failure::Unreachable, format!("chunk {chunk}, many times: {reason}"))
                    });
                }
            }
        }
        Ok(false)
    }

    /// Runs something that may block, off the network tasks; what it says comes back as news.
    fn work(&mut self, job: impl FnOnce() -> News + Send + 'static) {
        let (workers, news) = (self.workers.clone(), self.news.clone());
        self.tasks.spawn(async move {
            let said = blocking(&workers, job).await.unwrap_or_else(News::Broken);
            let _ = news.send(said).await;
        });
    }

    fn take_chunk(&mut self, header: ChunkHeader, stream: ChunkReceiver) -> Result<(), RunError> {
        let (tell, expected) = oneshot::channel();
        match self.machine.admit(&header, self.now())? {
            Admission::Ignore => {
                stream.stop(close::STREAM_UNWANTED);
                return Ok(());
            }
            Admission::Take(known) => drop(tell.send(known)),
            Admission::Hold => drop(self.held.insert(header.index, tell)),
        }
        let incoming = Incoming {
            header,
            stream,
            expected,
            moved: self.moved.clone(),
            gate: self.gate.subscribe(),
            writes: self.writes.clone(),
            partial: self.partial.clone(),
            workers: self.workers.clone(),
            waits: self.waits.clone(),
        };
        let (halt, news) = (self.halt.clone(), self.news.clone());
        self.tasks.spawn(async move {
            if let Some(said) = incoming.take_in(halt).await {
                let _ = news.send(said).await;
            }
        });
        Ok(())
    }

    fn hear(&mut self, said: News) -> Result<(), RunError> {
        match said {
            News::Stored(chunk) => {
                self.meter()?;
                self.stored(chunk);
                self.input(ReceiverInput::ChunkStored { chunk })?;
                if let Ending::Stdout(feed) = &self.ending {
                    feed.advance(self.machine.verified_prefix());
                }
                Ok(())
            }
            News::Failed(chunk, reason) => self.input(ReceiverInput::ChunkFailed { chunk, reason }),
            News::NoSpace(chunk, error) => self.no_space(Some(chunk), &error),
            News::Rechecked(chunk, good) => {
                if good {
                    self.stored(chunk);
                }
                self.input(ReceiverInput::Rechecked { chunk, good })?;
                if let Ending::Stdout(feed) = &self.ending {
                    feed.advance(self.machine.verified_prefix());
                }
                Ok(())
            }
            News::Checkpointed(result) => {
                self.checkpointing = false;
                self.gate.send_replace(true);
                match result {
                    Ok(durable) => {
                        self.failed_syncs = 0;
                        tracing::debug!(transfer = self.job.number(), chunks = durable.len(), "checkpoint");
                        if self.window >= CHECKPOINT_BYTES {
                            self.checkpoint();
                        }
                        Ok(())
                    }
                    Err(error) => self.storage_failed(error),
                }
            }
            News::SpaceChecked(true) => {
                self.job.troubled(None);
                self.job.resume();
                self.input(ReceiverInput::SpaceFreed)
            }
            News::SpaceChecked(false) | News::Reserved(Ok(())) => Ok(()),
            // Chunks that do not fit will say so themselves when they are written.
            News::Reserved(Err(error)) => {
                tracing::debug!(transfer = self.job.number(), %error, "no reservation");
                Ok(())
            }
            News::Published(Ok(done)) => {
                let (name, fetchable) = (done.name.clone(), self.fetchable && done.is_exact());
                done.others.iter().for_each(|path| self.job.remark(Remark::of_others(path.clone())));
                done.copies.iter().for_each(|path| self.job.remark(Remark::copied(path.clone())));
                done.left_over.iter().for_each(|path| self.job.remark(Remark::left_over(path)));
                self.published = Some(done);
                self.input(ReceiverInput::Published { name, fetchable })
            }
            News::StorageFailed(error) | News::Published(Err(error)) => self.storage_failed(error),
            News::Fed(Ok(())) => {
                self.published = Some(Published {
                    path: "-".into(),
                    name: "-".into(),
                    already: false,
                    ..Published::default()
                });
                self.input(ReceiverInput::Published { name: "-".into(), fetchable: false })
            }
            News::Fed(Err(error)) | News::Broken(error) => Err(error),
        }
    }

    fn storage_failed(&mut self, error: StoreError) -> Result<(), RunError> {
        match error {
            StoreError::SyncFailed { lost, path } if self.failed_syncs < MAX_FAILED_SYNCS => {
                self.failed_syncs += 1;
                let chunks = lost.len();
                tracing::error!(path = %path.display(), chunks, "a sync failed, its chunks are fetched again");
                self.input(ReceiverInput::Lost(lost))
            }
            error if error.is_full() || error.is_gone() => self.no_space(None, &error),
            error => Err(error.into()),
        }
    }

    fn no_space(&mut self, chunk: Option<u32>, error: &StoreError) -> Result<(), RunError> {
        tracing::warn!(transfer = self.job.number(), %error, "no room, pausing");
        self.job.troubled(Some(error.to_string()));
        self.input(ReceiverInput::StorageFull { chunk })
    }

    fn stored(&mut self, chunk: u32) {
        self.window += self.partial.layout().len_of(chunk);
        self.window_opened.get_or_insert_with(Instant::now);
        if self.window >= CHECKPOINT_BYTES {
            if self.checkpointing {
                self.gate.send_replace(false);
            }
            self.checkpoint();
        }
    }

    fn tick(&mut self) -> Result<(), RunError> {
        self.meter()?;
        if self.window_opened.is_some_and(|opened| opened.elapsed() >= CHECKPOINT_INTERVAL) {
            self.checkpoint();
        }
        self.show();
        self.registry.save_if_due(self.job);
        let chunk_len = self.partial.layout().chunk_len();
        self.input(ReceiverInput::Credit(self.flow.credit(&self.allowance, self.link, chunk_len, TICK)))?;
        self.input(ReceiverInput::Tick)
    }

    /// Takes in what has come since the last time, which may be more than a limit allows for now.
    fn meter(&mut self) -> Result<(), RunError> {
        let moved = self.moved.load(Ordering::Relaxed);
        let before = std::mem::replace(&mut self.moved_seen, moved);
        if moved != before {
            self.flow.spend(moved - before);
            self.input(ReceiverInput::ChunkBytes(moved - before))?;
        }
        let owes = self.flow.owes();
        self.waits.set(Stage::Limit, owes.into());
        self.input(ReceiverInput::Hold(owes))
    }

    fn show(&self) {
        let moved_bytes = self.moved.load(Ordering::Relaxed);
        let (limited, waits) = (self.flow.is_felt(), self.waits.shares());
        let progress = Progress { moved_bytes, limited, waits, ..self.machine.progress(self.now()) };
        self.job.progress(progress, self.machine.missing());
    }

    fn checkpoint(&mut self) {
        if self.checkpointing || self.window == 0 {
            return;
        }
        self.checkpointing = true;
        self.window = 0;
        self.window_opened = None;
        let partial = self.partial.clone();
        self.work(move || News::Checkpointed(partial.checkpoint()));
    }

    fn publish(&mut self) {
        let partial = self.partial.clone();
        match &mut self.ending {
            Ending::Publish { name, receipt } => {
                let (name, receipt, bytes) = (name.clone(), receipt.clone(), self.bytes.clone());
                self.work(move || {
                    let id = partial.file_id();
                    News::Published(match (bytes, id.zip(receipt)) {
                        (Some(bytes), _) => partial.publish_bytes(&name, bytes),
                        (None, None) => partial.publish(&name),
                        (None, Some((id, receipt))) => {
                            let published = partial.publish_noting(&name, &|path| receipt.foresee(id, path));
                            published.inspect(|published| receipt.note(id, published))
                        }
                    })
                });
            }
            Ending::Stdout(feed) => {
                feed.advance(self.partial.layout().chunks());
                let (drained, news) = (feed.drained(), self.news.clone());
                self.tasks.spawn(async move {
                    let _ = news.send(News::Fed(drained.await)).await;
                });
            }
        }
    }

    /// After a run broke: lets what is being stored end, and makes durable what is verified.
    async fn settle(&mut self, news: &mut mpsc::Receiver<News>) {
        self.halt.cancel();
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => if ended.is_none() { break },
                Some(said) = news.recv() => match said {
                    News::Stored(chunk) => {
                        let now = self.now();
                        // The conversation is over; the machine only counts on for the last line of progress.
                        let _ = self.machine.handle(ReceiverInput::ChunkStored { chunk }, now);
                    }
                    News::Published(Ok(published)) => self.published = Some(published),
                    _ => {}
                },
            }
        }
        if let Ending::Stdout(feed) = &mut self.ending {
            // It holds the partial, which whoever comes next has to open.
            feed.stop().await;
        }
        if self.published.is_some() {
            return;
        }
        let partial = self.partial.clone();
        match blocking(&self.workers, move || partial.park()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => {
                tracing::warn!(transfer = self.job.number(), %error, "the last checkpoint failed")
            }
        }
    }
}
