//! The end: the weather clears, what is still wanted arrives, and then nothing may be left over.

use std::{
    collections::BTreeMap,
    fmt, fs,
    time::{Duration, Instant},
};

use p2p_protocol::control::{Direction, Request, State, Summary};
use p2p_tests::{data, relay::Weather};

use crate::{node::Node, world::World};

/// Everything that is wanted arrives within this in fair weather, or something hangs.
const SETTLES_WITHIN: Duration = Duration::from_secs(600);
/// How often what has failed is tried again in fair weather: what arrives makes room for more.
const ROUNDS: usize = 3;
/// What a sender says whose receiver's disk is full.
const NO_ROOM: &str = "not enough free space";
/// How often what is unfinished is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What it came to.
#[derive(Debug)]
pub(crate) struct Verdict {
    took: Duration,
    files: u64,
    bytes: u64,
    states: [(&'static str, usize); 2],
    failures: Vec<String>,
    peaks: Vec<u64>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states: Vec<_> = self.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let peaks: Vec<_> = self.peaks.iter().map(|bytes| format!("{} MiB", bytes >> 20)).collect();
        writeln!(
            f,
            "soak  settled in {:.0} s; transfers remembered: {}",
            self.took.as_secs_f64(),
            states.join(", ")
        )?;
        for (why, times) in counted(&self.failures) {
            writeln!(f, "soak  failed in bad weather, {times} times: {why}")?;
        }
        writeln!(
            f,
            "soak  {} files and folders of {} MiB in all, each equal to what was sent",
            self.files,
            self.bytes >> 20
        )?;
        writeln!(f, "soak  no partial, no list and no descriptor left over, no panic in a log")?;
        write!(f, "soak  most memory since the last start of each daemon: {}", peaks.join(", "))
    }
}

impl World {
    /// Lets everything come to its end, and looks at it.
    ///
    /// # Panics
    /// Something is not as it should be.
    pub(crate) fn settle(mut self) -> Verdict {
        let begun = Instant::now();
        for node in &mut self.nodes {
            node.relay.set(Weather::default());
            node.free();
            node.resume_all();
        }
        self.let_all_end(begun);
        // What failed in bad weather is sent again. A fetch may fail for good: its source may have changed.
        let failed = |node: &Node| {
            let mut lines = node.transfers();
            lines.retain(|line| line.state == State::Failed);
            lines
        };
        let why = |line: Summary| line.error.unwrap_or_default();
        let failures = self.nodes.iter().flat_map(failed).map(why).collect();
        for _ in 0..ROUNDS {
            for node in &self.nodes {
                for line in failed(node).into_iter().filter(|line| line.direction == Direction::Send) {
                    node.ask(&Request::Retry(vec![line.transfer])).expect("a daemon that runs retries");
                }
            }
            self.let_all_end(begun);
        }
        // All that ever failed for the small disk need not fit it at once.
        let is_too_much = |line: &Summary| line.error.as_ref().is_some_and(|why| why.contains(NO_ROOM));
        for (number, node) in self.nodes.iter().enumerate() {
            let mut lines = failed(node);
            lines.retain(|line| line.direction == Direction::Send && !is_too_much(line));
            assert!(lines.is_empty(), "daemon {number} cannot send this in fair weather: {lines:#?}");
        }
        // What is still waited for here was given up by the peer that sent it, and is given up here too; a transfer that
        // failed keeps what it has, for a retry, until it is cancelled.
        for node in &self.nodes {
            for line in node.transfers() {
                if matches!(line.state, State::Waiting | State::Active | State::Failed) {
                    node.ask(&Request::Cancel(line.transfer)).expect("a daemon that runs cancels");
                }
            }
        }
        while self.nodes.iter().any(|node| !node.unfinished().is_empty()) {
            self.must_be_within(begun);
            std::thread::sleep(LOOK);
        }
        for node in 0..self.nodes.len() {
            self.verify(node);
        }
        self.look(begun, failures)
    }

    /// Waits until nobody works on anything by himself.
    fn let_all_end(&mut self, begun: Instant) {
        while self.nodes.iter().any(|node| node.unfinished().iter().any(is_own)) {
            self.must_be_within(begun);
            // Room on the small disk.
            for node in 0..self.nodes.len() {
                self.verify(node);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn must_be_within(&self, begun: Instant) {
        let open = || self.nodes.iter().flat_map(Node::unfinished).collect::<Vec<_>>();
        assert!(begun.elapsed() < SETTLES_WITHIN, "these do not come to an end: {:#?}", open());
    }

    fn look(&mut self, begun: Instant, failures: Vec<String>) -> Verdict {
        let took = begun.elapsed();
        let mut states = [("done", 0), ("cancelled", 0)];
        let mut peaks = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            for line in node.transfers() {
                states[usize::from(line.state != State::Done)].1 += 1;
            }
            assert!(node.daemon.is_alive(), "daemon {number} has ended");
            let log = node.daemon.log();
            assert!(!log.contains("panicked"), "daemon {number} has panicked:\n{}", around(&log, "panicked"));
            assert_eq!(node.partials(), Vec::<std::path::PathBuf>::new(), "partials of daemon {number}");
            let home = node.daemon.place().home_path();
            let spooled = data::files_below(&home.join("spool"));
            assert!(spooled.is_empty(), "left in the spool of daemon {number}: {spooled:?}");
            let lists = fs::read_dir(home.join("lists")).expect("the home has a folder of lists");
            let unfinished =
                lists.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("tmp-"));
            assert_eq!(unfinished.count(), 0, "unfinished lists of daemon {number}");
            p2p_tests::until::until_true("all descriptors are closed", || {
                node.daemon.descriptors() <= node.descriptors
            });
            peaks.push(node.daemon.peak_memory());
        }
        Verdict { took, files: self.verified.0, bytes: self.verified.1, states, failures, peaks }
    }
}

/// Whether this daemon works on it by itself.
fn is_own(line: &Summary) -> bool {
    line.state == State::Active || matches!(line.direction, Direction::Send | Direction::Fetch)
}

/// The reasons, without their numbers, and how often each of them came.
fn counted(failures: &[String]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for why in failures {
        let words =
            why.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit() || c == '/'));
        *counted.entry(words.collect::<Vec<_>>().join(" ")).or_default() += 1;
    }
    counted
}

fn around(log: &str, word: &str) -> String {
    let lines = log.lines().enumerate().filter(|(_, line)| line.contains(word));
    lines.map(|(number, line)| format!("{}: {line}\n", number + 1)).collect()
}
