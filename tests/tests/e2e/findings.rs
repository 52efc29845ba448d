//! Small things that a user meets in the first half hour.

use p2p_tests::{Daemon, Pair, data::MIB, words};

#[test]
fn nothing_is_shared_for_a_ticket_that_cannot_be() {
    let a = Daemon::start("a");
    let file = a.new_file("f", 1, 1000);
    for wrong in [["--expires", "0s"], ["--uses", "0"], ["--address", "[nowhere]:1"]] {
        let refused = a.cli().run(words!["share", file, "--ticket", wrong[0], wrong[1]]);
        assert_eq!(refused.code, Some(2), "{refused}");
        assert!(a.cli().json(words!["shares"]).success().events.is_empty(), "{wrong:?}");
    }
    // A share that no ticket is left for is told from one that somebody may fetch.
    a.cli().run(words!["share", file, "--ticket"]).success();
    assert!(a.cli().run(words!["shares"]).text().contains("nobody without a ticket"));
    a.cli().run(words!["unshare", "--ticket", "1"]).success();
    assert!(a.cli().run(words!["shares"]).text().contains("nobody now"));
}

#[test]
fn what_was_known_of_a_transfer_is_known_after_a_restart() {
    let Pair { mut a, b } = Pair::new();
    let file = a.new_file("f", 1, 3 * MIB);
    let sent = a.cli().json(words!["send", file, "--to", b.address(), "--peer", b.peer()]).success();
    let number = sent.event("started")["transfer"].to_string();
    let before = a.cli().json(words!["show", number]).success().event("detail")["chunk_bytes"].clone();
    a.restart();
    let after = a.cli().json(words!["show", number]).success().event("detail")["chunk_bytes"].clone();
    assert!(after.as_u64().unwrap() > 0);
    assert_eq!(before, after);
    a.cli().run(words!["log", number]).success();
    a.cli().run(words!["log", "999"]).exits(6);
}

#[test]
fn a_send_that_waits_says_where_its_source_is() {
    let a = Daemon::start("a");
    let file = a.new_file("f", 1, 1000);
    let number = a.cli().run(words!["send", file, "--to", "127.0.0.1:1", "--detach"]).success().text();
    let shown = a.cli().json(words!["show", number]).success();
    assert_eq!(shown.event("detail")["path"], file.to_str().unwrap());
}

#[test]
fn patterns_that_leave_nothing_are_refused() {
    let Pair { a, b } = Pair::new();
    let folder = a.place().root().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "x").unwrap();
    for (pattern, why) in [("*", "exclude"), ("[", "a [ has no ]")] {
        let words = words!["send", folder, "--exclude", pattern, "--to", b.address(), "--peer", b.peer()];
        let refused = a.cli().run(words).exits(2);
        assert!(refused.stderr.contains(why), "{refused}");
    }
}
