//! Several transfers of one owner: asked for together, held back, put in order.

use std::fs;

use p2p_tests::{Daemon, Pair, Relay, Running, daemon::Place, data, data::MIB, until::until_true, words};
use serde_json::Value;

#[test]
fn several_paths_land_beside_each_other() {
    let Pair { a, b } = Pair::new();
    let (one, two) = (a.new_file("one.bin", 1, 3_000_000), a.new_file("two.bin", 2, 70_000));
    let folder = a.file("folder");
    fs::create_dir(&folder).unwrap();
    data::write_random(&folder.join("inside.bin"), 3, 5000);
    let sent = a.cli().json(words!["send", one, two, folder, "--to", b.address()]).success();
    let queued: Vec<_> = sent.events.iter().filter(|event| event["event"] == "queued").collect();
    let paths: Vec<_> = queued.iter().map(|event| event["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths, [&one, &two, &folder].map(|path| path.display().to_string()));
    let done: Vec<_> = sent.events.iter().filter(|event| event["event"] == "done").collect();
    assert_eq!(done.len(), 3, "{sent}");
    let summary = sent.events.last().unwrap();
    assert_eq!((&summary["event"], &summary["done"]), (&"summary".into(), &3.into()), "{sent}");
    assert_eq!(summary["moved_bytes"], 3_075_000, "{sent}");
    data::assert_same(&one, &b.inbox().join("one.bin"));
    data::assert_same(&two, &b.inbox().join("two.bin"));
    data::assert_same(&folder.join("inside.bin"), &b.inbox().join("folder/inside.bin"));
    assert_eq!(b.received().len(), 3, "{:?}", b.received());
    // Once more, and nothing has to move.
    let again = a.cli().json(words!["send", one, two, folder, "--to", b.address()]).success();
    assert_eq!(again.event("summary")["moved_bytes"], 0, "{again}");
    // One path that is not there, and nothing is sent.
    let before = a.transfers().len();
    a.cli()
        .json(words!["send", a.new_file("new.bin", 9, 10), a.file("missing"), "--to", b.address()])
        .exits(6);
    assert_eq!(a.transfers().len(), before);
}

#[test]
fn several_paths_end_with_the_worst_of_their_ends() {
    let (a, b) = (Daemon::start("a"), Daemon::start("b"));
    b.trust(&a);
    let (good, taken) = (a.new_file("good.bin", 1, 5000), a.new_file("con:", 2, 5000));
    let words = words!["send", good, taken, "--to", b.address(), "--accept-new-key"];
    let sent = a.cli().json(words).exits(2);
    assert_eq!(
        (sent.event("summary")["done"].as_u64(), sent.event("summary")["failed"].as_u64()),
        (Some(1), Some(1))
    );
    data::assert_same(&good, &b.inbox().join("good.bin"));
    // Detached, the numbers come in the order of the paths.
    let words = words!["send", good, a.new_file("last.bin", 3, 10), "--to", b.address(), "--detach"];
    let numbers = a.cli().run(words).success().text();
    let numbers: Vec<u64> = numbers.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.len() == 2 && numbers[0] < numbers[1], "{numbers:?}");
    a.settled();
    data::assert_same(&a.file("last.bin"), &b.inbox().join("last.bin"));
}

/// A send whose command waits, with some of it at the receiver.
fn half_sent(pair: &Pair, relay: &Relay) -> (Running, String) {
    relay.set_rate(6 * MIB);
    let file = pair.a.new_file("big.bin", 1, 16 * MIB);
    let mut sending = pair.a.cli().start_json(words!["send", file, "--to", relay.address()]);
    let transfer = sending.wait_for_event("started")["transfer"].to_string();
    sending.wait_for_verified(2 * MIB);
    (sending, transfer)
}

fn state_of(daemon: &Daemon, direction: &str) -> (String, String) {
    let transfers = daemon.transfers();
    let line = transfers.iter().find(|line| line["direction"] == direction);
    let word = |key: &str| line.and_then(|line| line[key].as_str()).unwrap_or_default().to_owned();
    (word("state"), word("waiting"))
}

fn paused() -> (String, String) {
    ("waiting".to_owned(), "paused".to_owned())
}

#[test]
fn a_paused_send_keeps_what_is_there_and_goes_on_when_its_owner_says_so() {
    let (mut pair, relay) = Pair::with_relay();
    let (mut sending, transfer) = half_sent(&pair, &relay);
    pair.a.cli().json(words!["pause", transfer]).success();
    sending.wait_for("the word", |event| event["event"] == "waiting" && event["reason"] == "paused");
    until_true("it is paused", || state_of(&pair.a, "send") == paused());
    until_true("the receiver waits", || state_of(&pair.b, "receive").0 == "waiting");
    assert!(!pair.b.partials().is_empty());
    // Pausing it again changes nothing, and a person is told how to go on.
    let again = pair.a.cli().run(words!["pause", transfer]).success();
    assert!(again.stderr.contains(&format!("resume {transfer}")), "{again}");
    assert!(pair.a.cli().run(words!["show", transfer]).success().text().contains("paused by you"));
    assert!(pair.a.cli().run(words!["list"]).success().text().contains("paused"));
    pair.a.cli().json(words!["retry", transfer]).exits(9);
    // A restart does not let it go.
    sending.kill9();
    pair.a.restart();
    assert_eq!(state_of(&pair.a, "send"), paused());
    relay.set_rate(0);
    let mut watching = pair.a.cli().start_json(words!["wait", transfer]);
    watching.wait_for("the word", |event| event["event"] == "waiting" && event["reason"] == "paused");
    pair.a.cli().json(words!["resume", transfer]).success();
    let sent = watching.finish().success();
    assert!(sent.moved() <= 14 * MIB, "what was there did not move again\n{sent}");
    data::assert_same(&pair.a.file("big.bin"), &pair.b.inbox().join("big.bin"));
    for verb in ["pause", "resume"] {
        pair.a.cli().json(words![verb, transfer]).exits(9);
        pair.a.cli().json(words![verb, "999"]).exits(6);
    }
}

#[test]
fn a_paused_fetch_keeps_its_partial_and_can_be_cancelled() {
    let Pair { a, b } = Pair::new();
    let relay = Relay::to(a.address());
    relay.set_rate(6 * MIB);
    let file = a.new_file("big.bin", 1, 16 * MIB);
    let id = a.cli().run(words!["share", file]).success().text();
    let mut fetching = b.cli().start_json(words!["fetch", id, "--from", relay.address()]);
    let transfer = fetching.wait_for_event("started")["transfer"].to_string();
    fetching.wait_for_verified(2 * MIB);
    b.cli().json(words!["pause", transfer]).success();
    until_true("it is paused", || state_of(&b, "fetch") == paused());
    assert!(!b.partials().is_empty());
    let served =
        a.transfers().iter().find(|line| line["direction"] == "serve").unwrap()["transfer"].to_string();
    a.cli().json(words!["pause", served]).exits(9);
    b.cli().json(words!["resume", transfer]).success();
    fetching.wait_for_verified(4 * MIB);
    b.cli().json(words!["pause", transfer]).success();
    until_true("it is paused", || state_of(&b, "fetch") == paused());
    b.cli().json(words!["cancel", transfer]).success();
    fetching.finish().exits(1);
    assert!(b.received().is_empty() && b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn what_a_peer_sends_is_held_until_the_owner_here_lets_it_go_on() {
    let (mut pair, relay) = Pair::with_relay();
    let (mut sending, _) = half_sent(&pair, &relay);
    let transfer = pair.b.transfers()[0]["transfer"].to_string();
    pair.b.cli().json(words!["pause", transfer]).success();
    sending.wait_for("the other side to be asked", |event| {
        event["event"] == "waiting" && event["reason"] == "accept"
    });
    assert_eq!(state_of(&pair.b, "receive"), paused());
    pair.b.restart();
    assert_eq!(state_of(&pair.b, "receive"), paused());
    until_true("it is offered again", || pair.b.log().matches("connected peer").count() >= 2);
    relay.set_rate(0);
    pair.b.cli().json(words!["resume", transfer]).success();
    let sent = sending.finish().success();
    assert!(sent.moved() <= 18 * MIB, "{sent}");
    data::assert_same(&pair.a.file("big.bin"), &pair.b.inbox().join("big.bin"));
}

/// The names of transfers in the order in which they ended.
fn ended(daemon: &Daemon) -> Vec<String> {
    let mut lines = daemon.settled();
    lines.sort_by_key(|line| line["ended_ms"].as_u64());
    lines.iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect()
}

/// One that runs, in the place of the only one that may, and four that wait, of which one got its priority afterwards.
fn a_queue() -> (Pair, Relay, String) {
    let a = Daemon::start_in("a", Place::new().config("max_transfers = 1\n"));
    let pair = Pair::of(a, Daemon::start("b"));
    let relay = Relay::to(pair.b.address());
    let (sending, first) = half_sent(&pair, &relay);
    sending.kill9();
    let detach = |name: &str, level: &str| {
        let file = pair.a.new_file(name, 7, 2000);
        let words = words!["send", file, "--to", pair.b.address(), "--detach", "--priority", level];
        pair.a.cli().run(words).success().text()
    };
    detach("low", "low");
    detach("old", "normal");
    let raised = detach("raised", "normal");
    detach("high", "high");
    until_true("they wait", || {
        let queued = |line: &&Value| line["waiting"] == "queue";
        pair.a.transfers().iter().filter(queued).count() == 4
    });
    pair.a.cli().json(words!["priority", raised, "high"]).success();
    assert_eq!(pair.a.cli().json(words!["show", raised]).success().event("detail")["priority"], "high");
    (pair, relay, first)
}

#[test]
fn those_that_wait_go_by_priority_and_then_by_age() {
    let (pair, _relay, first) = a_queue();
    // The only place goes from one to the next.
    pair.a.cli().json(words!["pause", first]).success();
    until_true("all others are done", || {
        pair.a.transfers().iter().filter(|line| line["state"] == "done").count() == 4
    });
    pair.a.cli().json(words!["cancel", first]).success();
    assert_eq!(ended(&pair.a), ["raised", "high", "old", "low", "big.bin"]);
}

#[test]
fn a_restarted_daemon_keeps_to_the_order() {
    let (mut pair, relay, _) = a_queue();
    pair.a.kill9();
    relay.set_rate(0);
    pair.a.start_again();
    assert_eq!(ended(&pair.a), ["raised", "high", "big.bin", "old", "low"]);
    assert_eq!(pair.b.received().len(), 5);
}

#[test]
fn what_is_in_the_background_waits_for_all_others_whatever_its_priority() {
    let a = Daemon::start_in("a", Place::new().config("max_transfers = 1\n"));
    let pair = Pair::of(a, Daemon::start("b"));
    let relay = Relay::to(pair.b.address());
    let (sending, first) = half_sent(&pair, &relay);
    sending.kill9();
    for (name, word) in [("behind", "--background"), ("before", "-q")] {
        let level = if name == "behind" { "high" } else { "low" };
        let file = pair.a.new_file(name, 7, 2000);
        let words = words!["send", file, "--to", pair.b.address(), "--detach", "--priority", level, word];
        pair.a.cli().run(words).success();
    }
    pair.a.cli().json(words!["pause", first]).success();
    until_true("both are done", || {
        pair.a.transfers().iter().filter(|line| line["state"] == "done").count() == 2
    });
    pair.a.cli().json(words!["cancel", first]).success();
    assert_eq!(ended(&pair.a), ["before", "behind", "big.bin"]);
}

/// What both sides' daemons say of the latest transfer: whether it yields.
fn background(pair: &Pair) -> [bool; 2] {
    [&pair.a, &pair.b].map(|daemon| daemon.transfers().last().unwrap()["background"] == true)
}

#[test]
fn a_transfer_in_the_background_has_a_connection_of_its_own_and_stays_there() {
    let (mut pair, relay) = Pair::with_relay();
    relay.set_rate(6 * MIB);
    let (file, small) = (pair.a.new_file("big.bin", 1, 8 * MIB), pair.a.new_file("small", 2, 2000));
    let to = relay.address();
    let mut sending = pair.a.cli().start_json(words!["send", file, "--to", to, "--background"]);
    let transfer = sending.wait_for_event("started")["transfer"].to_string();
    sending.wait_for_verified(MIB);
    assert_eq!(background(&pair), [true, true]);
    let shown = pair.a.cli().run(words!["show", transfer]).success().text();
    assert!(shown.contains("--background"), "{shown}");
    let open = |daemon: &Daemon| {
        daemon.cli().json(words!["status"]).success().event("status")["connections"].clone()
    };
    assert_eq!(open(&pair.a), 1);
    pair.a.cli().json(words!["send", small, "--to", to]).success();
    assert_eq!((background(&pair), open(&pair.a)), ([false, false], 2.into()));
    // A daemon that ends, and another that takes it up.
    sending.kill9();
    pair.a.kill9();
    relay.set_rate(0);
    pair.a.start_again();
    pair.a.settled();
    let detail = pair.a.cli().json(words!["show", transfer]).success();
    assert_eq!(detail.event("detail")["background"], true, "{detail}");
    data::assert_same(&file, &pair.b.inbox().join("big.bin"));
    // Fetched, it is the other side that yields, and it knows.
    let id = pair.b.cli().run(words!["share", pair.b.inbox().join("big.bin")]).success().text();
    let output = pair.a.file("copy");
    pair.a.cli().json(words!["fetch", id, "--from", to, "--background", "-o", output]).success();
    assert_eq!(background(&pair), [true, true]);
    data::assert_same(&file, &output);
}

#[test]
fn one_target_takes_no_more_than_its_share_of_the_places() {
    let a = Daemon::start_in("a", Place::new().config("max_transfers_per_peer = 1\n"));
    let (pair, c) = (Pair::of(a, Daemon::start("b")), Daemon::start("c"));
    c.trust(&pair.a);
    let relay = Relay::to(pair.b.address());
    let (_sending, _) = half_sent(&pair, &relay);
    let file = pair.a.new_file("small", 2, 2000);
    let waits = words!["send", file, "--to", relay.address(), "--detach"];
    let waits = pair.a.cli().run(waits).success().text();
    until_true("it waits", || {
        let shown = pair.a.cli().json(words!["show", waits]).success();
        shown.event("detail")["waiting"] == "queue"
    });
    pair.a.cli().json(words!["send", file, "--to", c.address(), "--accept-new-key"]).success();
    pair.a.cli().json(words!["cancel", waits]).success();
}
