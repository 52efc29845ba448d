//! Measures p2p side by side with what is installed here.
//!
//!     cargo run --release -p p2p-tests --bin bench -- loopback|disk [--size MIB] [--rounds N] [--folder DIR]
//!         [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- scale [--sizes GIB,...] [--at-once N] [--together MIB]
//!         [--rounds N] [--folder DIR] [--source-folder DIR] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- small [--rounds N] [--cold-rounds N] [--rtt MS] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- tree [--files N] [--len BYTES] [--rounds N] [--folder DIR] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- start [--sizes MIB,...] [--rounds N] [--rate MBIT] [--rtt MS]
//!         [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- memory [--connections N] [--seconds S] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- load [--connections N] [--transfers N] [--jobs N] [--shares N] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- wan|lan [--rate MBIT] [--rtt MS] [--loss PERCENT]
//!         [--queue-bdp X] [--size MIB] [--rounds N] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- fair [--rate MBIT] [--rtt MS] [--queue-bdp X] [--seconds S]
//!         [--lead S] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- adapt [--rate MBIT] [--rtt MS] [--poor-rate MBIT]
//!         [--poor-loss PERCENT] [--phase S] [--svg FILE] [--json FILE]
//!     cargo run --release -p p2p-tests --bin bench -- hostile [--size MIB] [--rounds N] [--only WORD] [--json FILE]
//!
//! All take turns in one run, since only ratios within a run mean anything on a machine that others use too. Ended
//! early, by Ctrl-C or SIGTERM, it leaves nothing behind.

mod adapt;
mod fair;
mod hostile;
mod https;
mod load;
mod loopback;
mod machine;
mod memory;
mod route;
mod scale;
mod sendme;
mod server;
mod small;
mod ssh;
mod start;
mod supervisor;
mod tree;
mod usage;
mod wan;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use clap::Parser;
use p2p_protocol::limits::RACY_WINDOW;
use p2p_tests::until::until_true;
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measures p2p side by side with what is installed here.
#[derive(Debug, Parser)]
#[command(name = "bench")]
enum Bench {
    /// As fast as this machine can: p2p, cp, HTTPS, scp, rsync, qcp and sendme over loopback in memory, with what each used.
    Loopback(loopback::Options),
    /// The same on the disk that has the folder for temporary files.
    Disk(loopback::Options),
    /// Ever larger files, and many at once: `p2p fetch` over loopback.
    Scale(scale::Options),
    /// 1 KiB, where only beginning and end count: `p2p send` over loopback, and over a long link as root.
    Small(small::Options),
    /// A folder of many files, and the same again with some of them changed: p2p, cp, scp and rsync over loopback.
    Tree(tree::Options),
    /// How soon content is on its way, whatever the size: `p2p send` of new files over a long link. Needs root.
    Start(start::Options),
    /// What connections cost that do nothing: the memory of a daemon that has many.
    Memory(memory::Options),
    /// How a daemon answers while it has much to do: many connections and transfers, a long queue, many shares.
    Load(load::Options),
    /// As fast as a long link allows: `p2p fetch`, HTTPS, iperf3, scp and rsync between two network namespaces. Needs
    /// root.
    Wan(wan::Options),
    /// The same with the numbers of a quick local network.
    // A queue of one product would be 83 packets there.
    #[command(mut_arg("rate", |arg| arg.default_value("1000")), mut_arg("rtt", |arg| arg.default_value("1")))]
    #[command(mut_arg("queue_bdp", |arg| arg.default_value("8")), mut_arg("size", |arg| arg.default_value("400")))]
    Lan(wan::Options),
    /// What share two flows get of one long link: p2p beside p2p, and beside Cubic TCP. Needs root.
    Fair(fair::Options),
    /// How `p2p fetch` adapts to a long link that becomes poor for a while. Needs root.
    Adapt(adapt::Options),
    /// What hostile peers cost an honest one: the rate of `p2p send` to a daemon that is attacked.
    Hostile(hostile::Options),
}

fn main() -> Result<()> {
    // First, as a wrong word needs nobody to clean up.
    let bench = Bench::parse();
    if !supervisor::is_worker() {
        std::process::exit(supervisor::supervise()?);
    }
    match bench {
        Bench::Loopback(options) => loopback::run(&options, loopback::Medium::Memory),
        Bench::Disk(options) => loopback::run(&options, loopback::Medium::Disk),
        Bench::Scale(options) => scale::run(&options),
        Bench::Small(options) => small::run(&options),
        Bench::Tree(options) => tree::run(&options),
        Bench::Start(options) => start::run(&options),
        Bench::Memory(options) => memory::run(&options),
        Bench::Load(options) => load::run(&options),
        Bench::Wan(options) | Bench::Lan(options) => wan::run(&options),
        Bench::Fair(options) => fair::run(&options),
        Bench::Adapt(options) => adapt::run(&options),
        Bench::Hostile(options) => hostile::run(&options),
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

/// Waits until a file is so old that its hash will be remembered: what is measured is moving it.
fn rest(file: &Path) -> Result<()> {
    let written = fs::metadata(file)?.modified()?;
    until_true("the file is old enough", || {
        SystemTime::now().duration_since(written).is_ok_and(|age| age > RACY_WINDOW)
    });
    Ok(())
}

/// Writes what was measured to a file too, where one is named.
fn save(file: Option<&Path>, measured: &Value) -> Result<()> {
    match file {
        Some(file) => Ok(fs::write(file, format!("{measured:#}\n"))?),
        None => Ok(()),
    }
}

/// Where a program lies, of the folders in which programs are looked for.
fn installed_at(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Whether a program lies in one of them.
fn is_installed(program: &str) -> bool {
    installed_at(program).is_some()
}
