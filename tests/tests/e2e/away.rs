//! Peers that are not there: who is waited for, and what is said of it.

use p2p_tests::{Daemon, Pair, daemon::Place, data, words};
use serde_json::Value;

fn says_away(event: &Value) -> bool {
    event["event"] == "waiting" && event["reason"] == "peer"
}

#[test]
fn a_peer_that_is_known_is_waited_for_over_a_restart_too() {
    let Pair { mut a, mut b } = Pair::new();
    let first = a.new_file("first.bin", 1, 1000);
    a.cli().json(words!["send", first, "--to", b.address()]).success();
    a.kill9();
    b.sigterm();
    a.start_again();
    let file = a.new_file("f.bin", 2, 300_000);
    // By the address where it was found, and by its name.
    let mut by_address = a.cli().start_json(words!["send", file, "--to", b.address()]);
    let other = a.new_file("g.bin", 3, 300_000);
    let mut by_name = a.cli().start_json(words!["send", other, "--to", "b"]);
    by_address.wait_for("the word that it is away", says_away);
    by_name.wait_for("the word that it is away", says_away);
    // Trying does not end it.
    by_name.wait_for_event("retrying");
    by_address.wait_for_event("retrying");
    let waiting = a.transfers();
    let waits = |line: &&Value| line["state"] == "waiting" && line["waiting"] == "peer";
    assert_eq!(waiting.iter().filter(waits).count(), 2, "{waiting:?}");
    by_name.kill9();
    a.kill9();
    a.start_again();
    b.start_again();
    by_address.finish().success();
    assert!(a.settled().iter().all(|line| line["state"] == "done"));
    data::assert_same(&file, &b.inbox().join("f.bin"));
    data::assert_same(&other, &b.inbox().join("g.bin"));
}

#[test]
fn an_address_where_nobody_ever_was_is_said_to_be_silent_and_given_up() {
    let a = Daemon::start("a");
    let mut gone = Daemon::start_in("gone", Place::new());
    gone.sigterm();
    let file = a.new_file("f.bin", 1, 1000);
    let sent = a.cli().json(words!["send", file, "--to", gone.address(), "--accept-new-key"]).exits(4);
    assert!(sent.events.iter().any(says_away), "{sent}");
}

#[test]
fn an_address_where_nobody_ever_was_does_not_keep_another_ones_answer() {
    let Pair { a, b } = Pair::new();
    let nobody = "127.0.0.1:1";
    let id = "0".repeat(64);
    for from in [[nobody, b.address()], [b.address(), nobody]] {
        let words = words!["fetch", id, "--from", from[0], "--from", from[1], "-o", a.file("x")];
        let failed = a.cli().json(words).exits(6);
        assert!(failed.events.iter().all(|line| line["event"] != "retrying"), "{failed}");
    }
}
