//! The side that wants the bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Now, eager_want, pages::Pages, provider::bytes_of, stats::RateMeter};
use crate::{
    ChunkRange, ChunkSet, FileId, Geometry,
    control::Progress,
    limits::{
        MAX_CHUNK_FAILURES, MAX_STREAMS_PER_TRANSFER, MAX_TEXT_LEN, MAX_UNASKED_CHUNKS, RECHECKS_AT_ONCE,
        RESERVE_AHEAD, SPACE_POLL, TRANSFER_PROGRESS_DEADLINE, WANT_WINDOW,
    },
    reason::{AbortReason, ChunkFailure, PeerMisbehaved},
    tree::Expected,
    wire::{
        chunk::ChunkHeader,
        peer::{ChunkFailed, Done, Message, Page, PauseReason, Want},
    },
};

/// What a receiver begins with.
#[derive(Clone, Debug)]
pub struct ReceiverStart {
    /// Size and chunk size, as in its `Accept`.
    pub geometry: Geometry,
    /// The content's identity.
    pub file_id: FileId,
    /// Chunks that are durable here and were verified.
    pub verified: ChunkSet,
    /// Chunks whose bytes may be here, to be hashed before they count.
    pub doubtful: ChunkSet,
    /// Those of the doubtful ones that verified in an earlier run, as far as the partial's records tell. They
    /// were in `Accept`, and are shown as verified until a hash says otherwise.
    pub claimed: ChunkSet,
    /// How many chunks this receiver has memory for at once.
    pub credit: u32,
    /// Whether it asked with an eager `Fetch`, and so has said its first words already. Nothing may be here then.
    pub eager: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum ReceiverInput {
    /// The provider said something.
    Message(Message),
    /// Bytes of some admitted chunk came in.
    ChunkBytes,
    /// A chunk has verified and is written, though perhaps not yet durable.
    ChunkStored {
        /// Which.
        chunk: u32,
    },
    /// An admitted chunk did not arrive whole, did not verify, or could not be stored.
    ChunkFailed {
        /// Which.
        chunk: u32,
        /// Why.
        reason: ChunkFailure,
    },
    /// A doubtful chunk was hashed.
    Rechecked {
        /// Which.
        chunk: u32,
        /// Whether its bytes are the right ones.
        good: bool,
    },
    /// The disk is full or gone; the chunk that found out, if one did, is lost.
    StorageFull {
        /// Which.
        chunk: Option<u32>,
    },
    /// There is room again.
    SpaceFreed,
    /// These chunks were stored and could not be made durable.
    Lost(ChunkSet),
    /// How many chunks this receiver has memory for at once.
    Credit(u32),
    /// The content is durable under this name.
    Published {
        /// The name.
        name: String,
        /// Whether the provider may fetch it back.
        fetchable: bool,
    },
    /// Time has passed.
    Tick,
}

/// What should happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiverAction {
    /// Say this to the provider.
    Send(Message),
    /// The page of a chunk that was held has come: this is what the chunk must verify against.
    Take {
        /// Which.
        chunk: u32,
        /// What its bytes must hash to.
        expected: Expected,
    },
    /// Hash what is stored of a doubtful chunk.
    Recheck {
        /// Which.
        chunk: u32,
        /// What its bytes must hash to.
        expected: Expected,
    },
    /// Reserve disk space for the file's first so many bytes.
    ReserveUpTo(u64),
    /// Make the content durable under its final name; every chunk is verified.
    Publish,
    /// `Done` was said; nothing more will happen.
    Completed,
    /// The provider gave up.
    Aborted(AbortReason),
    /// A chunk was dropped.
    ChunkFailed {
        /// Which.
        chunk: u32,
        /// Why.
        reason: ChunkFailure,
    },
    /// Nothing is wanted for a while.
    Paused(PauseReason),
    /// See whether there is room again.
    PollSpace,
    /// Something is owed by the provider and nothing has come for too long.
    Stalled,
    /// A chunk could not be received for a reason that is nobody's proven fault, too many times.
    GaveUp {
        /// Which.
        chunk: u32,
        /// Why, the last time.
        reason: ChunkFailure,
    },
}

