//! The provider's side of one conversation, after the receiver has accepted: the pure machine decides, this
//! driver reads the source and feeds the network.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use p2p_protocol::{
    ChunkSet, FileId, Geometry, Layout,
    control::{Progress, WaitReason},
    limits::MAX_FRAME_LEN,
    reason::{AbortReason, ChunkFailure, Failure, PeerMisbehaved},
    transfer::{Now, Provider, ProviderAction, ProviderInput},
    waits::{Place, Stage},
    wire::{
        chunk::{ChunkHeader, Encoding},
        peer::{Accept, AcceptFolder, Done, Message, Page},
    },
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    blocking, error::RunError, job::Job, limiter::Flow, links::Link, registry::Registry, run::answer, say,
    waits::Waits,
};
use crate::{
    store::{Chunk, ChunkData, Source, StoreError},
    transport::{ControlStream, InFlight, PathStats, TransportError},
    workers::Workers,
};

/// How often the machine sees the clock, and clients see progress.
const TICK: Duration = Duration::from_millis(100);

/// Chunks that one run reads at once, so that a disk that stalls leaves threads to other runs.
const READS_AT_ONCE: usize = 8;
/// Unit in which the memory for outgoing bytes is counted.
pub(crate) const MEMORY_UNIT: u64 = 1024;

/// Everything that a provider's run works with.
pub(crate) struct Providing<'a> {
    pub(crate) job: &'a Job,
    pub(crate) registry: &'a Registry,
    pub(crate) workers: Workers,
    pub(crate) link: &'a Arc<Link>,
    pub(crate) control: &'a mut ControlStream,
    pub(crate) source: Arc<Source>,
    /// The name under which it was offered.
    pub(crate) name: String,
    pub(crate) opening: Opening,
    /// Bytes read and not yet with the receivers, of all that share this, in [`MEMORY_UNIT`]s.
    pub(crate) memory: Arc<Semaphore>,
    /// Limits on bandwidth.
    pub(crate) flow: Arc<Flow>,
    /// Ends the run without ending the transfer.
    pub(crate) stop: CancellationToken,
}

/// How far the two sides are.
pub(crate) enum Opening {
    /// The receiver asked with an eager fetch, which stands for its answer: it takes whatever chunks were offered.
    Eager(Geometry),
    /// It has answered.
    Accepted(Accept),
    /// It has answered, to the offer of a folder.
    Folder(AcceptFolder),
    /// It has still to, and the only chunk goes along with the offer.
    Early,
}

/// What a chunk's task has to say.
enum ChunkNews {
    /// QUIC has taken all bytes, so many of payload.
    Written(u32, u64),
    /// It is read, and its value known.
    Hashed(u32),
    /// All of the source is hashed, and this is what it is.
    Sealed(FileId),
    /// The receiver's QUIC has acknowledged them.
    Acked(u32),
    /// The receiver did not want the stream any longer.
    Stopped(u32),
    /// The source cannot be read.
    Unreadable(StoreError),
    /// The connection is gone.
    Broken(TransportError),
    /// A background task did not end as it should.
    Failed(RunError),
}

/// What a chunk's task works with.
#[derive(Clone)]
struct Way {
    workers: Workers,
    source: Arc<Source>,
    link: Arc<Link>,
    layout: Layout,
    transfer: u64,
    /// Whether each chunk takes its value along, as the offer had no File ID.
    unsealed: bool,
    reads: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    flow: Arc<Flow>,
    waits: Arc<Waits>,
    news: mpsc::Sender<ChunkNews>,
}

struct Run<'a> {
    job: &'a Job,
    registry: &'a Registry,
    machine: Provider,
    begun: Instant,
    way: Way,
    /// Dropping the set resets the streams of chunks that are still on their way.
    chunks: JoinSet<()>,
    moved: u64,
    /// Whether the owner was told that hashing is what this waits for.
    hashing: bool,
    /// Payload bytes of chunks that QUIC has taken and not yet seen acknowledged.
    written: HashMap<u32, u64>,
}

/// How a conversation ended well.
pub(crate) enum End {
    /// The content is durable at the receiver.
    Done(Done),
    /// The receiver had asked for a part, and has it.
    Enough,
}

