//! The model: both sides, the network between them and the receiver's disk, with chunks that exist only as
//! their chaining values.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::*;
use crate::{
    ChunkSet, Cv, FileId, Geometry,
    reason::ChunkFailure,
    tree::{Expected, hash_group, merge_root, top_from_chunks},
    wire::{
        chunk::{ChunkHeader, Encoding},
        peer::{Accept, Done, Message, Page},
    },
};

/// What a receiver has memory for at first.
pub(super) const CREDIT: u32 = 2;

/// A file whose chunks exist only as their chaining values.
pub(super) struct File {
    pub(super) geometry: Geometry,
    pub(super) id: FileId,
    pub(super) values: Vec<Cv>,
    pub(super) top: Vec<Cv>,
}

impl File {
    pub(super) fn new(chunks: u32) -> Self {
        let size = (u64::from(chunks) << 18).saturating_sub(77);
        let geometry = Geometry::new(size, 18).unwrap();
        let values: Vec<Cv> = (0..chunks).map(|i| hash_group(u64::from(i), &i.to_le_bytes())).collect();
        let top = top_from_chunks(&values);
        let id = merge_root(&values).unwrap_or(FileId(values.first().map_or([0; 32], |cv| cv.0)));
        Self { geometry, id, values, top }
    }

    /// Whether bytes with this value are what is expected.
    pub(super) fn verifies(&self, expected: Expected, value: Cv) -> bool {
        match expected {
            Expected::Root(id) => id.0 == value.0,
            Expected::Subtree(cv) => cv == value,
        }
    }

    pub(super) fn header(&self, chunk: u32) -> ChunkHeader {
        let len = self.geometry.len_of(chunk) as u32;
        ChunkHeader { transfer: 0, index: chunk, len, encoding: Encoding::Raw, cv: None }
    }
}

/// A chunk on its way.
#[derive(Clone, Copy)]
pub(super) struct Flying {
    pub(super) chunk: u32,
    pub(super) value: Cv,
}

/// Both sides, the network between them, and the receiver's disk.
pub(super) struct World {
    pub(super) file: File,
    pub(super) provider: Provider,
    pub(super) receiver: Receiver,
    pub(super) to_receiver: VecDeque<Message>,
    pub(super) to_provider: VecDeque<Message>,
    pub(super) flying: Vec<Flying>,
    /// Chunks that came before their page, each with what becomes of it.
    pub(super) held: BTreeMap<u32, (Flying, Fate)>,
    /// What the receiver's disk holds for each chunk.
    pub(super) stored: BTreeMap<u32, Cv>,
    /// Chunks in the durable bitmap.
    pub(super) durable: ChunkSet,
    /// Chunks stored since the last checkpoint.
    pub(super) pending: BTreeSet<u32>,
    pub(super) published: bool,
    pub(super) completed: Option<Done>,
    pub(super) paused: bool,
    pub(super) now: Now,
}

impl World {
    pub(super) fn new(chunks: u32, durable: ChunkSet) -> Self {
        let file = File::new(chunks);
        let sides = Self::conversation(&file, &durable, ChunkSet::new(), ChunkSet::new(), Now::ZERO);
        Self::between(file, durable, sides)
    }

    /// After the offer that answers an eager fetch.
    pub(super) fn eager(chunks: u32) -> Self {
        let file = File::new(chunks);
        let (geometry, file_id, none) = (file.geometry, file.id, ChunkSet::new);
        let provider = Provider::eager(geometry, file_id, Now::ZERO).unwrap();
        let (verified, doubtful, claimed) = (none(), none(), none());
        let start =
            ReceiverStart { geometry, file_id, verified, doubtful, claimed, credit: CREDIT, eager: true };
        Self::between(file, none(), (provider, Receiver::new(start, Now::ZERO)))
    }

    fn between(file: File, durable: ChunkSet, (provider, receiver): (Provider, Receiver)) -> Self {
        let stored = durable.iter().map(|chunk| (chunk, file.values[chunk as usize])).collect();
        let mut world = Self {
            file,
            provider,
            receiver,
            to_receiver: VecDeque::new(),
            to_provider: VecDeque::new(),
            flying: Vec::new(),
            held: BTreeMap::new(),
            stored,
            durable,
            pending: BTreeSet::new(),
            published: false,
            completed: None,
            paused: false,
            now: Now::ZERO,
        };
        world.act();
        world
    }

    pub(super) fn conversation(
        file: &File,
        verified: &ChunkSet,
        doubtful: ChunkSet,
        claimed: ChunkSet,
        now: Now,
    ) -> (Provider, Receiver) {
        let mut told = verified.clone();
        told.union(&claimed);
        let have = told.wire().into_iter().next().unwrap_or_default();
        let accept = Accept { chunk_log2: 18, have_count: told.len(), have };
        let provider = Provider::new(file.geometry, file.id, &accept, now).unwrap();
        let (geometry, file_id) = (file.geometry, file.id);
        let verified = verified.clone();
        let start =
            ReceiverStart { geometry, file_id, verified, doubtful, claimed, credit: CREDIT, eager: false };
        (provider, Receiver::new(start, now))
    }

