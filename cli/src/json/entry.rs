//! A line of what happened.

use p2p_protocol::{
    PeerId,
    control::{Direction, Happening, LogEntry},
};
use serde::Serialize;

/// Something that happened. What does not belong to it is null.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    at_ms: u64,
    what: Happening,
    transfer: Option<u64>,
    direction: Option<Direction>,
    name: &'a str,
    #[serde(serialize_with = "super::some_text")]
    peer: Option<PeerId>,
    target: Option<&'a str>,
    bytes: Option<u64>,
    moved_bytes: Option<u64>,
    seconds: Option<f64>,
    attempt: Option<u32>,
    detail: Option<&'a str>,
}

impl<'a> From<&'a LogEntry> for Entry<'a> {
    fn from(entry: &'a LogEntry) -> Self {
        Self {
            at_ms: entry.at_ms,
            what: entry.what,
            transfer: entry.transfer,
            direction: entry.direction,
            name: &entry.name,
            peer: entry.peer,
            target: Some(entry.target.as_str()).filter(|target| !target.is_empty()),
            bytes: entry.bytes,
            moved_bytes: entry.moved_bytes,
            seconds: entry.millis.map(|millis| millis as f64 / 1000.0),
            attempt: entry.attempt,
            detail: entry.detail.as_deref(),
        }
    }
}
