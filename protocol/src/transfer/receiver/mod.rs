//! The side that wants the bytes.
//!
//! Of an offer without File ID a chunk is checked against the value in its header, and counts. When the provider has
//! named the File ID, lists come as for any other offer, and each of these values is compared with the list before
//! the content is published; what differs is hashed against the list, and fetched again if it has to be.

mod credit;
mod shown;
mod signals;
mod unproven;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
};

use self::unproven::Unproven;
use super::{Now, eager_want, pages::Pages, stats::RateMeter};
use crate::{
    ChunkRange, ChunkSet, FileId, Geometry, Layout,
    limits::{
        LEAST_PROGRESS, MAX_CHUNK_FAILURES, MAX_STREAMS_PER_TRANSFER, MAX_TEXT_LEN, MAX_UNASKED_CHUNKS,
        RECHECKS_AT_ONCE, RESERVE_AHEAD, SPACE_POLL, TRANSFER_PROGRESS_DEADLINE, WANT_WINDOW,
    },
    plan::Span,
    proof::proves,
    reason::{AbortReason, ChunkFailure, PeerMisbehaved},
    tree::{Expected, TreeError},
    wire::{
        chunk::ChunkHeader,
        peer::{ChunkFailed, Done, Message, Page, PauseReason, Seal, Want},
    },
};
pub use signals::{Admission, ReceiverAction, ReceiverInput, ReceiverStart};

/// The receiver of one file or folder in one conversation.
#[derive(Clone, Debug)]
pub struct Receiver {
    layout: Layout,
    /// That of the layout; for a folder nothing counts of it but the number of chunks and their nominal length.
    geometry: Geometry,
    file_id: Option<FileId>,
    began_unsealed: bool,
    /// The lists; none before the File ID is known.
    pages: Option<Pages>,
    unproven: Unproven,
    /// Chunks that the provider had to hash when it last said so.
    unhashed: u32,
    verified: ChunkSet,
    doubtful: ChunkSet,
    /// Doubtful chunks that nothing is known of before the File ID is.
    blind: ChunkSet,
    /// Chunks that the provider was told of and that have not been hashed anew yet.
    claimed: ChunkSet,
    rechecking: BTreeSet<u32>,
    /// Chunks that are neither verified, nor doubtful, nor wanted.
    todo: ChunkSet,
    /// The chunks that are to be here in the end, where these are not all.
    alone: Option<ChunkSet>,
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
    /// Whether a limit on bandwidth holds back the words that give the provider credit, and of which chunks they are.
    holds: bool,
    unsaid: ChunkSet,
    publishing: bool,
    rate: RateMeter,
    last_move: Now,
    /// Bytes of chunks that have come since then, too few to count.
    crumbs: u64,
    actions: VecDeque<ReceiverAction>,
}

