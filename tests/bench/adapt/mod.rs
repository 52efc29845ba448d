//! One `p2p fetch` over a long link that becomes poor for a while: what goes over the link, how many chunks travel side
//! by side, and how long the queue is, ten times a second.
//!
//! The queue holds as many bytes throughout, as a router's does when its line becomes slower.

mod plot;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use p2p_tests::{Pair, link::LongLink, words};
use serde_json::{Value, json};

use crate::{
    Result,
    machine::Machine,
    route::{self, Route, number},
    save,
    server::Server,
};

/// The clock of the measurement. A daemon tells its numbers as often.
const TICK: Duration = Duration::from_millis(100);
const PORT: u16 = 4419;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rate of the link at first and in the end, in Mbit/s.
    #[arg(long, value_name = "MBIT", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Round trip time of the idle link, in ms.
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rtt: u64,
    /// Rate of the link while it is poor, in Mbit/s.
    #[arg(long, value_name = "MBIT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    poor_rate: u64,
    /// Packets that are lost at random in each direction while it is poor, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, value_parser = number(0.0, 100.0))]
    poor_loss: f64,
    /// How long each of the three phases takes, in seconds.
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    phase: u64,
    /// Writes plots to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Writes the samples to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Options {
    fn good(&self) -> Route {
        Route { rate: self.rate, rtt: self.rtt, loss: 0.0, queue_bdp: 1.0 }
    }

    fn poor(&self) -> Route {
        let queue_bdp = self.rate as f64 / self.poor_rate as f64;
        Route { rate: self.poor_rate, rtt: self.rtt, loss: self.poor_loss, queue_bdp }
    }

    fn phases(&self) -> [Route; 3] {
        [self.good(), self.poor(), self.good()]
    }

    fn phase(&self) -> Duration {
        Duration::from_secs(self.phase)
    }
}

/// What was seen at a tick.
#[derive(Clone, Debug)]
struct Sample {
    at: Duration,
    phase: usize,
    /// Bytes sent over the link so far.
    sent: u64,
    wait: Duration,
    lost: u64,
    overflowed: u64,
    /// Bytes that the receiver has verified, and how chunks travel, as the sending daemon said last.
    verified: u64,
    streams: u64,
    parallel: bool,
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(obstacle) = LongLink::obstacle() {
        println!("left out: adapt: {obstacle}");
        return Ok(());
    }
    let machine = Machine::this();
    println!("{machine}");
    println!("{}; after {} s: {}", options.good(), options.phase, options.poor());
    let samples = measure(options)?;
    print(options, &samples);
    save(options.json.as_deref(), &json(options, &machine, &samples))?;
    match &options.svg {
        Some(path) => Ok(fs::write(path, svg(options, &samples))?),
        None => Ok(()),
    }
}

fn measure(options: &Options) -> Result<Vec<Sample>> {
    let link = options.good().link()?;
    let Pair { a, b } = route::pair(&link, PORT);
    // More than goes through in that time.
    let most: u64 = options.phases().iter().map(|route| route.bytes_in(options.phase())).sum();
    let source = a.new_file("source.bin", 1, most + (8 << 20));
    let id = a.cli().run(words!["share", source]).success().text();
    let mut watching = a.cli().start_json(words!["watch"]);
    let mut fetch = b.cli().command(words!["fetch", id, "--from", a.address()]);
    let begun = Instant::now();
    let mut fetching = Server::start(&mut fetch, |_| true)?.ok_or("p2p does not start")?;
    let (mut samples, mut verified, mut streams, mut parallel) = (Vec::new(), 0, 0, false);
    for (phase, route) in options.phases().iter().enumerate() {
        if phase > 0 {
            let [forward, backward] = route.conditions();
            link.change(forward, backward);
        }
        let ends = options.phase() * (phase as u32 + 1);
        while samples.last().is_none_or(|sample: &Sample| sample.at < ends) {
            for event in watching.events_until(begun + TICK * (samples.len() as u32 + 1)) {
                if event["event"] == "progress" {
                    verified = event["verified_bytes"].as_u64().unwrap_or(0);
                    streams = event["streams"].as_u64().unwrap_or(0);
                    parallel = event["mode"] == "parallel";
                }
            }
            let (at, moment) = (begun.elapsed(), link.forward_now());
            samples.push(Sample {
                at,
                phase,
                sent: moment.sent,
                wait: moment.wait,
                lost: moment.counters.lost.packets,
                overflowed: moment.counters.overflowed.packets,
                verified,
                streams,
                parallel,
            });
        }
    }
    if !fetching.is_running() {
        return Err("the transfer ended before its time".into());
    }
    Ok(samples)
}

