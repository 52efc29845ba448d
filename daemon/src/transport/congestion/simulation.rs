//! Flows over a simulated bottleneck: a rate, a delay, a queue, and loss by chance.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{Time, bbr::Bbr, ledbat::Ledbat};

const MTU: u16 = 1452;
const INITIAL_WINDOW: u64 = 32 * 1452;
/// No router is built with less, which takes one train of packets from a card that makes them.
const LEAST_QUEUE: f64 = 12.0 * MTU as f64;
/// A packet is lost once the acknowledgement of one sent this much later is here.
const LOSS_DELAY: Duration = Duration::from_millis(5);

#[derive(Clone, Copy)]
struct Path {
    /// Bytes a second.
    rate: f64,
    rtt: Duration,
    loss: f64,
    queue: f64,
    /// How long the sender's host may sleep: what comes meanwhile, it hears of when it wakes.
    naps: Duration,
}

impl Path {
    fn mbit(rate: f64, rtt: u64) -> Self {
        let (rate, rtt) = (rate * 125_000.0, Duration::from_millis(rtt));
        Self { rate, rtt, loss: 0.0, queue: rate * rtt.as_secs_f64(), naps: Duration::ZERO }
    }

    fn loss(self, percent: f64) -> Self {
        Self { loss: percent / 100.0, ..self }
    }

    fn naps(self, naps: Duration) -> Self {
        Self { naps, ..self }
    }

    fn queue_of(self, bdps: f64) -> Self {
        Self { queue: self.rate * self.rtt.as_secs_f64() * bdps, ..self }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrived { flow: usize, sent: Time },
    Lost { flow: usize, sent: Time },
    Wake { flow: usize },
}

/// Who decides what a flow may have on its way.
enum Control {
    Ours(Box<Bbr>),
    Cubic(Cubic),
    Yielding(Box<Ledbat>),
}

impl Control {
    fn window(&self) -> u64 {
        match self {
            Self::Ours(bbr) => bbr.window(),
            Self::Cubic(cubic) => (cubic.window * f64::from(MTU)) as u64,
            Self::Yielding(ledbat) => ledbat.window(),
        }
    }

    fn on_sent(&mut self, now: Time) {
        if let Self::Ours(bbr) = self {
            bbr.on_sent(now, MTU.into());
        }
    }

    fn on_ack(&mut self, now: Time, sent: Time, srtt: Duration, in_flight: u64) {
        match self {
            Self::Ours(bbr) => {
                bbr.on_ack(now, sent, MTU.into(), srtt);
                bbr.on_end_acks(now, in_flight, false);
            }
            Self::Cubic(cubic) => cubic.on_ack(now, now - sent),
            Self::Yielding(ledbat) => {
                ledbat.on_ack(now, sent, MTU.into());
                ledbat.on_end_acks(now, false);
            }
        }
    }

    fn on_loss(&mut self, now: Time, sent: Time) {
        match self {
            Self::Ours(bbr) => bbr.on_loss(MTU.into(), false),
            Self::Cubic(cubic) => cubic.on_loss(now, sent),
            Self::Yielding(ledbat) => ledbat.on_loss(now, sent, false),
        }
    }
}

/// What most TCP does (RFC 9438), with a slow start that ends when the round trip grows by an eighth (after RFC 9406).
struct Cubic {
    /// Packets.
    window: f64,
    slow_start: bool,
    /// The window at which packets were last lost, what was left of it, and when that was.
    most: f64,
    begun: f64,
    reduced: Time,
    min_rtt: Duration,
}

impl Cubic {
    const BETA: f64 = 0.7;
    const C: f64 = 0.4;

    fn new() -> Self {
        Self {
            window: 10.0,
            slow_start: true,
            most: 0.0,
            begun: 0.0,
            reduced: Time::ZERO,
            min_rtt: Duration::MAX,
        }
    }

    fn on_ack(&mut self, now: Time, rtt: Duration) {
        self.min_rtt = self.min_rtt.min(rtt);
        if self.slow_start && rtt > self.min_rtt + self.min_rtt / 8 {
            self.slow_start = false;
            (self.most, self.begun) = (self.window, self.window);
            self.reduced = now;
        }
        if self.slow_start {
            self.window += 1.0;
            return;
        }
        let (elapsed, rtt) = ((now - self.reduced).as_secs_f64(), rtt.as_secs_f64());
        let k = ((self.most - self.begun) / Self::C).cbrt();
        let cubic = Self::C * (elapsed + rtt - k).powi(3) + self.most;
        let reno = self.begun + 3.0 * (1.0 - Self::BETA) / (1.0 + Self::BETA) * elapsed / rtt;
        let target = cubic.max(reno).clamp(self.window, self.window * 1.5);
        self.window += (target - self.window) / self.window;
    }

