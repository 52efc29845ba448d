//! How many chunk streams a provider keeps in flight.
//!
//! ```text
//!            first chunk written          goodput no longer grows
//!  Alone ───────────────────────▶ Growing ───────────────────────▶ Steady
//!    ▲                            (doubles)                       (one up, one down,
//!    │                                                             as goodput answers)
//!    └───────────────── a chunk takes the whole path for long ─────────┘
//! ```
//!
//! The count is judged once an interval of several round trips, and only by intervals in which it was the
//! count that held the provider back.

use std::time::Duration;

use super::Now;
use crate::limits::MAX_STREAMS_PER_TRANSFER;

/// Shortest interval between two decisions.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Round trips in an interval.
const ROUND_TRIPS: u32 = 3;
/// Streams after the first chunk.
const FIRST_PARALLEL: u32 = 4;
/// Goodput must grow by more than one part in this to count as grown.
const GROWTH: u64 = 10;
/// Round trips swell when they exceed the shortest one this many times …
const SWELL_FACTOR: u32 = 2;
/// … and by at least this.
const SWELL_MIN: Duration = Duration::from_millis(20);
/// A path on which one chunk takes longer than this is poor: chunks go one after the other.
const POOR: Duration = Duration::from_secs(4);
/// Steady intervals after which one more stream is tried.
const PROBE_EVERY: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Alone,
    Growing,
    Steady { since_probe: u32 },
}

/// The number of streams, and what it is judged by.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    chunk_len: u64,
    limit: u32,
    phase: Phase,
    rtt: Duration,
    min_rtt: Option<Duration>,
    interval_start: Now,
    acked: u64,
    was_full: bool,
    last_rate: u64,
}

impl Streams {
    pub(super) fn new(chunk_len: u64, now: Now) -> Self {
        Self {
            chunk_len,
            limit: 1,
            phase: Phase::Alone,
            rtt: Duration::ZERO,
            min_rtt: None,
            interval_start: now,
            acked: 0,
            was_full: false,
            last_rate: 0,
        }
    }

    /// Streams that may be in flight now.
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// A chunk was handed to QUIC as a whole.
    pub(super) fn on_written(&mut self, now: Now) {
        if self.phase == Phase::Alone && self.last_rate == 0 {
            self.phase = Phase::Growing;
            self.limit = FIRST_PARALLEL;
            self.restart_interval(now);
        }
    }

    /// The peer has these payload bytes.
    pub(super) fn on_acked(&mut self, bytes: u64) {
        self.acked += bytes;
    }

    /// The limit, and nothing else, kept another chunk from being sent.
    pub(super) fn on_full(&mut self) {
        self.was_full = true;
    }

