//! `p2p fetch` over loopback of ever larger files, and of many at once: whether time stays in proportion, and memory
//! bounded.
//!
//! All of it is random data, since a hole is not sent, and copies are written and synced as ever. What finds no room is
//! left out.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use p2p_tests::{Daemon, Pair, data, words};
use serde_json::{Value, json};

use crate::{Result, done, machine::Machine, rest, save, supervisor, usage};

/// Room that is left to others.
const SPARE: u64 = 4 << 30;

const MIB: f64 = (1 << 20) as f64;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Sizes of the files, in GiB.
    #[arg(long, value_name = "GIB,...", default_value = "1,4,16", value_delimiter = ',')]
    sizes: Vec<u64>,
    /// How many files are fetched at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    at_once: u64,
    /// Size of those together, and of the one file that they are compared with, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    together: u64,
    /// How often those take turns; what is shown is the turn whose ratio is in the middle.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where the files and their copies lie. [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Where the files lie, if not with their copies.
    #[arg(long, value_name = "DIR")]
    source_folder: Option<PathBuf>,
    /// Writes what was measured to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = options.folder.clone().unwrap_or_else(supervisor::temporary);
    let source_folder = options.source_folder.as_ref().unwrap_or(&folder);
    let (from, to) = (supervisor::folder_in(source_folder)?, supervisor::folder_in(&folder)?);
    let rooms = Rooms { from: from.path(), to: to.path() };
    let machine = Machine::this();
    println!("{machine}");
    println!("p2p fetch, warm, from {} to {}", source_folder.display(), folder.display());
    println!(
        "{:<10}{:>10}{:>12}{:>16}{:>24}{:>26}",
        "size", "time", "s per GiB", "CPU s per GiB", "cp and sync, s per GiB", "peak MiB (from, to)"
    );
    let mut sizes = Vec::new();
    for size in &options.sizes {
        sizes.extend(one(&rooms, *size)?);
    }
    let turns = (0..options.rounds).map(|_| at_once(&rooms, options.at_once, options.together << 20));
    let mut turns = turns.collect::<Result<Vec<_>>>()?;
    turns.sort_by(|left, right| left.ratio().total_cmp(&right.ratio()));
    turns[turns.len() / 2].print(options);
    let all = json!({
        "machine": machine.json(),
        "sizes": sizes,
        "files_at_once": options.at_once,
        "bytes_together": options.together << 20,
        "at_once": turns.iter().map(AtOnce::json).collect::<Vec<_>>(),
    });
    save(options.json.as_deref(), &all)
}

/// Daemons that have a connection.
fn connected(rooms: &Rooms<'_>) -> Result<Pair> {
    let pair = Pair::new();
    let small = rooms.source("small.bin", 2, 1024)?;
    fetch(&pair, &share(&pair, &small), &rooms.to.join("small-copy"))?;
    Ok(pair)
}

fn share(pair: &Pair, path: &Path) -> String {
    pair.a.cli().run(words!["share", path]).success().text()
}

/// Returns how long it took, and the processor time that it took.
fn fetch(pair: &Pair, id: &str, to: &Path) -> Result<(Duration, Duration)> {
    let servers = [pair.a.pid(), pair.b.pid()];
    let (before, begun) = (usage::cpu_with(&servers), Instant::now());
    done(&mut pair.b.cli().command(words!["fetch", id, "--from", pair.a.address(), "-o", to]))?;
    let (took, cpu) = (begun.elapsed(), usage::cpu_with(&servers) - before);
    if data::file_id(to) != id {
        return Err(format!("{} is not what was fetched", to.display()).into());
    }
    fs::remove_file(to)?;
    Ok((took, cpu))
}

/// How long `cp` and a sync take.
fn copy(rooms: &Rooms<'_>, source: &Path) -> Result<Duration> {
    let (to, begun) = (rooms.to.join("copy"), Instant::now());
    done(Command::new("cp").arg("--reflink=never").arg(source).arg(&to))?;
    File::open(&to)?.sync_all()?;
    let took = begun.elapsed();
    fs::remove_file(&to)?;
    Ok(took)
}

/// The most memory that sender and receiver had, in bytes.
fn peaks(pair: &Pair) -> [u64; 2] {
    [&pair.a, &pair.b].map(Daemon::peak_memory)
}

/// One file of this size, in GiB. `None`, with a word on why, where it finds no room.
fn one(rooms: &Rooms<'_>, gib: u64) -> Result<Option<Value>> {
    let bytes = gib << 30;
    if !rooms.hold(bytes)? {
        println!("{:<10}left out: there is no room for it and its copy", format!("{gib} GiB"));
        return Ok(None);
    }
    let source = rooms.source("source.bin", gib, bytes)?;
    rest(&source)?;
    let pair = connected(rooms)?;
    let id = share(&pair, &source);
    // Memory that a virtual machine has never used costs several times as much the first time.
    copy(rooms, &source)?;
    let (took, cpu) = fetch(&pair, &id, &rooms.to.join("copy"))?;
    let peaks = peaks(&pair);
    let copied = copy(rooms, &source)?;
    let per_gib = |time: Duration| time.as_secs_f64() / gib as f64;
    println!(
        "{:<10}{:>8.2} s{:>12.3}{:>16.3}{:>24.3}{:>26}",
        format!("{gib} GiB"),
        took.as_secs_f64(),
        per_gib(took),
        per_gib(cpu),
        per_gib(copied),
        shown(peaks),
    );
    fs::remove_file(&source)?;
    Ok(Some(json!({
        "gib": gib,
        "seconds": took.as_secs_f64(),
        "seconds_per_gib": per_gib(took),
        "cpu_seconds_per_gib": per_gib(cpu),
        "copy_seconds_per_gib": per_gib(copied),
        "peak_bytes_from_to": peaks,
    })))
}

