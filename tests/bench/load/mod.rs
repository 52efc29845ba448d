//! How a daemon answers while it has much to do: many idle connections beside many transfers, a queue of thousands of
//! jobs for a peer that does not answer and for one that is not there, and a hundred thousand shared files.
//!
//! In each state `p2p status` is timed as a user sees it, with the start of its process, and memory and descriptors are
//! looked at; when it is over, the descriptors have to be what they were.

mod queue;
mod shares;
mod transfers;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use p2p_protocol::limits::{MAX_CONNECTIONS, MAX_JOBS, MAX_RUNNING_PER_TARGET};
use p2p_tests::{Daemon, until::until_true, words};
use serde_json::{Value, json};

use crate::{Result, machine::Machine, save, usage};

/// What `p2p status` may take.
const TARGET: Duration = Duration::from_millis(100);
/// How often it is asked in one state.
const ASKED: usize = 20;

const MIB: f64 = (1 << 20) as f64;

/// How much there is to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many peers connect and do nothing.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..MAX_CONNECTIONS as u64))]
    connections: u64,
    /// How many files move at the same time beside them.
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MAX_RUNNING_PER_TARGET as u64))]
    transfers: u64,
    /// How many jobs wait.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MAX_JOBS as u64))]
    jobs: u64,
    /// How many files are shared.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    shares: u64,
    /// Writes what was measured to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A daemon in one state.
#[derive(Debug)]
struct Moment {
    name: String,
    median: Duration,
    worst: Duration,
    resident: u64,
    peak: u64,
    descriptors: usize,
}

impl Moment {
    fn of(name: impl Into<String>, daemon: &Daemon) -> Self {
        let mut took: Vec<Duration> = (0..ASKED)
            .map(|_| {
                let begun = Instant::now();
                daemon.cli().run(words!["status"]).success();
                begun.elapsed()
            })
            .collect();
        took.sort();
        let moment = Self {
            name: name.into(),
            median: took[ASKED / 2],
            worst: took[ASKED - 1],
            resident: daemon.resident_memory(),
            peak: daemon.peak_memory(),
            descriptors: daemon.descriptors(),
        };
        usage::forget_peak(daemon);
        moment.print();
        moment
    }

    fn print(&self) {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        println!(
            "{:<46}{:>8.1} ms{:>8.1} ms{:>8}{:>10.1} MiB{:>10.1} MiB{:>8}",
            self.name,
            ms(self.median),
            ms(self.worst),
            if self.worst <= TARGET { "held" } else { "missed" },
            self.resident as f64 / MIB,
            self.peak as f64 / MIB,
            self.descriptors
        );
    }

    fn json(&self) -> Value {
        json!({
            "moment": self.name,
            "status_median_seconds": self.median.as_secs_f64(),
            "status_worst_seconds": self.worst.as_secs_f64(),
            "resident_bytes": self.resident,
            "peak_bytes": self.peak,
            "descriptors": self.descriptors,
        })
    }
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let machine = Machine::this();
    println!("{machine}");
    println!(
        "{:<46}{:>11}{:>11}{:>8}{:>14}{:>14}{:>8}",
        "", "status", "worst", "100 ms", "resident", "at most", "files"
    );
    let transfers = transfers::measure(options)?;
    let queue = queue::measure(options)?;
    let shares = shares::measure(options)?;
    let all = json!({
        "machine": machine.json(),
        "connections": options.connections,
        "transfers": options.transfers,
        "jobs": options.jobs,
        "shares": options.shares,
        "transfers_and_connections": transfers,
        "queue": queue,
        "shared_files": shares,
    });
    save(options.json.as_deref(), &all)
}

/// Waits until a daemon has as many descriptors as before, as far as it keeps none for a while by intention.
fn no_descriptor_is_left(daemon: &Daemon, before: usize) {
    until_true("all descriptors are closed", || daemon.descriptors() <= before);
}

fn seconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64()
}
