//! What the daemon gives up before it talks to anybody, so that a hole in it would be worth less.
//!
//! All of it holds for the whole process and what it starts, and cannot be taken back. It has to be done before the first
//! thread is started, as the kernel restricts one thread and those that this one starts.

use std::path::{Path, PathBuf};

use p2p_protocol::control::{Confinement, Writing};

use crate::config::{Settings, WriteOnlyIn};

/// Before it, nothing could be renamed from one folder into another, which is how a file gets its name.
#[cfg(target_os = "linux")]
const LEAST: landlock::ABI = landlock::ABI::V2;

/// Why the daemon cannot be confined as its owner wants it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    /// A folder that may be written in is not there.
    #[error("write_only_in: {path}: {source}; make the folder, or take it out of the setting")]
    Folder { path: PathBuf, source: std::io::Error },
    /// The kernel knows Landlock, and did not take the rules.
    #[error("write_only_in: the kernel does not take the rules: {0}")]
    Refused(String),
}

/// Gives up what the settings say. `runtime` is the folder of a control socket that cannot be in the home.
pub(crate) fn apply(settings: &Settings, runtime: Option<&Path>) -> Result<Confinement, ConfineError> {
    let no_new_privs = forgo_privileges();
    let dumpable = settings.debuggable.value || !close_memory();
    let writing = match &settings.write_only_in.value {
        WriteOnlyIn::Anywhere => Writing::Anywhere,
        WriteOnlyIn::Folders(named) => {
            let own = [settings.home.value.as_path(), settings.inbox.value.as_path()];
            let named = named.iter().map(PathBuf::as_path);
            let folders: Vec<&Path> = own.into_iter().chain(named).chain(runtime).collect();
            confine(&folders)?
        }
    };
    Ok(Confinement { writing, no_new_privs, dumpable })
}

/// What a daemon has given up that runs inside another program: nothing that it would know of.
pub(crate) fn nothing() -> Confinement {
    Confinement { writing: Writing::Anywhere, no_new_privs: false, dumpable: true }
}

