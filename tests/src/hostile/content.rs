//! What a hostile peer offers: real content, so that each test can be honest up to the one lie that it is about.

use p2p_protocol::{
    Cv, FileId, Geometry,
    limits::GROUP_LEN,
    tree::{chunks_from_groups, hash_group, top_from_chunks},
    wire::{
        chunk::{ChunkHeader, Encoding},
        peer::{Kind, Offer, Page},
    },
};

use crate::data;

/// A file in memory, and its hash tree.
#[derive(Clone, Debug)]
pub struct Content {
    name: String,
    bytes: Vec<u8>,
    geometry: Geometry,
    values: Vec<Cv>,
}

impl Content {
    /// Random content.
    pub fn random(name: &str, seed: u64, len: u64) -> Self {
        Self::of(name, data::random(seed, len))
    }

    /// The same but for one byte.
    pub fn with_byte_flipped(&self, offset: u64) -> Self {
        let mut bytes = self.bytes.clone();
        bytes[usize::try_from(offset).expect("it is in memory")] ^= 1;
        Self::of(&self.name, bytes)
    }

    fn of(name: &str, bytes: Vec<u8>) -> Self {
        let geometry = Geometry::for_size(bytes.len() as u64).expect("a small file has a chunk size");
        let groups: Vec<Cv> = bytes
            .chunks(GROUP_LEN as usize)
            .enumerate()
            .map(|(group, part)| hash_group(group as u64, part))
            .collect();
        let values = chunks_from_groups(geometry, &groups);
        Self { name: name.to_owned(), bytes, geometry, values }
    }

    /// The content itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Size and chunk size.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Its identity.
    pub fn file_id(&self) -> FileId {
        FileId(*blake3::hash(&self.bytes).as_bytes())
    }

    /// An honest offer of it.
    pub fn offer(&self) -> Offer {
        Offer {
            name: self.name.clone(),
            kind: Kind::File,
            size: self.geometry.size(),
            allocated: self.geometry.size(),
            chunk_log2: self.geometry.chunk_log2(),
            file_id: Some(self.file_id()),
            resume_key: None,
            executable: false,
            modified_ns: None,
        }
    }

    /// One page of chaining values.
    pub fn page(&self, page: u32) -> Page {
        let chunks = self.geometry.page_chunks(page);
        Page { page, values: self.values[chunks.start as usize..chunks.end as usize].to_vec() }
    }

    /// The top level of chaining values.
    pub fn top(&self) -> Vec<Cv> {
        top_from_chunks(&self.values)
    }

    /// A chunk's bytes.
    pub fn chunk(&self, chunk: u32) -> &[u8] {
        let range = self.geometry.bytes_of(chunk);
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// An honest header of a chunk, in the conversation of this number.
    pub fn header(&self, transfer: u64, chunk: u32) -> ChunkHeader {
        let len = self.geometry.len_of(chunk) as u32;
        ChunkHeader { transfer, index: chunk, len, encoding: Encoding::Raw, cv: None, proof: Vec::new() }
    }

    /// A chunk's whole stream, with its chaining value in the header.
    pub fn valued_stream(&self, transfer: u64, chunk: u32) -> Vec<u8> {
        let cv = self.values.get(chunk as usize).copied();
        [&ChunkHeader { cv, ..self.header(transfer, chunk) }.encode(), self.chunk(chunk)].concat()
    }

    /// A chunk's whole stream.
    pub fn chunk_stream(&self, transfer: u64, chunk: u32) -> Vec<u8> {
        [&self.header(transfer, chunk).encode(), self.chunk(chunk)].concat()
    }
}
