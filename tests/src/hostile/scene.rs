//! Where a hostile peer does its work, and what must be true afterwards.

use std::path::PathBuf;

use p2p_protocol::limits::{CONNECTION_WINDOW, OUTGOING_BUDGET, UNVERIFIED_BUDGET};

use super::Hostile;
use crate::{Daemon, data, trust_each_other, words};

/// What an attacked daemon may have grown by, whatever was done to it by one peer on one connection: what may be
/// unverified, what one connection may hold unread, and what is read to be sent.
const MEMORY: u64 = UNVERIFIED_BUDGET + CONNECTION_WINDOW + OUTGOING_BUDGET / 4;
/// Descriptors that it may have open: a few for each of the transfers that a test begins.
const DESCRIPTORS: usize = 192;

/// A daemon that trusts a hostile peer, and an honest one beside it.
#[derive(Debug)]
pub struct Scene {
    /// The daemon that is attacked.
    pub victim: Daemon,
    /// A daemon that it also talks to.
    pub honest: Daemon,
    /// The one who attacks.
    pub hostile: Hostile,
    /// What was there before.
    before: Vec<PathBuf>,
    /// The memory that the victim had before, in bytes.
    memory: u64,
    /// What it may grow by.
    bound: u64,
}

impl Scene {
    /// Three peers, of whom the victim trusts the two others. Must be called inside a tokio run-time.
    pub fn new() -> Self {
        let scene = Self::with_stranger();
        scene
            .victim
            .cli()
            .run(words!["peers", "trust", scene.hostile.peer_id(), "--name", "hostile"])
            .success();
        scene
    }

    /// The same with a hostile peer that the victim does not know.
    pub fn with_stranger() -> Self {
        let (victim, honest) = (Daemon::start("victim"), Daemon::start("honest"));
        trust_each_other(&[&victim, &honest]);
        let before = outside(&victim);
        let memory = victim.resident_memory();
        Self { victim, honest, hostile: Hostile::new(), before, memory, bound: MEMORY }
    }

    /// Lets the victim's memory grow by this much, for an attack by more than one connection.
    pub fn allow_memory(&mut self, bound: u64) {
        self.bound = bound;
    }

    /// Fails unless the victim lives, has logged these words, has written nothing outside its inbox and home, has kept
    /// within its memory all the time, and still takes a file from the honest peer.
    pub fn check(&mut self, logged: &[&str]) {
        let seed = 0xbeef;
        let file = self.honest.new_file("honest.bin", seed, 3 * data::CHUNK + 17);
        self.honest.cli().json(words!["send", file, "--to", self.victim.address()]).success();
        let received = self.victim.received();
        let arrived = received.iter().find(|path| path.ends_with("honest.bin"));
        data::assert_same(&file, arrived.unwrap_or_else(|| panic!("honest.bin is not among {received:?}")));
        for words in logged {
            self.victim.wait_for_log(words);
        }
        assert!(self.victim.is_alive(), "the attacked daemon has ended");
        assert!(!self.victim.log().contains("panicked"), "the attacked daemon has panicked");
        assert_eq!(outside(&self.victim), self.before, "files outside inbox and home");
        let grown = self.victim.peak_memory().saturating_sub(self.memory);
        assert!(grown < self.bound, "{grown} bytes of memory more, at most");
        let descriptors = self.victim.descriptors();
        assert!(descriptors < DESCRIPTORS, "{descriptors} descriptors are open");
        for path in data::files_below(self.victim.inbox()) {
            assert!(!path.is_symlink(), "{} is a link", path.display());
        }
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

/// Files below a daemon's root that lie neither in its home nor in its inbox.
fn outside(daemon: &Daemon) -> Vec<PathBuf> {
    let (home, inbox) = (daemon.place().home_path(), daemon.inbox());
    let files = data::files_below(daemon.place().root());
    files.into_iter().filter(|path| !path.starts_with(home) && !path.starts_with(inbox)).collect()
}
