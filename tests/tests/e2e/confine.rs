//! A daemon that its owner confines to some folders, and what every daemon gives up.

use std::{fs, path::Path};

use p2p_tests::{Daemon, Pair, daemon::Place, data, words};

/// Two daemons that trust each other, of whom `b` may write only in its own folders and in `named`. `None`, with a word,
/// where this kernel cannot confine it.
fn confined(place: Place, named: &[&Path]) -> Option<Pair> {
    let named: Vec<_> = named.iter().map(|path| format!("{:?}", path.display().to_string())).collect();
    let place = place.config(&format!("write_only_in = [{}]\n", named.join(", ")));
    let pair = Pair::of(Daemon::start("a"), Daemon::start_in("b", place));
    let status = pair.b.status();
    match status["confinement"]["kind"].as_str() {
        Some("landlock") => Some(pair),
        Some("unsupported") => {
            eprintln!("left out: this kernel cannot confine a daemon");
            None
        }
        _ => panic!("{status}"),
    }
}

fn shared(pair: &Pair, name: &str, seed: u64) -> (std::path::PathBuf, String) {
    let file = pair.a.new_file(name, seed, 3 * data::CHUNK + 5);
    let id = pair.a.cli().run(words!["share", file]).success().text();
    (file, id)
}

#[test]
fn a_confined_daemon_writes_only_where_it_may() {
    let place = Place::new();
    let (allowed, outside) = (place.root().join("allowed"), place.root().join("outside"));
    fs::create_dir(&allowed).unwrap();
    fs::create_dir(&outside).unwrap();
    let Some(pair) = confined(place, &[&allowed]) else { return };

    let status = pair.b.status();
    let folders = status["confinement"]["write_only_in"].as_array().unwrap();
    for folder in [pair.b.place().home_path(), pair.b.inbox(), &allowed] {
        assert!(folders.iter().any(|shown| Path::new(shown.as_str().unwrap()) == folder), "{status}");
    }
    let text = pair.b.cli().run(words!["status"]).success().text();
    assert!(text.contains("landlock (abi ") && text.contains("writes only in"), "{text}");
    let config = pair.b.cli().run(words!["config"]).success().text();
    assert!(config.lines().any(|line| line.starts_with("write_only_in = [") && line.contains("config.toml")));

    let (file, id) = shared(&pair, "one.bin", 1);
    let fetch = |to: &Path| pair.b.cli().json(words!["fetch", id, "--from", pair.a.address(), "-o", to]);
    let refused = fetch(&outside.join("one.bin")).exits(8);
    assert!(refused.message().contains("write_only_in"), "{refused}");
    let refused = fetch(&outside.join("new/folder/")).exits(8);
    assert!(refused.message().contains("write_only_in"), "{refused}");
    // The folder itself is made by the command, which is not confined.
    assert!(data::files_below(&outside).is_empty());
    assert!(!outside.join(".p2p").exists() && !outside.join("new/folder/.p2p").exists());

    fetch(&allowed.join("deep/er/one.bin")).success();
    data::assert_same(&file, &allowed.join("deep/er/one.bin"));
    pair.b.cli().json(words!["fetch", id, "--from", pair.a.address()]).success();
    data::assert_same(&file, &pair.b.inbox().join("one.bin"));
    // Through the spool in its home.
    let printed = pair.b.cli().run(words!["fetch", id, "--from", pair.a.address(), "-o", "-"]).success();
    assert!(printed.stdout == fs::read(&file).unwrap());
    // Reading is free, and what peers send lands as ever.
    pair.b.cli().json(words!["send", file, "--to", pair.a.address()]).success();
    pair.a.cli().json(words!["send", file, "--to", pair.b.address()]).success();
}

#[test]
fn a_confined_daemon_resumes_after_a_kill_and_keeps_its_socket_elsewhere() {
    let deep = format!("{}/{}", "a".repeat(60), "b".repeat(60));
    let Some(mut pair) = confined(Place::new().home(&deep), &[]) else { return };
    assert!(pair.b.place().home_path().join("p2pd.sock").is_symlink());
    let (file, id) = shared(&pair, "two.bin", 2);
    pair.b.cli().json(words!["fetch", id, "--from", pair.a.address()]).success();
    pair.b.restart();
    assert_eq!(pair.b.status()["confinement"]["kind"], "landlock");
    pair.b.cli().json(words!["fetch", id, "--from", pair.a.address()]).success();
    data::assert_same(&file, &pair.b.inbox().join("two.bin"));
    pair.b.sigterm();
    assert!(!pair.b.place().home_path().join("p2pd.sock").is_symlink(), "it takes its socket away");
}

#[test]
fn a_folder_that_is_missing_is_named_before_anything_starts() {
    let place = Place::new().config("write_only_in = [\"/nowhere/at/all\"]\n");
    let (code, said) = place.start_refused();
    if said.contains("this kernel cannot confine") {
        return;
    }
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("write_only_in: /nowhere/at/all"), "{said}");
}

#[test]
fn every_daemon_gives_up_what_it_never_needs() {
    let daemon = Daemon::start_in("closed", Place::new().env("P2P_DEBUGGABLE", "0"));
    let status = daemon.status();
    assert_eq!(status["confinement"]["kind"], "none", "{status}");
    assert_eq!((&status["no_new_privs"], &status["dumpable"]), (&true.into(), &false.into()), "{status}");
    let kernel = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    assert!(kernel.lines().any(|line| line == "NoNewPrivs:\t1"), "{kernel}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");

    let open = Daemon::start("open");
    assert_eq!(open.status()["dumpable"], true);
}