/// Sends what the receiver wants until it says that all is durable.
pub(crate) async fn provide(run: Providing<'_>) -> Result<End, RunError> {
    let Providing { job, registry, workers, link, control, source, name, opening, memory, flow, stop } = run;
    let (begun, identity) = (Instant::now(), source.file_id());
    let (sender, mut news) = mpsc::channel(64);
    let offered = match &opening {
        Opening::Eager(geometry) => *geometry,
        _ => Geometry::for_size(source.size()).map_err(PeerMisbehaved::Geometry)?,
    };
    let mut way = Way {
        workers,
        layout: offered.into(),
        source,
        link: link.clone(),
        transfer: control.id,
        unsealed: identity.is_none(),
        reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
        memory,
        flow,
        waits: Waits::new(Stage::Source),
        news: sender,
    };
    let mut chunks = JoinSet::new();
    let mut files = ChunkSet::new();
    let (accept, early) = match opening {
        Opening::Eager(_) => (None, false),
        Opening::Folder(AcceptFolder { files: wanted, accept }) => {
            let count = way.source.manifest().map_or(0, |manifest| manifest.files().len());
            files = ChunkSet::from_wire(&wanted, count as u32).map_err(PeerMisbehaved::Ranges)?;
            (Some(accept), false)
        }
        Opening::Accepted(accept) => (Some(accept), false),
        Opening::Early => {
            way.start(0, &mut chunks);
            let accept = answer(job, control, &stop).await?;
            if accept.have_count > 0 {
                // It is there already: what is on its way is not wanted, and does not count as moved.
                chunks.shutdown().await;
                while news.try_recv().is_ok() {}
            }
            (Some(accept), true)
        }
    };
    if let Some(accept) = &accept {
        way.layout = way.source.layout(accept.chunk_log2, &files).map_err(PeerMisbehaved::Geometry)?;
    }
    let (layout, geometry) = (way.layout.clone(), way.layout.geometry());
    let machine = match (accept, identity) {
        (Some(accept), Some(id)) if early => Provider::with_chunk(geometry, id, &accept, begun.elapsed())?,
        (Some(accept), Some(id)) => Provider::new(layout, id, &accept, begun.elapsed())?,
        (Some(accept), None) => {
            let hashed = way.source.hashed(geometry);
            Provider::unsealed(geometry, &hashed, &accept, begun.elapsed())?
        }
        (None, Some(id)) => Provider::eager(geometry, id, begun.elapsed())?,
        (None, None) => return Err(RunError::new(Failure::Other, "what is fetched has a File ID")),
    };
    let progress = machine.progress(begun.elapsed());
    job.start(&name, link.peer(), identity, geometry.chunk_len(), progress);
    let written = HashMap::new();
    let mut run = Run { job, registry, machine, begun, way, chunks, moved: 0, hashing: false, written };
    let result = run.converse(control, &mut news, &stop).await;
    if result.is_ok() {
        // What the receiver has verified has arrived, acknowledged or not.
        run.moved += run.written.values().sum::<u64>();
    }
    run.show();
    result
}

