//! `p2p send` of 1 KiB, from the start of the command to its end: on loopback what the programs take, and over a long
//! link how often the path is gone there and back.

use std::{path::PathBuf, time::Duration, time::Instant};

use p2p_tests::{Pair, data, link::LongLink, words};
use serde_json::{Value, json};

use crate::{
    Result, done,
    machine::Machine,
    route::{self, Route},
    save,
};

const LEN: u64 = 1024;
const PORT: u16 = 4419;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many files are sent on one connection over loopback; over the long link a fifth of them.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many pairs of daemons that never spoke send one.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    cold_rounds: u32,
    /// Round trip time of the long link, in ms.
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rtt: u64,
    /// Writes what was measured to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How long each took, in order.
struct Row {
    name: &'static str,
    rtt: Option<Duration>,
    times: Vec<Duration>,
}

impl Row {
    fn new(name: &'static str, rtt: Option<Duration>, mut times: Vec<Duration>) -> Self {
        times.sort();
        Self { name, rtt, times }
    }

    /// The time that this share of all did not exceed.
    fn at(&self, share: f64) -> Duration {
        let index = (self.times.len() as f64 * share) as usize;
        self.times[index.min(self.times.len() - 1)]
    }

    fn round_trips(&self) -> Option<f64> {
        Some(self.at(0.5).as_secs_f64() / self.rtt?.as_secs_f64())
    }

    fn print(&self) {
        let ms = |share| self.at(share).as_secs_f64() * 1000.0;
        println!(
            "{:<18}{:>7}{:>12.1} ms{:>12.1} ms{:>12.1} ms{:>14}",
            self.name,
            self.times.len(),
            ms(0.5),
            ms(0.1),
            ms(0.9),
            self.round_trips().map_or("-".to_owned(), |trips| format!("{trips:.2}"))
        );
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "seconds": self.times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
            "median_seconds": self.at(0.5).as_secs_f64(),
            "round_trips": self.round_trips(),
        })
    }
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let machine = Machine::this();
    println!("{machine}");
    println!("p2p send of {LEN} bytes, each time another file");
    println!(
        "{:<18}{:>7}{:>15}{:>15}{:>15}{:>14}",
        "", "files", "median", "a tenth below", "a tenth above", "round trips"
    );
    let mut rows = Vec::new();
    let mut add = |name, rtt, times: Result<Vec<Duration>>| -> Result<()> {
        let row = Row::new(name, rtt, times?);
        row.print();
        rows.push(row);
        Ok(())
    };
    add("loopback, warm", None, warm(&Pair::new(), options.rounds))?;
    add("loopback, cold", None, cold(Pair::new, options.cold_rounds))?;
    if let Some(obstacle) = LongLink::obstacle() {
        println!("left out: long link: {obstacle}");
    } else {
        let route = Route { rate: 200, rtt: options.rtt, loss: 0.0, queue_bdp: 1.0 };
        let link = route.link()?;
        let (start, rtt) = (|| route::pair(&link, PORT), Some(route.rtt()));
        add("long link, warm", rtt, warm(&start(), options.rounds.div_ceil(5)))?;
        add("long link, cold", rtt, cold(start, options.cold_rounds.div_ceil(2)))?;
        println!("the long link: {route}");
    }
    let rows: Vec<_> = rows.iter().map(Row::json).collect();
    let all = json!({ "machine": machine.json(), "rtt_ms": options.rtt, "bytes": LEN, "ways": rows });
    save(options.json.as_deref(), &all)
}

/// One file after the other on one connection; the first is not counted.
fn warm(pair: &Pair, rounds: u32) -> Result<Vec<Duration>> {
    send(pair, 0)?;
    (1..=rounds).map(|seed| send(pair, seed)).collect()
}

/// One file between new daemons, again and again.
fn cold(start: impl Fn() -> Pair, rounds: u32) -> Result<Vec<Duration>> {
    (0..rounds).map(|seed| send(&start(), seed)).collect()
}

fn send(pair: &Pair, seed: u32) -> Result<Duration> {
    let name = format!("{seed}.bin");
    let source = pair.a.new_file(&name, seed.into(), LEN);
    let mut command = pair.a.cli().command(words!["send", source, "--to", pair.b.address()]);
    let begun = Instant::now();
    done(&mut command)?;
    let took = begun.elapsed();
    data::assert_same(&source, &pair.b.inbox().join(name));
    Ok(took)
}