    /// The path's round trip as measured now.
    pub(super) fn on_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
        self.min_rtt = Some(self.min_rtt.map_or(rtt, |min| min.min(rtt)));
    }

    /// Judges the interval that has ended, if one has.
    pub(super) fn tick(&mut self, now: Now) {
        let open_for = now.saturating_sub(self.interval_start);
        if open_for < (self.rtt * ROUND_TRIPS).max(MIN_INTERVAL) {
            return;
        }
        if self.acked == 0 {
            // On a slow path an interval lasts until a chunk has arrived.
            return;
        }
        let rate = (u128::from(self.acked) * 1000 / open_for.as_millis().max(1)) as u64;
        let chunk_time = Duration::from_millis((self.chunk_len * 1000) / rate.max(1));
        if chunk_time > POOR {
            self.phase = Phase::Alone;
            self.limit = 1;
        } else if self.phase == Phase::Alone || self.was_full {
            self.judge(rate);
        }
        self.last_rate = rate;
        self.restart_interval(now);
    }

    fn judge(&mut self, rate: u64) {
        let grown = rate > self.last_rate + self.last_rate / GROWTH;
        let fallen = rate + rate / GROWTH < self.last_rate;
        let swollen = self.min_rtt.is_some_and(|min| self.rtt > (min * SWELL_FACTOR).max(min + SWELL_MIN));
        match self.phase {
            Phase::Alone => {
                self.phase = Phase::Growing;
                self.limit = FIRST_PARALLEL;
            }
            Phase::Growing if grown && !swollen => self.limit *= 2,
            Phase::Growing => self.phase = Phase::Steady { since_probe: 0 },
            Phase::Steady { .. } if swollen || fallen => {
                self.limit -= self.limit / 4;
                self.phase = Phase::Steady { since_probe: 0 };
            }
            Phase::Steady { since_probe } if grown || since_probe >= PROBE_EVERY => {
                self.limit += 1;
                self.phase = Phase::Steady { since_probe: 0 };
            }
            Phase::Steady { since_probe } => self.phase = Phase::Steady { since_probe: since_probe + 1 },
        }
        self.limit = self.limit.clamp(FIRST_PARALLEL.min(2), MAX_STREAMS_PER_TRANSFER);
    }

    fn restart_interval(&mut self, now: Now) {
        self.interval_start = now;
        self.acked = 0;
        self.was_full = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A path that carries `capacity` bytes per second and needs `needed` streams for that.
    fn run(streams: &mut Streams, now: &mut Now, capacity: u64, needed: u32, intervals: u32) {
        for _ in 0..intervals {
            *now += MIN_INTERVAL;
            streams.on_acked(capacity * u64::from(streams.limit().min(needed)) / u64::from(needed) / 10);
            streams.on_full();
            streams.tick(*now);
        }
    }

    #[test]
    fn the_first_chunk_goes_alone_and_the_count_grows_with_goodput() {
        let mut now = Now::ZERO;
        let mut streams = Streams::new(MIB, now);
        streams.on_rtt(Duration::from_millis(10));
        assert_eq!(streams.limit(), 1);
        streams.on_written(now);
        assert_eq!(streams.limit(), FIRST_PARALLEL);
        run(&mut streams, &mut now, 100 * MIB, 16, 12);
        assert!((12..=32).contains(&streams.limit()), "{}", streams.limit());
    }

    #[test]
    fn a_poor_path_goes_back_to_one_and_recovers() {
        let mut now = Now::ZERO;
        let mut streams = Streams::new(MIB, now);
        streams.on_rtt(Duration::from_millis(10));
        streams.on_written(now);
        run(&mut streams, &mut now, 100 * MIB, 8, 8);
        assert!(streams.limit() > 1);
        now += Duration::from_secs(20);
        streams.on_acked(MIB);
        streams.tick(now);
        assert_eq!(streams.limit(), 1);
        streams.on_written(now);
        assert_eq!(streams.limit(), 1, "a written chunk alone does not make a poor path good");
        run(&mut streams, &mut now, 100 * MIB, 8, 8);
        assert!(streams.limit() > 1);
    }

    #[test]
    fn swollen_round_trips_shrink_the_count() {
        let mut now = Now::ZERO;
        let mut streams = Streams::new(MIB, now);
        streams.on_rtt(Duration::from_millis(20));
        streams.on_written(now);
        run(&mut streams, &mut now, 100 * MIB, 16, 10);
        let before = streams.limit();
        streams.on_rtt(Duration::from_millis(30));
        run(&mut streams, &mut now, 100 * MIB, 16, 1);
        streams.on_rtt(Duration::from_millis(200));
        for _ in 0..4 {
            now += Duration::from_millis(600);
            streams.on_acked(60 * MIB);
            streams.on_full();
            streams.tick(now);
        }
        assert!(streams.limit() < before, "{} < {before}", streams.limit());
        assert!(streams.limit() >= 2);
    }

    #[test]
    fn an_interval_without_full_use_says_nothing() {
        let mut streams = Streams::new(MIB, Now::ZERO);
        streams.on_written(Now::ZERO);
        for i in 1..20 {
            streams.on_acked(MIB);
            streams.tick(MIN_INTERVAL * i);
        }
        assert_eq!(streams.limit(), FIRST_PARALLEL);
    }
}
