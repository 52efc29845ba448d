//! Tests of the store as a whole, on a disk that counts, fails and loses what was not synced.

mod crash;
mod faults;
mod faulty;
mod folders;
mod import;
mod left_over;
mod partial;
mod publish;
mod replace;
mod shared;
mod shown;
mod space;
mod unsealed;
mod walk;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use p2p_protocol::{
    FileId, Geometry, PeerId, SafeName,
    limits::GROUP_LEN,
    tree::{self, Expected, VerifiedChunk},
};

use super::*;
use faulty::FaultyDisk;

/// A store in a temporary home, a destination beside it, and the disk below.
struct Bed {
    root: tempfile::TempDir,
    disk: Arc<FaultyDisk>,
    store: Store,
}

impl Bed {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(FaultyDisk::default());
        let store = Store::open(disk.clone(), Workers::Threads, &root.path().join("home")).unwrap();
        Self { root, disk, store }
    }

    fn inbox(&self) -> PathBuf {
        self.root.path().join("in/box")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn spec(&self, content: &Content) -> PartialSpec {
        PartialSpec {
            folder: self.inbox(),
            key: PartialKey::Fetched(content.id),
            file_id: None,
            geometry: content.geometry,
            allocated: content.geometry.size(),
            executable: false,
            modified_ns: None,
            manifest: None,
            alike: Vec::new(),
            older: None,
            show: None,
        }
    }

    fn open(&self, content: &Content) -> Partial {
        self.store.open_partial(self.spec(content)).unwrap()
    }

    fn partial_file(&self, content: &Content, ending: &str) -> PathBuf {
        let key = PartialKey::Fetched(content.id);
        self.inbox().join(layout::PARTIALS).join(format!("{key}{ending}"))
    }

    fn leftovers(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.inbox().join(layout::PARTIALS)) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Some bytes, cut into chunks, with what they have to hash to.
struct Content {
    bytes: Vec<u8>,
    geometry: Geometry,
    id: FileId,
    chunks: Vec<Cv>,
}

use p2p_protocol::Cv;

impl Content {
    fn new(bytes: Vec<u8>) -> Self {
        let geometry = Geometry::new(bytes.len() as u64, 18).unwrap();
        let groups: Vec<Cv> = bytes
            .chunks(GROUP_LEN as usize)
            .zip(0..)
            .map(|(part, group)| tree::hash_group(group, part))
            .collect();
        let chunks = tree::chunks_from_groups(geometry, &groups);
        Self { id: FileId(*blake3::hash(&bytes).as_bytes()), bytes, geometry, chunks }
    }

    /// Bytes that differ everywhere, so that a chunk in a wrong place is noticed.
    fn random(len: usize) -> Self {
        Self::new(noise(len, 1))
    }

    fn part(&self, chunk: u32) -> &[u8] {
        self.part_of(self.geometry, chunk)
    }

    fn part_of(&self, geometry: Geometry, chunk: u32) -> &[u8] {
        let range = geometry.bytes_of(chunk);
        &self.bytes[range.start as usize..range.end as usize]
    }

    fn expected(&self, chunk: u32) -> Expected {
        if self.geometry.pages() == 0 {
            Expected::Root(self.id)
        } else {
            Expected::Subtree(self.chunks[chunk as usize])
        }
    }

    fn chunk(&self, chunk: u32) -> VerifiedChunk<Bytes> {
        let bytes = Bytes::copy_from_slice(self.part(chunk));
        if bytes.iter().all(|byte| *byte == 0) {
            return tree::verify_zeros(self.geometry, chunk, self.expected(chunk)).unwrap();
        }
        tree::verify(self.geometry, chunk, self.expected(chunk), bytes).unwrap()
    }

    fn write_all(&self, partial: &Partial) {
        for chunk in 0..self.geometry.chunks() {
            partial.write(self.chunk(chunk)).unwrap();
        }
    }
}

/// Content of five chunks, the last one short.
fn five() -> Content {
    Content::random(4 * GROUP_LEN as usize + 1000)
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn name(text: &str) -> PublishName {
    PublishName::Free(SafeName::parse(text).unwrap())
}

fn set(chunks: impl IntoIterator<Item = u32>) -> p2p_protocol::ChunkSet {
    chunks.into_iter().collect()
}

fn anyone() -> PeerId {
    PeerId([7; 32])
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
