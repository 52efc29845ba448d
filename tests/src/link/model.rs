//! One direction of a link, as a state machine. Time is an argument, so that an hour of weather is tested in an
//! instant.
//!
//! ```text
//!  offer ──▶ queue ──▶ serialisation ──▶ loss ──▶ delay ──▶ take_due
//!              │ full                      │
//!              ▼ overflowed                ▼ lost
//! ```

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What a direction is like.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Bits per second.
    pub rate: u64,
    /// From the last bit sent to its arrival.
    pub delay: Duration,
    /// The share of packets that are lost on the way, from 0 to 1.
    pub loss: f64,
    /// Bytes that may wait to be sent; what comes on top is dropped.
    pub queue: u64,
    /// Determines which packets are lost.
    pub seed: u64,
}

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub packets: u64,
    /// Their bytes, with the headers of IP.
    pub bytes: u64,
}

impl Tally {
    fn count(&mut self, len: u64) {
        self.packets += 1;
        self.bytes += len;
    }
}

/// What became of the packets so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Sent over the link, which is paid for whether they arrive or not.
    pub carried: Tally,
    /// Those of them that were lost on the way.
    pub lost: Tally,
    /// Dropped since the queue was full, and never sent.
    pub overflowed: Tally,
    /// The longest that a packet had to wait before it was sent.
    pub longest_wait: Duration,
}

/// One direction of a link.
#[derive(Debug)]
pub struct Link {
    conditions: Conditions,
    dice: Dice,
    /// When everything accepted so far has been sent; `None` before the first packet.
    busy_until: Option<Instant>,
    /// What will arrive, and when; in order.
    under_way: VecDeque<(Instant, Vec<u8>)>,
    counters: Counters,
}

impl Link {
    /// An idle link.
    pub fn new(conditions: Conditions) -> Self {
        let dice = Dice(conditions.seed);
        Self { conditions, dice, busy_until: None, under_way: VecDeque::new(), counters: Counters::default() }
    }

    /// Takes a packet, unless the queue is full. It may still be lost on the way, which nobody is told.
    ///
    /// Time must not run backwards from call to call.
    pub fn offer(&mut self, now: Instant, packet: &[u8]) -> bool {
        let len = packet.len() as u64;
        let wait = self.wait(now);
        if self.bytes_sent_in(wait) + len > self.conditions.queue {
            self.counters.overflowed.count(len);
            return false;
        }
        let sent = now + wait + self.time_to_send(len);
        self.busy_until = Some(sent);
        self.counters.carried.count(len);
        self.counters.longest_wait = self.counters.longest_wait.max(wait);
        if self.dice.roll() < self.conditions.loss {
            self.counters.lost.count(len);
        } else {
            // Nothing overtakes, not even where the delay has become shorter.
            let due = self.under_way.back().map_or(sent, |(last, _)| *last).max(sent + self.conditions.delay);
            self.under_way.push_back((due, packet.to_vec()));
        }
        true
    }

    /// Makes the link another one from now on. What waits is sent at the new rate, and none of it is dropped where the
    /// queue has become smaller; what was sent already travels on as it did, and what was lost stays lost.
    ///
    /// Time must not run backwards from call to call.
    pub fn change(&mut self, now: Instant, conditions: Conditions) {
        let slower = self.conditions.rate as f64 / conditions.rate as f64;
        let anew = |sent: Instant| now + sent.saturating_duration_since(now).mul_f64(slower);
        let mut last = now;
        for (due, _) in &mut self.under_way {
            let sent = *due - self.conditions.delay;
            if sent > now {
                *due = anew(sent) + conditions.delay;
            }
            last = last.max(*due);
            *due = last;
        }
        self.busy_until = self.busy_until.map(anew);
        self.dice = Dice(conditions.seed);
        self.conditions = conditions;
    }

    /// How long a packet would have to wait now before it is sent.
    pub fn wait(&self, now: Instant) -> Duration {
        self.busy_until.map_or(Duration::ZERO, |busy_until| busy_until.saturating_duration_since(now))
    }

    /// Bytes that were accepted and are not sent yet.
    pub fn bytes_waiting(&self, now: Instant) -> u64 {
        self.bytes_sent_in(self.wait(now))
    }

    /// When the next packet arrives, if one is under way. Packets offered later arrive later.
    pub fn next_due(&self) -> Option<Instant> {
        self.under_way.front().map(|(due, _)| *due)
    }

    /// The packets that have arrived by now, in order.
    pub fn take_due(&mut self, now: Instant) -> impl Iterator<Item = Vec<u8>> {
        let due = self.under_way.partition_point(|(due, _)| *due <= now);
        self.under_way.drain(..due).map(|(_, packet)| packet)
    }

    /// What became of the packets since the counters were last taken.
    pub fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }

    /// The same, and they go on.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn time_to_send(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes * 8 * 1_000_000_000 / self.conditions.rate)
    }

    fn bytes_sent_in(&self, time: Duration) -> u64 {
        (time.as_secs_f64() * self.conditions.rate as f64 / 8.0).round() as u64
    }
}

