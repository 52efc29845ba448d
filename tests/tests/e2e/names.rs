//! Under which name a file lands, and that nothing is ever overwritten.

use std::{fs, os::unix::fs::symlink};

use p2p_tests::{Daemon, Pair, data, data::MIB, trust_each_other, words};

/// Fault 23.
#[test]
fn another_content_under_the_same_name_gets_a_number() {
    let Pair { a, b } = Pair::new();
    for (seed, expected) in [(1, "f.bin"), (2, "f (1).bin"), (3, "f (2).bin")] {
        let file = a.new_file("f.bin", seed, 300_000);
        let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
        data::assert_same(&file, &b.inbox().join(expected));
        let path = sent.event("done")["path"].as_str().unwrap();
        assert!(path.ends_with(expected), "{path} is not where it is\n{sent}");
    }
    assert_eq!(b.received().len(), 3, "{:?}", b.received());
}

#[test]
fn the_same_content_again_costs_nothing() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 2 * MIB);
    assert_eq!(a.cli().json(words!["send", file, "--to", b.address()]).success().moved(), 2 * MIB);
    let again = a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert_eq!(again.moved(), 0, "{again}");
    assert_eq!(b.received().len(), 1, "{:?}", b.received());
}

#[test]
fn a_small_file_goes_along_with_its_offer_and_counts_once() {
    let Pair { mut a, b } = Pair::new();
    for len in [1, 1000, 256 * 1024] {
        let file = a.new_file(&format!("{len}.bin"), len, len);
        let moved = |a: &Daemon| a.cli().json(words!["send", file, "--to", b.address()]).success().moved();
        assert_eq!((moved(&a), moved(&a)), (len, 0));
        // The next daemon does not know that it is there, and sends it along for nothing.
        a.restart();
        assert_eq!((moved(&a), moved(&a)), (0, 0));
        data::assert_same(&file, &b.inbox().join(format!("{len}.bin")));
    }
    assert_eq!(b.received().len(), 3, "{:?}", b.received());
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

/// Fault 21.
#[test]
fn a_copy_that_was_changed_meanwhile_is_not_taken_for_the_same() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 2 * MIB);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    data::flip(&b.inbox().join("f.bin"), MIB);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    data::assert_same(&file, &b.inbox().join("f (1).bin"));
}

#[test]
fn what_the_owner_has_already_is_not_doubled() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 2 * MIB);
    fs::create_dir_all(b.inbox()).unwrap();
    fs::copy(&file, b.inbox().join("f.bin")).unwrap();
    // The owner's own copy is nobody's business: the sender pays, and learns nothing.
    let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert_eq!(sent.moved(), 2 * MIB, "{sent}");
    assert_eq!(b.received().len(), 1, "{:?}", b.received());
    // A fetch is the owner's own wish, so the owner's copy counts.
    let id = a.cli().run(words!["share", file]).success().text();
    let fetched = b.cli().json(words!["fetch", id, "--from", a.address()]).success();
    assert_eq!(fetched.moved(), 0, "{fetched}");
    assert_eq!(b.received().len(), 1, "{:?}", b.received());
}

/// Fault 36.
#[test]
fn two_senders_of_one_content_do_not_mix() {
    let (a, b, c) = (Daemon::start("a"), Daemon::start("b"), Daemon::start("c"));
    trust_each_other(&[&a, &b, &c]);
    let (from_a, from_c) = (a.new_file("f.bin", 1, 8 * MIB), c.new_file("f.bin", 1, 8 * MIB));
    let sending = a.cli().start_json(words!["send", from_a, "--to", b.address()]);
    c.cli().json(words!["send", from_c, "--to", b.address()]).success();
    sending.finish().success();
    assert_eq!(b.received().len(), 1, "{:?}", b.received());
    data::assert_same(&from_a, &b.inbox().join("f.bin"));
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

/// Fault 57.
#[test]
fn the_name_can_be_chosen() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 1000);
    a.cli().json(words!["send", file, "--to", b.address(), "--name", "Größe 日本.bin"]).success();
    data::assert_same(&file, &b.inbox().join("Größe 日本.bin"));
    for name in ["..", "a/b", "", ".p2p", "con", "a\\b"] {
        a.cli().json(words!["send", file, "--to", b.address(), "--name", name]).exits(2);
    }
    assert_eq!(b.received().len(), 1, "{:?}", b.received());
}

