//! What is asked of the disk, counted, and what of it fails.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use rustix::io::Errno;

/// What can be asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// A file opened that is there.
    Open,
    /// A file made.
    Create,
    /// A folder made.
    MakeFolder,
    /// A folder removed.
    RemoveFolder,
    /// Permissions set.
    SetMode,
    /// Times set.
    SetTimes,
    /// A read.
    Read,
    /// A write.
    Write,
    /// A length set.
    SetLen,
    /// A hole punched.
    Punch,
    /// Space reserved.
    Reserve,
    /// A file's data synced.
    SyncData,
    /// A file synced.
    SyncAll,
    /// Everything on the disk synced.
    SyncFileSystem,
    /// A folder synced.
    SyncFolder,
    /// A rename that replaces nothing.
    RenameNew,
    /// A rename.
    Rename,
    /// A second name given.
    Link,
    /// A symbolic link made.
    MakeLink,
    /// A name removed.
    Unlink,
    /// A question for free space.
    Free,
    /// SQLite makes a file.
    DbCreate,
    /// SQLite opens a file that is there.
    DbOpen,
    /// SQLite reads.
    DbRead,
    /// SQLite writes.
    DbWrite,
    /// SQLite cuts a file.
    DbTruncate,
    /// SQLite syncs a file.
    DbSync,
    /// SQLite removes a file.
    DbDelete,
}

impl Op {
    /// Whether it changes what is on the disk, or what of it is durable.
    pub fn changes(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::Free | Self::DbOpen | Self::DbRead)
    }

    /// Whether SQLite asks for it.
    pub fn is_catalog(self) -> bool {
        use Op::{DbCreate, DbDelete, DbOpen, DbRead, DbSync, DbTruncate, DbWrite};
        matches!(self, DbCreate | DbOpen | DbRead | DbWrite | DbTruncate | DbSync | DbDelete)
    }

    /// Whether it may find the disk full.
    pub fn needs_space(self) -> bool {
        use Op::{Create, DbCreate, DbWrite, Link, MakeFolder, MakeLink, Rename, RenameNew, Reserve, Write};
        matches!(
            self,
            Write | Reserve | Create | MakeFolder | MakeLink | Link | Rename | RenameNew | DbCreate | DbWrite
        )
    }

    /// Whether a sync that fails loses what it should have made durable.
    pub fn is_sync(self) -> bool {
        matches!(
            self,
            Self::SyncData | Self::SyncAll | Self::SyncFileSystem | Self::SyncFolder | Self::DbSync
        )
    }
}

/// One operation, as it is noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was asked.
    pub op: Op,
    /// Of which file or folder, from the disk's root.
    pub path: PathBuf,
}

/// Which operations fail.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// All, reads too.
    Any,
    /// Those of a kind.
    Kind(Op),
    /// Those that change something.
    Changes,
    /// Those that a test of its own picks.
    Where(fn(Op) -> bool),
}

impl Which {
    fn fits(self, op: Op) -> bool {
        match self {
            Self::Any => true,
            Self::Kind(kind) => kind == op,
            Self::Changes => op.changes(),
            Self::Where(pick) => pick(op),
        }
    }
}

/// Operations that will fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which of them.
    pub which: Which,
    /// How many of them work before.
    pub after: u64,
    /// How many fail.
    pub times: u64,
    /// What they say.
    pub error: Errno,
}

/// What the program that runs on this disk knows nothing of.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) counts: BTreeMap<Op, u64>,
    pub(super) trace: Option<Vec<Operation>>,
    faults: Vec<Fault>,
    hit: u64,
    /// Operations that change something, until none of any kind works any more.
    freeze_after: Option<u64>,
    frozen: bool,
    pub(super) delay: Duration,
    pub(super) owed: Duration,
    /// Bytes that may still be taken.
    pub(super) room: Option<u64>,
    pub(super) short: bool,
    pub(super) lies: bool,
}

impl Faults {
    /// Counts an operation, and says whether it fails.
    pub(super) fn enter(&mut self, op: Op, path: impl FnOnce() -> PathBuf) -> io::Result<()> {
        if op.changes() && !self.frozen {
            match &mut self.freeze_after {
                Some(0) => self.frozen = true,
                Some(left) => *left -= 1,
                None => {}
            }
        }
        if self.frozen {
            return Err(Errno::IO.into());
        }
        *self.counts.entry(op).or_default() += 1;
        self.owed += self.delay;
        if let Some(trace) = &mut self.trace {
            trace.push(Operation { op, path: path() });
        }
        let mut error = None;
        for fault in self.faults.iter_mut().filter(|fault| fault.times > 0 && fault.which.fits(op)) {
            if fault.after > 0 {
                fault.after -= 1;
            } else if error.is_none() {
                fault.times -= 1;
                error = Some(fault.error);
            }
        }
        match error {
            Some(error) => {
                self.hit += 1;
                Err(error.into())
            }
            None => Ok(()),
        }
    }

    pub(super) fn fail(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn heal(&mut self) {
        self.faults.clear();
    }

    /// How many operations failed on purpose.
    pub(super) fn hit(&self) -> u64 {
        self.hit
    }

    pub(super) fn freeze_after(&mut self, changes: u64) {
        self.freeze_after = Some(changes);
    }

    pub(super) fn thaw(&mut self) {
        self.frozen = false;
        self.freeze_after = None;
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Takes space, if there is enough.
    pub(super) fn take(&mut self, bytes: u64) -> io::Result<()> {
        match &mut self.room {
            Some(room) if *room < bytes => Err(Errno::NOSPC.into()),
            Some(room) => {
                *room -= bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn give_back(&mut self, bytes: u64) {
        if let Some(room) = &mut self.room {
            *room += bytes;
        }
    }
}
