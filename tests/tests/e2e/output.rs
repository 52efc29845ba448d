//! What commands print, and where; exit codes; the JSON of the contract.

use std::fs;

use p2p_tests::{Daemon, Output, Pair, Relay, data, data::MIB, words};
use serde_json::Value;

type Fits = fn(&Value) -> bool;

fn assert_keys(event: &Value, keys: &[(&str, Fits)]) {
    for (key, fits) in keys {
        assert!(event.get(*key).is_some_and(fits), "{key} in {event}");
    }
}

/// Every line of standard output is a JSON object whose first key is `event`.
fn assert_json_lines(output: &Output) {
    for line in output.text().lines() {
        assert!(line.starts_with("{\"event\":\""), "{line}");
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|value| value.is_object()), "{line}");
    }
}

#[test]
fn the_events_of_a_send_are_those_of_the_contract() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(8 * MIB);
    let file = a.new_file("a.iso", 1, 8 * MIB);
    let sent = a.cli().json(words!["send", file, "--to", relay.address()]).success();
    assert_json_lines(&sent);
    assert!(sent.stderr.is_empty(), "{sent}");
    let started = sent.event("started");
    assert_keys(started, &[("transfer", Value::is_u64), ("peer", Value::is_string)]);
    assert_eq!(
        (started["direction"].as_str(), started["name"].as_str(), started["peer"].as_str()),
        (Some("send"), Some("a.iso"), Some(b.peer()))
    );
    assert_eq!(
        (started["total_bytes"].as_u64(), started["resumed_bytes"].as_u64()),
        (Some(8 * MIB), Some(0))
    );
    let number_or_null: Fits = |value| value.is_number() || value.is_null();
    let mode: Fits = |value| value == "sequential" || value == "parallel";
    let progress: Vec<_> = sent.events.iter().filter(|event| event["event"] == "progress").collect();
    assert!(progress.len() >= 2, "{sent}");
    let mut before = 0;
    for event in progress {
        assert_keys(
            event,
            &[
                ("transfer", Value::is_u64),
                ("verified_bytes", Value::is_u64),
                ("total_bytes", Value::is_u64),
                ("chunks_verified", Value::is_u64),
                ("chunks_total", Value::is_u64),
                ("chunks_failed", Value::is_u64),
                ("rate_bps", Value::is_u64),
                ("streams", Value::is_u64),
                ("mode", mode),
                ("eta_s", number_or_null),
            ],
        );
        let verified = event["verified_bytes"].as_u64().unwrap();
        assert!(verified >= before && verified <= 8 * MIB, "{sent}");
        before = verified;
        assert_eq!(event["chunks_total"], 32, "{event}");
    }
    let done = sent.event("done");
    assert_keys(
        done,
        &[
            ("transfer", Value::is_u64),
            ("path", Value::is_string),
            ("bytes", Value::is_u64),
            ("moved_bytes", Value::is_u64),
            ("seconds", Value::is_number),
            ("fetch", Value::is_string),
        ],
    );
    assert_eq!(done["file_id"], data::file_id(&file), "{sent}");
    assert!(
        done["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.5),
        "8 MiB at 8 MiB a second\n{sent}"
    );
}

#[test]
fn the_events_of_a_failure_are_those_of_the_contract() {
    let a = Daemon::start("a");
    let failed = a.cli().json(words!["send", a.file("missing"), "--to", "127.0.0.1:1"]).exits(6);
    assert_json_lines(&failed);
    let event = failed.event("failed");
    assert_eq!(
        (event["code"].as_str(), event["exit_code"].as_u64()),
        (Some("not_found"), Some(6)),
        "{failed}"
    );
    assert!(event["message"].as_str().is_some_and(|message| message.contains("missing")), "{failed}");
}

#[test]
fn the_events_of_a_fetch_name_their_way() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    let id = a.cli().run(words!["share", file]).success().text();
    let fetched = b.cli().json(words!["fetch", id, "--from", a.address()]).success();
    assert_json_lines(&fetched);
    assert_eq!(fetched.event("started")["direction"], "fetch", "{fetched}");
    let path = fetched.event("done")["path"].as_str().unwrap().to_owned();
    data::assert_same(&file, path.as_ref());
}

