//! How fast the path delivers: the estimator of draft-ietf-ccwg-bbr, section "Delivery Rate Samples" (first
//! described in draft-cheng-iccrg-delivery-rate-estimation).

use std::{collections::VecDeque, time::Duration};

use super::Time;

/// Records of departures are kept for this many round trips, and no less than this long. An acknowledgement that
/// comes later than that counts as delivered and says nothing about the rate.
const KEPT_ROUND_TRIPS: u32 = 3;
const KEPT_AT_LEAST: Duration = Duration::from_millis(200);

/// What was known when packets left. All packets that leave at one instant share one.
#[derive(Clone, Copy, Debug)]
struct Departure {
    sent: Time,
    /// Bytes delivered by then.
    delivered: u64,
    /// When the last of them were.
    delivered_at: Time,
    /// When the flight began to which these packets belong.
    first_sent: Time,
    app_limited: bool,
}

/// Counts deliveries.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    departures: VecDeque<Departure>,
    delivered: u64,
    delivered_at: Time,
    first_sent: Time,
    /// Packets that leave before this many bytes are delivered were sent by somebody who had too little to send.
    app_limited_until: u64,
    batch: Batch,
}

/// The packets that one acknowledgement covers.
#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    bytes: u64,
    newest: Option<Departure>,
    shortest: Option<Duration>,
}

/// What one acknowledgement says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes newly delivered.
    pub(super) acked: u64,
    /// Bytes a second; none where the interval is too short to mean anything.
    pub(super) rate: Option<f64>,
    /// Whether the sender, not the path, set that rate.
    pub(super) app_limited: bool,
    /// Bytes that had been delivered when the newest of the packets left.
    pub(super) delivered_at_departure: Option<u64>,
    /// The shortest round trip among the packets.
    pub(super) rtt: Option<Duration>,
}

impl Delivery {
    pub(super) fn new(now: Time) -> Self {
        Self {
            departures: VecDeque::new(),
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            app_limited_until: 0,
            batch: Batch::default(),
        }
    }

    /// Bytes delivered so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Packets leave. `idle` when none were on their way.
    pub(super) fn on_sent(&mut self, now: Time, idle: bool) {
        if idle {
            self.first_sent = now;
            self.delivered_at = now;
        }
        if self.departures.back().is_some_and(|last| last.sent >= now) {
            return;
        }
        self.departures.push_back(Departure {
            sent: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            app_limited: self.app_limited_until > 0,
        });
    }

    /// A packet arrived.
    pub(super) fn on_ack(&mut self, now: Time, sent: Time, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
        self.batch.bytes += bytes;
        let took = now.saturating_sub(sent);
        self.batch.shortest = Some(self.batch.shortest.map_or(took, |shortest| shortest.min(took)));
        let at = self.departures.partition_point(|departure| departure.sent < sent);
        if let Some(departure) = self.departures.get(at).filter(|departure| departure.sent == sent)
            && self.batch.newest.is_none_or(|newest| newest.sent < departure.sent)
        {
            self.batch.newest = Some(*departure);
        }
    }

    /// The acknowledgement is read to its end. `in_flight` is what is still on its way; `app_limited` when there
    /// is nothing more to send.
    pub(super) fn on_end_acks(
        &mut self,
        now: Time,
        in_flight: u64,
        app_limited: bool,
        min_rtt: Duration,
    ) -> Option<Sample> {
        let batch = std::mem::take(&mut self.batch);
        if batch.bytes == 0 {
            return None;
        }
        if self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        if app_limited {
            self.app_limited_until = (self.delivered + in_flight).max(1);
        }
        let rate = batch.newest.and_then(|newest| {
            let sending = newest.sent.saturating_sub(newest.first_sent);
            let arriving = now.saturating_sub(newest.delivered_at);
            let interval = sending.max(arriving);
            // Shorter than any round trip: acknowledgements that were held back and came at once.
            let sound = !interval.is_zero() && (min_rtt == Duration::MAX || interval >= min_rtt);
            sound.then(|| (self.delivered - newest.delivered) as f64 / interval.as_secs_f64())
        });
        if let Some(newest) = batch.newest {
            self.first_sent = self.first_sent.max(newest.sent);
            let kept = batch.shortest.unwrap_or_default() * KEPT_ROUND_TRIPS + KEPT_AT_LEAST;
            let oldest = newest.sent.saturating_sub(kept);
            while self.departures.front().is_some_and(|departure| departure.sent < oldest) {
                self.departures.pop_front();
            }
        }
        Some(Sample {
            acked: batch.bytes,
            rate,
            app_limited: batch.newest.is_none_or(|newest| newest.app_limited),
            delivered_at_departure: batch.newest.map(|newest| newest.delivered),
            rtt: batch.shortest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_steady_flow_is_measured_as_what_it_is() {
        let mut delivery = Delivery::new(Duration::ZERO);
        // 1200 bytes a millisecond, 50 ms away.
        for t in 0..50 {
            delivery.on_sent(ms(t), t == 0);
        }
        for t in 50..200 {
            delivery.on_ack(ms(t), ms(t - 50), 1200);
            let sample = delivery.on_end_acks(ms(t), 60_000, false, ms(50)).unwrap();
            delivery.on_sent(ms(t), false);
            if t > 101 {
                let rate = sample.rate.unwrap();
                assert!((1_150_000.0..=1_250_000.0).contains(&rate), "{t}: {rate}");
                assert!(!sample.app_limited);
                assert_eq!(sample.rtt, Some(ms(50)));
            }
        }
    }

    #[test]
    fn acknowledgements_that_come_at_once_do_not_look_like_a_fast_path() {
        let mut delivery = Delivery::new(Duration::ZERO);
        for t in 0..200 {
            delivery.on_sent(ms(t), t == 0);
        }
        for t in 0..150 {
            delivery.on_ack(ms(200), ms(t), 1200);
        }
        let sample = delivery.on_end_acks(ms(200), 60_000, false, ms(50)).unwrap();
        assert!(sample.rate.unwrap() <= 1_250_000.0, "{sample:?}");
    }

    #[test]
    fn a_sender_with_too_little_to_send_says_so() {
        let mut delivery = Delivery::new(Duration::ZERO);
        delivery.on_sent(ms(0), true);
        delivery.on_ack(ms(50), ms(0), 1200);
        assert!(!delivery.on_end_acks(ms(50), 0, true, ms(50)).unwrap().app_limited);
        delivery.on_sent(ms(60), true);
        delivery.on_ack(ms(110), ms(60), 1200);
        assert!(delivery.on_end_acks(ms(110), 0, false, ms(50)).unwrap().app_limited);
        delivery.on_sent(ms(110), true);
        delivery.on_ack(ms(160), ms(110), 1200);
        assert!(!delivery.on_end_acks(ms(160), 0, false, ms(50)).unwrap().app_limited);
    }
}
