//! Somebody who can write below a daemon's destination folders, and swaps links in while it receives.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use p2p_tests::{Pair, data, until::until_true, words};

/// Files that move in each direction.
const FILES: u64 = 12;
/// Times that something is swapped at least.
const SWAPS: u64 = 600;

/// A folder that nobody may touch, with one file in it.
struct Outside {
    folder: PathBuf,
    victim: PathBuf,
    before: (u32, i64, i64, u64),
}

impl Outside {
    fn new(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        let victim = folder.join("victim");
        fs::write(&victim, "precious").unwrap();
        let before = Self::stamp(&victim);
        Self { folder, victim, before }
    }

    fn stamp(path: &Path) -> (u32, i64, i64, u64) {
        let found = fs::symlink_metadata(path).unwrap();
        (found.mode(), found.mtime_nsec(), found.ctime_nsec(), found.nlink())
    }

    fn check(&self) {
        let names: Vec<_> = fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names, [self.victim.clone()], "something got out");
        assert_eq!(fs::read(&self.victim).unwrap(), b"precious");
        assert_eq!(Self::stamp(&self.victim), self.before, "the file outside was changed");
    }
}

/// Puts a link to `outside` in place of what has this name, for a moment.
fn swap(name: &Path, aside: &Path, outside: &Path) {
    let moved = fs::rename(name, aside).is_ok();
    if symlink(outside, name).is_ok() {
        thread::yield_now();
        if name.is_symlink() {
            let _ = fs::remove_file(name);
        }
    }
    if moved {
        // Fails where the daemon has made a new one meanwhile; what was moved away then stays there.
        let _ = fs::rename(aside, name);
    }
}

/// Swaps the folder of partials, the files in it, and the names that files are to get, in this folder.
fn attack(folder: &Path, outside: &Outside, round: u64) {
    let partials = folder.join(".p2p");
    swap(&partials, &folder.join(format!("aside-{round}")), &outside.folder);
    let name = folder.join(format!("file-{}.bin", round % FILES));
    if !name.exists() {
        swap(&name, &folder.join("name-aside"), &outside.victim);
    }
    let Ok(entries) = fs::read_dir(&partials) else { return };
    for entry in entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().contains("aside")) {
        swap(&entry.path(), &entry.path().with_extension("aside"), &outside.victim);
    }
}

#[test]
fn links_swapped_in_while_receiving_lead_nowhere() {
    let pair = Pair::new();
    let outside = Outside::new(pair.b.place().root().join("outside"));
    let out = pair.b.place().root().join("out");
    fs::create_dir(&out).unwrap();
    fs::create_dir_all(pair.b.inbox()).unwrap();
    let ids: Vec<String> = (0..FILES)
        .map(|n| {
            let file = pair.a.new_file(&format!("file-{n}.bin"), n, 4 * data::CHUNK + n);
            pair.a.cli().run(words!["share", file]).success().text()
        })
        .collect();

    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let round = swaps.fetch_add(1, Ordering::Relaxed);
                attack(pair.b.inbox(), &outside, round);
                attack(&out, &outside, round);
            }
        });
        while swaps.load(Ordering::Relaxed) < SWAPS {
            for (n, id) in ids.iter().enumerate() {
                let file = pair.a.file(&format!("file-{n}.bin"));
                // Whether they come through is not what this is about; most do, when they are tried again.
                pair.a.cli().json(words!["send", file, "--to", pair.b.address(), "--detach"]).success();
                let fetch = words!["fetch", id, "--from", pair.a.address(), "-o", &out, "--detach"];
                pair.b.cli().json(fetch).success();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    outside.check();

    // Left alone, everything gets where it belongs.
    for (n, id) in ids.iter().enumerate() {
        let file = pair.a.file(&format!("file-{n}.bin"));
        for folder in [pair.b.inbox(), &out] {
            let name = folder.join(format!("file-{n}.bin"));
            if name.is_symlink() {
                fs::remove_file(&name).unwrap();
            }
        }
        pair.a.cli().json(words!["send", file, "--to", pair.b.address()]).success();
        pair.b.cli().json(words!["fetch", id, "--from", pair.a.address(), "-o", &out]).success();
    }
    until_true("nothing is unfinished", || pair.b.status()["unfinished"] == 0);
    outside.check();
    for folder in [pair.b.inbox(), &out] {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            assert!(!path.is_symlink(), "{} is a link", path.display());
            if path.is_file() {
                let id = data::file_id(&path);
                assert!(ids.contains(&id), "{} is none of what was sent", path.display());
            }
        }
    }
    assert!(!pair.b.log().contains("panicked"));
}
