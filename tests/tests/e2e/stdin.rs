//! Standard input that is sent.

use std::{fs, path::PathBuf};

use p2p_tests::{Daemon, Pair, data, data::MIB, words};

/// What waits in the sender's home.
fn spooled(daemon: &Daemon) -> Vec<PathBuf> {
    let spool = daemon.place().home_path().join("spool");
    if spool.exists() { data::files_below(&spool) } else { Vec::new() }
}

#[test]
fn standard_input_arrives_under_the_name_that_it_is_given() {
    let Pair { a, b } = Pair::new();
    for (name, len) in [("empty", 0), ("small", 1000), ("large", 20 * MIB)] {
        let file = a.new_file(name, len, len);
        let cli = a.cli().reading(&file);
        let sent =
            cli.json(words!["send", "-", "--name", format!("{name}.bin"), "--to", b.address()]).success();
        assert_eq!(sent.event("done")["file_id"], data::file_id(&file));
        data::assert_same(&file, &b.inbox().join(format!("{name}.bin")));
        assert_eq!(spooled(&a), [""; 0].map(PathBuf::from));
    }
    // A file of that name is a file.
    let named = a.new_file("-", 5, 1000);
    a.cli().run(words!["send", named, "--to", b.address()]).success();
    let unnamed = a.cli().reading(&named).run(words!["send", "-", "--to", b.address()]).exits(2);
    assert!(unnamed.stderr.contains("--name"), "{unnamed}");
}

#[test]
fn standard_input_outlives_its_command_and_its_daemon() {
    let (Pair { mut a, b }, relay) = Pair::with_relay();
    let file = a.new_file("source", 1, 24 * MIB);
    relay.set_rate(4 * MIB);
    let cli = a.cli().reading(&file);
    let mut sending = cli.start_json(words!["send", "-", "--name", "x", "--to", relay.address()]);
    sending.wait_for_verified(4 * MIB);
    let number = sending.wait_for_event("progress")["transfer"].to_string();
    a.kill9();
    sending.kill9();
    fs::remove_file(&file).unwrap();
    assert_eq!(spooled(&a).len(), 1);
    relay.set_rate(100 * MIB);
    a.start_again();
    a.cli().run(words!["wait", number]).success();
    assert_eq!(fs::read(b.inbox().join("x")).unwrap(), data::random(1, 24 * MIB));
    assert!(spooled(&a).is_empty());
}

#[test]
fn standard_input_is_kept_for_another_try_and_goes_when_that_is_given_up() {
    let (mut a, b) = (Daemon::start("a"), Daemon::start("b"));
    let file = a.new_file("source", 1, 300_000);
    let words = words!["send", "-", "--name", "x", "--to", b.address(), "--peer", b.peer()];
    let refused = a.cli().reading(&file).json(words.clone()).exits(5);
    let kept = spooled(&a);
    assert_eq!(kept.len(), 1);
    a.restart();
    assert_eq!(spooled(&a), kept);
    b.trust(&a);
    let number = refused.event("failed")["transfer"].to_string();
    a.cli().run(words!["retry", number]).success();
    a.cli().run(words!["wait", number]).success();
    data::assert_same(&file, &b.inbox().join("x"));
    assert!(spooled(&a).is_empty());

    b.cli().run(words!["peers", "forget", a.peer()]).success();
    let refused = a.cli().reading(&file).json(words).exits(5);
    assert_eq!(spooled(&a).len(), 1);
    a.cli().run(words!["cancel", refused.event("failed")["transfer"].to_string()]).success();
    assert!(spooled(&a).is_empty());
}

#[test]
fn standard_input_of_a_command_that_was_killed_is_swept() {
    let mut a = Daemon::start("a");
    let spool = a.place().home_path().join("spool");
    fs::create_dir_all(&spool).unwrap();
    let (left, foreign) = (spool.join("stdin-1-0"), spool.join("notes"));
    fs::write(&left, "left").unwrap();
    fs::write(&foreign, "foreign").unwrap();
    let held = fs::File::create(spool.join("stdin-2-0")).unwrap();
    held.lock().unwrap();
    a.restart();
    let mut names = spooled(&a);
    names.sort();
    assert_eq!(names, [foreign, spool.join("stdin-2-0")]);
}
