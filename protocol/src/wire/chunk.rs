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

#[cfg(test)]
mod tests {
    use super::*;

    fn header(values: usize) -> ChunkHeader {
        let proof = (0..values).map(|n| Cv([n as u8; CV_LEN])).collect();
        ChunkHeader { transfer: 4, index: 7, len: 9, encoding: Encoding::Raw, cv: None, proof }
    }

    #[test]
    fn a_header_says_how_long_it_is_and_is_read_back() {
        for values in [0, 1, MAX_PROOF_LEN] {
            let bytes = header(values).encode();
            let (prefix, body) = bytes.split_first_chunk::<PREFIX_LEN>().unwrap();
            assert_eq!(ChunkHeader::body_len(*prefix), Ok(body.len()), "{values}");
            assert_eq!(ChunkHeader::decode(body), Ok(header(values)));
            assert!(ChunkHeader::decode(&body[..body.len() - 1]).is_err());
        }
        let too_many = header(MAX_PROOF_LEN + 1).encode();
        assert_eq!(ChunkHeader::decode(&too_many[PREFIX_LEN..]), Err(PeerMisbehaved::MalformedFrame));
    }

    /// Fault 50.
    #[test]
    fn a_header_has_a_longest_length() {
        let len = |len: usize| ChunkHeader::body_len((len as u16).to_le_bytes());
        assert_eq!((len(0), len(MAX_CHUNK_HEADER_LEN)), (Ok(0), Ok(MAX_CHUNK_HEADER_LEN)));
        let one_more = MAX_CHUNK_HEADER_LEN + 1;
        assert_eq!(len(one_more), Err(PeerMisbehaved::FrameTooLong(one_more as u64)));
    }

    #[test]
    fn zeros_do_not_travel() {
        assert_eq!(header(0).payload_len(), 9);
        assert_eq!(ChunkHeader { encoding: Encoding::Zeros, ..header(0) }.payload_len(), 0);
    }
}
