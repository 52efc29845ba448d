//! The private key and what is derived from it stay in the home and in the daemon's memory.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use p2p_tests::{Daemon, Pair, Relay, daemon::Place, data, data::MIB, trust_each_other, words};

/// Where the context stands under which the secret behind resume keys is derived.
const SOURCE: &str = include_str!("../../../daemon/src/session/mod.rs");

/// What must be nowhere, with a name for each.
struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    /// Of the key in this home.
    fn of(home: &Path) -> Self {
        let pem = fs::read_to_string(home.join("identity.pem")).unwrap();
        let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = BASE64.decode(lines.concat().as_bytes()).unwrap();
        let mut needles = Self(Vec::new());
        for (number, line) in lines.iter().enumerate() {
            needles.0.push((format!("line {number} of the PEM"), line.as_bytes().to_vec()));
        }
        needles.add("the key in DER", &der);
        // RFC 8410: the private key is an octet string of 32 bytes in another one.
        let start = der.windows(4).position(|bytes| bytes == [4, 0x22, 4, 0x20]).unwrap() + 4;
        needles.add("the private key", &der[start..start + 32]);
        let (_, rest) =
            SOURCE.split_once("RESUME_CONTEXT: &str = \"").expect("the daemon derives such a secret");
        let (context, _) = rest.split_once('"').unwrap();
        needles.add("the secret behind resume keys", &blake3::derive_key(context, &der));
        needles
    }

    /// A secret in every form in which it could get into a text. Parts are looked for, so that one that is cut short counts.
    fn add(&mut self, name: &str, secret: &[u8]) {
        for (form, bytes) in [
            ("raw", secret[..16].to_vec()),
            ("raw, its end", secret[secret.len() - 16..].to_vec()),
            ("hex", HEXLOWER.encode(&secret[secret.len() - 12..]).into_bytes()),
            ("upper hex", HEXUPPER.encode(&secret[secret.len() - 12..]).into_bytes()),
            ("base64", BASE64.encode(&secret[..24]).into_bytes()),
            ("base64url", BASE64URL_NOPAD.encode(&secret[..24]).into_bytes()),
            ("as Rust shows bytes", shown(&secret[secret.len() - 8..]).into_bytes()),
        ] {
            self.0.push((format!("{name} ({form})"), bytes));
        }
    }

    fn check(&self, place: &str, text: &[u8]) {
        // A character for each byte, since text is searched quickly.
        let text = characters(text);
        for (name, needle) in &self.0 {
            assert!(!text.contains(&characters(needle)), "{name} is in {place}");
        }
    }
}

fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

fn loud(name: &str) -> Daemon {
    Daemon::start_in(name, Place::new().log_filter("trace"))
}

/// What everybody on this machine may see of a process, and its owner.
fn seen(pid: u32) -> Vec<u8> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap();
    [read("cmdline"), read("environ"), read("comm")].concat()
}

