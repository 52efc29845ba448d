//! Folders that appear file by file: `fetch --progressive`, and the same as a rule for what a peer sends.

use std::{
    fs,
    path::{Path, PathBuf},
};

use p2p_tests::{
    Daemon, Pair,
    cli::Running,
    data,
    data::{CHUNK, MIB},
    until::until_true,
    words,
};

use crate::folders::{assert_same_folder, make_all_sorts, write};

/// A rate at which small files are here long before the long ones.
const SLOWLY: &str = "1 MiB/s";

/// A folder with one of everything, and a long file: where, and its File ID.
fn shared(a: &Daemon) -> (PathBuf, String) {
    let root = a.file("album");
    make_all_sorts(&root);
    write(&root.join("zz"), &data::random(77, 6 * MIB));
    let id = a.cli().run(words!["share", root]).success().text();
    (root, id)
}

/// The files that are there, each of which has to be as long as it will be, and right.
fn appeared(root: &Path, landed: &Path) -> Vec<PathBuf> {
    let files = data::files_below(landed).into_iter().filter(|path| !path.is_symlink());
    let inside: Vec<PathBuf> = files.map(|path| path.strip_prefix(landed).unwrap().to_owned()).collect();
    for path in &inside {
        assert_eq!(data::file_id(&landed.join(path)), data::file_id(&root.join(path)), "{}", path.display());
    }
    inside
}

/// What is to be moved of all files but these.
fn rest_of(root: &Path, here: &[PathBuf]) -> u64 {
    let files = data::files_below(root).into_iter().filter(|path| !path.is_symlink());
    let rest = files.filter(|path| !here.contains(&path.strip_prefix(root).unwrap().to_owned()));
    // Holes are not moved.
    rest.map(|path| if path.ends_with("holes") { CHUNK } else { path.metadata().unwrap().len() }).sum()
}

/// A fetch that has brought some files and not all of them: it, its number, and where.
fn begun(a: &Daemon, b: &Daemon, id: &str, more: &[&str]) -> (Running, String) {
    let mut words = words!["fetch", id, "--from", a.address(), "--progressive", "--limit", SLOWLY].to_vec();
    words.extend(more.iter().map(Into::into));
    let mut fetching = b.cli().start_json(words);
    let number = fetching.wait_for_event("started")["transfer"].to_string();
    (fetching, number)
}

fn detail(b: &Daemon, number: &str) -> serde_json::Value {
    b.cli().json(words!["show", number]).success().event("detail").clone()
}

/// Lets a transfer go as fast as it can, and waits for it.
fn finish(b: &Daemon, number: &str) -> p2p_tests::Output {
    b.cli().run(words!["limit", number, "--off"]);
    b.cli().json(words!["wait", number])
}

#[test]
fn files_are_there_before_the_folder_is_whole_and_are_not_moved_again_after_a_kill() {
    for side in ["who fetches", "who has it"] {
        let Pair { mut a, mut b } = Pair::new();
        let (root, id) = shared(&a);
        let landed = b.file("here");
        let (fetching, number) = begun(&a, &b, &id, &["-o", landed.to_str().unwrap()]);
        until_true("small files are there", || landed.join("many/39").exists());
        let found = detail(&b, &number);
        assert_eq!((&found["state"], &found["progressive"]), (&"active".into(), &true.into()), "{found}");
        assert_eq!(found["path"], landed.to_str().unwrap());
        let shown = b.cli().run(words!["show", number]).success().text();
        assert!(shown.contains("--progressive"), "{shown}");
        match side {
            "who fetches" => b.kill9(),
            _ => a.kill9(),
        }
        let before = appeared(&root, &landed);
        assert!(before.len() >= 40 && !before.contains(&"zz".into()), "{before:?}");
        fetching.kill9();
        match side {
            "who fetches" => b.start_again(),
            _ => a.start_again(),
        }
        let waited = finish(&b, &number).success();
        assert_same_folder(&root, &landed);
        assert_eq!(waited.event("done")["path"], landed.to_str().unwrap());
        let bytes = |path: &PathBuf| root.join(path).metadata().unwrap().len();
        let had: u64 = before.iter().map(bytes).sum();
        let started = waited.events.iter().filter(|event| event["event"] == "started");
        let resumed = started.filter_map(|event| event["resumed_bytes"].as_u64()).max();
        assert!(resumed >= Some(had), "{side}: what had appeared was moved again\n{waited}");
        b.cli().run(words!["verify", landed, id]).success();
        assert!(data::files_below(&landed.parent().unwrap().join(".p2p")).is_empty());
    }
}

