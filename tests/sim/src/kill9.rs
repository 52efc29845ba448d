//! Real daemons over loopback, on a real file system, killed at random moments.
//!
//! One transfer after the other, by a command that waits for its end. While it runs, one side or both are killed,
//! at moments that are drawn as bytes that have passed between them, and started again; sometimes they are killed
//! once more while they start. In the end the command has to succeed, the file has to be there once, equal to what
//! was sent, and nothing else may be left.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use p2p_tests::{
    Daemon, Pair, Relay,
    cli::Running,
    daemon::Place,
    data::{self, MIB},
    words,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Bytes per second between the daemons, so that there is time to kill them.
const RATE: u64 = 24 * MIB;
/// A file up to this length has its File ID when it is offered.
const HASHED_FIRST: u64 = 8 * MIB;
/// A daemon that is killed while it starts is killed within this.
const START: Duration = Duration::from_millis(40);
/// How often it is looked whether the moment has come.
const LOOK: Duration = Duration::from_micros(200);

/// What to run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Kills to be made at least.
    #[arg(long, default_value_t = 300)]
    pub rounds: u64,
    /// What sizes, sides and moments follow from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the daemons' homes, sources and inboxes are made; the folder for temporary files by default.
    #[arg(long)]
    pub folder: Option<PathBuf>,
}

/// What was done, by name.
type Counts = BTreeMap<String, u64>;

struct Run {
    pair: Pair,
    to_a: Relay,
    to_b: Relay,
    rng: StdRng,
    counts: Counts,
    kills: u64,
    /// Every file that was received, and its File ID.
    received: Vec<(PathBuf, String)>,
}

/// Kills daemons until it was done often enough, and says what was done.
///
/// # Panics
/// Something was lost, or is there that should not be.
pub fn run(options: &Options) {
    println!("seed {}", options.seed);
    let folder = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = fs::canonicalize(folder).expect("the folder is there");
    let begun = Instant::now();
    let mut run = Run::new(&folder, options.seed);
    while run.kills < options.rounds {
        run.transfer();
    }
    run.check();
    let bytes: u64 = run.received.iter().map(|(path, _)| fs::metadata(path).unwrap().len()).sum();
    println!(
        "{} kills, {} transfers, {} MiB, {:.0} s, in {}",
        run.kills,
        run.received.len(),
        bytes >> 20,
        begun.elapsed().as_secs_f64(),
        folder.display()
    );
    for (what, count) in &run.counts {
        println!("{count:6} {what}");
    }
    println!("every file equals its File ID, and nothing else is left");
}

impl Run {
    fn new(folder: &Path, seed: u64) -> Self {
        let daemon = |name| Daemon::start_in(name, Place::below(folder));
        let pair = Pair::of(daemon("a"), daemon("b"));
        let (to_a, to_b) = (Relay::to(pair.a.address()), Relay::to(pair.b.address()));
        to_a.set_rate(RATE);
        to_b.set_rate(RATE);
        let rng = StdRng::seed_from_u64(seed);
        Self { pair, to_a, to_b, rng, counts: Counts::new(), kills: 0, received: Vec::new() }
    }

    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    fn passed(&self) -> u64 {
        self.to_a.passed() + self.to_b.passed()
    }

    /// One transfer from `a` to `b`, with kills in it.
    fn transfer(&mut self) {
        let number = self.received.len() as u64;
        let name = format!("{number}.bin");
        let len = match self.rng.random_range(0..4) {
            0 => self.rng.random_range(0..MIB),
            1 => self.rng.random_range(MIB..HASHED_FIRST),
            _ => self.rng.random_range(HASHED_FIRST..3 * HASHED_FIRST),
        };
        let file = self.pair.a.new_file(&name, number, len);
        let id = data::file_id(&file);
        let mut command = if self.rng.random_bool(0.4) {
            self.count("fetches");
            let shared = self.pair.a.cli().run(words!["share", file]).success().text();
            assert_eq!(shared, id);
            self.pair.b.cli().start_json(words!["fetch", id, "--from", self.to_a.address()])
        } else {
            self.count(if len > HASHED_FIRST { "sends without a File ID" } else { "sends with a File ID" });
            self.pair.a.cli().start_json(words!["send", file, "--to", self.to_b.address()])
        };
        for _ in 0..self.rng.random_range(1..=4) {
            // A little more than there is, so that some moments are those at the end.
            let moment = self.passed() + self.rng.random_range(0..=len + len / 8 + 1000);
            let ended = self.wait(&mut command, moment);
            self.kill();
            if ended {
                break;
            }
        }
        let output = command.finish().success();
        let path = self.pair.b.inbox().join(&name);
        data::assert_same(&file, &path);
        assert_eq!(output.event("done")["file_id"], id, "{output}");
        self.received.push((path, id));
        fs::remove_file(file).unwrap();
    }

    /// Waits until so many bytes have passed, or the command has ended; whether it has.
    fn wait(&self, command: &mut Running, moment: u64) -> bool {
        loop {
            if command.has_ended() {
                return true;
            }
            if self.passed() >= moment {
                return false;
            }
            thread::sleep(LOOK);
        }
    }

    fn kill(&mut self) {
        let side = self.rng.random_range(0..3);
        let sides = [side != 1, side != 0];
        self.count(["kills of the provider", "kills of the receiver", "kills of both"][side]);
        let again = self.rng.random_bool(0.3);
        let after = START.mul_f64(self.rng.random());
        let daemons = [&mut self.pair.a, &mut self.pair.b];
        for (daemon, _) in daemons.into_iter().zip(sides).filter(|(_, is_killed)| *is_killed) {
            daemon.kill9();
            self.kills += 1;
            if again {
                daemon.start_and_kill9(after);
                self.kills += 1;
            }
            daemon.start_again();
        }
        if again {
            self.count("of these, killed again while starting");
        }
    }

    /// Checks everything, once all is done.
    fn check(&self) {
        let Pair { a, b } = &self.pair;
        b.settled();
        for (path, id) in &self.received {
            assert_eq!(&data::file_id(path), id, "{}", path.display());
        }
        assert_eq!(b.received().len(), self.received.len(), "{:?}", b.received());
        assert!(b.partials().is_empty(), "{:?}", b.partials());
        for daemon in [a, b] {
            assert!(!daemon.log().contains("panicked"), "a daemon panicked");
        }
    }
}
