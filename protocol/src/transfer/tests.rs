//! The two machines against each other: chunks lost, doubled, reordered and corrupted, the conversation cut
//! anywhere, either side restarted from what was durable. It always completes, and no chunk counts that was
//! not verified.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::{
    ChunkRange, ChunkSet, Cv, FileId, Geometry,
    limits::{MAX_CHUNK_FAILURES, MAX_UNASKED_CHUNKS, PAGE_CHUNKS, TRANSFER_PROGRESS_DEADLINE},
    reason::{AbortReason, ChunkFailure, PeerMisbehaved},
    tree::{Expected, hash_group, merge_root, top_from_chunks},
    wire::{
        chunk::{ChunkHeader, Encoding},
        peer::{Accept, ChunkFailed, Done, Message, Page, PauseReason, Want},
    },
};

/// A file whose chunks exist only as their chaining values.
struct File {
    geometry: Geometry,
    id: FileId,
    values: Vec<Cv>,
    top: Vec<Cv>,
}

impl File {
    fn new(chunks: u32) -> Self {
        let size = (u64::from(chunks) << 18).saturating_sub(77);
        let geometry = Geometry::new(size, 18).unwrap();
        let values: Vec<Cv> = (0..chunks).map(|i| hash_group(u64::from(i), &i.to_le_bytes())).collect();
        let top = top_from_chunks(&values);
        let id = merge_root(&values).unwrap_or(FileId(values.first().map_or([0; 32], |cv| cv.0)));
        Self { geometry, id, values, top }
    }

    /// Whether bytes with this value are what is expected.
    fn verifies(&self, expected: Expected, value: Cv) -> bool {
        match expected {
            Expected::Root(id) => id.0 == value.0,
            Expected::Subtree(cv) => cv == value,
        }
    }

    fn header(&self, chunk: u32) -> ChunkHeader {
        let len = self.geometry.len_of(chunk) as u32;
        ChunkHeader { transfer: 0, index: chunk, len, encoding: Encoding::Raw, cv: None }
    }
}

/// A chunk on its way.
#[derive(Clone, Copy)]
struct Flying {
    chunk: u32,
    value: Cv,
}

/// Both sides, the network between them, and the receiver's disk.
struct World {
    file: File,
    provider: Provider,
    receiver: Receiver,
    to_receiver: VecDeque<Message>,
    to_provider: VecDeque<Message>,
    flying: Vec<Flying>,
    /// What the receiver's disk holds for each chunk.
    stored: BTreeMap<u32, Cv>,
    /// Chunks in the durable bitmap.
    durable: ChunkSet,
    /// Chunks stored since the last checkpoint.
    pending: BTreeSet<u32>,
    published: bool,
    completed: Option<Done>,
    paused: bool,
    now: Now,
}

