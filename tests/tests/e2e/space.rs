//! Disks that are full, or no disks at all.

use std::fs;

use p2p_tests::{
    Daemon, Pair, Relay, daemon::Place, data, data::MIB, ext4::Ext4, tmpfs::Tmpfs, until::until, words,
};
use rustix::process::Resource;

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

/// Fault 13.
#[test]
fn a_home_that_is_full_loses_nothing() {
    let Some(disk) = Tmpfs::mount(16 * MIB) else { return };
    let place = Place::new().home(disk.path().join("home"));
    let Pair { a, mut b } = Pair::of(Daemon::start("a"), Daemon::start_in("b", place));
    let relay = Relay::to(b.address());
    relay.set_rate(6 * MIB);
    let shared = b.new_file("shared.bin", 9, MIB);
    let id = b.cli().run(words!["share", shared]).success().text();
    let before = a.new_file("before.bin", 1, 8 * MIB);
    let mut sending = a.cli().start_json(words!["send", before, "--to", relay.address()]);
    sending.wait_for_verified(MIB);
    let ballast = disk.fill();
    // What runs goes on; what is new is taken, or the peer is told to come again.
    let file = a.new_file("new.bin", 2, MIB);
    let refused = a.cli().run(words!["send", file, "--to", b.address(), "--detach"]).success().text();
    relay.set_rate(0);
    sending.finish().success();
    data::assert_same(&before, &b.inbox().join("before.bin"));
    a.cli().json(words!["fetch", id, "--from", b.address()]);
    b.status();
    b.kill9();
    b.start_again();
    fs::remove_file(ballast).unwrap();
    // It waits a while between its tries; asked again, it need not.
    a.cli().json(words!["cancel", refused]);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    data::assert_same(&file, &b.inbox().join("new.bin"));
    data::assert_same(&before, &b.inbox().join("before.bin"));
    a.cli().json(words!["fetch", id, "--from", b.address()]).success();
    data::assert_same(&shared, &a.inbox().join("shared.bin"));
}

/// Fault 18.
#[test]
fn an_inbox_that_cannot_be_written_to_is_a_clear_error() {
    let Some(disk) = Tmpfs::mount(64 * MIB) else { return };
    let Pair { a, b } = pair_with_inbox_on(&disk);
    let first = a.new_file("first.bin", 1, MIB);
    a.cli().json(words!["send", first, "--to", b.address()]).success();
    disk.set_read_only(true);
    let file = a.new_file("f.bin", 2, MIB);
    let refused = a.cli().json(words!["send", file, "--to", b.address()]).exits(8);
    assert_eq!(refused.event("failed")["code"], "storage", "{refused}");
    let id = a.cli().run(words!["share", file]).success().text();
    let fetched = b.cli().json(words!["fetch", id, "--from", a.address()]).exits(8);
    assert!(fetched.message().contains("inbox"), "the path is named\n{fetched}");
    // It can still be read, and so be sent.
    b.cli().json(words!["send", b.inbox().join("first.bin"), "--to", a.address()]).success();
    data::assert_same(&first, &a.inbox().join("first.bin"));
    disk.set_read_only(false);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

/// Fault 20.
#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(6 * MIB);
    let file = a.new_file("f.bin", 1, 24 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(4 * MIB);
    b.limit(Resource::Fsize, Some(5 * MIB));
    let waiting = sending
        .wait_for("waiting for space", |event| event["event"] == "waiting" && event["reason"] == "space");
    assert!(waiting["transfer"].is_u64(), "{waiting}");
    b.status();
    b.limit(Resource::Fsize, None);
    relay.set_rate(0);
    sending.finish().success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

/// Fault 19.
#[test]
fn an_inbox_that_goes_away_in_the_middle_is_waited_for() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(6 * MIB);
    let file = a.new_file("f.bin", 1, 32 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(4 * MIB);
    let away = b.inbox().with_file_name("away");
    fs::rename(b.inbox(), &away).unwrap();
    sending.wait_for("a pause", |event| event["event"] == "waiting" && event["reason"] == "space");
    relay.set_rate(0);
    // Nothing is made in its place, and nothing published elsewhere.
    assert!(!b.inbox().exists());
    fs::rename(&away, b.inbox()).unwrap();
    sending.finish().success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

/// Fault 19.
#[test]
fn an_inbox_that_is_removed_in_the_middle_costs_its_content_and_no_more() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(6 * MIB);
    let file = a.new_file("f.bin", 1, 16 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(4 * MIB);
    fs::remove_dir_all(b.inbox()).unwrap();
    fs::create_dir(b.inbox()).unwrap();
    relay.set_rate(0);
    sending.finish().success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

/// Fault 22.
#[test]
fn a_disk_that_stalls_holds_up_nobody_else() {
    let Some(disk) = Ext4::mount(192 * MIB) else { return };
    let place = Place::new().inbox(disk.path().join("inbox"));
    let Pair { a, b } = Pair::of(Daemon::start("a"), Daemon::start_in("b", place));
    let len = 96 * MIB;
    let relay = Relay::to(b.address());
    relay.set_rate(6 * MIB);
    let file = a.new_file("big.bin", 1, len);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(4 * MIB);
    let frozen = disk.freeze();
    relay.set_rate(0);
    // The sender is held back: what is granted is read, and no more is.
    let mut arrived = 0;
    until("nothing more is taken", || {
        let now = b.transfers()[0]["moved_bytes"].as_u64();
        let before = std::mem::replace(&mut arrived, now.unwrap_or(0));
        (before == arrived && arrived > 4 * MIB).then_some(())
    });
    let held = b.peak_memory();
    assert!(held < 192 * MIB, "{held} bytes of memory");
    // Other transfers, by the same connection and by another, and commands go on.
    for (from, to, name) in [(&b, &a, "back.bin"), (&b, &a, "again.bin")] {
        let other = from.new_file(name, 2, 2 * MIB);
        from.cli().json(words!["send", other, "--to", to.address()]).success();
    }
    b.status();
    drop(frozen);
    let sent = sending.finish().success();
    assert!(sent.events.iter().all(|event| event["event"] != "retrying"), "no cascade\n{sent}");
    data::assert_same(&file, &b.inbox().join("big.bin"));
}