    fn on_loss(&mut self, now: Time, sent: Time) {
        // Once for all that was on its way.
        if sent <= self.reduced && self.most > 0.0 {
            return;
        }
        self.most =
            if self.window < self.most { self.window * (1.0 + Self::BETA) / 2.0 } else { self.window };
        self.window = (self.window * Self::BETA).max(2.0);
        self.begun = self.window;
        self.slow_start = false;
        self.reduced = now;
    }
}

struct Flow {
    control: Control,
    in_flight: u64,
    delivered: u64,
    lost: u64,
    sent: u64,
    tokens: f64,
    refilled: Time,
    asleep: bool,
    ended: bool,
    srtt: f64,
    rtts: Vec<f64>,
}

struct Simulation {
    path: Path,
    now: Time,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    order: u64,
    /// When the bottleneck has sent what is queued.
    busy_until: Time,
    /// When the host wakes that hears of what arrived last.
    awake: Time,
    random: u64,
    flows: Vec<Flow>,
}

impl Simulation {
    fn new(path: Path) -> Self {
        Self {
            path,
            now: Time::ZERO,
            events: BinaryHeap::new(),
            order: 0,
            busy_until: Time::ZERO,
            awake: Time::ZERO,
            random: 7,
            flows: Vec::new(),
        }
    }

    /// A path with one of our flows.
    fn alone(path: Path) -> Self {
        let mut simulation = Self::new(path);
        simulation.ours(Time::ZERO);
        simulation
    }

    /// Adds one of our flows.
    fn ours(&mut self, begins: Time) {
        let seed = (self.flows.len() as u64 + self.random).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.add(begins, Control::Ours(Box::new(Bbr::new(begins, MTU, INITIAL_WINDOW, seed))));
    }

    fn cubic(&mut self, begins: Time) {
        self.add(begins, Control::Cubic(Cubic::new()));
    }

    fn yielding(&mut self, begins: Time) {
        self.add(begins, Control::Yielding(Box::new(Ledbat::new(begins, MTU, INITIAL_WINDOW))));
    }

    fn add(&mut self, begins: Time, control: Control) {
        let flow = self.flows.len();
        self.flows.push(Flow {
            control,
            in_flight: 0,
            delivered: 0,
            lost: 0,
            sent: 0,
            tokens: 0.0,
            refilled: begins,
            asleep: false,
            ended: false,
            srtt: self.path.rtt.as_secs_f64(),
            rtts: Vec::new(),
        });
        self.at(begins, Event::Wake { flow });
    }

    fn at(&mut self, when: Time, event: Event) {
        self.order += 1;
        self.events.push(Reverse((when, self.order, event)));
    }

    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn run_until(&mut self, end: Time) {
        while let Some(Reverse((when, _, event))) = self.events.peek().copied()
            && when <= end
        {
            self.events.pop();
            self.now = when;
            match event {
                Event::Arrived { flow, sent } => {
                    let it = &mut self.flows[flow];
                    let size = u64::from(MTU);
                    it.in_flight -= size;
                    it.delivered += size;
                    let rtt = (when - sent).as_secs_f64();
                    it.srtt += (rtt - it.srtt) / 8.0;
                    it.rtts.push(rtt);
                    it.control.on_ack(when, sent, Duration::from_secs_f64(it.srtt), it.in_flight);
                    self.send(flow);
                }
                Event::Lost { flow, sent } => {
                    let it = &mut self.flows[flow];
                    it.in_flight -= u64::from(MTU);
                    it.lost += u64::from(MTU);
                    it.control.on_loss(when, sent);
                    self.send(flow);
                }
                Event::Wake { flow } => {
                    self.flows[flow].asleep = false;
                    self.send(flow);
                }
            }
        }
        self.now = end;
    }

    /// As quinn does: while the window allows, paced at five quarters of a window a round trip.
    fn send(&mut self, flow: usize) {
        let size = u64::from(MTU);
        loop {
            let it = &mut self.flows[flow];
            let window = it.control.window();
            if it.ended || it.in_flight + size >= window {
                return;
            }
            let pace = 1.25 * window as f64 / it.srtt;
            let burst = (pace * 0.002).max(10.0 * size as f64);
            it.tokens = (it.tokens + pace * (self.now - it.refilled).as_secs_f64()).min(burst);
            it.refilled = self.now;
            if it.tokens < size as f64 {
                if !it.asleep {
                    it.asleep = true;
                    let wait = Duration::from_secs_f64((burst - it.tokens) * 0.8 / pace);
                    self.at(self.now + wait, Event::Wake { flow });
                }
                return;
            }
            it.tokens -= size as f64;
            it.in_flight += size;
            it.sent += size;
            it.control.on_sent(self.now);
            self.transmit(flow);
        }
    }

