//! BBR: sends at the rate at which the path delivers, and keeps about one bandwidth-delay product on its way.
//!
//! After draft-ietf-ccwg-bbr (BBRv3), whose terms it uses. It differs where the module's documentation says so.

mod sharing;

use std::time::Duration;

use self::sharing::Sharing;
use super::{
    Time,
    delivery::{Delivery, Sample},
};

/// Rates with which the next state begins: pacing and window, as multiples of what the path was seen to carry.
const STARTUP_PACING: f64 = 2.77;
const DRAIN_PACING: f64 = 0.5;
const DOWN_PACING: f64 = 0.75;
const UP_PACING: f64 = 1.25;
/// A little less than the path carries, so that no queue stays.
const PACING_MARGIN: f64 = 0.99;
/// While a round trip shows a queue, cruising lets it go. What is believed of the path is a maximum, and so a little more than it carries.
const CRUISE_DRAIN_PACING: f64 = 0.95;
const WINDOW_GAIN: f64 = 2.0;
const UP_WINDOW_GAIN: f64 = 2.25;
const PROBE_RTT_WINDOW_GAIN: f64 = 0.5;

/// The rate still grows while a round trip brings this much more.
const STARTUP_GROWTH: f64 = 1.25;
const UP_GROWTH: f64 = 1.05;
/// Round trips without growth after which the path is full.
const ROUNDS_WITHOUT_GROWTH: u32 = 3;
/// A round trip that is this much longer than the shortest means a queue; with it, so many rounds without growth will do.
const QUEUE_RTT: f64 = 1.25;
const ROUNDS_WITH_QUEUE: u32 = 2;
/// Up has what the path gives once it has made the round trip longer by this part of the shortest.
const UP_RISE: f64 = 0.25;
/// A round of Up that brings this much more found room, and the next one tries twice as much.
const UP_ROOM: f64 = 1.06;
/// Loss beyond what the path always has, and beyond chance, that means that too much was sent.
const LOSS_THRESHOLD: f64 = 0.02;
/// What Startup takes for an overflow even where no queue shows: a path's own loss is not known yet.
const STARTUP_LOSS_THRESHOLD: f64 = 0.15;
/// No path is believed to lose more than this by itself.
const MAX_OWN_LOSS: f64 = 0.08;
/// Lost packets in a round below which nothing is concluded from them.
const FEW_LOSSES: u64 = 6;
/// Packets in a round below which its loss is all chance.
const FEW_PACKETS: u64 = 30;
/// A round that overflows and brings less than this part of the rate has seen another path, or the same one grown poor.
const OTHER_PATH: f64 = 0.4;
/// What is left of a bound after an overflow.
const BETA: f64 = 0.7;
/// Part of `inflight_longterm` that cruising leaves to others.
const HEADROOM: f64 = 0.85;

/// How long the shortest round trip is believed, and how often it is measured anew.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);
/// Down and Cruise take between two and three seconds, and no more round trips than Reno needs for as many packets.
const CRUISE_AT_LEAST: Duration = Duration::from_secs(2);
const CRUISE_SPREAD_MS: u64 = 1000;
const CRUISE_ROUNDS: u64 = 63;

/// Packets that may always be on their way.
const MIN_PACKETS: u64 = 4;
/// Timers are no finer than this, so that a path with a shorter round trip is not paced.
const TIMER_TICK: Duration = Duration::from_millis(1);
/// How long a busy host may keep a packet or its acknowledgement to itself.
const HOST_DELAY: Duration = Duration::from_millis(2);
/// Unused allowance that is kept: timers fire this late, and trains of packets are this long.
const KEPT_ALLOWANCE: Duration = Duration::from_millis(1);
const KEPT_PACKETS: u64 = 10;

/// Where in its life the flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Doubles every round trip until the path is full.
    Startup,
    /// Lets the queue go that Startup has built.
    Drain,
    /// Sends less than the path carries, so that queues drain and others find room.
    Down,
    /// Sends what the path carries.
    Cruise,
    /// Fills the path without a queue, so that what Up loses is due to Up.
    Refill,
    /// Looks for more.
    Up,
    /// Empties the path's queue, to see its shortest round trip.
    ProbeRtt,
}

/// What a round trip has brought.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    delivered: u64,
    lost: u64,
    /// The highest rate seen, in bytes a second.
    bandwidth: f64,
    /// The shortest round trip.
    shortest: Option<Duration>,
    /// A router has marked packets instead of dropping them.
    marked: bool,
}

