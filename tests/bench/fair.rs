//! Two flows over one long link: what share of it each gets, when one has a lead. p2p beside p2p, and p2p beside one
//! Cubic TCP flow, whichever of them comes first. With `--background`, what a p2p that yields leaves to each of these.
//!
//! Bytes are counted as they enter the link's queue, by the port that they come from.

use std::{
    any::Any,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use p2p_tests::{
    data,
    link::{LongLink, Moment},
    words,
};
use serde_json::{Value, json};

use crate::{
    Result, is_installed,
    machine::Machine,
    route::{self, Route, number},
    save,
    server::{Server, is_listened_to},
};

/// The clock of the measurement.
const TICK: Duration = Duration::from_millis(100);

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rate of the link, in Mbit/s.
    #[arg(long, value_name = "MBIT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Round trip time of the idle link, in ms.
    #[arg(long, value_name = "MS", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rtt: u64,
    /// Bytes that each direction's queue holds, in products of rate and round trip time.
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = number(0.0, 1000.0))]
    queue_bdp: f64,
    /// How long each case takes, in seconds; the second half counts.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(4..=600))]
    seconds: u64,
    /// How much later the second flow begins, in seconds.
    #[arg(long, value_name = "S", default_value_t = 3)]
    lead: u64,
    /// Measures fetches in the background, beside others.
    #[arg(long)]
    background: bool,
    /// Writes what was measured to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A flow that is ready to begin.
struct Flow<'a> {
    name: &'static str,
    port: u16,
    /// Starts its client.
    begin: Box<dyn FnMut() -> Result<Server> + 'a>,
    /// What it stands on, until it is over.
    _alive: Box<dyn Any>,
}

/// What there is to choose from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    P2p,
    Background,
    Tcp,
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(obstacle) = LongLink::obstacle() {
        println!("left out: fair: {obstacle}");
        return Ok(());
    }
    let route = Route { rate: options.rate, rtt: options.rtt, loss: 0.0, queue_bdp: options.queue_bdp };
    let machine = Machine::this();
    println!("{machine}");
    println!("{route}; {} s, the second flow {} s after the first", options.seconds, options.lead);
    let room = tempfile::Builder::new().prefix("p2p-bench-").tempdir()?;
    let source = room.path().join("source.bin");
    // More than goes through in that time.
    data::write_random(&source, 1, route.bytes_in(Duration::from_secs(options.seconds)) + (8 << 20));
    println!(
        "{:<34}{:>8}{:>10}{:>8}{:>10}{:>14}{:>14}{:>12}",
        "in the second half",
        "share",
        "Mbit/s",
        "share",
        "Mbit/s",
        "both, Mbit/s",
        "median queue",
        "queue full"
    );
    let mut cases = Vec::new();
    let own = if options.background { Kind::Background } else { Kind::P2p };
    let mut pairs = vec![[own, own], [own, Kind::Tcp], [Kind::Tcp, own]];
    if options.background {
        pairs.splice(1..1, [[own, Kind::P2p], [Kind::P2p, own]]);
    }
    for kinds in pairs {
        if kinds.contains(&Kind::Tcp) && !is_installed("iperf3") {
            println!("left out: p2p beside TCP: iperf3 is absent");
            break;
        }
        let case = case(options, &route, &source, kinds)?;
        case.print();
        cases.push(case.json());
    }
    let all = json!({
        "machine": machine.json(),
        "rate_mbit": options.rate,
        "rtt_ms": options.rtt,
        "queue_bytes": route.queue(),
        "seconds": options.seconds,
        "lead_seconds": options.lead,
        "cases": cases,
    });
    save(options.json.as_deref(), &all)
}

/// Two flows on a link of their own.
fn case(options: &Options, route: &Route, source: &Path, kinds: [Kind; 2]) -> Result<Case> {
    let link = route.link()?;
    let mut flows = Vec::new();
    for (kind, port) in kinds.into_iter().zip([4419, 4420]) {
        flows.push(match kind {
            Kind::P2p => p2p(&link, port, source, false),
            Kind::Background => p2p(&link, port, source, true),
            Kind::Tcp => tcp(&link, port)?,
        });
    }
    let names = [flows[0].name, flows[1].name];
    let begun = Instant::now();
    let (mut running, mut moments) = (vec![(flows[0].begin)()?], Vec::new());
    let ticks = Duration::from_secs(options.seconds).as_millis() / TICK.as_millis();
    for tick in 0..=ticks as u32 {
        thread::sleep((TICK * tick).saturating_sub(begun.elapsed()));
        if running.len() == 1 && TICK * tick >= Duration::from_secs(options.lead) {
            running.push((flows[1].begin)()?);
        }
        moments.push((begun.elapsed(), link.forward_now()));
    }
    for (flow, running) in flows.iter().zip(&mut running) {
        if !running.is_running() {
            return Err(format!("{} ended before its time", flow.name).into());
        }
    }
    let ports = [flows[0].port, flows[1].port];
    // The commands first, then what they stand on, and the link at last.
    drop(running);
    drop(flows);
    Ok(Case { names, ports, moments })
}

