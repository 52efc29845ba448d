//! The side that has the bytes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{Now, eager_want, schedule::Streams, stats::RateMeter, unhashed::Unhashed};
use crate::{
    ChunkRange, ChunkSet, FileId, Geometry, Layout,
    bitmap::RangesError,
    control::Progress,
    limits::{
        MAX_CHUNK_FAILURES, MAX_PAGES_ASKED, MAX_RANGES, MAX_STREAMS_PER_TRANSFER, MAX_TEXT_LEN,
        MAX_UNASKED_CHUNKS, MAX_WANTED_CHUNKS, TRANSFER_PROGRESS_DEADLINE,
    },
    name::NameError,
    reason::{AbortReason, ChunkFailure, PeerMisbehaved},
    wire::peer::{Accept, Done, Hashing, Message, PauseReason, Seal, Want},
};

/// What happened.
#[derive(Clone, Debug)]
pub enum ProviderInput {
    /// The receiver said something.
    Message(Message),
    /// QUIC has taken all bytes of a chunk.
    ChunkWritten {
        /// Which.
        chunk: u32,
    },
    /// The receiver's QUIC has all bytes of a chunk.
    ChunkAcked {
        /// Which.
        chunk: u32,
        /// Payload bytes that travelled.
        bytes: u64,
    },
    /// The receiver stopped a chunk's stream.
    ChunkStopped {
        /// Which.
        chunk: u32,
    },
    /// A chunk was read and hashed, on its way or because [`ProviderAction::HashChunk`] asked for it.
    ChunkHashed {
        /// Which.
        chunk: u32,
    },
    /// All of the source was hashed, it is what it was when that began, and this is its identity.
    Sealed(FileId),
    /// What the connection knows of its path.
    Path {
        /// The round trip now.
        rtt: Duration,
        /// Bytes that may be in flight now.
        window: u64,
        /// A number that grows while stream data leaves this machine.
        moved: u64,
    },
    /// Time has passed.
    Tick,
}

/// What should happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderAction {
    /// Say the top level of chaining values.
    SendTop,
    /// Say one page of chaining values.
    SendPage(u32),
    /// Send a chunk on a stream of its own.
    SendChunk(u32),
    /// Hash a chunk that need not be sent.
    HashChunk(u32),
    /// Every chunk is hashed: see that the source is what it was, and find its identity.
    Finish,
    /// Say what the content is.
    SendSeal(Seal),
    /// Say how far the hashing is.
    SendHashing(Hashing),
    /// The receiver dropped a chunk; it may ask for it again.
    ChunkFailed {
        /// Which.
        chunk: u32,
        /// Why.
        reason: ChunkFailure,
    },
    /// The receiver wants nothing until its disk has room.
    Paused,
    /// The receiver wants chunks again.
    Resumed,
    /// The content is durable at the receiver.
    Completed(Done),
    /// The receiver gave up.
    Aborted(AbortReason),
    /// Chunks are on their way and nothing has moved for too long.
    Stalled,
}

/// A chunk that went along with the offer. Its receiver may have had no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Early {
    Unasked,
    /// The receiver wants it, and may not have it.
    Wanted,
}

/// The provider of one file or folder in one conversation.
#[derive(Clone, Debug)]
pub struct Provider {
    layout: Layout,
    /// The content's identity, once known.
    file_id: Option<FileId>,
    /// What is to be hashed before it is.
    unhashed: Option<Unhashed>,
    /// What is known of the chunk that went along with the offer, if one did.
    early: Option<Early>,
    /// Whether one did, about which the receiver has said nothing.
    went_early: bool,
    /// Chunks that the receiver had from the start and that its `Accept` had no room to name.
    unnamed: u32,
    verified: ChunkSet,
    queue: VecDeque<u32>,
    queued: BTreeSet<u32>,
    /// Chunks sent whose bytes the receiver's QUIC does not have yet.
    in_flight: BTreeSet<u32>,
    /// Chunks sent about which the receiver has said nothing yet; bounded by its credit.
    unverified: BTreeSet<u32>,
    credit: u32,
    paused: bool,
    failed: u32,
    failures: BTreeMap<u32, u32>,
    /// Failures of chunks that were not on their way.
    strays: u32,
    streams: Streams,
    rate: RateMeter,
    last_move: Now,
    moved: u64,
    actions: VecDeque<ProviderAction>,
}

