//! A machine that has little, or is not what it was: no descriptors, another time, other users, odd files.

use std::{fs, os::unix::process::CommandExt, path::Path, process::Command};

use p2p_tests::{Daemon, Pair, clock::Clock, daemon::Place, data, data::MIB, until::until_true, words};
use rustix::process::{Resource, geteuid};

const YEARS: i64 = 10 * 365 * 24 * 3600;

/// Fault 27.
#[test]
fn without_descriptors_what_runs_goes_on_and_the_rest_waits() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(6 * MIB);
    let before = b.descriptors();
    let file = a.new_file("big.bin", 1, 16 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(2 * MIB);
    b.limit(Resource::Nofile, Some(b.descriptors() as u64));
    let other = a.new_file("other.bin", 2, 2 * MIB);
    let shed = a.cli().json(words!["send", other, "--to", b.address(), "--detach"]).success();
    let shed = shed.event("queued")["transfer"].to_string();
    b.wait_for_log("Too many open files");
    // Its owner is heard all the same.
    for _ in 0..2 {
        b.cli().json(words!["list"]).success();
    }
    sending.wait_for_verified(10 * MIB);
    b.limit(Resource::Nofile, None);
    relay.set_rate(0);
    sending.finish().success();
    a.cli().json(words!["wait", shed]).success();
    for name in ["big.bin", "other.bin"] {
        data::assert_same(&a.file(name), &b.inbox().join(name));
    }
    b.settled();
    until_true("its descriptors are given back", || b.descriptors() <= before + 2);
}

/// Fault 27.
#[test]
fn a_daemon_takes_as_many_descriptors_as_it_may_have() {
    let launcher = ["prlimit", "--nofile=64:1000"].map(Into::into);
    let daemon = Daemon::start_in("a", Place::new().launched_by(launcher));
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["1000", "1000"], "{line}");
}

/// Fault 39.
#[test]
fn a_clock_that_jumps_is_noticed_by_nobody() {
    let Some(clock) = Clock::new() else { return };
    let start = |name| {
        Daemon::start_in(
            name,
            clock.env().into_iter().fold(Place::new(), |place, (name, value)| place.env(name, value)),
        )
    };
    let Pair { a, b } = Pair::of(start("a"), start("b"));
    let relay = p2p_tests::Relay::to(b.address());
    relay.set_rate(6 * MIB);
    let file = a.new_file("big.bin", 1, 24 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    for (verified, ahead) in [(4, YEARS), (10, -YEARS), (16, 0)] {
        sending.wait_for_verified(verified * MIB);
        clock.set(ahead);
        a.status();
        b.status();
    }
    relay.set_rate(0);
    let sent = sending.finish().success();
    assert!(sent.events.iter().all(|event| event["event"] != "retrying"), "{sent}");
    assert!(sent.number("done", "moved_bytes") == 24 * MIB, "{sent}");
    data::assert_same(&file, &b.inbox().join("big.bin"));
    // What begins and ends at different times of a clock that runs backwards is no trouble either.
    clock.set(YEARS);
    let other = a.new_file("other.bin", 2, 300_000);
    let number = a.cli().run(words!["send", other, "--to", b.address(), "--detach"]).success().text();
    clock.set(-YEARS);
    a.cli().json(words!["wait", number]).success();
    let jumped = a.transfers();
    assert!(jumped.iter().all(|line| line["state"] == "done"), "{jumped:?}");
}

/// Fault 31.
#[test]
fn a_shared_file_that_became_something_else_is_not_waited_for() {
    let Pair { a, b } = Pair::new();
    let path = a.new_file("shared.bin", 1, MIB);
    let id = a.cli().run(words!["share", path]).success().text();
    let away = path.with_extension("away");
    fs::rename(&path, &away).unwrap();
    let others: [&dyn Fn(&Path); 4] = [
        &|path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        &|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        &|path| std::os::unix::fs::symlink(path, path).unwrap(),
        &|path| fs::create_dir(path).unwrap(),
    ];
    for become_something in others {
        become_something(&path);
        let failed = b.cli().json(words!["fetch", id, "--from", a.address()]);
        assert!(matches!(failed.code, Some(6 | 7)), "{failed}");
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir(&path).unwrap();
            continue;
        }
        let sent = a.cli().json(words!["send", path, "--to", b.address()]);
        assert!(matches!(sent.code, Some(1..=8)), "{sent}");
        fs::remove_file(&path).unwrap();
    }
    fs::rename(&away, &path).unwrap();
    assert!(b.received().is_empty(), "{:?}", b.received());
    b.cli().json(words!["fetch", id, "--from", a.address()]).success();
}

/// Fault 78.
#[test]
fn another_user_finds_no_daemon_and_no_secret() {
    if !geteuid().is_root() {
        eprintln!("left out: only root can be another user");
        return;
    }
    const NOBODY: u32 = 65_534;
    let daemon = Daemon::start("a");
    let mut command = daemon.cli().command(words!["status"]);
    let output = command.uid(NOBODY).gid(NOBODY).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    for name in ["identity.pem", "peers.toml", "catalog.sqlite", "p2pd.sock"] {
        let path = daemon.place().home_path().join(name);
        let read = Command::new("cat").arg(&path).uid(NOBODY).gid(NOBODY).output().unwrap();
        assert!(!read.status.success() && read.stdout.is_empty(), "{name}: {read:?}");
    }
    // Even where the folders are opened by mistake, the socket asks who is there.
    for folder in [daemon.place().root(), daemon.place().home_path()] {
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let socket = daemon.place().home_path().join("p2pd.sock");
    fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let mut command = daemon.cli().command(words!["list"]);
    let output = command.uid(NOBODY).gid(NOBODY).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    daemon.wait_for_log("another user");
}
