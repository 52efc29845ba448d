//! The provider's side of one conversation, after the receiver has accepted: the pure machine decides, this
//! driver reads the source and feeds the network.

use std::{collections::HashMap, sync::Arc, time::Duration};

use p2p_protocol::{
    Geometry,
    control::{Progress, WaitReason},
    limits::MAX_FRAME_LEN,
    reason::{AbortReason, ChunkFailure, Failure, PeerMisbehaved},
    transfer::{Now, Provider, ProviderAction, ProviderInput},
    wire::{
        chunk::{ChunkHeader, Encoding},
        peer::{Accept, Done, Message, Page},
    },
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{blocking, error::RunError, job::Job, links::Link, registry::Registry, say};
use crate::{
    store::{ChunkData, Source, StoreError},
    transport::{ControlStream, TransportError},
};

/// How often the machine sees the clock, and clients see progress.
const TICK: Duration = Duration::from_millis(100);

/// Everything that a provider's run works with.
pub(crate) struct Providing<'a> {
    pub(crate) job: &'a Job,
    pub(crate) registry: &'a Registry,
    pub(crate) link: &'a Arc<Link>,
    pub(crate) control: &'a mut ControlStream,
    pub(crate) source: Arc<Source>,
    pub(crate) accept: Accept,
    /// Ends the run without ending the transfer.
    pub(crate) stop: CancellationToken,
}

/// What a chunk's task has to say.
enum ChunkNews {
    /// QUIC has taken all bytes, so many of payload.
    Written(u32, u64),
    /// The receiver's QUIC has acknowledged them.
    Acked(u32),
    /// The receiver did not want the stream any longer.
    Stopped(u32),
    /// The source cannot be read.
    Unreadable(StoreError),
    /// The connection is gone.
    Broken(TransportError),
}

/// Sends what the receiver wants until it says that all is durable.
pub(crate) async fn provide(run: Providing<'_>) -> Result<Done, RunError> {
    let Providing { job, registry, link, control, source, accept, stop } = run;
    let geometry = Geometry::new(source.size(), accept.chunk_log2).map_err(PeerMisbehaved::Geometry)?;
    let begun = Instant::now();
    let now = || -> Now { begun.elapsed() };
    let mut machine = Provider::new(geometry, source.file_id(), &accept, now())?;
    job.start(&source.name(), link.peer(), source.file_id(), geometry.chunk_len(), machine.progress(now()));

    let cancelled = job.cancelled();
    let (news_sender, mut news) = mpsc::channel(64);
    // Dropping the set resets the streams of chunks that are still on their way.
    let mut chunks = JoinSet::new();
    let mut moved_bytes = 0;
    // Payload bytes of chunks that QUIC has taken and not yet seen acknowledged.
    let mut written: HashMap<u32, u64> = HashMap::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);

    loop {
        while let Some(action) = machine.next_action() {
            match action {
                ProviderAction::SendTop => {
                    let source = source.clone();
                    let top = blocking(move || source.top(geometry)).await??;
                    say(control, &Message::Top(top)).await?;
                }
                ProviderAction::SendPage(page) => {
                    let source = source.clone();
                    let values = blocking(move || source.page(geometry, page)).await??;
                    say(control, &Message::Page(Page { page, values })).await?;
                }
                ProviderAction::SendChunk(chunk) => {
                    let (source, link, news) = (source.clone(), link.clone(), news_sender.clone());
                    let transfer = control.id;
                    chunks.spawn(async move {
                        let said = send_chunk(source, link, geometry, transfer, chunk, &news).await;
                        let _ = news.send(said).await;
                    });
                }
                ProviderAction::ChunkFailed { chunk, reason } => {
                    job.chunk_failed(chunk, link.peer(), reason);
                    if reason == ChunkFailure::Corrupt {
                        blame(&source, geometry, chunk).await?;
                    }
                }
                ProviderAction::Paused(_) => job.wait(WaitReason::Space),
                ProviderAction::Resumed => job.resume(),
                ProviderAction::Completed(done) => {
                    // What the receiver has verified has arrived, acknowledged or not.
                    moved_bytes += written.values().sum::<u64>();
                    show(job, &machine, now(), moved_bytes);
                    return Ok(done);
                }
                ProviderAction::Aborted(reason) => return Err(RunError::aborted(reason)),
                ProviderAction::Stalled => return Err(RunError::stalled()),
            }
        }
        let input = tokio::select! {
            message = control.receiver.recv(MAX_FRAME_LEN) => match message? {
                Some(message) => ProviderInput::Message(message),
                None => return Err(closed_early()),
            },
            Some(said) = news.recv() => match said {
                ChunkNews::Written(chunk, bytes) => {
                    written.insert(chunk, bytes);
                    ProviderInput::ChunkWritten { chunk }
                }
                ChunkNews::Acked(chunk) => {
                    let bytes = written.remove(&chunk).unwrap_or_default();
                    moved_bytes += bytes;
                    ProviderInput::ChunkAcked { chunk, bytes }
                }
                ChunkNews::Stopped(chunk) => {
                    written.remove(&chunk);
                    ProviderInput::ChunkStopped { chunk }
                }
                ChunkNews::Unreadable(error) => return Err(unreadable(error)),
                ChunkNews::Broken(error) => return Err(error.into()),
            },
            Some(_) = chunks.join_next() => continue,
            _ = tick.tick() => {
                show(job, &machine, now(), moved_bytes);
                registry.save_if_due(job);
                let stats = link.connection().stats();
                machine.handle(ProviderInput::Path { rtt: stats.rtt, moved: stats.stream_frames }, now())?;
                ProviderInput::Tick
            }
            () = cancelled.cancelled() => return Err(RunError::cancelled()),
            () = stop.cancelled() => return Err(RunError::stopped()),
        };
        machine.handle(input, now())?;
    }
}