/// `p2p fetch` between daemons of its own that have never spoken, into an inbox that goes with them.
fn p2p<'a>(link: &LongLink, port: u16, source: &Path, background: bool) -> Flow<'a> {
    let pair = route::pair(link, port);
    let id = pair.a.cli().run(words!["share", source]).success().text();
    let mut fetch = words!["fetch", id, "--from", pair.a.address()].to_vec();
    fetch.extend(background.then(|| "--background".into()));
    let mut command = pair.b.cli().command(fetch);
    let begin = move || Server::start(&mut command, |_| true)?.ok_or_else(|| "p2p does not start".into());
    let name = if background { "p2p, background" } else { "p2p" };
    Flow { name, port, begin: Box::new(begin), _alive: Box::new(pair) }
}

/// iperf3, for longer than is measured.
fn tcp(link: &LongLink, port: u16) -> Result<Flow<'_>> {
    let (host, port_word) = (link.address_a().to_string(), port.to_string());
    let address = std::net::SocketAddrV4::new(link.address_a(), port);
    let mut server = link.a.command("iperf3");
    server.args(["-s", "-B", &host, "-p", &port_word]);
    let server = Server::start(&mut server, |child| is_listened_to(child, address))?
        .ok_or("the server of iperf3 does not start")?;
    let mut client = link.b.command("iperf3");
    client.args(["-c", &host, "-p", &port_word, "-R", "-C", "cubic", "-t", "3600"]);
    let begin = move || Server::start(&mut client, |_| true)?.ok_or_else(|| "iperf3 does not start".into());
    Ok(Flow { name: "Cubic", port, begin: Box::new(begin), _alive: Box::new(server) })
}

/// What was seen of two flows.
struct Case {
    names: [&'static str; 2],
    ports: [u16; 2],
    moments: Vec<(Duration, Moment)>,
}

impl Case {
    fn second_half(&self) -> &[(Duration, Moment)] {
        &self.moments[self.moments.len() / 2..]
    }

    /// Mbit/s of each over some time.
    fn rates(&self, moments: &[(Duration, Moment)]) -> [f64; 2] {
        let (Some((from, first)), Some((to, last))) = (moments.first(), moments.last()) else {
            return [0.0; 2];
        };
        self.ports.map(|port| {
            let at = |moment: &Moment| moment.by_port.get(&port).copied().unwrap_or(0);
            (at(last) - at(first)) as f64 * 8.0 / 1e6 / (*to - *from).as_secs_f64()
        })
    }

    fn median_wait(&self) -> Duration {
        let mut waits: Vec<_> = self.second_half().iter().map(|(_, moment)| moment.wait).collect();
        waits.sort();
        waits[waits.len() / 2]
    }

    fn overflowed(&self) -> u64 {
        let at = |moment: Option<&(Duration, Moment)>| {
            moment.map_or(0, |(_, moment)| moment.counters.overflowed.packets)
        };
        at(self.second_half().last()) - at(self.second_half().first())
    }

    fn print(&self) {
        let rates = self.rates(self.second_half());
        let both = rates[0] + rates[1];
        let [first, second] = self.names;
        println!(
            "{:<34}{:>6.1} %{:>10.1}{:>6.1} %{:>10.1}{both:>14.1}{:>11.1} ms{:>12}",
            format!("{first}, then {second}"),
            rates[0] / both * 100.0,
            rates[0],
            rates[1] / both * 100.0,
            rates[1],
            self.median_wait().as_secs_f64() * 1000.0,
            self.overflowed(),
        );
    }

    fn json(&self) -> Value {
        let rates = self.rates(self.second_half());
        let in_a_second = (Duration::from_secs(1).as_millis() / TICK.as_millis()) as usize;
        // From one moment to the one a second later.
        let seconds = self.moments.windows(in_a_second + 1).step_by(in_a_second);
        json!({
            "flows": self.names,
            "share_in_second_half": rates.map(|rate| rate / (rates[0] + rates[1])),
            "mbit_in_second_half": rates,
            "median_queue_ms": self.median_wait().as_secs_f64() * 1000.0,
            "queue_full_packets": self.overflowed(),
            "mbit_in_each_second": seconds.map(|second| self.rates(second)).collect::<Vec<_>>(),
        })
    }
}
