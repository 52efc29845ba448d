//! What happened is remembered, by both sides, and told in words and in JSON.

use p2p_tests::{Daemon, Pair, data::MIB, words};

/// What happened, and to which transfer.
fn log(daemon: &Daemon, more: &[&str]) -> Vec<(String, Option<u64>)> {
    let words = ["log"].iter().chain(more).map(std::ffi::OsString::from);
    let said = daemon.cli().json(words).success();
    said.events
        .iter()
        .map(|event| (event["what"].as_str().unwrap().to_owned(), event["transfer"].as_u64()))
        .collect()
}

fn of(whats: &[&str], transfer: u64) -> Vec<(String, Option<u64>)> {
    whats.iter().map(|what| ((*what).to_owned(), Some(transfer))).collect()
}

#[test]
fn what_happened_is_remembered_over_a_restart() {
    let Pair { mut a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, MIB);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    // Nobody listens there.
    a.cli().json(words!["send", file, "--to", "127.0.0.1:1", "--accept-new-key"]).exits(4);
    a.cli().json(words!["peers", "forget", b.peer()]).success();
    let before = log(&a, &[]);
    a.restart();
    let mut expected = vec![("trusted".to_owned(), None)];
    expected.extend(of(&["queued", "started", "done"], 1));
    expected.extend(of(&["queued", "failed"], 2));
    expected.push(("forgotten".to_owned(), None));
    assert_eq!(log(&a, &[]), expected);
    assert_eq!(before, expected);
    assert_eq!(log(&a, &["2"]), of(&["queued", "failed"], 2));
    assert_eq!(log(&a, &["-n", "1"]), [("forgotten".to_owned(), None)]);
    assert_eq!(log(&a, &["--since", "2h"]), expected);
    assert!(log(&a, &["--since", "2999-01-01"]).is_empty());
    assert_eq!(log(&b, &["1"]), of(&["queued", "started", "done"], 1));
    let text = b.cli().run(words!["log", "1"]).success().text();
    assert!(text.lines().last().unwrap().contains("received f.bin (1.0 MiB) from "), "{text}");
    a.cli().json(words!["log", "--since", "yesterday"]).exits(2);
}