fn show(job: &Job, machine: &Provider, now: Now, moved_bytes: u64) {
    job.progress(Progress { moved_bytes, ..machine.progress(now) }, machine.missing());
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
async fn blame(source: &Arc<Source>, geometry: Geometry, chunk: u32) -> Result<(), RunError> {
    let checked = source.clone();
    let intact = blocking(move || checked.chunk_is_intact(geometry, chunk)).await?.map_err(unreadable)?;
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

async fn send_chunk(
    source: Arc<Source>,
    link: Arc<Link>,
    geometry: Geometry,
    transfer: u64,
    chunk: u32,
    news: &mpsc::Sender<ChunkNews>,
) -> ChunkNews {
    let read = blocking(move || {
        let data = source.read_chunk(geometry, chunk)?;
        source.check_unchanged()?;
        Ok(data)
    });
    let (encoding, payload) = match read.await {
        Ok(Ok(ChunkData::Bytes(bytes))) => (Encoding::Raw, bytes),
        Ok(Ok(ChunkData::Zeros)) => (Encoding::Zeros, bytes::Bytes::new()),
        Ok(Err(error)) => return ChunkNews::Unreadable(error),
        // The run-time is going down, and the run with it.
        Err(_) => return ChunkNews::Stopped(chunk),
    };
    let len = geometry.len_of(chunk) as u32;
    let header = ChunkHeader { transfer, index: chunk, len, encoding, cv: None };
    let moved = payload.len() as u64;
    let sent = async {
        let stream = link.connection().open_chunk().await?;
        let in_flight = stream.write(&header, payload).await?;
        let _ = news.send(ChunkNews::Written(chunk, moved)).await;
        in_flight.acked().await
    };
    match sent.await {
        Ok(()) => ChunkNews::Acked(chunk),
        Err(TransportError::Stopped { .. }) => ChunkNews::Stopped(chunk),
        Err(error) => ChunkNews::Broken(error),
    }
}