    fn transmit(&mut self, flow: usize) {
        let (sent, path) = (self.now, self.path);
        let lost = Event::Lost { flow, sent };
        let begins = self.busy_until.max(sent);
        if (begins - sent).as_secs_f64() * path.rate + f64::from(MTU) > path.queue.max(LEAST_QUEUE) {
            return self.at(begins + path.rtt + LOSS_DELAY, lost);
        }
        self.busy_until = begins + Duration::from_secs_f64(f64::from(MTU) / path.rate);
        let mut arrives = self.busy_until + path.rtt;
        if !path.naps.is_zero() {
            // Naps of any length up to the longest, one after the other.
            let longest = path.naps.as_nanos() as u64;
            if arrives > self.awake {
                self.awake = arrives + Duration::from_nanos((self.chance() * longest as f64) as u64);
            }
            arrives = self.awake;
        }
        if self.chance() < path.loss {
            return self.at(arrives + LOSS_DELAY, lost);
        }
        self.at(arrives, Event::Arrived { flow, sent });
    }

    /// What the flows deliver from now on for so long, as parts of what the path carries.
    fn shares(&mut self, long: Duration) -> Vec<f64> {
        let before: Vec<u64> = self.flows.iter().map(|flow| flow.delivered).collect();
        for flow in &mut self.flows {
            flow.rtts.clear();
        }
        self.run_until(self.now + long);
        let could = self.path.rate * (1.0 - self.path.loss) * long.as_secs_f64();
        self.flows.iter().zip(before).map(|(flow, before)| (flow.delivered - before) as f64 / could).collect()
    }

