//! The receiver machine, between a provider that says and sends anything and a disk that fails at any time. The driver
//! alone keeps its word: it verifies what it stores, and reports what happened.

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::{Arbitrary, Unstructured};
use p2p_protocol::{
    ChunkSet, Cv, FileId,
    limits::{
        GROUP_LEN, MAX_FRAME_LEN, MAX_RANGES, MAX_STREAMS_PER_TRANSFER, MAX_TEXT_LEN, PAGES_HELD, WANT_WINDOW,
    },
    reason::{ChunkFailure, PeerMisbehaved},
    transfer::{Admission, Now, Receiver, ReceiverAction, ReceiverInput, ReceiverStart},
    tree::Expected,
    wire::{
        chunk::{ChunkHeader, Encoding},
        codec,
        peer::{Hashing, Message, Page, Seal},
    },
};

use super::file::{File, verifies};

/// What is here when the conversation begins.
#[derive(Debug, Arbitrary)]
struct Begin {
    file: u8,
    unsealed: bool,
    eager: bool,
    credit: u32,
    /// For the chunks by turns: on the disk, and what is known of it.
    here: [Here; 8],
}

#[derive(Clone, Copy, Debug, PartialEq, Arbitrary)]
enum Here {
    Nothing,
    Verified,
    /// Verified, and its value is lost.
    Valueless,
    Claimed,
    ClaimedWrong,
    Doubtful,
    DoubtfulWrong,
    DoubtfulMisvalued,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Seal {
        other: bool,
        wrong: bool,
    },
    Top {
        other: bool,
        swap: bool,
    },
    Page {
        page: u8,
        other: bool,
        swap: bool,
    },
    Hashing(u32),
    /// Any message at all.
    Message(Vec<u8>),
    Chunk {
        at: u16,
        claim: What,
        content: What,
        lie: bool,
    },
    Ends {
        at: u8,
        how: Fate,
    },
    Recheck {
        at: u8,
    },
    Lose {
        every: u8,
    },
    Full,
    Freed,
    Bytes,
    Credit(u32),
    Published {
        name: u16,
    },
    Time {
        millis: u32,
    },
}

/// Bytes, by what they hash to.
#[derive(Clone, Copy, Debug, Arbitrary)]
enum What {
    True,
    /// What the other file has there.
    Other,
    Junk(u8),
    None,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Fate {
    Whole,
    Truncated,
    Stalled,
    NoSpace,
    /// Written, lost by a failed sync, and written again before either was heard of.
    Lost,
}

/// A chunk stream that was admitted.
struct Open {
    content: Option<Cv>,
    /// What it has to verify against, once that is known.
    expected: Option<Expected>,
}

struct Run {
    files: &'static [File; 2],
    machine: Receiver,
    now: Now,
    /// What the content is called, once it is.
    named: Option<FileId>,
    disk: BTreeMap<u32, Cv>,
    /// Chunks on the disk that a failed sync would take.
    unsynced: BTreeSet<u32>,
    wanted: BTreeSet<u32>,
    open: BTreeMap<u32, Open>,
    rechecks: Vec<(u32, Expected)>,
    /// The largest credit that was given.
    credit: u32,
    publishing: bool,
    published: bool,
    completed: bool,
}

/// Nothing counts that is not on the disk, nothing is published before all of it is what the File ID stands for, no
/// more is admitted than was given credit for, and everything that is asked for exists.
pub fn receiver(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(begin) = Begin::arbitrary(&mut input) else { return };
    let mut run = Run::new(&begin);
    let mut going = run.act();
    while going && !input.is_empty() {
        let Ok(step) = Step::arbitrary(&mut input) else { return };
        going = match run.step(step) {
            Ok(()) => run.act(),
            // A named fault ends the conversation.
            Err(_) => false,
        };
    }
}

impl Run {
    fn new(begin: &Begin) -> Self {
        let files = File::pair(begin.file);
        let [file, other] = files;
        let unsealed = begin.unsealed && file.geometry.pages() > 0;
        let eager = begin.eager && !unsealed;
        let (mut verified, mut doubtful, mut claimed) = (ChunkSet::new(), ChunkSet::new(), ChunkSet::new());
        let (mut disk, mut values) = (BTreeMap::new(), Vec::new());
        let chunks = file.geometry.chunks();
        // Of a large file a few, so that it stays quick.
        for (n, chunk) in (0..chunks).step_by(chunks as usize / 200 + 1).enumerate().filter(|_| !eager) {
            let (truth, wrong) = (file.values[chunk as usize], other.values[chunk as usize]);
            let here = begin.here[n % begin.here.len()];
            let content = match here {
                Here::Nothing => continue,
                Here::ClaimedWrong | Here::DoubtfulWrong => wrong,
                _ => truth,
            };
            disk.insert(chunk, content);
            let set =
                if matches!(here, Here::Verified | Here::Valueless) { &mut verified } else { &mut doubtful };
            set.insert(chunk);
            if matches!(here, Here::Claimed | Here::ClaimedWrong) {
                claimed.insert(chunk);
            }
            match here {
                Here::Valueless | Here::Doubtful => {}
                Here::DoubtfulMisvalued => values.push((chunk, wrong)),
                _ => values.push((chunk, content)),
            }
        }
        let named = (!unsealed).then_some(file.id);
        let start = ReceiverStart {
            wanted: None,
            layout: file.geometry.into(),
            file_id: named,
            verified,
            doubtful,
            claimed,
            values: unsealed.then_some(values),
            credit: begin.credit,
            eager,
        };
        let mut run = Self {
            files,
            machine: Receiver::new(start, Now::ZERO),
            now: Now::ZERO,
            named,
            disk,
            unsynced: BTreeSet::new(),
            wanted: BTreeSet::new(),
            open: BTreeMap::new(),
            rechecks: Vec::new(),
            credit: 0,
            publishing: false,
            published: false,
            completed: false,
        };
        if eager {
            // What the fetch itself has asked for.
            run.credit = file.geometry.chunks().min(16);
            run.wanted.extend(0..run.credit);
        }
        run
    }

