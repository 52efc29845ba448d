//! What `p2p doctor` and `p2p config init` find and leave.

use std::{fs, net::UdpSocket};

use p2p_tests::{Daemon, Output, Pair, daemon::Place, words};
use serde_json::Value;

/// The verdict on this, and what was found.
fn verdict<'a>(output: &'a Output, check: &str) -> (&'a str, &'a str) {
    let mut found = output.events.iter().filter(|line| line["event"] == "check" && line["check"] == check);
    let line = found.next().unwrap_or_else(|| panic!("nothing was found about {check}\n{output}"));
    (line["verdict"].as_str().unwrap(), line["found"].as_str().unwrap())
}

#[test]
fn a_machine_that_is_well_passes() {
    let daemon = Daemon::start("a");
    let cli = daemon.cli().env("P2P_LISTEN", daemon.address()).env("P2P_INBOX", daemon.inbox());
    let found = cli.json(words!["doctor"]).success();
    assert!(found.events.iter().all(|line| line["verdict"] != "fail"), "{found}");
    assert!(found.events.iter().all(|line| (line["verdict"] == "ok") == line["advice"].is_null()), "{found}");
    assert!(verdict(&found, "port").1.contains("the daemon of this home runs"), "{found}");
    assert!(verdict(&found, "daemon").1.contains(&format!("process {}", daemon.pid())), "{found}");
    let people = cli.run(words!["doctor"]).success();
    assert!(people.text().lines().any(|line| line.starts_with("ok    home ")), "{people}");
    assert!(!data_left_in(daemon.place()));
}

fn data_left_in(place: &Place) -> bool {
    let names = |folder| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut all = names(place.home_path()).chain(names(place.inbox_path())).chain(names(place.root()));
    all.any(|name| name.to_string_lossy().contains("doctor"))
}

#[test]
fn what_would_keep_the_daemon_from_starting_fails_with_the_way_out() {
    let place = Place::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let cli = place.cli().env("P2P_LISTEN", taken.local_addr().unwrap().to_string());
    let cli = cli.env("P2P_INBOX", place.inbox_path());
    let found = cli.json(words!["doctor"]).exits(1);
    assert_eq!(verdict(&found, "port").0, "fail");
    assert_eq!(verdict(&found, "daemon").0, "ok");
    assert_eq!(found.event("failed")["exit_code"], 1);

    let place = place.config("lisen = '127.0.0.1:0'\n");
    let found = place.cli().json(words!["doctor"]).exits(1);
    assert!(verdict(&found, "config").1.contains("did you mean `listen`?"), "{found}");
}

#[test]
fn a_config_file_to_begin_with_is_written_once() {
    let place = Place::new();
    let written = place.cli().json(words!["config", "init"]).success();
    let path = place.home_path().join("config.toml");
    assert_eq!(written.event("config_written")["path"], path.to_str().unwrap());
    let text = fs::read_to_string(&path).unwrap();
    let settings = place.cli().json(words!["config"]).success();
    let settings = settings.event("config")["settings"].as_array().unwrap();
    let is_there = |line: &Value| text.contains(&format!("\n#{} = ", line["key"].as_str().unwrap()));
    assert!(
        settings
            .iter()
            .all(|line| is_there(line) || ["home", "config"].contains(&line["key"].as_str().unwrap()))
    );
    let again = place.cli().run(words!["config", "init"]).exits(9);
    assert!(again.stderr.contains("stays as it is"), "{again}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn the_way_to_a_peer_is_tried() {
    let pair = Pair::new();
    let (a, b) = (&pair.a, &pair.b);
    let found = a.cli().json(words!["doctor", b.address()]).success();
    let probe = found.event("probe");
    assert_eq!((probe["peer"].as_str(), &probe["trusts"]), (Some(b.peer()), &true.into()));
    assert!(probe["connect_ms"].is_number() && probe["mtu"].as_u64() >= Some(1200), "{found}");
    assert_eq!(probe["protocol"], "p2p/1");
    assert_eq!(probe["version"], probe["peer_version"]);
    assert!(probe["version"].is_string(), "{found}");
    assert!(probe["down_bps"].as_u64() > Some(0) && probe["up_bps"].as_u64() > Some(0), "{found}");
    assert!(verdict(&found, "rate").1.contains("in a short burst"), "{found}");
    assert!(verdict(&found, "versions").1.contains("here, there "), "{found}");
    // The second time the connection is there.
    let again = a.cli().json(words!["doctor", b.address()]).success();
    assert!(again.event("probe")["connect_ms"].is_null(), "{again}");
    // A transfer leaves no trace of it, and it leaves none in the list.
    assert!(a.transfers().is_empty() && b.transfers().is_empty());
}

#[test]
fn a_peer_that_does_not_trust_this_machine_says_so() {
    let (a, b) = (Daemon::start("a"), Daemon::start("b"));
    a.trust(&b);
    let found = a.cli().json(words!["doctor", b.address()]).success();
    assert_eq!(found.event("probe")["trusts"], false);
    assert!(found.event("probe")["peer_version"].is_null() && found.event("probe")["down_bps"].is_null());
    assert!(verdict(&found, "versions").1.contains("not told to whom it does not trust"), "{found}");
    let there = found.events.iter().find(|line| line["check"] == "trusted_there").unwrap();
    assert!(there["advice"].as_str().unwrap().contains(&format!("p2p peers trust {}", a.peer())), "{found}");
    assert_eq!(b.standing_of(a.peer()).as_deref(), Some("pending"));

    // A key that is not known yet is shown, and pinned by nobody.
    let stranger = b.cli().run(words!["doctor", a.address()]).exits(5);
    assert!(stranger.stderr.contains(&format!("peers trust {} --address", a.peer())), "{stranger}");
}
