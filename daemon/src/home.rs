//! The state folder: it belongs to one user, and one daemon at a time works in it.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{fs::FlockOperation, io::Errno};

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

/// The locked state folder. While it lives, no other daemon works in it.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Makes the folder where there is none, checks whose it is, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, HomeError> {
        let path = std::path::absolute(path).map_err(failed("find", path))?;
        make(&path)?;
        check(&path)?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
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
fn make(path: &Path) -> Result<(), HomeError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(HomeError::NotAFolder { path: path.to_owned() })
        }
        Err(error) => Err(failed("make this folder", path)(error)),
    }
}

fn check(path: &Path) -> Result<(), HomeError> {
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
        let closed = Permissions::from_mode(0o700);
        std::fs::set_permissions(path, closed).map_err(failed("close to others", path))?;
    }
    Ok(())
}

fn lock(home: &Path) -> Result<File, HomeError> {
    let path = home.join(LOCK);
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(failed("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // Who it is only makes the message better.
            let _ = (&mut file).take(MAX_LOCK_LEN).read_to_string(&mut pid);
            let pid = pid.trim().parse().ok();
            return Err(HomeError::AlreadyRunning { path: home.to_owned(), pid });
        }
        Err(error) => return Err(failed("lock", &path)(error.into())),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed("write to", &path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_home_is_its_owner_s_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state/p2p");
        let home = Home::open(&path).unwrap();
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
        let first = Home::open(temp.path()).unwrap();
        match Home::open(temp.path()) {
            Err(error @ HomeError::AlreadyRunning { pid: Some(pid), .. }) => {
                assert_eq!(pid, std::process::id());
                assert!(error.to_string().contains(&format!("(process {pid}); `p2p status`")), "{error}");
            }
            other => panic!("{other:?}"),
        }
        drop(first);
        Home::open(temp.path()).unwrap();
    }

    #[test]
    fn a_folder_that_others_write_to_is_refused_with_the_way_out() {
        let temp = tempfile::tempdir().unwrap();
        for mode in [0o770, 0o702, 0o777] {
            set_mode(temp.path(), mode);
            let error = Home::open(temp.path()).unwrap_err();
            assert!(matches!(error, HomeError::Exposed { .. }), "{error}");
            assert!(error.to_string().contains("chmod 700"), "{error}");
        }
        set_mode(temp.path(), 0o755);
        Home::open(temp.path()).unwrap();
        assert_eq!(temp.path().metadata().unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_is_no_home() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(Home::open(&path), Err(HomeError::NotAFolder { .. })));
        assert!(matches!(Home::open(&path.join("below")), Err(HomeError::Io { .. })));
    }
}
