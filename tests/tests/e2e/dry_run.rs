//! What would move is said, and nothing moves; and what is in a folder that somebody shares.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use p2p_tests::{
    Daemon, Pair, Relay,
    cli::Output,
    data,
    data::{CHUNK, MIB},
    words,
};

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Files and bytes, all and to be moved.
fn planned(said: &Output) -> [u64; 4] {
    let line = said.event("planned");
    ["files", "bytes", "files_to_move", "bytes_to_move"].map(|key| line[key].as_u64().unwrap())
}

fn transfers(daemon: &Daemon) -> usize {
    daemon.cli().json(words!["list"]).success().events.len()
}

#[test]
fn a_send_says_what_would_move_and_moves_nothing() {
    let Pair { a, b } = Pair::new();
    let root = a.file("tree");
    for n in 0..20 {
        write(&root.join(format!("d/{n}")), &data::random(n, 1000));
    }
    write(&root.join("left.o"), b"x");
    let dry = |extra: &[&str]| {
        let mut words = words!["send", root, "--to", b.address(), "--dry-run", "--exclude", "*.o"].to_vec();
        words.extend(extra.iter().map(Into::into));
        a.cli().json(words).success()
    };
    let first = dry(&[]);
    assert_eq!(planned(&first), [20, 20_000, 20, 20_000]);
    assert_eq!(first.event("planned")["folder"], true);
    assert_eq!((transfers(&a), transfers(&b)), (0, 0));
    assert_eq!(
        fs::read_dir(b.inbox()).map_or(0, Iterator::count),
        0,
        "nothing is there, and nothing was begun"
    );
    a.cli().run(words!["send", root, "--to", b.address(), "--exclude", "*.o"]).success();
    assert_eq!(planned(&dry(&[])), [20, 20_000, 0, 0]);
    write(&root.join("d/7"), &data::random(99, 1500));
    assert_eq!(planned(&dry(&[])), [20, 20_500, 1, 1500]);
    assert_eq!(
        planned(&dry(&["--name", "other"])),
        [20, 20_500, 20, 20_500],
        "nothing of that name is there"
    );
    // For a person, and for several paths.
    let file = a.new_file("one.bin", 1, 5000);
    let said = a.cli().run(words!["send", root, file, "--to", b.address(), "--dry-run"]).success();
    assert!(said.stderr.contains("tree/ (21 files"), "{said}");
    assert!(
        said.stderr.contains("one.bin (4.9 KiB)") && said.stderr.contains("all of it would move"),
        "{said}"
    );
    assert_eq!((transfers(&a), transfers(&b)), (1, 1));
    // Where its owner would be asked, nobody is told what is there, but for what it has put there itself.
    b.cli().run(words!["peers", "rule", a.peer(), "--accept", "ask"]).success();
    assert_eq!(planned(&dry(&[])), [20, 20_500, 20, 20_500]);
    write(&root.join("d/7"), &data::random(7, 1000));
    assert_eq!(planned(&dry(&[])), [20, 20_000, 0, 0]);
    assert_eq!(b.cli().json(words!["inbox"]).success().events.len(), 0);
    b.cli().run(words!["peers", "rule", a.peer(), "--accept", "always"]).success();
    // What is refused is refused.

    b.cli().run(words!["peers", "rule", a.peer(), "--largest", "4KiB"]).success();
    a.cli().run(words!["send", file, "--to", b.address(), "--dry-run"]).exits(5);
    a.cli().run(words!["send", "-", "--name", "x", "--to", b.address(), "--dry-run"]).exits(2);
}

