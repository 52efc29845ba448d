//! Any bytes as what an earlier run left of a partial.

#![allow(clippy::expect_used, clippy::panic, reason = "a panic is how a check fails")]

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use p2p_protocol::{
    ChunkSet, Cv, FileId, Geometry, PeerId, ResumeKey, SafeName,
    limits::{CV_LEN, GROUP_LEN},
    tree::{self, Expected},
};

use super::{
    Partial, PartialKey, PartialSpec, PublishName, Store,
    layout::{CVS, LOG, PART, PARTIALS},
    log::{Clean, Header, Log, Record},
    stamp::Stamp,
};
use crate::{Workers, disk::System};

/// Bytes of the last chunk.
const TAIL: u64 = 7;
const CHUNKS: u32 = 3;

/// A store, and content of three chunks of which partials are left behind.
#[derive(Debug)]
pub struct Recovery {
    store: Store,
    inbox: PathBuf,
    bytes: Vec<u8>,
    geometry: Geometry,
    id: FileId,
    values: Vec<Cv>,
}

/// The input, byte by byte; zeros once it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn take(&mut self, most: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn chunks(&mut self) -> ChunkSet {
        let bits = self.byte();
        (0..CHUNKS).filter(|chunk| bits & (1 << chunk) != 0).collect()
    }
}

impl Recovery {
    /// Works below this folder, which is emptied after each check but for the store's home.
    pub fn new(scratch: &Path) -> Self {
        let mut bytes = vec![0; (u64::from(CHUNKS - 1) * GROUP_LEN + TAIL) as usize];
        blake3::Hasher::new().update(b"content").finalize_xof().fill(&mut bytes);
        let geometry = Geometry::new(bytes.len() as u64, 18).expect("three chunks");
        let groups = bytes.chunks(GROUP_LEN as usize).zip(0..);
        let values = groups.map(|(part, group)| tree::hash_group(group, part)).collect();
        let store = Store::open(Arc::new(System), Workers::Threads, &scratch.join("home"));
        let store = store.expect("a store in the folder for scratch");
        let id = FileId(*blake3::hash(&bytes).as_bytes());
        Self { store, inbox: scratch.join("in"), bytes, geometry, id, values }
    }

    /// Whatever is there, opening it does not fall over; no chunk counts whose bytes are not right; and what comes of
    /// it, with the missing chunks written, is the content.
    pub fn check(&self, bytes: &[u8]) {
        let _ = fs::remove_dir_all(&self.inbox);
        let input = &mut Input(bytes);
        let peer = PeerId([7; 32]);
        let key = match input.byte() % 3 {
            0 => PartialKey::Fetched(self.id),
            1 => PartialKey::Sent(self.id, peer),
            _ => PartialKey::Unsealed(ResumeKey([9; 16]), peer),
        };
        self.leave(key, input);
        let spec = PartialSpec {
            folder: self.inbox.clone(),
            key,
            file_id: None,
            geometry: self.geometry,
            allocated: self.bytes.len() as u64,
            executable: false,
            modified_ns: None,
            manifest: None,
            alike: Vec::new(),
            older: None,
            show: None,
        };
        // A log that proves another size is a reason to refuse; the fault is named, and that is all.
        let Ok(partial) = self.store.open_partial(spec.clone()) else { return };
        if let Some(durable) = self.goes_on(&partial, input.byte()) {
            drop(partial);
            let again = self.store.open_partial(spec).expect("it was left in order");
            assert_eq!(again.verified(), durable);
            assert!(again.doubtful().is_empty());
        }
    }

    fn part(&self, chunk: u32) -> &[u8] {
        let range = self.geometry.bytes_of(chunk);
        &self.bytes[range.start as usize..range.end as usize]
    }

    fn open(&self, key: PartialKey, ending: &str) -> File {
        let path = self.inbox.join(PARTIALS).join(format!("{key}{ending}"));
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(true).truncate(true);
        how.open(path).expect("the folder for scratch takes a file")
    }

    /// Leaves files as the input says.
    fn leave(&self, key: PartialKey, input: &mut Input<'_>) {
        fs::create_dir_all(self.inbox.join(PARTIALS)).expect("the folder for scratch takes a folder");
        let which = input.byte();
        let data = (which & 1 == 0).then(|| self.open(key, PART));
        let right = data.as_ref().map_or_else(ChunkSet::new, |data| self.leave_data(data, input));
        if which & 2 == 0 {
            self.leave_values(&self.open(key, CVS), input);
        }
        if which & 4 == 0 {
            let stamp = data.map(|data| Stamp::of(&data.metadata().expect("it is open")));
            self.leave_log(&self.open(key, LOG), key, stamp, right, input);
        }
    }

    /// The chunks whose bytes are right.
    fn leave_data(&self, data: &File, input: &mut Input<'_>) -> ChunkSet {
        let write = |bytes: &[u8], at| data.write_all_at(bytes, at).expect("there is room");
        let size = self.geometry.size();
        data.set_len(size).expect("there is room");
        let mut right = ChunkSet::new();
        for chunk in 0..CHUNKS {
            let (part, at) = (self.part(chunk), self.geometry.offset(chunk));
            match input.byte() % 5 {
                0 => {}
                1 => {
                    write(part, at);
                    right.insert(chunk);
                }
                2 => {
                    write(part, at);
                    let place = usize::from(input.byte()) * part.len() / 256;
                    write(&[!part[place]], at + place as u64);
                }
                3 => write(&vec![0; part.len()], at),
                _ => write(input.take(64), at),
            }
        }
        match input.byte() % 8 {
            1 => {
                let len = u64::from(input.byte()) * size / 256;
                data.set_len(len).expect("it can be cut");
                right = right.iter().filter(|chunk| self.geometry.bytes_of(*chunk).end <= len).collect();
            }
            2 => data.set_len(size + u64::from(input.byte())).expect("there is room"),
            _ => {}
        }
        right
    }