/// What to do with a chunk stream whose header was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is not wanted (any longer).
    Ignore,
    /// Read it, and verify it against this.
    Take(Expected),
    /// Read it, and keep it until [`ReceiverAction::Take`]: it has overtaken its page.
    Hold,
}

/// The receiver of one file in one conversation.
#[derive(Clone, Debug)]
pub struct Receiver {
    geometry: Geometry,
    file_id: FileId,
    pages: Pages,
    verified: ChunkSet,
    doubtful: ChunkSet,
    /// Chunks that the provider was told of and that have not been hashed anew yet.
    claimed: ChunkSet,
    rechecking: BTreeSet<u32>,
    /// Chunks that are neither verified, nor doubtful, nor wanted.
    todo: ChunkSet,
    /// Wanted chunks, each with whether its stream was admitted.
    wanted: BTreeMap<u32, bool>,
    /// Admitted chunks whose page is not here yet.
    held: BTreeSet<u32>,
    wanted_bytes: u64,
    failures: BTreeMap<u32, u32>,
    failed: u32,
    unasked: u32,
    credit: u32,
    told_credit: u32,
    /// The largest credit of this conversation: chunks that an honest provider may have on their way.
    most_credit: usize,
    reserved: u64,
    paused_since: Option<Now>,
    publishing: bool,
    rate: RateMeter,
    last_move: Now,
    actions: VecDeque<ReceiverAction>,
}

impl Receiver {
    /// Begins after this side's `Accept`, or, if it was eager, after the offer.
    pub fn new(start: ReceiverStart, now: Now) -> Self {
        let ReceiverStart { geometry, file_id, verified, mut doubtful, mut claimed, credit, eager } = start;
        doubtful.union(&claimed);
        doubtful.subtract(&verified);
        claimed.subtract(&verified);
        let mut todo = verified.missing(geometry.chunks());
        todo.subtract(&doubtful);
        let mut receiver = Self {
            geometry,
            file_id,
            pages: Pages::new(geometry, file_id),
            verified,
            doubtful,
            claimed,
            rechecking: BTreeSet::new(),
            todo,
            wanted: BTreeMap::new(),
            held: BTreeSet::new(),
            wanted_bytes: 0,
            failures: BTreeMap::new(),
            failed: 0,
            unasked: 0,
            credit: credit.clamp(1, MAX_STREAMS_PER_TRANSFER),
            told_credit: 0,
            most_credit: 0,
            reserved: 0,
            paused_since: None,
            publishing: false,
            rate: RateMeter::new(now),
            last_move: now,
            actions: VecDeque::new(),
        };
        if eager && geometry.chunks() > 0 {
            receiver.has_said(&eager_want(geometry));
        }
        receiver.pump();
        receiver
    }

    /// The first page and these first chunks were asked for by the fetch itself.
    fn has_said(&mut self, want: &Want) {
        self.pages.asked_first();
        for chunk in want.ranges.iter().flat_map(|range| range.start..range.start + range.count) {
            self.todo.remove(chunk);
            self.wanted.insert(chunk, false);
            self.wanted_bytes += self.geometry.len_of(chunk);
        }
        self.told_credit = want.credit;
        self.most_credit = want.credit as usize;
    }

    /// Decides on a chunk stream. An error ends the conversation.
    pub fn admit(&mut self, header: &ChunkHeader, now: Now) -> Result<Admission, PeerMisbehaved> {
        header.check(self.geometry)?;
        self.last_move = now;
        let chunk = header.index;
        let expected = self.pages.expected(chunk);
        let admitted = self.wanted.values().filter(|admitted| **admitted).count();
        match self.wanted.get_mut(&chunk) {
            Some(taken @ false) if admitted < self.most_credit => {
                *taken = true;
                if expected.is_none() {
                    self.held.insert(chunk);
                }
                Ok(expected.map_or(Admission::Hold, Admission::Take))
            }
            _ => {
                self.unasked += 1;
                if self.unasked > MAX_UNASKED_CHUNKS {
                    return Err(PeerMisbehaved::UnaskedChunks);
                }
                Ok(Admission::Ignore)
            }
        }
    }

