//! Hosts, the internet between them, and time.
//!
//! Each host has a clock of its own, which stands still but for [`World::step`]: it lets one host after the other run
//! until the same moment. A step is no longer than the shortest way between two hosts, so that nothing arrives in the
//! past; while nothing is on its way it may be.

use std::{net::Ipv4Addr, time::Duration};

use p2p_protocol::control::{Event, Request};
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

    /// Notes every operation of every disk from now on, too.
    pub fn note_disks(&self) {
        self.hosts.iter().for_each(|host| host.disk.keep_trace());
    }

    /// Notes what a host's disk was asked for since the last time.
    fn note_disk(&self, host: usize) {
        for operation in self.hosts[host].disk.take_trace() {
            let path = without_keys(&operation.path.display().to_string());
            self.note(format_args!("host{host} {:?} {path}", operation.op));
        }
    }

    /// Starts a host's daemon.
    ///
    /// # Errors
    /// It did not start, in words.
    pub fn start(&mut self, host: usize) -> Result<(), String> {
        let started = self.hosts[host].start(self.now);
        self.note_disk(host);
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
        for number in 0..self.hosts.len() {
            if !self.hosts[number].run_until(until) {
                died.push(number);
            }
            self.note_disk(number);
        }
        self.now = until;
        takeover::set_time(self.time());
        self.internet.deliver(until);
        let packets = self.internet.packets();
        self.idle_steps = if packets == self.packets { self.idle_steps + 1 } else { 0 };
        self.packets = packets;
        died
    }

    /// Asks a host for something, and waits for the whole answer, which has to be there after so long.
    pub fn ask(&mut self, host: usize, request: Request, most: Duration) -> Vec<Event> {
        self.ask_all(host, vec![request], most).remove(0)
    }

    /// The same for several things at once.
    pub fn ask_all(&mut self, host: usize, requests: Vec<Request>, most: Duration) -> Vec<Vec<Event>> {
        let asked = requests.into_iter().map(|request| self.hosts[host].ask(request).unwrap());
        let mut questions: Vec<_> = asked.collect();
        let mut all = vec![Vec::new(); questions.len()];
        let answered = self.run_until(most, |_| {
            for (events, heard) in questions.iter_mut().zip(&mut all) {
                while let Ok(event) = events.try_recv() {
                    heard.push(event);
                }
            }
            questions.iter().all(|events| events.is_closed() && events.is_empty())
        });
        assert!(answered, "not all is answered: {all:?}");
        all
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

/// A path without a resume key, which is made of what the machine that simulates gives a file: its number and its times.
fn without_keys(path: &str) -> String {
    const MARK: &str = "unsealed-";
    match path.find(MARK) {
        Some(at) => {
            let rest = path[at + MARK.len()..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
            format!("{}{MARK}{rest}", &path[..at])
        }
        None => path.to_owned(),
    }
}