    pub(super) fn tell_provider(&mut self, input: ProviderInput) {
        self.provider.handle(input, self.now).unwrap();
        self.act();
    }

    pub(super) fn tell_receiver(&mut self, input: ReceiverInput) {
        self.receiver.handle(input, self.now).unwrap();
        self.act();
    }

    pub(super) fn act(&mut self) {
        while let Some(action) = self.provider.next_action() {
            match action {
                ProviderAction::SendTop => self.to_receiver.push_back(Message::Top(self.file.top.clone())),
                ProviderAction::SendPage(page) => {
                    let chunks = self.file.geometry.page_chunks(page);
                    let values = chunks.map(|chunk| self.file.values[chunk as usize]).collect();
                    self.to_receiver.push_back(Message::Page(Page { page, values }));
                }
                ProviderAction::SendChunk(chunk) => {
                    self.provider.handle(ProviderInput::ChunkWritten { chunk }, self.now).unwrap();
                    self.flying.push(Flying { chunk, value: self.file.values[chunk as usize] });
                }
                ProviderAction::Completed(done) => self.completed = Some(done),
                ProviderAction::ChunkFailed { .. } | ProviderAction::Paused(_) | ProviderAction::Resumed => {}
                ProviderAction::Aborted(_) | ProviderAction::Stalled => panic!("{action:?}"),
            }
        }
        while let Some(action) = self.receiver.next_action() {
            match action {
                ReceiverAction::Send(message) => self.to_provider.push_back(message),
                ReceiverAction::Take { chunk, expected } => {
                    let (flying, fate) = self.held.remove(&chunk).unwrap();
                    let input = self.arrive(flying, fate, expected);
                    self.receiver.handle(input, self.now).unwrap();
                }
                ReceiverAction::Recheck { chunk, expected } => {
                    let good = self.stored.get(&chunk).is_some_and(|v| self.file.verifies(expected, *v));
                    if good {
                        self.pending.insert(chunk);
                    }
                    self.receiver.handle(ReceiverInput::Rechecked { chunk, good }, self.now).unwrap();
                }
                ReceiverAction::Publish => {
                    for chunk in 0..self.file.geometry.chunks() {
                        assert_eq!(self.stored.get(&chunk), Some(&self.file.values[chunk as usize]));
                    }
                    self.checkpoint();
                    self.published = true;
                    let name = "a".into();
                    let input = ReceiverInput::Published { name, fetchable: false };
                    self.receiver.handle(input, self.now).unwrap();
                }
                ReceiverAction::ReserveUpTo(to) => assert!(to <= self.file.geometry.size()),
                ReceiverAction::PollSpace => self.paused = true,
                ReceiverAction::Paused(_) => {}
                ReceiverAction::ChunkFailed { .. } | ReceiverAction::Completed => {}
                ReceiverAction::Aborted(_) | ReceiverAction::Stalled | ReceiverAction::GaveUp { .. } => {
                    panic!("{action:?}")
                }
            }
        }
        // Only the upper end of a large set, so that a test over many chunks stays fast.
        let skip = self.receiver.verified().len().saturating_sub(64) as usize;
        for chunk in self.receiver.verified().iter().skip(skip) {
            assert_eq!(self.stored.get(&chunk), Some(&self.file.values[chunk as usize]), "chunk {chunk}");
        }
    }

    pub(super) fn checkpoint(&mut self) {
        for chunk in std::mem::take(&mut self.pending) {
            self.durable.insert(chunk);
        }
    }

    pub(super) fn deliver_chunk(&mut self, at: usize, fate: Fate) {
        let mut flying = self.flying.remove(at);
        let chunk = flying.chunk;
        match fate {
            Fate::Doubled => self.flying.push(flying),
            Fate::Corrupt => flying.value.0[0] ^= 1,
            Fate::Whole | Fate::Short | Fate::NoSpace => {}
        }
        let admission = self.receiver.admit(&self.file.header(chunk), self.now).unwrap();
        let bytes = self.file.geometry.len_of(chunk);
        match admission {
            Admission::Ignore => return self.tell_provider(ProviderInput::ChunkStopped { chunk }),
            Admission::Hold => drop(self.held.insert(chunk, (flying, fate))),
            Admission::Take(expected) => {
                let input = self.arrive(flying, fate, expected);
                self.tell_receiver(input);
            }
        }
        self.tell_provider(ProviderInput::ChunkAcked { chunk, bytes });
    }

    /// What a chunk that was taken comes to.
    fn arrive(&mut self, Flying { chunk, value }: Flying, fate: Fate, expected: Expected) -> ReceiverInput {
        match fate {
            Fate::Short => ReceiverInput::ChunkFailed { chunk, reason: ChunkFailure::Truncated },
            Fate::NoSpace => ReceiverInput::StorageFull { chunk: Some(chunk) },
            _ if self.file.verifies(expected, value) => {
                self.stored.insert(chunk, value);
                self.pending.insert(chunk);
                ReceiverInput::ChunkStored { chunk }
            }
            _ => ReceiverInput::ChunkFailed { chunk, reason: ChunkFailure::Corrupt },
        }
    }