/// One flow's controller.
#[derive(Clone, Debug)]
pub(super) struct Bbr {
    state: State,
    delivery: Delivery,
    mtu: u64,
    initial_window: u64,
    seed: u64,

    // The model of the path. Rates are bytes a second.
    /// The highest rates of this ProbeBW cycle and of the one before.
    bandwidths: [f64; 2],
    bandwidth_shortterm: f64,
    min_rtt: Duration,
    min_rtt_at: Time,
    srtt: Duration,
    /// What may be in flight, after an overflow while probing, and while not.
    inflight_longterm: f64,
    inflight_shortterm: f64,
    /// The loss that the path has without a queue.
    own_loss: f64,
    /// Whether the last round saw no queue at all.
    calm: bool,
    sharing: Sharing,

    // Rounds.
    round: Round,
    round_begun: Time,
    rounds: u64,
    next_round: u64,
    full_bandwidth: f64,
    without_growth: u32,
    full: bool,

    // ProbeBW and ProbeRTT.
    since: Time,
    since_round: u64,
    /// When the cycle began, with Down.
    cycle_begun: Time,
    cycle_round: u64,
    /// The round trip when Up began, and how much faster than the path it sends.
    up_rtt: Duration,
    up_gain: f64,
    cycles: u64,
    cruise: Duration,
    new_cycle: bool,
    probed_rtt_at: Time,
    probe_rtt_done: Option<Time>,

    // What may be sent.
    in_flight: u64,
    window: f64,
    allowance: f64,
    /// Until when the allowance has been granted.
    granted: Time,
}

impl Bbr {
    /// A flow over an unknown path. `seed` spreads the moments at which flows probe.
    pub(super) fn new(now: Time, mtu: u16, initial_window: u64, seed: u64) -> Self {
        Self {
            state: State::Startup,
            delivery: Delivery::new(now),
            mtu: mtu.into(),
            initial_window,
            seed,
            bandwidths: [0.0; 2],
            bandwidth_shortterm: f64::INFINITY,
            min_rtt: Duration::MAX,
            min_rtt_at: now,
            srtt: Duration::ZERO,
            inflight_longterm: f64::INFINITY,
            inflight_shortterm: f64::INFINITY,
            own_loss: 0.0,
            calm: false,
            sharing: Sharing::default(),
            round: Round::default(),
            round_begun: now,
            rounds: 0,
            next_round: 0,
            full_bandwidth: 0.0,
            without_growth: 0,
            full: false,
            since: now,
            since_round: 0,
            cycle_begun: now,
            cycle_round: 0,
            up_rtt: Duration::ZERO,
            up_gain: UP_PACING,
            cycles: 0,
            cruise: CRUISE_AT_LEAST,
            new_cycle: false,
            probed_rtt_at: now,
            probe_rtt_done: None,
            in_flight: 0,
            window: initial_window as f64,
            allowance: initial_window as f64,
            granted: now,
        }
    }

    /// Bytes that may be on their way now: what is, and what the pacing rate has granted since; no more than the
    /// congestion window.
    pub(super) fn window(&self) -> u64 {
        let in_flight = self.in_flight as f64;
        let allowance = if self.min_rtt < TIMER_TICK { f64::INFINITY } else { self.allowance };
        let room = (allowance + self.mtu as f64).min(self.window - in_flight);
        let window = if room < self.mtu as f64 {
            in_flight
        } else if self.min_rtt < TIMER_TICK {
            self.window
        } else {
            // The pacer below spreads five quarters of a window over a round trip as it is now, queue and all. It is not to hold
            // back what is granted.
            (in_flight + room).max(self.rate() * self.srtt.as_secs_f64())
        };
        (window as u64).max(self.min_window())
    }

    /// The size of packets has changed.
    pub(super) fn on_mtu(&mut self, mtu: u16) {
        self.mtu = mtu.into();
    }

    /// Bits a second, for traces.
    pub(super) fn pacing_rate(&self) -> u64 {
        (self.rate() * 8.0) as u64
    }

    /// Packets leave.
    pub(super) fn on_sent(&mut self, now: Time, bytes: u64) {
        let idle = self.in_flight == 0;
        self.delivery.on_sent(now, idle);
        if idle && self.min_rtt != Duration::MAX {
            // Nothing of this flow is queued, so that what comes now shows the round trip without that: no need to probe for it.
            self.probed_rtt_at = now;
            // No acknowledgement will grant anything for a round trip. What that round trip may carry is granted
            // now, and spread over it by the pacer below.
            let ahead = (self.bandwidth() * self.min_rtt.as_secs_f64()).max(self.initial_window as f64);
            self.allowance = self.allowance.max(ahead);
            self.granted = self.granted.max(now + self.min_rtt);
        }
        self.in_flight += bytes;
        // Trains are longer than what was granted; the next grants make up for that.
        self.allowance = (self.allowance - bytes as f64).max(-self.window);
    }