/// Mbit/s at each tick.
fn rates(samples: &[Sample]) -> Vec<f64> {
    let start = (Duration::ZERO, 0);
    let before = std::iter::once(start).chain(samples.iter().map(|sample| (sample.at, sample.sent)));
    let rate = |((from, before), sample): ((Duration, u64), &Sample)| {
        sample.sent.saturating_sub(before) as f64 * 8.0 / 1e6 / (sample.at - from).as_secs_f64()
    };
    before.zip(samples).map(rate).collect()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn print(options: &Options, samples: &[Sample]) {
    println!(
        "{:<30}{:>8}{:>10}{:>12}{:>14}{:>12}{:>12}{:>10}",
        "phase, and means of Mbit/s",
        "sent",
        "verified",
        "90 % after",
        "median queue",
        "longest",
        "queue full",
        "streams"
    );
    let rates = rates(samples);
    for (phase, route) in options.phases().iter().enumerate() {
        let of: Vec<_> = samples.iter().zip(&rates).filter(|(sample, _)| sample.phase == phase).collect();
        let mean = of.iter().map(|(_, rate)| **rate).sum::<f64>() / of.len() as f64;
        // From when on half a second was at 90 %.
        let half_second = of.windows(5).find(|some| {
            some.iter().map(|(_, rate)| **rate).sum::<f64>() / some.len() as f64 >= 0.9 * route.rate as f64
        });
        let reached =
            half_second.map(|some| some[0].0.at.saturating_sub(options.phase() * phase as u32).as_secs_f64());
        let mut waits: Vec<_> = of.iter().map(|(sample, _)| sample.wait).collect();
        waits.sort();
        let before = samples.iter().rfind(|sample| sample.phase < phase);
        let last = of.last().map(|(sample, _)| *sample);
        let since_before = |of: fn(&Sample) -> u64| last.map_or(0, of) - before.map_or(0, of);
        let verified =
            since_before(|sample| sample.verified) as f64 * 8.0 / 1e6 / options.phase().as_secs_f64();
        let streams: Vec<_> = of.iter().map(|(sample, _)| sample.streams).collect();
        let (least, most) = (streams.iter().min().unwrap_or(&0), streams.iter().max().unwrap_or(&0));
        println!(
            "{:<30}{mean:>8.1}{verified:>10.1}{:>12}{:>11.1} ms{:>9.1} ms{:>12}{:>10}",
            name(route),
            reached.map_or("never".to_owned(), |seconds| format!("{seconds:.1} s")),
            milliseconds(waits[waits.len() / 2]),
            milliseconds(waits[waits.len() - 1]),
            since_before(|sample| sample.overflowed),
            format!("{least} to {most}"),
        );
    }
}

fn name(route: &Route) -> String {
    format!("{} Mbit/s, {} ms, {} % loss", route.rate, route.rtt, route.loss)
}

fn svg(options: &Options, samples: &[Sample]) -> String {
    use plot::{Line, Phase, Plot};
    let line = |name, color, of: &dyn Fn(&Sample) -> Option<f64>| {
        let points = samples.iter().map(|sample| (sample.at.as_secs_f64(), of(sample))).collect();
        Line { name, color, dashed: false, points }
    };
    let phases = options.phases();
    let rates =
        samples.iter().zip(rates(samples)).map(|(sample, rate)| (sample.at.as_secs_f64(), Some(rate)));
    let sent = Line { name: "sent by p2p", color: "#1f6fb4", dashed: false, points: rates.collect() };
    let limit = line("rate of the link", "#888888", &|sample| Some(phases[sample.phase].rate as f64));
    let plots = [
        Plot { title: "over the link, Mbit/s", lines: vec![Line { dashed: true, ..limit }, sent] },
        Plot {
            title: "chunk streams in flight",
            lines: vec![
                line("parallel", "#2a8a4a", &|sample| sample.parallel.then_some(sample.streams as f64)),
                line("sequential", "#c06010", &|sample| (!sample.parallel).then_some(sample.streams as f64)),
            ],
        },
        Plot {
            title: "wait in the link's queue, ms",
            lines: vec![line("queue", "#a03050", &|sample| Some(milliseconds(sample.wait)))],
        },
    ];
    let phases: Vec<_> = (1..)
        .zip(&phases)
        .map(|(number, route)| Phase { name: name(route), end: (options.phase() * number).as_secs_f64() })
        .collect();
    plot::svg("One p2p fetch over a link that becomes poor for a while", &plots, &phases)
}

fn json(options: &Options, machine: &Machine, samples: &[Sample]) -> Value {
    let samples = samples.iter().zip(rates(samples)).map(|(sample, rate)| {
        json!({
            "seconds": sample.at.as_secs_f64(),
            "phase": sample.phase,
            "mbit": rate,
            "queue_ms": milliseconds(sample.wait),
            "verified_bytes": sample.verified,
            "streams": sample.streams,
            "mode": if sample.parallel { "parallel" } else { "sequential" },
            "lost_packets": sample.lost,
            "queue_full_packets": sample.overflowed,
        })
    });
    json!({
        "machine": machine.json(),
        "rtt_ms": options.rtt,
        "queue_bytes": options.good().queue(),
        "phase_seconds": options.phase,
        "phases": options.phases().map(|route| json!({ "rate_mbit": route.rate, "loss_percent": route.loss })),
        "samples": samples.collect::<Vec<_>>(),
    })
}