    /// Takes in what happened. An error ends the conversation.
    pub fn handle(&mut self, input: ReceiverInput, now: Now) -> Result<(), PeerMisbehaved> {
        match input {
            ReceiverInput::Message(message) => {
                self.last_move = now;
                self.message(message)?;
            }
            ReceiverInput::ChunkBytes => self.last_move = now,
            ReceiverInput::ChunkStored { chunk } => {
                self.last_move = now;
                if self.unwant(chunk) {
                    self.count(chunk, now);
                }
            }
            ReceiverInput::ChunkFailed { chunk, reason } => self.chunk_failed(chunk, reason)?,
            ReceiverInput::Rechecked { chunk, good } => {
                if self.rechecking.remove(&chunk) {
                    match (self.claimed.remove(chunk), good) {
                        // The provider knows of it since `Accept`.
                        (true, true) => {
                            self.verified.insert(chunk);
                        }
                        (false, true) => self.count(chunk, now),
                        (_, false) => {
                            self.todo.insert(chunk);
                        }
                    }
                }
            }
            ReceiverInput::StorageFull { chunk } => self.storage_full(chunk, now),
            ReceiverInput::SpaceFreed => {
                if self.paused_since.take().is_some() {
                    // Said again with the next `Want`, which is what lets the provider go on.
                    self.told_credit = 0;
                }
            }
            ReceiverInput::Lost(chunks) => {
                self.publishing = false;
                self.verified.subtract(&chunks);
                // What is on its way again, or being hashed, is not wanted a second time.
                let again =
                    chunks.iter().filter(|c| !self.wanted.contains_key(c) && !self.rechecking.contains(c));
                let again: ChunkSet = again.collect();
                self.todo.union(&again);
            }
            ReceiverInput::Credit(credit) => self.credit = credit.clamp(1, MAX_STREAMS_PER_TRANSFER),
            ReceiverInput::Published { mut name, fetchable } => {
                name.truncate(name.floor_char_boundary(MAX_TEXT_LEN));
                let done = Done { file_id: self.file_id, name, fetchable };
                self.actions.push_back(ReceiverAction::Send(Message::Done(done)));
                self.actions.push_back(ReceiverAction::Completed);
            }
            ReceiverInput::Tick => self.tick(now),
        }
        self.pump();
        Ok(())
    }

    /// The next thing to do, if any.
    pub fn next_action(&mut self) -> Option<ReceiverAction> {
        self.actions.pop_front()
    }

    /// The numbers for a progress line. `moved_bytes` is left to the caller, who sees the streams.
    pub fn progress(&self, now: Now) -> Progress {
        let streams = self.wanted.values().filter(|admitted| **admitted).count() as u32;
        let shown = self.shown();
        Progress {
            verified_bytes: bytes_of(self.geometry, &shown),
            total_bytes: self.geometry.size(),
            chunks_verified: shown.len(),
            chunks_total: self.geometry.chunks(),
            chunks_failed: self.failed,
            moved_bytes: 0,
            rate: self.rate.rate(now),
            streams,
            parallel: streams > 1,
        }
    }

    /// Chunks that are verified.
    pub fn verified(&self) -> &ChunkSet {
        &self.verified
    }

    /// Chunks that are not verified.
    pub fn missing(&self) -> Vec<ChunkRange> {
        self.shown().missing(self.geometry.chunks()).ranges()
    }

    fn shown(&self) -> ChunkSet {
        let mut shown = self.verified.clone();
        shown.union(&self.claimed);
        shown
    }