    /// Round trip under load, the median, as a multiple of the idle one.
    fn inflation(&self, flow: usize) -> f64 {
        let mut rtts = self.flows[flow].rtts.clone();
        rtts.sort_by(f64::total_cmp);
        rtts.get(rtts.len() / 2).copied().unwrap_or_default() / self.path.rtt.as_secs_f64()
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What a flow gets from its fourth second on, and what it costs others: its share of the path, lost packets beyond
/// what the path loses by itself, and the round trip as a multiple of the idle one.
fn steady(path: Path) -> (f64, f64, f64) {
    let mut simulation = Simulation::alone(path);
    simulation.run_until(seconds(3));
    let share = simulation.shares(seconds(12))[0];
    let flow = &simulation.flows[0];
    (share, flow.lost as f64 / flow.sent as f64 - path.loss, simulation.inflation(0))
}

mod yielding;

#[test]
fn a_flow_fills_the_path_and_builds_no_queue_whatever_the_path_loses_by_itself() {
    for rate in [20.0, 200.0] {
        for rtt in [20, 100] {
            for loss in [0.0, 1.0, 3.0, 5.0] {
                for queue in [0.1, 1.0, 4.0] {
                    let (share, in_vain, round_trip) =
                        steady(Path::mbit(rate, rtt).loss(loss).queue_of(queue));
                    let what = format!(
                        "{rate} Mbit/s, {rtt} ms, {loss} %, {queue} BDP: {share:.3} {in_vain:.3} {round_trip:.2}"
                    );
                    // Trains of packets overflow a queue that is not much longer than they are.
                    let least = if queue < 0.5 { 0.75 } else { 0.9 };
                    assert!(share >= least, "{what}");
                    assert!(in_vain <= 0.04, "{what}");
                    assert!(round_trip <= 1.5, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_host_that_naps_takes_its_own_queue_for_nobody_elses() {
    // What is heard of in bunches looks faster than the path is, and a flow that believes it builds a queue.
    let long = [(50.0, 20, 1.0), (100.0, 40, 1.0), (500.0, 50, 1.0)];
    let short = [(1000.0, 1, 8.0), (1000.0, 2, 4.0), (500.0, 2, 4.0)];
    for (rate, rtt, queue) in long.into_iter().chain(short) {
        let path = Path::mbit(rate, rtt).queue_of(queue).naps(Duration::from_micros(500));
        let (share, in_vain, _) = steady(path);
        assert!(share >= 0.96 && in_vain <= 0.01, "{rate} Mbit/s, {rtt} ms: {share:.3} {in_vain:.3}");
    }
}

#[test]
fn a_hundred_mebibytes_come_over_a_long_path_in_little_more_than_its_rate_takes() {
    for (loss, most) in [(0.0, 1.2), (1.0, 1.2), (3.0, 1.25)] {
        let (path, bytes) = (Path::mbit(200.0, 100).loss(loss), 100 << 20);
        let mut simulation = Simulation::alone(path);
        let floor = bytes as f64 / path.rate / (1.0 - path.loss);
        simulation.run_until(Duration::from_secs_f64(floor * most));
        let delivered = simulation.flows[0].delivered;
        assert!(delivered >= bytes, "{loss} %: {:.3}", delivered as f64 / bytes as f64);
    }
}

#[test]
fn a_rate_that_changes_is_followed() {
    let mut simulation = Simulation::alone(Path::mbit(200.0, 100));
    simulation.run_until(seconds(8));
    let lost = simulation.flows[0].lost;
    // Ten products of the new path are queued at that moment, which take it a second.
    simulation.path.rate /= 10.0;
    simulation.run_until(seconds(12));
    let (share, lost) = (simulation.shares(seconds(10))[0], simulation.flows[0].lost - lost);
    assert!(share >= 0.85, "after the fall: {share:.3}");
    assert!(simulation.inflation(0) <= 3.0, "after the fall: {:.1}", simulation.inflation(0));
    assert!(lost <= 8_000_000, "after the fall: {lost}");
    simulation.path.rate *= 10.0;
    simulation.run_until(seconds(26));
    let share = simulation.shares(seconds(10))[0];
    assert!(share >= 0.85, "after the rise: {share:.3}");
}

#[test]
fn a_flow_that_has_rested_goes_on_at_once() {
    // Hosts do not hear of what comes at once, so that no round trip looks as short as the shortest.
    for (rtt, naps) in [(2, 500), (5, 1000), (20, 2000)] {
        let path = Path::mbit(500.0, rtt).queue_of(4.0).naps(Duration::from_micros(naps));
        let mut simulation = Simulation::alone(path);
        simulation.run_until(seconds(3));
        simulation.flows[0].ended = true;
        simulation.run_until(seconds(12));
        simulation.flows[0].ended = false;
        simulation.at(simulation.now, Event::Wake { flow: 0 });
        // It takes a round trip until something arrives.
        simulation.run_until(simulation.now + Duration::from_millis(rtt + 5));
        let share = simulation.shares(Duration::from_millis(400))[0];
        assert!(share >= 0.8, "{rtt} ms: {share:.3}");
    }
}

#[test]
fn a_late_flow_comes_to_its_share_beside_an_early_one() {
    let mut parts = Vec::new();
    for (rate, rtt) in [(100.0, 40), (200.0, 100)] {
        for queue in [0.5, 1.0, 3.0] {
            for gap in [500, 2000, 3000, 5000] {
                for seed in 0..3 {
                    let gap = Duration::from_millis(gap);
                    let mut simulation = Simulation::new(Path::mbit(rate, rtt).queue_of(queue));
                    simulation.random += seed;
                    simulation.ours(Time::ZERO);
                    simulation.ours(gap);
                    simulation.run_until(gap + seconds(15));
                    let shares = simulation.shares(seconds(15));
                    let sum = shares.iter().sum::<f64>();
                    assert!(sum >= 0.85, "{rate} Mbit/s, {rtt} ms, {queue} BDP, {gap:?}: {shares:.2?}");
                    parts.push(shares.iter().copied().fold(f64::MAX, f64::min) / sum);
                }
            }
        }
    }
    parts.sort_by(f64::total_cmp);
    let [worst, tenth, median] = [0, parts.len() / 10, parts.len() / 2].map(|at| parts[at]);
    assert!(worst >= 0.2 && tenth >= 0.35 && median >= 0.45, "{parts:.2?}");
}

#[test]
fn cubic_and_our_flow_leave_each_other_room() {
    for (rate, rtt) in [(20.0, 20), (100.0, 40), (200.0, 100)] {
        for ours_first in [true, false] {
            let mut simulation = Simulation::new(Path::mbit(rate, rtt));
            if ours_first {
                simulation.ours(Time::ZERO);
                simulation.cubic(seconds(3));
            } else {
                simulation.cubic(Time::ZERO);
                simulation.ours(seconds(3));
            }
            simulation.run_until(seconds(30));
            let shares = simulation.shares(seconds(45));
            let what = format!("{rate} Mbit/s, {rtt} ms, ours first: {ours_first}: {shares:.2?}");
            assert!(shares.iter().all(|share| *share >= 0.25), "{what}");
            assert!(shares.iter().sum::<f64>() >= 0.9, "{what}");
        }
    }
}
