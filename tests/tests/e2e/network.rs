//! Networks that lose, damage, delay and swallow, and addresses that change.

use std::time::Duration;

use p2p_tests::{Daemon, Pair, daemon::Place, data, data::MIB, relay::Weather, until::until_true, words};

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
    sent_in(Weather { loss: 250, ..Weather::default() }, MIB / 2);
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