#[test]
fn people_are_told_on_standard_error() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    let sent = a.cli().run(words!["send", file, "--to", b.address()]).success();
    assert!(sent.stdout.is_empty(), "{sent}");
    assert!(sent.stderr.contains("f.bin"), "{sent}");
    assert!(
        !sent.stderr.contains('\u{1b}') && !sent.stderr.contains('\r'),
        "no bars and colours in a pipe\n{sent}"
    );
    let shared = a.cli().run(words!["share", file]).success();
    assert_eq!(shared.stdout, format!("{}\n", data::file_id(&file)).as_bytes(), "{shared}");
    assert!(!shared.stderr.is_empty(), "who can fetch it\n{shared}");
    let quiet = a.cli().run(words!["-q", "send", file, "--to", b.address()]).success();
    assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{quiet}");
    let colored =
        a.cli().run(words!["--color", "always", "send", a.file("missing"), "--to", b.address()]).exits(6);
    assert!(colored.stderr.contains('\u{1b}'), "{colored}");
    let failed = a.cli().run(words!["send", a.file("missing"), "--to", b.address()]).exits(6);
    assert!(failed.stdout.is_empty() && failed.stderr.contains("missing"), "{failed}");
}

#[test]
fn a_file_on_standard_output_is_alone_there_even_with_json() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    let id = a.cli().run(words!["share", file]).success().text();
    let fetched = b.cli().json(words!["fetch", id, "--from", a.address(), "-o", "-"]).success();
    assert!(fetched.stdout == data::random(1, 300_000), "{} bytes", fetched.stdout.len());
}

#[test]
fn nonsense_is_a_usage_error() {
    let a = Daemon::start("a");
    let file = a.new_file("f.bin", 1, 10);
    let id = "55".repeat(32);
    let file = file.to_str().unwrap();
    for words in [
        &["frobnicate"][..],
        &["send"],
        &["send", file],
        &["send", file, "--to", "host", "--accept-new-key", "--peer", "x"],
        &["fetch", "not-an-id", "--from", "host"],
        &["fetch", &id],
        &["show", "seven"],
        &["peers", "trust", "x"],
        &["share", file, "--public", "--to", "someone"],
        &["--color", "sometimes", "list"],
        &["fetch", &id, "--from", "host", "-o", "-", "--detach"],
    ] {
        let words = words.iter().map(std::ffi::OsString::from);
        let refused = a.cli().run(words).exits(2);
        assert!(refused.stdout.is_empty() && !refused.stderr.is_empty(), "{refused}");
    }
}

/// What the environment says is no part of what has to be typed.
#[test]
fn a_line_on_usage_is_the_same_with_a_home_in_the_environment() {
    let usage = |home: Option<&str>| {
        let mut command = std::process::Command::new(p2p_tests::binaries::p2p());
        command.env_remove("P2P_HOME").args(["send", "x"]).envs(home.map(|home| ("P2P_HOME", home)));
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert_eq!(usage(Some("/nowhere")), usage(None));
    assert!(usage(None).contains("--to"), "{}", usage(None));
}

#[test]
fn a_bare_ipv6_address_with_a_port_is_told_about_brackets() {
    let a = Daemon::start("a");
    let file = a.new_file("f.bin", 1, 10);
    let refused = a.cli().run(words!["send", file, "--to", "fe80::1:4419"]).exits(2);
    assert!(refused.stderr.contains('['), "{refused}");
}

#[test]
fn verify_compares_a_file_with_an_id() {
    let a = Daemon::start("a");
    let file = a.new_file("f.bin", 1, 3 * MIB);
    let id = data::file_id(&file);
    a.cli().run(words!["verify", file, id]).success();
    a.cli().run(words!["verify", file, "66".repeat(32)]).exits(7);
    a.cli().run(words!["verify", a.file("missing"), id]).exits(6);
}

#[test]
fn lists_are_for_people_and_for_scripts() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    a.cli().run(words!["send", file, "--to", b.address()]).success();
    let listed = a.cli().run(words!["list"]).success();
    assert!(listed.text().contains("f.bin") && listed.text().contains("done"), "{listed}");
    let json = a.cli().json(words!["list"]).success();
    assert_json_lines(&json);
    assert_eq!(json.events.len(), 1, "{json}");
    let number = json.events[0]["transfer"].to_string();
    let shown = a.cli().run(words!["show", number]).success();
    assert!(shown.text().contains(&data::file_id(&file)), "{shown}");
    let peers = a.cli().run(words!["peers"]).success();
    assert!(peers.text().contains(b.peer()) && peers.text().contains("trusted"), "{peers}");
    let status = a.cli().run(words!["status"]).success();
    assert!(status.text().contains(a.peer()) && status.text().contains(a.address()), "{status}");
    let pid = a.pid();
    assert_eq!(a.status()["pid"], pid);
}

