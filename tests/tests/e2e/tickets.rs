//! Tickets: one thing that whoever has the token may fetch.

use std::fs;

use p2p_tests::{Daemon, data, data::MIB, until::until_true, words};

#[test]
fn a_stranger_with_a_ticket_fetches_what_it_is_for_and_nothing_else() {
    let (mut alice, mut bob) = (Daemon::start("alice"), Daemon::start("bob"));
    let file = alice.new_file("f.bin", 1, 3 * data::CHUNK + 17);
    let other = alice.new_file("g.bin", 2, 1000);
    let other_id = alice.cli().run(words!["share", other]).success().text();
    let made = alice.cli().run(words!["share", file, "--ticket", "--qr"]).success();
    let ticket = made.text();
    assert!(ticket.starts_with("p2pticket") && made.stderr.contains("nobody without a ticket"), "{made}");
    let fetched = bob.cli().json(words!["fetch", ticket]).success();
    data::assert_same(&file, &bob.inbox().join("f.bin"));
    assert_eq!(fetched.event("done")["file_id"], data::file_id(&file));
    assert!(fetched.event("done")["fetch"].is_null(), "it takes the ticket again");
    assert_eq!(alice.standing_of(bob.peer()).as_deref(), Some("pending"), "it is trusted with nothing");
    assert_eq!(bob.standing_of(alice.peer()).as_deref(), Some("known"));
    // By File ID alone it gets neither that nor what is shared with friends.
    let by_id = |id: &str| {
        words!["fetch", id, "--from", alice.address(), "--accept-new-key", "-o", bob.file("x")].to_vec()
    };
    for id in [data::file_id(&file), other_id] {
        assert!(matches!(bob.cli().json(by_id(&id)).code, Some(5 | 6)), "{id}");
    }
    bob.cli().run(words!["send", other, "--to", alice.peer()]).exits(5);
    // From a file, over a restart of both, and of what changed meanwhile nothing is served.
    let paper = bob.file("ticket");
    fs::write(&paper, format!("{ticket}\n")).unwrap();
    alice.restart();
    bob.restart();
    bob.cli().run(words!["fetch", "--token-file", paper, "-o", bob.file("again.bin")]).success();
    data::assert_same(&file, &bob.file("again.bin"));
    bob.cli().run(words!["fetch", ticket, "--from", alice.address()]).exits(2);
    bob.cli().run(words!["join", ticket]).exits(2);
    alice.cli().run(words!["fetch", ticket]).exits(2);
    let invitation = alice.cli().run(words!["invite"]).success().text();
    bob.cli().env("P2P_TOKEN", invitation.as_str()).run(words!["fetch"]).exits(2);
}

#[test]
fn a_folder_goes_by_ticket_too() {
    let (alice, bob) = (Daemon::start("alice"), Daemon::start("bob"));
    let folder = alice.file("tree");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a"), "a").unwrap();
    let ticket = alice.cli().run(words!["share", folder, "--ticket"]).success().text();
    bob.cli().run(words!["fetch", ticket.to_uppercase()]).success();
    assert_eq!(fs::read(bob.inbox().join("tree/a")).unwrap(), b"a");
}

#[test]
fn uses_are_machines_and_end() {
    let alice = Daemon::start("alice");
    let file = alice.new_file("f.bin", 1, 1000);
    let made = alice.cli().json(words!["share", file, "--ticket", "--uses", "1"]).success();
    let ticket = made.event("ticketed")["token"].as_str().unwrap().to_owned();
    let (bob, eve) = (Daemon::start("bob"), Daemon::start("eve"));
    for n in 0..3 {
        bob.cli().run(words!["fetch", ticket, "-o", bob.file(&format!("{n}"))]).success();
    }
    let refused = eve.cli().json(words!["fetch", ticket]).exits(5);
    assert!(refused.event("failed")["message"].as_str().unwrap().contains("used"), "{refused}");
    let listed = alice.cli().json(words!["shares"]).success();
    assert_eq!((&listed.event("ticket")["used"], &listed.event("ticket")["uses"]), (&1.into(), &1.into()));
    // What a friend may fetch anyway uses nothing up.
    alice.trust(&eve);
    alice.cli().run(words!["share", file]).success();
    eve.cli().run(words!["fetch", ticket, "-o", eve.file("f")]).success();
    let listed = alice.cli().json(words!["shares"]).success();
    assert_eq!(listed.event("ticket")["used"], 1);
}

