//! What goes wrong in a run, and how it is mended.

use std::{fs, net::Ipv4Addr, time::Duration};

use p2p_protocol::{
    control::Request,
    rate::{Change, Rate},
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use super::Run;
use crate::{
    disk::Fault,
    plan::{Trouble, Way},
    requests,
};

/// What is to be done later.
pub(super) enum Later {
    Trouble(Trouble),
    Start(usize),
    KillIfAlive(usize),
    Uncut(usize, usize),
    Space(usize),
    Speed(usize),
    Whole(usize),
    Trust { host: usize, peer: usize },
    Resume(usize),
    Unlimit(usize),
}

/// Asks for no limits.
pub(super) fn unlimited() -> Request {
    limits(None)
}

fn limits(rate: Option<Rate>) -> Request {
    Request::Limit { change: Change { up: Some(rate), down: Some(rate) }, reset: false }
}

impl Run {
    pub(super) fn act(&mut self, what: Later) {
        match what {
            Later::Trouble(trouble) => {
                self.world.note(format_args!("{trouble:?}"));
                self.trouble(trouble);
            }
            Later::Start(host) => self.start(host),
            Later::KillIfAlive(host) => {
                if self.dying.contains_key(&host) {
                    self.bury(host);
                }
            }
            Later::Uncut(from, to) => self.world.internet.cut(from, to, false),
            Later::Space(host) => self.world.hosts[host].disk.set_room(None),
            Later::Speed(host) => self.world.hosts[host].disk.set_delay(Duration::ZERO),
            Later::Whole(host) => self.world.hosts[host].disk.set_short(false),
            Later::Trust { host, peer } => {
                let request = requests::trust(&self.world.hosts[peer]);
                self.errands.extend(self.world.hosts[host].ask(request));
            }
            Later::Resume(wish) => {
                let transfer = &self.transfers[wish];
                if let Some(number) = transfer.number {
                    self.errands.extend(self.world.hosts[transfer.owner()].ask(Request::Resume(number)));
                }
            }
            Later::Unlimit(host) => self.errands.extend(self.world.hosts[host].ask(unlimited())),
        }
    }

    fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Crash { host, after_changes, power, down } => {
                if !self.world.hosts[host].is_up() || self.dying.contains_key(&host) {
                    return;
                }
                self.count(if power.is_some() { "power losses" } else { "kills" });
                self.dying.insert(host, (power, down));
                if after_changes == 0 {
                    self.bury(host);
                } else {
                    self.world.hosts[host].disk.freeze_after(after_changes);
                    self.later(Duration::from_secs(3), Later::KillIfAlive(host));
                }
            }
            Trouble::Restart { host, down } => {
                if self.world.hosts[host].is_up() && !self.stopping.contains_key(&host) {
                    self.count("restarts");
                    self.stopping.insert(host, down);
                    self.world.hosts[host].stop();
                }
            }
            Trouble::Cut { from, to, both, lasts } => {
                self.count("partitions");
                for (from, to) in [(from, to), (to, from)].into_iter().take(if both { 2 } else { 1 }) {
                    self.world.internet.cut(from, to, true);
                    self.later(lasts, Later::Uncut(from, to));
                }
            }
            Trouble::Move { host } => {
                self.count("moves");
                let last = self.serial as u8;
                self.world.internet.move_to(host, Ipv4Addr::new(10, 1, host as u8, last));
                for peer in (0..self.plan.hosts).filter(|peer| *peer != host) {
                    self.later(Duration::from_secs(2), Later::Trust { host: peer, peer: host });
                }
            }
            Trouble::Cancel { wish } => {
                let transfer = &mut self.transfers[wish];
                if let Some(number) = transfer.number
                    && !transfer.is_settled()
                    && let Some(answer) = self.world.hosts[transfer.owner()].ask(Request::Cancel(number))
                {
                    transfer.cancelled = true;
                    self.errands.push(answer);
                    self.count("cancelled");
                }
            }
            Trouble::Change { wish } => self.change(wish),
            Trouble::Full { host, room, lasts } => {
                self.count("full disks");
                self.ill[host] = true;
                self.world.hosts[host].disk.set_room(Some(room));
                self.later(lasts, Later::Space(host));
            }
            Trouble::Broken { host, what, after, times, errno } => {
                self.count("disk faults");
                self.ill[host] = true;
                self.world.hosts[host].disk.fail(Fault { which: what.which(), after, times, error: errno });
            }
            Trouble::Slow { host, delay, lasts } => {
                self.count("slow disks");
                self.world.hosts[host].disk.set_delay(delay);
                self.later(lasts, Later::Speed(host));
            }
            Trouble::Short { host, lasts } => {
                self.count("short reads and writes");
                self.world.hosts[host].disk.set_short(true);
                self.later(lasts, Later::Whole(host));
            }
            Trouble::Distrust { host, peer, lasts } => {
                self.count("trust withdrawn");
                let name = self.world.hosts[peer].name.clone();
                self.errands.extend(self.world.hosts[host].ask(Request::Forget(name)));
                self.later(lasts, Later::Trust { host, peer });
            }
            Trouble::Pause { wish, lasts } => {
                let transfer = &self.transfers[wish];
                if let Some(number) = transfer.number
                    && let Some(answer) = self.world.hosts[transfer.owner()].ask(Request::Pause(number))
                {
                    self.errands.push(answer);
                    self.count("paused");
                    self.later(lasts, Later::Resume(wish));
                }
            }
            Trouble::Limit { host, rate, lasts } => {
                self.count("limits");
                self.errands.extend(self.world.hosts[host].ask(limits(Some(rate))));
                self.later(lasts, Later::Unlimit(host));
            }
        }
    }

    /// Gives the source of a transfer another content, in place or under its name.
    fn change(&mut self, number: usize) {
        let transfer = &self.transfers[number];
        if transfer.wish.way == Way::Fetch || transfer.is_settled() {
            return;
        }
        let mut bytes = transfer.versions[transfer.versions.len() - 1].bytes.to_vec();
        self.count("sources changed");
        let at = self.rng.random_range(0..=bytes.len());
        if self.rng.random_bool(0.5) {
            bytes.truncate(at);
            bytes.extend_from_slice(b"another end");
        }
        if let Some(byte) = bytes.get_mut(at / 2) {
            *byte ^= 1;
        }
        let source = self.transfers[number].source.clone();
        let known = self.transfers[number].versions[0].with(bytes);
        if self.rng.random_bool(0.5) {
            let gone = if source.is_dir() { fs::remove_dir_all(&source) } else { fs::remove_file(&source) };
            gone.unwrap();
        }
        self.write_source(&source, &known);
        let (wish, first) = (self.transfers[number].wish.clone(), self.transfers[number].versions[0].clone());
        self.expect(&wish, &first, &known);
        self.transfers[number].versions.push(known);
    }

    /// A host is dead.
    pub(super) fn bury(&mut self, host: usize) {
        let (power, down) = self.dying.remove(&host).unwrap_or((None, Duration::from_secs(1)));
        self.stopping.remove(&host);
        self.world.hosts[host].kill();
        self.world.note(format_args!("host{host} is dead, and its power: {power:?}"));
        if let Some(loss) = power {
            let mut rng = StdRng::seed_from_u64(self.rng.next_u64());
            self.world.hosts[host].disk.power_loss(loss, &mut rng).unwrap();
        }
        self.judge(host);
        self.later(down, Later::Start(host));
    }

    pub(super) fn start(&mut self, host: usize) {
        if self.world.hosts[host].is_up() {
            return;
        }
        if let Err(error) = self.world.start(host) {
            if self.world.hosts[host].disk.is_frozen() {
                self.bury(host);
            } else if self.is_calm || !self.ill[host] {
                let shown = self.without_roots(&error);
                self.problem(&format!("host{host} does not start: {shown}"));
            } else {
                self.later(Duration::from_secs(2), Later::Start(host));
            }
        }
    }
}