    fn leave_values(&self, file: &File, input: &mut Input<'_>) {
        for chunk in 0..CHUNKS {
            let at = u64::from(chunk) * CV_LEN as u64;
            let value = match input.byte() % 4 {
                0 => continue,
                1 => &self.values[chunk as usize].0[..],
                2 => &self.values[(chunk as usize + 1) % self.values.len()].0[..],
                _ => input.take(CV_LEN),
            };
            file.write_all_at(value, at).expect("there is room");
        }
    }

    /// Sound records, and any bytes behind them or instead of them.
    fn leave_log(
        &self,
        file: &File,
        key: PartialKey,
        stamp: Option<Stamp>,
        mut right: ChunkSet,
        input: &mut Input<'_>,
    ) {
        let data = stamp.map_or((0, 0), |stamp| (stamp.dev, stamp.ino));
        let mut header = Header { file_id: key.stand_in(), geometry: self.geometry, data };
        match input.byte() % 8 {
            1 => header.file_id = FileId([1; 32]),
            2 => header.data.1 ^= 1,
            3 => {
                header.geometry = Geometry::new(self.geometry.size(), 20).expect("one chunk");
                right = if right.len() == CHUNKS { ChunkSet::full(1) } else { ChunkSet::new() };
            }
            4 => header.geometry = Geometry::new(self.geometry.size() + 1, 18).expect("three chunks"),
            5 => {
                file.write_all_at(input.take(usize::MAX), 0).expect("there is room");
                return;
            }
            _ => {}
        }
        let clone = file.try_clone().expect("a file can be opened twice");
        let mut log = Log::reset(&System, clone, &header).expect("there is room");
        for _ in 0..input.byte() % 6 {
            let record = match (input.byte() % 4, stamp) {
                (0, _) => Record::Durable(input.chunks()),
                (1, _) => Record::Withdrawn(input.chunks()),
                // An orderly end is believed without looking, so that one with the file's own stamp tells the truth.
                (2, Some(stamp)) => {
                    let mut verified = input.chunks();
                    verified.subtract(&right.missing(CHUNKS));
                    Record::Clean(Clean { stamp, verified, doubtful: input.chunks() })
                }
                _ => {
                    let mut stamp = [0; Stamp::LEN];
                    let taken = input.take(Stamp::LEN);
                    stamp[..taken.len()].copy_from_slice(taken);
                    let (verified, doubtful) = (input.chunks(), input.chunks());
                    Record::Clean(Clean { stamp: Stamp::from_bytes(&stamp), verified, doubtful })
                }
            };
            log.append(&System, &record).expect("there is room");
        }
        let len = file.metadata().expect("it is open").size();
        match input.byte() % 4 {
            1 => file.write_all_at(input.take(256), len).expect("there is room"),
            2 => file.set_len(u64::from(input.byte()) * len / 256).expect("it can be cut"),
            3 => {
                let at = (u64::from(input.byte()) * 256 + u64::from(input.byte())) % len.max(1);
                file.write_all_at(&[input.byte()], at).expect("there is room");
            }
            _ => {}
        }
    }

    fn expected(&self, geometry: Geometry, chunk: u32) -> Expected {
        match geometry.pages() {
            0 => Expected::Root(self.id),
            _ => Expected::Subtree(self.values[chunk as usize]),
        }
    }

    /// Takes the partial as a run does, to its end or to a stop; what is durable at the stop.
    fn goes_on(&self, partial: &Partial, way: u8) -> Option<ChunkSet> {
        let geometry = partial.layout().geometry();
        assert_eq!(geometry.size(), self.geometry.size());
        // One chunk of 1 MiB, where the log says so.
        let part = |chunk: u32| {
            let range = geometry.bytes_of(chunk);
            &self.bytes[range.start as usize..range.end as usize]
        };
        let is_right = |chunk: u32| partial.read(chunk).is_ok_and(|bytes| bytes == part(chunk));
        let (verified, doubtful) = (partial.verified(), partial.doubtful());
        let all = ChunkSet::full(geometry.chunks());
        for set in [&verified, &doubtful, &partial.claimed()] {
            assert!(set.iter().all(|chunk| all.contains(chunk)), "{set:?} is outside the file");
        }
        assert!(verified.iter().all(is_right), "a chunk of {verified:?} counts and is not right");
        for (chunk, _) in partial.values().expect("values can be read").unwrap_or_default() {
            assert!(geometry.has(chunk));
        }
        let mut counts = verified;
        for chunk in doubtful.iter() {
            if partial.recheck(chunk, self.expected(geometry, chunk)).expect("it can be read") {
                assert!(is_right(chunk), "chunk {chunk} passed and is not right");
                counts.insert(chunk);
            }
        }
        let durable = partial.checkpoint().expect("it can be synced");
        assert_eq!(durable, counts);
        if way & 1 != 0 {
            // Another run goes on from here, and believes what this one proved.
            partial.park().expect("it can be parked");
            return Some(durable);
        }
        for chunk in counts.missing(geometry.chunks()).iter() {
            let bytes = Bytes::copy_from_slice(part(chunk));
            let verified = tree::verify(geometry, chunk, self.expected(geometry, chunk), bytes);
            partial.write(verified.expect("the content verifies")).expect("there is room");
        }
        partial.seal(self.id);
        let name = PublishName::Free(SafeName::parse("content").expect("a safe name"));
        let published = partial.publish(&name).expect("it is complete");
        assert!(fs::read(&published.path).expect("it is there") == self.bytes, "another file was published");
        None
    }
}