impl World {
    fn new(chunks: u32, durable: ChunkSet) -> Self {
        let file = File::new(chunks);
        let stored = durable.iter().map(|chunk| (chunk, file.values[chunk as usize])).collect();
        let (provider, receiver) =
            Self::conversation(&file, &durable, ChunkSet::new(), ChunkSet::new(), Now::ZERO);
        let mut world = Self {
            file,
            provider,
            receiver,
            to_receiver: VecDeque::new(),
            to_provider: VecDeque::new(),
            flying: Vec::new(),
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

    fn conversation(
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
        let start = ReceiverStart { geometry, file_id, verified: verified.clone(), doubtful, claimed };
        (provider, Receiver::new(start, now))
    }

    fn tell_provider(&mut self, input: ProviderInput) {
        self.provider.handle(input, self.now).unwrap();
        self.act();
    }

    fn tell_receiver(&mut self, input: ReceiverInput) {
        self.receiver.handle(input, self.now).unwrap();
        self.act();
    }

    fn act(&mut self) {
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

    fn checkpoint(&mut self) {
        for chunk in std::mem::take(&mut self.pending) {
            self.durable.insert(chunk);
        }
    }

    fn deliver_chunk(&mut self, at: usize, fate: Fate) {
        let mut flying = self.flying.remove(at);
        let chunk = flying.chunk;
        match fate {
            Fate::Doubled => self.flying.push(flying),
            Fate::Corrupt => flying.value.0[0] ^= 1,
            Fate::Whole | Fate::Short | Fate::NoSpace => {}
        }
        let admission = self.receiver.admit(&self.file.header(chunk), self.now).unwrap();
        let bytes = self.file.geometry.len_of(chunk);
        let input = match admission {
            Admission::Ignore => {
                self.tell_provider(ProviderInput::ChunkStopped { chunk });
                return;
            }
            Admission::Take(_) if matches!(fate, Fate::Short) => {
                ReceiverInput::ChunkFailed { chunk, reason: ChunkFailure::Truncated }
            }
            Admission::Take(_) if matches!(fate, Fate::NoSpace) => {
                ReceiverInput::StorageFull { chunk: Some(chunk) }
            }
            Admission::Take(expected) if self.file.verifies(expected, flying.value) => {
                self.stored.insert(chunk, flying.value);
                self.pending.insert(chunk);
                ReceiverInput::ChunkStored { chunk }
            }
            Admission::Take(_) => ReceiverInput::ChunkFailed { chunk, reason: ChunkFailure::Corrupt },
        };
        self.tell_receiver(input);
        self.tell_provider(ProviderInput::ChunkAcked { chunk, bytes });
    }

    /// The connection is cut and either side may have been killed: all that is left is what was durable.
    fn restart(&mut self, believe: bool, rot: Option<u32>) {
        self.to_receiver.clear();
        self.to_provider.clear();
        self.flying.clear();
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

    fn step(&mut self, step: &Step) {
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
            Step::SyncFails => {
                let lost: ChunkSet = std::mem::take(&mut self.pending).into_iter().collect();
                for chunk in lost.iter() {
                    self.stored.remove(&chunk);
                }
                self.tell_receiver(ReceiverInput::Lost(lost));
            }
            Step::Restart(believe, rot) => self.restart(believe, rot),
            Step::Credit(credit) => self.tell_receiver(ReceiverInput::Credit(credit)),
            Step::Time => self.pass_time(),
        }
    }

    fn pass_time(&mut self) {
        self.now += Now::from_millis(300);
        if std::mem::take(&mut self.paused) {
            self.tell_receiver(ReceiverInput::SpaceFreed);
        }
        self.tell_receiver(ReceiverInput::Tick);
        let moved = self.now.as_millis() as u64;
        self.tell_provider(ProviderInput::Path { rtt: Now::from_millis(10), moved });
        self.tell_provider(ProviderInput::Tick);
    }

    fn run_to_completion(&mut self) {
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
enum Fate {
    Whole,
    Doubled,
    Corrupt,
    Short,
    NoSpace,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Control,
    Chunk(u8, Fate),
    Checkpoint,
    SyncFails,
    Restart(bool, Option<u32>),
    Credit(u32),
    Time,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        12 => Just(Fate::Whole),
        1 => Just(Fate::Doubled),
        1 => Just(Fate::Corrupt),
        1 => Just(Fate::Short),
        1 => Just(Fate::NoSpace),
    ];
    let step = prop_oneof![
        20 => Just(Step::Control),
        12 => (any::<u8>(), fate).prop_map(|(at, fate)| Step::Chunk(at, fate)),
        3 => Just(Step::Checkpoint),
        1 => Just(Step::SyncFails),
        1 => (any::<bool>(), proptest::option::of(0u32..8)).prop_map(|(b, r)| Step::Restart(b, r)),
        2 => (1u32..20).prop_map(Step::Credit),
        2 => Just(Step::Time),
    ];
    proptest::collection::vec(step, 0..160)
}

/// Steps in which no chunk can fail often enough to be given up.
fn bounded(steps: Vec<Step>) -> Vec<Step> {
    let mut faults = 0;
    let mut doubled = 0;
    steps
        .into_iter()
        .map(|step| match step {
            Step::Chunk(at, Fate::Corrupt | Fate::Short) => {
                faults += 1;
                let fate = if faults < MAX_CHUNK_FAILURES { Fate::Corrupt } else { Fate::Whole };
                Step::Chunk(at, fate)
            }
            Step::Chunk(at, Fate::Doubled) => {
                doubled += 1;
                Step::Chunk(at, if doubled < 8 { Fate::Doubled } else { Fate::Whole })
            }
            other => other,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_always_completes(chunks in 0u32..40, steps in steps()) {
        let mut world = World::new(chunks, ChunkSet::new());
        for step in bounded(steps) {
            if world.completed.is_some() {
                break;
            }
            world.step(&step);
        }
        world.run_to_completion();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_completes_over_many_pages(holes in proptest::collection::vec(0u32..5, 0..40), steps in steps()) {
        // Six pages, of which chunks around the borders and the very last one are missing.
        let chunks = 5 * PAGE_CHUNKS as u32 + 3;
        let mut durable = ChunkSet::full(chunks);
        durable.remove(chunks - 1);
        for (i, hole) in holes.iter().enumerate() {
            let border = (i as u32 % 6) * PAGE_CHUNKS as u32;
            durable.remove((border + hole).saturating_sub(2).min(chunks - 1));
        }
        let mut world = World::new(chunks, durable);
        for step in bounded(steps) {
            if world.completed.is_some() {
                break;
            }
            if !matches!(step, Step::Restart(false, _)) {
                world.step(&step);
            }
        }
        world.run_to_completion();
    }
}

#[test]
fn the_first_chunk_goes_alone_and_the_last_one_early() {
    let mut world = World::new(40, ChunkSet::new());
    world.step(&Step::Credit(16));
    let mut sent = Vec::new();
    for _ in 0..10 {
        world.step(&Step::Control);
        sent.extend(world.flying.iter().map(|f| f.chunk).filter(|c| !sent.contains(c)).collect::<Vec<_>>());
    }
    assert_eq!(sent[0], 0);
    assert!(sent[..4].contains(&39), "{sent:?}");
}

#[test]
fn no_more_chunks_are_unverified_than_the_credit_allows() {
    let mut world = World::new(40, ChunkSet::new());
    world.step(&Step::Credit(3));
    for _ in 0..20 {
        world.step(&Step::Control);
        world.step(&Step::Time);
        assert!(world.flying.len() <= 3);
    }
}

#[test]
fn what_was_doubtful_is_hashed_and_not_fetched() {
    let mut world = World::new(20, ChunkSet::full(20));
    world.stored.insert(7, Cv([1; 32]));
    world.restart(false, None);
    let mut fetched = BTreeSet::new();
    for _ in 0..200 {
        world.step(&Step::Control);
        fetched.extend(world.flying.iter().map(|f| f.chunk));
        world.step(&Step::Chunk(0, Fate::Whole));
    }
    world.run_to_completion();
    assert_eq!(fetched, BTreeSet::from([7]));
}

fn fresh_receiver(chunks: u32) -> (File, Receiver) {
    let world = World::new(chunks, ChunkSet::new());
    (world.file, world.receiver)
}

#[test]
fn a_forged_list_is_named_before_any_chunk_is_wanted() {
    let (file, mut receiver) = fresh_receiver(9);
    let mut values = file.values.clone();
    values.swap(0, 1);
    let forged = ReceiverInput::Message(Message::Page(Page { page: 0, values }));
    let error = receiver.handle(forged, Now::ZERO).unwrap_err();
    assert!(matches!(error, PeerMisbehaved::ForgedList(_)), "{error}");
    let (file, mut receiver) = fresh_receiver(2 * PAGE_CHUNKS as u32);
    let mut top = file.top.clone();
    top.swap(0, 1);
    let error = receiver.handle(ReceiverInput::Message(Message::Top(top)), Now::ZERO).unwrap_err();
    assert!(matches!(error, PeerMisbehaved::ForgedList(_)), "{error}");
}

#[test]
fn unasked_and_misfitting_chunks_are_named() {
    let (file, mut receiver) = fresh_receiver(9);
    let header = file.header(3);
    for _ in 0..MAX_UNASKED_CHUNKS {
        assert_eq!(receiver.admit(&header, Now::ZERO), Ok(Admission::Ignore));
    }
    assert_eq!(receiver.admit(&header, Now::ZERO), Err(PeerMisbehaved::UnaskedChunks));
    for bad in [ChunkHeader { index: 9, ..header }, ChunkHeader { len: header.len - 1, ..header }] {
        let (_, mut receiver) = fresh_receiver(9);
        assert_eq!(receiver.admit(&bad, Now::ZERO), Err(PeerMisbehaved::ChunkHeader(bad.index)));
    }
}

#[test]
fn a_chunk_that_never_verifies_ends_the_transfer() {
    let mut world = World::new(5, ChunkSet::new());
    let mut failures = 0;
    let error = 'run: loop {
        world.step(&Step::Control);
        while let Some(flying) = world.flying.pop() {
            if world.receiver.admit(&world.file.header(flying.chunk), world.now) == Ok(Admission::Ignore) {
                continue;
            }
            failures += 1;
            let input = ReceiverInput::ChunkFailed { chunk: flying.chunk, reason: ChunkFailure::Corrupt };
            if let Err(error) = world.receiver.handle(input, world.now) {
                break 'run error;
            }
            world.act();
        }
        assert!(failures < 100);
    };
    assert_eq!(error, PeerMisbehaved::BadChunks(MAX_CHUNK_FAILURES));
}

fn fresh_provider(chunks: u32) -> Provider {
    let file = File::new(chunks);
    let accept = Accept { chunk_log2: 18, have_count: 0, have: vec![] };
    Provider::new(file.geometry, file.id, &accept, Now::ZERO).unwrap()
}

#[test]
fn a_receiver_that_breaks_the_rules_is_named() {
    let wrong =
        |message: Message| fresh_provider(9).handle(ProviderInput::Message(message), Now::ZERO).unwrap_err();
    let want =
        |start, count, credit| Message::Want(Want { ranges: vec![ChunkRange { start, count }], credit });
    assert!(matches!(wrong(want(8, 2, 1)), PeerMisbehaved::Ranges(_)));
    assert_eq!(wrong(want(0, 1, 0)), PeerMisbehaved::Credit(0));
    assert_eq!(wrong(want(0, 1, 1000)), PeerMisbehaved::Credit(1000));
    assert_eq!(wrong(Message::NeedPages(vec![1])), PeerMisbehaved::NoSuchPage(1));
    assert_eq!(wrong(Message::NeedPages(vec![0; 99])), PeerMisbehaved::TooManyPages);
    assert_eq!(wrong(Message::Top(vec![])), PeerMisbehaved::UnexpectedMessage("Top"));
    let failed = ChunkFailed { chunk: 9, reason: ChunkFailure::Corrupt };
    assert!(matches!(wrong(Message::ChunkFailed(failed)), PeerMisbehaved::Ranges(_)));
    let done = Done { file_id: File::new(9).id, name: "a".into(), fetchable: false };
    assert_eq!(wrong(Message::Done(done)), PeerMisbehaved::FalseDone);
    let all = Message::Verified(vec![ChunkRange { start: 0, count: 10 }]);
    assert!(matches!(wrong(all), PeerMisbehaved::Ranges(_)));
    let mut provider = fresh_provider(5000);
    let error = provider.handle(ProviderInput::Message(want(0, 5000, 1)), Now::ZERO);
    assert_eq!(error, Err(PeerMisbehaved::TooManyWanted));
    let file = File::new(9);
    for (have_count, have) in [
        (10, vec![]),
        (0, vec![ChunkRange { start: 0, count: 1 }]),
        (9, vec![ChunkRange { start: 9, count: 1 }]),
    ] {
        let accept = Accept { chunk_log2: 18, have_count, have };
        assert!(Provider::new(file.geometry, file.id, &accept, Now::ZERO).is_err());
    }
}

#[test]
fn deadlines_measure_progress() {
    let mut provider = fresh_provider(9);
    let want = Want { ranges: vec![ChunkRange { start: 0, count: 9 }], credit: 4 };
    provider.handle(ProviderInput::Message(Message::Want(want)), Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::SendChunk(0)));
    let mut now = Now::ZERO;
    for moved in 1..20 {
        now += TRANSFER_PROGRESS_DEADLINE / 2;
        provider.handle(ProviderInput::Path { rtt: Now::ZERO, moved }, now).unwrap();
        provider.handle(ProviderInput::Tick, now).unwrap();
        assert_eq!(provider.next_action(), None);
    }
    now += TRANSFER_PROGRESS_DEADLINE * 2;
    provider.handle(ProviderInput::Tick, now).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::Stalled));

    let (_, mut receiver) = fresh_receiver(9);
    receiver.handle(ReceiverInput::Tick, TRANSFER_PROGRESS_DEADLINE / 2).unwrap();
    assert_eq!(receiver.next_action(), None);
    receiver.handle(ReceiverInput::ChunkBytes, TRANSFER_PROGRESS_DEADLINE).unwrap();
    receiver.handle(ReceiverInput::Tick, TRANSFER_PROGRESS_DEADLINE * 2).unwrap();
    assert_eq!(receiver.next_action(), None);
    receiver.handle(ReceiverInput::Tick, TRANSFER_PROGRESS_DEADLINE * 3).unwrap();
    assert_eq!(receiver.next_action(), Some(ReceiverAction::Stalled));
}

#[test]
fn a_full_disk_pauses_both_sides_for_as_long_as_it_takes() {
    let mut world = World::new(30, ChunkSet::new());
    world.step(&Step::Credit(4));
    while world.flying.is_empty() {
        world.step(&Step::Control);
    }
    world.step(&Step::Chunk(0, Fate::NoSpace));
    for _ in 0..20 {
        world.step(&Step::Control);
    }
    let before = world.flying.len();
    for _ in 0..10 {
        world.now += TRANSFER_PROGRESS_DEADLINE;
        world.tell_receiver(ReceiverInput::Tick);
        world.step(&Step::Control);
        assert!(world.flying.len() <= before);
    }
    world.run_to_completion();
}

#[test]
fn an_abort_ends_either_side() {
    let mut provider = fresh_provider(9);
    let abort = Message::Abort(AbortReason::Cancelled);
    provider.handle(ProviderInput::Message(abort.clone()), Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::Aborted(AbortReason::Cancelled)));
    let (_, mut receiver) = fresh_receiver(9);
    receiver.handle(ReceiverInput::Message(abort), Now::ZERO).unwrap();
    assert_eq!(receiver.next_action(), Some(ReceiverAction::Aborted(AbortReason::Cancelled)));
    let mut provider = fresh_provider(9);
    let paused = Message::Paused(PauseReason::Space);
    provider.handle(ProviderInput::Message(paused), Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::Paused(PauseReason::Space)));
}
