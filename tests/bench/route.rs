//! A long link as it is asked for, and daemons at its ends.

use std::time::Duration;

use p2p_tests::{
    Daemon, Pair,
    daemon::Place,
    link::{Conditions, LongLink, MTU, Namespace},
    words,
};

use crate::Result;

/// A link that is the same in both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// In Mbit/s.
    pub(crate) rate: u64,
    /// Round trip time of the idle link, in ms.
    pub(crate) rtt: u64,
    /// In percent.
    pub(crate) loss: f64,
    /// Bytes that may wait, in products of rate and round trip time.
    pub(crate) queue_bdp: f64,
}

impl Route {
    pub(crate) fn rtt(&self) -> Duration {
        Duration::from_millis(self.rtt)
    }

    /// Bytes of `time` at the link's rate.
    pub(crate) fn bytes_in(&self, time: Duration) -> u64 {
        (self.rate as f64 * 1e6 / 8.0 * time.as_secs_f64()) as u64
    }

    /// Bytes that may wait in each direction.
    pub(crate) fn queue(&self) -> u64 {
        /// Fewer could not even take what a sender passes on in one piece.
        const LEAST_PACKETS: u64 = 64;
        let asked_for = self.bytes_in(self.rtt().mul_f64(self.queue_bdp));
        asked_for.max(LEAST_PACKETS * u64::from(MTU))
    }

    /// Forward and backward.
    pub(crate) fn conditions(&self) -> [Conditions; 2] {
        [1, 2].map(|seed| Conditions {
            rate: self.rate * 1_000_000,
            delay: self.rtt() / 2,
            loss: self.loss / 100.0,
            queue: self.queue(),
            seed,
        })
    }

    /// Nothing is on the way when the link was quiet for so long.
    pub(crate) fn quiet(&self) -> Duration {
        let longest_wait = Duration::from_secs_f64(self.queue() as f64 * 8.0 / (self.rate as f64 * 1e6));
        self.rtt() + longest_wait + Duration::from_millis(50)
    }

    /// A new link of this kind. TCP over it is Cubic, and no connection learns from another.
    pub(crate) fn link(&self) -> Result<LongLink> {
        let [forward, backward] = self.conditions();
        let link = LongLink::new(forward, backward)?;
        // The kernel's own choice differs from machine to machine.
        link.set_congestion_control("cubic")?;
        for end in [&link.a, &link.b] {
            end.set("ipv4/tcp_no_metrics_save", "1")?;
        }
        Ok(link)
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, rtt, loss, .. } = self;
        write!(f, "{rate} Mbit/s, {rtt} ms, {loss} % loss, a queue of {} bytes", self.queue())
    }
}

/// Two daemons at the ends of a link that trust each other and have never spoken.
pub(crate) fn pair(link: &LongLink, port: u16) -> Pair {
    let start = |name, end: &Namespace, address| {
        let place = Place::new().launched_by(end.launcher()).listen(format!("{address}:{port}"));
        Daemon::start_in(name, place)
    };
    Pair::of(start("a", &link.a, link.address_a()), start("b", &link.b, link.address_b()))
}

/// A daemon goes on without its command line; this ends what it does, so that the next turn has the link alone.
pub(crate) fn cancel_all(daemon: &Daemon) {
    for line in daemon.transfers() {
        if matches!(line["state"].as_str(), Some("waiting" | "active")) {
            // It may have come to its end meanwhile.
            daemon.cli().run(words!["cancel", line["transfer"].to_string()]);
        }
    }
}

/// Parses numbers of a range; clap has such a parser for whole numbers only.
pub(crate) fn number(least: f64, most: f64) -> impl Fn(&str) -> std::result::Result<f64, String> + Clone {
    move |text| match text.parse() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("a number from {least} to {most} is wanted")),
    }
}
