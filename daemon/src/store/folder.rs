//! The destination folder and the folder of partials in it, as handles: what is planted at a path after they
//! were opened, or instead of them, is not followed.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use cap_std::fs::Dir;
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{
    error::StoreError,
    layout::{CVS, INTO, LOG, PART, PARTIALS, TREE},
};
use crate::disk::{Disk, PRIVATE_FILE, PRIVATE_FOLDER, PUBLIC_FOLDER, make_folders, open_folder, remove_all};

/// A destination folder that holds, or may hold, partials.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) dir: Dir,
}

impl Folder {
    /// Opens a folder that is there. The path is the owner's word, so links in it are followed.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        match open_folder(path) {
            Ok(dir) => Ok(Self { path: path.to_owned(), dir }),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(StoreError::Misplaced { path: path.to_owned(), what: "a file", wanted: "a folder" })
            }
            Err(error) => Err(StoreError::io("open the folder", path)(error)),
        }
    }

    /// Makes a folder, and those above it, durably; then opens it.
    pub(super) fn make(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        make_folders(disk, path, PUBLIC_FOLDER).map_err(StoreError::io("make the folder", path))?;
        Self::open(path)
    }

    /// The folder of partials, made if need be.
    pub(super) fn make_partials(&self, disk: &dyn Disk) -> Result<Dir, StoreError> {
        let path = self.path.join(PARTIALS);
        match disk.make_folder(&self.dir, OsStr::new(PARTIALS), PRIVATE_FOLDER) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("make the folder of partial files", &path)(error));
            }
            _ => {}
        }
        self.partials()?.ok_or_else(|| StoreError::Gone { path: self.path.clone() })
    }

    /// The folder of partials, if there is one.
    pub(super) fn partials(&self) -> Result<Option<Dir>, StoreError> {
        let path = self.path.join(PARTIALS);
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(self.dir.as_fd(), PARTIALS, how, Mode::empty()) {
            Ok(dir) => self.own(Dir::from_std_file(dir.into())).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(StoreError::Misplaced {
                path,
                what: "a link or file",
                wanted: "the folder of partial files",
            }),
            Err(error) => Err(StoreError::io("open the folder of partial files", &path)(error.into())),
        }
    }

    /// Refuses a folder of partials that another user has made, who could write over what was verified there. Where a file system has one
    /// owner for all that is on it, that is the destination's.
    fn own(&self, partials: Dir) -> Result<Dir, StoreError> {
        let path = self.path.join(PARTIALS);
        let owner = |dir: &Dir| rustix::fs::fstat(dir.as_fd()).map(|found| found.st_uid);
        let look = || Ok::<_, Errno>((owner(&partials)?, owner(&self.dir)?));
        let (theirs, destination) = look().map_err(|error| StoreError::io("look at", &path)(error.into()))?;
        let own = rustix::process::geteuid().as_raw();
        if [own, 0, destination].contains(&theirs) {
            return Ok(partials);
        }
        let wanted = "the folder of partial files, which belongs to who runs the daemon; remove it";
        Err(StoreError::Misplaced { path, what: "a folder of another user", wanted })
    }

    /// Removes the folder of partials if nothing is in it.
    pub(super) fn remove_partials_if_empty(&self, disk: &dyn Disk) {
        // It usually is not empty, or another transfer has just put something there.
        let _ = disk.remove_folder(&self.dir, OsStr::new(PARTIALS));
    }

    /// Removes what publishing left when it was cut off: what lies beside the data of a partial that has already been
    /// renamed. After a power cut that may be less than all of it.
    pub(super) fn sweep(&self, disk: &dyn Disk, partials: &Dir) {
        let Ok(entries) = partials.entries() else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let stem = name
                .to_str()
                .and_then(|name| [LOG, CVS, TREE, INTO].iter().find_map(|ending| name.strip_suffix(ending)));
            if let Some(stem) = stem {
                self.sweep_one(disk, partials, stem);
            }
        }
    }

    fn sweep_one(&self, disk: &dyn Disk, partials: &Dir, stem: &str) {
        let (part, tree) = (format!("{stem}{PART}"), format!("{stem}{TREE}"));
        // Of a folder that is being removed, what says what it is of went first.
        let has_data = || match partials.symlink_metadata(&part) {
            Ok(found) => !found.is_dir() || partials.symlink_metadata(&tree).is_ok(),
            Err(_) => false,
        };
        let [values, shown, log_name] = [CVS, INTO, LOG].map(|ending| format!("{stem}{ending}"));
        if has_data() {
            return;
        }
        // Where the log is gone already, it is made for its lock.
        let make = [&values, &tree, &shown].iter().any(|name| partials.symlink_metadata(name).is_ok());
        // Whoever holds the lock is about to make the data file.
        if let Ok(log) = open_file(disk, partials, &log_name, make)
            && lock(&log, &self.path).is_ok()
            // Whoever held the lock may have removed it meanwhile, and the name is another's.
            && is_still(partials, &log_name, &log).unwrap_or(false)
            && !has_data()
        {
            tracing::debug!(folder = %self.path.display(), stem, "swept what a published file left");
            if partials.symlink_metadata(&part).is_ok()
                && remove_all(disk, partials, OsStr::new(&part))
                    .and_then(|()| disk.sync_folder(partials))
                    .is_err()
            {
                // Its log stays, so that it is found again.
                return;
            }
            let _ = disk.unlink(partials, OsStr::new(&values));
            let _ = disk.unlink(partials, OsStr::new(&tree));
            let _ = disk.unlink(partials, OsStr::new(&shown));
            let _ = disk.unlink(partials, OsStr::new(&log_name));
        }
    }
}

/// Opens, or makes, a file of a partial for reading and writing. It must be a regular file: a link is not
/// followed, and a pipe not waited for.
pub(super) fn open_file(
    disk: &dyn Disk,
    partials: &Dir,
    name: impl AsRef<OsStr>,
    make: bool,
) -> io::Result<File> {
    let mut how = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    if make {
        how |= OFlags::CREATE;
    }
    let file = disk.open(partials, name.as_ref(), how, PRIVATE_FILE)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// Takes the lock of one writer, which lasts as long as the file is open.
pub(super) fn lock(file: &File, path: &Path) -> Result<(), StoreError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(StoreError::Busy { path: path.to_owned() }),
        Err(error) => Err(StoreError::io("lock", path)(error.into())),
    }
}

/// Whether a name in a folder still is this open file.
pub(super) fn is_still(folder: &Dir, name: impl AsRef<Path>, file: &File) -> io::Result<bool> {
    use cap_std::fs::MetadataExt as _;
    let open = file.metadata()?;
    match folder.symlink_metadata(name) {
        Ok(named) => Ok((named.dev(), named.ino()) == (MetadataExt::dev(&open), MetadataExt::ino(&open))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
