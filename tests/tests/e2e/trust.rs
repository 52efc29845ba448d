//! Who may do what: keys, pins and trust.

use std::time::Duration;

use p2p_tests::{Daemon, Pair, daemon::Place, data, data::MIB, words};

#[test]
fn an_unknown_key_is_not_dialled_unasked() {
    let (a, b) = (Daemon::start("a"), Daemon::start("b"));
    let file = a.new_file("f.bin", 1, 1000);
    let refused = a.cli().json(words!["send", file, "--to", b.address()]).exits(5);
    assert!(refused.to_string().contains(b.peer()), "the key that was found is shown\n{refused}");
    assert_eq!(a.standing_of(b.peer()), None, "looking at a key does not pin it");
    assert!(b.received().is_empty());
}

/// Fault 72.
#[test]
fn an_untrusted_sender_is_refused_and_listed() {
    let (a, b) = (Daemon::start("a"), Daemon::start("b"));
    let file = a.new_file("f.bin", 1, 1000);
    let refused = a.cli().json(words!["send", file, "--to", b.address(), "--accept-new-key"]).exits(5);
    assert_eq!(refused.event("failed")["code"], "refused", "{refused}");
    assert_eq!(b.standing_of(a.peer()).as_deref(), Some("pending"));
    assert_eq!(a.standing_of(b.peer()).as_deref(), Some("known"), "the key was pinned");
    assert!(b.received().is_empty() && b.partials().is_empty());

    // Pinned: no question any more, and still no right.
    a.cli().json(words!["send", file, "--to", b.address()]).exits(5);
    b.trust(&a);
    assert_eq!(b.standing_of(a.peer()).as_deref(), Some("trusted"));
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));

    // Dialling b gave b no right here.
    let back = b.new_file("back.bin", 2, 1000);
    b.cli().json(words!["send", back, "--to", a.address()]).exits(5);
    assert!(a.received().is_empty());
}

#[test]
fn a_changed_key_is_refused_loudly() {
    let (a, mut first) = (Daemon::start("a"), Daemon::start("first"));
    first.trust(&a);
    let file = a.new_file("f.bin", 1, 1000);
    let target = first.address().to_owned();
    a.cli().json(words!["send", file, "--to", target, "--accept-new-key"]).success();
    first.sigterm();
    let second = Daemon::start_in("second", Place::new().listen(target.as_str()));
    second.trust(&a);
    for words in [
        words!["send", file, "--to", target].to_vec(),
        words!["send", file, "--to", target, "--accept-new-key"].to_vec(),
    ] {
        let refused = a.cli().json(words).exits(5);
        let said = refused.to_string();
        assert!(said.contains(first.peer()) && said.contains(second.peer()), "both IDs are named\n{refused}");
    }
    assert!(second.received().is_empty());
    assert_eq!(second.standing_of(a.peer()).as_deref(), Some("trusted"));

    // The way out: the owner says which key it is.
    a.cli().json(words!["send", file, "--to", target, "--peer", second.peer()]).success();
    a.cli().json(words!["send", file, "--to", target]).success();
    data::assert_same(&file, &second.inbox().join("f.bin"));
}

/// Fault 73.
#[test]
fn a_changed_key_behind_a_trusted_peers_pin_is_refused() {
    let Pair { a, mut b } = Pair::new();
    let file = a.new_file("f.bin", 1, 1000);
    let target = b.address().to_owned();
    a.cli().json(words!["send", file, "--to", target]).success();
    b.sigterm();
    let other = Daemon::start_in("other", Place::new().listen(target.as_str()));
    other.trust(&a);
    a.cli().json(words!["send", file, "--to", target]).exits(5);
    a.cli().json(words!["send", file, "--to", target, "--accept-new-key"]).exits(5);
    assert!(other.received().is_empty());
}

/// Fault 73.
#[test]
fn a_trusted_peer_is_not_another_one() {
    let Pair { a, b } = Pair::new();
    let c = Daemon::start("c");
    a.trust(&c);
    c.trust(&a);
    let file = a.new_file("f.bin", 1, 1000);
    // c answers where b is meant.
    let refused = a.cli().json(words!["send", file, "--to", c.address(), "--peer", b.peer()]).exits(5);
    let said = refused.to_string();
    assert!(said.contains(b.peer()) && said.contains(c.peer()), "both IDs are named\n{refused}");
    assert!(c.received().is_empty());
    // By name, with an address at which another peer answers.
    a.cli().run(words!["peers", "trust", b.peer(), "--name", "bob", "--address", c.address()]).success();
    a.cli().json(words!["send", file, "--to", "bob"]).exits(5);
    assert!(c.received().is_empty(), "{:?}", c.received());
}

/// Fault 73.
#[test]
fn a_connection_to_one_peer_does_not_serve_for_the_name_of_another() {
    let Pair { a, b } = Pair::new();
    let c = Daemon::start("c");
    a.cli().run(words!["peers", "trust", c.peer(), "--name", "carol", "--address", c.address()]).success();
    a.cli().json(words!["send", a.new_file("f.bin", 1, 1000), "--to", b.address()]).success();
    assert_eq!(a.status()["connections"], 1);
    // The name is that of c, and the key that of b, to which a connection is open.
    let other = a.new_file("g.bin", 2, 1000);
    a.cli().json(words!["send", other, "--to", "carol", "--peer", b.peer()]).exits(5);
    assert_eq!((b.received().len(), c.received().len()), (1, 0));
}

