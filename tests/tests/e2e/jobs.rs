//! Transfers as things with a number: detached, listed, shown, waited for, cancelled, taken up again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use p2p_tests::{
    Daemon, Pair, Relay, data,
    data::MIB,
    until::{until, until_true},
    words,
};
use serde_json::Value;

const RATE: u64 = 6 * MIB;

/// A send in the middle, whose command waits.
fn half_sent(pair: &Pair, relay: &Relay, len: u64) -> (p2p_tests::Running, String) {
    relay.set_rate(RATE);
    let file = pair.a.new_file("big.bin", 1, len);
    let mut sending = pair.a.cli().start_json(words!["send", file, "--to", relay.address()]);
    let transfer = sending.wait_for_event("started")["transfer"].as_u64().unwrap().to_string();
    sending.wait_for_verified(len / 8);
    (sending, transfer)
}

fn the_one_of(daemon: &Daemon, direction: &str) -> Value {
    let transfers = daemon.transfers();
    let mut fitting = transfers.iter().filter(|line| line["direction"] == direction);
    let (one, more) = (fitting.next(), fitting.next());
    assert!(more.is_none(), "{transfers:?}");
    one.unwrap_or_else(|| panic!("no {direction} in {transfers:?}")).clone()
}

#[test]
fn a_detached_send_can_be_waited_for() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 2 * MIB);
    let detached = a.cli().run(words!["send", file, "--to", b.address(), "--detach"]).success();
    let number = detached.text();
    assert!(number.parse::<u64>().is_ok(), "the number, alone\n{detached}");
    a.cli().json(words!["wait", number]).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
    // It has ended, and still says how.
    let waited = a.cli().json(words!["wait", number]).success();
    assert_eq!(waited.event("done")["file_id"], data::file_id(&file), "{waited}");
    assert_eq!(a.cli().json(words!["watch", number]).success().number("done", "bytes"), 2 * MIB);
}

#[test]
fn waiting_for_a_failure_has_its_exit_code() {
    let (a, b) = (Daemon::start("a"), Daemon::start("b"));
    let file = a.new_file("f.bin", 1, 1000);
    let words = words!["send", file, "--to", b.address(), "--accept-new-key", "--detach"];
    let number = a.cli().run(words).success().text();
    a.cli().json(words!["wait", number]).exits(5);
}

/// Fault 79.
#[test]
fn a_transfer_goes_on_without_its_command() {
    let (pair, relay) = Pair::with_relay();
    let (sending, transfer) = half_sent(&pair, &relay, 16 * MIB);
    sending.kill9();
    let listed = the_one_of(&pair.a, "send");
    assert_eq!(listed["transfer"].to_string(), transfer);
    assert_eq!(
        (listed["state"].as_str(), listed["name"].as_str()),
        (Some("active"), Some("big.bin")),
        "{listed}"
    );
    let shown = pair.a.cli().json(words!["show", transfer]).success();
    let detail = shown.event("detail");
    assert_eq!(detail["total_bytes"], 16 * MIB, "{shown}");
    let missing = detail["missing"].as_array().unwrap();
    assert!(!missing.is_empty(), "what is missing is listed\n{shown}");
    let bytes: u64 = missing.iter().map(|range| range["bytes"].as_u64().unwrap()).sum();
    assert!(bytes > 0 && bytes <= 16 * MIB, "{shown}");
    pair.a.cli().json(words!["wait", transfer]).success();
    data::assert_same(&pair.a.file("big.bin"), &pair.b.inbox().join("big.bin"));
    let received = the_one_of(&pair.b, "receive");
    assert_eq!(received["state"], "done", "{received}");
}

