//! What can be fetched, and by whom.

use std::fs;

use p2p_tests::{Daemon, Output, Pair, Relay, control, data, data::MIB, trust_each_other, words};

fn fetch(daemon: &Daemon, id: &str, from: &Daemon) -> Output {
    daemon.cli().json(words!["fetch", id, "--from", from.address(), "--accept-new-key"])
}

/// What a failed fetch said, without the File ID that it was about.
fn words_of(refused: &Output, id: &str) -> String {
    refused.message().replace(id, "ID")
}

/// Fault 75.
#[test]
fn what_is_not_shared_answers_as_what_is_not_there() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("secret.bin", 1, 2 * MIB);
    let id = a.cli().run(words!["share", file]).success().text();
    a.cli().run(words!["unshare", id]).success();
    let absent = "00".repeat(32);
    let (private, nothing) = (fetch(&b, &id, &a).exits(6), fetch(&b, &absent, &a).exits(6));
    assert_eq!(words_of(&private, &id), words_of(&nothing, &absent));
    assert_eq!(private.event("failed")["code"], nothing.event("failed")["code"]);
}

/// Fault 75.
#[test]
fn a_share_for_one_is_not_for_another() {
    let (a, b, c) = (Daemon::start("a"), Daemon::start("b"), Daemon::start("c"));
    trust_each_other(&[&a, &b, &c]);
    let file = a.new_file("f.bin", 1, 300_000);
    let shared = a.cli().run(words!["share", file, "--to", b.peer()]).success();
    let id = shared.text();
    let absent = "11".repeat(32);
    let (denied, nothing) = (fetch(&c, &id, &a).exits(6), fetch(&c, &absent, &a).exits(6));
    assert_eq!(words_of(&denied, &id), words_of(&nothing, &absent));
    fetch(&b, &id, &a).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
    assert!(c.received().is_empty());
}

/// Fault 72.
#[test]
fn a_public_share_is_for_everyone_and_nothing_else_is() {
    let (a, stranger) = (Daemon::start("a"), Daemon::start("stranger"));
    let (public, private) = (a.new_file("public.bin", 1, 300_000), a.new_file("private.bin", 2, 300_000));
    let public_id = a.cli().run(words!["share", public, "--public"]).success().text();
    let private_id = a.cli().run(words!["share", private]).success().text();
    fetch(&stranger, &public_id, &a).success();
    data::assert_same(&public, &stranger.inbox().join("public.bin"));
    let denied = fetch(&stranger, &private_id, &a);
    assert!(matches!(denied.code, Some(5 | 6)), "{denied}");
    let absent = "22".repeat(32);
    let nothing = fetch(&stranger, &absent, &a);
    assert_eq!((denied.code, words_of(&denied, &private_id)), (nothing.code, words_of(&nothing, &absent)));
    // Fetching what is public gives no right to send.
    let file = stranger.new_file("f.bin", 3, 1000);
    stranger.cli().json(words!["send", file, "--to", a.address()]).exits(5);
    assert!(a.received().is_empty());
    assert_ne!(a.standing_of(stranger.peer()).as_deref(), Some("trusted"));
}

/// Fault 72.
#[test]
fn a_stranger_gets_nothing_where_nothing_is_public() {
    let (a, stranger) = (Daemon::start("a"), Daemon::start("stranger"));
    let file = a.new_file("f.bin", 1, 1000);
    let id = a.cli().run(words!["share", file]).success().text();
    fetch(&stranger, &id, &a).exits(5);
    assert_eq!(a.standing_of(stranger.peer()).as_deref(), Some("pending"));
    assert!(stranger.received().is_empty());
}

#[test]
fn a_share_ends_when_it_is_taken_back() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    let id = a.cli().run(words!["share", file]).success().text();
    fetch(&b, &id, &a).success();
    a.cli().run(words!["unshare", id]).success();
    fs::remove_file(b.inbox().join("f.bin")).unwrap();
    fetch(&b, &id, &a).exits(6);
    a.cli().json(words!["unshare", id]).exits(6);
}

