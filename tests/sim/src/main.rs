//! Runs daemons through what can happen to them, for as long as is wanted.
//!
//!     cargo run --release -p p2p-sim -- --seeds 1000                 # simulated, a process for each seed
//!     cargo run --release -p p2p-sim -- --seed 17 --trace            # one of them, with all that happens in it
//!     cargo run --release -p p2p-sim -- everywhere                   # a transfer, crashed and failing at every point
//!     cargo run --release -p p2p-sim -- kill9 --rounds 100           # real processes, killed at random moments

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::{
    collections::BTreeMap,
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::{Parser, Subcommand};
use p2p_sim::{
    everywhere, kill9,
    run::{Outcome, run},
};

/// Simulates real daemons in a world that follows from a seed.
#[derive(Debug, Parser)]
#[command(name = "sim", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many to run at once.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64))]
    jobs: u64,
    /// Run this seed alone, in this process, and print what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: print every packet and event.
    #[arg(long)]
    trace: bool,
    /// With --seed: what the daemons log, such as `p2p_daemon=debug`.
    #[arg(long)]
    log: Option<String>,
    /// With --seed: print the outcome as one line of JSON, for programs.
    #[arg(long, hide = true)]
    json: bool,
}

/// What else there is to run.
#[derive(Debug, Subcommand)]
enum Other {
    /// Real daemons over loopback, killed at random moments.
    Kill9(kill9::Options),
    /// A transfer that is crashed at every point, and of which every operation fails once.
    Everywhere(everywhere::Options),
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.other {
        Some(Other::Kill9(options)) => {
            kill9::run(options);
            return ExitCode::SUCCESS;
        }
        Some(Other::Everywhere(options)) if everywhere::run(options) => return ExitCode::SUCCESS,
        Some(Other::Everywhere(_)) => return ExitCode::FAILURE,
        None => {}
    }
    match args.seed {
        Some(seed) => one(seed, &args),
        None => many(&args),
    }
}

fn one(seed: u64, args: &Args) -> ExitCode {
    if let Some(filter) = &args.log {
        let log = tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false);
        log.with_writer(std::io::stderr).init();
    }
    let outcome = run(seed, args.trace);
    if args.json {
        println!("{}", serde_json::to_string(&outcome).unwrap());
    } else {
        show(&outcome, !args.trace);
    }
    if outcome.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(outcome: &Outcome, with_tail: bool) {
    let bad = !outcome.problems.is_empty();
    println!("seed {}: {} {}", outcome.seed, if bad { "FAILED" } else { "ok" }, outcome.hash);
    if bad && with_tail {
        for line in outcome.tail.iter().rev().take(60).rev() {
            println!("  {line}");
        }
    }
    outcome.problems.iter().for_each(|problem| println!("  problem: {problem}"));
    if bad {
        println!("  again: cargo run --release -p p2p-sim -- --seed {} --trace", outcome.seed);
    }
}

fn many(args: &Args) -> ExitCode {
    let begun = Instant::now();
    let (next, failed) = (AtomicU64::new(args.first), AtomicU64::new(0));
    let counts = Mutex::new(BTreeMap::<String, u64>::new());
    let end = args.first + args.seeds;
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = in_a_process(seed);
                    if !outcome.problems.is_empty() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        show(&outcome, true);
                    }
                    let mut counts = counts.lock().unwrap();
                    for (what, count) in outcome.counts {
                        *counts.entry(what).or_default() += count;
                    }
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let failed = failed.into_inner();
    println!("{} seeds in {took:.1} s, {:.1} a second", args.seeds, args.seeds as f64 / took);
    for (what, count) in counts.into_inner().unwrap() {
        println!("{count:>8} {what}");
    }
    println!("{failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn in_a_process(seed: u64) -> Outcome {
    let own = std::env::current_exe().unwrap();
    let ran = Command::new(own)
        .args(["--json", "--seed", &seed.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| Outcome {
        seed,
        hash: String::new(),
        problems: vec![format!("the run's process ended without an outcome: {}", ran.status)],
        tail: Vec::new(),
        counts: BTreeMap::new(),
    })
}
