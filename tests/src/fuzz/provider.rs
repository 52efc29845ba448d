//! The provider machine, with a receiver that says anything, and streams and a source that do what they like. The driver
//! alone keeps its word: of a chunk's stream it reports what can happen to one.

use std::{collections::BTreeSet, time::Duration};

use arbitrary::{Arbitrary, Unstructured};
use p2p_protocol::{
    ChunkRange, ChunkSet, FileId,
    limits::{
        EAGER_BYTES, HASHES_AT_ONCE, MAX_PAGES_ASKED, MAX_STREAMS_PER_TRANSFER, MAX_TEXT_LEN,
        MAX_WANTED_CHUNKS,
    },
    reason::{ChunkFailure, PeerMisbehaved},
    transfer::{Now, Provider, ProviderAction, ProviderInput},
    wire::{
        codec,
        peer::{Accept, ChunkFailed, Done, Message, PauseReason, Want},
    },
};

use super::file::File;

#[derive(Debug, Arbitrary)]
struct Begin {
    file: u8,
    how: How,
    have: Vec<(u16, u8)>,
    /// Added to the number of chunks that are named.
    more: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Arbitrary)]
enum How {
    Known,
    WithChunk,
    Eager,
    /// With the chunks that are hashed already: every so many.
    Unsealed(u8),
}

#[derive(Debug, Arbitrary)]
enum Step {
    Want {
        ranges: Vec<(u16, u8)>,
        credit: u8,
    },
    Verified(Vec<(u16, u8)>),
    /// Of the chunks that are on their way.
    VerifiedOne {
        at: u8,
    },
    VerifiedAll,
    NeedPages(Vec<u8>),
    Failed {
        at: u16,
        why: u8,
    },
    Paused,
    Done {
        name: u16,
        other: bool,
    },
    /// Any message at all.
    Message(Vec<u8>),
    Written {
        at: u8,
    },
    Acked {
        at: u8,
    },
    Stopped {
        at: u8,
    },
    Hashed {
        at: u8,
    },
    Sealed,
    Path {
        rtt: u32,
        window: u64,
        moved: u8,
    },
    Time {
        millis: u32,
    },
}

/// A chunk's stream.
struct Stream {
    chunk: u32,
    hashed: bool,
    written: bool,
}

struct Run {
    file: &'static File,
    machine: Provider,
    now: Now,
    streams: Vec<Stream>,
    /// Chunks that were sent and of which the receiver has said nothing.
    unanswered: BTreeSet<u32>,
    wanted: BTreeSet<u32>,
    verified: ChunkSet,
    /// Chunks that the receiver says it has without naming them.
    unnamed: u32,
    credit: u32,
    paused: bool,
    /// Of a source without File ID: chunks that are hashed, and those that are being hashed without being sent.
    hashed: Option<ChunkSet>,
    hashing: Vec<u32>,
    finishing: bool,
    sealed: bool,
    known: bool,
    pages_asked: usize,
    completed: bool,
}

