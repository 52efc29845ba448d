//! What hostile peers cost an honest one: `p2p send` to a daemon alone, and while it is attacked, in turns, for each of
//! the attacks. The attackers live in this process, on a thread of their own, and share the processors with everybody
//! else: what they take from the machine counts as theirs.

mod attacks;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use p2p_tests::{Pair, Relay, hostile::Hostile, until::until_true, words};
use serde_json::{Value, json};

use self::attacks::{ATTACKS, Attack};
use crate::{Result, machine::Machine, save, usage};

const MIB: u64 = 1 << 20;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// MiB of the file that the honest peer sends.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(4..=16_384))]
    size: u64,
    /// Rate of the honest peer's link, in MiB/s; 0 is as fast as it goes, which says more of the processors that all
    /// share than of the daemon.
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u64).range(..=10_000))]
    rate: u64,
    /// How often each of the two is measured; medians count.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Only attacks that have this in their name.
    #[arg(long, value_name = "WORD", default_value = "")]
    only: String,
    /// Writes what was measured to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What an attacker knows.
#[derive(Debug)]
pub(crate) struct Target {
    address: String,
    hostile: Hostile,
    stop: AtomicBool,
    /// Blows that were dealt.
    blows: AtomicU64,
}

impl Target {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.blows.fetch_add(1, Ordering::Relaxed);
    }
}

/// What came of one attack.
struct Case {
    name: &'static str,
    alone: f64,
    attacked: f64,
    blows: u64,
    peak: u64,
}

impl Case {
    fn ratio(&self) -> f64 {
        self.attacked / self.alone
    }

    fn print(&self) {
        let Self { name, alone, attacked, blows, peak } = self;
        let peak = *peak as f64 / MIB as f64;
        println!("{name:<36}{alone:>9.1}{attacked:>11.1}{:>8.2}{blows:>11}{peak:>10.1}", self.ratio());
    }

    fn json(&self) -> Value {
        let Self { name, alone, attacked, blows, peak } = self;
        json!({
            "attack": name,
            "alone_mib_s": alone,
            "attacked_mib_s": attacked,
            "ratio": self.ratio(),
            "blows": blows,
            "peak_bytes": peak,
        })
    }
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let machine = Machine::this();
    println!("{machine}");
    let Options { size, rate, rounds, .. } = options;
    println!("p2p send of {size} MiB at {rate} MiB/s to a daemon that is attacked, medians of {rounds}");
    println!("{:<36}{:>9}{:>11}{:>8}{:>11}{:>10}", "", "alone", "attacked", "ratio", "blows", "peak");
    println!("{:<36}{:>9}{:>11}{:>8}{:>11}{:>10}", "", "MiB/s", "MiB/s", "", "", "MiB");
    let mut cases = Vec::new();
    for attack in ATTACKS.iter().filter(|attack| attack.name.contains(&options.only)) {
        let case = case(options, attack)?;
        case.print();
        cases.push(case.json());
    }
    let all = json!({
        "machine": machine.json(),
        "size_mib": options.size,
        "rounds": options.rounds,
        "attacks": cases,
    });
    save(options.json.as_deref(), &all)
}

fn case(options: &Options, attack: &Attack) -> Result<Case> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // New ones for each attack, so that none finds what another has left.
    let Pair { a: honest, b: victim } = Pair::new();
    let hostile = {
        let _entered = runtime.enter();
        Hostile::new()
    };
    if attack.trusted {
        victim.cli().run(words!["peers", "trust", hostile.peer_id(), "--name", "hostile"]).success();
    }
    let relay = Relay::to(victim.address());
    relay.set_rate(options.rate * MIB);
    let way = if options.rate > 0 { relay.address() } else { victim.address().to_owned() };
    let mut seed = 0;
    let mut rate = || -> Result<f64> {
        seed += 1;
        let file = honest.new_file("honest.bin", seed, options.size * MIB);
        let begun = Instant::now();
        honest.cli().json(words!["send", file, "--to", way]).success();
        let seconds = begun.elapsed().as_secs_f64();
        for received in victim.received() {
            std::fs::remove_file(received)?;
        }
        Ok(options.size as f64 / seconds)
    };
    // Connected, and everything in memory that will be.
    rate()?;
    let (stop, blows) = (AtomicBool::new(false), AtomicU64::new(0));
    let target = Arc::new(Target { address: victim.address().to_owned(), hostile, stop, blows });
    let (mut alone, mut attacked) = (Vec::new(), Vec::new());
    let mut peak = 0;
    for _ in 0..options.rounds {
        alone.push(rate()?);
        usage::forget_peak(&victim);
        target.stop.store(false, Ordering::Relaxed);
        let before = target.blows.load(Ordering::Relaxed);
        let attackers = {
            let (target, begin, handle) = (target.clone(), attack.begin, runtime.handle().clone());
            thread::spawn(move || begin(&handle, target))
        };
        until_true("the attack has begun", || target.blows.load(Ordering::Relaxed) > before);
        attacked.push(rate()?);
        target.stop.store(true, Ordering::Relaxed);
        attackers.join().map_err(|_| format!("{}: an attacker failed", attack.name))?;
        peak = peak.max(victim.peak_memory());
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    let blows = target.blows.load(Ordering::Relaxed);
    Ok(Case { name: attack.name, alone: median(alone), attacked: median(attacked), blows, peak })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
