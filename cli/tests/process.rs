//! The program as a process: signals, pipes, and the daemon's program beside it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use p2p_protocol::{
    PeerId,
    control::{Direction, Event, Preamble, TransferEvent},
    limits::MAX_CONTROL_FRAME_LEN,
    wire::codec,
};
use rustix::process::{Pid, Signal, kill_process};

const P2P: &str = env!("CARGO_BIN_EXE_p2p");

/// A daemon that takes one request, says this, and stays until the command goes.
fn daemon(home: &Path, says: Vec<Event>) {
    let listener = UnixListener::bind(home.join("p2pd.sock")).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut preamble = [0; Preamble::LEN];
        stream.read_exact(&mut preamble).unwrap();
        stream.write_all(&Preamble::ours().encode()).unwrap();
        let mut prefix = [0; codec::PREFIX_LEN];
        stream.read_exact(&mut prefix).unwrap();
        let mut body = vec![0; codec::body_len(prefix, MAX_CONTROL_FRAME_LEN).unwrap()];
        stream.read_exact(&mut body).unwrap();
        for event in says {
            stream.write_all(&codec::frame(&event, MAX_CONTROL_FRAME_LEN).unwrap()).unwrap();
        }
        let _ = stream.read(&mut prefix);
    });
}

fn started() -> Vec<Event> {
    let started = TransferEvent::Started {
        transfer: 7,
        direction: Direction::Send,
        name: "a.iso".into(),
        peer: PeerId([1; 32]),
        total_bytes: 1000,
        resumed_bytes: 0,
        batch: None,
        target: "fifi".into(),
    };
    vec![Event::Queued { transfer: 7, batch: None }, Event::Transfer(started)]
}

/// The program, in a folder of the test's own with a daemon's program of its own beside it.
fn with_daemon_program(folder: &Path, script: &str) -> PathBuf {
    let copied = Command::new("sh")
        .args([
            "-c",
            "cp \"$1\" \"$3/p2p\" && printf '%s' \"$2\" > \"$3/p2pd\" && chmod 755 \"$3/p2pd\"",
            "sh",
            P2P,
        ])
        .arg(script)
        .arg(folder)
        .status();
    assert!(copied.unwrap().success());
    folder.join("p2p")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn ctrl_c_leaves_the_transfer_running_and_says_how_to_see_it() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.iso");
    std::fs::write(&file, "content").unwrap();
    daemon(home.path(), started());
    let mut child = Command::new(P2P)
        .env("P2P_HOME", home.path())
        .args(["send", "--to", "fifi"])
        .arg(&file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut people = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    people.read_line(&mut line).unwrap();
    assert_eq!(line, "sending a.iso (1000 B) to fifi\n");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut rest = String::new();
    people.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(
        rest,
        "transfer 7 goes on\n       see it with:  p2p watch 7\n       stop it with: p2p cancel 7\n"
    );
}

#[test]
fn nobody_reading_is_no_noise() {
    let mut child = Command::new(P2P)
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe holds less than the script, so the program is still writing, or has yet to, when it breaks.
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!((status.code(), text(&stderr).as_str()), (Some(1), ""));
}

#[test]
fn id_and_config_are_what_the_daemon_beside_prints() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let script = "#!/bin/sh\ncase \"$2\" in\nid) echo me;;\nconfig) echo \"inbox = $4\";;\n\
                  *) echo \"cannot read $4\" >&2; exit 8;;\nesac\n";
    let p2p = with_daemon_program(folder.path(), script);
    let run = |words: &[&str]| Command::new(&p2p).arg("--home").arg(&home).args(words).output().unwrap();

    assert_eq!(text(&run(&["id"]).stdout), "me\n");
    assert_eq!(text(&run(&["id", "--json"]).stdout), "{\"event\":\"id\",\"peer\":\"me\"}\n");
    assert_eq!(text(&run(&["config"]).stdout), format!("inbox = {}\n", home.display()));
    let failed = run(&["config", "--json"]);
    assert_eq!(failed.status.code(), Some(8));
    assert!(text(&failed.stdout).starts_with("{\"event\":\"failed\",\"transfer\":null,"), "{failed:?}");
    assert!(!home.exists(), "looking makes nothing");
}

#[test]
fn a_daemon_that_does_not_start_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let p2p = with_daemon_program(folder.path(), "#!/bin/sh\necho 'port 4419 is taken' >&2\nexit 1\n");
    let run = |words: &[&str]| Command::new(&p2p).arg("--home").arg(&home).args(words).output().unwrap();
    let failed = run(&["cancel", "7"]);
    assert_eq!(failed.status.code(), Some(3));
    assert!(text(&failed.stderr).contains("port 4419 is taken"), "{failed:?}");
    assert!(home.join("p2pd.log").exists());
    assert_eq!(run(&["cancel", "7", "--no-start"]).status.code(), Some(3));
}

#[test]
fn words_that_make_no_sense_are_exit_2_in_either_form() {
    let run = |words: &[&str]| Command::new(P2P).args(words).output().unwrap();
    let plain = run(&["send", "x"]);
    assert_eq!((plain.status.code(), text(&plain.stdout).as_str()), (Some(2), ""));
    assert!(text(&plain.stderr).contains("--to"), "{plain:?}");
    let json = run(&["send", "x", "--json"]);
    assert_eq!(json.status.code(), Some(2));
    assert!(
        text(&json.stdout).starts_with("{\"event\":\"failed\",\"transfer\":null,\"code\":\"usage\","),
        "{json:?}"
    );
    assert_eq!(run(&["fetch", "abc", "--from", "x"]).status.code(), Some(2));
    assert_eq!(run(&["peers", "trust", "abc"]).status.code(), Some(2));
    let help = run(&["--help"]);
    assert_eq!((help.status.code(), text(&help.stderr).as_str()), (Some(0), ""));
}

#[test]
fn a_screen_is_drawn_on_a_terminal_only() {
    let home = tempfile::tempdir().unwrap();
    let said =
        Command::new(P2P).arg("--home").arg(home.path()).arg("top").stdin(Stdio::null()).output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(text(&said.stderr).contains("p2p top draws on a terminal"), "{}", text(&said.stderr));
    assert!(said.stdout.is_empty());
}
