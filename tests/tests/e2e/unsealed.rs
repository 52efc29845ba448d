//! Sources that are hashed while they are sent: longer than what is hashed first, and not known here before.

use std::fs;

use p2p_tests::{Daemon, Output, Pair, data, data::MIB, words};

/// Bytes per second.
const RATE: u64 = 6 * MIB;
const SLOW: u64 = RATE / 16;
/// Chunks on their way when a connection ends.
const IN_FLIGHT: u64 = 6 * MIB;
/// What the sender logs of an offer without File ID.
const OFFERED: &str = "offered before it is hashed";

fn is_hashing(event: &serde_json::Value) -> bool {
    event["event"] == "waiting" && event["reason"] == "hashing"
}

fn offers(a: &Daemon) -> usize {
    a.log().matches(OFFERED).count()
}

/// Bytes that a daemon has read from files since its start.
fn read_from_files(daemon: &Daemon) -> u64 {
    let counts = fs::read_to_string(format!("/proc/{}/io", daemon.pid())).unwrap();
    let line = counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    line.trim().parse().unwrap()
}

fn assert_arrived(b: &Daemon, file: &std::path::Path) {
    data::assert_same(file, &b.inbox().join(file.file_name().unwrap()));
    b.settled();
    assert_eq!(b.received().len(), 1, "{:?}", b.received());
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn a_large_file_is_read_once_and_named_at_the_end() {
    let Pair { a, b } = Pair::new();
    let len = 64 * MIB + 12_345;
    let file = a.new_file("big.bin", 1, len);
    let before = read_from_files(&a);
    let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
    let read = read_from_files(&a) - before;
    assert!((len..len + 4 * MIB).contains(&read), "{read} bytes were read of {len}");
    assert_eq!(offers(&a), 1);
    assert!(!sent.events.iter().any(is_hashing), "{sent}");
    let id = data::file_id(&file);
    assert_eq!(sent.event("done")["file_id"], id, "{sent}");
    assert_eq!(sent.moved(), len, "{sent}");
    assert_arrived(&b, &file);
    let theirs = b.transfers();
    assert_eq!((theirs[0]["file_id"].as_str(), theirs[0]["state"].as_str()), (Some(&id[..]), Some("done")));
    for daemon in [&a, &b] {
        daemon.wait_for_log("sealed");
    }
    // What b received it can serve, under the name that it learnt at the end.
    b.cli().run(words!["share", b.inbox().join("big.bin")]).success();
    a.cli().json(words!["fetch", id, "--from", b.address(), "-o", a.file("back.bin")]).success();
    data::assert_same(&file, &a.file("back.bin"));
}

#[test]
fn a_large_file_that_is_sent_again_moves_nothing() {
    let (Pair { mut a, b }, relay) = Pair::with_relay();
    let file = a.new_file("big.bin", 1, 24 * MIB);
    a.cli().json(words!["send", file, "--to", relay.address()]).success();
    for _ in 0..2 {
        let again = a.cli().json(words!["send", file, "--to", relay.address()]).success();
        assert_eq!(again.moved(), 0, "{again}");
    }
    assert_eq!(offers(&a), 1);
    // The next daemon hashes it again if it had not rested when it was sent, and its peer knows it all the same.
    a.restart();
    let again = a.cli().json(words!["send", file, "--to", relay.address()]).success();
    assert_eq!(again.moved(), 0, "{again}");
    assert_eq!(again.event("done")["file_id"], data::file_id(&file), "{again}");
    assert_arrived(&b, &file);
}

#[test]
fn what_was_received_and_changed_since_is_taken_again() {
    let Pair { mut a, b } = Pair::new();
    let file = a.new_file("big.bin", 1, 9 * MIB);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    data::flip(&b.inbox().join("big.bin"), MIB);
    a.restart();
    let again = a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert_eq!(again.moved(), 9 * MIB, "{again}");
    data::assert_same(&file, &b.inbox().join("big (1).bin"));
    b.settled();
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn a_short_file_is_hashed_first() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("small.bin", 1, 8 * MIB);
    let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert!(sent.events.iter().any(is_hashing), "{sent}");
    assert_eq!(offers(&a), 0);
    assert_arrived(&b, &file);
}

#[test]
fn a_sparse_file_is_hashed_on_the_way_and_stays_sparse() {
    let Pair { a, b } = Pair::new();
    let file = a.file("sparse.img");
    data::write_sparse(&file, 200 * MIB, &[(0, b"start"), (150 * MIB + 7, b"middle")]);
    let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert!(sent.moved() <= 4 * MIB, "{sent}");
    assert_eq!(offers(&a), 1);
    assert_arrived(&b, &file);
    assert!(data::allocated(&b.inbox().join("sparse.img")) <= 4 * MIB);
}

/// Kills daemons in the middle of a transfer that has no name yet, asks again, and returns what the second command
/// said and how much was verified at the kill.
fn killed_unnamed(kill: impl Fn(&mut Daemon, &mut Daemon)) -> (Output, u64, u64) {
    let (Pair { mut a, mut b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let len = 40 * MIB;
    let file = a.new_file("big.bin", 1, len);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    let verified = sending.wait_for_verified(28 * MIB);
    kill(&mut a, &mut b);
    sending.kill9();
    assert!(!a.log().contains("sealed") && !b.log().contains("sealed"), "it was named before the kill");
    relay.set_rate(0);
    let again = a.cli().json(words!["send", file, "--to", relay.address()]).success();
    assert_eq!(again.event("done")["file_id"], data::file_id(&file), "{again}");
    assert_arrived(&b, &file);
    (again, len, verified)
}

/// Fault 1.
#[test]
fn a_sender_killed_before_the_end_finds_its_transfer_again() {
    let (again, len, verified) = killed_unnamed(|a, _| {
        a.kill9();
        a.start_again();
    });
    // The receiver lives, and loses nothing: it knows what it verified.
    assert!(again.moved() <= len - verified + IN_FLIGHT, "{verified} of {len} were verified\n{again}");
}

#[test]
fn a_receiver_stopped_before_the_end_goes_on_without_a_second_moving() {
    let (again, len, verified) = killed_unnamed(|_, b| {
        b.sigterm();
        b.start_again();
    });
    assert!(again.moved() <= len - verified + IN_FLIGHT, "{verified} of {len} were verified\n{again}");
}

/// Fault 1.
#[test]
fn both_killed_before_the_end_move_only_what_was_not_durable() {
    let (again, len, verified) = killed_unnamed(|a, b| {
        a.kill9();
        b.kill9();
        b.start_again();
        a.start_again();
    });
    assert!(again.moved() <= len - verified + 2 * RATE + IN_FLIGHT, "{verified} of {len}\n{again}");
}

/// Faults 1 and 6.
#[test]
fn daemons_killed_between_the_name_and_the_end_move_nothing_twice() {
    for (kill_a, kill_b) in [(true, false), (false, true), (true, true)] {
        let (Pair { mut a, mut b }, relay) = Pair::with_relay();
        relay.set_rate(RATE);
        let len = 24 * MIB;
        let file = a.new_file("big.bin", 1, len);
        let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
        sending.wait_for_verified(20 * MIB);
        // Slow, so that the rest of the conversation does not overtake the kill.
        relay.set_rate(SLOW);
        b.wait_for_log("sealed");
        if kill_a {
            a.kill9();
        }
        if kill_b {
            b.kill9();
            b.start_again();
        }
        if kill_a {
            a.start_again();
        }
        sending.kill9();
        relay.set_rate(0);
        let again = a.cli().json(words!["send", file, "--to", relay.address()]).success();
        assert!(again.moved() <= 4 * MIB + 2 * RATE + IN_FLIGHT, "{again}");
        assert_arrived(&b, &file);
    }
}

/// Fault 29.
#[test]
fn a_changed_file_is_another_transfer() {
    let (Pair { mut a, b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", 1, 24 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address(), "--detach"]);
    let number = sending.wait_for_event("queued")["transfer"].to_string();
    a.cli().start_json(words!["watch", number]).wait_for_verified(8 * MIB);
    a.kill9();
    data::flip(&file, 5);
    relay.set_rate(0);
    a.start_again();
    a.cli().json(words!["wait", number]).success();
    data::assert_same(&file, &b.inbox().join("big.bin"));
}

/// Fault 34.
#[test]
fn one_large_file_sent_twice_at_once_moves_once() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", 1, 16 * MIB);
    a.cli().json(words!["peers", "trust", b.peer(), "--name", "bob", "--address", relay.address()]).success();
    let first = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    let second = a.cli().start_json(words!["send", file, "--to", "bob"]);
    let (first, second) = (first.finish().success(), second.finish().success());
    assert!(first.moved() + second.moved() <= 16 * MIB, "{first}\n{second}");
    assert_arrived(&b, &file);
}

/// Fault 37.
#[test]
fn a_receiver_cancels_what_has_no_name_and_keeps_nothing_of_it() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", 1, 24 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(6 * MIB);
    let theirs = b.transfers();
    assert_eq!(theirs.len(), 1, "{theirs:?}");
    assert!(theirs[0]["file_id"].is_null() && theirs[0]["name"] == "big.bin", "{theirs:?}");
    let number = theirs[0]["transfer"].to_string();
    b.cli().run(words!["show", number]).success();
    b.cli().json(words!["cancel", number]).success();
    relay.set_rate(0);
    sending.finish().exits(1);
    b.settled();
    assert!(b.received().is_empty() && b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn what_was_begun_without_a_name_goes_on_when_the_name_is_known() {
    let (Pair { mut a, b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let len = 32 * MIB;
    let file = a.new_file("big.bin", 1, len);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address(), "--detach"]);
    let number = sending.wait_for_event("queued")["transfer"].to_string();
    let mut watching = a.cli().start_json(words!["watch", number]);
    let verified = watching.wait_for_verified(20 * MIB);
    watching.kill9();
    a.kill9();
    relay.set_rate(0);
    a.start_again();
    let done = a.cli().json(words!["wait", number]).success();
    let moved = done.event("done")["moved_bytes"].as_u64().unwrap();
    assert!(moved <= len + IN_FLIGHT, "{verified} were verified\n{done}");
    assert_arrived(&b, &file);
}
