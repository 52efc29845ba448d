//! The header in front of a chunk's bytes on its unidirectional stream: a `u16` length, little-endian,
//! and the body.

use serde::{Deserialize, Serialize};

use super::codec;
use crate::{Cv, Geometry, limits::MAX_CHUNK_HEADER_LEN, reason::PeerMisbehaved};

/// Bytes of the length in front of a chunk header.
pub const PREFIX_LEN: usize = 2;

/// What the bytes that follow are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkHeader {
    /// The QUIC stream ID of the transfer's control stream.
    pub transfer: u64,
    /// Which chunk.
    pub index: u32,
    /// Bytes of the chunk, before any encoding.
    pub len: u32,
    /// How its bytes travel.
    pub encoding: Encoding,
    /// The chunk's chaining value, in a transfer whose File ID is not known yet.
    pub cv: Option<Cv>,
}

/// How a chunk's bytes travel. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// As they are.
    Raw,
    /// Not at all: the chunk is nothing but zeros, and the stream ends after the header.
    Zeros,
}

impl ChunkHeader {
    /// The header as it travels.
    pub fn encode(&self) -> Vec<u8> {
        // A header's size is fixed and far below any limit, so a frame always fits.
        let body = codec::frame(self, MAX_CHUNK_HEADER_LEN).unwrap_or_default();
        let body = body.get(codec::PREFIX_LEN..).unwrap_or_default();
        let mut bytes = Vec::with_capacity(PREFIX_LEN + body.len());
        bytes.extend_from_slice(&(body.len() as u16).to_le_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// The body length in a header's prefix.
    pub fn body_len(prefix: [u8; PREFIX_LEN]) -> Result<usize, PeerMisbehaved> {
        let len = usize::from(u16::from_le_bytes(prefix));
        if len > MAX_CHUNK_HEADER_LEN { Err(PeerMisbehaved::FrameTooLong(len as u64)) } else { Ok(len) }
    }

    /// Reads a header's body.
    pub fn decode(body: &[u8]) -> Result<Self, PeerMisbehaved> {
        codec::decode(body)
    }

    /// Bytes that follow the header on the stream.
    pub fn payload_len(&self) -> u64 {
        match self.encoding {
            Encoding::Raw => u64::from(self.len),
            Encoding::Zeros => 0,
        }
    }

    /// Whether the header describes a chunk of this file.
    pub fn check(&self, geometry: Geometry) -> Result<(), PeerMisbehaved> {
        if geometry.has(self.index) && u64::from(self.len) == geometry.len_of(self.index) {
            Ok(())
        } else {
            Err(PeerMisbehaved::ChunkHeader(self.index))
        }
    }
}
