//! Disks that are full, or no disks at all.

use std::fs;

use p2p_tests::{Daemon, Pair, Relay, daemon::Place, data, data::MIB, tmpfs::Tmpfs, words};

fn pair_with_inbox_on(disk: &Tmpfs) -> Pair {
    Pair::of(Daemon::start("a"), Daemon::start_in("b", Place::new().inbox(disk.path().join("inbox"))))
}

/// Fault 11.
#[test]
fn what_cannot_fit_is_refused_up_front_with_the_numbers() {
    let Some(disk) = Tmpfs::mount(16 * MIB) else { return };
    let Pair { a, b } = pair_with_inbox_on(&disk);
    let file = a.new_file("big.bin", 1, 32 * MIB);
    let refused = a.cli().json(words!["send", file, "--to", b.address()]).exits(8);
    let message = refused.message();
    let numbers = message.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()).count();
    assert!(numbers >= 2, "needed and free\n{refused}");
    assert_eq!(refused.event("failed")["code"], "storage", "{refused}");
    assert!(b.received().is_empty());
    // What fits still comes.
    let small = a.new_file("small.bin", 2, 4 * MIB);
    a.cli().json(words!["send", small, "--to", b.address()]).success();
    data::assert_same(&small, &b.inbox().join("small.bin"));
    // A fetch is refused likewise.
    let id = a.cli().run(words!["share", file]).success().text();
    b.cli().json(words!["fetch", id, "--from", a.address()]).exits(8);
}

#[test]
fn a_sparse_file_needs_only_what_it_occupies() {
    let Some(disk) = Tmpfs::mount(16 * MIB) else { return };
    let Pair { a, b } = pair_with_inbox_on(&disk);
    let file = a.file("sparse.img");
    data::write_sparse(&file, 256 * MIB, &[(100 * MIB, &data::random(1, MIB))]);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    data::assert_same(&file, &b.inbox().join("sparse.img"));
}

/// Fault 12.
#[test]
fn a_disk_that_fills_up_pauses_the_transfer() {
    // Larger than what is reserved ahead, so that the end of the file finds the disk full.
    let len = 320 * MIB;
    let Some(disk) = Tmpfs::mount(len + 64 * MIB) else { return };
    let Pair { a, b } = pair_with_inbox_on(&disk);
    let relay = Relay::to(b.address());
    relay.set_rate(24 * MIB);
    let file = a.new_file("big.bin", 1, len);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(2 * MIB);
    let ballast = disk.fill();
    relay.set_rate(0);
    let waiting = sending
        .wait_for("waiting for space", |event| event["event"] == "waiting" && event["reason"] == "space");
    assert!(waiting["transfer"].is_u64(), "{waiting}");
    // Another transfer, from the receiver to the sender, is not held up.
    let other = b.new_file("other.bin", 2, 2 * MIB);
    b.cli().json(words!["send", other, "--to", a.address()]).success();
    assert!(b.received().iter().all(|path| !path.ends_with("big.bin")), "{:?}", b.received());
    fs::remove_file(ballast).unwrap();
    let sent = sending.finish().success();
    data::assert_same(&file, &b.inbox().join("big.bin"));
    assert!(sent.moved() <= len + 64 * MIB, "{sent}");
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn an_inbox_that_is_no_folder_is_a_clear_error() {
    let Pair { a, b } = Pair::new();
    let _ = fs::remove_dir_all(b.inbox());
    fs::write(b.inbox(), "not a folder").unwrap();
    let file = a.new_file("f.bin", 1, 1000);
    let refused = a.cli().json(words!["send", file, "--to", b.address()]).exits(8);
    assert_eq!(refused.event("failed")["code"], "storage", "{refused}");
    let id = a.cli().run(words!["share", file]).success().text();
    let fetched = b.cli().json(words!["fetch", id, "--from", a.address()]).exits(8);
    assert!(fetched.message().contains("inbox"), "the path is named\n{fetched}");
    assert_eq!(fs::read(b.inbox()).unwrap(), b"not a folder");
}

#[test]
fn an_inbox_that_vanished_is_made_again() {
    let Pair { a, b } = Pair::new();
    let _ = fs::remove_dir_all(b.inbox());
    let file = a.new_file("f.bin", 1, 1000);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
}
