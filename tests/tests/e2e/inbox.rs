//! Offers that wait for their owner's word.

use std::fs;

use p2p_tests::{Daemon, Pair, Relay, Running, daemon::Place, data, data::MIB, words};
use serde_json::Value;

/// Two that trust each other; the owner of the second is asked.
fn asking() -> Pair {
    let place = Place::new();
    fs::create_dir_all(place.home_path()).unwrap();
    fs::write(place.home_path().join("config.toml"), "accept = 'ask'\n").unwrap();
    Pair::of(Daemon::start("a"), Daemon::start_in("b", place))
}

fn offers(daemon: &Daemon) -> Vec<Value> {
    daemon.cli().json(words!["inbox"]).success().events
}

/// Waits until the sender knows that the owner is asked; the offer's number at the receiver.
fn wait_for_offer(sending: &mut Running, receiver: &Daemon) -> String {
    while sending.wait_for_event("waiting")["reason"] != "accept" {}
    let offers = offers(receiver);
    assert_eq!(offers.len(), 1, "{offers:?}");
    offers[0]["transfer"].to_string()
}

#[test]
fn an_offer_waits_until_its_owner_says_yes() {
    let Pair { a, b } = asking();
    // One of which there is nothing to move, one whose chunk goes along, one that is known, and one that is hashed while it is sent.
    for (name, len) in [("empty", 0), ("small", 1000), ("known", 3 * MIB), ("large", 20 * MIB)] {
        let file = a.new_file(name, len, len);
        let mut sending = a.cli().start_json(words!["send", file, "--to", b.address(), "--peer", b.peer()]);
        let number = wait_for_offer(&mut sending, &b);
        let offer = &offers(&b)[0];
        assert_eq!((&offer["name"], &offer["total_bytes"]), (&name.into(), &len.into()));
        assert!(!b.inbox().join(name).exists());
        b.cli().run(words!["inbox", "accept", number]).success();
        let sent = sending.finish().success();
        // A chunk that went along with the offer was not kept for that long.
        assert!(sent.event("done")["moved_bytes"].as_u64().unwrap() >= len);
        data::assert_same(&file, &b.inbox().join(name));
        b.cli().run(words!["inbox", "accept", number]).exits(9);
    }
    assert!(offers(&b).is_empty());
    b.cli().run(words!["inbox", "reject", "999"]).exits(6);
}

#[test]
fn a_rejected_offer_ends_and_leaves_nothing() {
    let Pair { a, b } = asking();
    let file = a.new_file("f.bin", 1, 20 * MIB);
    let words = words!["send", file, "--to", b.address(), "--peer", b.peer()];
    let mut sending = a.cli().start_json(words.clone());
    let number = wait_for_offer(&mut sending, &b);
    b.cli().run(words!["inbox", "reject", number]).success();
    let refused = sending.finish().exits(5);
    assert!(refused.message().contains("rejected"), "{refused}");
    assert!(data::files_below(b.inbox()).is_empty() && offers(&b).is_empty());
    // Asked again, the owner may say otherwise.
    let mut sending = a.cli().start_json(words);
    let number = wait_for_offer(&mut sending, &b);
    b.cli().run(words!["inbox", "accept", number]).success();
    sending.finish().success();
}

#[test]
fn an_offer_that_is_withdrawn_waits_no_longer() {
    let Pair { a, b } = asking();
    let file = a.new_file("f.bin", 1, 3 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", b.address(), "--peer", b.peer()]);
    wait_for_offer(&mut sending, &b);
    let transfer = a.transfers()[0]["transfer"].to_string();
    a.cli().run(words!["cancel", transfer]).success();
    sending.finish().exits(1);
    b.settled();
    assert!(offers(&b).is_empty(), "{:?}", offers(&b));
}

#[test]
fn a_yes_outlives_both_daemons() {
    let Pair { mut a, mut b } = asking();
    let relay = Relay::to(b.address());
    let file = a.new_file("f.bin", 1, 3 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address(), "--peer", b.peer()]);
    let number = wait_for_offer(&mut sending, &b);
    a.kill9();
    sending.kill9();
    b.restart();
    assert_eq!(offers(&b).len(), 1, "an offer outlives a restart");
    b.cli().run(words!["inbox", "accept", number]).success();
    assert!(offers(&b).is_empty());
    b.restart();
    a.start_again();
    let transfer = a.transfers()[0]["transfer"].to_string();
    a.cli().run(words!["wait", transfer]).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

#[test]
fn what_is_here_already_needs_no_yes_and_neither_does_a_fetch() {
    let Pair { a, b } = asking();
    let file = a.new_file("f.bin", 1, 3 * MIB);
    let words = words!["send", file, "--to", b.address(), "--peer", b.peer()];
    let mut sending = a.cli().start_json(words.clone());
    let number = wait_for_offer(&mut sending, &b);
    b.cli().run(words!["inbox", "accept", number]).success();
    sending.finish().success();
    let again = a.cli().json(words).success();
    assert_eq!(again.event("done")["moved_bytes"], 0);
    let other = a.new_file("g.bin", 2, 3 * MIB);
    let id = a.cli().run(words!["share", other]).success().text();
    b.cli().json(words!["fetch", id, "--from", a.address(), "--peer", a.peer()]).success();
    data::assert_same(&other, &b.inbox().join("g.bin"));
}
