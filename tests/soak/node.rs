//! One daemon and what belongs to it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use p2p_protocol::control::{Event, Request, State, Summary, WaitReason};
use p2p_tests::{Daemon, Relay, control, daemon::Place, data, data::MIB, tmpfs::Tmpfs, words};

use crate::{pool::Pool, random::Random};

/// Size of the small disk: all that comes fits at a time, but not beside what fills it.
const SMALL_DISK: u64 = 384 * MIB;

/// A daemon, the way to it, its disk and its files.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    pub(crate) relay: Relay,
    pub(crate) pool: Pool,
    /// Another folder that it fetches to.
    pub(crate) out: PathBuf,
    /// Descriptors that it has when it does nothing.
    pub(crate) descriptors: usize,
    disk: Option<Tmpfs>,
    ballast: Option<PathBuf>,
}

impl Node {
    /// A new daemon, whose inbox is on a small disk of its own if that is wanted and allowed.
    pub(crate) fn new(number: usize, on_small_disk: bool, random: &mut Random) -> Self {
        let disk = if on_small_disk { Tmpfs::mount(SMALL_DISK) } else { None };
        let place = match &disk {
            Some(disk) => Place::new().inbox(disk.path().join("inbox")),
            None => Place::new(),
        };
        let daemon = Daemon::start_in(&format!("n{number}"), place);
        let relay = Relay::to(daemon.address());
        let out = daemon.place().root().join("out");
        fs::create_dir(&out).expect("a folder to fetch to");
        let pool = Pool::new(&daemon.place().root().join("files"), number, random);
        daemon.cli().run(words!["status"]).success();
        let descriptors = daemon.descriptors();
        Self { daemon, relay, pool, out, descriptors, disk, ballast: None }
    }

    pub(crate) fn ask(&self, request: &Request) -> io::Result<Vec<Event>> {
        control::ask(self.daemon.place().home_path(), request)
    }

    /// All transfers that it remembers.
    pub(crate) fn transfers(&self) -> Vec<Summary> {
        let summary = |event| match event {
            Event::Summary(summary) => Some(summary),
            _ => None,
        };
        let listed = self.ask(&Request::List).expect("a daemon that runs lists its transfers");
        listed.into_iter().filter_map(summary).collect()
    }

    pub(crate) fn unfinished(&self) -> Vec<Summary> {
        let is_open = |line: &Summary| matches!(line.state, State::Waiting | State::Active);
        self.transfers().into_iter().filter(is_open).collect()
    }

    /// Fills its disk, or makes room again. False where it has none of its own.
    pub(crate) fn fill_or_free(&mut self) -> bool {
        let Some(disk) = &self.disk else { return false };
        match self.ballast.take() {
            Some(ballast) => fs::remove_file(ballast).expect("what fills the disk can be removed"),
            None => self.ballast = Some(disk.fill()),
        }
        true
    }

    pub(crate) fn free(&mut self) {
        if self.ballast.is_some() {
            self.fill_or_free();
        }
    }

    /// The folders that files arrive in.
    pub(crate) fn destinations(&self) -> [&Path; 2] {
        [self.daemon.inbox(), &self.out]
    }

    /// Files and folders that have arrived.
    pub(crate) fn arrived(&self) -> Vec<PathBuf> {
        let entries = self.destinations().into_iter().filter_map(|folder| fs::read_dir(folder).ok());
        let mut paths: Vec<_> = entries.flatten().flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.file_name().is_some_and(|name| name != ".p2p"));
        paths.sort();
        paths
    }

    /// Lets everything go on that was paused.
    pub(crate) fn resume_all(&self) {
        for line in self.unfinished() {
            if line.waiting == Some(WaitReason::Paused) {
                self.ask(&Request::Resume(line.transfer)).expect("a daemon that runs answers");
            }
        }
    }

    /// Files of transfers that are not finished.
    pub(crate) fn partials(&self) -> Vec<PathBuf> {
        self.destinations().into_iter().flat_map(|folder| data::files_below(&folder.join(".p2p"))).collect()
    }
}