impl Provider {
    /// Begins after the receiver's `Accept`, whose chunk size, and selection of a folder's files, is already part of the layout.
    pub fn new(
        layout: impl Into<Layout>,
        file_id: FileId,
        accept: &Accept,
        now: Now,
    ) -> Result<Self, PeerMisbehaved> {
        let mut provider = Self::begin(layout.into(), accept, now)?;
        provider.identify(file_id);
        Ok(provider)
    }

    /// Begins after the `Accept` of an offer without File ID. Of the source these chunks are hashed already.
    pub fn unsealed(
        geometry: Geometry,
        hashed: &ChunkSet,
        accept: &Accept,
        now: Now,
    ) -> Result<Self, PeerMisbehaved> {
        let mut provider = Self::begin(geometry.into(), accept, now)?;
        provider.unhashed = Some(Unhashed::new(hashed, &provider.verified, geometry.chunks(), now));
        provider.fill();
        Ok(provider)
    }

    fn begin(layout: Layout, accept: &Accept, now: Now) -> Result<Self, PeerMisbehaved> {
        let verified = ChunkSet::from_wire(&accept.have, layout.chunks())?;
        let unnamed = accept.have_count.checked_sub(verified.len());
        let unnamed = unnamed.filter(|unnamed| unnamed + verified.len() <= layout.chunks());
        let streams = Streams::new(layout.chunk_len(), now);
        Ok(Self {
            layout,
            file_id: None,
            unhashed: None,
            early: None,
            went_early: false,
            unnamed: unnamed.ok_or(PeerMisbehaved::HaveCount(accept.have_count))?,
            verified,
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            unverified: BTreeSet::new(),
            credit: 0,
            paused: false,
            failed: 0,
            failures: BTreeMap::new(),
            strays: 0,
            streams,
            rate: RateMeter::new(now),
            last_move: now,
            moved: 0,
            actions: VecDeque::new(),
        })
    }

    /// From now on the content has an identity, and lists.
    fn identify(&mut self, file_id: FileId) {
        self.file_id = Some(file_id);
        self.unhashed = None;
        if self.layout.pages() > 1 {
            self.actions.push_back(ProviderAction::SendTop);
        }
    }

    /// Begins after the `Accept` of an offer that its only chunk went along with.
    pub fn with_chunk(
        geometry: Geometry,
        file_id: FileId,
        accept: &Accept,
        now: Now,
    ) -> Result<Self, PeerMisbehaved> {
        let mut provider = Self::new(geometry, file_id, accept, now)?;
        if provider.verified_count() == 0 && geometry.chunks() == 1 {
            provider.early = Some(Early::Unasked);
            provider.went_early = true;
            provider.in_flight.insert(0);
            provider.unverified.insert(0);
        }
        Ok(provider)
    }

    /// Begins after this side's offer, where the receiver asked for it with an eager `Fetch`.
    pub fn eager(geometry: Geometry, file_id: FileId, now: Now) -> Result<Self, PeerMisbehaved> {
        let accept = Accept { chunk_log2: geometry.chunk_log2(), have_count: 0, have: Vec::new() };
        let mut provider = Self::new(geometry, file_id, &accept, now)?;
        if geometry.pages() > 0 {
            provider.need_pages(&[0])?;
        }
        if geometry.chunks() > 0 {
            provider.want(&eager_want(geometry))?;
            provider.fill();
        }
        Ok(provider)
    }

