//! The state folder: it belongs to one user, and one daemon at a time works in it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, OFlags},
    io::Errno,
};

use crate::disk::{Disk, PRIVATE_FILE, PRIVATE_FOLDER, make_folders, open_folder, write_all};

/// Locked for as long as a daemon runs; holds its process number. Never removed: a lock on a removed file
/// keeps nobody out.
const LOCK: &str = "p2pd.lock";
/// A process number and a line end are shorter than this, in bytes.
const MAX_LOCK_LEN: u64 = 32;

/// Why a folder cannot be this daemon's home.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HomeError {
    /// Somebody else could put files here.
    #[error("{path}: others can write to this folder (mode {mode:03o}); run `chmod 700 {path}`")]
    Exposed { path: PathBuf, mode: u32 },
    /// The folder is somebody else's.
    #[error("{path} belongs to another user (uid {uid}); use a home of your own (--home)")]
    Foreign { path: PathBuf, uid: u32 },
    /// Something else has the folder's name.
    #[error("{path} is not a folder")]
    NotAFolder { path: PathBuf },
    /// A daemon works here already.
    #[error(
        "a daemon runs for {path} already{}; `p2p status` shows it",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    AlreadyRunning { path: PathBuf, pid: Option<u32> },
    /// The operating system said no.
    #[error("{path}: cannot {what}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// Opens a file of the home to be read. What is no file does not hold the daemon up, as a pipe that nobody writes to would.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let no_wait = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    File::options().read(true).custom_flags(no_wait).open(path)
}

/// The locked state folder. While it lives, no other daemon works in it.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Makes the folder where there is none, checks whose it is, and locks it.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, HomeError> {
        let path = std::path::absolute(path).map_err(failed("find", path))?;
        make(disk, &path)?;
        check(disk, &path)?;
        let lock = lock(disk, &path)?;
        Ok(Self { path, _lock: lock })
    }

    /// Makes the folder where there is none, without a look at what is in it.
    pub(crate) fn prepare(disk: &dyn Disk, path: &Path) -> Result<(), HomeError> {
        make(disk, path)
    }

    /// The folder's absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |source| HomeError::Io { what, path, source }
}

/// Makes the folder, and those above it that are missing, for their owner alone.
fn make(disk: &dyn Disk, path: &Path) -> Result<(), HomeError> {
    match make_folders(disk, path, PRIVATE_FOLDER) {
        Ok(()) => Ok(()),
        Err(_) if path.is_file() => Err(HomeError::NotAFolder { path: path.to_owned() }),
        Err(error) => Err(failed("make this folder", path)(error)),
    }
}

fn check(disk: &dyn Disk, path: &Path) -> Result<(), HomeError> {
    let metadata = path.metadata().map_err(failed("examine", path))?;
    if !metadata.is_dir() {
        return Err(HomeError::NotAFolder { path: path.to_owned() });
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(HomeError::Foreign { path: path.to_owned(), uid: metadata.uid() });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(HomeError::Exposed { path: path.to_owned(), mode });
    }
    if mode & 0o055 != 0 {
        // Nobody could have written here, so that what is here can be believed; nobody is to look either.
        let closed = open_folder(path)
            .and_then(|folder| disk.set_mode(&folder.into_std_file(), PRIVATE_FOLDER.as_raw_mode()));
        closed.map_err(failed("close to others", path))?;
    }
    Ok(())
}

fn lock(disk: &dyn Disk, home: &Path) -> Result<File, HomeError> {
    let path = home.join(LOCK);
    let opened = open_folder(home).and_then(|folder| {
        disk.open(&folder, OsStr::new(LOCK), OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW, PRIVATE_FILE)
    });
    let file = opened.map_err(failed("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // Who it is only makes the message better.
            let _ = (&file).take(MAX_LOCK_LEN).read_to_string(&mut pid);
            let pid = pid.trim().parse().ok();
            return Err(HomeError::AlreadyRunning { path: home.to_owned(), pid });
        }
        Err(error) => return Err(failed("lock", &path)(error.into())),
    }
    let line = format!("{}\n", std::process::id());
    disk.set_len(&file, 0)
        .and_then(|()| write_all(disk, &file, line.as_bytes(), 0))
        .map_err(failed("write to", &path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::disk::System;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_home_is_its_owner_s_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state/p2p");
        let home = Home::open(&System, &path).unwrap();
        assert_eq!(home.path(), path);
        for folder in [&path, path.parent().unwrap()] {
            assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o700);
        }
        assert_eq!(path.join(LOCK).metadata().unwrap().mode() & 0o777, 0o600);
    }

    /// Fault 10.
    #[test]
    fn a_second_daemon_is_refused_until_the_first_has_gone() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(LOCK), "4294967295 left by a longer-named one\n").unwrap();
        let first = Home::open(&System, temp.path()).unwrap();
        match Home::open(&System, temp.path()) {
            Err(error @ HomeError::AlreadyRunning { pid: Some(pid), .. }) => {
                assert_eq!(pid, std::process::id());
                assert!(error.to_string().contains(&format!("(process {pid}); `p2p status`")), "{error}");
            }
            other => panic!("{other:?}"),
        }
        drop(first);
        Home::open(&System, temp.path()).unwrap();
    }

    #[test]
    fn a_folder_that_others_write_to_is_refused_with_the_way_out() {
        let temp = tempfile::tempdir().unwrap();
        for mode in [0o770, 0o702, 0o777] {
            set_mode(temp.path(), mode);
            let error = Home::open(&System, temp.path()).unwrap_err();
            assert!(matches!(error, HomeError::Exposed { .. }), "{error}");
            assert!(error.to_string().contains("chmod 700"), "{error}");
        }
        set_mode(temp.path(), 0o755);
        Home::open(&System, temp.path()).unwrap();
        assert_eq!(temp.path().metadata().unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_is_no_home() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(Home::open(&System, &path), Err(HomeError::NotAFolder { .. })));
        assert!(matches!(Home::open(&System, &path.join("below")), Err(HomeError::Io { .. })));
    }
}
