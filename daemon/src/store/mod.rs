//! Everything on disk: hashed sources, partial files, checkpoints, publishing, the catalog. All of it blocks;
//! async code calls it from blocking threads.
//!
//! # What a crash can do
//!
//! A chunk that counts as verified after a crash has the right bytes on stable storage, because of the order in
//! which a checkpoint works (see [`partial`] for what lies where, [`log`] for the records):
//!
//! 1. chunks are written; no record names them, so after a crash they do not count,
//! 2. the data is synced; the same holds,
//! 3. a record that names them is appended to the log; torn, its checksum rejects it and all after it,
//! 4. the log is synced; the chunks are durable, and their data was so before.
//!
//! After an unclean end even a whole record is only a hint: every chunk that a record or the data's extents
//! suggest is hashed again before it counts, so that damage to the files costs fetching, never a wrong
//! byte. Only an orderly end writes a record with the data file's stamp; while that fits, nothing is read.
//!
//! A failed sync takes back every chunk written since the last good one, those of the next window too: the
//! kernel reports an error once, for all pages, and forgets which. A record's claim on a chunk is withdrawn,
//! durably, before the chunk is written again, as otherwise the page cache could vouch for what is not on disk.
//!
//! Publishing syncs the data, renames without replacing, and syncs both folders; a crash leaves the partial or
//! the whole file. What it leaves besides is swept when the folder is next used.

mod catalog;
mod checkpoint;
mod cut;
mod data;
mod draft;
mod error;
mod excludes;
mod file_source;
mod folder;
mod folders;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hashing;
mod import;
mod layout;
mod left_over;

mod list;
mod log;
mod modes;
mod older;
mod only;
mod partial;
mod publish;
mod recover;
mod reuse;
mod shown;
mod shown_end;
mod shown_file;
mod source;
mod spool;
mod staging;
mod stamp;
#[cfg(test)]
mod tests;
mod tree_file;
mod tree_source;
mod walk;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub(crate) use catalog::{Catalog, JobRow, LogRow, Share, TicketClaim, TicketVerdict};
pub(crate) use error::StoreError;
pub(crate) use excludes::{ExcludeError, Excludes};
pub(crate) use file_source::ChunkData;
pub(crate) use import::Trust;
pub(crate) use layout::PartialKey;
pub(crate) use older::Older;
pub(crate) use only::{OnlyError, check_only, part_of};
pub(crate) use partial::Partial;
pub(crate) use publish::{PublishName, Published};
pub(crate) use recover::PartialSpec;
pub(crate) use shown::Show;
pub(crate) use source::{Chunk, Source};
pub(crate) use tree_source::Remark;

use crate::{
    disk::{Disk, PRIVATE_FOLDER, make_folders},
    workers::Workers,
};
use layout::{Home, LISTS};
use list::Lists;
use stamp::Stamp;

/// The store of one daemon; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    home: Home,
    disk: Arc<dyn Disk>,
    workers: Workers,
    catalog: Catalog,
    lists: Lists,
    /// Files that were sent and hashed at once, and that the hash cache did not take.
    sent: Mutex<VecDeque<Stamp>>,
    /// Permissions that the user's umask leaves to a new file.
    file_mode: u32,
}

impl Store {
    /// Opens the store in this home, which is made if need be. A damaged catalog is set aside and made anew.
    pub(crate) fn open(disk: Arc<dyn Disk>, workers: Workers, home: &Path) -> Result<Self, StoreError> {
        let home = Home::new(home);
        make_folders(&*disk, home.root(), PRIVATE_FOLDER)
            .map_err(StoreError::io("make the home", home.root()))?;
        let lists = Lists::open(&home, disk.clone());
        let lists = lists.map_err(StoreError::io("open the lists of chaining values", &home.lists()))?;
        let catalog = Catalog::open(&home, disk.clone())?;
        let file_mode = 0o777 & !umask();
        let sent = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { home, disk, workers, catalog, lists, sent, file_mode }) })
    }

    /// Jobs, shares, receipts and the hash cache.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.inner.catalog
    }

    /// The folder for standard input that is to be sent, and for what goes to standard output and is not kept.
    pub(crate) fn spool(&self) -> PathBuf {
        self.inner.home.spool()
    }

    /// Whether a path names a folder, through links too.
    pub(crate) fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    /// Whether a path names a file, through links too.
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    /// Whether a folder is one of these or lies below one, once all links are followed.
    pub(crate) fn is_in_one_of(&self, path: &Path, folders: &[PathBuf]) -> bool {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let path = real(path);
        folders.iter().any(|folder| path.starts_with(real(folder)))
    }

    /// Whether there is a regular file of this size.
    pub(crate) fn is_file_of(&self, path: &Path, size: u64) -> bool {
        path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// Whether nothing has this name, or a regular file has it.
    pub(crate) fn is_free_or_file(&self, path: &Path) -> bool {
        match path.symlink_metadata() {
            Ok(found) => found.is_file(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// Where a path leads to in the state folder, once all links are followed.
    fn in_home(&self, path: &Path) -> Option<PathBuf> {
        let home = self.inner.home.root().canonicalize().ok()?;
        // What is not there yet comes to lie in the first folder above it that is.
        let real = |above: &Path| Some(above.canonicalize().ok()?.join(path.strip_prefix(above).ok()?));
        path.ancestors().find_map(real)?.strip_prefix(home).ok().map(Path::to_owned)
    }

    /// Refuses to send what the daemon keeps in the state folder. A folder of the owner's in it, such as an inbox, is like any other.
    fn keep_private(&self, path: &Path) -> Result<(), StoreError> {
        let Some(inside) = self.in_home(path) else { return Ok(()) };
        let is_own = match inside.components().count() {
            0 => true,
            1 => !path.is_dir() || inside.starts_with(LISTS),
            _ => inside.starts_with(LISTS),
        };
        if is_own { Err(StoreError::OwnHome { path: path.to_owned() }) } else { Ok(()) }
    }

    /// Refuses to let anything land among it.
    fn keep_clear(&self, folder: &Path) -> Result<(), StoreError> {
        match self.in_home(folder) {
            Some(inside) if inside.as_os_str().is_empty() || inside.starts_with(LISTS) => {
                Err(StoreError::OwnHome { path: folder.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// The state folder itself, as a folder among others.
    fn own_home(&self) -> Option<(u64, u64)> {
        let found = rustix::fs::stat(self.inner.home.root()).ok()?;
        Some((found.st_dev, found.st_ino))
    }

    fn disk(&self) -> &Arc<dyn Disk> {
        &self.inner.disk
    }

    /// Who hashes.
    fn workers(&self) -> &Workers {
        &self.inner.workers
    }

    fn lists(&self) -> &Lists {
        &self.inner.lists
    }

    fn sent(&self) -> MutexGuard<'_, VecDeque<Stamp>> {
        self.inner.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file_mode(&self) -> u32 {
        self.inner.file_mode
    }
}

/// The process's umask. The kernel tells it in the status file; the call that returns it also sets it, for
/// all threads at once, so that a file made at that moment would get other permissions.
fn umask() -> u32 {
    let told = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
        u32::from_str_radix(line.trim(), 8).ok()
    });
    told.unwrap_or_else(|| {
        let found = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        rustix::process::umask(found);
        found.bits()
    })
}
