//! What a queue says while the flow itself should have none: its own rate is a little too high, or others are there.

use std::time::Duration;

use super::{Bbr, CRUISE_DRAIN_PACING, DOWN_PACING, HOST_DELAY, PACING_MARGIN, Round, State, TIMER_TICK};
use crate::transport::congestion::Time;

/// A round trip that is this much longer than the shortest, while the flow itself builds no queue, means other flows.
const OTHERS_RTT: f64 = 1.1;
/// What is left of the rate after a cycle beside others.
const YIELD: f64 = 0.8;
/// Round trips in which the flow's own queue is gone: what Up has left takes Down so long.
const CRUISE_DRAINED: u64 = 1;
const DOWN_DRAINED: u64 = 4;
/// Down sends more than it means to where the rate is believed too high, and takes so many times as long.
const DOWN_TAKES: u32 = 2;
/// How long a queue has to last for what arrives to be counted: hosts that nap hear of it in bunches.
const COUNT_AT_LEAST: Duration = Duration::from_millis(10);
/// A flow alone on its path believes in no more than so many times what arrives, and what naps of this length may add.
const OWN_EXCESS: f64 = 1.03;
const NAP: Duration = Duration::from_micros(400);
/// How long it then sends less, for its own queue to go.
const LET_GO_ROUNDS: u64 = 3;
const LET_GO_AT_LEAST: Duration = Duration::from_millis(40);
/// While no queue shows after that, what arrived was a moment's, and may be too little: the rate grows by this, every so often,
/// until one shows and is measured anew.
const GROWTH: f64 = 1.01;
const GROWS_EVERY: Duration = Duration::from_millis(10);

/// What this cycle has seen of queues while cruising.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sharing {
    /// Rounds that saw one, one after the other; what they delivered, and how long they took.
    rounds: u64,
    delivered: u64,
    took: Duration,
    own: Own,
    /// When Down has had the time that the queue which Up has left takes to go.
    drained_at: Time,
}

/// What became of the flow's own queue.
#[derive(Clone, Copy, Debug, Default)]
enum Own {
    /// None was seen.
    #[default]
    Unseen,
    /// It is let go, since this round, until this time. The bound of the rate was this before.
    LetsGo { round: u64, until: Time, before: f64 },
    /// It has gone, and the rate is at least what arrived. It last grew then.
    Grows { since: Time },
    /// The rate is found; what queue is left is others'.
    Gone,
}

impl Sharing {
    /// Whether the flow sends a little less than what arrives.
    pub(super) fn lets_go(&self) -> bool {
        matches!(self.own, Own::LetsGo { .. })
    }
}

impl Bbr {
    /// Up is over: a new cycle, and what Up sends until that shows is queued too.
    pub(super) fn begin_sharing(&mut self, now: Time) {
        let queue = self.srtt.saturating_sub(self.min_rtt) + self.srtt.mul_f64(self.up_gain - 1.0);
        self.sharing =
            Sharing { drained_at: now + DOWN_TAKES * queue.div_f64(1.0 - DOWN_PACING), ..Sharing::default() };
    }

    /// Draws the conclusions of a round.
    pub(super) fn share(&mut self, now: Time, round: &Round, took: Duration) {
        let Some(shortest) = round.shortest else { return };
        let cruises = self.state == State::Cruise && self.rounds > self.since_round + CRUISE_DRAINED;
        let limit = self.min_rtt.saturating_add((self.min_rtt / 32).max(HOST_DELAY / 2));
        if cruises && shortest > limit {
            self.sharing.rounds += 1;
            self.sharing.delivered += round.delivered;
            self.sharing.took += took;
        } else {
            let Sharing { own, drained_at, .. } = self.sharing;
            self.sharing = Sharing { own, drained_at, ..Sharing::default() };
        }
        let lasts = self.sharing.took >= COUNT_AT_LEAST;
        match self.sharing.own {
            Own::Unseen if lasts && self.sharing.rounds > 1 => self.settle(now),
            Own::LetsGo { round, until, before } if self.rounds >= round + LET_GO_ROUNDS && now >= until => {
                self.sharing.own = Own::Gone;
                if self.sharing.rounds > 0 {
                    // Others fill the path, and what arrives is no measure of what this flow may have.
                    self.bandwidth_shortterm = before;
                } else if self.min_rtt <= COUNT_AT_LEAST {
                    self.sharing.own = Own::Grows { since: now };
                }
            }
            Own::Grows { since } => self.grow(now, since),
            _ => {}
        }
        let drained = match self.state {
            State::Cruise => lasts && !self.sharing.lets_go(),
            State::Down => self.rounds > self.since_round + DOWN_DRAINED && now > self.sharing.drained_at,
            _ => false,
        };
        let others = self.min_rtt.mul_f64(OTHERS_RTT).max(self.min_rtt + HOST_DELAY);
        if drained && self.min_rtt >= TIMER_TICK && shortest > others {
            self.give_way();
        }
    }

    /// What is believed of the path is a maximum, and so a little more than it carries: cruising at it builds a queue. Once
    /// there is one, the path is full, and what arrives is this flow's part of it.
    fn settle(&mut self, now: Time) {
        let arrives = self.sharing.delivered as f64 / self.sharing.took.as_secs_f64();
        let excess = OWN_EXCESS + NAP.as_secs_f64() / self.min_rtt.as_secs_f64();
        if self.bandwidth() < arrives * excess {
            let before = self.bandwidth_shortterm;
            let queue = self.srtt.saturating_sub(self.min_rtt);
            let takes = queue.div_f64(1.0 - CRUISE_DRAIN_PACING * PACING_MARGIN);
            let until = now + takes.max(LET_GO_AT_LEAST);
            self.sharing.own = Own::LetsGo { round: self.rounds, until, before };
            self.bandwidth_shortterm = before.min(arrives);
        }
    }

    /// Looks for what the path carries beyond what arrived while the queue was seen.
    fn grow(&mut self, now: Time, since: Time) {
        if self.sharing.rounds > 0 {
            self.sharing.own = Own::Unseen;
        } else if now.saturating_sub(since) >= GROWS_EVERY {
            self.sharing.own = Own::Grows { since: now };
            self.bandwidth_shortterm = (self.bandwidth_shortterm * GROWTH).min(self.max_bandwidth());
        }
    }

    /// Gives way to others that have a queue while this flow has none: by a fifth, and no more than that in a cycle, so
    /// that who never lets the queue go does not take all.
    fn give_way(&mut self) {
        self.bandwidth_shortterm = self.bandwidth_shortterm.min(self.max_bandwidth() * YIELD);
    }
}