impl Run<'_> {
    fn now(&self) -> Now {
        self.begun.elapsed()
    }

    fn show(&self) {
        let (limited, waits) = (self.way.flow.is_felt(), self.way.waits.shares());
        let progress =
            Progress { moved_bytes: self.moved, limited, waits, ..self.machine.progress(self.now()) };
        self.job.progress(progress, self.machine.missing());
    }

    async fn converse(
        &mut self,
        control: &mut ControlStream,
        news: &mut mpsc::Receiver<ChunkNews>,
        stop: &CancellationToken,
    ) -> Result<End, RunError> {
        let cancelled = self.job.cancelled();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let acted = tokio::select! {
                biased;
                acted = self.act(control) => acted?,
                () = cancelled.cancelled() => return Err(RunError::cancelled()),
                () = stop.cancelled() => return Err(self.job.stopped()),
            };
            if let Some(done) = acted {
                return Ok(done);
            }
            let input = tokio::select! {
                message = control.receiver.recv(MAX_FRAME_LEN) => match message? {
                    Some(message) => ProviderInput::Message(message),
                    None => return Err(closed_early()),
                },
                Some(said) = news.recv() => self.hear(said)?,
                Some(_) = self.chunks.join_next() => continue,
                _ = tick.tick() => {
                    self.show();
                    self.registry.save_if_due(self.job);
                    ProviderInput::Tick
                }
                () = cancelled.cancelled() => return Err(RunError::cancelled()),
                () = stop.cancelled() => return Err(self.job.stopped()),
            };
            let now = self.now();
            let PathStats { rtt, window, stream_frames } = self.way.link.connection().stats();
            // Where a limit is what it waits for, no more chunks need be on their way.
            let window = self.way.flow.window(rtt, Duration::ZERO).map_or(window, |limit| limit.min(window));
            self.machine.handle(ProviderInput::Path { rtt, window, moved: stream_frames }, now)?;
            self.machine.handle(input, now)?;
            self.way.waits.set(Stage::Peer, self.machine.with_peer());
        }
    }

    /// Shows whether there is only hashing to do, and nothing to send.
    fn hashes(&mut self, hashing: bool) {
        match (std::mem::replace(&mut self.hashing, hashing), hashing) {
            (false, true) => self.job.wait(WaitReason::Hashing),
            (true, false) => self.job.resume(),
            _ => {}
        }
    }

    /// Carries out what the machine asks for, up to the receiver's last word.
    async fn act(&mut self, control: &mut ControlStream) -> Result<Option<End>, RunError> {
        let (source, geometry) = (self.way.source.clone(), self.way.layout.geometry());
        while let Some(action) = self.machine.next_action() {
            match action {
                ProviderAction::SendTop => {
                    let source = source.clone();
                    let top = blocking(&self.way.workers, move || source.top(geometry)).await??;
                    say(control, &Message::Top(top)).await?;
                }
                ProviderAction::SendPage(page) => {
                    let source = source.clone();
                    let values = blocking(&self.way.workers, move || source.page(geometry, page)).await??;
                    say(control, &Message::Page(Page { page, values })).await?;
                }
                ProviderAction::SendChunk(chunk) => {
                    self.hashes(false);
                    self.way.start(chunk, &mut self.chunks);
                }
                ProviderAction::HashChunk(chunk) => {
                    self.hashes(true);
                    let way = self.way.clone();
                    self.chunks.spawn(async move {
                        let said = way.hash(chunk).await;
                        let _ = way.news.send(said).await;
                    });
                }
                ProviderAction::Finish => {
                    let (workers, source) = (self.way.workers.clone(), source.clone());
                    let news = self.way.news.clone();
                    self.chunks.spawn(async move {
                        let said = match blocking(&workers, move || source.seal()).await {
                            Ok(Ok(id)) => ChunkNews::Sealed(id),
                            Ok(Err(error)) => ChunkNews::Unreadable(error),
                            Err(error) => ChunkNews::Failed(error),
                        };
                        let _ = news.send(said).await;
                    });
                }
                ProviderAction::SendSeal(seal) => {
                    self.job.sealed(seal.file_id);
                    self.hashes(false);
                    say(control, &Message::Seal(seal)).await?;
                }
                ProviderAction::SendHashing(word) => say(control, &Message::Hashing(word)).await?,
                ProviderAction::ChunkFailed { chunk, reason } => {
                    self.job.chunk_failed(chunk, self.way.link.peer(), reason);
                    if reason == ChunkFailure::Corrupt {
                        blame(&self.way.workers, &source, self.way.layout.clone(), chunk).await?;
                    }
                }
                ProviderAction::Paused => self.job.wait(WaitReason::Space),
                ProviderAction::Resumed => self.job.resume(),
                ProviderAction::Completed(done) => return Ok(Some(End::Done(done))),
                ProviderAction::Aborted(AbortReason::Enough) => return Ok(Some(End::Enough)),
                ProviderAction::Aborted(reason) => return Err(RunError::aborted(reason)),
                ProviderAction::Stalled => return Err(RunError::stalled()),
            }
        }
        Ok(None)
    }

    fn hear(&mut self, said: ChunkNews) -> Result<ProviderInput, RunError> {
        match said {
            ChunkNews::Written(chunk, bytes) => {
                self.written.insert(chunk, bytes);
                Ok(ProviderInput::ChunkWritten { chunk })
            }
            ChunkNews::Hashed(chunk) => Ok(ProviderInput::ChunkHashed { chunk }),
            ChunkNews::Sealed(id) => Ok(ProviderInput::Sealed(id)),
            ChunkNews::Acked(chunk) => {
                let bytes = self.written.remove(&chunk).unwrap_or_default();
                self.moved += bytes;
                Ok(ProviderInput::ChunkAcked { chunk, bytes })
            }
            ChunkNews::Stopped(chunk) => {
                self.written.remove(&chunk);
                Ok(ProviderInput::ChunkStopped { chunk })
            }
            ChunkNews::Unreadable(error) => Err(unreadable(error)),
            ChunkNews::Broken(error) => Err(error.into()),
            ChunkNews::Failed(error) => Err(error),
        }
    }
}

/// A conversation that ended without a word.
pub(crate) fn closed_early() -> RunError {
    RunError { passing: true, ..RunError::new(Failure::Unreachable, "the peer ended the conversation early") }
}

fn unreadable(error: StoreError) -> RunError {
    let run = RunError::from(error);
    let tell = match run.failure {
        Failure::Integrity => AbortReason::SourceChanged,
        _ => AbortReason::SourceUnreadable,
    };
    RunError { tell: Some(tell), ..run }
}

