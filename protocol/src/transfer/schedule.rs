//! How many chunk streams a provider keeps in flight.
//!
//! Enough that the path never waits for the next chunk, also while older chunks wait for what they have lost: a few
//! windows' worth, and two chunks on top, one that is being read and one that is being written. They share nothing:
//! the oldest goes first, so that as little as possible is incomplete when the connection is lost. How slow the receiver's disk
//! may be is for its credit to say.
//!
//! On a poor path, where one chunk takes long by itself, chunks go one after the other.

use std::time::Duration;

use super::Now;
use crate::limits::MAX_STREAMS_PER_TRANSFER;

/// Shortest interval over which goodput is measured, and how many round trips it has.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
const ROUND_TRIPS: u32 = 3;
/// Windows' worth of chunks. Where packets are lost, a chunk is there only when what it lost was sent again, and
/// some of that yet again; and a window may double within the round trip that it takes to be told.
const WINDOWS: u64 = 4;
/// Chunks beyond what is on the path.
const AHEAD: u64 = 2;
/// A path on which one chunk takes longer than this is poor …
const POOR: Duration = Duration::from_secs(4);
/// … until a chunk takes less than this.
const FAIR: Duration = Duration::from_secs(2);

/// The number of streams, and what it is judged by.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    chunk_len: u64,
    begun: bool,
    poor: bool,
    /// Bytes that the path takes at once.
    window: u64,
    rtt: Duration,
    interval_start: Now,
    acked: u64,
}

impl Streams {
    pub(super) fn new(chunk_len: u64, now: Now) -> Self {
        Self {
            chunk_len,
            begun: false,
            poor: false,
            window: 0,
            rtt: Duration::ZERO,
            interval_start: now,
            acked: 0,
        }
    }

    /// Streams that may be in flight now.
    pub(super) fn limit(&self) -> u32 {
        if !self.begun || self.poor {
            return 1;
        }
        let streams = (WINDOWS * self.window).div_ceil(self.chunk_len) + AHEAD;
        streams.min(MAX_STREAMS_PER_TRANSFER.into()) as u32
    }

    /// A chunk was handed to QUIC as a whole.
    pub(super) fn on_written(&mut self) {
        self.begun = true;
    }

    /// The peer has these payload bytes.
    pub(super) fn on_acked(&mut self, bytes: u64) {
        self.acked += bytes;
    }

    /// The path as it is now.
    pub(super) fn on_path(&mut self, rtt: Duration, window: u64) {
        self.rtt = rtt;
        self.window = window.min(u64::MAX / WINDOWS);
    }

    /// Judges the interval that has ended, if one has.
    pub(super) fn tick(&mut self, now: Now) {
        let open_for = now.saturating_sub(self.interval_start);
        // On a slow path an interval lasts until a chunk has arrived.
        if open_for < (self.rtt * ROUND_TRIPS).max(MIN_INTERVAL) || self.acked == 0 {
            return;
        }
        let chunk_time = open_for.as_secs_f64() * self.chunk_len as f64 / self.acked as f64;
        self.poor = chunk_time > if self.poor { FAIR } else { POOR }.as_secs_f64();
        self.interval_start = now;
        self.acked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const RTT: Duration = Duration::from_millis(10);

    fn begun(window: u64) -> Streams {
        let mut streams = Streams::new(MIB, Now::ZERO);
        streams.on_path(RTT, window);
        assert_eq!(streams.limit(), 1);
        streams.on_written();
        streams
    }

    #[test]
    fn the_first_chunk_goes_alone_and_then_as_many_as_the_path_takes() {
        let mut streams = begun(32 * 1200);
        assert_eq!(streams.limit(), 3);
        streams.on_path(RTT, 3 * MIB);
        assert_eq!(streams.limit(), 14);
        streams.on_path(RTT, MIB / 4);
        assert_eq!(streams.limit(), 3);
        streams.on_path(RTT, u64::MAX);
        assert_eq!(streams.limit(), MAX_STREAMS_PER_TRANSFER);
    }

    #[test]
    fn a_poor_path_takes_one_chunk_after_the_other_until_it_is_fair_again() {
        let mut streams = begun(MIB);
        let mut now = Now::ZERO;
        let mut arrives_after = |streams: &mut Streams, took: Duration| {
            now += took;
            streams.on_acked(MIB);
            streams.tick(now);
            streams.limit()
        };
        assert_eq!(arrives_after(&mut streams, POOR + RTT), 1);
        streams.on_written();
        assert_eq!(streams.limit(), 1, "a written chunk alone does not make a poor path good");
        assert_eq!(arrives_after(&mut streams, FAIR + RTT), 1);
        assert_eq!(arrives_after(&mut streams, FAIR - RTT), 6);
        assert_eq!(arrives_after(&mut streams, FAIR + RTT), 6);
    }

    #[test]
    fn an_interval_lasts_for_some_round_trips() {
        let mut streams = begun(MIB);
        let rtt = MIN_INTERVAL;
        streams.on_path(rtt, MIB);
        streams.on_acked(1);
        streams.tick(rtt * ROUND_TRIPS - Duration::from_nanos(1));
        assert_eq!(streams.limit(), 6, "it is not over yet");
        streams.tick(rtt * ROUND_TRIPS);
        assert_eq!(streams.limit(), 1, "one byte in it is little");
        let mut streams = begun(MIB);
        streams.on_acked(MIB);
        streams.tick(POOR);
        assert_eq!(streams.limit(), 6, "just this long is not poor yet");
    }

    #[test]
    fn an_interval_without_an_arrival_goes_on() {
        let mut streams = begun(MIB);
        for seconds in 1..20 {
            streams.tick(Duration::from_secs(seconds));
            assert_eq!(streams.limit(), 6);
        }
        streams.on_acked(MIB);
        streams.tick(Duration::from_secs(20));
        assert_eq!(streams.limit(), 1);
    }
}
