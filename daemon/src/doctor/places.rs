//! The folders: whose they are, whether they take files, and what their file systems can do.

use std::{
    ffi::OsStr,
    fs::{File, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cap_std::fs::Dir;

use super::Finding;
use crate::disk::{self, Disk, NEW, PRIVATE_FILE, PRIVATE_FOLDER, System, is_hole, is_unsupported};

/// With less free space than this, in bytes, hardly anything fits …
const LITTLE: u64 = 64 << 20;
/// … and with less than this it soon will not.
const SOME: u64 = 1 << 30;
/// Files' times may differ from this machine's clock by so much: the hash cache reckons with it.
const SKEW: Duration = Duration::from_secs(2);
/// A file of this length with one byte at its end is nearly all hole.
const SPARSE_LEN: u64 = 8 << 20;

/// The state folder.
pub(super) fn home(path: &Path) -> Vec<Finding> {
    let rights = match path.metadata() {
        Ok(found) if !found.is_dir() => {
            return vec![Finding::fail(
                "home",
                format!("{} is not a folder", path.display()),
                "name another with --home",
            )];
        }
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
            let words = format!("{} belongs to another user (uid {})", path.display(), found.uid());
            return vec![Finding::fail("home", words, "use a home of your own (--home)")];
        }
        Ok(found) if found.mode() & 0o022 != 0 => {
            let words = format!("others can write to {} (mode {:03o})", path.display(), found.mode() & 0o777);
            return vec![Finding::fail("home", words, format!("chmod 700 {}", path.display()))];
        }
        Ok(_) => "yours alone",
        Err(error) if error.kind() == ErrorKind::NotFound => "made when first needed",
        Err(error) => return vec![unusable("home", path, &error)],
    };
    match Scratch::below(path) {
        Err(error) => vec![unusable("home", path, &error)],
        Ok(scratch) => match scratch.locks() {
            Ok(()) => {
                let words = format!("{}: {rights}, takes files and locks", path.display());
                vec![Finding::ok("home", words), scratch.space("home_space")]
            }
            Err(error) => {
                let words = format!("{}: files cannot be locked ({error})", path.display());
                vec![Finding::fail(
                    "home",
                    words,
                    "no daemon can start there; use a home on a local disk (--home)",
                )]
            }
        },
    }
}

/// The folder that received files land in.
pub(super) fn inbox(path: &Path) -> Vec<Finding> {
    if path.exists() && !path.is_dir() {
        let words = format!("{} is not a folder", path.display());
        return vec![Finding::fail("inbox", words, "set another: `inbox` in config.toml")];
    }
    let when = if path.exists() { "takes files" } else { "made when first needed, and takes files" };
    let scratch = match Scratch::below(path) {
        Ok(scratch) => scratch,
        Err(error) => return vec![unusable("inbox", path, &error)],
    };
    let mut findings =
        vec![Finding::ok("inbox", format!("{}: {when}", path.display())), scratch.space("inbox_space")];
    match scratch.abilities() {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(unusable("inbox_file_system", path, &error)),
    }
    findings
}

fn unusable(check: &'static str, path: &Path, error: &io::Error) -> Finding {
    let advice = "see that it is yours, on a disk that is mounted for writing and not full";
    Finding::fail(check, format!("{}: {error}", path.display()), advice)
}

/// A folder of this check's own, removed with everything in it.
struct Scratch {
    /// The folder that is looked at, or the one above where it is not there yet.
    above: Dir,
    shown: PathBuf,
    name: String,
    inside: Dir,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It is empty, or in nobody's way.
        let _ = disk::remove_all(&System, &self.above, OsStr::new(&self.name));
    }
}

impl Scratch {
    fn below(path: &Path) -> io::Result<Self> {
        let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
        let above = disk::open_folder(there)?;
        let name = format!(".p2p-doctor-{}", std::process::id());
        System.make_folder(&above, OsStr::new(&name), PRIVATE_FOLDER)?;
        // Not through the folder above: what cap-std opens cannot be synced.
        let inside = disk::open_folder(&there.join(&name))?;
        let scratch = Self { above, shown: there.to_owned(), name, inside };
        // A folder that takes no file, or cannot keep it, is no place for any.
        let file = scratch.file("first")?;
        disk::write_all(&System, &file, b"x", 0)?;
        System.sync_all(&file)?;
        System.sync_folder(&scratch.inside)?;
        Ok(scratch)
    }

    fn file(&self, name: &str) -> io::Result<File> {
        System.open(&self.inside, OsStr::new(name), NEW, PRIVATE_FILE)
    }

    fn space(&self, check: &'static str) -> Finding {
        match System.free(&self.inside) {
            Ok(free) => {
                let found = format!("{} MiB free in {}", free >> 20, self.shown.display());
                match free {
                    0..LITTLE => Finding::fail(check, found, "make room there"),
                    LITTLE..SOME => {
                        Finding::warn(check, found, "make room there before something large comes")
                    }
                    _ => Finding::ok(check, found),
                }
            }
            Err(error) => {
                Finding::warn(check, format!("its free space cannot be told: {error}"), "look at it with df")
            }
        }
    }

    /// What the file system can do of what the daemon makes use of.
    fn abilities(&self) -> io::Result<Vec<Finding>> {
        const CHECK: &str = "inbox_file_system";
        let mut findings = vec![self.publishing()?, self.clock()?, self.case()?];
        let (holes, reserves) = (self.keeps_holes()?, self.reserves()?);
        let all = [("holes", holes), ("reserving room", reserves), ("reflinks", self.reflinks()?)];
        let names = |wanted: bool| {
            let names: Vec<&str> =
                all.iter().filter(|(_, has)| *has == wanted).map(|(name, _)| *name).collect();
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        };
        let found = format!("has {}; lacks {}", names(true), names(false));
        findings.push(match (holes, reserves) {
            (false, _) => Finding::warn(CHECK, found, "sparse files take all their room there"),
            (_, false) => Finding::warn(CHECK, found, "a disk that fills up is noticed late there"),
            // Nothing here needs the third.
            (true, true) => Finding::ok(CHECK, found),
        });
        Ok(findings)
    }