/// Fault 79.
#[test]
fn ctrl_c_leaves_the_transfer_running() {
    let (pair, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = pair.a.new_file("big.bin", 1, 16 * MIB);
    let mut sending = pair.a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(MIB);
    sending.interrupt();
    sending.finish().exits(130);
    let transfer = the_one_of(&pair.a, "send")["transfer"].to_string();
    pair.a.cli().json(words!["wait", transfer]).success();
    data::assert_same(&file, &pair.b.inbox().join("big.bin"));
}

#[test]
fn ctrl_c_says_how_to_go_on() {
    let (pair, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = pair.a.new_file("big.bin", 1, 16 * MIB);
    let sending = pair.a.cli().start(words!["send", file, "--to", relay.address()]);
    let transfer = until("the transfer is active", || {
        pair.a
            .transfers()
            .iter()
            .find(|line| line["state"] == "active")
            .map(|line| line["transfer"].to_string())
    });
    sending.interrupt();
    let interrupted = sending.finish().exits(130);
    assert!(interrupted.stdout.is_empty(), "{interrupted}");
    for hint in [format!("watch {transfer}"), format!("cancel {transfer}")] {
        assert!(interrupted.stderr.contains(&hint), "{hint:?} is not said\n{interrupted}");
    }
}

/// Fault 37.
#[test]
fn cancelled_by_the_sender_nothing_is_left() {
    let (pair, relay) = Pair::with_relay();
    let (sending, transfer) = half_sent(&pair, &relay, 16 * MIB);
    pair.a.cli().json(words!["cancel", transfer]).success();
    let ended = sending.finish().exits(1);
    assert_eq!(ended.event("failed")["code"], "cancelled", "{ended}");
    pair.b.settled();
    assert!(pair.b.received().is_empty() && pair.b.partials().is_empty(), "{:?}", pair.b.partials());
    assert_eq!(the_one_of(&pair.a, "send")["state"], "cancelled");
    assert_eq!(the_one_of(&pair.b, "receive")["state"], "cancelled");
    // Over is over.
    pair.a.cli().json(words!["cancel", transfer]).exits(9);
}

/// Fault 37.
#[test]
fn cancelled_by_the_receiver_nothing_is_left() {
    let (pair, relay) = Pair::with_relay();
    let (sending, _) = half_sent(&pair, &relay, 16 * MIB);
    let transfer = the_one_of(&pair.b, "receive")["transfer"].to_string();
    pair.b.cli().json(words!["cancel", transfer]).success();
    sending.finish().exits(1);
    pair.b.settled();
    assert!(pair.b.received().is_empty() && pair.b.partials().is_empty(), "{:?}", pair.b.partials());
}

/// Fault 37.
#[test]
fn a_fetch_that_is_cancelled_leaves_nothing() {
    let Pair { a, b } = Pair::new();
    let relay = Relay::to(a.address());
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", 1, 16 * MIB);
    let id = a.cli().run(words!["share", file]).success().text();
    let mut fetching = b.cli().start_json(words!["fetch", id, "--from", relay.address()]);
    fetching.wait_for_verified(2 * MIB);
    let transfer = the_one_of(&b, "fetch")["transfer"].to_string();
    b.cli().json(words!["cancel", transfer]).success();
    fetching.finish().exits(1);
    assert!(b.received().is_empty() && b.partials().is_empty(), "{:?}", b.partials());
    a.settled();
}

/// Fault 37.
#[test]
fn a_transfer_that_waits_for_its_peer_can_be_cancelled() {
    let (mut pair, relay) = Pair::with_relay();
    let (mut sending, transfer) = half_sent(&pair, &relay, 16 * MIB);
    pair.b.sigterm();
    sending.wait_for_event("retrying");
    pair.a.cli().json(words!["cancel", transfer]).success();
    sending.finish().exits(1);
    assert_eq!(the_one_of(&pair.a, "send")["state"], "cancelled");
}

#[test]
fn a_cancelled_transfer_can_be_taken_up_again() {
    let (pair, relay) = Pair::with_relay();
    let (sending, transfer) = half_sent(&pair, &relay, 8 * MIB);
    pair.a.cli().json(words!["cancel", transfer]).success();
    sending.finish().exits(1);
    relay.set_rate(0);
    pair.a.cli().json(words!["retry", transfer]).success();
    pair.a.cli().json(words!["wait", transfer]).success();
    data::assert_same(&pair.a.file("big.bin"), &pair.b.inbox().join("big.bin"));
    pair.a.cli().json(words!["retry", transfer]).exits(9);
}

#[test]
fn a_fetch_whose_reader_has_gone_is_not_taken_up_again() {
    let Pair { a, b } = Pair::new();
    let id = a.cli().run(words!["share", a.new_file("big.bin", 1, 16 * MIB)]).success().text();
    let mut command = b.cli().command(words!["fetch", id, "--from", a.address(), "-o", "-"]);
    // Nobody reads what it writes.
    let mut fetching = command.stdout(Stdio::piped()).spawn().unwrap();
    until_true("it has begun", || b.transfers().iter().any(|line| line["verified_bytes"] != 0));
    fetching.kill().unwrap();
    fetching.wait().unwrap();
    let transfer = the_one_of(&b, "fetch")["transfer"].to_string();
    until_true("it has ended", || the_one_of(&b, "fetch")["state"] == "cancelled");
    let refused = b.cli().run(words!["retry", transfer]).exits(9);
    assert!(refused.stderr.contains("run that command again"), "{refused}");
}

/// Fault 34.
#[test]
fn one_file_queued_twice_is_one_transfer() {
    let (pair, relay) = Pair::with_relay();
    let (sending, transfer) = half_sent(&pair, &relay, 8 * MIB);
    let words = words!["send", pair.a.file("big.bin"), "--to", relay.address(), "--detach"];
    assert_eq!(pair.a.cli().run(words).success().text(), transfer);
    sending.finish().success();
    assert_eq!(pair.a.transfers().len(), 1);
    assert_eq!(pair.b.received().len(), 1, "{:?}", pair.b.received());
}

#[test]
fn history_outlives_a_restart() {
    let Pair { mut a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 1000);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    let before = the_one_of(&a, "send");
    a.restart();
    let after = the_one_of(&a, "send");
    for key in ["transfer", "state", "name", "file_id", "peer", "created_ms"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    let number = after["transfer"].to_string();
    a.cli().json(words!["wait", number]).success();
    // Numbers are never used again.
    let other = a.new_file("g.bin", 2, 1000);
    let next = a.cli().run(words!["send", other, "--to", b.address(), "--detach"]).success().text();
    assert_ne!(next, number);
}

#[test]
fn what_is_not_there_is_not_found() {
    let a = Daemon::start("a");
    for verb in ["show", "wait", "watch", "cancel", "retry"] {
        let answer = a.cli().json(words![verb, "999"]).exits(6);
        assert_eq!(answer.event("failed")["code"], "not_found", "{answer}");
    }
}

/// Interrupts a transfer to `b`, which runs as `start` says, and puts the very file in place before it goes on.
fn comes_from_elsewhere_meanwhile(
    pair: &mut Pair,
    relay: &Relay,
    file: &Path,
    start: impl FnOnce(&Pair, &str),
) {
    relay.set_rate(4 * MIB);
    start(pair, &relay.address());
    until_true("some of it is verified", || {
        let verified = |line: &serde_json::Value| line["verified_bytes"].as_u64() >= Some(MIB);
        pair.b.transfers().iter().any(|line| line["state"] == "active" && verified(line))
    });
    pair.b.kill9();
    assert!(!pair.b.partials().is_empty());
    fs::create_dir_all(pair.b.inbox()).unwrap();
    fs::copy(file, pair.b.inbox().join(file.file_name().unwrap())).unwrap();
    relay.set_rate(0);
    pair.b.start_again();
    pair.a.settled();
    let ended = pair.b.settled();
    assert!(ended.iter().all(|line| line["state"] == "done"), "{ended:?}");
    assert_eq!(pair.b.received().len(), 1);
    assert_eq!(pair.b.partials(), Vec::<PathBuf>::new(), "a partial that nobody will open again");
}

#[test]
fn a_fetch_that_finds_its_file_there_leaves_no_partial() {
    let mut pair = Pair::new();
    let relay = Relay::to(pair.a.address());
    let file = pair.a.new_file("found.bin", 41, 12 * MIB);
    let id = pair.a.cli().run(words!["share", file]).success().text();
    comes_from_elsewhere_meanwhile(&mut pair, &relay, &file, |pair, from| {
        pair.b.cli().run(words!["fetch", id, "--from", from, "--accept-new-key", "--detach"]).success();
    });
}

#[test]
fn an_offer_of_what_is_there_again_leaves_no_partial() {
    let mut pair = Pair::new();
    let relay = Relay::to(pair.b.address());
    let file = pair.a.new_file("found.bin", 42, 12 * MIB);
    let send = |pair: &Pair| {
        let to = relay.address();
        pair.a.cli().run(words!["send", file, "--to", to, "--accept-new-key", "--detach"]).success();
    };
    send(&pair);
    pair.a.settled();
    pair.b.settled();
    fs::remove_file(pair.b.inbox().join("found.bin")).unwrap();
    comes_from_elsewhere_meanwhile(&mut pair, &relay, &file, |pair, _| send(pair));
}