impl Receiver {
    /// Begins after this side's `Accept`, or, if it was eager, after the offer.
    pub fn new(start: ReceiverStart, now: Now) -> Self {
        let ReceiverStart { layout, file_id, mut verified, mut doubtful, mut claimed, values, .. } = start;
        let (credit, eager, wanted_alone) = (start.credit, start.eager, start.wanted);
        let geometry = layout.geometry();
        // The lists of a folder are its manifest, which is here, and the proofs that come with pieces of its files.
        let listed = if layout.plan().is_some() { Geometry::EMPTY } else { geometry };
        let mut unproven = Unproven::new(listed);
        if let Some(values) = values {
            values.into_iter().for_each(|(chunk, value)| unproven.claim(chunk, value));
            let without: ChunkSet = verified.iter().filter(|c| unproven.value(*c).is_none()).collect();
            verified.subtract(&without);
            claimed.union(&without);
            verified.iter().for_each(|chunk| unproven.store(chunk));
        }
        doubtful.union(&claimed);
        doubtful.subtract(&verified);
        claimed.subtract(&verified);
        let mut todo = verified.missing(geometry.chunks());
        todo.subtract(&doubtful);
        if let Some(alone) = &wanted_alone {
            todo.intersect(alone);
            doubtful.intersect(alone);
            claimed.intersect(alone);
        }
        let mut blind = ChunkSet::new();
        if file_id.is_none() {
            blind = doubtful.iter().filter(|chunk| unproven.value(*chunk).is_none()).collect();
            doubtful.subtract(&blind);
        }
        let mut receiver = Self {
            layout,
            geometry,
            file_id,
            began_unsealed: file_id.is_none(),
            pages: file_id.map(|file_id| Pages::new(listed, file_id)),
            unproven,
            unhashed: u32::MAX,
            verified,
            doubtful,
            blind,
            claimed,
            rechecking: BTreeSet::new(),
            todo,
            alone: wanted_alone,
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
            holds: false,
            unsaid: ChunkSet::new(),
            publishing: false,
            rate: RateMeter::new(now),
            last_move: now,
            crumbs: 0,
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
        if let Some(pages) = &mut self.pages {
            pages.asked_first();
        }
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
        header.check(&self.layout)?;
        self.got_on(now);
        let chunk = header.index;
        let expected = match &self.pages {
            Some(_) if self.layout.plan().is_some() => self.proven(header)?,
            Some(pages) => pages.expected(chunk),
            // Nothing else says what its bytes must be.
            None => Some(Expected::Subtree(header.cv.ok_or(PeerMisbehaved::ChunkHeader(chunk))?)),
        };
        let admitted = self.wanted.values().filter(|admitted| **admitted).count();
        match self.wanted.get_mut(&chunk) {
            Some(taken @ false) if admitted < self.most_credit => {
                *taken = true;
                match header.cv {
                    Some(value) if self.pages.is_none() => self.unproven.claim(chunk, value),
                    _ => self.unproven.forget(chunk),
                }
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
                if self.doubtful.contains(chunk) || self.rechecking.contains(&chunk) {
                    // It came along with the offer, and what is here may be wrong. Its provider, which may take it for delivered, has
                    // to know that it was not taken.
                    let failed = ChunkFailed { chunk, reason: ChunkFailure::NotStored };
                    self.actions.push_back(ReceiverAction::Send(Message::ChunkFailed(failed)));
                }
                Ok(Admission::Ignore)
            }
        }
    }

    /// Takes in what happened. An error ends the conversation.
    pub fn handle(&mut self, input: ReceiverInput, now: Now) -> Result<(), PeerMisbehaved> {
        match input {
            ReceiverInput::Message(Message::Hashing(word)) => {
                // It has no more chunks than there are, which counts down to an end.
                if self.pages.is_some() || word.left > self.geometry.chunks() {
                    return Err(PeerMisbehaved::UnexpectedMessage("Hashing"));
                }
                if word.left < self.unhashed {
                    self.unhashed = word.left;
                    self.got_on(now);
                }
            }
            ReceiverInput::Message(message) => {
                self.got_on(now);
                self.message(message)?;
            }
            ReceiverInput::ChunkBytes(bytes) => {
                self.crumbs = self.crumbs.saturating_add(bytes);
                if self.crumbs >= LEAST_PROGRESS {
                    self.got_on(now);
                }
            }
            ReceiverInput::ChunkStored { chunk } => {
                self.got_on(now);
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
                            self.unproven.store(chunk);
                            self.prove(chunk..chunk + 1);
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
            ReceiverInput::Hold(holds) => self.hold(holds),
            ReceiverInput::Lost(chunks) => {
                self.publishing = false;
                self.verified.subtract(&chunks);
                self.unproven.lose(&chunks);
                // What is on its way again, or being hashed, is not wanted a second time.
                let again =
                    chunks.iter().filter(|c| !self.wanted.contains_key(c) && !self.rechecking.contains(c));
                let again: ChunkSet = again.collect();
                self.doubtful.subtract(&again);
                self.todo.union(&again);
            }
            ReceiverInput::Credit(credit) => self.credit = credit.clamp(1, MAX_STREAMS_PER_TRANSFER),
            ReceiverInput::Published { mut name, fetchable } => {
                name.truncate(name.floor_char_boundary(MAX_TEXT_LEN));
                if self.alone.is_some() {
                    self.actions.push_back(ReceiverAction::Send(Message::Abort(AbortReason::Enough)));
                    self.actions.push_back(ReceiverAction::Completed);
                } else if let Some(file_id) = self.file_id {
                    // Without a File ID nothing was to be published.
                    let done = Done { file_id, name, fetchable };
                    self.actions.push_back(ReceiverAction::Send(Message::Done(done)));
                    self.actions.push_back(ReceiverAction::Completed);
                }
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

    fn message(&mut self, message: Message) -> Result<(), PeerMisbehaved> {
        match message {
            Message::Top(top) => match &mut self.pages {
                Some(pages) => pages.take_top(top),
                None => Err(PeerMisbehaved::UnexpectedMessage("Top")),
            },
            Message::Page(Page { page, values }) => {
                let pages = self.pages.as_mut().ok_or(PeerMisbehaved::UnexpectedMessage("Page"))?;
                pages.take_page(page, values)?;
                self.release();
                self.prove(self.geometry.page_chunks(page));
                Ok(())
            }
            Message::Seal(seal) => self.seal(&seal),
            Message::Abort(reason) => {
                self.actions.push_back(ReceiverAction::Aborted(reason));
                Ok(())
            }
            other => Err(PeerMisbehaved::UnexpectedMessage(other.name())),
        }
    }

    /// The provider has named the File ID: what came until now has to be proven against its list.
    fn seal(&mut self, seal: &Seal) -> Result<(), PeerMisbehaved> {
        if self.pages.is_some() {
            return Err(PeerMisbehaved::UnexpectedMessage("Seal"));
        }
        if (seal.size, seal.chunks) != (self.geometry.size(), self.geometry.chunks()) {
            return Err(PeerMisbehaved::FalseSeal);
        }
        self.file_id = Some(seal.file_id);
        self.pages = Some(Pages::new(self.geometry, seal.file_id));
        self.doubtful.union(&std::mem::take(&mut self.blind));
        self.actions.push_back(ReceiverAction::Sealed(seal.file_id));
        Ok(())
    }

    /// Compares what is claimed of these chunks with their list, where that is here. One that differs does not count
    /// until what is stored of it was hashed against the list.
    fn prove(&mut self, chunks: Range<u32>) {
        let Some(pages) = &self.pages else { return };
        for chunk in self.unproven.among(chunks) {
            let Some(expected) = pages.expected(chunk) else { continue };
            let proven = self.unproven.value(chunk).map(Expected::Subtree) == Some(expected);
            self.unproven.forget(chunk);
            if !proven {
                self.verified.remove(chunk);
                self.doubtful.insert(chunk);
            }
        }
    }

    /// What the bytes of a chunk that is stored must hash to, once that is known.
    fn expected(&self, chunk: u32) -> Option<Expected> {
        match &self.pages {
            Some(_) if self.layout.plan().is_some() => Some(Expected::Files),
            Some(pages) => pages.expected(chunk),
            None => self.unproven.value(chunk).map(Expected::Subtree),
        }
    }

    /// What the bytes of a folder's chunk must hash to: of a piece of a file the value in its header, which its proof ties
    /// to the file's ID.
    fn proven(&self, header: &ChunkHeader) -> Result<Option<Expected>, PeerMisbehaved> {
        let plan = self.layout.plan();
        let Some(Span::Piece { entry, geometry, piece }) = plan.and_then(|plan| plan.span(header.index))
        else {
            return Ok(Some(Expected::Files));
        };
        let file = plan.and_then(|plan| plan.manifest().file(entry));
        match (file, header.cv) {
            (Some((_, id)), Some(value)) if proves(id, geometry.chunks(), piece, value, &header.proof) => {
                Ok(Some(Expected::Subtree(value)))
            }
            _ => Err(TreeError::Mismatch.into()),
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
            self.actions.push_back(ReceiverAction::Paused);
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
        let all_proven = self.has_all() && self.unproven.is_empty();
        let lists_are_owed = match &self.pages {
            Some(pages) => pages.are_owed() || (pages.lack_top() && !all_proven),
            // The seal is.
            None => true,
        };
        let owed = !self.wanted.is_empty() || lists_are_owed;
        if !owed || self.holds || self.paused_since.is_some() {
            self.got_on(now);
        } else if now.saturating_sub(self.last_move) > TRANSFER_PROGRESS_DEADLINE {
            self.actions.push_back(ReceiverAction::Stalled);
        }
    }

    /// The provider does its part.
    fn got_on(&mut self, now: Now) {
        (self.last_move, self.crumbs) = (now, 0);
    }

    /// Counts a chunk as verified and says so.
    fn count(&mut self, chunk: u32, now: Now) {
        // A chunk may be reported lost and then, by news that was under way, stored.
        self.todo.remove(chunk);
        if self.verified.insert(chunk) {
            self.failures.remove(&chunk);
            self.rate.add(self.layout.len_of(chunk), now);
        }
        self.unproven.store(chunk);
        self.prove(chunk..chunk + 1);
        // Said for every chunk that was sent: it is what gives the provider its credit back.
        self.say_of(chunk);
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
            match self.expected(chunk) {
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
            let complete = self.has_all() && self.unproven.is_empty();
            if complete && self.file_id.is_some() && !self.publishing {
                self.publishing = true;
                self.say_verified();
                self.actions.push_back(ReceiverAction::Publish);
            }
        }
    }

    fn turn_pages(&mut self) {
        let open_from = |chunk: u32| {
            let (todo, doubtful) = (self.todo.next_from(chunk), self.doubtful.next_from(chunk));
            // Chunks that were wanted before there were lists need theirs too.
            let wanted = self.wanted.range(chunk..).next().map(|(chunk, _)| *chunk);
            let wanted = wanted.filter(|_| self.began_unsealed);
            todo.into_iter().chain(doubtful).chain(self.unproven.next_from(chunk)).chain(wanted).min()
        };
        let Some(pages) = &mut self.pages else { return };
        let ask = pages.turn(open_from, self.wanted.keys().chain(&self.rechecking).copied());
        if !ask.is_empty() {
            self.actions.push_back(ReceiverAction::Send(Message::NeedPages(ask)));
        }
    }

    fn recheck(&mut self) {
        while self.rechecking.len() < RECHECKS_AT_ONCE {
            let next = self.doubtful.iter().take(RECHECKS_AT_ONCE).find_map(|c| Some((c, self.expected(c)?)));
            let Some((chunk, expected)) = next else { return };
            self.doubtful.remove(chunk);
            if self.pages.is_some() {
                self.unproven.forget(chunk);
            }
            self.rechecking.insert(chunk);
            self.actions.push_back(ReceiverAction::Recheck { chunk, expected });
        }
    }

    /// Wants more chunks once half of the window is free, and says a new credit.
    fn want(&mut self) {
        let (mut ranges, mut again) = (Vec::<ChunkRange>::new(), false);
        // Before the File ID is known a chunk brings its own value.
        let may_come = |chunk: &u32| self.pages.as_ref().is_none_or(|pages| pages.have_or_asked(*chunk));
        if self.wanted_bytes <= WANT_WINDOW / 2 {
            // The first chunk, the last one, then in order. Chunks are wanted together with their page, which saves
            // a round trip; one that overtakes its page is held.
            let last = self.todo.last().filter(|last| last + 1 == self.geometry.chunks());
            while self.wanted_bytes + self.geometry.chunk_len() <= WANT_WINDOW {
                let early = last.filter(|last| !self.wanted.is_empty() && self.todo.contains(*last));
                let chunk = early.filter(may_come).or_else(|| self.todo.first().filter(may_come));
                let Some(chunk) = chunk else { break };
                again |= self.unsaid.contains(chunk);
                self.todo.remove(chunk);
                self.wanted.insert(chunk, false);
                self.wanted_bytes += self.geometry.len_of(chunk);
                match ranges.last_mut() {
                    Some(range) if range.start + range.count == chunk => range.count += 1,
                    _ => ranges.push(ChunkRange { start: chunk, count: 1 }),
                }
            }
        }
        if again {
            // Of what is wanted anew the provider has to hear first what became of it before.
            self.say_verified();
        }
        let owed = !self.wanted.is_empty();
        // A provider that has to hash begins with that when it knows that there is nothing to send.
        let waits_for_word = self.pages.is_none() && self.told_credit == 0;
        if !ranges.is_empty() || waits_for_word || (owed && self.credit != self.told_credit) {
            self.told_credit = self.credit;
            self.most_credit = self.most_credit.max(self.credit as usize);
            let credit = self.credit;
            self.actions.push_back(ReceiverAction::Send(Message::Want(Want { ranges, credit })));
        }
    }

    /// Disk space is reserved a bounded way ahead of the first chunk that is on its way, once its page has
    /// verified, or, before there are pages, once a chunk has come: the size is a claim.
    fn reserve(&mut self) {
        if self.layout.plan().is_some() {
            // Its files are many, and each is made when it comes.
            return;
        }
        let may_reserve = |chunk: &u32| match &self.pages {
            Some(pages) => pages.expected(*chunk).is_some(),
            None => !self.verified.is_empty(),
        };
        let Some(first) = self.wanted.keys().next().copied().filter(may_reserve) else { return };
        let first = self.geometry.offset(first);
        let to = (first + RESERVE_AHEAD).min(self.geometry.size());
        // In steps, so that a long transfer does not ask at every want.
        if to > self.reserved && (to - self.reserved >= RESERVE_AHEAD / 2 || to == self.geometry.size()) {
            self.reserved = to;
            self.actions.push_back(ReceiverAction::ReserveUpTo(to));
        }
    }
}
