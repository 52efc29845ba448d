//! Values to bytes and back: bincode with fixed-width little-endian integers. Nothing else names bincode.
//!
//! A frame is a little-endian `u32`, the length of the body, and the body. Decoding is bounded twice, by the
//! frame's length and by bincode's own limit, and a body with bytes left over is refused.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Serialize, de::DeserializeOwned};

use crate::reason::PeerMisbehaved;

/// Bytes of the length in front of a frame's body.
pub const PREFIX_LEN: usize = 4;

/// bincode's own bound while decoding. A frame's length bounds it first; this one stops a length inside the
/// body from reserving more than the largest frame could hold.
const DECODE_LIMIT: usize = crate::limits::MAX_CONTROL_FRAME_LEN;

fn config() -> Configuration<LittleEndian, Fixint, Limit<DECODE_LIMIT>> {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit()
}

/// A value that is too large for its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message is larger than its frame may be ({0} bytes)")]
pub struct TooLarge(pub usize);

/// A value as a whole frame, length in front, whose body has at most `limit` bytes.
pub fn frame<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, TooLarge> {
    let mut bytes = vec![0; PREFIX_LEN];
    // Writing to a Vec fails only at bincode's limit.
    bincode::serde::encode_into_std_write(value, &mut bytes, config()).map_err(|_| TooLarge(limit))?;
    let body = bytes.len() - PREFIX_LEN;
    if body > limit {
        return Err(TooLarge(body));
    }
    bytes[..PREFIX_LEN].copy_from_slice(&(body as u32).to_le_bytes());
    Ok(bytes)
}

/// The body length in a frame's prefix, if it is within `limit`.
pub fn body_len(prefix: [u8; PREFIX_LEN], limit: usize) -> Result<usize, PeerMisbehaved> {
    let len = u32::from_le_bytes(prefix);
    match usize::try_from(len) {
        Ok(len) if len <= limit => Ok(len),
        _ => Err(PeerMisbehaved::FrameTooLong(u64::from(len))),
    }
}

/// A value from the beginning of some bytes, and the rest of them.
pub fn decode_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), PeerMisbehaved> {
    match bincode::serde::decode_from_slice(bytes, config()) {
        Ok((value, used)) => Ok((value, bytes.get(used..).unwrap_or_default())),
        Err(_) => Err(PeerMisbehaved::MalformedFrame),
    }
}

/// A value from a frame's body, which it must fill exactly.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, PeerMisbehaved> {
    match decode_first(body)? {
        (value, []) => Ok(value),
        _ => Err(PeerMisbehaved::MalformedFrame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_and_refuse_what_is_left_over() {
        let bytes = frame(&(7u16, "hé".to_owned()), 100).unwrap();
        assert_eq!(bytes, [13, 0, 0, 0, 7, 0, 3, 0, 0, 0, 0, 0, 0, 0, b'h', 0xc3, 0xa9]);
        assert_eq!(decode::<(u16, String)>(&bytes[4..]), Ok((7, "hé".to_owned())));
        let mut long = bytes.clone();
        long.push(0);
        assert_eq!(decode::<(u16, String)>(&long[4..]), Err(PeerMisbehaved::MalformedFrame));
        assert_eq!(decode::<(u16, String)>(&bytes[4..16]), Err(PeerMisbehaved::MalformedFrame));
    }

    /// Fault 50.
    #[test]
    fn lengths_are_not_trusted() {
        assert_eq!(body_len([1, 1, 0, 0], 256), Err(PeerMisbehaved::FrameTooLong(257)));
        assert_eq!((body_len([0, 1, 0, 0], 256), body_len([0; 4], 0)), (Ok(256), Ok(0)));
        assert_eq!(body_len([0xff; 4], 256), Err(PeerMisbehaved::FrameTooLong(u64::from(u32::MAX))));
        let bomb = [&u64::MAX.to_le_bytes()[..], b"abc"].concat();
        assert_eq!(decode::<String>(&bomb), Err(PeerMisbehaved::MalformedFrame));
        assert_eq!(decode::<Vec<[u64; 4]>>(&bomb), Err(PeerMisbehaved::MalformedFrame));
        assert!(frame(&[0u8; 32], 32).is_ok());
        assert_eq!(frame(&[0u8; 32], 31), Err(TooLarge(32)));
    }
}
