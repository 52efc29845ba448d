//! Hosts, the internet between them, and time.
//!
//! Each host has a clock of its own, which stands still but for [`World::step`]: it lets one host after the other run
//! until the same moment. A step is no longer than the shortest way between two hosts, so that nothing arrives in the
//! past; while nothing is on its way it may be.

use std::{net::Ipv4Addr, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{host::Host, network::Internet, takeover, trace::Trace};

const MILLISECOND: u64 = 1_000_000;
/// The longest step while nothing is on its way.
const IDLE_STEP: u64 = 50 * MILLISECOND;

/// A simulated world.
#[derive(Debug)]
pub struct World {
    /// What lies between the hosts.
    pub internet: Internet,
    /// The machines.
    pub hosts: Vec<Host>,
    /// Nanoseconds since the beginning.
    now: u64,
    idle_steps: u32,
    packets: u64,
}

impl World {
    /// A world with so many hosts, none of which runs a daemon yet. All that is drawn in it follows from the seed.
    pub fn new(seed: u64, hosts: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let addresses = (0..hosts).map(|number| Ipv4Addr::new(10, 0, 0, number as u8 + 1)).collect();
        let internet = Internet::new(rng.random(), addresses);
        let hosts = (0..hosts).map(|number| Host::new(number, rng.random(), internet.clone())).collect();
        Self { internet, hosts, now: 0, idle_steps: 0, packets: 0 }
    }

    /// Nanoseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Time since the beginning.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// What has happened.
    pub fn trace<T>(&self, with: impl FnOnce(&mut Trace) -> T) -> T {
        self.internet.trace(with)
    }

    /// Notes something in the trace.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace(|trace| trace.note(self.now, what));
    }

    /// Starts a host's daemon.
    ///
    /// # Errors
    /// It did not start, in words.
    pub fn start(&mut self, host: usize) -> Result<(), String> {
        let started = self.hosts[host].start(self.now);
        self.note(format_args!("host{host} starts: {}", started.is_ok()));
        started
    }

    /// Lets a little time pass. The hosts that died in it.
    pub fn step(&mut self) -> Vec<usize> {
        self.step_at_most(IDLE_STEP)
    }

    /// Lets so much time pass, or less.
    pub fn step_at_most(&mut self, most: u64) -> Vec<usize> {
        let safe = (self.internet.shortest().as_nanos() as u64).max(MILLISECOND);
        let step = match self.internet.next_arrival() {
            Some(at) => at.saturating_sub(self.now).min(safe),
            // The longer nothing moves, the less it matters when exactly something does again.
            None => safe << self.idle_steps.min(6),
        };
        let step = (step.min(most).div_ceil(MILLISECOND) * MILLISECOND).max(MILLISECOND);
        let until = self.now + step;
        let mut died = Vec::new();
        for host in &mut self.hosts {
            if !host.run_until(until) {
                died.push(host.number);
            }
        }
        self.now = until;
        takeover::set_time(self.time());
        self.internet.deliver(until);
        let packets = self.internet.packets();
        self.idle_steps = if packets == self.packets { self.idle_steps + 1 } else { 0 };
        self.packets = packets;
        died
    }

    /// Lets time pass until something is so, or for so long. Whether it is.
    pub fn run_until(&mut self, most: Duration, mut until: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + most.as_nanos() as u64;
        loop {
            if until(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            self.step();
        }
    }
}
