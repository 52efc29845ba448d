//! Somebody who can write below a daemon's destination folders, and swaps links in while it receives.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use p2p_tests::{Pair, data, until::until_true, words};

/// Rounds in which everything is swapped once.
const ROUNDS: u64 = 300;
/// How long a link lies in the way: long enough to be met.
const HELD: Duration = Duration::from_micros(700);

/// A folder that nobody may touch, with one file in it.
struct Outside {
    folder: PathBuf,
    victim: PathBuf,
    before: [Stamp; 2],
}

/// Mode, times and names: whatever is done to a file or in a folder shows in them, also when it is undone.
type Stamp = (u32, i64, i64, i64, i64, u64);

fn stamp(path: &Path) -> Stamp {
    let found = fs::symlink_metadata(path).unwrap();
    (found.mode(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec(), found.nlink())
}

impl Outside {
    fn new(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        let victim = folder.join("victim");
        fs::write(&victim, "precious").unwrap();
        let before = [stamp(&folder), stamp(&victim)];
        Self { folder, victim, before }
    }

    fn check(&self) {
        let names: Vec<_> = fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names, std::slice::from_ref(&self.victim), "something got out");
        assert!(fs::read(&self.victim).unwrap() == b"precious", "the file outside was written to");
        assert_eq!([stamp(&self.folder), stamp(&self.victim)], self.before, "something outside was touched");
    }
}

/// Puts a link to `outside` in place of what has this name, for a moment.
fn swap(name: &Path, aside: &Path, outside: &Path) {
    let moved = fs::rename(name, aside).is_ok();
    if symlink(outside, name).is_ok() {
        thread::sleep(HELD);
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
fn attack(folder: &Path, outside: &Outside, round: u64, newest: u64) {
    let partials = folder.join(".p2p");
    swap(&partials, &folder.join(format!("aside-{round}")), &outside.folder);
    let name = folder.join(format!("file-{newest}.bin"));
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
    let (stop, rounds, newest) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut ids = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let round = rounds.fetch_add(1, Ordering::Relaxed);
                attack(pair.b.inbox(), &outside, round, newest.load(Ordering::Relaxed));
                attack(&out, &outside, round, newest.load(Ordering::Relaxed));
            }
        });
        while rounds.load(Ordering::Relaxed) < ROUNDS {
            let n = ids.len() as u64;
            newest.store(n, Ordering::Relaxed);
            let file = pair.a.new_file(&format!("file-{n}.bin"), n, 4 * data::CHUNK + n);
            let id = pair.a.cli().run(words!["share", file]).success().text();
            // Whether they come through is not what this is about.
            pair.a.cli().json(words!["send", file, "--to", pair.b.address(), "--detach"]).success();
            let fetch = words!["fetch", id, "--from", pair.a.address(), "-o", &out, "--detach"];
            pair.b.cli().json(fetch).success();
            ids.push(id);
        }
        stop.store(true, Ordering::Relaxed);
    });
    outside.check();

    // Left alone, it gets where it belongs.
    for daemon in [&pair.a, &pair.b] {
        for open in daemon.transfers().iter().filter(|line| line["ended_ms"].is_null()) {
            // One that ends at this moment needs no cancelling.
            daemon.cli().run(words!["cancel", open["transfer"].to_string()]);
        }
    }
    for (n, id) in ids.iter().enumerate() {
        for folder in [pair.b.inbox(), &out] {
            let name = folder.join(format!("file-{n}.bin"));
            if name.is_symlink() {
                fs::remove_file(&name).unwrap();
            }
        }
        if n % 8 == 0 {
            let file = pair.a.file(&format!("file-{n}.bin"));
            pair.a.cli().json(words!["send", file, "--to", pair.b.address()]).success();
            pair.b.cli().json(words!["fetch", id, "--from", pair.a.address(), "-o", &out]).success();
        }
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