/// Random numbers that only the seed determines: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// At least 0 and less than 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The 53 bits that a double holds exactly.
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 1000;
    /// A packet of `LEN` bytes takes a millisecond.
    const RATE: u64 = 8_000_000;
    const DELAY: Duration = Duration::from_millis(50);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn conditions() -> Conditions {
        Conditions { rate: RATE, delay: DELAY, loss: 0.0, queue: 10 * LEN as u64, seed: 1 }
    }

    fn marked(mark: u8) -> Vec<u8> {
        vec![mark; LEN]
    }

    fn marks(link: &mut Link, now: Instant) -> Vec<u8> {
        link.take_due(now).map(|packet| packet[0]).collect()
    }

    #[test]
    fn a_packet_arrives_when_it_was_sent_and_has_travelled() {
        let (mut link, begin) = (Link::new(conditions()), Instant::now());
        assert_eq!(link.next_due(), None);
        assert!(link.offer(begin, &marked(7)));
        assert_eq!(link.next_due(), Some(begin + ms(51)));
        assert!(marks(&mut link, begin + ms(50)).is_empty());
        assert_eq!(marks(&mut link, begin + ms(51)), [7]);
        assert_eq!(link.next_due(), None);
    }

    #[test]
    fn packets_are_sent_one_after_the_other() {
        let (mut link, begin) = (Link::new(conditions()), Instant::now());
        for mark in 0..3 {
            assert!(link.offer(begin, &marked(mark)));
        }
        assert_eq!(marks(&mut link, begin + ms(52)), [0, 1]);
        assert_eq!(link.next_due(), Some(begin + ms(53)));
        // An idle link does not save up time.
        assert!(link.offer(begin + ms(100), &marked(3)));
        assert_eq!(marks(&mut link, begin + ms(150)), [2]);
        assert_eq!(marks(&mut link, begin + ms(151)), [3]);
        assert_eq!(link.counters().longest_wait, ms(2));
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_has_room_again_as_it_drains() {
        let (mut link, begin) = (Link::new(conditions()), Instant::now());
        let taken = (0..15).filter(|mark| link.offer(begin, &marked(*mark))).count();
        assert_eq!(taken, 10);
        assert!(!link.offer(begin + Duration::from_micros(900), &marked(20)));
        assert!(link.offer(begin + ms(1), &marked(21)));
        let counters = link.take_counters();
        assert_eq!(counters.carried, Tally { packets: 11, bytes: 11 * LEN as u64 });
        assert_eq!(counters.overflowed, Tally { packets: 6, bytes: 6 * LEN as u64 });
        assert_eq!(counters.longest_wait, ms(9));
        assert_eq!(marks(&mut link, begin + ms(61)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 21]);
        assert_eq!(link.counters().carried, Tally::default());
    }

    #[test]
    fn losses_are_as_frequent_as_asked_for_and_the_same_for_a_seed() {
        const OFFERED: u64 = 20_000;
        let run = |seed| {
            let (mut link, mut now) =
                (Link::new(Conditions { loss: 0.01, seed, ..conditions() }), Instant::now());
            let mut arrived = Vec::new();
            for mark in 0..OFFERED {
                assert!(link.offer(now, &marked(mark as u8)));
                now += ms(1);
                arrived.extend(link.take_due(now).map(|packet| packet[0]));
            }
            arrived.extend(link.take_due(now + DELAY).map(|packet| packet[0]));
            (arrived, link.counters())
        };
        let (arrived, counters) = run(1);
        assert_eq!(counters.carried.packets, OFFERED);
        assert_eq!(counters.lost.packets, OFFERED - arrived.len() as u64);
        assert!((160..240).contains(&counters.lost.packets), "{counters:?}");
        assert_eq!(run(1).0, arrived);
        assert_ne!(run(2).0, arrived);
    }

    #[test]
    fn what_waits_when_the_rate_changes_is_sent_at_the_new_one() {
        let (mut link, begin) = (Link::new(conditions()), Instant::now());
        for mark in 0..4 {
            assert!(link.offer(begin, &marked(mark)));
        }
        let change = begin + ms(2);
        assert_eq!((link.wait(change), link.bytes_waiting(change)), (ms(2), 2 * LEN as u64));
        // Two are sent and travel on as they did; the other two take ten times as long, and more loss is not theirs.
        link.change(change, Conditions { rate: RATE / 10, loss: 1.0, ..conditions() });
        assert_eq!((link.wait(change), link.bytes_waiting(change)), (ms(20), 2 * LEN as u64));
        assert!(link.offer(change, &marked(4)));
        assert_eq!(marks(&mut link, begin + ms(52)), [0, 1]);
        assert_eq!(link.next_due(), Some(change + ms(60)));
        assert_eq!(marks(&mut link, change + ms(70)), [2, 3]);
        assert_eq!(link.counters().lost.packets, 1);
        // It is as it was, with an idle moment between.
        link.change(begin + ms(100), conditions());
        assert_eq!(link.wait(begin + ms(100)), ms(0));
        assert!(link.offer(begin + ms(100), &marked(5)));
        assert_eq!(link.next_due(), Some(begin + ms(151)));
    }

    #[test]
    fn no_packet_overtakes_another_when_the_delay_becomes_shorter() {
        let (mut link, begin) = (Link::new(conditions()), Instant::now());
        assert!(link.offer(begin, &marked(0)));
        assert!(link.offer(begin, &marked(1)));
        link.change(begin + ms(1), Conditions { delay: ms(5), ..conditions() });
        assert!(link.offer(begin + ms(1), &marked(2)));
        assert!(marks(&mut link, begin + ms(50)).is_empty());
        assert_eq!(marks(&mut link, begin + ms(51)), [0, 1, 2]);
        assert!(link.offer(begin + ms(51), &marked(3)));
        assert_eq!(link.next_due(), Some(begin + ms(57)));
    }

    #[test]
    fn a_lost_packet_takes_its_time_on_the_link() {
        let (mut link, begin) = (Link::new(Conditions { loss: 1.0, ..conditions() }), Instant::now());
        for _ in 0..10 {
            assert!(link.offer(begin, &marked(0)));
        }
        assert!(!link.offer(begin, &marked(0)));
        assert_eq!(link.next_due(), None);
        assert_eq!(link.counters().lost.packets, 10);
    }
}
