//! What an owner settles for one peer.

use std::{ffi::OsString, fs, path::Path};

use p2p_tests::{Cli, Daemon, Output, Pair, data, data::MIB, words};
use serde_json::Value;

fn rule(b: &Daemon, peer: &str, flags: &[&str]) -> Value {
    let words = [&["peers", "rule", peer], flags].concat();
    let said = b.cli().json(words.iter().map(OsString::from)).success();
    said.event("peer")["rules"].clone()
}

fn send(a: &Daemon, b: &Daemon, path: &Path) -> Output {
    a.cli().run(words!["send", path, "--to", b.address(), "--peer", b.peer()])
}

#[test]
fn what_a_peer_sends_lands_in_its_folder_and_goes_on_there_after_a_kill() {
    let Pair { a, mut b } = Pair::new();
    let folder = b.place().root().join("from a");
    fs::create_dir(&folder).unwrap();
    let said = rule(&b, a.peer(), &["--folder", folder.to_str().unwrap()]);
    assert_eq!(said["folder"], folder.to_str().unwrap());
    let file = a.new_file("f.bin", 1, 5 * MIB);
    send(&a, &b, &file).success();
    data::assert_same(&file, &folder.join("f.bin"));
    assert!(!b.inbox().join("f.bin").exists());
    b.restart();
    assert_eq!(rule(&b, a.peer(), &[])["folder"], folder.to_str().unwrap());
    assert!(rule(&b, a.peer(), &["--folder", "default"])["folder"].is_null());
    let other = a.new_file("g.bin", 2, MIB);
    send(&a, &b, &other).success();
    data::assert_same(&other, &b.inbox().join("g.bin"));
}

#[test]
fn what_is_too_large_or_too_much_is_refused_with_the_numbers() {
    let Pair { a, b } = Pair::new();
    rule(&b, a.peer(), &["--largest", "2MiB", "--quota", "3 MiB"]);
    let (large, first, second) = (
        a.new_file("large", 1, 2 * MIB + 1),
        a.new_file("first", 2, 2 * MIB),
        a.new_file("second", 3, MIB + 1),
    );
    let refused = send(&a, &b, &large).exits(5);
    assert!(refused.stderr.contains("2.0 MiB"), "{refused}");
    send(&a, &b, &first).success();
    let refused = send(&a, &b, &second).exits(5);
    assert!(refused.stderr.contains("1.0 MiB of it are left"), "{refused}");
    // It counts what lies here.
    fs::remove_file(b.inbox().join("first")).unwrap();
    send(&a, &b, &second).success();
}

#[test]
fn a_peer_is_asked_about_or_refused_whatever_holds_for_others() {
    let Pair { a, b } = Pair::new();
    rule(&b, a.peer(), &["--accept", "never"]);
    let file = a.new_file("f.bin", 1, MIB);
    send(&a, &b, &file).exits(5);
    rule(&b, a.peer(), &["--accept", "ask"]);
    let mut sending = a.cli().start_json(words!["send", file, "--to", b.address(), "--peer", b.peer()]);
    while sending.wait_for_event("waiting")["reason"] != "accept" {}
    let offer = b.cli().json(words!["inbox"]).success().event("transfer")["transfer"].to_string();
    b.cli().run(words!["inbox", "accept", offer]).success();
    sending.finish().success();
    rule(&b, a.peer(), &["--accept", "default"]);
    send(&a, &b, &a.new_file("g.bin", 2, MIB)).success();
}

#[test]
fn a_name_that_is_taken_keeps_both_or_is_overwritten_or_stays() {
    let Pair { a, b } = Pair::new();
    let landed = b.inbox().join("f.bin");
    let file = a.new_file("f.bin", 1, MIB);
    send(&a, &b, &file).success();
    let newer = a.new_file("f.bin", 2, MIB);
    rule(&b, a.peer(), &["--exists", "skip"]);
    let refused = send(&a, &b, &newer).exits(9);
    assert!(refused.stderr.contains("of this name already"), "{refused}");
    assert_ne!(data::file_id(&landed), data::file_id(&newer));
    rule(&b, a.peer(), &["--exists", "overwrite"]);
    send(&a, &b, &newer).success();
    data::assert_same(&newer, &landed);
    let id = data::file_id(&landed);
    assert_eq!(data::files_below(b.inbox()).len(), 1);
    rule(&b, a.peer(), &["--exists", "default"]);
    send(&a, &b, &a.new_file("f.bin", 3, MIB)).success();
    assert_eq!(data::file_id(&landed), id);
    assert_eq!(data::files_below(b.inbox()).len(), 2);
    // The same content is success, whatever the rule.
    rule(&b, a.peer(), &["--exists", "skip"]);
    send(&a, &b, &a.new_file("f.bin", 2, MIB)).success();
}

#[test]
fn a_small_file_is_overwritten_by_the_one_that_comes_along_with_its_offer() {
    let Pair { a, b } = Pair::new();
    rule(&b, a.peer(), &["--exists", "overwrite"]);
    for (seed, len) in [(1, 7), (2, 5), (3, 2000), (4, 2000), (5, 100)] {
        let file = a.new_file("small", seed, len);
        send(&a, &b, &file).success();
        data::assert_same(&file, &b.inbox().join("small"));
    }
    assert_eq!(data::files_below(b.inbox()).len(), 1);
}

#[test]
fn a_file_never_takes_a_folders_place() {
    let Pair { a, b } = Pair::new();
    rule(&b, a.peer(), &["--exists", "overwrite"]);
    let taken = b.inbox().join("x");
    fs::create_dir_all(&taken).unwrap();
    fs::write(taken.join("precious"), "precious").unwrap();
    send(&a, &b, &a.new_file("x", 1, MIB)).success();
    assert_eq!(fs::read(taken.join("precious")).unwrap(), b"precious");
    assert_eq!(fs::metadata(b.inbox().join("x (1)")).unwrap().len(), MIB);
}

#[test]
fn a_peer_fetches_back_what_it_sent_only_if_it_may() {
    let Pair { a, b } = Pair::new();
    let fetch = |a: &Daemon, id: &str| {
        a.cli().run(words!["fetch", id, "--from", b.address(), "--peer", b.peer(), "-o", "-"])
    };
    rule(&b, a.peer(), &["--seed", "no"]);
    let file = a.new_file("f.bin", 1, MIB);
    send(&a, &b, &file).success();
    fetch(&a, &data::file_id(&file)).exits(6);
    rule(&b, a.peer(), &["--seed", "yes"]);
    let other = a.new_file("g.bin", 2, MIB);
    send(&a, &b, &other).success();
    fetch(&a, &data::file_id(&other)).success();
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let Pair { a, b } = Pair::new();
    let cli: Cli = b.cli();
    cli.run(words!["peers", "rule", a.peer(), "--accept", "perhaps"]).exits(2);
    cli.run(words!["peers", "rule", a.peer(), "--quota", "much"]).exits(2);
    cli.run(words!["peers", "rule", "nobody", "--accept", "ask"]).exits(6);
    let shown = cli.run(words!["peers", "rule", a.peer()]).success();
    assert!(shown.text().contains("keep-both (default)"), "{shown}");
}
