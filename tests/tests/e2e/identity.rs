//! The identity that moves from one home to another.

use std::{fs, os::unix::fs::MetadataExt};

use p2p_tests::{Daemon, Pair, daemon::Place, data, words};

#[test]
fn an_exported_identity_is_the_same_machine_elsewhere() {
    let Pair { mut a, b } = Pair::new();
    let (backup, words_file) = (a.file("identity.p2p"), a.file("passphrase"));
    fs::write(&words_file, "correct horse\nnot this line\n").unwrap();
    let place = Place::new();
    let exported = a.cli().json(words!["id", "export", backup, "--passphrase-file", words_file]).success();
    assert_eq!(exported.event("id_exported")["peer"], a.peer());
    assert_eq!(backup.metadata().unwrap().mode() & 0o777, 0o600);
    let key = fs::read_to_string(a.place().home_path().join("identity.pem")).unwrap();
    let armour = fs::read_to_string(&backup).unwrap();
    assert!(key.lines().all(|line| !armour.contains(line)), "{armour}");
    a.cli().run(words!["id", "export", backup, "--passphrase-file", words_file]).exits(9);
    a.cli().run(words!["id", "export", a.file("other")]).exits(2);
    a.cli().env("P2P_PASSPHRASE", "short").run(words!["id", "export", a.file("other")]).exits(2);

    let with = |passphrase: &str| place.cli().env("P2P_PASSPHRASE", passphrase);
    with("battery staple").run(words!["id", "import", backup]).exits(7);
    assert!(!place.home_path().exists());
    let imported = with("correct horse").run(words!["id", "import", backup]).success();
    assert_eq!(imported.text(), a.peer());
    with("correct horse").run(words!["id", "import", backup]).exits(9);
    assert_eq!(place.cli().run(words!["id"]).success().text(), a.peer());

    // The other machine trusts it as before.
    a.sigterm();
    let moved = p2p_tests::Daemon::start_in("moved", place);
    let file = moved.new_file("f.bin", 1, 1000);
    moved.cli().json(words!["send", file, "--to", b.address(), "--accept-new-key"]).success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
}

/// Gives a daemon that does not run a new key, and starts it at the same address.
fn rotate(mut daemon: Daemon) -> Daemon {
    let (address, before) = (daemon.address().to_owned(), daemon.peer().to_owned());
    let refused = daemon.cli().json(words!["id", "rotate"]).exits(9);
    assert!(refused.to_string().contains("end it first"), "{refused}");
    daemon.sigterm();
    let rotated = daemon.cli().run(words!["id", "rotate"]).success().text();
    assert_ne!(rotated, before);
    let place = daemon.place().clone().listen(address);
    let daemon = Daemon::start_in("rotated", place);
    assert_eq!(daemon.peer(), rotated);
    daemon
}

fn send(from: &Daemon, to: &str, name: &str) -> i32 {
    let file = from.new_file(name, 7, 1000);
    from.cli().json(words!["send", file, "--to", to]).code.unwrap()
}

#[test]
fn a_new_key_is_no_way_out_of_a_quota() {
    let Pair { a, b } = Pair::new();
    b.cli().run(words!["peers", "rule", a.peer(), "--quota", "1500"]).success();
    assert_eq!(send(&a, b.address(), "first.bin"), 0);
    let a = rotate(a);
    let second = a.new_file("second.bin", 8, 1000);
    a.cli().json(words!["send", second, "--to", b.address()]).exits(5);
    assert_eq!(b.received().len(), 1);
}

#[test]
fn peers_follow_a_key_that_the_old_one_has_signed() {
    let Pair { a, b } = Pair::new();
    let old = a.peer().to_owned();
    let stolen = fs::read(a.place().home_path().join("identity.pem")).unwrap();
    b.cli().run(words!["peers", "trust", old, "--name", "alice", "--address", a.address()]).success();
    let shared = b.new_file("shared.bin", 3, 1000);
    let id = b.cli().run(words!["share", shared, "--to", "alice"]).success().text();
    // Twice, before anybody has seen the first one.
    let a = rotate(rotate(a));
    assert_eq!(send(&a, b.address(), "in.bin"), 0);
    assert_eq!(b.standing_of(a.peer()).as_deref(), Some("trusted"));
    assert_eq!(b.standing_of(&old), None);
    b.wait_for_log("takes its place");
    a.cli().json(words!["fetch", id, "--from", b.address()]).success();
    assert_eq!(send(&b, "alice", "out.bin"), 0);
    // And by the side that dials.
    let a = rotate(a);
    assert_eq!(send(&b, "alice", "again.bin"), 0);
    assert_eq!(b.standing_of(a.peer()).as_deref(), Some("trusted"));
    let names: Vec<_> = b.peers().iter().map(|peer| peer["name"].clone()).collect();
    assert_eq!(names, ["alice"]);

    // Who has the old key is nobody now, whatever it signs.
    let place = Place::new();
    fs::create_dir(place.home_path()).unwrap();
    fs::set_permissions(place.home_path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let key = place.home_path().join("identity.pem");
    fs::write(&key, stolen).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let thief = Daemon::start_in("thief", place);
    assert_eq!(thief.peer(), old);
    thief.cli().json(words!["send", shared, "--to", b.address(), "--accept-new-key"]).exits(5);
    let thief = rotate(thief);
    thief.cli().json(words!["send", shared, "--to", b.address()]).exits(5);
    assert_ne!(b.standing_of(thief.peer()).as_deref(), Some("trusted"));
}