    /// A packet arrived.
    pub(super) fn on_ack(&mut self, now: Time, sent: Time, bytes: u64, srtt: Duration) {
        self.srtt = srtt;
        self.delivery.on_ack(now, sent, bytes);
    }

    /// Packets were lost. No bytes: some were marked by a router that has a queue.
    pub(super) fn on_loss(&mut self, bytes: u64, persistent: bool) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.round.lost += bytes;
        self.round.marked |= bytes == 0;
        if persistent {
            self.window = self.min_window() as f64;
        }
    }

    /// An acknowledgement is read to its end.
    pub(super) fn on_end_acks(&mut self, now: Time, in_flight: u64, app_limited: bool) {
        self.in_flight = in_flight;
        let Some(sample) = self.delivery.on_end_acks(now, in_flight, app_limited, self.min_rtt) else {
            return;
        };
        self.learn(now, &sample);
        let round_over = sample.delivered_at_departure.is_some_and(|delivered| delivered >= self.next_round);
        if round_over {
            self.next_round = self.delivery.delivered();
            self.rounds += 1;
            self.end_round(now, sample.app_limited);
        }
        self.advance(now);
        self.probe_rtt(now, round_over);
        self.grow_window(sample.acked);
        self.grant(now);
    }

    /// Updates the model.
    fn learn(&mut self, now: Time, sample: &Sample) {
        if let Some(rtt) = sample.rtt {
            self.round.shortest = Some(self.round.shortest.map_or(rtt, |shortest| shortest.min(rtt)));
            // Close enough to the shortest shows that there is no queue: no need to probe for that.
            if self.is_shortest(rtt) {
                self.probed_rtt_at = now;
            }
            if rtt <= self.min_rtt || now.saturating_sub(self.min_rtt_at) > MIN_RTT_WINDOW {
                self.min_rtt = rtt;
                self.min_rtt_at = now;
            }
        }
        self.round.delivered += sample.acked;
        if let Some(rate) = sample.rate {
            self.round.bandwidth = self.round.bandwidth.max(rate);
            if !sample.app_limited || rate >= self.max_bandwidth() {
                let slot = (self.cycles % 2) as usize;
                self.bandwidths[slot] = self.bandwidths[slot].max(rate);
            }
        }
    }

    /// Whether a round trip is the shortest, or as good as that.
    fn is_shortest(&self, rtt: Duration) -> bool {
        rtt <= self.min_rtt.saturating_add(self.min_rtt / 32)
    }

    fn end_round(&mut self, now: Time, app_limited: bool) {
        let round = std::mem::take(&mut self.round);
        let queue = round.shortest.is_some_and(|shortest| {
            self.min_rtt != Duration::MAX && shortest.as_secs_f64() > self.min_rtt.as_secs_f64() * QUEUE_RTT
        });
        self.calm = round.shortest.is_some_and(|shortest| self.is_shortest(shortest));
        let took = now.saturating_sub(std::mem::replace(&mut self.round_begun, now));
        let loss = round.lost as f64 / (round.lost + round.delivered).max(1) as f64;
        let packets = ((round.lost + round.delivered) / self.mtu).max(1);
        let chance = 2.0 * (self.own_loss * (1.0 - self.own_loss) / packets as f64).sqrt();
        let overflow = round.marked
            || (round.lost >= FEW_LOSSES * self.mtu && loss > self.own_loss + chance + LOSS_THRESHOLD);
        if self.new_cycle {
            self.new_cycle = false;
            self.cycles += 1;
            self.bandwidths[(self.cycles % 2) as usize] = round.bandwidth;
        }
        if !app_limited {
            self.look_for_growth(queue);
        }
        if self.calm && self.state != State::Up && packets > FEW_PACKETS {
            self.own_loss += (loss.min(MAX_OWN_LOSS) - self.own_loss) / 4.0;
        }
        self.share(now, &round, took);
        if self.full && overflow && queue && round.bandwidth < self.max_bandwidth() * OTHER_PATH {
            self.bandwidths = [round.bandwidth; 2];
            self.bandwidth_shortterm = f64::INFINITY;
            self.inflight_shortterm = f64::INFINITY;
            self.inflight_longterm = f64::INFINITY;
            return self.enter(State::Drain, now);
        }
        match self.state {
            State::Startup => {
                if overflow && (queue || loss > STARTUP_LOSS_THRESHOLD) {
                    self.full = true;
                    self.inflight_longterm = self.bdp(1.0).max(self.in_flight as f64 * BETA);
                }
            }
            State::Up => {
                if overflow && (queue || loss > self.own_loss + 2.0 * LOSS_THRESHOLD + chance) {
                    self.inflight_longterm = self.bdp(1.0).max((self.in_flight + round.lost) as f64 * BETA);
                    self.enter(State::Down, now);
                }
            }
            State::Drain | State::ProbeRtt => {}
            State::Down | State::Cruise | State::Refill => {
                if overflow && self.rounds > self.since_round + 1 {
                    let bandwidth = self.bandwidth_shortterm.min(self.max_bandwidth());
                    self.bandwidth_shortterm = round.bandwidth.max(bandwidth * BETA);
                    let inflight = self.inflight_shortterm.min(self.window);
                    self.inflight_shortterm = (round.delivered as f64).max(inflight * BETA);
                }
            }
        }
    }

    fn look_for_growth(&mut self, queue: bool) {
        let growth = if self.full { UP_GROWTH } else { STARTUP_GROWTH };
        if self.state == State::Up && self.max_bandwidth() >= self.full_bandwidth * UP_ROOM {
            self.up_gain = (1.0 + (self.up_gain - 1.0) * 2.0).min(STARTUP_PACING);
        }
        if self.max_bandwidth() >= self.full_bandwidth * growth {
            self.full_bandwidth = self.max_bandwidth();
            self.without_growth = 0;
        } else {
            self.without_growth += 1;
        }
        if self.state == State::Startup
            && (self.without_growth >= ROUNDS_WITHOUT_GROWTH
                || (self.without_growth >= ROUNDS_WITH_QUEUE && queue))
        {
            self.full = true;
        }
    }

    /// Moves on to the next state when it is time.
    fn advance(&mut self, now: Time) {
        let in_flight = self.in_flight as f64;
        let elapsed = now.saturating_sub(self.since);
        match self.state {
            State::Startup if self.full => self.enter(State::Drain, now),
            State::Drain if in_flight <= self.bdp(1.0) => self.enter(State::Down, now),
            State::Down | State::Cruise => {
                let rounds = (self.bdp(1.0) as u64 / self.mtu).clamp(1, CRUISE_ROUNDS);
                let took = now.saturating_sub(self.cycle_begun);
                if took >= self.cruise || self.rounds >= self.cycle_round + rounds {
                    self.enter(State::Refill, now);
                } else if self.state == State::Down
                    && in_flight <= self.bdp(1.0).min(self.inflight_longterm * HEADROOM)
                {
                    self.enter(State::Cruise, now);
                }
            }
            State::Refill if self.rounds > self.since_round => self.enter(State::Up, now),
            State::Up => {
                // Every flow goes on until it has added the same queue, so that a small one gains as much as a large one.
                let filled = self.srtt >= self.up_rtt + self.min_rtt.mul_f64(UP_RISE).max(HOST_DELAY);
                let tried = self.rounds >= self.since_round + 2;
                if tried && elapsed > self.min_rtt && (self.without_growth >= ROUNDS_WITHOUT_GROWTH || filled)
                {
                    self.enter(State::Down, now);
                }
            }
            _ => {}
        }
    }

    fn enter(&mut self, state: State, now: Time) {
        match state {
            State::Down => {
                // What Up has found comes back within the next round trip, and belongs to the old cycle.
                self.new_cycle = true;
                self.begin_sharing(now);
                self.cycle_begun = now;
                self.cycle_round = self.rounds;
                self.full_bandwidth = self.max_bandwidth();
                let spread = mix(self.seed ^ self.cycles) % CRUISE_SPREAD_MS;
                self.cruise = CRUISE_AT_LEAST + Duration::from_millis(spread);
            }
            State::Refill => {
                // What was given up is others' now; only Up gets it back.
                self.bandwidths = [self.bandwidth(); 2];
                self.bandwidth_shortterm = f64::INFINITY;
                self.inflight_shortterm = f64::INFINITY;
            }
            State::Up => {
                self.full_bandwidth = self.max_bandwidth();
                self.up_rtt = self.srtt;
                self.up_gain = UP_PACING;
                self.without_growth = 0;
                self.inflight_longterm = f64::INFINITY;
            }
            _ => {}
        }
        self.state = state;
        self.since = now;
        self.since_round = self.rounds;
    }

    fn probe_rtt(&mut self, now: Time, round_over: bool) {
        let due = now.saturating_sub(self.probed_rtt_at) > PROBE_RTT_INTERVAL;
        if self.state != State::ProbeRtt {
            if due && self.full {
                self.enter(State::ProbeRtt, now);
                self.probe_rtt_done = None;
                // What was the shortest until now may have been another path's.
                self.min_rtt_at = self.min_rtt_at.max(now.saturating_sub(MIN_RTT_WINDOW));
            }
            return;
        }
        match self.probe_rtt_done {
            None if self.in_flight as f64
                <= self.bdp(PROBE_RTT_WINDOW_GAIN).max(self.min_window() as f64) =>
            {
                self.probe_rtt_done = Some(now + PROBE_RTT_DURATION);
                self.since_round = self.rounds;
                if let Some(rtt) = self.round.shortest.filter(|_| round_over) {
                    self.min_rtt = self.min_rtt.min(rtt);
                }
            }
            Some(done) if now >= done && self.rounds > self.since_round => {
                self.probed_rtt_at = now;
                self.enter(State::Down, now);
                self.new_cycle = false;
                self.enter(State::Cruise, now);
            }
            _ => {}
        }
    }

    fn grow_window(&mut self, acked: u64) {
        let most = self.most_in_flight();
        if self.full {
            self.window = (self.window + acked as f64).min(most);
        } else if self.window < most || self.delivery.delivered() < self.initial_window {
            self.window += acked as f64;
        }
        let mut bound = self.inflight_shortterm;
        match self.state {
            State::Cruise | State::ProbeRtt => bound = bound.min(self.inflight_longterm * HEADROOM),
            State::Up => {}
            _ => bound = bound.min(self.inflight_longterm),
        }
        if self.state == State::ProbeRtt {
            bound = bound.min(self.bdp(PROBE_RTT_WINDOW_GAIN));
        }
        self.window = self.window.min(bound).max(self.min_window() as f64);
    }

    fn most_in_flight(&self) -> f64 {
        let gain = if self.state == State::Up { UP_WINDOW_GAIN } else { WINDOW_GAIN };
        // Acknowledgements come in bunches, and hosts are not always awake.
        let bunch = self.bandwidth() * HOST_DELAY.as_secs_f64() + (KEPT_PACKETS * self.mtu) as f64;
        self.bdp(gain) + bunch
    }

    /// Grants what the pacing rate allows for the time since the last grant.
    fn grant(&mut self, now: Time) {
        let rate = self.rate();
        let elapsed = now.saturating_sub(self.granted).min(self.min_rtt);
        // Whoever has sent too little for a while may catch up to what the path holds; the pacer below spreads it.
        let room = rate * self.min_rtt.as_secs_f64() - self.in_flight as f64;
        let kept = rate * KEPT_ALLOWANCE.as_secs_f64() + (KEPT_PACKETS * self.mtu) as f64;
        if now >= self.granted {
            self.allowance = self.allowance.min(kept.max(room)) + rate * elapsed.as_secs_f64();
            self.granted = now;
        }
    }

    /// Bytes a second.
    fn rate(&self) -> f64 {
        let gain = match self.state {
            State::Startup => STARTUP_PACING,
            State::Drain => DRAIN_PACING,
            State::Down => DOWN_PACING,
            State::Up => self.up_gain,
            State::Cruise if self.sharing.lets_go() => CRUISE_DRAIN_PACING,
            State::Cruise | State::Refill | State::ProbeRtt => 1.0,
        };
        // What the path loses by itself takes no part of its rate, unless it is lost behind the bottleneck: then a
        // queue shows.
        let lost = if self.calm { self.own_loss } else { 0.0 };
        let rate = gain * PACING_MARGIN * self.bandwidth() / (1.0 - lost);
        // Until something is known of the path, each round trip may carry what the initial window is made for.
        if self.full {
            rate
        } else {
            rate.max(gain * self.initial_window as f64 / self.min_rtt.as_secs_f64())
        }
    }

    fn max_bandwidth(&self) -> f64 {
        self.bandwidths[0].max(self.bandwidths[1])
    }

    fn bandwidth(&self) -> f64 {
        self.max_bandwidth().min(self.bandwidth_shortterm)
    }

    /// Bandwidth-delay product, times a gain.
    fn bdp(&self, gain: f64) -> f64 {
        if self.min_rtt == Duration::MAX || self.max_bandwidth() == 0.0 {
            return self.initial_window as f64 * gain;
        }
        self.bandwidth() * self.min_rtt.as_secs_f64() * gain
    }

    fn min_window(&self) -> u64 {
        MIN_PACKETS * self.mtu
    }
}

/// A fixed scrambling of bits (the finaliser of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
