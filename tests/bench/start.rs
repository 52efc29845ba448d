//! How soon content is on its way, whatever the size: `p2p send` of a file that the daemon has never seen, from the
//! start of the command until more has entered a long link than all that comes before the content.
//!
//! What is sent cannot be read, and is told by how much it is: a handshake, an offer and the like are a few KiB, and
//! the chaining values of a file are as long as its chunks are many.

use std::{
    fs::{self, File},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use p2p_protocol::{geometry::Geometry, limits::CV_LEN};
use p2p_tests::{Pair, link::LongLink, words};
use serde_json::{Value, json};

use crate::{
    Result, done,
    machine::Machine,
    route::{self, Route},
    save,
    server::Server,
    usage,
};

const PORT: u16 = 4419;

/// Three times what handshake, acknowledgements and offer have together. With the chaining values of 1 GiB it is still
/// less than a new connection sends at once, or it would wait for one more round trip.
const BEFORE_CONTENT: u64 = 12 << 10;

/// The link is looked at this often.
const GLANCE: Duration = Duration::from_micros(500);

/// No turn takes longer: it is ended then.
const LIMIT: Duration = Duration::from_secs(120);

const MIB: f64 = (1 << 20) as f64;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Sizes of the files, in MiB.
    #[arg(long, value_name = "MIB,...", default_value = "1,64,1024", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    sizes: Vec<u64>,
    /// How often each size is sent by daemons that never spoke, and by daemons that are connected.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Rate of the link, in Mbit/s.
    #[arg(long, value_name = "MBIT", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Round trip time of the idle link, in ms.
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rtt: u64,
    /// Writes what was measured to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// `None` where it had to be ended.
    took: Option<Duration>,
    /// Bytes of files that the sending daemon had read by then.
    read: u64,
}

/// All turns of a size.
#[derive(Debug)]
struct Row {
    mib: u64,
    connected: bool,
    turns: Vec<Turn>,
}

/// What the turns have in common.
struct Scene {
    link: LongLink,
    route: Route,
    /// Of the next file.
    seed: u64,
}

impl Scene {
    /// Sends a new file, until its content is on the way.
    fn turn(&mut self, pair: &Pair, mib: u64) -> Result<Turn> {
        self.seed += 1;
        let bytes = mib << 20;
        let source = pair.a.new_file(&format!("{}.bin", self.seed), self.seed, bytes);
        // The disk is not to be busy with it any more.
        File::open(&source)?.sync_all()?;
        self.link.wait_until_quiet(self.route.quiet());
        let mut command = pair.a.cli().command(words!["send", source, "--to", pair.b.address()]);
        let read_before = usage::read(pair.a.pid());
        let enough = self.link.forward_now().sent + before_content(bytes)?;
        let begun = Instant::now();
        let mut sending = Server::start(&mut command, |_| true)?.ok_or("p2p does not start")?;
        let took = loop {
            if self.link.forward_now().sent >= enough {
                break Some(begun.elapsed());
            }
            if begun.elapsed() > LIMIT {
                break None;
            }
            if !sending.is_running() {
                return Err("the transfer ended before its content was on the way".into());
            }
            thread::sleep(GLANCE);
        };
        let read = usage::read(pair.a.pid()) - read_before;
        drop(sending);
        route::cancel_all(&pair.a);
        // Space that the next may need.
        fs::remove_file(&source)?;
        Ok(Turn { took, read })
    }

    fn pair(&self) -> Pair {
        route::pair(&self.link, PORT)
    }
}

/// Bytes that may enter the link before the first of a file of this length.
fn before_content(bytes: u64) -> Result<u64> {
    let chunks = u64::from(Geometry::for_size(bytes)?.chunks());
    Ok(BEFORE_CONTENT + chunks * CV_LEN as u64)
}

impl Row {
    /// The turn in the middle; one that had to be ended took longer than any other.
    fn median(&self) -> Option<Turn> {
        let mut turns = self.turns.clone();
        turns.sort_by_key(|turn| turn.took.unwrap_or(Duration::MAX));
        turns.get(turns.len() / 2).copied()
    }

    fn print(&self, route: &Route) {
        let Some(Turn { took, read }) = self.median() else { return };
        let (time, trips) = match took {
            Some(took) => {
                let trips = took.as_secs_f64() / route.rtt().as_secs_f64();
                (format!("{:.1} ms", took.as_secs_f64() * 1000.0), format!("{trips:.2}"))
            }
            None => (format!("> {} s", LIMIT.as_secs()), "-".to_owned()),
        };
        println!(
            "{:<12}{:<10}{time:>12}{trips:>14}{:>18.1}",
            format!("{} MiB", self.mib),
            self.state(),
            read as f64 / MIB
        );
    }

    fn state(&self) -> &'static str {
        if self.connected { "warm" } else { "cold" }
    }

    fn json(&self, route: &Route) -> Option<Value> {
        let Turn { took, read } = self.median()?;
        let seconds: Vec<_> =
            self.turns.iter().map(|turn| turn.took.map(|took| took.as_secs_f64())).collect();
        Some(json!({
            "payload_bytes": self.mib << 20,
            "state": self.state(),
            "sent_bytes_that_count": before_content(self.mib << 20).ok()?,
            "seconds": seconds,
            "median_seconds": took.map(|took| took.as_secs_f64()),
            "round_trips": took.map(|took| took.as_secs_f64() / route.rtt().as_secs_f64()),
            "read_bytes": read,
        }))
    }
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(obstacle) = LongLink::obstacle() {
        println!("left out: long link: {obstacle}");
        return Ok(());
    }
    let machine = Machine::this();
    let route = Route { rate: options.rate, rtt: options.rtt, loss: 0.0, queue_bdp: 1.0 };
    println!("{machine}");
    println!("p2p send, each time a new file; {route}");
    println!("{:<12}{:<10}{:>12}{:>14}{:>18}", "", "", "median", "round trips", "MiB read by then");
    let mut scene = Scene { link: route.link()?, route, seed: 0 };
    let mut rows = Vec::new();
    for connected in [false, true] {
        for mib in &options.sizes {
            rows.push(Row { mib: *mib, connected, turns: Vec::new() });
        }
    }
    for _ in 0..options.rounds {
        for row in &mut rows {
            let pair = scene.pair();
            if row.connected {
                let small = pair.a.new_file("small.bin", 0, 1024);
                done(&mut pair.a.cli().command(words!["send", small, "--to", pair.b.address()]))?;
            }
            row.turns.push(scene.turn(&pair, row.mib)?);
        }
    }
    for row in &rows {
        row.print(&route);
    }
    let all = json!({
        "machine": machine.json(),
        "rate_mbit": options.rate,
        "rtt_ms": options.rtt,
        "rounds": options.rounds,
        "files": rows.iter().filter_map(|row| row.json(&route)).collect::<Vec<_>>(),
    });
    save(options.json.as_deref(), &all)
}
