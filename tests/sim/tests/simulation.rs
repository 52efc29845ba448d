//! The simulator, on the seeds that are always run: that a seed means the same every time, and that what must be so is.
//!
//! A run takes its process over, so that each is one of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::{
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use p2p_sim::run::Outcome;

/// Seeds that are run by every `cargo test`; many more are run by `.ci/run`.
const SEEDS: u64 = 40;

/// Seeds that have found something, and what.
const FINDS: [(u64, &str); 1] = [(
    668,
    "a disk that failed while the catalog was checked made it pass for a damaged one, and shares were lost",
)];

fn run(seed: u64) -> Outcome {
    let ran = Command::new(env!("CARGO_BIN_EXE_sim")).args(["--json", "--seed", &seed.to_string()]).output();
    let ran = ran.unwrap();
    serde_json::from_slice(&ran.stdout)
        .unwrap_or_else(|error| panic!("seed {seed}: {error}: {}", String::from_utf8_lossy(&ran.stderr)))
}

fn assert_holds(seed: u64) {
    let Outcome { problems, tail, .. } = run(seed);
    assert!(problems.is_empty(), "seed {seed}: {problems:#?}\n{}", tail.join("\n"));
}

/// Every packet, every disk operation and every event, at the same time, or the hash is another.
#[test]
fn a_seed_means_the_same_run_every_time() {
    let first: Vec<String> = (100..106).map(|seed| run(seed).hash).collect();
    let again: Vec<String> = (100..106).map(|seed| run(seed).hash).collect();
    assert_eq!(first, again);
    assert_ne!(first[0], first[1]);
}

#[test]
fn what_was_found_once_stays_mended() {
    for (seed, found) in FINDS {
        println!("{seed}: {found}");
        assert_holds(seed);
    }
}

/// Faults 1, 2, 3, 12 and 16.
#[test]
fn what_must_be_so_is_in_every_run() {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        return;
                    }
                    assert_holds(seed);
                }
            });
        }
    });
}