#[test]
fn a_fetch_says_what_is_missing_and_fetches_nothing() {
    let Pair { a, b } = Pair::new();
    let root = b.file("tree");
    for n in 0..20 {
        write(&root.join(format!("d/{n}")), &data::random(n, 1000));
    }
    let id = b.cli().run(words!["share", root]).success().text();
    let target = a.file("copies");
    fs::create_dir(&target).unwrap();
    let copy = target.join("tree");

    let dry = |id: &str| {
        a.cli().json(words!["fetch", id, "--from", b.address(), "-o", target, "--dry-run"]).success()
    };
    let first = dry(&id);
    assert_eq!(planned(&first), [20, 20_000, 20, 20_000]);
    assert_eq!(first.event("planned")["path"], copy.to_str().unwrap());
    assert!(!copy.exists() && transfers(&a) == 0 && transfers(&b) == 0);
    let new = a.file("new/folder/");
    let said = a.cli().json(words!["fetch", id, "--from", b.address(), "-o", new, "--dry-run"]).success();
    assert_eq!(said.event("planned")["path"], a.file("new/folder/tree").to_str().unwrap());
    assert!(!a.file("new").exists(), "not even the folder that it would go to is made");

    a.cli().run(words!["fetch", id, "--from", b.address(), "-o", target]).success();
    assert_eq!(planned(&dry(&id)), [20, 20_000, 0, 0]);
    write(&root.join("d/7"), &data::random(99, 1500));
    let newer = b.cli().run(words!["share", root]).success().text();
    assert_eq!(planned(&dry(&newer)), [20, 20_500, 1, 1500]);
    // A refusal, an unknown File ID, and a ticket.
    let nothing = "0".repeat(64);
    a.cli().run(words!["fetch", nothing, "--from", b.address(), "--dry-run"]).exits(6);
    let ticket = b.cli().run(words!["share", root, "--ticket"]).success().text();
    a.cli().run(words!["fetch", ticket, "--dry-run"]).exits(2);
}

#[test]
fn what_a_paused_fetch_has_is_not_counted_as_missing() {
    let Pair { a, b } = Pair::new();
    let relay = Relay::to(b.address());
    let file = b.new_file("long.bin", 5, 40 * MIB);
    let id = b.cli().run(words!["share", file]).success().text();
    relay.set_rate(8 * MIB);
    let mut fetching = a.cli().start_json(words!["fetch", id, "--from", relay.address()]);
    let number = fetching.wait_for_event("started")["transfer"].to_string();
    let verified = fetching.wait_for_verified(10 * MIB);
    a.cli().run(words!["pause", number]).success();
    fetching.wait_for("paused", |event| event["event"] == "waiting" && event["reason"] == "paused");
    let dry = a.cli().json(words!["fetch", id, "--from", relay.address(), "--dry-run"]).success();
    let [_, all, _, missing] = planned(&dry);
    assert!(all == 40 * MIB && missing <= all - verified, "{verified}\n{dry}");
    a.cli().run(words!["cancel", number]).success();
}

#[test]
fn what_is_in_a_folder_is_listed() {
    let Pair { a, b } = Pair::new();
    let root = b.file("tree");
    write(&root.join("d/run"), b"#!/bin/sh\n");
    fs::set_permissions(root.join("d/run"), fs::Permissions::from_mode(0o755)).unwrap();
    write(&root.join("long"), &data::random(1, CHUNK + 1));
    std::os::unix::fs::symlink("d/run", root.join("link")).unwrap();
    fs::hard_link(root.join("long"), root.join("twin")).unwrap();
    let id = b.cli().run(words!["share", root]).success().text();
    let said = a.cli().json(words!["ls", b.address(), id]).success();
    let rows: Vec<_> = said
        .events
        .iter()
        .map(|line| ["path", "kind", "bytes", "target"].map(|key| line[key].to_string()).join(" "))
        .collect();
    let long = CHUNK + 1;
    assert_eq!(
        rows,
        [
            "\"d\" \"folder\" null null".to_owned(),
            "\"d/run\" \"executable\" 10 null".into(),
            "\"link\" \"link\" null \"d/run\"".into(),
            format!("\"long\" \"file\" {long} null"),
            "\"twin\" \"hard_link\" null \"long\"".into(),
        ]
    );
    assert_eq!(said.events[3]["file_id"], data::file_id(&root.join("long")));
    assert_eq!((transfers(&a), transfers(&b)), (0, 0));
    let file = b.cli().run(words!["share", root.join("long")]).success().text();
    a.cli().run(words!["ls", b.address(), file]).exits(2);
    a.cli().run(words!["ls", b.address(), "0".repeat(64)]).exits(6);
    // Who may not fetch it learns nothing of it.
    b.cli().run(words!["peers", "trust", a.peer(), "--allow", "send"]).success();
    a.cli().run(words!["ls", b.address(), id]).exits(6);
}
