//! `p2p fetch` beside what else moves a file over a long link, between two network namespaces.
//!
//! The link is a model in user space, so that its rate, delay, loss and queue are what is asked for wherever this
//! runs, and so that what crossed it can be counted.

mod others;
mod p2p;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use p2p_tests::{
    data,
    link::{Counters, LongLink},
};
use tempfile::TempDir;

use crate::{
    Result,
    route::{Route, number},
    save,
};

/// No run takes longer: it is ended then.
const LIMIT: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rate of the link, in Mbit/s.
    #[arg(long, value_name = "MBIT", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Round trip time of the idle link, in ms.
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=10_000))]
    rtt: u64,
    /// Packets that are lost at random in each direction, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = number(0.0, 100.0))]
    loss: f64,
    /// Bytes that each direction's queue holds, in products of rate and round trip time.
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = number(0.0, 1000.0))]
    queue_bdp: f64,
    /// Size of the file, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    size: u64,
    /// How often each way takes its turn.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Writes what was measured to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Options {
    fn bytes(&self) -> u64 {
        self.size << 20
    }

    fn route(&self) -> Route {
        Route { rate: self.rate, rtt: self.rtt, loss: self.loss, queue_bdp: self.queue_bdp }
    }
}

/// What the ways have in common. The file goes from `a` to `b`, which is forward.
struct Scene {
    // First, so that no process is left when the folder goes.
    link: LongLink,
    /// Nothing is on the way when the link was quiet for so long.
    quiet: Duration,
    room: TempDir,
    bytes: u64,
}

/// One turn of a way.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// `None` where it had to be ended.
    took: Option<Duration>,
    forward: Counters,
}

/// A way to move the file, and its turns so far.
#[derive(Debug)]
struct Row {
    name: &'static str,
    turns: Vec<Turn>,
}

impl Row {
    fn new(name: &'static str) -> Self {
        Self { name, turns: Vec::new() }
    }
}

impl Scene {
    fn new(options: &Options) -> Result<Self> {
        let room = tempfile::Builder::new().prefix("p2p-bench-").tempdir()?;
        let route = options.route();
        let link = route.link()?;
        Ok(Self { link, quiet: route.quiet(), room, bytes: options.bytes() })
    }

    /// Takes a turn on a quiet link. What is run says how long it took, and leaves its copy at the path given, if it
    /// makes one.
    fn turn(&self, source: &Path, run: impl FnOnce(&Path) -> Result<Option<Duration>>) -> Result<Turn> {
        let copy = self.room.path().join("copy");
        self.link.wait_until_quiet(self.quiet);
        self.link.take_counters();
        let took = run(&copy)?;
        let (forward, _) = self.link.take_counters();
        if copy.exists() {
            if took.is_some() {
                data::assert_same(source, &copy);
            }
            fs::remove_file(&copy)?;
        }
        Ok(Turn { took, forward })
    }

    fn new_file(&self, name: &str, seed: u64) -> PathBuf {
        let path = self.room.path().join(name);
        data::write_random(&path, seed, self.bytes);
        path
    }
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(obstacle) = LongLink::obstacle() {
        println!("left out: long link: {obstacle}");
        return Ok(());
    }
    let scene = Scene::new(options)?;
    println!("{} MiB, {} rounds, {}", options.size, options.rounds, options.route());
    let sources = [scene.new_file("source.bin", 1), scene.new_file("second.bin", 2)];
    let mut rows = Vec::from(p2p::NAMES.map(Row::new));
    let mut others = others::installed(&scene, &sources[0])?;
    for _ in 0..options.rounds {
        for (row, turn) in rows.iter_mut().zip(p2p::turns(&scene, &sources)?) {
            row.turns.push(turn);
        }
        others.retain_mut(|other| match scene.turn(&sources[0], |to| (other.run)(to)) {
            Ok(turn) => {
                other.row.turns.push(turn);
                true
            }
            // What is installed here and does not work here is no reason to measure nothing.
            Err(error) => {
                println!("{}: left out: {error}", other.row.name);
                false
            }
        });
    }
    rows.extend(others.into_iter().map(|other| other.row));
    report::print(&rows, scene.bytes);
    save(options.json.as_deref(), &report::json(options, &rows))
}