    fn file(&self) -> &'static File {
        &self.files[0]
    }

    fn content(&self, chunk: u32, what: What) -> Option<Cv> {
        let of = |file: &File| file.values.get(chunk as usize).copied();
        match what {
            What::True => of(&self.files[0]),
            What::Other => of(&self.files[1]),
            What::Junk(byte) => Some(Cv([byte; 32])),
            What::None => None,
        }
    }

    fn hear(&mut self, message: Message) -> Result<(), PeerMisbehaved> {
        self.handle(ReceiverInput::Message(message))
    }

    fn handle(&mut self, input: ReceiverInput) -> Result<(), PeerMisbehaved> {
        self.machine.handle(input, self.now)
    }

    fn step(&mut self, step: Step) -> Result<(), PeerMisbehaved> {
        let geometry = self.file().geometry;
        match step {
            Step::Seal { other, wrong } => {
                let file_id = self.files[usize::from(other)].id;
                let chunks = geometry.chunks() + u32::from(wrong);
                self.hear(Message::Seal(Seal { file_id, size: geometry.size(), chunks }))
            }
            Step::Top { other, swap } => {
                let mut top = self.files[usize::from(other)].top.clone();
                if swap && top.len() > 1 {
                    top.swap(0, 1);
                }
                self.hear(Message::Top(top))
            }
            Step::Page { page, other, swap } => {
                let page = u32::from(page) % (geometry.pages() + 1);
                let mut values = self.files[usize::from(other)].page(page);
                if swap && values.len() > 1 {
                    values.swap(0, 1);
                }
                self.hear(Message::Page(Page { page, values }))
            }
            Step::Hashing(left) => self.hear(Message::Hashing(Hashing { left })),
            Step::Message(body) => match codec::decode(&body) {
                Ok(message) => self.hear(message),
                Err(_) => Ok(()),
            },
            Step::Chunk { at, claim, content, lie } => self.arrives(at, claim, content, lie),
            Step::Ends { at, how } => self.ends(at, how),
            Step::Recheck { at } if !self.rechecks.is_empty() => {
                let (chunk, expected) = self.rechecks.remove(usize::from(at) % self.rechecks.len());
                let good = self.disk.get(&chunk).is_some_and(|content| verifies(expected, *content));
                if good {
                    self.unsynced.insert(chunk);
                }
                self.handle(ReceiverInput::Rechecked { chunk, good })
            }
            Step::Lose { every } => {
                let every = usize::from(every % 4) + 1;
                let lost: ChunkSet = self.unsynced.iter().copied().step_by(every).collect();
                self.lose(&lost);
                self.handle(ReceiverInput::Lost(lost))
            }
            Step::Full => self.full(None),
            Step::Freed => self.handle(ReceiverInput::SpaceFreed),
            Step::Bytes => self.handle(ReceiverInput::ChunkBytes(u64::MAX)),
            Step::Credit(credit) => self.handle(ReceiverInput::Credit(credit)),
            Step::Published { name } if self.publishing => {
                // All of it is made durable first.
                self.assert_complete();
                self.unsynced.clear();
                (self.publishing, self.published) = (false, true);
                let name = "é".repeat(usize::from(name) % 1024);
                self.handle(ReceiverInput::Published { name, fetchable: true })
            }
            Step::Time { millis } => {
                self.now += Now::from_millis(millis.into());
                self.handle(ReceiverInput::Tick)
            }
            Step::Recheck { .. } | Step::Published { .. } => Ok(()),
        }
    }

