//! A disk that counts what is asked of it, fails on demand, and can lose what was not synced.
//!
//! What programs see are real files in a temporary folder: they are the page cache. Beside them the disk keeps
//! what is on stable storage, as far as that differs (`data`, `names`). When the power fails, the real files are
//! changed to what a disk could have: of all that was not synced, any subset, and of a write any part. What is
//! the same already is not touched, so that it also has the times it had.
//!
//! It is stricter than most file systems: syncing a new file does not sync its name, and names may reach the disk
//! in any order. [`Loss::Journal`] keeps their order, as a journal does. What it cannot do is to turn a file's
//! change time back.

mod calls;
mod data;
mod faults;
mod model;
mod names;
mod sqlite;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

pub use faults::{Fault, Op, Operation, Which};

use faults::Faults;
use model::Model;
use sqlite::Vfs;

/// What is lost when the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All that was not synced.
    Everything,
    /// Any part of what was not synced: of data and of names, in any order.
    AnySubset,
    /// Any part of the data; of what was done to names, all from some moment on.
    Journal,
}

/// A simulated disk, with files of its own. It goes with its last owner.
#[derive(Debug)]
pub struct SimDisk {
    shared: Arc<Shared>,
    vfs: Vfs,
}

/// What the disk's SQLite files share with it.
#[derive(Debug)]
struct Shared {
    home: TempDir,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    model: Model,
    /// Files of SQLite's that a restart finds empty: shared memory.
    volatile: Vec<PathBuf>,
    rng: StdRng,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A path as it is noted.
    fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.home.path()).unwrap_or(path).to_owned()
    }
}

/// Memory, where the system has a file system in it. What comes behind the prefix is drawn from the clock alone, which is the
/// same in every run: without the process's real number runs that go on beside each other would want the same name, and
/// the draw of another one would be missing in what follows from the seed.
fn fast_folder() -> TempDir {
    let prefix = format!("p2p-sim-{:010}-", rustix::process::getpid().as_raw_nonzero());
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix);
        builder
    };
    builder().tempdir_in("/dev/shm").or_else(|_| builder().tempdir()).unwrap()
}

impl SimDisk {
    /// An empty disk. What it draws by itself follows from the seed.
    pub fn new(seed: u64) -> Self {
        let home = fast_folder();
        let state = State {
            faults: Faults::default(),
            model: Model::default(),
            volatile: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
        };
        let shared = Arc::new(Shared { home, state: Mutex::new(state) });
        let vfs = Vfs::register(&shared);
        Self { shared, vfs }
    }

    /// The folder whose files are on this disk. What is put there by others than the disk's users is durable.
    pub fn root(&self) -> &Path {
        self.shared.home.path()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Operations that will fail.
    pub fn fail(&self, fault: Fault) {
        self.lock().faults.fail(fault);
    }

    /// No operation fails any more.
    pub fn heal(&self) {
        self.lock().faults.heal();
    }

    /// How many operations were made to fail.
    pub fn failed(&self) -> u64 {
        self.lock().faults.hit()
    }

    /// Lets so many operations that change something happen, and from then on no operation has any effect: the
    /// program was killed there, though it may not know.
    pub fn freeze_after(&self, changes: u64) {
        self.lock().faults.freeze_after(changes);
    }

    /// Whether the program was killed.
    pub fn is_frozen(&self) -> bool {
        self.lock().faults.is_frozen()
    }

    /// Operations have effects again.
    pub fn thaw(&self) {
        self.lock().faults.thaw();
    }

    /// How often each operation was asked for.
    pub fn counts(&self) -> BTreeMap<Op, u64> {
        self.lock().faults.counts.clone()
    }

    /// How many operations of some kinds were asked for.
    pub fn count(&self, pick: impl Fn(Op) -> bool) -> u64 {
        self.counts().into_iter().filter(|(op, _)| pick(*op)).map(|(_, count)| count).sum()
    }

    /// Notes operations from now on.
    pub fn keep_trace(&self) {
        self.lock().faults.trace.get_or_insert_default();
    }

    /// What was asked for, in order, since it is noted.
    pub fn trace(&self) -> Vec<Operation> {
        self.lock().faults.trace.clone().unwrap_or_default()
    }

    /// The same, and forgets it.
    pub fn take_trace(&self) -> Vec<Operation> {
        self.lock().faults.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How long each operation takes from now on. Nothing here waits: see [`SimDisk::take_delay`].
    pub fn set_delay(&self, delay: Duration) {
        self.lock().faults.delay = delay;
    }

    /// How long the operations since the last call have taken.
    pub fn take_delay(&self) -> Duration {
        std::mem::take(&mut self.lock().faults.owed)
    }

    /// Bytes that can still be stored, where that is not what the machine has.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.lock().faults.room = bytes;
    }

    /// Reads and writes stop short, at lengths that are drawn.
    pub fn set_short(&self, short: bool) {
        self.lock().faults.short = short;
    }

    /// Syncs say that they worked and do nothing.
    pub fn set_lies(&self, lies: bool) {
        self.lock().faults.lies = lies;
    }

    /// The power fails: what was not synced is lost, or not, and the disk works again. The programs that had
    /// files open are gone.
    ///
    /// # Errors
    /// Those of the real files.
    pub fn power_loss(&self, loss: Loss, rng: &mut dyn Rng) -> io::Result<()> {
        let mut state = self.lock();
        state.faults.thaw();
        for path in std::mem::take(&mut state.volatile) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        state.model.power_loss(self.root(), loss, rng)
    }
}