#[test]
fn a_share_outlives_a_restart() {
    let Pair { mut a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    let id = a.cli().run(words!["share", file]).success().text();
    a.restart();
    fetch(&b, &id, &a).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

#[test]
fn what_was_sent_can_be_fetched_back() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
    let id = data::file_id(&file);
    let fetch_command = sent.event("done")["fetch"].as_str().unwrap().to_owned();
    assert_eq!(fetch_command, format!("p2p fetch {id} --from {}", b.address()));
    let back = a.file("back.bin");
    a.cli().json(words!["fetch", id, "--from", b.address(), "-o", back]).success();
    data::assert_same(&file, &back);
    // And by nobody else.
    let c = Daemon::start("c");
    trust_each_other(&[&b, &c]);
    fetch(&c, &id, &b).exits(6);
}

#[test]
fn the_next_source_is_tried_when_one_fails() {
    let (a, b, c) = (Daemon::start("a"), Daemon::start("b"), Daemon::start("c"));
    trust_each_other(&[&a, &b, &c]);
    let file = c.new_file("f.bin", 1, 300_000);
    let id = c.cli().run(words!["share", file]).success().text();
    // a has nothing to give.
    b.cli().json(words!["fetch", id, "--from", a.address(), "--from", c.address()]).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

/// Fault 60.
#[test]
fn a_fetch_goes_on_from_another_peer() {
    let (mut a, b, c) = (Daemon::start("a"), Daemon::start("b"), Daemon::start("c"));
    trust_each_other(&[&a, &b, &c]);
    let len = 16 * MIB;
    let (file, same) = (a.new_file("f.bin", 1, len), c.new_file("f.bin", 1, len));
    let id = a.cli().run(words!["share", file]).success().text();
    assert_eq!(c.cli().run(words!["share", same]).success().text(), id);
    let relay = Relay::to(a.address());
    relay.set_rate(6 * MIB);
    let sources = words!["fetch", id, "--from", relay.address(), "--from", c.address()];
    let mut fetching = b.cli().start_json(sources);
    fetching.wait_for_verified(len / 2);
    a.sigterm();
    let fetched = fetching.finish().success();
    let second = fetched.events.iter().filter(|event| event["event"] == "started").nth(1);
    let second = second.unwrap_or_else(|| panic!("it started once only\n{fetched}"));
    assert_eq!(second["peer"], c.peer(), "{fetched}");
    assert!(second["resumed_bytes"].as_u64().is_some_and(|resumed| resumed > len / 4), "{fetched}");
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

/// Fault 35.
#[test]
fn two_fetches_of_one_content_make_one_writer() {
    let Pair { a, b } = Pair::new();
    let relay = Relay::to(a.address());
    relay.set_rate(8 * MIB);
    let file = a.new_file("f.bin", 1, 12 * MIB);
    let id = a.cli().run(words!["share", file]).success().text();
    let (first, second) = (b.file("first.bin"), b.file("second.bin"));
    let mut running: Vec<_> = Vec::new();
    for target in [None, None, Some(&first), Some(&second)] {
        let mut words = words!["fetch", id, "--from", relay.address()].to_vec();
        words.extend(target.into_iter().flat_map(|target| words!["-o", target]));
        running.push(b.cli().start_json(words));
    }
    for command in running {
        command.finish().success();
    }
    assert_eq!(b.received().len(), 1, "{:?}", b.received());
    for copy in [&b.inbox().join("f.bin"), &first, &second] {
        data::assert_same(&file, copy);
    }
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn standard_output_gets_the_content_and_nothing_else() {
    let Pair { a, b } = Pair::new();
    for (seed, len) in [(1, 0), (2, 1), (3, 9 * MIB + 5)] {
        let file = a.new_file("f.bin", seed, len);
        let id = a.cli().run(words!["share", file]).success().text();
        let fetched = b.cli().run(words!["fetch", id, "--from", a.address(), "-o", "-"]).success();
        assert!(fetched.stdout == data::random(seed, len), "{} bytes instead of {len}", fetched.stdout.len());
    }
    assert!(b.received().is_empty() && b.partials().is_empty());
    let missing = b.cli().run(words!["fetch", "33".repeat(32), "--from", a.address(), "-o", "-"]).exits(6);
    assert!(missing.stdout.is_empty(), "{missing}");
}

#[test]
fn a_peer_sees_what_is_shared_with_it_and_nothing_else() {
    let (a, b, c) = (Daemon::start("a"), Daemon::start("b"), Daemon::start("c"));
    trust_each_other(&[&a, &b]);
    trust_each_other(&[&b, &c]);
    let listed = |from: &Daemon| -> Vec<String> {
        let said = from.cli().json(words!["ls", b.address()]).success();
        said.events
            .iter()
            .filter(|event| event["event"] == "listed")
            .map(|event| event["name"].to_string())
            .collect()
    };
    assert!(listed(&a).is_empty());
    let folder = b.place().root().join("files/photos");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("one.jpg"), "picture").unwrap();
    let (all, one) = (b.new_file("all.bin", 1, 1000), b.new_file("for a.bin", 2, 2000));
    b.cli().run(words!["share", all]).success();
    b.cli().run(words!["share", one, "--to", a.peer()]).success();
    b.cli().run(words!["share", folder]).success();
    assert_eq!(listed(&a), ["\"all.bin\"", "\"for a.bin\"", "\"photos\""]);
    assert_eq!(listed(&c), ["\"all.bin\"", "\"photos\""]);
    let said = a.cli().json(words!["ls", b.address()]).success();
    let first = said.events.iter().find(|event| event["name"] == "all.bin").unwrap();
    assert_eq!((first["bytes"].as_u64(), first["folder"].as_bool()), (Some(1000), Some(false)));
    assert_eq!(first["file_id"], data::file_id(&all));
    // Who may only send learns nothing, and neither does a stranger.
    b.cli().run(words!["peers", "trust", c.peer(), "--allow", "send"]).success();
    c.cli().run(words!["ls", b.address()]).exits(5);
    let stranger = Daemon::start("stranger");
    stranger.cli().run(words!["ls", b.address()]).exits(5);
}

#[test]
fn a_long_list_comes_in_parts() {
    let Pair { a, b } = Pair::new();
    let files: Vec<_> = (0..600).map(|n| b.new_file(&format!("{n:03}"), n, 10)).collect();
    control::ask_many(b.place().home_path(), 600, &|n| control::share(&files[n as usize]));
    a.cli().run(words!["peers", "trust", b.peer(), "--name", "bob", "--address", b.address()]).success();
    let said = a.cli().json(words!["ls", "bob"]).success();
    let names: Vec<_> = said.events.iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, (0..600).map(|n| format!("{n:03}")).collect::<Vec<_>>());
}