    /// How a file gets its name without taking it from another.
    fn publishing(&self) -> io::Result<Finding> {
        const CHECK: &str = "inbox_publishing";
        let (a, b, c) = (OsStr::new("a"), OsStr::new("b"), OsStr::new("c"));
        self.file("a").and_then(|_| self.file("b"))?;
        let inside = &self.inside;
        let renames = match System.rename_new(inside, a, inside, b) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                System.rename_new(inside, a, inside, c).is_ok()
            }
            Err(error) if is_unsupported(&error) => false,
            Err(error) => return Err(error),
            Ok(()) => {
                let words = "a rename that must replace nothing replaces a file";
                return Ok(Finding::fail(CHECK, words, "use another file system for the inbox"));
            }
        };
        let links = System.link(inside, b, inside, OsStr::new("d")).is_ok();
        let exchanges = System.exchange(inside, b, inside, OsStr::new("first")).is_ok();
        Ok(match (renames, links, exchanges) {
            (true, _, true) => Finding::ok(CHECK, "by a rename that replaces nothing"),
            (true, ..) | (false, true, _) => {
                let how = if renames { "by a rename that replaces nothing" } else { "by a second name" };
                let words = format!("{how}; two names cannot be exchanged in one step");
                Finding::warn(
                    CHECK,
                    words,
                    "`fetch --update` of a folder does not work there; of a file it does",
                )
            }
            (false, false, _) => Finding::fail(
                CHECK,
                "neither by a rename that replaces nothing nor by a second name",
                "received files cannot get their names; use another file system for the inbox",
            ),
        })
    }

    /// Whether files' times are those of this machine's clock.
    fn clock(&self) -> io::Result<Finding> {
        const CHECK: &str = "inbox_clock";
        let file = self.file("time")?;
        disk::write_all(&System, &file, b"x", 0)?;
        let (now, then) = (SystemTime::now(), file.metadata()?.modified()?);
        let apart = now.duration_since(then).unwrap_or_else(|error| error.duration());
        Ok(if apart <= SKEW {
            Finding::ok(CHECK, "files' times are this machine's")
        } else {
            let words = format!("files' times there are {} s from this machine's clock", apart.as_secs());
            Finding::warn(
                CHECK,
                words,
                "set both clocks by NTP; until then hashes may be remembered wrongly or not at all",
            )
        })
    }

    fn case(&self) -> io::Result<Finding> {
        const CHECK: &str = "inbox_names";
        self.file("Case")?;
        Ok(match self.inside.symlink_metadata("cASE") {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Finding::ok(CHECK, "large and small letters differ")
            }
            Err(error) => return Err(error),
            Ok(_) => Finding::warn(
                CHECK,
                "large and small letters are the same",
                "a folder in which two names differ by that alone does not fit there",
            ),
        })
    }

    fn keeps_holes(&self) -> io::Result<bool> {
        let file = self.file("holes")?;
        disk::write_all(&System, &file, b"x", SPARSE_LEN - 1)?;
        Ok(is_hole(&file, 0..SPARSE_LEN / 2))
    }

    fn reserves(&self) -> io::Result<bool> {
        match System.reserve(&self.file("reserved")?, 0, 4096) {
            Ok(()) => Ok(true),
            Err(error) if is_unsupported(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    #[cfg(target_os = "linux")]
    fn reflinks(&self) -> io::Result<bool> {
        let (from, to) = (self.file("cloned")?, self.file("clone")?);
        disk::write_all(&System, &from, &[1; 4096], 0)?;
        Ok(rustix::fs::ioctl_ficlone(&to, &from).is_ok())
    }

    #[cfg(not(target_os = "linux"))]
    fn reflinks(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Whether a file can be kept from another process, which is what keeps a second daemon out.
    fn locks(&self) -> io::Result<()> {
        match self.file("lock")?.try_lock() {
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::doctor::Verdict;

    fn worst(findings: &[Finding]) -> Option<&Finding> {
        findings.iter().find(|finding| finding.verdict == Verdict::Fail)
    }

    fn names(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn what_is_well_is_left_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let found = [home(temp.path()), inbox(temp.path())].concat();
        assert_eq!(worst(&found), None);
        assert!(found.iter().any(|finding| finding.check == "inbox_publishing"), "{found:?}");
        assert!(found.iter().all(|finding| (finding.verdict == Verdict::Ok) == finding.advice.is_none()));
        assert_eq!(names(temp.path()), 0);
        let later = temp.path().join("a/b");
        let found = [home(&later), inbox(&later)].concat();
        assert_eq!(worst(&found), None);
        assert!(found[0].found.contains("made when first needed"), "{found:?}");
        assert_eq!(names(temp.path()), 0);
    }

    #[test]
    fn what_the_daemon_would_refuse_is_found_with_the_way_out() {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let found = home(temp.path());
        let advice = worst(&found).unwrap().advice.as_deref().unwrap();
        assert_eq!(advice, format!("chmod 700 {}", temp.path().display()));
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        for found in [home(&file), inbox(&file), inbox(&file.join("below"))] {
            assert!(worst(&found).is_some(), "{found:?}");
        }
    }
}
