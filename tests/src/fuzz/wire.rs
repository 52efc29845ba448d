//! What comes off a stream: frames of either conversation, chunk headers, and the sets in them.

use std::fmt::Debug;

use p2p_protocol::{
    ChunkRange, ChunkSet, Geometry,
    control::{Event, Preamble, Request},
    limits::{
        MAX_CHUNK_HEADER_LEN, MAX_CHUNK_LEN, MAX_CHUNKS, MAX_CONTROL_FRAME_LEN, MAX_FIRST_FRAME_LEN,
        MAX_FRAME_LEN, MAX_RANGES,
    },
    wire::{
        chunk::{self, ChunkHeader},
        codec,
        peer::Message,
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// The first byte says what the others are.
///
/// What decodes has exactly one encoding, these bytes, and keeps to the limits of its kind; a set of chunks never
/// reaches past the file.
pub fn wire(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 7 {
        0 => frame::<Message>(bytes, MAX_FRAME_LEN),
        1 => frame::<Request>(bytes, MAX_CONTROL_FRAME_LEN),
        2 => frame::<Event>(bytes, MAX_CONTROL_FRAME_LEN),
        3 => header(bytes),
        4 => preamble(bytes),
        5 => ranges(bytes),
        _ => bitmap(bytes),
    }
}

fn frame<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8], limit: usize) {
    if let Some(prefix) = body.first_chunk::<{ codec::PREFIX_LEN }>() {
        for limit in [limit, MAX_FIRST_FRAME_LEN] {
            let fits = u32::from_le_bytes(*prefix) as usize <= limit;
            assert_eq!(codec::body_len(*prefix, limit).is_ok(), fits);
        }
    }
    let Ok(value) = codec::decode::<T>(body) else { return };
    match codec::frame(&value, limit) {
        Ok(frame) => {
            let (prefix, again) = frame.split_at(codec::PREFIX_LEN);
            assert_eq!(again, body, "{value:?} has two encodings");
            assert_eq!(codec::body_len(prefix.try_into().unwrap(), limit), Ok(body.len()));
            assert_eq!(codec::decode::<T>(again).as_ref(), Ok(&value));
        }
        Err(_) => assert!(body.len() > limit, "{value:?} came in and cannot go out"),
    }
}

fn header(bytes: &[u8]) {
    let Some((prefix, body)) = bytes.split_first_chunk::<{ chunk::PREFIX_LEN }>() else { return };
    let len = ChunkHeader::body_len(*prefix);
    assert_eq!(len.is_ok(), usize::from(u16::from_le_bytes(*prefix)) <= MAX_CHUNK_HEADER_LEN);
    let Some(body) = len.ok().and_then(|len| body.get(..len)) else { return };
    let Ok(header) = ChunkHeader::decode(body) else { return };
    let again = header.encode();
    assert_eq!(again, [&prefix[..], body].concat(), "{header:?} has two encodings");
    // A file of which the transfer number stands for the size.
    let Ok(geometry) = Geometry::for_size(header.transfer) else { return };
    let fits = header.check(&geometry.into()).is_ok();
    let is_of_it = geometry.has(header.index) && u64::from(header.len) == geometry.len_of(header.index);
    assert_eq!(fits, is_of_it && header.proof.is_empty());
    if fits {
        assert!(header.payload_len() <= MAX_CHUNK_LEN && header.len > 0);
        assert!(geometry.bytes_of(header.index).end <= geometry.size());
    }
}

fn preamble(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk::<{ Preamble::LEN }>() else { return };
    if let Some(preamble) = Preamble::decode(*bytes) {
        assert_eq!(preamble.encode(), *bytes);
    }
}

/// Numbers of four bytes: of the chunks, and then starts and counts by turns.
fn ranges(bytes: &[u8]) {
    let mut numbers = bytes.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().unwrap()));
    let chunks = numbers.next().unwrap_or(0) % (MAX_CHUNKS as u32 + 1);
    let mut list = Vec::new();
    while let (Some(start), Some(count)) = (numbers.next(), numbers.next()) {
        list.push(ChunkRange { start, count });
    }
    let outside = |range: &ChunkRange| {
        range.count == 0 || u64::from(range.start) + u64::from(range.count) > u64::from(chunks)
    };
    match ChunkSet::from_wire(&list, chunks) {
        Ok(set) => {
            assert!(list.len() <= MAX_RANGES && !list.iter().any(outside));
            assert!(list.iter().all(|range| set.contains(range.start)));
            sound(&set, chunks);
        }
        Err(error) => assert!(list.len() > MAX_RANGES || list.iter().any(outside), "{error}"),
    }
}

/// Four bytes for the number of chunks, and a bitmap as a partial's log has it.
fn bitmap(bytes: &[u8]) {
    let Some((chunks, bytes)) = bytes.split_first_chunk() else { return };
    let chunks = u32::from_le_bytes(*chunks) % (MAX_CHUNKS as u32 + 1);
    if let Some(set) = ChunkSet::from_bytes(bytes, chunks) {
        sound(&set, chunks);
    }
}

/// A set lies within the file, and is the same after every way of writing it down.
fn sound(set: &ChunkSet, chunks: u32) {
    assert!(set.last().is_none_or(|last| last < chunks) && set.len() <= chunks);
    assert_eq!(ChunkSet::from_bytes(&set.to_bytes(), chunks).as_ref(), Some(set));
    let mut whole = ChunkSet::new();
    for message in set.wire() {
        whole.union(&ChunkSet::from_wire(&message, chunks).unwrap());
    }
    assert_eq!(&whole, set);
    let missing = set.missing(chunks);
    assert_eq!(missing.len() + set.len(), chunks);
    assert_eq!(set.first_missing(chunks), missing.first());
}
