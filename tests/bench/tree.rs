//! A folder of many files, on loopback: p2p beside rsync and scp over ssh, and beside a local copy. Then the same folder
//! again, a few of its files changed, beside rsync over the copy that is there.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use p2p_tests::{Daemon, Pair, daemon::Place, data, tmpfs, words};
use serde_json::{Value, json};

use crate::{
    Result, done, is_installed, machine::Machine, rest, save, server::free_address, ssh::Sshd, supervisor,
    usage,
};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many files, a hundred in a folder.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    files: u64,
    /// Bytes of each.
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    len: u64,
    /// How often each way takes its turn.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where the folder and its copies lie. [default: /dev/shm, else the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Writes what was measured to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

type Run<'a> = dyn Fn(&Path) -> Result<()> + 'a;

/// One way to move the folder.
struct Way<'a> {
    name: &'static str,
    /// Leaves a copy at the path given.
    run: Box<Run<'a>>,
    times: Vec<Duration>,
}

impl<'a> Way<'a> {
    fn new(name: &'static str, run: impl Fn(&Path) -> Result<()> + 'a) -> Self {
        Self { name, run: Box::new(run), times: Vec::new() }
    }

    fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    const MEMORY: &str = "/dev/shm";
    let in_memory = || if tmpfs::is_at(MEMORY) { MEMORY.into() } else { supervisor::temporary() };
    let folder = options.folder.clone().unwrap_or_else(in_memory);
    let room = supervisor::folder_in(&folder)?;
    let room = room.path();
    let source = room.join("tree");
    make(&source, options)?;
    let machine = Machine::this();
    println!("{machine}");
    println!(
        "{} files of {} bytes, {} rounds, in {}",
        options.files,
        options.len,
        options.rounds,
        folder.display()
    );
    let inbox = room.join("inbox");
    let pair = Pair::of(Daemon::start("a"), Daemon::start_in("b", Place::new().inbox(&inbox)));
    let id = pair.a.cli().run(words!["share", source]).success().text();
    let address = free_address()?;
    let ready = |_: &Child| TcpStream::connect(address).is_ok();
    let sshd = Sshd::start(room, address, |program| Command::new(program), ready)?;
    let mut ways = ways(&pair, &id, &source, &inbox, sshd.as_ref());
    for daemon in [&pair.a, &pair.b] {
        usage::forget_peak(daemon);
    }
    for round in 0..options.rounds {
        for way in &mut ways {
            let to = room.join(format!("copy-{round}"));
            let begun = Instant::now();
            (way.run)(&to)?;
            way.times.push(begun.elapsed());
            assert_same_tree(&source, &to);
            fs::remove_dir_all(&to)?;
        }
    }
    let mut rows = print("the whole", &ways);
    let peaks = [pair.a.peak_memory(), pair.b.peak_memory()];
    println!("most memory of the daemons: {} MiB sending, {} MiB receiving", peaks[0] >> 20, peaks[1] >> 20);
    drop(ways);
    let mut again = again(&pair, &source, &inbox, room, sshd.as_ref(), options)?;
    rows.append(&mut again);
    let all = json!({
        "machine": machine.json(), "files": options.files, "bytes_each": options.len,
        "folder": folder.display().to_string(), "peak_memory": peaks, "ways": rows,
    });
    save(options.json.as_deref(), &all)
}

fn make(source: &Path, options: &Options) -> Result<()> {
    let mut last = source.to_owned();
    for number in 0..options.files {
        let folder = source.join(format!("{}", number / 100));
        fs::create_dir_all(&folder)?;
        last = folder.join(format!("{number}.bin"));
        fs::write(&last, data::random(number, options.len))?;
    }
    rest(&last)
}

fn ways<'a>(
    pair: &'a Pair,
    id: &'a str,
    source: &'a Path,
    inbox: &'a Path,
    sshd: Option<&'a Sshd>,
) -> Vec<Way<'a>> {
    let mut ways = vec![
        Way::new("p2p fetch", move |to| {
            done(&mut pair.b.cli().command(words!["fetch", id, "--from", pair.a.address(), "-o", to]))
        }),
        Way::new("p2p send", move |to| {
            done(&mut pair.a.cli().command(words!["send", source, "--to", pair.b.address()]))?;
            Ok(fs::rename(inbox.join("tree"), to)?)
        }),
        Way::new("cp -r", move |to| done(Command::new("cp").arg("-a").arg(source).arg(to))),
    ];
    if let Some(sshd) = sshd {
        ways.push(Way::new("scp -r", move |to| {
            done(Command::new("scp").arg("-r").args(sshd.scp(source)).arg(to))
        }));
        if is_installed("rsync") {
            ways.push(Way::new("rsync -a", move |to| rsync(sshd, source, to)));
        }
    }
    ways
}

fn rsync(sshd: &Sshd, source: &Path, to: &Path) -> Result<()> {
    let from = format!("{}/", sshd.remote(source));
    done(Command::new("rsync").args(["-a", "-e", &sshd.shell(), &from]).arg(to))
}

/// Every round changes one file in a hundred. rsync works on the copy that it made; p2p leaves a new one beside the old.
fn again(
    pair: &Pair,
    source: &Path,
    inbox: &Path,
    room: &Path,
    sshd: Option<&Sshd>,
    options: &Options,
) -> Result<Vec<Value>> {
    let send = |_: &Path| done(&mut pair.a.cli().command(words!["send", source, "--to", pair.b.address()]));
    let copy = room.join("rsynced");
    let mut ways = vec![Way::new("p2p send", send)];
    if let Some(sshd) = sshd.filter(|_| is_installed("rsync")) {
        rsync(sshd, source, &copy)?;
        ways.push(Way::new("rsync -a", move |to| rsync(sshd, source, to)));
    }
    send(&copy)?;
    for round in 0..options.rounds {
        for number in (0..options.files).step_by(100) {
            let path = source.join(format!("{}/{number}.bin", number / 100));
            // Another length, as rsync tells by that and by whole seconds.
            let len = options.len + 1 + u64::from(round);
            fs::write(path, data::random(options.files + number, len))?;
        }
        for way in &mut ways {
            let begun = Instant::now();
            (way.run)(&copy)?;
            way.times.push(begun.elapsed());
        }
        let newest = inbox.join("tree (1)");
        assert_same_tree(source, &newest);
        fs::remove_dir_all(inbox.join("tree"))?;
        fs::rename(newest, inbox.join("tree"))?;
    }
    Ok(print("again, one file in a hundred changed", &ways))
}

fn assert_same_tree(left: &Path, right: &Path) {
    let below = |root: &Path| {
        let files = data::files_below(root);
        files.iter().filter_map(|path| Some(path.strip_prefix(root).ok()?.to_owned())).collect::<Vec<_>>()
    };
    let (mut here, mut there) = (below(left), below(right));
    here.sort();
    there.sort();
    assert_eq!(here, there);
    here.iter().for_each(|path| data::assert_same(&left.join(path), &right.join(path)));
}

fn print(what: &str, ways: &[Way<'_>]) -> Vec<Value> {
    println!("{what}:");
    let first = ways.first().map_or(Duration::ZERO, Way::median);
    let row = |way: &Way<'_>| {
        let ratio = way.median().as_secs_f64() / first.as_secs_f64();
        println!("{:<12}{:>9.3} s{:>8.2}", way.name, way.median().as_secs_f64(), ratio);
        json!({
            "what": what, "name": way.name, "median_seconds": way.median().as_secs_f64(),
            "seconds": way.times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(), "ratio": ratio,
        })
    };
    ways.iter().map(row).collect()
}
