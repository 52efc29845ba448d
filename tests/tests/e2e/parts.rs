//! Parts of what a peer shares: some entries of a folder.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use p2p_tests::{
    Daemon, Pair, Relay, data,
    data::{CHUNK, MIB},
    words,
};
use serde_json::Value;

/// Bytes per second.
const RATE: u64 = 6 * MIB;

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A folder with small and long files side by side, shared: where, and its File ID.
fn shared(daemon: &Daemon) -> (PathBuf, String) {
    let root = daemon.file("album");
    for n in 0..6 {
        write(&root.join(format!("raw/{n}.raw")), &data::random(n, 3 * CHUNK + n));
        write(&root.join(format!("raw/{n}.jpg")), &data::random(100 + n, 30_000));
        write(&root.join(format!("small/{n}.jpg")), &data::random(200 + n, 300 + n));
    }
    write(&root.join("notes"), b"hello");
    write(&root.join("small/notes"), b"not me");
    fs::hard_link(root.join("notes"), root.join("small/same")).unwrap();
    symlink("0.jpg", root.join("small/first")).unwrap();
    fs::create_dir_all(root.join("empty/deep")).unwrap();
    let id = daemon.cli().run(words!["share", root]).success().text();
    (root, id)
}

/// The paths of all that is in a folder.
fn inside(root: &Path) -> BTreeSet<String> {
    fn look(root: &Path, folder: &Path, all: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            all.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() && !path.is_symlink() {
                look(root, &path, all);
            }
        }
    }
    let mut all = BTreeSet::new();
    look(root, root, &mut all);
    all
}

fn names(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

#[test]
fn a_part_of_a_folder_is_all_that_moves_and_all_that_lands() {
    let Pair { a, b } = Pair::new();
    let (root, id) = shared(&a);
    let only = |only: &[&str]| {
        let mut words = words!["fetch", id, "--from", a.address()].to_vec();
        only.iter().for_each(|only| words.extend(words!["--only", only]));
        b.cli().json(words)
    };
    let part = only(&["notes", "raw/2.raw", "small/*.jpg", "empty"]).success();
    let landed = b.inbox().join("album");
    let small = ["0", "1", "2", "3", "4", "5"].map(|n| format!("small/{n}.jpg"));
    let mut expected = names(&["notes", "raw", "raw/2.raw", "small", "empty", "empty/deep"]);
    expected.extend(small);
    assert_eq!(inside(&landed), expected);
    for path in expected.iter().filter(|path| landed.join(path).is_file()) {
        assert_eq!(data::file_id(&landed.join(path)), data::file_id(&root.join(path)), "{path}");
    }
    let moved = 5 + 3 * CHUNK + 2 + (0..6).map(|n| 300 + n).sum::<u64>();
    let done = part.event("done");
    assert_eq!((part.moved(), &done["bytes"]), (moved, &Value::from(moved)), "{part}");
    assert_eq!((done["part_of"].as_str(), &done["fetch"]), (Some(&*id), &Value::Null), "{part}");
    let own = done["file_id"].as_str().unwrap();
    assert_ne!(own, id);
    b.cli().run(words!["verify", landed, own]).success();
    b.cli().run(words!["verify", landed, id]).exits(7);

    // It is there, and costs nothing; another part of the folder is another folder.
    assert_eq!(only(&["notes", "raw/2.raw", "small/*.jpg", "empty"]).success().moved(), 0);
    let other = only(&["/small/same", "small/first"]).success();
    assert_eq!(other.moved(), 0, "the file is in the first part\n{other}");
    assert_eq!(inside(&b.inbox().join("album (1)")), names(&["notes", "small", "small/same", "small/first"]));
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn the_whole_completes_what_a_part_has() {
    let Pair { a, b } = Pair::new();
    let (root, id) = shared(&a);
    let (part, beside) = (b.inbox().join("album"), b.inbox().join("album (1)"));
    let fetch = |more: &[&str]| {
        let mut words = words!["fetch", id, "--from", a.address()].to_vec();
        words.extend(more.iter().map(Into::into));
        b.cli().json(words)
    };
    let first = fetch(&["--only", "*.raw"]).success().moved();
    let files = data::files_below(&root).into_iter().filter(|path| !path.is_symlink());
    let whole: u64 = files.map(|path| path.metadata().unwrap().len()).sum();
    // Of the file with two names one counts.
    let rest = whole - 5 - first;
    let fetched = fetch(&[]).success();
    assert_eq!(fetched.event("done")["part_of"], Value::Null);
    assert_eq!((fetched.moved(), inside(&beside)), (rest, inside(&root)), "{fetched}");
    fs::remove_dir_all(&beside).unwrap();
    let updated = fetch(&["--update", "-o", part.to_str().unwrap()]).success();
    assert_eq!((updated.moved(), inside(&part)), (rest, inside(&root)), "{updated}");
    b.cli().run(words!["verify", part, id]).success();
    // All of it is no part.
    let all = fetch(&["--only", "*"]).success();
    assert_eq!((all.moved(), &all.event("done")["part_of"]), (0, &Value::Null), "{all}");
}

#[test]
fn what_is_no_part_is_said() {
    let Pair { a, b } = Pair::new();
    let (root, id) = shared(&a);
    let from = |id: &str, only: &[&str]| {
        let mut words = words!["fetch", id, "--from", a.address()].to_vec();
        only.iter().for_each(|only| words.extend(words!["--only", only]));
        b.cli().json(words)
    };
    let nothing = from(&id, &["notes", "*.iso"]).exits(6);
    assert!(nothing.message().contains("*.iso"), "{nothing}");
    from(&id, &["[z-a]"]).exits(2);
    let file = a.cli().run(words!["share", root.join("notes")]).success().text();
    let refused = from(&file, &["notes"]).exits(2);
    assert!(refused.message().contains("--only"), "{refused}");
    b.cli().run(words!["fetch", id, "--from", a.address(), "-o", "x", "--update", "--only", "y"]).exits(2);
    assert!(b.received().is_empty());
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn a_part_goes_on_after_a_kill_and_stays_the_part_that_it_was() {
    let Pair { a, mut b } = Pair::new();
    let relay = Relay::to(a.address());
    let root = a.file("large");
    for n in 0..3 {
        write(&root.join(format!("{n}.bin")), &data::random(n, 8 * MIB));
    }
    let id = a.cli().run(words!["share", root]).success().text();
    relay.set_rate(RATE);
    let fetch = words!["fetch", id, "--from", relay.address(), "--only", "[02].bin"];
    let mut fetching = b.cli().start_json(fetch.clone());
    fetching.wait_for_verified(10 * MIB);
    b.kill9();
    fetching.kill9();
    b.start_again();
    let again = b.cli().json(fetch).success();
    assert!(again.moved() < 16 * MIB, "nothing was kept\n{again}");
    assert_eq!(inside(&b.inbox().join("large")), names(&["0.bin", "2.bin"]));
    assert_eq!(again.event("done")["part_of"].as_str(), Some(&*id), "{again}");
    b.settled();
    assert!(b.partials().is_empty(), "{:?}", b.partials());

    // Given up, it leaves nothing.
    let fetch = words!["fetch", id, "--from", relay.address(), "--only", "1.bin", "--detach"];
    let number = b.cli().run(fetch).success().text();
    let mut watching = b.cli().start_json(words!["watch", number]);
    watching.wait_for_verified(2 * MIB);
    b.cli().run(words!["cancel", number]).success();
    watching.finish();
    b.settled();
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}