    /// Takes in what happened. An error ends the conversation.
    pub fn handle(&mut self, input: ProviderInput, now: Now) -> Result<(), PeerMisbehaved> {
        match input {
            ProviderInput::Message(message) => {
                self.last_move = now;
                self.message(message, now)?;
            }
            ProviderInput::ChunkWritten { chunk } => {
                if self.in_flight.contains(&chunk) {
                    self.streams.on_written();
                }
            }
            ProviderInput::ChunkAcked { chunk, bytes } => {
                self.last_move = now;
                if self.in_flight.remove(&chunk) {
                    self.streams.on_acked(bytes);
                }
            }
            ProviderInput::ChunkStopped { chunk } => {
                self.in_flight.remove(&chunk);
                self.unverified.remove(&chunk);
                // It came too early. What the receiver has wanted since, it still does.
                if self.early.take() == Some(Early::Wanted) && self.queued.insert(chunk) {
                    self.queue.push_back(chunk);
                }
            }
            ProviderInput::ChunkHashed { chunk } => {
                if let Some(unhashed) = &mut self.unhashed {
                    unhashed.hashed(chunk);
                }
            }
            ProviderInput::Sealed(file_id) => {
                if self.file_id.is_none() {
                    let (size, chunks) = (self.layout.size(), self.layout.chunks());
                    self.actions.push_back(ProviderAction::SendSeal(Seal { file_id, size, chunks }));
                    self.identify(file_id);
                }
            }
            ProviderInput::Path { rtt, window, moved } => {
                self.streams.on_path(rtt, window);
                if moved != self.moved {
                    self.moved = moved;
                    self.last_move = now;
                }
            }
            ProviderInput::Tick => {
                self.streams.tick(now);
                if let Some(left) = self.unhashed.as_mut().and_then(|unhashed| unhashed.word(now)) {
                    self.actions.push_back(ProviderAction::SendHashing(Hashing { left }));
                }
                if self.in_flight.is_empty() {
                    self.last_move = now;
                } else if now.saturating_sub(self.last_move) > TRANSFER_PROGRESS_DEADLINE {
                    self.actions.push_back(ProviderAction::Stalled);
                }
            }
        }
        self.fill();
        Ok(())
    }

    /// The next thing to do, if any.
    pub fn next_action(&mut self) -> Option<ProviderAction> {
        self.actions.pop_front()
    }

    /// The numbers for a progress line. `moved_bytes` is left to the caller, who sees the streams.
    pub fn progress(&self, now: Now) -> Progress {
        let chunks_verified = self.verified_count();
        // Which chunks the unnamed ones are is not known, so they count as full ones.
        let named = self.layout.spared() + self.layout.bytes_of(&self.verified);
        let verified = named + u64::from(self.unnamed) * self.layout.chunk_len();
        Progress {
            verified_bytes: verified.min(self.layout.size()),
            total_bytes: self.layout.size(),
            chunks_verified,
            chunks_total: self.layout.chunks(),
            chunks_failed: self.failed,
            moved_bytes: 0,
            rate: self.rate.rate(now),
            streams: self.in_flight.len() as u32,
            parallel: self.streams.limit() > 1,
            limited: false,
            waits: None,
        }
    }

    /// Chunks that have left this side and of which the receiver has not said what became of them. One that it has said so of
    /// before all of it was acknowledged may be missing in that number.
    pub fn with_peer(&self) -> u32 {
        self.unverified.len().saturating_sub(self.in_flight.len()) as u32
    }

    /// Chunks that the receiver has not verified, as far as is known here.
    pub fn missing(&self) -> Vec<ChunkRange> {
        self.verified.missing(self.layout.chunks()).ranges()
    }

    fn verified_count(&self) -> u32 {
        (self.verified.len() + self.unnamed).min(self.layout.chunks())
    }

    fn message(&mut self, message: Message, now: Now) -> Result<(), PeerMisbehaved> {
        match message {
            Message::NeedPages(pages) => self.need_pages(&pages),
            Message::Want(want) => self.want(&want),
            Message::Verified(ranges) => {
                let named = ChunkSet::from_wire(&ranges, self.layout.chunks())?;
                for chunk in named.iter() {
                    self.early = None;
                    self.unverified.remove(&chunk);
                    self.failures.remove(&chunk);
                    if self.verified.insert(chunk) {
                        self.rate.add(self.layout.len_of(chunk), now);
                    }
                }
                Ok(())
            }
            Message::ChunkFailed(failed) => {
                if !self.layout.has(failed.chunk) {
                    return Err(RangesError::Outside(ChunkRange { start: failed.chunk, count: 1 }).into());
                }
                self.early = None;
                self.in_flight.remove(&failed.chunk);
                if !self.unverified.remove(&failed.chunk) {
                    // Its stream was stopped first, which said the same; more than that is noise.
                    self.strays += 1;
                    if self.strays > MAX_UNASKED_CHUNKS {
                        return Err(PeerMisbehaved::UnexpectedMessage("ChunkFailed"));
                    }
                }
                if std::mem::take(&mut self.went_early) && failed.reason == ChunkFailure::NotStored {
                    // There was no room for it before the offer was taken, which is no failure.
                    return Ok(());
                }
                // A full disk is nobody's fault, and paced by the pause.
                if failed.reason != ChunkFailure::NotStored {
                    let failures = self.failures.entry(failed.chunk).or_default();
                    *failures += 1;
                    if *failures > MAX_CHUNK_FAILURES {
                        return Err(PeerMisbehaved::BadChunks(*failures));
                    }
                }
                self.failed = self.failed.saturating_add(1);
                let (chunk, reason) = (failed.chunk, failed.reason);
                self.actions.push_back(ProviderAction::ChunkFailed { chunk, reason });
                Ok(())
            }
            Message::Paused(PauseReason::Space) => {
                self.paused = true;
                self.actions.push_back(ProviderAction::Paused);
                Ok(())
            }
            Message::Done(done) => {
                if Some(done.file_id) != self.file_id || self.verified_count() != self.layout.chunks() {
                    return Err(PeerMisbehaved::FalseDone);
                }
                if done.name.len() > MAX_TEXT_LEN {
                    return Err(PeerMisbehaved::Name(NameError::TooLong));
                }
                self.actions.push_back(ProviderAction::Completed(done));
                Ok(())
            }
            Message::Abort(reason) => {
                self.actions.push_back(ProviderAction::Aborted(reason));
                Ok(())
            }
            other => Err(PeerMisbehaved::UnexpectedMessage(other.name())),
        }
    }