#[test]
fn the_key_is_in_no_log_no_answer_and_no_process_list() {
    let mut pair = Pair { a: loud("a"), b: loud("b") };
    trust_each_other(&[&pair.a, &pair.b]);
    let stranger = loud("stranger");
    let relay = Relay::to(pair.b.address());
    let mut said = Vec::new();
    let mut note = |output: p2p_tests::Output| {
        said.extend_from_slice(&output.stdout);
        said.extend_from_slice(output.stderr.as_bytes());
        output
    };

    // What works, told in every way.
    let file = pair.a.new_file("one.bin", 1, 2 * data::CHUNK + 5);
    note(pair.a.cli().run(words!["-v", "send", file, "--to", pair.b.address()]).success());
    note(pair.a.cli().json(words!["-v", "send", file, "--to", pair.b.address()]).success());
    let id = note(pair.a.cli().run(words!["share", file]).success()).text();
    note(pair.b.cli().json(words!["fetch", id, "--from", pair.a.address()]).success());
    for words in [&["status"][..], &["list"], &["peers"], &["show", "1"], &["config"], &["id"]] {
        let words = || words.iter().map(std::ffi::OsString::from);
        note(pair.a.cli().run(words()).success());
        note(pair.a.cli().json(words()).success());
    }
    // What does not.
    note(pair.a.cli().json(words!["send", file, "--to", stranger.address()]));
    note(stranger.cli().json(words!["send", file, "--to", pair.a.address(), "--accept-new-key"]));
    note(stranger.cli().json(words!["fetch", id, "--from", pair.a.address()]));
    note(pair.b.cli().json(words!["fetch", "0".repeat(64), "--from", pair.a.address()]));
    note(pair.a.cli().json(words!["send", "/nowhere", "--to", pair.b.address()]));
    note(pair.a.cli().json(words!["send", file, "--to", pair.b.address(), "--peer", stranger.peer()]));
    note(pair.a.cli().json(words!["share", pair.a.place().home_path()]));
    // A transfer before its File ID is known, killed in the middle, and on the way while processes are looked at.
    let large = pair.a.new_file("large.bin", 2, 9 * MIB);
    relay.set_rate(6 * MIB);
    let mut sending =
        pair.a.cli().start_json(words!["send", large, "--to", relay.address(), "--accept-new-key"]);
    sending.wait_for_verified(2 * MIB);
    pair.b.restart();
    for pid in [pair.a.pid(), pair.b.pid(), sending.pid()] {
        for daemon in [&pair.a, &pair.b, &stranger] {
            Needles::of(daemon.place().home_path()).check("/proc", &seen(pid));
        }
    }
    relay.set_rate(0);
    note(sending.finish().success());
    pair.a.sigterm();

    for daemon in [&pair.a, &pair.b, &stranger] {
        let needles = Needles::of(daemon.place().home_path());
        for other in [&pair.a, &pair.b, &stranger] {
            let log = fs::read(other.place().log_path()).unwrap();
            assert!(characters(&log).contains("TRACE"), "the log is as loud as can be");
            needles.check("a log", &log);
        }
        needles.check("what commands said", &said);
        for path in data::files_below(daemon.place().home_path()) {
            if !path.ends_with("identity.pem") && !path.ends_with("p2pd.sock") {
                needles.check(&path.display().to_string(), &fs::read(&path).unwrap());
            }
        }
    }
    for daemon in [&pair.b, &stranger] {
        assert_private(daemon.place().home_path());
    }
}

#[test]
fn a_damaged_key_is_not_told() {
    let mut daemon = loud("damaged");
    let home = daemon.place().home_path().to_owned();
    let needles = Needles::of(&home);
    let path = home.join("identity.pem");
    let good = fs::read_to_string(&path).unwrap();
    daemon.sigterm();
    let lines: Vec<_> = good.lines().collect();
    for damaged in [
        good.replacen("PRIVATE KEY", "PUBLIC KEY", 2),
        lines[..lines.len() - 1].join("\n"),
        good.replace(lines[1], &lines[1][..lines[1].len() - 4]),
        good.replace('A', "*"),
        format!("{good}{good}x"),
    ] {
        fs::write(&path, damaged).unwrap();
        let output = daemon.place().command().arg("--print").arg("id").output().unwrap();
        needles.check("an error", &[output.stdout, output.stderr].concat());
    }
}

/// Fails unless a home is closed to others, and every file in it by itself too.
fn assert_private(home: &Path) {
    assert_eq!(fs::metadata(home).unwrap().mode() & 0o777, 0o700);
    let files = data::files_below(home);
    assert!(files.len() > 5, "{files:?}");
    for path in files {
        let found = fs::symlink_metadata(&path).unwrap();
        let kind = found.file_type();
        assert!(kind.is_file() || kind.is_socket(), "{}", path.display());
        assert_eq!(found.mode() & 0o777, 0o600, "{}", path.display());
    }
}
