//! Limits on bandwidth. They are held to by what could not have been done within the time that it took, never by how long
//! something may take.

use std::time::{Duration, Instant};

use p2p_tests::{Cli, Daemon, Pair, daemon::Place, data, data::MIB, words};

/// Bytes per second that went at most, a moment's worth and what is in flight aside.
fn assert_within(begun: Instant, bytes: u64, rate: u64, ahead: u64) {
    let least = (bytes - ahead) as f64 / rate as f64 - 0.3;
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs_f64(least), "{bytes} bytes at {rate} a second took {took:?}");
}

fn was_limited(output: &p2p_tests::Output) -> bool {
    output.events.iter().any(|event| event["event"] == "progress" && event["limited"] == true)
}

fn limits(cli: &Cli, words: &[&str]) -> (Option<u64>, Option<u64>, String) {
    let words = ["limit"].iter().chain(words).map(std::ffi::OsString::from);
    let answer = cli.json(words).success();
    let limits = answer.event("limits");
    let source = limits["source"].as_str().unwrap().to_owned();
    (limits["up_bps"].as_u64(), limits["down_bps"].as_u64(), source)
}

#[test]
fn a_sender_holds_back_what_goes_up() {
    let a = Daemon::start_in("a", Place::new().config("[limit]\nup = '2 MiB/s'\n"));
    let Pair { a, b } = Pair::of(a, Daemon::start("b"));
    assert_eq!(limits(&a.cli(), &[]), (Some(2 * MIB), None, "config".to_owned()));
    let file = a.new_file("f.bin", 1, 4 * MIB);
    let begun = Instant::now();
    let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert_within(begun, 4 * MIB, 2 * MIB, MIB / 2);
    assert!(was_limited(&sent), "{sent}");
    data::assert_same(&file, &b.inbox().join("f.bin"));
    // What comes to it is not held back, and another limit counts at once.
    assert_eq!(limits(&a.cli(), &["--off"]), (None, None, "command".to_owned()));
    let free = a.new_file("free.bin", 2, 24 * MIB);
    let sent = a.cli().json(words!["send", free, "--to", b.address()]).success();
    assert!(!was_limited(&sent), "{sent}");
    assert_eq!(limits(&a.cli(), &["--reset"]), (Some(2 * MIB), None, "config".to_owned()));
    assert_eq!(a.status()["limits"]["up_bps"], 2 * MIB);
}

#[test]
fn a_receiver_holds_back_what_comes_down() {
    let b = Daemon::start_in("b", Place::new().config("limit = '3 MiB/s'\n"));
    let Pair { a, b } = Pair::of(Daemon::start("a"), b);
    // Two at once share it.
    let (one, two) = (a.new_file("one.bin", 1, 5 * MIB), a.new_file("two.bin", 2, 12 * MIB));
    let begun = Instant::now();
    let sent = a.cli().json(words!["send", one, two, "--to", b.address()]).success();
    // What a chunk is in flight of each when it begins, and what may be saved up.
    assert_within(begun, 17 * MIB, 3 * MIB, 2 * MIB);
    assert!(b.transfers().iter().all(|line| line["state"] == "done"), "{sent}");
    data::assert_same(&one, &b.inbox().join("one.bin"));
    data::assert_same(&two, &b.inbox().join("two.bin"));
    // The same for what it fetches.
    let id = a.cli().run(words!["share", two]).success().text();
    std::fs::remove_file(b.inbox().join("two.bin")).unwrap();
    let begun = Instant::now();
    let fetched = b.cli().json(words!["fetch", id, "--from", a.address(), "--accept-new-key"]).success();
    assert_within(begun, 12 * MIB, 3 * MIB, 5 * MIB);
    assert!(was_limited(&fetched), "{fetched}");
    data::assert_same(&two, &b.inbox().join("two.bin"));
}

#[test]
fn one_transfer_can_be_slower_than_the_others_and_stays_so_over_a_restart() {
    let Pair { mut a, b } = Pair::new();
    let (slow, quick) = (a.new_file("slow.bin", 1, 4 * MIB), a.new_file("quick.bin", 2, 9 * MIB));
    let words = words!["send", slow, "--to", b.address(), "--limit", "1 MiB/s"];
    let begun = Instant::now();
    let mut sending = a.cli().start_json(words);
    let transfer = sending.wait_for_event("started")["transfer"].to_string();
    let sent = a.cli().json(words!["send", quick, "--to", b.address()]).success();
    assert!(!was_limited(&sent), "{sent}");
    sending.wait_for_verified(MIB);
    sending.kill9();
    a.restart();
    let shown = a.cli().json(words!["show", transfer]).success();
    assert_eq!(shown.event("detail")["limit_bps"], MIB, "{shown}");
    let waited = a.cli().json(words!["wait", transfer]).success();
    assert!(was_limited(&waited), "{waited}");
    assert_within(begun, 4 * MIB, MIB, MIB);
    data::assert_same(&slow, &b.inbox().join("slow.bin"));
    a.cli().json(words!["send", quick, "--to", b.address(), "--limit", "fast"]).exits(2);
}

#[test]
fn limits_that_a_command_set_outlive_the_daemon_until_they_are_taken_back() {
    let mut a = Daemon::start_in("a", Place::new().config("limit = '2 MiB/s'\n"));
    let (config, ours) = ((Some(2 * MIB), Some(2 * MIB)), (Some(5 * MIB), Some(2 * MIB)));
    let (up, down, source) = limits(&a.cli(), &["--up", "5 MiB/s"]);
    assert_eq!(((up, down), source.as_str()), (ours, "command"));
    a.kill9();
    a.start_again();
    let status = a.status();
    assert_eq!(
        (&status["limits"]["up_bps"], &status["limits"]["source"]),
        (&(5 * MIB).into(), &"command".into())
    );
    let shown = a.cli().run(words!["status"]).success().text();
    assert!(shown.contains("p2p limit --reset"), "{shown}");
    let (up, down, source) = limits(&a.cli(), &["--reset"]);
    assert_eq!(((up, down), source.as_str()), (config, "config"));
    a.restart();
    let (up, down, source) = limits(&a.cli(), &[]);
    assert_eq!(((up, down), source.as_str()), (config, "config"));
}

#[test]
fn the_limit_of_one_transfer_changes_while_it_runs_and_stays_changed() {
    let Pair { mut a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 16 * MIB);
    let words = words!["send", file, "--to", b.address(), "--limit", "1 MiB/s"];
    let mut sending = a.cli().start_json(words);
    let transfer = sending.wait_for_event("started")["transfer"].to_string();
    sending.wait_for_verified(MIB / 2);
    let limit =
        |a: &Daemon| a.cli().json(words!["show", transfer]).success().event("detail")["limit_bps"].clone();
    let said = a.cli().json(words!["limit", transfer, "1 KiB/s"]).success();
    assert_eq!(said.event("limit")["limit_bps"], 1024, "{said}");
    assert_eq!(limit(&a), 1024);
    sending.kill9();
    a.restart();
    assert_eq!(limit(&a), 1024);
    // With it, this would take hours.
    a.cli().json(words!["limit", transfer, "off"]).success();
    assert!(limit(&a).is_null());
    a.cli().json(words!["wait", transfer]).success();

    data::assert_same(&file, &b.inbox().join("f.bin"));
    a.cli().json(words!["limit", transfer, "1 MiB/s"]).exits(9);
    a.cli().json(words!["limit", "999", "off"]).exits(6);
    a.cli().json(words!["limit", transfer]).exits(2);
    a.cli().json(words!["limit", transfer, "off", "--off"]).exits(2);
}
