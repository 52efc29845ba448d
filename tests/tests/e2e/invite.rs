//! Invitations, from the command that makes one to two machines that trust each other.

use std::fs;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use p2p_tests::{Daemon, data, until::until_true, words};

fn token_of(daemon: &Daemon) -> String {
    daemon.cli().run(words!["invite", "--name", "alice"]).success().text()
}

/// What this peer is called there.
fn name_of(daemon: &Daemon, peer: &str) -> Option<String> {
    let peers = daemon.peers();
    let found = peers.iter().find(|line| line["peer"] == peer)?;
    found["name"].as_str().map(str::to_owned)
}

#[test]
fn one_token_makes_two_machines_trust_each_other_by_name() {
    let (mut alice, mut bob) = (Daemon::start("alice"), Daemon::start("bob"));
    let made = alice.cli().run(words!["invite", "--name", "alice", "--qr"]).success();
    let token = made.text();
    assert!(token.starts_with("p2pinvite") && !token.contains(char::is_whitespace), "{token}");
    assert!(made.stderr.contains("p2p join TOKEN") && made.stderr.contains('▀'), "{made}");
    let joined = bob.cli().json(words!["join", token, "--name", "bob"]).success();
    let event = joined.event("joined");
    assert_eq!((event["name"].as_str(), event["peer"].as_str()), (Some("alice"), Some(alice.peer())));
    for (here, there, name) in [(&alice, &bob, "bob"), (&bob, &alice, "alice")] {
        assert_eq!(here.standing_of(there.peer()).as_deref(), Some("trusted"));
        assert_eq!(name_of(here, there.peer()).as_deref(), Some(name));
    }
    alice.restart();
    bob.restart();
    let file = bob.new_file("there.bin", 1, 1000);
    bob.cli().run(words!["send", file, "--to", "alice"]).success();
    data::assert_same(&file, &alice.inbox().join("there.bin"));
    let file = alice.new_file("back.bin", 2, 1000);
    alice.cli().run(words!["send", file, "--to", "bob"]).success();
    data::assert_same(&file, &bob.inbox().join("back.bin"));
    let list = alice.cli().json(words!["invites"]).success();
    assert_eq!(list.event("invitation")["used_by"], "bob");

    // Again from the same machine is no harm; from another it is refused.
    bob.cli().run(words!["join", token]).success();
    let eve = Daemon::start("eve");
    let refused = eve.cli().json(words!["join", token]).exits(5);
    assert!(refused.event("failed")["message"].as_str().unwrap().contains("used"), "{refused}");
    assert_eq!(alice.standing_of(eve.peer()).as_deref(), Some("pending"));
    assert_eq!(eve.standing_of(alice.peer()), None);
    alice.cli().run(words!["join", token]).exits(2);
}

#[test]
fn rights_are_those_that_each_side_says() {
    let (alice, bob) = (Daemon::start("alice"), Daemon::start("bob"));
    let token = alice.cli().run(words!["invite", "--allow", "fetch"]).success().text();
    bob.cli().run(words!["join", token.to_uppercase(), "--name", "bob", "--allow", "send"]).success();
    let rights = |daemon: &Daemon, peer: &str| {
        let peers = daemon.peers();
        peers.iter().find(|line| line["peer"] == peer).unwrap()["allow"].clone()
    };
    assert_eq!(rights(&alice, bob.peer()), serde_json::json!(["fetch"]));
    assert_eq!(rights(&bob, alice.peer()), serde_json::json!(["send"]));
}

#[test]
fn what_was_taken_back_or_has_expired_lets_nobody_in() {
    let (alice, bob) = (Daemon::start("alice"), Daemon::start("bob"));
    let token = token_of(&alice);
    alice.cli().run(words!["uninvite", "1"]).success();
    alice.cli().run(words!["uninvite", "1"]).exits(6);
    bob.cli().run(words!["join", token]).exits(5);
    let short = alice.cli().run(words!["invite", "--expires", "1s"]).success().text();
    until_true("the invitation has expired", || {
        alice.cli().json(words!["invites"]).success().events.is_empty()
    });
    let refused = bob.cli().json(words!["join", short]).exits(5);
    assert!(refused.event("failed")["message"].as_str().unwrap().contains("expired"), "{refused}");
    assert_eq!(bob.peers(), [serde_json::Value::Null; 0]);
    for wrong in ["0s", "31d"] {
        alice.cli().run(words!["invite", "--expires", wrong]).exits(2);
    }
    alice.cli().run(words!["invite", "--address", "::1"]).exits(2);
    alice.cli().run(words!["invite", "--name", "a b"]).exits(2);
}