/// One file, and many of the same size together.
struct AtOnce {
    one: Duration,
    one_peaks: [u64; 2],
    /// When each of the many ended, in order.
    ends: Vec<Duration>,
    peaks: [u64; 2],
}

impl AtOnce {
    fn last(&self) -> Duration {
        self.ends.last().copied().unwrap_or_default()
    }

    fn ratio(&self) -> f64 {
        self.last().as_secs_f64() / self.one.as_secs_f64()
    }

    fn print(&self, options: &Options) {
        let count = options.at_once;
        println!("\n{} MiB as one file, and as {count} at once", options.together);
        println!("{:<10}{:>10}{:>26}", "", "time", "peak MiB (from, to)");
        for (name, took, peaks) in
            [("one".to_owned(), self.one, self.one_peaks), (count.to_string(), self.last(), self.peaks)]
        {
            println!("{name:<10}{:>8.2} s{:>26}", took.as_secs_f64(), shown(peaks));
        }
        println!(
            "{:.2} times the time of one; the first ended after {:.2} s, half of them after {:.2} s, the last after {:.2} s",
            self.ratio(),
            self.ends[0].as_secs_f64(),
            self.ends[self.ends.len() / 2].as_secs_f64(),
            self.last().as_secs_f64(),
        );
    }

    fn json(&self) -> Value {
        json!({
            "one_seconds": self.one.as_secs_f64(),
            "one_peak_bytes_from_to": self.one_peaks,
            "ended_after_seconds": self.ends.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
            "times_that_of_one": self.ratio(),
            "peak_bytes_from_to": self.peaks,
        })
    }
}

/// By new daemons for either.
fn at_once(rooms: &Rooms<'_>, count: u64, together: u64) -> Result<AtOnce> {
    let source = rooms.source("source.bin", 0, together)?;
    rest(&source)?;
    let pair = connected(rooms)?;
    let id = share(&pair, &source);
    let (one, _) = fetch(&pair, &id, &rooms.to.join("copy"))?;
    let one_peaks = peaks(&pair);
    drop(pair);
    fs::remove_file(&source)?;

    let pair = connected(rooms)?;
    let new = |number| rooms.source(&format!("part-{number}.bin"), 1000 + number, together / count);
    let files = (0..count).map(new).collect::<Result<Vec<_>>>()?;
    files.iter().try_for_each(|file| rest(file))?;
    let ids: Vec<_> = files.iter().map(|file| share(&pair, file)).collect();
    let begun = Instant::now();
    let ends = thread::scope(|scope| {
        let start = |id: &String| {
            let to = rooms.to.join(id);
            let mut command = pair.b.cli().command(words!["fetch", id, "--from", pair.a.address(), "-o", to]);
            // An error need not be of the kind that may cross threads.
            scope.spawn(move || {
                done(&mut command).map(|()| begun.elapsed()).map_err(|error| error.to_string())
            })
        };
        let running: Vec<_> = ids.iter().map(start).collect();
        let ended = running.into_iter().map(|one| one.join().unwrap_or_else(|_| Err("it panicked".into())));
        ended.collect::<std::result::Result<Vec<_>, String>>()
    });
    let (mut ends, peaks) = (ends?, peaks(&pair));
    ends.sort();
    for id in &ids {
        let copy = rooms.to.join(id);
        if data::file_id(&copy) != *id {
            return Err(format!("{} is not what was fetched", copy.display()).into());
        }
        fs::remove_file(&copy)?;
    }
    Ok(AtOnce { one, one_peaks, ends, peaks })
}

fn shown(peaks: [u64; 2]) -> String {
    peaks.map(|bytes| format!("{:.1}", bytes as f64 / MIB)).join(", ")
}

/// Where files lie, and where their copies do.
struct Rooms<'a> {
    from: &'a Path,
    to: &'a Path,
}

impl Rooms<'_> {
    /// Whether a file of this size and its copy find room.
    fn hold(&self, bytes: u64) -> Result<bool> {
        let there_is = |folder: &Path| -> Result<u64> {
            let stat = rustix::fs::statvfs(folder)?;
            Ok(stat.f_bavail * stat.f_frsize)
        };
        let same = fs::metadata(self.from)?.dev() == fs::metadata(self.to)?.dev();
        let needed = if same { 2 * bytes } else { bytes } + SPARE;
        Ok(there_is(self.from)? >= needed && there_is(self.to)? >= needed)
    }

    /// A new file, which the disk is done with.
    fn source(&self, name: &str, seed: u64, len: u64) -> Result<PathBuf> {
        let path = self.from.join(name);
        data::write_random(&path, seed, len);
        File::open(&path)?.sync_all()?;
        Ok(path)
    }
}