    fn need_pages(&mut self, pages: &[u32]) -> Result<(), PeerMisbehaved> {
        if self.file_id.is_none() {
            return Err(PeerMisbehaved::UnexpectedMessage("NeedPages"));
        }
        if pages.len() > MAX_PAGES_ASKED {
            return Err(PeerMisbehaved::TooManyPages);
        }
        for &page in pages {
            if page >= self.layout.pages() {
                return Err(PeerMisbehaved::NoSuchPage(page));
            }
            self.actions.push_back(ProviderAction::SendPage(page));
        }
        Ok(())
    }

    fn want(&mut self, want: &Want) -> Result<(), PeerMisbehaved> {
        if want.credit == 0 || want.credit > MAX_STREAMS_PER_TRANSFER {
            return Err(PeerMisbehaved::Credit(want.credit));
        }
        let named = ChunkSet::from_wire(&want.ranges, self.layout.chunks())?;
        if want.ranges.len() > MAX_RANGES
            || self.queue.len() as u64 + u64::from(named.len()) > MAX_WANTED_CHUNKS
        {
            return Err(PeerMisbehaved::TooManyWanted);
        }
        self.credit = want.credit;
        if let Some(unhashed) = &mut self.unhashed {
            unhashed.asked();
            named.iter().for_each(|chunk| unhashed.wanted(chunk));
        }
        if std::mem::take(&mut self.paused) {
            self.actions.push_back(ProviderAction::Resumed);
        }
        for range in &want.ranges {
            for chunk in range.start..range.start + range.count {
                // A chunk that is wanted anew after it was verified is one that the receiver lost.
                self.verified.remove(chunk);
                self.early = self.early.map(|_| Early::Wanted);
                // One that is on its way stays wanted until the receiver has said what became of it.
                if !self.unverified.contains(&chunk) && self.queued.insert(chunk) {
                    self.queue.push_back(chunk);
                }
            }
        }
        Ok(())
    }

    /// Starts what can be started.
    fn fill(&mut self) {
        self.send();
        let idle = self.in_flight.is_empty() && self.unverified.is_empty() && !self.paused;
        let Some(unhashed) = &mut self.unhashed else { return };
        if self.queue.is_empty() {
            self.actions.extend(std::iter::from_fn(|| unhashed.next(idle)).map(ProviderAction::HashChunk));
        }
        if unhashed.finish() {
            self.actions.push_back(ProviderAction::Finish);
        }
    }

    /// Starts as many chunks as credit and path allow.
    fn send(&mut self) {
        while !self.paused && !self.queue.is_empty() && (self.unverified.len() as u32) < self.credit {
            if self.in_flight.len() as u32 >= self.streams.limit() {
                return;
            }
            let Some(chunk) = self.queue.pop_front() else { return };
            self.queued.remove(&chunk);
            self.in_flight.insert(chunk);
            self.unverified.insert(chunk);
            self.actions.push_back(ProviderAction::SendChunk(chunk));
        }
    }
}