/// Fault 73.
#[test]
fn a_connection_does_not_serve_for_an_address_that_it_does_not_lead_to() {
    let Pair { a, mut b } = Pair::new();
    a.cli().json(words!["send", a.new_file("f.bin", 1, 1000), "--to", b.address()]).success();
    let before = b.address().to_owned();
    b.sigterm();
    b.start_elsewhere();
    a.cli().json(words!["send", a.new_file("g.bin", 2, 1000), "--to", b.address()]).success();
    let other = a.new_file("h.bin", 3, 1000);
    let mut sending = a.cli().start_json(words!["send", other, "--to", before]);
    sending.wait_for_event("retrying");
    sending.kill9();
    assert!(!b.inbox().join("h.bin").exists());
}

#[test]
fn a_peer_is_reached_by_its_name_and_id() {
    let Pair { a, b } = Pair::new();
    a.cli().run(words!["peers", "trust", b.peer(), "--name", "bob", "--address", b.address()]).success();
    for (n, target) in ["bob", b.peer()].into_iter().enumerate() {
        let name = format!("{n}.bin");
        let file = a.new_file(&name, n as u64, 1000);
        a.cli().json(words!["send", file, "--to", target]).success();
        data::assert_same(&file, &b.inbox().join(name));
    }
    let unknown = a.cli().json(words!["send", a.file("0.bin"), "--to", "a".repeat(52)]).exits(6);
    assert_eq!(unknown.event("failed")["code"], "not_found", "{unknown}");
}

#[test]
fn an_address_learnt_by_dialling_is_remembered() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 1000);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    let again = a.new_file("g.bin", 2, 1000);
    a.cli().json(words!["send", again, "--to", b.peer()]).success();
    data::assert_same(&again, &b.inbox().join("g.bin"));
}

#[test]
fn rights_are_apart() {
    let (a, b) = (Daemon::start("a"), Daemon::start("b"));
    a.trust(&b);
    let file = a.new_file("f.bin", 1, 1000);
    let shared = b.new_file("s.bin", 2, 1000);
    let id = b.cli().run(words!["share", shared]).success().text();

    b.cli().run(words!["peers", "trust", a.peer(), "--allow", "fetch"]).success();
    a.cli().json(words!["send", file, "--to", b.address()]).exits(5);
    a.cli().json(words!["fetch", id, "--from", b.address()]).success();

    b.cli().run(words!["peers", "trust", a.peer(), "--allow", "send"]).success();
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    a.cli().json(words!["fetch", id, "--from", b.address(), "-o", a.file("again.bin")]).exits(6);
    assert!(!a.file("again.bin").exists());
}

/// Fault 74.
#[test]
fn trust_that_is_withdrawn_ends_a_transfer() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(4 * MIB);
    let file = a.new_file("big.bin", 1, 200 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(MIB);
    assert_eq!(b.status()["connections"], 1);
    b.cli().run(words!["peers", "forget", a.peer()]).success();
    // At this rate the transfer itself would take much longer.
    let ended = sending.finish_within(Duration::from_secs(20)).exits(5);
    assert_eq!(ended.event("failed")["code"], "refused", "{ended}");
    p2p_tests::until::until_true("the connection is closed", || b.status()["connections"] == 0);
    assert!(b.received().is_empty());
    assert_ne!(b.standing_of(a.peer()).as_deref(), Some("trusted"));
    a.cli().json(words!["send", file, "--to", b.address()]).exits(5);
}

/// Fault 74.
#[test]
fn a_right_that_is_withdrawn_ends_what_rests_on_it() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(4 * MIB);
    let file = b.new_file("big.bin", 1, 200 * MIB);
    let id = b.cli().run(words!["share", file]).success().text();
    let back = a.file("back.bin");
    let mut fetching = a.cli().start_json(words!["fetch", id, "--from", relay.address(), "-o", back]);
    fetching.wait_for_verified(MIB);
    b.cli().run(words!["peers", "trust", a.peer(), "--allow", "send"]).success();
    // At this rate the transfer itself would take much longer.
    let ended = fetching.finish_within(Duration::from_secs(20));
    assert_ne!(ended.code, Some(0), "{ended}");
    assert!(!back.exists());
    a.cli().json(words!["send", a.new_file("f.bin", 2, 1000), "--to", b.address()]).success();
}

#[test]
fn trust_outlives_a_restart() {
    let Pair { a, mut b } = Pair::new();
    b.restart();
    let file = a.new_file("f.bin", 1, 1000);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert_eq!(b.standing_of(a.peer()).as_deref(), Some("trusted"));
}

#[test]
fn a_machine_does_not_trust_itself() {
    let daemon = Daemon::start("a");
    let refused = daemon.cli().json(words!["peers", "trust", daemon.peer(), "--name", "me"]).exits(2);
    assert!(refused.message().contains("this machine itself"), "{refused}");
}

#[test]
fn forgetting_an_unknown_peer_is_not_found() {
    let Pair { a, b: _b } = Pair::new();
    a.cli().json(words!["peers", "forget", "nobody"]).exits(6);
    a.cli().json(words!["peers", "trust", "not-a-peer-id"]).exits(2);
}
