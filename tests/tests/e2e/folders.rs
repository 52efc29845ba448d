//! Folders: what is kept of them, what is moved when some of it is there already, and what a crash costs.

use std::{
    collections::BTreeMap,
    fs,
    net::UdpSocket,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use p2p_tests::{
    Daemon, Pair, Relay,
    cli::Output,
    daemon::Place,
    data,
    data::{CHUNK, MIB},
    words,
};
use serde_json::json;

/// Bytes per second.
const RATE: u64 = 6 * MIB;
/// What a crash may cost beyond what was missing: two windows, and what was on its way.
const IN_DOUBT: u64 = 2 * RATE + 6 * MIB;

/// Writes a file, and the folders above it.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// A folder with one of everything that is kept.
pub(crate) fn make_all_sorts(root: &Path) {
    write(&root.join("small"), b"hello");
    write(&root.join("nothing"), b"");
    write(&root.join("deep/er/long.bin"), &data::random(1, 3 * CHUNK + 7));
    write(&root.join("deep/run"), b"#!/bin/sh\n");
    write(&root.join("deep/Größe 1.txt"), b"x");
    fs::set_permissions(root.join("deep/run"), fs::Permissions::from_mode(0o755)).unwrap();
    data::write_sparse(&root.join("holes"), 5 * CHUNK, &[(3 * CHUNK, b"data")]);
    fs::create_dir_all(root.join("empty/too")).unwrap();
    fs::hard_link(root.join("small"), root.join("deep/same")).unwrap();
    symlink("../small", root.join("deep/link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    for n in 0..40 {
        write(&root.join(format!("many/{n}")), &data::random(n, 100 + n));
    }
    for (n, path) in (0..).zip(["small", "deep/er/long.bin", "deep/er", "empty/too", "many", ""]) {
        set_time(&root.join(path), 1_000_000_000 + n);
    }
}

/// What can be seen of each thing in a folder, and of the folder itself.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    fn look(root: &Path, path: &Path, all: &mut BTreeMap<PathBuf, String>) {
        let found = path.symlink_metadata().unwrap();
        let inside = path.strip_prefix(root).unwrap().to_owned();
        let told = if found.is_symlink() {
            format!("-> {}", fs::read_link(path).unwrap().display())
        } else if found.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                look(root, &entry.unwrap().path(), all);
            }
            format!("folder {}.{}", found.mtime(), found.mtime_nsec())
        } else {
            let id = data::file_id(path);
            let run = found.mode() & 0o111 != 0;
            format!("{id} {run} {} {}.{}", found.nlink(), found.mtime(), found.mtime_nsec())
        };
        all.insert(inside, told);
    }
    let mut all = BTreeMap::new();
    look(root, root, &mut all);
    all
}

pub(crate) fn assert_same_folder(left: &Path, right: &Path) {
    let (here, there) = (seen(left), seen(right));
    for (path, told) in &here {
        assert_eq!(Some(told), there.get(path), "{}", path.display());
    }
    assert_eq!(here.len(), there.len(), "{:?}", there.keys());
}

/// A folder of this daemon's user with many small files and some long ones.
fn make_large(daemon: &Daemon, name: &str) -> PathBuf {
    let root = daemon.file(name);
    for n in 0..300 {
        write(&root.join(format!("{}/{n}", n % 7)), &data::random(n, 20_000 + n));
    }
    for n in 0..3 {
        write(&root.join(format!("long/{n}")), &data::random(1000 + n, 6 * MIB + n));
    }
    root
}