    /// The connection is cut and either side may have been killed: all that is left is what was durable.
    pub(super) fn restart(&mut self, believe: bool, rot: Option<u32>) {
        self.to_receiver.clear();
        self.to_provider.clear();
        self.flying.clear();
        self.held.clear();
        self.paused = false;
        for chunk in std::mem::take(&mut self.pending) {
            if chunk % 2 == 0 {
                self.stored.remove(&chunk);
            }
        }
        let (mut verified, mut doubtful, mut claimed) =
            (self.durable.clone(), ChunkSet::new(), ChunkSet::new());
        if !believe {
            doubtful = self.stored.keys().copied().collect();
            verified = ChunkSet::new();
            if let Some(rotten) = rot.and_then(|n| doubtful.iter().nth(n as usize)) {
                self.stored.insert(rotten, Cv([9; 32]));
            }
            claimed = std::mem::take(&mut self.durable);
        }
        (self.provider, self.receiver) =
            Self::conversation(&self.file, &verified, doubtful, claimed, self.now);
        self.act();
    }

    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::Control => {
                if let Some(message) = self.to_receiver.pop_front() {
                    self.tell_receiver(ReceiverInput::Message(message));
                }
                if let Some(message) = self.to_provider.pop_front() {
                    self.tell_provider(ProviderInput::Message(message));
                }
            }
            Step::Chunk(at, fate) if !self.flying.is_empty() => {
                self.deliver_chunk(usize::from(at) % self.flying.len(), fate);
            }
            Step::Chunk(..) => {}
            Step::Checkpoint => self.checkpoint(),
            Step::SyncFails(twice) => {
                let lost = self.lose();
                self.tell_receiver(ReceiverInput::Lost(lost.clone()));
                if twice {
                    // The checkpoint's news, and then that of a publishing that waited for it.
                    self.tell_receiver(ReceiverInput::Lost(lost));
                }
            }
            Step::LostThenStored(at) => self.lost_then_stored(usize::from(at)),
            Step::Restart(believe, rot) => self.restart(believe, rot),
            Step::Credit(credit) => self.tell_receiver(ReceiverInput::Credit(credit)),
            Step::Time => self.pass_time(),
        }
    }

    fn lose(&mut self) -> ChunkSet {
        let lost: ChunkSet = std::mem::take(&mut self.pending).into_iter().collect();
        for chunk in lost.iter() {
            self.stored.remove(&chunk);
        }
        lost
    }

    /// A chunk is written, and lost before the news of its writing is heard; by then it is there again.
    fn lost_then_stored(&mut self, at: usize) {
        if self.flying.is_empty() {
            return;
        }
        let Flying { chunk, value } = self.flying.remove(at % self.flying.len());
        let bytes = self.file.geometry.len_of(chunk);
        match self.receiver.admit(&self.file.header(chunk), self.now).unwrap() {
            Admission::Ignore => self.tell_provider(ProviderInput::ChunkStopped { chunk }),
            Admission::Hold => {
                self.held.insert(chunk, (Flying { chunk, value }, Fate::Whole));
                self.tell_provider(ProviderInput::ChunkAcked { chunk, bytes });
            }
            Admission::Take(_) => {
                self.stored.insert(chunk, value);
                self.pending.insert(chunk);
                self.tell_receiver(ReceiverInput::Lost([chunk].into_iter().collect()));
                self.tell_receiver(ReceiverInput::ChunkStored { chunk });
                self.tell_provider(ProviderInput::ChunkAcked { chunk, bytes });
            }
        }
    }

    pub(super) fn pass_time(&mut self) {
        self.now += Now::from_millis(300);
        if std::mem::take(&mut self.paused) {
            self.tell_receiver(ReceiverInput::SpaceFreed);
        }
        self.tell_receiver(ReceiverInput::Tick);
        let moved = self.now.as_millis() as u64;
        self.tell_provider(ProviderInput::Path { rtt: Now::from_millis(10), window: 1 << 20, moved });
        self.tell_provider(ProviderInput::Tick);
    }

    pub(super) fn run_to_completion(&mut self) {
        for _ in 0..100_000 {
            if self.completed.is_some() {
                break;
            }
            if self.to_receiver.is_empty() && self.to_provider.is_empty() && self.flying.is_empty() {
                self.pass_time();
            }
            self.step(&Step::Control);
            self.step(&Step::Chunk(0, Fate::Whole));
        }
        let done = self.completed.as_ref().expect("the transfer did not complete");
        assert_eq!(done.file_id, self.file.id);
        assert!(self.published);
        assert_eq!(self.durable.len(), self.file.geometry.chunks());
        let progress = self.provider.progress(self.now);
        assert_eq!(progress.verified_bytes, self.file.geometry.size());
        assert_eq!(self.provider.missing(), []);
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Whole,
    Doubled,
    Corrupt,
    Short,
    NoSpace,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Control,
    Chunk(u8, Fate),
    Checkpoint,
    SyncFails(bool),
    LostThenStored(u8),
    Restart(bool, Option<u32>),
    Credit(u32),
    Time,
}