    /// Chunks from the first on that are verified without a gap.
    pub fn verified_prefix(&self) -> u32 {
        let chunks = self.geometry.chunks();
        self.verified.first_missing(chunks).unwrap_or(chunks)
    }

    fn message(&mut self, message: Message) -> Result<(), PeerMisbehaved> {
        match message {
            Message::Top(top) => self.pages.take_top(top),
            Message::Page(Page { page, values }) => {
                self.pages.take_page(page, values)?;
                self.release();
                Ok(())
            }
            Message::Abort(reason) => {
                self.actions.push_back(ReceiverAction::Aborted(reason));
                Ok(())
            }
            other => Err(PeerMisbehaved::UnexpectedMessage(other.name())),
        }
    }

    fn chunk_failed(&mut self, chunk: u32, reason: ChunkFailure) -> Result<(), PeerMisbehaved> {
        if !self.unwant(chunk) {
            return Ok(());
        }
        self.drop_chunk(chunk, reason);
        let failures = self.failures.entry(chunk).or_default();
        *failures += 1;
        if *failures < MAX_CHUNK_FAILURES {
            return Ok(());
        }
        if reason == ChunkFailure::Corrupt {
            return Err(PeerMisbehaved::BadChunks(*failures));
        }
        self.actions.push_back(ReceiverAction::GaveUp { chunk, reason });
        Ok(())
    }

    fn storage_full(&mut self, chunk: Option<u32>, now: Now) {
        if let Some(chunk) = chunk
            && self.unwant(chunk)
        {
            self.drop_chunk(chunk, ChunkFailure::NotStored);
        }
        self.publishing = false;
        if self.paused_since.is_none() {
            self.paused_since = Some(now);
            self.actions.push_back(ReceiverAction::Send(Message::Paused(PauseReason::Space)));
            self.actions.push_back(ReceiverAction::Paused(PauseReason::Space));
        }
    }

    /// Tells both sides that a chunk was dropped; it will be wanted again.
    fn drop_chunk(&mut self, chunk: u32, reason: ChunkFailure) {
        self.todo.insert(chunk);
        self.failed = self.failed.saturating_add(1);
        let failed = Message::ChunkFailed(ChunkFailed { chunk, reason });
        self.actions.push_back(ReceiverAction::Send(failed));
        self.actions.push_back(ReceiverAction::ChunkFailed { chunk, reason });
    }

    fn tick(&mut self, now: Now) {
        if let Some(since) = self.paused_since
            && now.saturating_sub(since) >= SPACE_POLL
        {
            self.paused_since = Some(now);
            self.actions.push_back(ReceiverAction::PollSpace);
        }
        let awaits_top = self.pages.lack_top() && self.verified.len() < self.geometry.chunks();
        let owed = !self.wanted.is_empty() || self.pages.are_owed() || awaits_top;
        if !owed || self.paused_since.is_some() {
            self.last_move = now;
        } else if now.saturating_sub(self.last_move) > TRANSFER_PROGRESS_DEADLINE {
            self.actions.push_back(ReceiverAction::Stalled);
        }
    }

    /// Counts a chunk as verified and says so.
    fn count(&mut self, chunk: u32, now: Now) {
        // A chunk may be reported lost and then, by news that was under way, stored.
        self.todo.remove(chunk);
        if self.verified.insert(chunk) {
            self.failures.remove(&chunk);
            self.rate.add(self.geometry.len_of(chunk), now);
        }
        // Said for every chunk that was sent: it is what gives the provider its credit back.
        let range = ChunkRange { start: chunk, count: 1 };
        self.actions.push_back(ReceiverAction::Send(Message::Verified(vec![range])));
    }

    /// Takes a chunk off the list of wanted ones; false if it was not on it.
    fn unwant(&mut self, chunk: u32) -> bool {
        self.held.remove(&chunk);
        let was = self.wanted.remove(&chunk).is_some();
        if was {
            self.wanted_bytes -= self.geometry.len_of(chunk);
        }
        was
    }