#[test]
fn a_token_need_not_be_on_the_command_line() {
    let (alice, bob) = (Daemon::start("alice"), Daemon::start("bob"));
    let token = token_of(&alice);
    bob.cli().run(words!["join"]).exits(2);
    let mistyped = bob.cli().run(words!["join", &token[..token.len() - 1]]).exits(2);
    assert!(mistyped.stderr.contains("mistyped"), "{mistyped}");
    bob.cli().run(words!["join", "hello"]).exits(2);
    let file = bob.file("token");
    fs::write(&file, format!("  {}\n{}\n", &token[..50], &token[50..])).unwrap();
    bob.cli().run(words!["join", "--token-file", file]).success();
    bob.cli().reading(&file).run(words!["join", "-"]).success();
    bob.cli().env("P2P_TOKEN", token.as_str()).run(words!["join"]).success();
    bob.cli().run(words!["join", "--token-file", bob.file("none")]).exits(6);
}

#[test]
fn the_machine_that_was_meant_or_none() {
    let (alice, bob) = (Daemon::start("alice"), Daemon::start("bob"));
    let impostor = Daemon::start("impostor");
    // So that it would let a stranger speak.
    token_of(&impostor);
    let token = alice.cli().run(words!["invite", "--address", impostor.address()]).success().text();
    let refused = bob.cli().json(words!["join", token]).exits(5);
    let message = refused.to_string();
    assert!(message.contains(alice.peer()) && message.contains(impostor.peer()), "{message}");
    assert_eq!((bob.peers().len(), alice.peers().len()), (0, 0));
    // The right one among several, whoever answers first.
    let several = words!["invite", "--address", impostor.address(), "--address", alice.address()];
    let token = alice.cli().run(several).success().text();
    bob.cli().run(words!["join", token]).success();
    let nobody = alice.cli().run(words!["invite", "--address", "127.0.0.1:9"]).success().text();
    bob.cli().run(words!["join", nobody]).exits(4);
}

#[test]
fn the_secret_of_a_token_is_in_no_home_and_no_log() {
    let loud = |name: &str| Daemon::start_in(name, p2p_tests::daemon::Place::new().log_filter("trace"));
    let (mut alice, mut bob) = (loud("alice"), loud("bob"));
    let token = token_of(&alice);
    let made = alice.cli().json(words!["-v", "invites"]).success();
    let file = bob.file("token");
    fs::write(&file, &token).unwrap();
    let joined = bob.cli().json(words!["-v", "join", "--token-file", file]).success();
    alice.sigterm();
    bob.sigterm();
    let body = BASE32_NOPAD.decode(token["p2pinvite".len()..].to_uppercase().as_bytes()).unwrap();
    let secret = &body[33..49];
    let shown: Vec<String> = secret.iter().map(u8::to_string).collect();
    let needles = [token[80..100].to_owned(), HEXLOWER.encode(&secret[..8]), shown[..6].join(", ")];
    for daemon in [&alice, &bob] {
        let log = daemon.log();
        assert!(log.contains("TRACE") && log.contains("trusted"), "{log}");
        let mut places = vec![("the log".to_owned(), log)];
        for path in data::files_below(daemon.place().home_path()) {
            if let Ok(bytes) = fs::read(&path) {
                assert!(!bytes.windows(16).any(|window| window == secret), "{}", path.display());
                places.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
        places.push(("what was said".to_owned(), format!("{made}{joined}")));
        for (place, text) in places {
            assert!(!needles.iter().any(|needle| text.contains(needle)), "the secret is in {place}");
        }
    }
}
