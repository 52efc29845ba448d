//! The header in front of a chunk's bytes on its unidirectional stream: a `u16` length, little-endian,
//! and the body; of a piece of a folder's file, the proof that it belongs there follows in the body.

use serde::{Deserialize, Serialize};

use super::codec;
use crate::{
    Cv, Layout,
    limits::{CV_LEN, MAX_CHUNK_HEADER_LEN, MAX_PROOF_LEN},
    plan::Span,
    reason::PeerMisbehaved,
};

/// Bytes of the length in front of a chunk header.
pub const PREFIX_LEN: usize = 2;

/// What the bytes that follow are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkHeader {
    /// The QUIC stream ID of the transfer's control stream.
    pub transfer: u64,
    /// Which chunk.
    pub index: u32,
    /// Bytes of the chunk, before any encoding.
    pub len: u32,
    /// How its bytes travel.
    pub encoding: Encoding,
    /// The chunk's chaining value, in a transfer whose File ID is not known yet, and of a piece of a folder's file.
    pub cv: Option<Cv>,
    /// The values that, with `cv`, rebuild the File ID of a folder's file.
    #[serde(skip)]
    pub proof: Vec<Cv>,
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
        let len = body.len() + self.proof.len() * CV_LEN;
        let mut bytes = Vec::with_capacity(PREFIX_LEN + len);
        bytes.extend_from_slice(&(len as u16).to_le_bytes());
        bytes.extend_from_slice(body);
        self.proof.iter().for_each(|value| bytes.extend_from_slice(&value.0));
        bytes
    }

    /// The body length in a header's prefix.
    pub fn body_len(prefix: [u8; PREFIX_LEN]) -> Result<usize, PeerMisbehaved> {
        let len = usize::from(u16::from_le_bytes(prefix));
        if len > MAX_CHUNK_HEADER_LEN { Err(PeerMisbehaved::FrameTooLong(len as u64)) } else { Ok(len) }
    }

    /// Reads a header's body.
    pub fn decode(body: &[u8]) -> Result<Self, PeerMisbehaved> {
        let (header, rest) = codec::decode_first::<Self>(body)?;
        let (values, []) = rest.as_chunks::<CV_LEN>() else { return Err(PeerMisbehaved::MalformedFrame) };
        if values.len() > MAX_PROOF_LEN {
            return Err(PeerMisbehaved::MalformedFrame);
        }
        Ok(Self { proof: values.iter().copied().map(Cv).collect(), ..header })
    }

    /// Bytes that follow the header on the stream.
    pub fn payload_len(&self) -> u64 {
        match self.encoding {
            Encoding::Raw => u64::from(self.len),
            Encoding::Zeros => 0,
        }
    }

    /// Whether the header describes a chunk of this file or folder. Only a piece of a folder's file has a proof, and only
    /// what is of one file can be zeros.
    pub fn check(&self, layout: &Layout) -> Result<(), PeerMisbehaved> {
        let fits = match layout.plan().and_then(|plan| plan.span(self.index)) {
            Some(Span::Piece { .. }) => self.cv.is_some(),
            Some(Span::Files(_)) => self.encoding == Encoding::Raw && self.proof.is_empty(),
            None => self.proof.is_empty(),
        };
        if fits && layout.has(self.index) && u64::from(self.len) == layout.len_of(self.index) {
            Ok(())
        } else {
            Err(PeerMisbehaved::ChunkHeader(self.index))
        }
    }
}