    /// A stream of a chunk. If it is taken, it stays open until it ends.
    fn arrives(&mut self, at: u16, claim: What, content: What, lie: bool) -> Result<(), PeerMisbehaved> {
        let geometry = self.file().geometry;
        // Most of them are wanted.
        let index = match self.wanted.iter().nth(usize::from(at >> 1) % self.wanted.len().max(1)) {
            Some(chunk) if at & 1 == 0 => *chunk,
            _ => u32::from(at >> 1),
        };
        let len = geometry.len_of(index) as u32 ^ u32::from(lie);
        let (cv, content) = (self.content(index, claim), self.content(index, content));
        let header = ChunkHeader { transfer: 0, index, len, encoding: Encoding::Raw, cv, proof: Vec::new() };
        let was_open = self.open.contains_key(&index);
        let expected = match self.machine.admit(&header, self.now)? {
            Admission::Ignore => return Ok(()),
            Admission::Take(expected) => Some(expected),
            Admission::Hold => None,
        };
        assert!(!lie && geometry.has(index), "{header:?} was admitted");
        assert!(self.wanted.contains(&index) && !was_open, "chunk {index} was not wanted");
        self.open.insert(index, Open { content, expected });
        assert!(self.open.len() as u32 <= self.credit, "more than the credit of {}", self.credit);
        Ok(())
    }

    /// A stream that was taken comes to an end, if what it has to be is known.
    fn ends(&mut self, at: u8, how: Fate) -> Result<(), PeerMisbehaved> {
        let Some(chunk) = self.open.keys().nth(usize::from(at) % self.open.len().max(1)).copied() else {
            return Ok(());
        };
        let fails = match how {
            Fate::Truncated => Some(ChunkFailure::Truncated),
            Fate::Stalled => Some(ChunkFailure::Stalled),
            _ => None,
        };
        let expected = self.open[&chunk].expected;
        if fails.is_none() && expected.is_none() {
            // Its bytes wait for the page.
            return Ok(());
        }
        let content = self.open.remove(&chunk).and_then(|open| open.content);
        self.wanted.remove(&chunk);
        let (reason, content) = match (fails, expected, content) {
            (None, Some(expected), Some(content)) if verifies(expected, content) => (None, Some(content)),
            (None, ..) => (Some(ChunkFailure::Corrupt), None),
            (reason, ..) => (reason, None),
        };
        match (reason, content, how) {
            (None, Some(_), Fate::NoSpace) => self.full(Some(chunk)),
            (None, Some(content), how) => {
                self.disk.insert(chunk, content);
                self.unsynced.insert(chunk);
                if matches!(how, Fate::Lost) {
                    let lost = [chunk].into_iter().collect();
                    self.publishing = false;
                    self.handle(ReceiverInput::Lost(lost))?;
                }
                self.handle(ReceiverInput::ChunkStored { chunk })
            }
            (reason, ..) => {
                let reason = reason.unwrap_or(ChunkFailure::Corrupt);
                self.handle(ReceiverInput::ChunkFailed { chunk, reason })
            }
        }
    }

    fn full(&mut self, chunk: Option<u32>) -> Result<(), PeerMisbehaved> {
        self.publishing = false;
        self.handle(ReceiverInput::StorageFull { chunk })
    }

    fn lose(&mut self, lost: &ChunkSet) {
        self.publishing = false;
        for chunk in lost.iter() {
            self.unsynced.remove(&chunk);
            self.disk.remove(&chunk);
        }
    }

