//! A source that is not what it was, or not a file at all.

use std::{fs, os::unix::fs::symlink, path::Path, time::Instant};

use p2p_tests::{Daemon, Pair, Relay, data, data::MIB, words};

const RATE: u64 = 6 * MIB;
const LEN: u64 = 16 * MIB;

/// Sends, changes the source in the middle, and checks that both sides notice.
fn changed_while_sent(change: impl Fn(&Path)) {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", 1, LEN);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(LEN / 4);
    change(&file);
    relay.set_rate(0);
    let sent = sending.finish().exits(7);
    let failed = sent.event("failed");
    assert_eq!(
        (failed["code"].as_str(), failed["exit_code"].as_u64()),
        (Some("integrity"), Some(7)),
        "{sent}"
    );
    assert!(sent.message().contains("big.bin"), "the path is named\n{sent}");
    b.settled();
    assert!(b.received().is_empty(), "{:?} from a changed source", b.received());
}

/// Fault 29.
#[test]
fn a_byte_changed_in_the_middle_is_noticed() {
    changed_while_sent(|file| data::flip(file, LEN * 3 / 4));
}

/// Fault 29.
#[test]
fn a_byte_changed_where_it_was_sent_already_is_noticed() {
    changed_while_sent(|file| data::flip(file, 10));
}

/// Fault 30.
#[test]
fn a_truncated_source_is_noticed() {
    changed_while_sent(|file| fs::File::options().write(true).open(file).unwrap().set_len(LEN / 2).unwrap());
}

/// Fault 29.
#[test]
fn a_source_that_grew_is_noticed() {
    changed_while_sent(|file| {
        use std::io::Write;
        fs::File::options().append(true).open(file).unwrap().write_all(b"more").unwrap();
    });
}

/// Fault 31.
#[test]
fn a_source_replaced_by_a_link_is_noticed() {
    changed_while_sent(|file| {
        let other = file.with_file_name("other.bin");
        fs::rename(file, &other).unwrap();
        symlink(&other, file).unwrap();
    });
}

/// Fault 29.
#[test]
fn a_source_replaced_by_another_file_is_noticed() {
    changed_while_sent(|file| {
        let other = file.with_file_name("other.bin");
        data::write_random(&other, 2, LEN);
        fs::rename(&other, file).unwrap();
    });
}

/// Fault 21.
#[test]
fn a_shared_file_that_rotted_is_not_served() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("shared.bin", 1, 2 * MIB);
    let id = a.cli().run(words!["share", file]).success().text();
    data::flip(&file, MIB);
    b.cli().json(words!["fetch", id, "--from", a.address()]).exits(7);
    assert!(b.received().is_empty(), "{:?}", b.received());
}

/// Fault 29.
#[test]
fn a_shared_file_that_changes_while_it_is_fetched_is_noticed() {
    let Pair { a, b } = Pair::new();
    let relay = Relay::to(a.address());
    relay.set_rate(RATE);
    let file = a.new_file("shared.bin", 1, LEN);
    let id = a.cli().run(words!["share", file]).success().text();
    let mut fetching = b.cli().start_json(words!["fetch", id, "--from", relay.address()]);
    fetching.wait_for_verified(LEN / 4);
    data::flip(&file, LEN * 3 / 4);
    relay.set_rate(0);
    fetching.finish().exits(7);
    assert!(b.received().is_empty(), "{:?}", b.received());
}

/// Fault 31.
#[test]
fn what_is_no_file_is_refused_before_anything_is_sent() {
    let Pair { a, b } = Pair::new();
    a.cli().json(words!["send", a.file("missing"), "--to", b.address()]).exits(6);
    let pipe = a.file("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), Path::new("/dev/null")] {
        let refused = a.cli().json(words!["send", path, "--to", b.address()]);
        assert!(matches!(refused.code, Some(1 | 2)), "{refused}");
        let shared = a.cli().json(words!["share", path]);
        assert!(matches!(shared.code, Some(1 | 2)), "{shared}");
    }
    assert!(b.received().is_empty());
}

#[test]
fn one_file_can_be_sent_to_several_peers() {
    let Pair { a, b } = Pair::new();
    let c = Daemon::start("c");
    c.trust(&a);
    a.trust(&c);
    let file = a.new_file("big.bin", 1, 4 * MIB);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    let id = data::file_id(&file);
    let sent = a.cli().json(words!["send", file, "--to", c.address()]).success();
    assert_eq!(sent.event("done")["file_id"], id, "{sent}");
    data::assert_same(&file, &c.inbox().join("big.bin"));
}

/// Faults 33 and 37.
#[test]
fn hashing_can_be_cancelled_and_takes_no_memory() {
    let Pair { a, b } = Pair::new();
    // Hashing this takes minutes, whatever the machine; it is too long to be hashed on the way.
    let file = a.file("huge.img");
    data::write_sparse(&file, (4 << 40) + 1, &[]);
    let mut sending = a.cli().start_json(words!["send", file, "--to", b.address()]);
    let waiting = sending.wait_for_event("waiting");
    assert_eq!(waiting["reason"], "hashing", "{waiting}");
    a.cli().json(words!["cancel", waiting["transfer"].to_string()]).success();
    let asked = Instant::now();
    sending.finish().exits(1);
    assert!(asked.elapsed().as_secs() < 30, "a cancelled hashing goes on");
    assert!(a.peak_memory() < 256 * MIB, "{} bytes of memory", a.peak_memory());
    a.settled();
}

/// Faults 33 and 37.
#[test]
fn hashing_on_the_way_can_be_cancelled_and_takes_no_memory() {
    let Pair { a, b } = Pair::new();
    // Hashing this takes minutes, whatever the machine, and so does moving it, although it is nothing but holes.
    let file = a.file("huge.img");
    data::write_sparse(&file, 4 << 40, &[]);
    let mut sending = a.cli().start_json(words!["send", file, "--to", b.address()]);
    let started = sending.wait_for_event("started");
    sending.wait_for_verified(1 << 30);
    a.cli().json(words!["cancel", started["transfer"].to_string()]).success();
    let asked = Instant::now();
    sending.finish().exits(1);
    assert!(asked.elapsed().as_secs() < 30, "a cancelled hashing goes on");
    for daemon in [&a, &b] {
        assert!(daemon.peak_memory() < 256 * MIB, "{} bytes of memory", daemon.peak_memory());
        daemon.settled();
    }
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn what_a_failed_transfer_kept_can_be_given_up() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", 1, LEN);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(LEN / 4);
    data::flip(&file, 10);
    sending.finish().exits(7);
    let ended = b.settled();
    assert!(!b.partials().is_empty(), "a failed transfer keeps what was verified");
    let number = ended[0]["transfer"].to_string();
    b.cli().json(words!["cancel", number]).success();
    assert_eq!(b.partials(), Vec::<std::path::PathBuf>::new());
}