    /// Says of the held chunks whose page is here what they must hash to.
    fn release(&mut self) {
        for chunk in std::mem::take(&mut self.held) {
            match self.pages.expected(chunk) {
                Some(expected) => self.actions.push_back(ReceiverAction::Take { chunk, expected }),
                None => drop(self.held.insert(chunk)),
            }
        }
    }

    /// Starts whatever can be started.
    fn pump(&mut self) {
        self.turn_pages();
        self.recheck();
        if self.paused_since.is_none() {
            self.want();
            self.reserve();
            if self.verified.len() == self.geometry.chunks() && !self.publishing {
                self.publishing = true;
                self.actions.push_back(ReceiverAction::Publish);
            }
        }
    }

    fn turn_pages(&mut self) {
        let open_from = |chunk: u32| {
            let (todo, doubtful) = (self.todo.next_from(chunk), self.doubtful.next_from(chunk));
            todo.into_iter().chain(doubtful).min()
        };
        let ask = self.pages.turn(open_from, self.wanted.keys().chain(&self.rechecking).copied());
        if !ask.is_empty() {
            self.actions.push_back(ReceiverAction::Send(Message::NeedPages(ask)));
        }
    }

    fn recheck(&mut self) {
        while self.rechecking.len() < RECHECKS_AT_ONCE {
            let next =
                self.doubtful.iter().take(RECHECKS_AT_ONCE).find_map(|c| Some((c, self.pages.expected(c)?)));
            let Some((chunk, expected)) = next else { return };
            self.doubtful.remove(chunk);
            self.rechecking.insert(chunk);
            self.actions.push_back(ReceiverAction::Recheck { chunk, expected });
        }
    }

    /// Wants more chunks once half of the window is free, and says a new credit.
    fn want(&mut self) {
        let mut ranges: Vec<ChunkRange> = Vec::new();
        if self.wanted_bytes <= WANT_WINDOW / 2 {
            // The first chunk, the last one, then in order. Chunks are wanted together with their page, which saves
            // a round trip; one that overtakes its page is held.
            let last = self.todo.last().filter(|last| last + 1 == self.geometry.chunks());
            while self.wanted_bytes + self.geometry.chunk_len() <= WANT_WINDOW {
                let early = last.filter(|last| !self.wanted.is_empty() && self.todo.contains(*last));
                let chunk = early
                    .filter(|chunk| self.pages.have_or_asked(*chunk))
                    .or_else(|| self.todo.first().filter(|chunk| self.pages.have_or_asked(*chunk)));
                let Some(chunk) = chunk else { break };
                self.todo.remove(chunk);
                self.wanted.insert(chunk, false);
                self.wanted_bytes += self.geometry.len_of(chunk);
                match ranges.last_mut() {
                    Some(range) if range.start + range.count == chunk => range.count += 1,
                    _ => ranges.push(ChunkRange { start: chunk, count: 1 }),
                }
            }
        }
        let owed = !self.wanted.is_empty();
        if !ranges.is_empty() || (owed && self.credit != self.told_credit) {
            self.told_credit = self.credit;
            self.most_credit = self.most_credit.max(self.credit as usize);
            let credit = self.credit;
            self.actions.push_back(ReceiverAction::Send(Message::Want(Want { ranges, credit })));
        }
    }

    /// Disk space is reserved a bounded way ahead of the first chunk that is on its way, once its page has
    /// verified: the size is a claim.
    fn reserve(&mut self) {
        let Some(first) =
            self.wanted.keys().next().copied().filter(|chunk| self.pages.expected(*chunk).is_some())
        else {
            return;
        };
        let first = self.geometry.offset(first);
        let to = (first + RESERVE_AHEAD).min(self.geometry.size());
        // In steps, so that a long transfer does not ask at every want.
        if to > self.reserved && (to - self.reserved >= RESERVE_AHEAD / 2 || to == self.geometry.size()) {
            self.reserved = to;
            self.actions.push_back(ReceiverAction::ReserveUpTo(to));
        }
    }
}