#[test]
fn a_resumed_fetch_is_no_other_use() {
    let (mut alice, mut bob) = (Daemon::start("alice"), Daemon::start("bob"));
    let relay = p2p_tests::Relay::to(alice.address());
    let file = alice.new_file("big.bin", 1, 24 * MIB);
    let words = words!["share", file, "--ticket", "--uses", "1", "--address", relay.address()];
    let ticket = alice.cli().run(words).success().text();
    relay.set_rate(4 * MIB);
    let mut fetching = bob.cli().start_json(words!["fetch", ticket]);
    fetching.wait_for_verified(4 * MIB);
    alice.restart();
    fetching.wait_for("progress after the restart", |line| line["event"] == "retrying");
    bob.restart();
    relay.set_rate(0);
    fetching.finish().success();
    data::assert_same(&file, &bob.inbox().join("big.bin"));
    let listed = alice.cli().json(words!["shares"]).success();
    assert_eq!(listed.event("ticket")["used"], 1);
}

#[test]
fn what_was_taken_back_or_has_expired_is_of_no_use() {
    let (alice, bob) = (Daemon::start("alice"), Daemon::start("bob"));
    let file = alice.new_file("f.bin", 1, 1000);
    let ticket = |words: &[&str]| {
        let words = words!["share", file, "--ticket"].into_iter().chain(words.iter().map(Into::into));
        alice.cli().run(words).success().text()
    };
    let first = ticket(&[]);
    alice.cli().run(words!["unshare", "--ticket", "1"]).success();
    alice.cli().run(words!["unshare", "--ticket", "1"]).exits(6);
    bob.cli().run(words!["fetch", first]).exits(5);
    let second = ticket(&[]);
    alice.cli().run(words!["unshare", data::file_id(&file)]).success();
    bob.cli().run(words!["fetch", second]).exits(5);
    let third = ticket(&["--expires", "1s"]);
    let holds =
        || alice.cli().json(words!["shares"]).success().events.iter().any(|line| line["event"] == "ticket");
    until_true("the ticket has expired", || !holds());
    bob.cli().run(words!["fetch", third]).exits(5);
    assert!(bob.received().is_empty());
    for wrong in [&["--uses", "0"][..], &["--public"], &["--expires", "20y"]] {
        let words = words!["share", file, "--ticket"].into_iter().chain(wrong.iter().map(Into::into));
        alice.cli().run(words).exits(2);
    }
    alice.cli().run(words!["share", file, "--uses", "2"]).exits(2);
}

#[test]
fn what_is_taken_back_stops_who_fetches_it_just_now() {
    let (alice, bob) = (Daemon::start("alice"), Daemon::start("bob"));
    let relay = p2p_tests::Relay::to(alice.address());
    relay.set_rate(4 * MIB);
    let file = alice.new_file("big.bin", 1, 64 * MIB);
    let share = || {
        let words = words!["share", file, "--ticket", "--address", relay.address()];
        alice.cli().run(words).success().text()
    };
    for back in
        [words!["unshare", "--ticket", "2"].to_vec(), words!["unshare", data::file_id(&file)].to_vec()]
    {
        let (first, second) = (share(), share());
        let mut fetching = bob.cli().start_json(words!["fetch", second]);
        fetching.wait_for_verified(MIB);
        alice.cli().run(back).success();
        let stopped = fetching.finish();
        assert_ne!(stopped.code, Some(0), "{stopped}");
        eprintln!("{stopped}");
        assert!(bob.received().is_empty());
        bob.cli().run(words!["fetch", second]).exits(5);
        drop(first);
    }
}
