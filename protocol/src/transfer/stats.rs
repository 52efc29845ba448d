//! The rate that a progress line shows.

use std::{collections::VecDeque, time::Duration};

use super::Now;

/// How far back the rate looks.
const WINDOW: Duration = Duration::from_secs(3);
/// Shortest time between two samples, so that their number is bounded.
const STEP: Duration = Duration::from_millis(100);

/// Bytes per second over the last few seconds.
#[derive(Clone, Debug)]
pub(super) struct RateMeter {
    total: u64,
    samples: VecDeque<(Now, u64)>,
}

impl RateMeter {
    pub(super) fn new(now: Now) -> Self {
        Self { total: 0, samples: VecDeque::from([(now, 0)]) }
    }

    /// Counts bytes that have just been verified.
    pub(super) fn add(&mut self, bytes: u64, now: Now) {
        self.total += bytes;
        if self.samples.back().is_none_or(|(at, _)| now >= *at + STEP) {
            self.samples.push_back((now, self.total));
        }
        while self.samples.len() > 2 && self.samples.get(1).is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.samples.pop_front();
        }
    }

    /// Bytes per second from the oldest sample in the window until now.
    pub(super) fn rate(&self, now: Now) -> u64 {
        let old = self.samples.iter().rev().find(|(at, _)| *at + WINDOW <= now);
        let Some((at, bytes)) = old.or(self.samples.front()) else { return 0 };
        let millis = now.saturating_sub(*at).as_millis().max(1);
        (u128::from(self.total - bytes) * 1000 / millis) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_forgets_what_is_long_ago() {
        let mut meter = RateMeter::new(Duration::ZERO);
        for second in 1..=10 {
            meter.add(1000, Duration::from_secs(second));
        }
        assert_eq!(meter.rate(Duration::from_secs(10)), 1000);
        assert_eq!(meter.rate(Duration::from_secs(100)), 0);
        for millis in 100_000..101_000 {
            meter.add(5, Duration::from_millis(millis));
        }
        assert!(meter.samples.len() < 40);
    }
}
