//! p2p beside what else copies files, on loopback: how long each takes, and what it uses for that.
//!
//! p2p verifies and syncs; `cp` is followed by a sync of its copy; HTTPS (by nginx and curl, and by aria2 over eight connections), scp, rsync and qcp (over an
//! sshd) do neither; sendme verifies. All servers are the benchmark's own, and run where they are installed.

mod report;
mod ways;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use p2p_tests::{data, tmpfs};

use crate::{Result, done, machine::Machine, rest, save, supervisor, usage};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Size of the file, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    size: u64,
    /// How often each way takes its turn.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where the file and its copies lie. [default: /dev/shm for `loopback`, the folder for temporary files for `disk`]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Writes what was measured to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Where files lie unless it is said.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Medium {
    Memory,
    Disk,
}

impl Medium {
    /// The folder for temporary files too where there is none in memory.
    fn folder(self) -> PathBuf {
        const MEMORY: &str = "/dev/shm";
        match self {
            Self::Memory if tmpfs::is_at(MEMORY) => MEMORY.into(),
            Self::Memory | Self::Disk => supervisor::temporary(),
        }
    }
}

/// One turn of a way.
#[derive(Clone, Copy, Debug)]
struct Turn {
    took: Duration,
    /// Processor time of everything that took part.
    cpu: Duration,
    /// The most memory that the p2p daemons had, that which sends first.
    peaks: Option<[u64; 2]>,
}

/// The name of the way that all others are compared with.
const P2P: &str = ways::NAMES[0];

/// Measures.
pub(crate) fn run(options: &Options, medium: Medium) -> Result<()> {
    let folder = options.folder.clone().unwrap_or_else(|| medium.folder());
    // The file, the inbox and all copies lie in one folder, on one file system.
    let room = supervisor::folder_in(&folder)?;
    let source = new_source(room.path(), options.size << 20)?;
    let machine = Machine::this();
    println!("{machine}");
    println!("{} MiB, {} rounds, in {}", options.size, options.rounds, folder.display());
    let ways::Ways { mut ways, absent } = ways::all(room.path(), &source)?;
    let count = ways.len();
    for round in 0..options.rounds {
        // There and back again, so that nobody always comes after the same.
        for index in 0..count {
            let way = &mut ways[if round % 2 == 0 { index } else { count - 1 - index }];
            if way.broken {
                continue;
            }
            let to = room.path().join(format!("{}-{round}", way.name.replace(' ', "-")));
            match turn(way, &to) {
                Ok(turn) => way.turns.push(turn),
                // What is installed here and does not work here is no reason to measure nothing.
                Err(error) => {
                    println!("{}: left out: {error}", way.name);
                    way.broken = true;
                    continue;
                }
            }
            data::assert_same(&source, &to);
            fs::remove_file(&to)?;
        }
    }
    ways.retain(|way| !way.broken);
    if ways.first().is_none_or(|way| way.name != P2P) {
        return Err("p2p itself did not work".into());
    }
    report::print(&ways, &absent);
    save(options.json.as_deref(), &report::json(options, &folder, &machine, &ways, &absent))
}

/// A new file, once it is so old that its hash will be remembered: what is measured is moving it.
fn new_source(room: &Path, len: u64) -> Result<PathBuf> {
    let source = room.join("source.bin");
    data::write_random(&source, 1, len);
    // The disk is not to be busy with it any more.
    fs::File::open(&source)?.sync_all()?;
    rest(&source)?;
    Ok(source)
}

fn turn(way: &ways::Way, to: &Path) -> Result<Turn> {
    (way.prepare)()?;
    // What the one before has left to be written back is not for this one to wait for.
    done(Command::new("sync").arg("-f").arg(to.parent().ok_or("a copy lies in a folder")?))?;
    if let Some(pair) = &way.pair {
        for daemon in [&pair.a, &pair.b] {
            usage::forget_peak(daemon);
        }
    }
    let before = usage::cpu_with(&way.servers);
    let begun = Instant::now();
    (way.run)(to)?;
    let took = begun.elapsed();
    if let Some(server) = way.forks {
        usage::wait_for_children_of(server);
    }
    let cpu = usage::cpu_with(&way.servers) - before;
    let peaks = way.pair.as_ref().map(|pair| [pair.a.peak_memory(), pair.b.peak_memory()]);
    Ok(Turn { took, cpu, peaks })
}
