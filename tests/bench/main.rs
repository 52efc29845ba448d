//! Measures p2p side by side with what is installed here.
//!
//!     cargo run --release -p p2p-tests --bin bench -- loopback [--size MIB] [--rounds N] [--folder DIR]
//!         [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- scale [--sizes GIB,...] [--at-once N] [--together MIB]
//!         [--rounds N] [--folder DIR] [--source-folder DIR] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- small [--rounds N] [--cold-rounds N] [--rtt MS] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- wan [--rate MBIT] [--rtt MS] [--loss PERCENT] [--queue-bdp X]
//!         [--size MIB] [--rounds N] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- fair [--rate MBIT] [--rtt MS] [--queue-bdp X] [--seconds S]
//!         [--lead S] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- adapt [--rate MBIT] [--rtt MS] [--poor-rate MBIT]
//!         [--poor-loss PERCENT] [--phase S] [--svg FILE] [--json FILE]
//!
//! A quick local network is `wan --rate 1000 --rtt 1 --queue-bdp 8`: a queue of one product would be 83 packets there.
//!
//! All take turns in one run, since only ratios within a run mean anything on a machine that others use too.

mod adapt;
mod fair;
mod https;
mod loopback;
mod machine;
mod route;
mod scale;
mod server;
mod small;
mod ssh;
mod usage;
mod wan;

use std::process::{Command, Stdio};

use clap::Parser;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measures p2p side by side with what is installed here.
#[derive(Debug, Parser)]
#[command(name = "bench")]
enum Bench {
    /// As fast as this machine can: p2p, cp, HTTPS, scp and rsync over loopback, with what each used.
    Loopback(loopback::Options),
    /// Ever larger files, and many at once: `p2p fetch` over loopback.
    Scale(scale::Options),
    /// 1 KiB, where only beginning and end count: `p2p send` over loopback, and over a long link as root.
    Small(small::Options),
    /// As fast as a long link allows: `p2p fetch`, HTTPS, iperf3 and scp between two network namespaces. Needs root.
    Wan(wan::Options),
    /// What share two flows get of one long link: p2p beside p2p, and beside Cubic TCP. Needs root.
    Fair(fair::Options),
    /// How `p2p fetch` adapts to a long link that becomes poor for a while. Needs root.
    Adapt(adapt::Options),
}

fn main() -> Result<()> {
    match Bench::parse() {
        Bench::Loopback(options) => loopback::run(&options),
        Bench::Scale(options) => scale::run(&options),
        Bench::Small(options) => small::run(&options),
        Bench::Wan(options) => wan::run(&options),
        Bench::Fair(options) => fair::run(&options),
        Bench::Adapt(options) => adapt::run(&options),
    }
}

/// Runs a command that is to succeed.
fn done(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Whether a program can be started, asked for its version.
fn is_installed(program: &str, ask: &str) -> bool {
    let asked = Command::new(program).arg(ask).stdin(Stdio::null()).output();
    asked.is_ok()
}
