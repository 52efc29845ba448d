//! Which runs there are, and who makes them.

use std::{
    collections::BTreeMap,
    fmt,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::stage::{FROM, Moment, Ops, Played, Reference, TO, Trouble, play};
use crate::disk::Loss;

/// All runs of a reference begin with this.
const SEED: u64 = 7;

/// What the daemons panicked with.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What goes wrong at every point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Kind {
    /// Crashes at every change to a disk and at every packet.
    Crash,
    /// Every operation of a disk fails, every one of the catalog, and every packet is lost.
    Fail,
}

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What goes wrong; both by default.
    #[arg(long)]
    pub kind: Option<Kind>,
    /// Every how-manieth point.
    #[arg(long, default_value_t = 1)]
    pub every: u64,
    /// How many processes run at once.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64))]
    pub jobs: u64,
    /// Print every run.
    #[arg(long)]
    pub show: bool,
    /// Which of them this process is; it then prints a line of JSON.
    #[arg(long, hide = true)]
    pub part: Option<u64>,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What is moved.
    pub reference: Reference,
    /// What goes wrong.
    pub trouble: Trouble,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}", self.reference, self.trouble)
    }
}

/// What came of some runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// What was done, by name.
    pub counts: BTreeMap<String, u64>,
    /// What was wrong.
    pub problems: Vec<String>,
    #[serde(skip)]
    show: bool,
}

impl Summary {
    fn add(&mut self, what: impl Into<String>, count: u64) {
        if count > 0 {
            *self.counts.entry(what.into()).or_default() += count;
        }
    }

    /// Plays a case and notes what came of it.
    fn play(&mut self, case: Case) -> Played {
        let played = play(case.reference, case.trouble, SEED);
        if self.show {
            eprintln!("{case}: {played:?}");
        }
        let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
        for problem in played.problems.iter().chain(&panics) {
            self.problems.push(format!("{case}: {problem}"));
        }
        self.add("runs", 1);
        self.add("deaths", played.deaths);
        self.add("operations that failed, and packets lost", played.failed);
        if let Some(failure) = played.failure {
            self.add(format!("transfers that failed at first: {failure:?}"), 1);
        }
        played
    }

    fn merge(&mut self, other: Self) {
        for (what, count) in other.counts {
            self.add(what, count);
        }
        self.problems.extend(other.problems);
    }
}

/// Takes part in all runs: this process is one of `options.jobs`. It is the process's only use from then on.
pub fn run_part(options: &Options, part: u64) -> Summary {
    std::panic::set_hook(Box::new(|info| {
        let what = format!("{info} in {:?}", std::thread::current().name());
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }));
    let mut summary = Summary { show: options.show, ..Summary::default() };
    let mut lot = Lot { every: options.every.max(1), jobs: options.jobs.max(1), part, next: 0 };
    for reference in Reference::ALL {
        let untroubled = summary.play(Case { reference, trouble: Trouble::None });
        if part == 0 {
            let [from, to] = untroubled.changes;
            summary.add(format!("{reference:?}: changes to the provider's disk"), from);
            summary.add(format!("{reference:?}: changes to the receiver's disk"), to);
            summary.add(format!("{reference:?}: packets"), untroubled.packets);
        }
        if options.kind != Some(Kind::Fail) {
            crashes(reference, &untroubled, &mut lot, &mut summary);
        }
        if options.kind != Some(Kind::Crash) {
            failures(reference, &untroubled, &mut lot, &mut summary);
        }
    }
    summary
}

/// Which points are this process's.
struct Lot {
    every: u64,
    jobs: u64,
    part: u64,
    next: u64,
}

impl Lot {
    /// The points, from this process's first one on.
    fn points(&mut self) -> impl Iterator<Item = u64> + use<> {
        let (every, jobs) = (self.every, self.jobs);
        // With another first point each time, so that a sample is one of everything.
        self.next += 1;
        let first = self.next * 5 % every + (self.part + self.next) % jobs * every;
        (first..).step_by((every * jobs) as usize)
    }
}

fn crashes(reference: Reference, untroubled: &Played, lot: &mut Lot, summary: &mut Summary) {
    for host in [FROM, TO] {
        for loss in [Some(Loss::Everything), Some(Loss::AnySubset)] {
            let changes = untroubled.changes[host];
            for change in lot.points().take_while(|change| *change < changes) {
                let trouble = Trouble::Crash { host, at: Moment::Change(change), loss };
                summary.play(Case { reference, trouble });
            }
        }
        // Between two packets nothing else is done to a disk than between two changes to it: once is enough.
        for packet in lot.points().take_while(|packet| *packet < untroubled.packets) {
            let loss = [None, Some(Loss::Everything), Some(Loss::Journal)][(packet % 3) as usize];
            let trouble = Trouble::Crash { host, at: Moment::Packet(packet), loss };
            summary.play(Case { reference, trouble });
        }
    }
}

fn failures(reference: Reference, untroubled: &Played, lot: &mut Lot, summary: &mut Summary) {
    const DISK: [(Ops, Errno); 5] = [
        (Ops::Files, Errno::IO),
        (Ops::FilesThatNeedSpace, Errno::NOSPC),
        (Ops::ReadsAndWrites, Errno::INTR),
        (Ops::Catalog, Errno::IO),
        (Ops::CatalogThatNeedsSpace, Errno::NOSPC),
    ];
    for host in [FROM, TO] {
        for (ops, error) in DISK {
            for after in lot.points() {
                let trouble = Trouble::Fail { host, ops, after, error };
                // Until a run sees no failure.
                if summary.play(Case { reference, trouble }).failed == 0 {
                    break;
                }
            }
        }
    }
    for packet in lot.points().take_while(|packet| *packet < untroubled.packets) {
        summary.play(Case { reference, trouble: Trouble::Lose(packet) });
    }
}

/// Runs everything, in several processes, and says what came of it; whether all was well.
pub fn run(options: &Options) -> bool {
    if let Some(part) = options.part {
        println!("{}", serde_json::to_string(&run_part(options, part)).unwrap());
        return true;
    }
    let begun = Instant::now();
    let mut children = Vec::new();
    for part in 0..options.jobs.max(1) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("everywhere").args(options.kind.map(|kind| format!("--kind={kind:?}").to_lowercase()));
        command.arg(format!("--every={}", options.every)).arg(format!("--jobs={}", options.jobs));
        command.args(options.show.then_some("--show"));
        command.arg(format!("--part={part}")).stdin(Stdio::null()).stdout(Stdio::piped());
        children.push(command.spawn().unwrap());
    }
    let mut summary = Summary::default();
    for child in children {
        let ended = child.wait_with_output().unwrap();
        match serde_json::from_slice(&ended.stdout) {
            Ok(part) => summary.merge(part),
            Err(_) => summary.problems.push(format!("a process ended without a summary: {}", ended.status)),
        }
    }
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    for (what, count) in &summary.counts {
        println!("{count:>8} {what}");
    }
    summary.problems.iter().for_each(|problem| println!("problem: {problem}"));
    println!("{} problems", summary.problems.len());
    summary.problems.is_empty()
}