/// After the receiver found a chunk corrupt: was it the source, or the way?
async fn blame(workers: &Workers, source: &Arc<Source>, layout: Layout, chunk: u32) -> Result<(), RunError> {
    let checked = source.clone();
    let intact =
        blocking(workers, move || checked.chunk_is_intact(&layout, chunk)).await?.map_err(unreadable)?;
    if intact {
        tracing::warn!(chunk, "the source still has this chunk as it should be: it was damaged on the way");
        return Ok(());
    }
    Err(RunError {
        tell: Some(AbortReason::SourceChanged),
        ..RunError::new(
            Failure::Integrity,
            format!(
                "{}: its content is no longer what it was when it was hashed (chunk {chunk})",
                source.path().display()
            ),
        )
    })
}

impl Way {
    /// Reads a chunk, and, where the offer had no File ID, finds its value.
    async fn read(&self, chunk: u32) -> Result<Chunk, ChunkNews> {
        let (source, layout, unsealed) = (self.source.clone(), self.layout.clone(), self.unsealed);
        let mut stay = self.waits.in_line();
        let _place = self.reads.acquire().await;
        let read = move || {
            stay.go_on_to_disk();
            source.read(&layout, chunk, unsealed, || stay.go_on(Stage::Hashing))
        };
        match blocking(&self.workers, read).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => Err(ChunkNews::Unreadable(error)),
            Err(error) => Err(ChunkNews::Failed(error)),
        }
    }

    /// Reads a chunk that the receiver has already, for its value.
    async fn hash(&self, chunk: u32) -> ChunkNews {
        let units = self.layout.len_of(chunk).div_ceil(MEMORY_UNIT) as u32;
        let Ok(_memory) = self.memory.acquire_many(units).await else {
            return ChunkNews::Failed(RunError::stopped());
        };
        match self.read(chunk).await {
            Ok(_) => ChunkNews::Hashed(chunk),
            Err(said) => said,
        }
    }

    /// Has a chunk read and sent, by a task.
    fn start(&self, chunk: u32, tasks: &mut JoinSet<()>) {
        let way = self.clone();
        tasks.spawn(async move {
            let said = way.send(chunk).await;
            let _ = way.news.send(said).await;
        });
    }

    /// Writes a chunk to a stream of its own, no faster than limits on bandwidth allow.
    async fn write(&self, header: &ChunkHeader, mut payload: Bytes) -> Result<InFlight, TransportError> {
        let _turn = self.flow.turn().await;
        let mut stay = self.waits.at(Place::At(Stage::Path));
        let mut stream = self.link.connection().open_chunk().await?;
        let mut next = || payload.split_to(self.flow.piece().min(payload.len()));
        let first = next();
        stay.go_on(Stage::Limit);
        self.flow.pass(first.len() as u64).await;
        stay.go_on(Stage::Path);
        stream.begin(header, first).await?;
        loop {
            let piece = next();
            if piece.is_empty() {
                return Ok(stream.end());
            }
            stay.go_on(Stage::Limit);
            self.flow.pass(piece.len() as u64).await;
            stay.go_on(Stage::Path);
            stream.go_on(piece).await?;
        }
    }

    /// Reads a chunk and sends it on a stream of its own. Its memory is held until the receiver's QUIC has it: a
    /// receiver that reads nothing gets no more than the budget's worth of this machine's memory.
    async fn send(&self, chunk: u32) -> ChunkNews {
        let len = self.layout.len_of(chunk);
        let units = len.div_ceil(MEMORY_UNIT) as u32;
        let (Ok(_of_link), Ok(_of_daemon)) =
            (self.link.outgoing().acquire_many(units).await, self.memory.acquire_many(units).await)
        else {
            return ChunkNews::Failed(RunError::stopped());
        };
        let Chunk { data, cv, proof } = match self.read(chunk).await {
            Ok(read) => read,
            Err(said) => return said,
        };
        let (encoding, payload) = match data {
            ChunkData::Bytes(bytes) => (Encoding::Raw, bytes),
            ChunkData::Zeros => (Encoding::Zeros, Bytes::new()),
        };
        if self.unsealed {
            let _ = self.news.send(ChunkNews::Hashed(chunk)).await;
        }
        let (transfer, index, len) = (self.transfer, chunk, len as u32);
        let header = ChunkHeader { transfer, index, len, encoding, cv, proof };
        let moved = payload.len() as u64;
        let sent = async {
            let in_flight = self.write(&header, payload).await?;
            let _ = self.news.send(ChunkNews::Written(chunk, moved)).await;
            // Behind a limit the path is not full, however long the way is.
            let _stay = self.flow.rate().is_none().then(|| self.waits.at(Place::At(Stage::Path)));
            in_flight.acked().await
        };
        match sent.await {
            Ok(()) => ChunkNews::Acked(chunk),
            Err(TransportError::Stopped { .. }) => ChunkNews::Stopped(chunk),
            Err(error) => ChunkNews::Broken(error),
        }
    }
}