/// No more chunks are on their way than the receiver has credit for, only wanted ones are sent and only known ones named,
/// a seal comes once and when all is hashed, and no lie completes the transfer.
pub fn provider(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(begin) = Begin::arbitrary(&mut input) else { return };
    let Some(mut run) = Run::new(&begin) else { return };
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

fn ranges(of: &[(u16, u8)]) -> Vec<ChunkRange> {
    of.iter().map(|(start, count)| ChunkRange { start: (*start).into(), count: (*count).into() }).collect()
}

impl Run {
    /// `None` where the receiver's first word is refused.
    fn new(begin: &Begin) -> Option<Self> {
        let file = &File::pair(begin.file)[0];
        let geometry = file.geometry;
        let mut how = begin.how;
        if geometry.pages() == 0 && matches!(how, How::Unsealed(_)) {
            how = How::Known;
        }
        let have = if how == How::Eager { Vec::new() } else { ranges(&begin.have) };
        let named = ChunkSet::from_wire(&have, geometry.chunks());
        let have_count = named.as_ref().map_or(0, ChunkSet::len) + u32::from(begin.more) % 4;
        let accept = Accept { chunk_log2: 18, have_count, have };
        let mut hashed = None;
        let machine = match how {
            How::Known => Provider::new(geometry, file.id, &accept, Now::ZERO),
            How::WithChunk => Provider::with_chunk(geometry, file.id, &accept, Now::ZERO),
            How::Eager => Provider::eager(geometry, file.id, Now::ZERO),
            How::Unsealed(every) => {
                let every = usize::from(every % 8) + 1;
                let known: ChunkSet = (0..geometry.chunks()).skip(every - 1).step_by(every).collect();
                let machine = Provider::unsealed(geometry, &known, &accept, Now::ZERO);
                hashed = Some(known);
                machine
            }
        };
        let fits = named.is_ok() && have_count <= geometry.chunks();
        assert!(machine.is_ok() == fits || how == How::Eager, "{accept:?}");
        let (machine, verified) = (machine.ok()?, named.unwrap_or_default());
        let unnamed = if how == How::Eager { 0 } else { have_count - verified.len() };
        let mut run = Self {
            file,
            machine,
            now: Now::ZERO,
            streams: Vec::new(),
            unanswered: BTreeSet::new(),
            wanted: BTreeSet::new(),
            unnamed,
            credit: 0,
            paused: false,
            known: hashed.is_none(),
            hashed,
            hashing: Vec::new(),
            finishing: false,
            sealed: false,
            pages_asked: 0,
            completed: false,
            verified,
        };
        match how {
            How::Eager => {
                run.credit = geometry.chunks().min((EAGER_BYTES / geometry.chunk_len()) as u32);
                run.wanted.extend(0..run.credit);
                run.pages_asked = 1;
            }
            How::WithChunk if geometry.chunks() == 1 && have_count == 0 => {
                run.streams.push(Stream { chunk: 0, hashed: true, written: true });
                run.unanswered.insert(0);
            }
            _ => {}
        }
        Some(run)
    }

    fn handle(&mut self, input: ProviderInput) -> Result<(), PeerMisbehaved> {
        self.machine.handle(input, self.now)
    }

    fn hear(&mut self, message: Message) -> Result<(), PeerMisbehaved> {
        let chunks = self.file.geometry.chunks();
        // What the machine is told is what the model goes by; where it objects, the conversation is over.
        match &message {
            Message::Want(want) => {
                if let Ok(set) = ChunkSet::from_wire(&want.ranges, chunks) {
                    self.wanted.extend(set.iter().filter(|chunk| !self.unanswered.contains(chunk)));
                    self.verified.subtract(&set);
                }
                (self.credit, self.paused) = (want.credit, false);
            }
            Message::Verified(ranges) => {
                if let Ok(set) = ChunkSet::from_wire(ranges, chunks) {
                    self.unanswered.retain(|chunk| !set.contains(*chunk));
                    self.verified.union(&set);
                }
            }
            Message::ChunkFailed(failed) => {
                self.unanswered.remove(&failed.chunk);
            }
            Message::Paused(_) => self.paused = true,
            Message::NeedPages(pages) => self.pages_asked += pages.len(),
            _ => {}
        }
        let result = self.handle(ProviderInput::Message(message.clone()));
        if let (Message::Want(want), Ok(())) = (&message, &result) {
            assert!((1..=MAX_STREAMS_PER_TRANSFER).contains(&want.credit), "{want:?} was taken");
            assert!(self.wanted.len() as u64 <= MAX_WANTED_CHUNKS + u64::from(MAX_STREAMS_PER_TRANSFER));
        }
        if let (Message::NeedPages(pages), Ok(())) = (&message, &result) {
            assert!(
                pages.len() <= MAX_PAGES_ASKED && pages.iter().all(|page| *page < self.file.geometry.pages())
            );
        }
        result
    }

    fn step(&mut self, step: Step) -> Result<(), PeerMisbehaved> {
        match step {
            Step::Want { ranges: of, credit } => {
                let want = Want { ranges: ranges(&of), credit: credit.into() };
                self.hear(Message::Want(want))
            }
            Step::Verified(of) => self.hear(Message::Verified(ranges(&of))),
            Step::VerifiedOne { at } => {
                let one = self.unanswered.iter().nth(usize::from(at) % self.unanswered.len().max(1));
                let range = one.map(|chunk| ChunkRange { start: *chunk, count: 1 });
                self.hear(Message::Verified(range.into_iter().collect()))
            }
            Step::VerifiedAll => {
                let all = ChunkRange { start: 0, count: self.file.geometry.chunks() };
                self.hear(Message::Verified(vec![all]))
            }
            Step::NeedPages(pages) => {
                self.hear(Message::NeedPages(pages.into_iter().map(u32::from).collect()))
            }
            Step::Failed { at, why } => {
                let reasons = [
                    ChunkFailure::Corrupt,
                    ChunkFailure::Truncated,
                    ChunkFailure::Stalled,
                    ChunkFailure::NotStored,
                ];
                let reason = reasons[usize::from(why) % reasons.len()];
                self.hear(Message::ChunkFailed(ChunkFailed { chunk: at.into(), reason }))
            }
            Step::Paused => self.hear(Message::Paused(PauseReason::Space)),
            Step::Done { name, other } => {
                let file_id = if other { FileId([3; 32]) } else { self.file.id };
                let name = "n".repeat(name.into());
                self.hear(Message::Done(Done { file_id, name, fetchable: false }))
            }
            Step::Message(body) => match codec::decode(&body) {
                Ok(message) => self.hear(message),
                Err(_) => Ok(()),
            },
            Step::Written { at } => match self.stream(at).filter(|stream| stream.hashed) {
                Some(stream) => {
                    stream.written = true;
                    let chunk = stream.chunk;
                    self.handle(ProviderInput::ChunkWritten { chunk })
                }
                None => Ok(()),
            },
            Step::Acked { at } => match self.end(at, |stream| stream.written) {
                Some(chunk) => {
                    let bytes = self.file.geometry.len_of(chunk);
                    self.handle(ProviderInput::ChunkAcked { chunk, bytes })
                }
                None => Ok(()),
            },
            Step::Stopped { at } => match self.end(at, |stream| stream.hashed) {
                Some(chunk) => {
                    self.unanswered.remove(&chunk);
                    // One that went along with the offer is sent again if it was wanted.
                    self.handle(ProviderInput::ChunkStopped { chunk })
                }
                None => Ok(()),
            },
            Step::Hashed { at } => self.hashes(at),
            Step::Sealed if self.finishing && !self.sealed => {
                self.sealed = true;
                self.handle(ProviderInput::Sealed(self.file.id))
            }
            Step::Sealed => Ok(()),
            Step::Path { rtt, window, moved } => {
                let rtt = Duration::from_micros(rtt.into());
                self.handle(ProviderInput::Path { rtt, window, moved: moved.into() })
            }
            Step::Time { millis } => {
                self.now += Now::from_millis(millis.into());
                self.handle(ProviderInput::Tick)
            }
        }
    }

    fn stream(&mut self, at: u8) -> Option<&mut Stream> {
        let count = self.streams.len().max(1);
        self.streams.get_mut(usize::from(at) % count)
    }

    /// Ends a stream that is far enough.
    fn end(&mut self, at: u8, may: impl Fn(&Stream) -> bool) -> Option<u32> {
        let at = usize::from(at) % self.streams.len().max(1);
        self.streams.get(at).is_some_and(may).then(|| self.streams.remove(at).chunk)
    }

    /// A chunk was read and hashed: one that is hashed only, or one that is being sent.
    fn hashes(&mut self, at: u8) -> Result<(), PeerMisbehaved> {
        let Some(hashed) = &mut self.hashed else { return Ok(()) };
        let chunk = if self.hashing.is_empty() {
            let waiting: Vec<usize> = (0..self.streams.len()).filter(|n| !self.streams[*n].hashed).collect();
            let Some(n) = waiting.get(usize::from(at) % waiting.len().max(1)) else { return Ok(()) };
            self.streams[*n].hashed = true;
            self.streams[*n].chunk
        } else {
            self.hashing.remove(usize::from(at) % self.hashing.len())
        };
        hashed.insert(chunk);
        self.handle(ProviderInput::ChunkHashed { chunk })
    }

    /// Carries out what the machine asks for; false once the conversation is over.
    fn act(&mut self) -> bool {
        let geometry = self.file.geometry;
        while let Some(action) = self.machine.next_action() {
            assert!(!self.completed, "{action:?} after the end");
            match action {
                ProviderAction::SendTop => assert!(self.known && geometry.pages() > 1),
                ProviderAction::SendPage(page) => {
                    assert!(self.known && page < geometry.pages() && self.pages_asked > 0);
                    self.pages_asked -= 1;
                }
                ProviderAction::SendChunk(chunk) => {
                    assert!(geometry.has(chunk) && !self.paused, "chunk {chunk}");
                    assert!(self.wanted.remove(&chunk), "chunk {chunk} is not wanted");
                    assert!(self.unanswered.insert(chunk), "chunk {chunk} is on its way");
                    assert!(
                        self.unanswered.len() as u32 <= self.credit,
                        "more than the credit of {}",
                        self.credit
                    );
                    let hashed = self.hashed.is_none();
                    self.streams.push(Stream { chunk, hashed, written: false });
                }
                ProviderAction::HashChunk(chunk) => {
                    assert!(geometry.has(chunk) && !self.known && !self.hashing.contains(&chunk));
                    self.hashing.push(chunk);
                    assert!(self.hashing.len() <= HASHES_AT_ONCE);
                }
                ProviderAction::Finish => {
                    let all = self.hashed.as_ref().is_some_and(|hashed| hashed.len() == geometry.chunks());
                    assert!(all && !self.finishing, "not all is hashed, or it was said before");
                    self.finishing = true;
                }
                ProviderAction::SendSeal(seal) => {
                    assert!(self.sealed && !self.known, "a seal that comes too early, or twice");
                    assert_eq!((seal.file_id, seal.size), (self.file.id, geometry.size()));
                    self.known = true;
                }
                ProviderAction::SendHashing(word) => {
                    assert!(!self.known && word.left <= geometry.chunks());
                }
                ProviderAction::ChunkFailed { chunk, .. } => assert!(geometry.has(chunk)),
                ProviderAction::Completed(done) => {
                    assert!(self.known && done.file_id == self.file.id && done.name.len() <= MAX_TEXT_LEN);
                    assert!(self.verified.len() + self.unnamed >= geometry.chunks(), "a false completion");
                    self.completed = true;
                }
                ProviderAction::Paused | ProviderAction::Resumed => {}
                ProviderAction::Aborted(_) | ProviderAction::Stalled => return false,
            }
        }
        let progress = self.machine.progress(self.now);
        assert!(progress.verified_bytes <= geometry.size() && progress.chunks_verified <= geometry.chunks());
        ChunkSet::from_wire(
            &self.machine.missing()[..self.machine.missing().len().min(8)],
            geometry.chunks(),
        )
        .unwrap();
        !self.completed
    }
}