#[test]
fn all_transfers_can_be_watched() {
    let Pair { a, b } = Pair::new();
    let relay = Relay::to(b.address());
    relay.set_rate(4 * MIB);
    let mut watching = b.cli().start_json(words!["watch"]);
    let file = a.new_file("f.bin", 1, 4 * MIB);
    let sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    let started = watching.wait_for_event("started");
    assert_eq!(started["direction"], "receive", "{started}");
    watching.wait_for_event("done");
    sending.finish().success();
}

#[test]
fn completions_are_printed_for_every_shell() {
    let a = Daemon::start("a");
    for shell in ["bash", "zsh", "fish"] {
        let printed = a.cli().run(words!["completions", shell]).success();
        assert!(printed.text().contains("P2P_COMPLETE"), "{printed}");
    }
}

/// What a shell would offer after these words, the last of which is being typed.
fn offered(daemon: &Daemon, typed: &[&str]) -> Vec<String> {
    let cli = daemon.cli().env("P2P_COMPLETE", "fish").env("P2P_HOME", daemon.place().home_path());
    let mut command = std::process::Command::new(p2p_tests::binaries::p2p());
    let shell = cli.command([]);
    command.env_clear().envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let said = command.arg("--").arg("p2p").args(typed).output().unwrap();
    assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    let lines = String::from_utf8(said.stdout).unwrap();
    lines.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_shell_completes_peers_transfers_and_file_ids() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    let id = a.cli().run(words!["share", file]).success().text();
    let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert_eq!(offered(&a, &["send", "f.bin", "--to", "b"]), ["b"]);
    assert!(offered(&a, &["send", "f.bin", "--to", ""]).contains(&b.address().to_owned()));
    assert_eq!(offered(&a, &["unshare", &id[..5]]), [id.as_str()]);
    assert_eq!(offered(&a, &["verify", "f.bin", ""])[0], id);
    assert_eq!(offered(&a, &["show", ""])[0], sent.event("done")["transfer"].to_string());
    assert!(!offered(&a, &["cancel", ""]).iter().any(|word| word.parse::<u64>().is_ok()));
    let ticket =
        a.cli().json(words!["share", file, "--ticket"]).success().event("ticketed")["number"].to_string();
    let invitation = a.cli().json(words!["invite"]).success().event("invited")["number"].to_string();
    assert_eq!(offered(&a, &["unshare", "--ticket", ""]), [ticket]);
    assert!(offered(&a, &["uninvite", ""]).contains(&invitation));
    assert_eq!(offered(&a, &["peers", "rule", "b", "--exists", "k"]), ["keep-both"]);
    // A home that is named counts; where no daemon runs, nothing is offered, and nothing goes wrong.
    let other = b.place().home_path().to_str().unwrap();
    assert_eq!(offered(&a, &["--home", other, "send", "f.bin", "--to", "a"]), ["a"]);
    assert_eq!(offered(&a, &["--home", "/nowhere/at/all", "send", "f.bin", "--to", "b"]), [""; 0]);
    let listed = a.cli().json(words!["shares"]).success();
    assert_eq!(listed.event("shared")["file_id"], id);
}

#[test]
fn what_is_shared_and_gone_is_said_to_be() {
    let a = Daemon::start("a");
    let (stays, goes) = (a.new_file("stays.bin", 1, 1000), a.new_file("goes.bin", 2, 1000));
    for file in [&stays, &goes] {
        a.cli().run(words!["share", file]).success();
    }
    std::fs::remove_file(&goes).unwrap();
    let shown = a.cli().run(words!["shares"]).success().text();
    let line = |name: &str| shown.lines().find(|line| line.contains(name)).unwrap();
    assert!(line("goes.bin").ends_with("(gone)") && !line("stays.bin").ends_with("(gone)"), "{shown}");
}

#[test]
fn the_demo_works() {
    let place = p2p_tests::daemon::Place::new();
    let temporary = place.root().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let cli = place.cli().env("TMPDIR", &temporary).may_start();
    let demo = cli.json(words!["demo", "--size", "64MiB"]).success();
    assert_json_lines(&demo);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "it cleans up after itself\n{demo}");
    let people = cli.run(words!["demo", "--size", "16MiB"]).success();
    assert!(people.stdout.len() + people.stderr.len() > 100, "it says what it does\n{people}");
}
