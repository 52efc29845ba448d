//! Networks that lose, damage, delay and swallow, and addresses that change.

use std::time::Duration;

use p2p_tests::{
    Daemon, Pair, Relay, Running, daemon::Place, data, data::MIB, relay::Weather, until::until_true, words,
};
use rustix::process::Signal;

/// Sends through this weather.
fn sent_in(weather: Weather, len: u64) {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set(weather);
    let file = a.new_file("f.bin", 1, len);
    a.cli().json(words!["send", file, "--to", relay.address()]).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

/// Fault 59.
#[test]
fn loss_and_delay_are_survived() {
    sent_in(Weather { loss: 50, delay: Duration::from_millis(10), ..Weather::default() }, MIB);
}

/// Fault 59.
#[test]
fn heavy_loss_is_survived() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    // That there is a connection is left to better weather, so that one of the few packets of a handshake that is lost
    // four times in a row does not decide.
    let first = a.new_file("first.bin", 1, 1000);
    a.cli().json(words!["send", first, "--to", relay.address()]).success();
    relay.set(Weather { loss: 300, ..Weather::default() });
    let file = a.new_file("f.bin", 2, MIB / 2);
    a.cli().json(words!["send", file, "--to", relay.address()]).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

/// Fault 59.
#[test]
fn reordering_duplicates_and_jitter_are_survived() {
    let (delay, jitter) = (Duration::from_millis(5), Duration::from_millis(25));
    sent_in(Weather { delay, jitter, duplicates: 150, loss: 20, ..Weather::default() }, 2 * MIB);
}

/// Fault 71.
#[test]
fn damaged_datagrams_do_no_harm() {
    sent_in(Weather { damage: 30, ..Weather::default() }, 4 * MIB);
}

/// Fault 59.
#[test]
fn a_link_of_64_kbit_per_second_completes() {
    sent_in(Weather { rate: 8000, delay: Duration::from_millis(100), ..Weather::default() }, 40_000);
}

/// Fault 62.
#[test]
fn an_address_may_change_in_the_middle() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(6 * MIB);
    let file = a.new_file("f.bin", 1, 12 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    for part in 1..4 {
        sending.wait_for_verified(part * 3 * MIB);
        relay.change_address();
    }
    let sent = sending.finish().success();
    assert!(
        sent.events.iter().all(|event| event["event"] != "retrying"),
        "the connection moves along\n{sent}"
    );
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

/// Fault 61.
#[test]
fn a_black_hole_that_ends_costs_only_time() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(6 * MIB);
    let file = a.new_file("f.bin", 1, 12 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(3 * MIB);
    relay.set_black_hole(true);
    // Something else goes on meanwhile, by another way.
    let other = a.new_file("other.bin", 2, 4 * MIB);
    b.trust(&a);
    let c = Daemon::start("c");
    c.trust(&a);
    a.trust(&c);
    a.cli().json(words!["send", other, "--to", c.address()]).success();
    relay.set_black_hole(false);
    sending.finish().success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

/// A large file on its way through a relay, at a rate at which it does not end by itself.
fn under_way() -> (Pair, Relay, Running) {
    let (pair, relay) = Pair::with_relay();
    relay.set_rate(6 * MIB);
    let file = pair.a.new_file("big.bin", 1, 64 * MIB);
    let mut sending = pair.a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(2 * MIB);
    (pair, relay, sending)
}

/// One hears its peer no longer, though the peer hears it; another's peer sleeps. Both notice when the connection's idle
/// time is over, which is waited for once.
///
/// Faults 40 and 61.
#[test]
fn a_peer_that_is_silent_is_given_up_and_found_again() {
    let (deaf, relay, mut to_mute) = under_way();
    relay.set(Weather { mute: true, ..Weather::default() });
    let (asleep, other_relay, mut to_asleep) = under_way();
    asleep.b.signal(Signal::STOP);
    to_mute.wait_for_event("retrying");
    relay.set(Weather::default());
    to_asleep.wait_for_event("retrying");
    other_relay.set_rate(0);
    asleep.b.signal(Signal::CONT);
    for (pair, sending) in [(deaf, to_mute), (asleep, to_asleep)] {
        sending.finish().success();
        data::assert_same(&pair.a.file("big.bin"), &pair.b.inbox().join("big.bin"));
    }
}

/// The sender sleeps in the middle: its own clock has not moved, and its peer has given the connection up.
///
/// Fault 40.
#[test]
fn a_sender_that_slept_goes_on() {
    let (Pair { a, b }, relay, sending) = under_way();
    a.signal(Signal::STOP);
    b.wait_for_log("connection closed");
    relay.set_rate(0);
    a.signal(Signal::CONT);
    sending.finish().success();
    data::assert_same(&a.file("big.bin"), &b.inbox().join("big.bin"));
}

/// Fault 63.
#[test]
fn a_path_that_takes_only_small_packets_from_now_on_is_used() {
    let (Pair { a, b }, relay, sending) = under_way();
    relay.set(Weather { largest: 1252, ..Weather::default() });
    let sent = sending.finish().success();
    assert!(sent.events.iter().all(|event| event["event"] != "retrying"), "the connection lives\n{sent}");
    data::assert_same(&a.file("big.bin"), &b.inbox().join("big.bin"));
}

/// Fault 63.
#[test]
fn a_path_that_takes_no_udp_is_a_clear_error() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_black_hole(true);
    let file = a.new_file("f.bin", 1, 1000);
    let failed = a.cli().json(words!["send", file, "--to", relay.address()]).exits(4);
    assert!(failed.message().contains("UDP"), "what to look at is said\n{failed}");
    assert!(b.received().is_empty());
}

/// Fault 64.
#[test]
fn a_send_from_a_new_address_goes_on() {
    let (Pair { mut a, b }, relay) = Pair::with_relay();
    relay.set_rate(6 * MIB);
    let len = 16 * MIB;
    let file = a.new_file("big.bin", 1, len);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    let verified = sending.wait_for_verified(len / 2);
    a.kill9();
    sending.kill9();
    a.start_elsewhere();
    let again = a.cli().json(words!["send", file, "--to", relay.address()]).success();
    data::assert_same(&file, &b.inbox().join("big.bin"));
    assert!(again.moved() <= len - verified + 6 * MIB, "{verified} were there\n{again}");
}

/// Fault 63.
#[test]
fn nobody_there_is_unreachable() {
    let a = Daemon::start("a");
    let mut gone = Daemon::start("gone");
    gone.sigterm();
    let file = a.new_file("f.bin", 1, 1000);
    let failed = a.cli().json(words!["send", file, "--to", gone.address(), "--accept-new-key"]).exits(4);
    assert_eq!(failed.event("failed")["code"], "unreachable", "{failed}");
    let fetched = words!["fetch", "44".repeat(32), "--from", gone.address(), "--accept-new-key"];
    a.cli().json(fetched).exits(4);
}

#[test]
fn ipv6_works_where_there_is_any() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("left out: there is no IPv6 loopback");
        return;
    }
    let pair = Pair::of(
        Daemon::start_in("a", Place::new().listen("[::1]:0")),
        Daemon::start_in("b", Place::new().listen("[::1]:0")),
    );
    let Pair { a, b } = &pair;
    assert!(b.address().starts_with("[::1]:"), "{}", b.address());
    let file = a.new_file("f.bin", 1, 300_000);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

#[test]
fn the_default_kind_of_address_takes_both_families() {
    if std::net::UdpSocket::bind("[::]:0").is_err() {
        eprintln!("left out: there is no IPv6");
        return;
    }
    let pair = Pair::of(
        Daemon::start_in("a", Place::new().listen("[::]:0")),
        Daemon::start_in("b", Place::new().listen("[::]:0")),
    );
    let Pair { a, b } = &pair;
    for (n, host) in ["127.0.0.1", "[::1]", "localhost"].into_iter().enumerate() {
        let name = format!("{n}.bin");
        let file = a.new_file(&name, n as u64, 300_000);
        a.cli().json(words!["send", file, "--to", format!("{host}:{}", b.port())]).success();
        data::assert_same(&file, &b.inbox().join(name));
    }
}

#[test]
fn two_addresses_can_be_listened_on() {
    let place = Place::new();
    let mut daemon = Daemon::start_in("two", place.arg("--listen").arg("127.0.0.1:0"));
    until_true("it listens on two addresses", || {
        daemon.status()["listen"].as_array().is_some_and(|addresses| addresses.len() == 2)
    });
    assert_eq!(daemon.sigterm().code(), Some(0));
}
