//! `p2p fetch` beside what else copies files, on loopback: medians, and ratios to p2p.
//!
//! `p2p fetch` verifies and syncs; `cp` is followed by a sync of its copy; scp and rsync (over an sshd of the
//! benchmark's own, where one is installed) do neither.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use p2p_tests::{Daemon, Pair, data, words};

use crate::{Result, done, is_installed, ssh::Sshd};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Size of the file, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    size: u64,
    /// How often each way takes its turn.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where the file and its copies lie. [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

type Run = dyn Fn(&Path) -> Result<()>;

/// One way to move the file. It runs once and leaves the copy at the path given.
struct Way {
    name: &'static str,
    run: Box<Run>,
    times: Vec<Duration>,
    broken: bool,
}

impl Way {
    fn new(name: &'static str, run: impl Fn(&Path) -> Result<()> + 'static) -> Self {
        Self { name, run: Box::new(run), times: Vec::new(), broken: false }
    }
}

/// The name of the way that all others are compared with.
const P2P: &str = "p2p fetch";

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    // Homes, inboxes and copies all lie in one folder, on one file system.
    let room = tempfile::Builder::new().prefix("p2p-bench-").tempdir_in(&folder)?;
    let source = room.path().join("source.bin");
    data::write_random(&source, 1, options.size << 20);
    let Pair { a, b } = Pair::new();
    let id = a.cli().run(words!["share", source]).success().text();
    let mut ways = vec![fetch(&id, a, b), copy(&source)];
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    // It lives as long as the ways that use it.
    let sshd = Sshd::start(
        room.path(),
        address,
        |program| Command::new(program),
        |_| TcpStream::connect(address).is_ok(),
    )?;
    ways.extend(sshd.iter().flat_map(|sshd| over_ssh(sshd, &source)));
    println!("{} MiB, {} rounds, in {}", options.size, options.rounds, folder.display());
    for round in 0..options.rounds {
        for way in ways.iter_mut().filter(|way| !way.broken) {
            let to = room.path().join(format!("{}-{round}", way.name.replace(' ', "-")));
            let begun = Instant::now();
            match (way.run)(&to) {
                Ok(()) => way.times.push(begun.elapsed()),
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
    report(&mut ways);
    Ok(())
}

fn report(ways: &mut [Way]) {
    let medians: Vec<f64> = ways
        .iter_mut()
        .map(|way| {
            way.times.sort();
            way.times[way.times.len() / 2].as_secs_f64()
        })
        .collect();
    println!("{:<12}{:>10}{:>22}", "", "median", "times that of p2p");
    for (way, median) in ways.iter().zip(&medians) {
        println!("{:<12}{median:>8.2} s{:>22.2}", way.name, median / medians[0]);
    }
}

fn fetch(id: &str, a: Daemon, b: Daemon) -> Way {
    let id = id.to_owned();
    let run = move |to: &Path| {
        b.cli().run(words!["fetch", id, "--from", a.address(), "-o", to]).success();
        Ok(())
    };
    Way::new(P2P, run)
}

fn copy(source: &Path) -> Way {
    let source = source.to_owned();
    let run = move |to: &Path| {
        done(Command::new("cp").arg("--reflink=never").arg(&source).arg(to))?;
        Ok(fs::File::open(to)?.sync_all()?)
    };
    Way::new("cp and sync", run)
}

fn over_ssh(sshd: &Sshd, source: &Path) -> Vec<Way> {
    let words = sshd.scp(source);
    let scp = move |to: &Path| done(Command::new("scp").args(&words).arg(to));
    let mut ways = vec![Way::new("scp", scp)];
    if is_installed("rsync", "--version") {
        let (shell, from) = (sshd.shell(), sshd.remote(source));
        let rsync =
            move |to: &Path| done(Command::new("rsync").args(["--whole-file", "-e", &shell, &from]).arg(to));
        ways.push(Way::new("rsync", rsync));
    } else {
        println!("absent: rsync");
    }
    ways
}