fn size_of(root: &Path) -> u64 {
    data::files_below(root).iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn all_sorts_of_things_are_kept_both_ways() {
    let Pair { a, b } = Pair::new();
    let root = a.file("all sorts");
    make_all_sorts(&root);
    let sent = a.cli().json(words!["send", root, "--to", b.address()]).success();
    assert_same_folder(&root, &b.inbox().join("all sorts"));
    let id = sent.event("done")["file_id"].as_str().unwrap().to_owned();
    assert_eq!(a.cli().run(words!["share", root]).success().text(), id);
    let target = b.file("fetched");
    let fetched = b.cli().json(words!["fetch", id, "--from", a.address(), "-o", target]).success();
    assert_same_folder(&root, &target);
    assert_eq!(fetched.event("done")["path"], target.to_str().unwrap());
    // The receiver's copy is the sender's to fetch back.
    let back = a.file("back");
    fs::create_dir_all(&back).unwrap();
    a.cli().json(words!["fetch", id, "--from", b.address(), "-o", back]).success();
    assert_same_folder(&root, &back.join("all sorts"));
    a.cli().run(words!["verify", root, id]).success();
    assert!(b.partials().is_empty(), "{:?}", b.partials());
    assert!(data::allocated(&target.join("holes")) < 2 * CHUNK, "holes stay holes");
}

#[test]
fn what_is_left_out_is_named_and_the_rest_is_whole() {
    let Pair { a, b } = Pair::new();
    let root = a.file("some");
    write(&root.join("in/file"), b"x");
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../../out", root.join("in/up")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
    write(&root.join("in/.p2p/abc.part"), b"x");
    let sent = a.cli().json(words!["send", root, "--to", b.address()]).success();
    let mut left_out: Vec<_> = sent.events.iter().filter(|event| event["event"] == "left_out").collect();
    left_out.sort_by_key(|event| event["path"].as_str());
    let told: Vec<_> = left_out
        .iter()
        .map(|event| (event["path"].as_str().unwrap(), event["reason"].as_str().unwrap()))
        .collect();
    let leads_out = "a symbolic link that leads out of the folder";
    assert_eq!(
        told,
        [
            ("absolute", leads_out),
            ("in/.p2p", "what p2p has not finished receiving"),
            ("in/up", leads_out),
            ("pipe", "a named pipe")
        ]
    );
    assert_eq!(b.received(), [b.inbox().join("some/in/file")]);
}

/// Names that are two here and would be one elsewhere are sent, where they are two again, and their owner is told.
///
/// Fault 24.
#[test]
fn names_that_are_one_elsewhere_are_told() {
    let Pair { a, b } = Pair::new();
    let root = a.file("names");
    for (name, content) in [("Makefile", "1"), ("makefile", "2"), ("sub/e\u{301}", "3"), ("sub/\u{e9}", "4")]
    {
        write(&root.join(name), content.as_bytes());
    }
    let pairs = [json!(["Makefile", "makefile"]), json!(["sub/e\u{301}", "sub/\u{e9}"])];
    let told = |ran: &Output| -> Vec<_> {
        let told = ran.events.iter().filter(|event| event["event"] == "same_name");
        told.map(|event| event["paths"].clone()).collect()
    };
    let sent = a.cli().json(words!["send", root, "--to", b.address()]).success();
    assert_eq!(told(&sent), pairs, "{sent}");
    assert_same_folder(&root, &b.inbox().join("names"));
    let shared = a.cli().json(words!["share", root]).success();
    assert_eq!(told(&shared), pairs, "{shared}");
    let in_words = a.cli().run(words!["share", root]).success();
    assert!(in_words.to_string().contains("Makefile and makefile are one name"), "{in_words}");
}

#[test]
fn names_that_no_receiver_takes_are_named_before_anything_moves() {
    let Pair { a, b } = Pair::new();
    let root = a.file("odd");
    write(&root.join("fine"), b"x");
    (0..8).for_each(|n| write(&root.join(format!("sub/a:b{n}")), b"x"));
    let refused = a.cli().json(words!["send", root, "--to", b.address()]).exits(2);
    let said = refused.message();
    assert!(said.contains("sub/a:b0 (the name holds the character ':')"), "{refused}");
    assert!(said.contains("and 3 more") && said.contains("--exclude"), "{refused}");
    assert!(b.received().is_empty());
}

#[test]
fn nothing_moves_twice() {
    let Pair { a, b } = Pair::new();
    let root = make_large(&a, "large");
    let whole = size_of(&root);
    let send = |moved: u64| {
        let sent = a.cli().json(words!["send", root, "--to", b.address()]).success();
        assert_eq!(sent.moved(), moved, "{sent}");
        let name = sent.event("done")["path"].as_str().unwrap().to_owned();
        assert_same_folder(&root, &b.inbox().join(name));
    };
    send(whole);
    send(0);
    // Some files are new, some others have moved, one long one has another name.
    write(&root.join("3/3"), b"changed");
    write(&root.join("new/one"), &data::random(7777, 5000));
    fs::rename(root.join("1"), root.join("elsewhere")).unwrap();
    fs::rename(root.join("long/1"), root.join("2/renamed")).unwrap();
    fs::remove_file(root.join("5/5")).unwrap();
    send(7 + 5000);
    assert!(b.inbox().join("large (1)").is_dir(), "the older one stays");
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn a_killed_send_of_a_folder_goes_on() {
    for kill_sender in [false, true] {
        let (Pair { mut a, mut b }, relay) = Pair::with_relay();
        let root = make_large(&a, "large");
        let whole = size_of(&root);
        relay.set_rate(RATE);
        let mut sending = a.cli().start_json(words!["send", root, "--to", relay.address()]);
        let verified = sending.wait_for_verified(whole / 2);
        if kill_sender {
            a.kill9()
        } else {
            b.kill9()
        }
        sending.kill9();
        assert!(!b.inbox().join("large").exists(), "not before it is whole");
        if kill_sender {
            a.start_again()
        } else {
            b.start_again()
        }
        let again = a.cli().json(words!["send", root, "--to", relay.address()]).success();
        assert_same_folder(&root, &b.inbox().join("large"));
        assert!(again.moved() <= whole - verified + IN_DOUBT, "{again}");
        assert!(again.moved() < whole, "nothing was kept\n{again}");
        b.settled();
        assert!(b.partials().is_empty(), "{:?}", b.partials());
    }
}

#[test]
fn a_fetch_of_a_folder_goes_on_after_an_orderly_stop_without_moving_anything_twice() {
    let Pair { a, mut b } = Pair::new();
    let relay = Relay::to(a.address());
    let root = make_large(&a, "large");
    let whole = size_of(&root);
    relay.set_rate(RATE);
    let id = a.cli().run(words!["share", root]).success().text();
    let target = b.file("got");
    let mut fetching = b.cli().start_json(words!["fetch", id, "--from", relay.address(), "-o", target]);
    fetching.wait_for_verified(whole / 3);
    b.sigterm();
    fetching.kill9();
    b.start_again();
    let again = b.cli().json(words!["fetch", id, "--from", relay.address(), "-o", target]).success();
    assert!(again.moved() <= whole - whole / 3, "{again}");
    assert_same_folder(&root, &target);
}

#[test]
fn a_folder_that_changes_while_it_is_sent_is_told_and_goes_on_as_another() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    let root = make_large(&a, "large");
    let whole = size_of(&root);
    relay.set_rate(RATE);
    let mut sending = a.cli().start_json(words!["send", root, "--to", relay.address()]);
    sending.wait_for_verified(whole / 2);
    // The last to be sent.
    data::flip(&root.join("long/2"), 6 * MIB - 9);
    let failed = sending.finish();
    assert_eq!(failed.code, Some(7), "{failed}");
    let sent = a.cli().json(words!["send", root, "--to", relay.address()]).success();
    assert_same_folder(&root, &b.inbox().join("large"));
    assert!(sent.moved() < whole, "what had come of the other is of use\n{sent}");
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    let Pair { a, b } = Pair::new();
    let root = a.file("name");
    write(&root.join("x"), b"1");
    fs::create_dir_all(b.inbox()).unwrap();
    for (n, make) in (1..).zip([
        (|path: &Path| fs::write(path, "a file").unwrap()) as fn(&Path),
        |path| symlink("/etc", path).unwrap(),
        |path| write(&path.join("other"), b"2"),
    ]) {
        let taken = b.inbox().join("name");
        make(&taken);
        let before = taken.symlink_metadata().unwrap().ino();
        write(&root.join("x"), format!("{n}").as_bytes());
        let sent = a.cli().json(words!["send", root, "--to", b.address()]).success();
        assert_eq!(sent.event("done")["path"], "name (1)", "{sent}");
        assert_eq!(taken.symlink_metadata().unwrap().ino(), before);
        fs::remove_dir_all(b.inbox()).unwrap();
        fs::create_dir_all(b.inbox()).unwrap();
    }
}

/// What fails here is not asked of the next peer.
#[test]
fn a_folder_cannot_go_to_standard_output() {
    let Pair { a, b } = Pair::new();
    let root = a.file("name");
    write(&root.join("x"), b"1");
    let id = a.cli().run(words!["share", root]).success().text();
    let next = UdpSocket::bind("127.0.0.1:0").unwrap();
    next.set_nonblocking(true).unwrap();
    let both = ["--from", a.address(), "--from", &next.local_addr().unwrap().to_string()].map(Into::into);
    let words = [&words!["fetch", id, "-o", "-"][..], &both].concat();
    let refused = b.cli().run(words).exits(2);
    assert!(refused.stderr.contains("-o"), "{refused}");
    assert!(refused.stdout.is_empty());
    let asked = next.recv(&mut [0; 2000]).unwrap_err();
    assert_eq!(asked.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn an_empty_folder_is_one_too() {
    let Pair { a, b } = Pair::new();
    let root = a.file("empty");
    fs::create_dir_all(&root).unwrap();
    set_time(&root, 1_234_567_890);
    let sent = a.cli().json(words!["send", root, "--to", b.address()]).success();
    assert_eq!(sent.moved(), 0);
    assert_same_folder(&root, &b.inbox().join("empty"));
    let again = a.cli().json(words!["send", root, "--to", b.address()]).success();
    assert_eq!(again.event("done")["path"], "empty", "{again}");
}

#[test]
fn a_cancelled_folder_leaves_nothing() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    let root = make_large(&a, "large");
    relay.set_rate(RATE);
    let mut sending = a.cli().start_json(words!["send", root, "--to", relay.address()]);
    sending.wait_for_verified(MIB);
    let number = b.transfers()[0]["transfer"].to_string();
    b.cli().run(words!["cancel", number]).success();
    sending.finish();
    b.settled();
    assert!(b.received().is_empty() && b.partials().is_empty(), "{:?}", b.partials());
    assert!(!b.inbox().join(".p2p").exists());
}

#[test]
fn many_files_cost_little_memory() {
    let Pair { a, b } = Pair::new();
    let root = a.file("many");
    for n in 0..20_000 {
        write(&root.join(format!("{}/{n}", n / 200)), &[7; 16]);
    }
    a.cli().json(words!["send", root, "--to", b.address()]).success();
    assert_eq!(data::files_below(&b.inbox().join("many")).len(), 20_000);
    for daemon in [&a, &b] {
        assert!(daemon.peak_memory() < 128 * MIB, "{} MiB", daemon.peak_memory() / MIB);
    }
}

#[test]
fn a_folder_waits_for_its_owners_word_like_a_file() {
    let a = Daemon::start("a");
    let b = Daemon::start_in("b", Place::new().config("accept = \"ask\"\n"));
    let Pair { a, b } = Pair::of(a, b);
    let root = a.file("asked");
    write(&root.join("x"), b"1");
    let mut sending = a.cli().start_json(words!["send", root, "--to", b.address()]);
    sending.wait_for("the word that it waits", |event| event["reason"] == "accept");
    let number = b.transfers()[0]["transfer"].to_string();
    assert!(b.received().is_empty());
    b.cli().run(words!["inbox", "accept", number]).success();
    sending.finish().success();
    assert_same_folder(&root, &b.inbox().join("asked"));
}

#[test]
fn what_is_excluded_is_neither_sent_nor_part_of_what_is_shared() {
    let Pair { a, b } = Pair::new();
    let root = a.place().root().join("files/project");
    for (path, text) in [
        ("src/main.c", "int main;"),
        ("src/main.o", "object"),
        ("keep.o", "kept"),
        ("build/out.bin", "out"),
        ("src/build", "a file of that name"),
        ("bad:name.tmp", "a name that no receiver takes"),
    ] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    }
    let patterns = a.place().root().join("patterns");
    fs::write(&patterns, "# what is made\n*.o\n/build/\n*.tmp\n").unwrap();
    let excludes = words!["--exclude-from", patterns, "--exclude", "!keep.o"];
    let send = words!["send", root, "--to", b.address(), "--peer", b.peer()];
    a.cli().run(send.clone()).exits(2);
    a.cli().run(send.clone().into_iter().chain(excludes.clone())).success();
    let mut there: Vec<_> = data::files_below(&b.inbox().join("project"));
    there
        .iter_mut()
        .for_each(|path| *path = path.strip_prefix(b.inbox().join("project")).unwrap().to_owned());
    assert_eq!(there, ["keep.o", "src/build", "src/main.c"].map(std::path::PathBuf::from));
    // What is shared so can be fetched so, after a restart too, and is the folder that arrived.
    let mut a = a;
    let shared = a.cli().run(words!["share", root].into_iter().chain(excludes)).success().text();
    a.restart();
    let out = b.place().root().join("out");
    let from = words!["fetch", shared.trim(), "--from", a.address(), "--peer", a.peer(), "-o", out];
    b.cli().run(from).success();
    assert_eq!(data::files_below(&out).len(), 3);
    b.cli().run(words!["verify", b.inbox().join("project"), shared.trim()]).success();
    let wrong = a.cli().run(send.into_iter().chain(words!["--exclude", "[z-a]"])).exits(2);
    assert!(wrong.stderr.contains("[z-a]"), "{wrong}");
}