/// Fault 23.
#[test]
fn a_fetch_goes_where_it_is_told() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    let id = a.cli().run(words!["share", file]).success().text();
    let folder = b.file("folder");
    fs::create_dir(&folder).unwrap();
    b.cli().json(words!["fetch", id, "--from", a.address(), "-o", folder]).success();
    data::assert_same(&file, &folder.join("f.bin"));
    let named = b.file("named.bin");
    b.cli().json(words!["fetch", id, "--from", a.address(), "-o", named]).success();
    data::assert_same(&file, &named);
    // The same again: identical content is success, at no cost.
    assert_eq!(b.cli().json(words!["fetch", id, "--from", a.address(), "-o", named]).success().moved(), 0);
    // Another content is there: not overwritten.
    let taken = b.new_file("taken.bin", 7, 100);
    b.cli().json(words!["fetch", id, "--from", a.address(), "-o", taken]).success();
    assert_eq!(fs::read(&taken).unwrap(), data::random(7, 100));
    data::assert_same(&file, &b.file("taken (1).bin"));
    assert!(b.received().is_empty(), "{:?}", b.received());
}

/// Fault 56.
#[test]
fn a_link_in_the_way_is_not_followed() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    let precious = b.new_file("precious.bin", 2, 1000);
    fs::create_dir_all(b.inbox()).unwrap();
    symlink(&precious, b.inbox().join("f.bin")).unwrap();
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert_eq!(fs::read(&precious).unwrap(), data::random(2, 1000), "what the link points to");
    data::assert_same(&file, &b.inbox().join("f (1).bin"));
}

/// Fault 56.
#[test]
fn a_link_in_the_place_of_the_partials_is_not_followed() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    let elsewhere = b.file("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir_all(b.inbox()).unwrap();
    symlink(&elsewhere, b.inbox().join(".p2p")).unwrap();
    let sent = a.cli().json(words!["send", file, "--to", b.address()]);
    assert!(matches!(sent.code, Some(0 | 8)), "{sent}");
    assert!(data::files_below(&elsewhere).is_empty(), "{:?}", data::files_below(&elsewhere));
}

#[test]
fn a_file_that_looks_like_a_name_of_ours_is_an_ordinary_file() {
    let Pair { a, b } = Pair::new();
    for name in [".p2prc", "a.part", "-rf", "--json", "name with  spaces.txt"] {
        let file = a.new_file(name, 1, 10);
        fs::write(&file, name).unwrap();
        a.cli().json(words!["send", file, "--to", b.address()]).success();
        assert_eq!(fs::read_to_string(b.inbox().join(name)).unwrap(), name);
    }
}

#[test]
fn content_that_is_there_under_another_name_gets_the_one_asked_for() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("one.bin", 1, 300_000);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    a.cli().json(words!["send", file, "--to", b.address(), "--name", "two.bin"]).success();
    data::assert_same(&file, &b.inbox().join("two.bin"));
    let again = a.cli().json(words!["send", file, "--to", b.address(), "--name", "two.bin"]).success();
    assert_eq!(again.moved(), 0, "{again}");
}

#[test]
fn what_is_no_file_is_not_fetched_to() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 1000);
    let id = a.cli().run(words!["share", file]).success().text();
    let link = b.file("link");
    symlink("/nowhere/at/all", &link).unwrap();
    let refused = b.cli().json(words!["fetch", id, "--from", a.address(), "-o", link]).exits(2);
    assert!(refused.message().contains("link"), "the path is named\n{refused}");
}

/// Fault 56.
#[test]
fn links_put_in_the_place_of_folders_while_a_file_comes_are_not_followed() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(6 * MIB);
    let file = a.new_file("f.bin", 1, 24 * MIB);
    let elsewhere = b.file("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(2 * MIB);
    // First the folder of partial files, which is open and stays what it is; then the inbox, which is missed.
    let (partials, inbox) = (b.inbox().join(".p2p"), b.inbox().to_owned());
    let (own_partials, own_inbox) = (b.file("own-partials"), b.file("own-inbox"));
    fs::rename(&partials, &own_partials).unwrap();
    symlink(&elsewhere, &partials).unwrap();
    let verified = sending.wait_for_verified(6 * MIB);
    fs::remove_file(&partials).unwrap();
    fs::rename(&own_partials, &partials).unwrap();
    fs::rename(&inbox, &own_inbox).unwrap();
    symlink(&elsewhere, &inbox).unwrap();
    sending.wait_for("a pause", |event| event["event"] == "waiting" && event["reason"] == "space");
    fs::remove_file(&inbox).unwrap();
    fs::rename(&own_inbox, &inbox).unwrap();
    relay.set_rate(0);
    let sent = sending.finish().success();
    assert!(sent.moved() >= verified, "{sent}");
    assert!(data::files_below(&elsewhere).is_empty(), "{:?}", data::files_below(&elsewhere));
    data::assert_same(&file, &b.inbox().join("f.bin"));
}