    /// Carries out what the machine asks for; false once the conversation is over.
    fn act(&mut self) -> bool {
        let geometry = self.file().geometry;
        while let Some(action) = self.machine.next_action() {
            assert!(!self.completed, "{action:?} after the end");
            match action {
                ReceiverAction::Send(message) => self.says(&message),
                ReceiverAction::Take { chunk, expected } => {
                    // One that was cut short while it was held is gone.
                    if let Some(open) = self.open.get_mut(&chunk) {
                        assert_eq!(open.expected.replace(expected), None, "chunk {chunk} was taken already");
                    }
                }
                ReceiverAction::Recheck { chunk, expected } => {
                    assert!(geometry.has(chunk) && !self.wanted.contains(&chunk));
                    assert!(self.rechecks.iter().all(|(other, _)| *other != chunk));
                    self.unsynced.remove(&chunk);
                    self.rechecks.push((chunk, expected));
                }
                ReceiverAction::Sealed(id) => assert_eq!(self.named.replace(id), None, "sealed twice"),
                ReceiverAction::ReserveUpTo(to) => assert!(to <= geometry.size()),
                ReceiverAction::Publish => {
                    assert!(!self.publishing, "published twice at once");
                    self.assert_complete();
                    self.publishing = true;
                }
                ReceiverAction::Completed => self.completed = true,
                ReceiverAction::ChunkFailed { chunk, .. } => assert!(geometry.has(chunk)),
                ReceiverAction::Paused | ReceiverAction::PollSpace => {}
                ReceiverAction::Aborted(_) | ReceiverAction::Stalled | ReceiverAction::GaveUp { .. } => {
                    return false;
                }
            }
        }
        self.assert_sound();
        !self.completed
    }

    fn says(&mut self, message: &Message) {
        let geometry = self.file().geometry;
        codec::frame(message, MAX_FRAME_LEN).unwrap();
        match message {
            Message::NeedPages(pages) => {
                assert!(!pages.is_empty() && pages.len() <= PAGES_HELD);
                assert!(self.named.is_some() && pages.iter().all(|page| *page < geometry.pages()));
            }
            Message::Want(want) => {
                assert!((1..=MAX_STREAMS_PER_TRANSFER).contains(&want.credit));
                assert!(want.ranges.len() <= MAX_RANGES);
                ChunkSet::from_wire(&want.ranges, geometry.chunks()).unwrap();
                self.credit = self.credit.max(want.credit);
                for chunk in want.ranges.iter().flat_map(|range| range.start..range.start + range.count) {
                    assert!(self.wanted.insert(chunk), "chunk {chunk} is wanted twice");
                }
                assert!(self.wanted.len() as u64 * GROUP_LEN <= WANT_WINDOW);
            }
            Message::Verified(ranges) => {
                let named = ChunkSet::from_wire(ranges, geometry.chunks()).unwrap();
                assert!(named.iter().all(|chunk| self.disk.contains_key(&chunk)), "{named:?} is not here");
            }
            Message::ChunkFailed(failed) => assert!(geometry.has(failed.chunk)),
            Message::Done(done) => {
                assert!(
                    self.published && Some(done.file_id) == self.named && done.name.len() <= MAX_TEXT_LEN
                );
            }
            Message::Paused(_) => {}
            other => panic!("a receiver says {other:?}"),
        }
    }

    /// The disk has all of what the File ID stands for.
    fn assert_complete(&self) {
        let named = self.named.expect("published without a File ID");
        let file = self.files.iter().find(|file| file.id == named);
        let chunks = self.file().geometry.chunks();
        let values = file.map(|file| &file.values);
        for chunk in 0..chunks {
            let truth = values.map(|values| values[chunk as usize]);
            assert!(
                truth.is_some() && self.disk.get(&chunk) == truth.as_ref(),
                "chunk {chunk} is not what it must be"
            );
        }
    }

    fn assert_sound(&self) {
        let geometry = self.file().geometry;
        let verified = self.machine.verified();
        // A few of them, so that large files stay quick.
        for chunk in
            verified.iter().take(8).chain(self.unsynced.iter().copied().filter(|c| verified.contains(*c)))
        {
            assert!(self.disk.contains_key(&chunk), "chunk {chunk} counts and is not here");
        }
        let progress = self.machine.progress(self.now);
        assert!(progress.verified_bytes <= geometry.size() && progress.chunks_verified <= geometry.chunks());
        assert!(self.machine.verified_prefix() <= geometry.chunks());
        let missing: u32 = self.machine.missing().iter().map(|range| range.count).sum();
        assert_eq!(missing + progress.chunks_verified, geometry.chunks());
    }
}
