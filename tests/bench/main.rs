//! Measures `p2p fetch` side by side with what is installed here, on loopback, and prints medians and ratios.
//!
//!     cargo run --release -p p2p-tests --bin bench -- [--size MIB] [--rounds N] [--folder DIR]
//!
//! All take turns in one run, since only ratios within a run mean anything on a machine that others use too.
//! `p2p fetch` verifies and syncs; `cp` is followed by a sync of its copy; scp and rsync (over an sshd of the
//! benchmark's own, where one is installed) do neither.

use std::{
    ffi::OsString,
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use p2p_tests::{Daemon, Pair, data, until::until_true, words};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Options {
    bytes: u64,
    rounds: usize,
    folder: PathBuf,
}

fn options() -> Result<Options> {
    let mut options = Options { bytes: 1 << 30, rounds: 5, folder: std::env::temp_dir() };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or("each option takes a value")?;
        match flag.as_str() {
            "--size" => options.bytes = value.parse::<u64>()? << 20,
            "--rounds" => options.rounds = value.parse()?,
            "--folder" => options.folder = value.into(),
            _ => return Err(format!("unknown option {flag}").into()),
        }
    }
    Ok(options)
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

fn main() -> Result<()> {
    let options = options()?;
    // Homes, inboxes and copies all lie in one folder, on one file system.
    let room = tempfile::Builder::new().prefix("p2p-bench-").tempdir_in(&options.folder)?;
    let source = room.path().join("source.bin");
    data::write_random(&source, 1, options.bytes);
    let Pair { a, b } = Pair::new();
    let id = a.cli().run(words!["share", source]).success().text();
    let mut ways = vec![fetch(&id, a, b), copy(&source)];
    let sshd = Sshd::start(room.path())?;
    match &sshd {
        Some(sshd) => ways.extend(sshd.ways(&source)),
        None => println!("absent: sshd, so neither scp nor rsync"),
    }
    println!("{} MiB, {} rounds, in {}", options.bytes >> 20, options.rounds, options.folder.display());
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

fn done(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// An ssh daemon on loopback with keys of its own.
struct Sshd {
    child: Child,
    ssh: Vec<String>,
    port: u16,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sshd {
    fn start(room: &Path) -> Result<Option<Self>> {
        let program = Path::new("/usr/sbin/sshd");
        if !program.exists() {
            return Ok(None);
        }
        let (host, user) = (room.join("host"), room.join("user"));
        for key in [&host, &user] {
            done(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key))?;
        }
        let allowed = room.join("allowed");
        fs::copy(user.with_extension("pub"), &allowed)?;
        fs::set_permissions(&allowed, fs::Permissions::from_mode(0o600))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let setting = |name: &str, value: &str| [OsString::from("-o"), format!("{name}={value}").into()];
        let mut child = Command::new(program)
            .args(["-D", "-f", "/dev/null", "-p", &port.to_string(), "-h"])
            .arg(&host)
            .args(setting("ListenAddress", "127.0.0.1"))
            .args(setting("AuthorizedKeysFile", &allowed.to_string_lossy()))
            .args(setting("Subsystem", "sftp internal-sftp"))
            .args(setting("StrictModes", "no"))
            .args(setting("PidFile", "none"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut ended = false;
        until_true("sshd listens", || {
            ended = !matches!(child.try_wait(), Ok(None));
            ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        if ended {
            println!("sshd does not start (it may want the folder /run/sshd)");
            return Ok(None);
        }
        let ssh =
            ["-q", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
                .into_iter()
                .map(str::to_owned)
                .chain(["-i".to_owned(), user.to_string_lossy().into_owned()])
                .collect();
        Ok(Some(Self { child, ssh, port }))
    }

    fn ways(&self, source: &Path) -> Vec<Way> {
        let from = format!("127.0.0.1:{}", source.display());
        let (ssh, port, remote) = (self.ssh.clone(), self.port.to_string(), from.clone());
        let scp = move |to: &Path| done(Command::new("scp").args(&ssh).args(["-P", &port, &remote]).arg(to));
        let shell = format!("ssh {} -p {}", self.ssh.join(" "), self.port);
        let rsync =
            move |to: &Path| done(Command::new("rsync").args(["--whole-file", "-e", &shell, &from]).arg(to));
        let mut ways = vec![Way::new("scp", scp)];
        if Command::new("rsync").arg("--version").output().is_ok() {
            ways.push(Way::new("rsync", rsync));
        } else {
            println!("absent: rsync");
        }
        ways
    }
}
