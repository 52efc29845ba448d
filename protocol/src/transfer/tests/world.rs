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
        peer::{Accept, Done, Message, Page, Seal},
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
            Expected::Files => false,
        }
    }

    pub(super) fn header(&self, chunk: u32) -> ChunkHeader {
        let len = self.geometry.len_of(chunk) as u32;
        ChunkHeader { transfer: 0, index: chunk, len, encoding: Encoding::Raw, cv: None, proof: Vec::new() }
    }
}

/// A chunk on its way.
#[derive(Clone, Copy)]
pub(super) struct Flying {
    pub(super) chunk: u32,
    pub(super) value: Cv,
    /// What its header says, where the conversation began without a File ID.
    pub(super) claim: Option<Cv>,
}

/// What an offer without File ID adds to a world.
#[derive(Default)]
pub(super) struct Unsealed {
    /// Chunks that the provider's process has hashed.
    pub(super) hashed: ChunkSet,
    /// Those that it is hashing without sending them.
    pub(super) hashing: VecDeque<u32>,
    /// Whether the provider's process knows the File ID.
    pub(super) sealed: bool,
    /// The values that the receiver has written down.
    pub(super) values: BTreeMap<u32, Cv>,
    /// Times that each chunk was read, to be sent or to be hashed.
    pub(super) reads: BTreeMap<u32, u32>,
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
    pub(super) unsealed: Option<Unsealed>,
    pub(super) published: bool,
    pub(super) completed: Option<Done>,
    pub(super) paused: bool,
    pub(super) now: Now,
    /// Steps taken since either side began; see [`World::step`].
    steps: u32,
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
        let start = ReceiverStart {
            wanted: None,
            layout: geometry.into(),
            file_id: Some(file_id),
            verified,
            doubtful,
            claimed,
            values: None,
            credit: CREDIT,
            eager: true,
        };
        Self::between(file, none(), (provider, Receiver::new(start, Now::ZERO)))
    }

    /// After an offer without File ID.
    pub(super) fn unsealed(chunks: u32) -> Self {
        let file = File::new(chunks);
        let unsealed = Unsealed::default();
        let none = ChunkSet::new();
        let sides =
            Self::conversation_of(&file, Some(&unsealed), &none, none.clone(), none.clone(), Now::ZERO);
        let mut world = Self::bare(file, none, sides);
        world.unsealed = Some(unsealed);
        world.act();
        world
    }

    fn between(file: File, durable: ChunkSet, sides: (Provider, Receiver)) -> Self {
        let mut world = Self::bare(file, durable, sides);
        world.act();
        world
    }

    fn bare(file: File, durable: ChunkSet, (provider, receiver): (Provider, Receiver)) -> Self {
        let stored = durable.iter().map(|chunk| (chunk, file.values[chunk as usize])).collect();
        Self {
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
            unsealed: None,
            published: false,
            completed: None,
            paused: false,
            now: Now::ZERO,
            steps: 0,
        }
    }

    pub(super) fn conversation(
        file: &File,
        verified: &ChunkSet,
        doubtful: ChunkSet,
        claimed: ChunkSet,
        now: Now,
    ) -> (Provider, Receiver) {
        Self::conversation_of(file, None, verified, doubtful, claimed, now)
    }

    fn conversation_of(
        file: &File,
        unsealed: Option<&Unsealed>,
        verified: &ChunkSet,
        doubtful: ChunkSet,
        claimed: ChunkSet,
        now: Now,
    ) -> (Provider, Receiver) {
        let mut told = verified.clone();
        told.union(&claimed);
        let have = told.wire().into_iter().next().unwrap_or_default();
        let accept = Accept { chunk_log2: 18, have_count: told.len(), have };
        let geometry = file.geometry;
        let (provider, file_id) = match unsealed {
            Some(unsealed) if !unsealed.sealed => {
                (Provider::unsealed(geometry, &unsealed.hashed, &accept, now).unwrap(), None)
            }
            _ => (Provider::new(geometry, file.id, &accept, now).unwrap(), Some(file.id)),
        };
        let values = unsealed.map(|unsealed| unsealed.values.iter().map(|(c, v)| (*c, *v)).collect());
        let verified = verified.clone();
        let start = ReceiverStart {
            wanted: None,
            layout: geometry.into(),
            file_id,
            verified,
            doubtful,
            claimed,
            values,
            credit: CREDIT,
            eager: false,
        };
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
                    let value = self.file.values[chunk as usize];
                    let claim = self.unsealed.is_some().then_some(value);
                    self.read(chunk);
                    self.provider.handle(ProviderInput::ChunkWritten { chunk }, self.now).unwrap();
                    self.flying.push(Flying { chunk, value, claim });
                }
                ProviderAction::HashChunk(chunk) => {
                    self.unsealed.as_mut().unwrap().hashing.push_back(chunk);
                }
                ProviderAction::Finish => {
                    let unsealed = self.unsealed.as_mut().unwrap();
                    assert_eq!(unsealed.hashed.len(), self.file.geometry.chunks());
                    unsealed.sealed = true;
                    self.provider.handle(ProviderInput::Sealed(self.file.id), self.now).unwrap();
                }
                ProviderAction::SendSeal(seal) => {
                    let (size, chunks) = (self.file.geometry.size(), self.file.geometry.chunks());
                    assert_eq!(seal, Seal { file_id: self.file.id, size, chunks });
                    self.to_receiver.push_back(Message::Seal(seal));
                }
                ProviderAction::SendHashing(word) => self.to_receiver.push_back(Message::Hashing(word)),
                ProviderAction::Completed(done) => self.completed = Some(done),
                ProviderAction::ChunkFailed { .. } | ProviderAction::Paused | ProviderAction::Resumed => {}
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
                    // What is in doubt does not count as durable.
                    self.durable.remove(chunk);
                    self.pending.remove(&chunk);
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
                ReceiverAction::Sealed(id) => assert_eq!(id, self.file.id),
                ReceiverAction::ReserveUpTo(to) => assert!(to <= self.file.geometry.size()),
                ReceiverAction::PollSpace => self.paused = true,
                ReceiverAction::Paused => {}
                ReceiverAction::ChunkFailed { .. } | ReceiverAction::Completed => {}
                ReceiverAction::Aborted(_) | ReceiverAction::Stalled | ReceiverAction::GaveUp { .. } => {
                    panic!("{action:?}")
                }
            }
        }
        if self.unsealed.is_some() {
            // A lie is found out when there is a list; what is published was compared above.
            return;
        }
        // Only the upper end of a large set, so that a test over many chunks stays fast.
        let skip = self.receiver.verified().len().saturating_sub(64) as usize;
        for chunk in self.receiver.verified().iter().skip(skip) {
            assert_eq!(self.stored.get(&chunk), Some(&self.file.values[chunk as usize]), "chunk {chunk}");
        }
    }

    /// The provider's process reads a chunk.
    fn read(&mut self, chunk: u32) {
        if let Some(unsealed) = &mut self.unsealed {
            *unsealed.reads.entry(chunk).or_default() += 1;
            unsealed.hashed.insert(chunk);
            self.provider.handle(ProviderInput::ChunkHashed { chunk }, self.now).unwrap();
        }
    }

    fn hash_one(&mut self) {
        if let Some(chunk) = self.unsealed.as_mut().and_then(|unsealed| unsealed.hashing.pop_front()) {
            self.read(chunk);
            self.act();
        }
    }

    pub(super) fn header_of(&self, flying: &Flying) -> ChunkHeader {
        ChunkHeader { cv: flying.claim, ..self.file.header(flying.chunk) }
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
            Fate::Lie => {
                flying.value.0[0] ^= 1;
                flying.claim = flying.claim.map(|_| flying.value);
            }
            Fate::Whole | Fate::Short | Fate::NoSpace => {}
        }
        let admission = self.receiver.admit(&self.header_of(&flying), self.now).unwrap();
        let bytes = self.file.geometry.len_of(chunk);
        match admission {
            // A copy of one that is still held: the stream that counts was not stopped, and a provider that took it for
            // stopped would send more than the receiver has room for, and wait for the answer.
            Admission::Ignore if self.held.contains_key(&chunk) => return,
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
    fn arrive(
        &mut self,
        Flying { chunk, value, .. }: Flying,
        fate: Fate,
        expected: Expected,
    ) -> ReceiverInput {
        match fate {
            Fate::Short => ReceiverInput::ChunkFailed { chunk, reason: ChunkFailure::Truncated },
            Fate::NoSpace => ReceiverInput::StorageFull { chunk: Some(chunk) },
            _ if self.file.verifies(expected, value) => {
                self.stored.insert(chunk, value);
                self.note(chunk, value);
                self.pending.insert(chunk);
                ReceiverInput::ChunkStored { chunk }
            }
            _ => ReceiverInput::ChunkFailed { chunk, reason: ChunkFailure::Corrupt },
        }
    }

    /// The receiver writes a value down with its chunk.
    fn note(&mut self, chunk: u32, value: Cv) {
        if let Some(unsealed) = &mut self.unsealed {
            unsealed.values.insert(chunk, value);
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
        if let Some(unsealed) = &mut self.unsealed {
            unsealed.hashing.clear();
            if !believe {
                (unsealed.hashed, unsealed.sealed) = (ChunkSet::new(), false);
            }
            if let Some(rot) = rot {
                // Values are not synced: some are gone, and some are not what they were.
                for (n, chunk) in unsealed.values.keys().copied().collect::<Vec<_>>().into_iter().enumerate()
                {
                    match (n as u32 + rot) % 7 {
                        0 => drop(unsealed.values.remove(&chunk)),
                        1 => drop(unsealed.values.insert(chunk, Cv([8; 32]))),
                        _ => {}
                    }
                }
            }
        }
        (self.provider, self.receiver) =
            Self::conversation_of(&self.file, self.unsealed.as_ref(), &verified, doubtful, claimed, self.now);
        self.act();
    }

    /// One thing happens. A conversation that takes far more steps than its chunks need comes to nothing: that fails the
    /// test, which would never end.
    pub(super) fn step(&mut self, step: &Step) {
        self.steps += 1;
        assert!(self.steps < 2_000 + 8 * self.file.geometry.chunks(), "the conversation does not end");
        match *step {
            Step::Control => {
                if let Some(message) = self.to_receiver.pop_front() {
                    self.tell_receiver(ReceiverInput::Message(message));
                }
                if let Some(message) = self.to_provider.pop_front() {
                    self.tell_provider(ProviderInput::Message(message));
                }
                self.hash_one();
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
            Step::Hold(holds) => self.tell_receiver(ReceiverInput::Hold(holds)),
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
        let flying = self.flying.remove(at % self.flying.len());
        let Flying { chunk, value, .. } = flying;
        let bytes = self.file.geometry.len_of(chunk);
        match self.receiver.admit(&self.header_of(&flying), self.now).unwrap() {
            Admission::Ignore => self.tell_provider(ProviderInput::ChunkStopped { chunk }),
            Admission::Hold => {
                self.held.insert(chunk, (flying, Fate::Whole));
                self.tell_provider(ProviderInput::ChunkAcked { chunk, bytes });
            }
            Admission::Take(_) => {
                self.stored.insert(chunk, value);
                self.note(chunk, value);
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
        // Time pays what is owed to a limit.
        self.tell_receiver(ReceiverInput::Hold(false));
        self.tell_receiver(ReceiverInput::Tick);
        let moved = self.now.as_millis() as u64;
        self.tell_provider(ProviderInput::Path { rtt: Now::from_millis(10), window: 1 << 20, moved });
        self.tell_provider(ProviderInput::Tick);
    }

    /// Takes these steps, as far as it needs them, and then whatever completes it.
    pub(super) fn run(&mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            if self.completed.is_some() {
                break;
            }
            self.step(&step);
        }
        self.run_to_completion();
    }

    pub(super) fn run_to_completion(&mut self) {
        while self.completed.is_none() {
            let hashing = self.unsealed.as_ref().is_some_and(|unsealed| !unsealed.hashing.is_empty());
            if self.to_receiver.is_empty()
                && self.to_provider.is_empty()
                && self.flying.is_empty()
                && !hashing
            {
                self.pass_time();
            }
            self.step(&Step::Control);
            self.step(&Step::Chunk(0, Fate::Whole));
        }
        let done = self.completed.as_ref().unwrap();
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
    /// Header and bytes agree, and are not what the list will say.
    Lie,
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
    Hold(bool),
    Time,
}