/// No program that this one starts gets rights by its mode bits. False where the system has no such thing.
#[cfg(target_os = "linux")]
fn forgo_privileges() -> bool {
    rustix::thread::set_no_new_privs(true).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn forgo_privileges() -> bool {
    false
}

/// Keeps other processes of this user out of the memory that holds the key, and a crash from writing it to disk. False
/// where the system has no such thing.
#[cfg(target_os = "linux")]
fn close_memory() -> bool {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    // The second alone would do, but for a change of it by what comes later.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn close_memory() -> bool {
    false
}

/// Whether this kernel can keep the daemon to some folders.
#[cfg(target_os = "linux")]
pub(crate) fn is_supported() -> bool {
    use landlock::{AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
    let least = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    least.handle_access(AccessFs::from_write(LEAST)).is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_supported() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn confine(_folders: &[&Path]) -> Result<Writing, ConfineError> {
    Ok(Writing::NotSupported)
}

/// Restricts writing to these folders and what is below them, and TCP to questions to a name server.
#[cfg(target_os = "linux")]
fn confine(folders: &[&Path]) -> Result<Writing, ConfineError> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath,
        RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
    };
    use rustix::fs::OFlags;

    /// What this code was tried with. Rights of later versions are not asked for.
    const KNOWN: ABI = ABI::V7;
    /// Where a resolver asks for an answer that did not fit a datagram.
    const DNS: u16 = 53;

    let least = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let Ok(rules) = least.handle_access(AccessFs::from_write(LEAST)) else {
        tracing::warn!("this kernel cannot confine the daemon to the folders of `write_only_in`");
        return Ok(Writing::NotSupported);
    };
    let opened = folders.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let restrict = || -> Result<RestrictionStatus, RulesetError> {
        let mut rules = rules
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_write(KNOWN))?
            .handle_access(AccessNet::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?
            .create()?
            .add_rule(NetPort::new(DNS, AccessNet::ConnectTcp))?;
        // A program of `[hooks]` has its output there.
        if let Ok(nowhere) = open_as("/dev/null".as_ref(), OFlags::PATH | OFlags::CLOEXEC) {
            rules = rules.add_rule(PathBeneath::new(&nowhere, AccessFs::WriteFile))?;
        }
        for folder in &opened {
            rules = rules.add_rule(PathBeneath::new(folder, AccessFs::from_write(KNOWN)))?;
        }
        rules.restrict_self()
    };
    let status = restrict().map_err(|error| ConfineError::Refused(error.to_string()))?;
    let LandlockStatus::Available { effective_abi: abi, .. } = status.landlock else {
        return Err(ConfineError::Refused("it says that it has no Landlock after all".to_owned()));
    };
    let folders = folders.iter().map(|path| path.display().to_string()).collect();
    Ok(Writing::Landlock { abi: abi as u32, folders, tcp_refused: abi >= ABI::V4 })
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> Result<std::os::fd::OwnedFd, ConfineError> {
    use rustix::fs::OFlags;
    open_as(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
        .map_err(|error| ConfineError::Folder { path: path.to_owned(), source: error.into() })
}

#[cfg(target_os = "linux")]
fn open_as(path: &Path, how: rustix::fs::OFlags) -> rustix::io::Result<std::os::fd::OwnedFd> {
    rustix::fs::open(path, how, rustix::fs::Mode::empty())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::{fs, io::ErrorKind, net::TcpListener, os::unix::fs::symlink};

    use super::*;

    /// What these folders allow, on a thread that ends with its restrictions. `None`, with a word, where the kernel has
    /// no Landlock.
    fn confined<T: Send>(folders: &[&Path], work: impl FnOnce() -> T + Send) -> Option<T> {
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                assert!(forgo_privileges());
                match confine(folders).unwrap() {
                    Writing::Landlock { abi, folders: named, tcp_refused } => {
                        assert!(abi >= 2 && named.len() == folders.len() && tcp_refused == (abi >= 4));
                        Some(work())
                    }
                    _ => None,
                }
            });
            let done = done.join().unwrap();
            if done.is_none() {
                eprintln!("left out: this kernel has no Landlock");
            }
            done
        })
    }

    fn is_forbidden<T>(result: std::io::Result<T>) -> bool {
        matches!(result, Err(error) if error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn only_the_named_folders_are_written_in() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = outside.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(outside.path(), inside.path().join("way-out")).unwrap();
        confined(&[inside.path()], || {
            let inner = inside.path().join("a");
            fs::create_dir(&inner).unwrap();
            fs::write(inner.join("part"), "x").unwrap();
            fs::rename(inner.join("part"), inside.path().join("done")).unwrap();
            assert_eq!(fs::read(&victim).unwrap(), b"precious", "reading stays free");
            assert!(is_forbidden(fs::write(&victim, "")));
            assert!(is_forbidden(fs::remove_file(&victim)));
            assert!(is_forbidden(fs::write(inside.path().join("way-out/new"), "")));
            assert!(is_forbidden(fs::create_dir(outside.path().join("new"))));
            let taken_out = fs::rename(inside.path().join("done"), outside.path().join("done"));
            assert!(taken_out.is_err());
        });
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        fs::write(&victim, "other threads are not confined").unwrap();
    }

    #[test]
    fn programs_can_be_started_and_are_confined_too() {
        use std::process::{Command, Stdio};
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (kept, refused) = (inside.path().join("a"), outside.path().join("b"));
        let run = || {
            let mut touch = Command::new("touch");
            touch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            touch.arg(&kept).arg(&refused).status().unwrap()
        };
        if let Some(ended) = confined(&[inside.path()], run) {
            assert!(!ended.success() && kept.exists() && !refused.exists());
        }
    }

    #[test]
    fn tcp_is_refused_and_udp_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let bound = confined(&[folder.path()], || {
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            TcpListener::bind("127.0.0.1:0").map(|_| ())
        });
        if let Some(bound) = bound {
            assert!(is_forbidden(bound));
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none");
        let error = std::thread::scope(|scope| scope.spawn(|| confine(&[&missing])).join().unwrap());
        match error {
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains("write_only_in") && said.contains("none"), "{said}");
            }
            Ok(writing) => assert_eq!(writing, Writing::NotSupported),
        }
    }
}
