//! Runs daemons through what can happen to them, for as long as is wanted.
//!
//!     cargo run --release -p p2p-sim -- kill9 [--rounds N] [--seed S] [--folder DIR]

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use clap::Parser;
use p2p_sim::kill9;

/// Runs daemons through what can happen to them.
#[derive(Debug, Parser)]
#[command(name = "p2p-sim")]
enum Sim {
    /// Real daemons over loopback, killed at random moments.
    Kill9(kill9::Options),
}

fn main() {
    match Sim::parse() {
        Sim::Kill9(options) => kill9::run(&options),
    }
}
