//! The identity that moves from one home to another.

use std::{fs, os::unix::fs::MetadataExt};

use p2p_tests::{Pair, daemon::Place, data, words};

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