#[test]
fn what_is_in_the_way_or_was_changed_stays_and_the_same_again_completes_it() {
    let Pair { a, b } = Pair::new();
    let (root, id) = shared(&a);
    let landed = b.inbox().join("album");
    let (fetching, number) = begun(&a, &b, &id, &[]);
    until_true("small files are there", || landed.join("many/39").exists());
    b.cli().run(words!["pause", number]).success();
    write(&landed.join("zz"), b"mine");
    fs::write(landed.join("many/3"), "changed").unwrap();
    fs::rename(landed.join("many/4"), b.file("moved")).unwrap();
    fs::remove_file(landed.join("many/5")).unwrap();
    b.cli().run(words!["resume", number]).success();
    finish(&b, &number).exits(9);
    let failed = fetching.finish().exits(9);
    assert!(failed.message().contains("many/3, zz"), "{failed}");
    assert!(failed.events.iter().all(|event| event["event"] != "done"));
    assert_eq!(fs::read(landed.join("zz")).unwrap(), b"mine");
    assert_eq!(fs::read(landed.join("many/3")).unwrap(), b"changed");
    b.cli().run(words!["verify", landed, id]).exits(7);

    fs::remove_file(landed.join("zz")).unwrap();
    fs::remove_file(landed.join("many/3")).unwrap();
    let again = b.cli().json(words!["fetch", id, "--from", a.address(), "--progressive"]).success();
    assert!(again.moved() < CHUNK, "what was not changed is here\n{again}");
    assert_same_folder(&root, &landed);
    data::assert_same(&root.join("many/4"), &b.file("moved"));
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn what_else_is_in_the_folder_is_told_and_stays() {
    let Pair { a, b } = Pair::new();
    let (_, id) = shared(&a);
    let landed = b.inbox().join("album");
    let (fetching, number) = begun(&a, &b, &id, &["--only", "many", "--only", "zz"]);
    until_true("small files are there", || landed.join("many/39").exists());
    write(&landed.join("many/mine"), b"mine");
    finish(&b, &number).success();
    let fetched = fetching.finish().success();
    assert_eq!(fetched.event("left_out")["path"], "many/mine", "{fetched}");
    assert_eq!(fs::read(landed.join("many/mine")).unwrap(), b"mine");
    assert_eq!(appeared_beside(&landed, "many/mine").len(), 41);
}

#[test]
fn a_folder_that_has_more_in_it_is_not_said_to_be_had_from_there() {
    let Pair { a, b } = Pair::new();
    b.cli().run(words!["peers", "rule", a.peer(), "--progressive", "yes"]).success();
    for with_more in [false, true] {
        let root = a.file(&format!("album {with_more}"));
        make_all_sorts(&root);
        write(&root.join("zz"), &data::random(77, 6 * MIB));
        let landed = b.inbox().join(root.file_name().unwrap());
        let mut sending = a.cli().start_json(words!["send", root, "--to", b.address(), "--limit", SLOWLY]);
        let number = sending.wait_for_event("started")["transfer"].to_string();
        until_true("small files are there", || landed.join("many/39").exists());
        if with_more {
            write(&landed.join("many/mine"), b"mine");
        }
        finish(&a, &number).success();
        let done = sending.finish().success().event("done").clone();
        assert_eq!(done["fetch"].is_null(), with_more, "{done}");
    }
}

fn appeared_beside(landed: &Path, other: &str) -> Vec<PathBuf> {
    let mut files = data::files_below(landed);
    files.retain(|path| !path.ends_with(other));
    files
}

#[test]
fn what_a_peer_sends_appears_file_by_file_where_its_owner_settled_that() {
    let Pair { mut a, b } = Pair::new();
    let root = a.file("album");
    make_all_sorts(&root);
    write(&root.join("zz"), &data::random(77, 6 * MIB));
    let landed = b.inbox().join("album");
    let words = words!["peers", "rule", a.peer(), "--progressive", "yes", "--exists", "skip"];
    let rules = b.cli().json(words).success().event("peer")["rules"].clone();
    assert_eq!(rules["progressive"], true);
    let mut sending = a.cli().start_json(words!["send", root, "--to", b.address(), "--limit", SLOWLY]);
    let number = sending.wait_for_event("started")["transfer"].to_string();
    until_true("small files are there", || landed.join("many/39").exists());
    a.kill9();
    assert!(!appeared(&root, &landed).contains(&"zz".into()));
    sending.kill9();
    a.start_again();
    finish(&a, &number).success();
    assert_same_folder(&root, &landed);
    assert_eq!(b.transfers().last().unwrap()["progressive"], true);
    // The name is taken now, and what has it stays.
    fs::write(root.join("small"), "newer").unwrap();
    a.cli().run(words!["send", root, "--to", b.address()]).exits(9);
    // What takes the place of another comes whole.
    b.cli().run(words!["peers", "rule", a.peer(), "--exists", "overwrite"]).success();
    a.cli().run(words!["send", root, "--to", b.address()]).success();
    assert_same_folder(&root, &landed);
    let all: Vec<_> = fs::read_dir(b.inbox()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(all, ["album"]);
}

#[test]
fn what_is_cancelled_leaves_whole_files_and_says_where() {
    let Pair { a, b } = Pair::new();
    let (root, id) = shared(&a);
    let landed = b.inbox().join("album");
    let (fetching, number) = begun(&a, &b, &id, &[]);
    until_true("small files are there", || landed.join("many/39").exists());
    let cancelled = b.cli().json(words!["cancel", number]).success();
    assert_eq!(cancelled.event("cancelled")["left"], landed.to_str().unwrap());
    assert!(fetching.finish().message().contains("stays in"));
    let left = appeared(&root, &landed);
    assert!(left.len() >= 40, "{left:?}");
    assert!(b.partials().is_empty(), "{:?}", b.partials());
    // It is what a later fetch takes them from, into a folder of its own.
    let fetched = b.cli().json(words!["fetch", id, "--from", a.address(), "--progressive"]).success();
    assert!(fetched.moved() <= rest_of(&root, &left), "{fetched}");
    assert_same_folder(&root, &b.inbox().join("album (1)"));
    assert_eq!(appeared(&root, &landed), left);
    // Of one that has brought nothing yet nothing stays.
    let rest = b.cli().json(words!["fetch", id, "--from", a.address(), "--progressive", "--dry-run"]);
    assert_eq!(rest.success().event("planned")["bytes_to_move"], 0);
}

#[test]
fn what_cannot_appear_bit_by_bit_is_refused() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, MIB);
    let id = a.cli().run(words!["share", file]).success().text();
    let fetch = |more: &[&str]| {
        let mut words = words!["fetch", id, "--from", a.address(), "--progressive"].to_vec();
        words.extend(more.iter().map(Into::into));
        b.cli().json(words)
    };
    let refused = fetch(&[]).exits(2);
    assert!(refused.message().contains("leave --progressive out"), "{refused}");
    assert!(b.received().is_empty() && b.partials().is_empty());
    fetch(&["-o", "-"]).exits(2);
    fetch(&["-o", "x", "--update"]).exits(2);
    fetch(&["-o", "x", "--range", "0-9"]).exits(2);
}
