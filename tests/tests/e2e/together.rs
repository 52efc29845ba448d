//! Several paths in one command are one offer.

use std::fs;

use p2p_tests::{Daemon, Pair, Running, daemon::Place, data, data::MIB, until::until_true, words};
use serde_json::Value;

/// Two that trust each other; the second has this config.
fn pair(config: &str) -> Pair {
    let place = Place::new();
    fs::create_dir_all(place.home_path()).unwrap();
    fs::write(place.home_path().join("config.toml"), config).unwrap();
    Pair::of(Daemon::start("a"), Daemon::start_in("b", place))
}

fn offers(daemon: &Daemon) -> Vec<Value> {
    daemon.cli().json(words!["inbox"]).success().events
}

/// Waits until so many of what is sent wait for the receiver's owner.
fn wait_for_offers(sending: &mut Running, count: usize) {
    let mut asked = 0;
    while asked < count {
        asked += usize::from(sending.wait_for_event("waiting")["reason"] == "accept");
    }
}

/// A file, a folder and a large file that is hashed while it is sent.
fn three(a: &Daemon) -> [std::path::PathBuf; 3] {
    let folder = a.place().root().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("in it"), "something").unwrap();
    [a.new_file("first", 1, 1000), folder, a.new_file("last", 3, 20 * MIB)]
}

#[test]
fn one_yes_takes_all_of_it() {
    let Pair { a, b } = pair("accept = 'ask'\n");
    let [first, folder, last] = three(&a);
    let to = words!["--to", b.address(), "--peer", b.peer()];
    let mut sending = a.cli().start_json(words!["send", first, folder, last].into_iter().chain(to));
    wait_for_offers(&mut sending, 3);
    let waiting = offers(&b);
    assert_eq!(waiting.len(), 3, "{waiting:?}");
    let sizes = a.transfers().iter().filter(|transfer| transfer["total_bytes"] != 0).count();
    assert_eq!(sizes, 3, "{:?}", a.transfers());
    let of = |name: &str| waiting.iter().find(|offer| offer["name"] == name).unwrap().clone();
    for (position, name) in [(1, "first"), (2, "folder"), (3, "last")] {
        let batch = &of(name)["batch"];
        assert_eq!((&batch["position"], &batch["count"]), (&position.into(), &3.into()), "{batch}");
        assert_eq!(batch["id"], of("first")["batch"]["id"]);
    }
    let shown = b.cli().run(words!["inbox"]).success();
    assert!(shown.text().contains("3 together:") && !shown.text().contains("of which"), "{}", shown.text());
    let number = of("folder")["transfer"].to_string();
    let accepted = b.cli().json(words!["inbox", "accept", format!("b{number}")]).success();
    assert_eq!(accepted.events.len(), 3, "{accepted}");
    let sent = sending.finish().success();
    assert_eq!(sent.event("summary")["done"], 3);
    let numbers = sent.events.iter().filter(|line| line["event"] == "queued");
    let numbers: Vec<u64> = numbers.map(|line| line["transfer"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    data::assert_same(&first, &b.inbox().join("first"));
    data::assert_same(&last, &b.inbox().join("last"));
    assert_eq!(fs::read(b.inbox().join("folder/in it")).unwrap(), b"something");
}

#[test]
fn one_no_ends_all_of_it_and_what_is_sent_again_is_another_offer() {
    let Pair { a, b } = pair("accept = 'ask'\n");
    let files = [a.new_file("one", 1, 1000), a.new_file("two", 2, 3 * MIB)];
    let words = words!["send", files[0], files[1], "--to", b.address(), "--peer", b.peer()];
    let mut sending = a.cli().start_json(words.clone());
    wait_for_offers(&mut sending, 2);
    assert_eq!(offers(&b)[0]["batch"]["total_bytes"], 1000 + 3 * MIB);
    b.cli().run(words!["inbox", "reject", offers(&b)[0]["transfer"].to_string()]).success();
    let refused = sending.finish().exits(5);
    assert_eq!(refused.event("summary")["failed"], 2, "{refused}");
    assert!(offers(&b).is_empty() && data::files_below(b.inbox()).is_empty());
    let mut sending = a.cli().start_json(words);
    wait_for_offers(&mut sending, 2);
    b.cli().run(words!["inbox", "accept", offers(&b)[1]["transfer"].to_string()]).success();
    sending.finish().success();
}

#[test]
fn what_was_refused_is_offered_again_as_one() {
    let Pair { a, b } = pair("accept = 'ask'\n");
    let files = [a.new_file("one", 1, 1000), a.new_file("two", 2, 3 * MIB)];
    let words = words!["send", files[0], files[1], "--to", b.address(), "--peer", b.peer()];
    let mut sending = a.cli().start_json(words.clone());
    wait_for_offers(&mut sending, 2);
    b.cli().run(words!["inbox", "reject", offers(&b)[0]["transfer"].to_string()]).success();
    sending.finish().exits(5);
    let all = format!("b{}", a.settled()[0]["transfer"]);
    assert_eq!(a.cli().json(words!["retry", all]).success().events.len(), 2);
    until_true("both are offered again", || offers(&b).len() == 2);
    assert_eq!(offers(&b)[0]["batch"]["total_bytes"], 1000 + 3 * MIB);

    let waiting = a.cli().start_json(words!["wait", all]);
    b.cli().run(words!["inbox", "accept", offers(&b)[0]["transfer"].to_string()]).success();
    let waited = waiting.finish().success();
    assert_eq!(waited.event("summary")["done"], 2, "{waited}");
    a.cli().run(words!["watch", all]).success();
}

#[test]
fn a_no_holds_when_the_sender_was_away() {
    let Pair { mut a, mut b } = pair("accept = 'ask'\n");
    let files = [a.new_file("one", 1, 1000), a.new_file("two", 2, 20 * MIB), a.new_file("three", 3, MIB)];
    let to = words!["--to", b.address(), "--peer", b.peer(), "--detach"];
    a.cli().run(words!["send", files[0]].into_iter().chain(to.clone())).success();
    until_true("it is offered", || offers(&b).len() == 1);
    a.cli().run(words!["send", files[1], files[2]].into_iter().chain(to)).success();
    until_true("all are offered", || offers(&b).len() == 3);
    a.kill9();
    for offer in offers(&b).iter().take(2) {
        b.cli().run(words!["inbox", "reject", offer["transfer"].to_string()]).success();
    }
    assert!(offers(&b).is_empty(), "{:?}", offers(&b));
    let asked = b.transfers().len();
    b.restart();
    a.start_elsewhere();
    for number in ["1", "2", "3"] {
        a.cli().run(words!["wait", number]).exits(5);
    }
    assert_eq!((offers(&b).len(), b.transfers().len()), (0, asked), "nobody is asked twice");
    // It was an answer to that offer and to no later one.
    until_true("it is offered again", || {
        a.cli().run(words!["retry", "1"]);
        offers(&b).len() == 1
    });
}

#[test]
fn a_yes_holds_for_what_comes_later_and_after_a_restart() {
    let Pair { mut a, mut b } = pair("accept = 'ask'\n");
    let files = [a.new_file("one", 1, 1000), a.new_file("two", 2, 3 * MIB), a.new_file("three", 3, MIB)];
    let to = words!["--to", b.address(), "--peer", b.peer(), "--detach"];
    let detached = a.cli().run(words!["send", files[0], files[1], files[2]].into_iter().chain(to)).success();
    let numbers: Vec<String> = detached.text().lines().map(str::to_owned).collect();
    // The last one is held back by its owner until after the answer, by one word of the batch.
    a.cli().run(words!["pause", numbers[2]]).success();
    until_true("two offers wait", || offers(&b).len() >= 2);
    let waiting = offers(&b);
    a.kill9();
    b.cli().run(words!["inbox", "accept", waiting[0]["transfer"].to_string()]).success();
    assert!(offers(&b).is_empty(), "{:?}", offers(&b));
    b.restart();
    a.start_elsewhere();
    a.cli().run(words!["resume", format!("b{}", numbers[0])]).success();
    for number in &numbers {
        a.cli().run(words!["wait", number]).success();
    }
    for file in &files {
        data::assert_same(file, &b.inbox().join(file.file_name().unwrap()));
    }
}

#[test]
fn what_is_settled_for_a_peer_holds_for_all_of_an_offer() {
    let Pair { a, b } = pair("");
    let files = [a.new_file("one", 1, 600_000), a.new_file("two", 2, 600_000)];
    b.cli().run(words!["peers", "rule", a.peer(), "--largest", "1MiB"]).success();
    let to = words!["--to", b.address(), "--peer", b.peer()];
    let refused = a.cli().json(words!["send", files[0], files[1]].into_iter().chain(to.clone())).exits(5);
    assert_eq!(refused.event("summary")["failed"], 2, "{refused}");
    assert!(data::files_below(b.inbox()).is_empty());
    a.cli().json(words!["send", files[0]].into_iter().chain(to.clone())).success();
    a.cli().json(words!["send", files[1]].into_iter().chain(to)).success();
}

#[test]
fn the_word_for_all_of_it_cancels_all_of_it() {
    let Pair { a, b } = pair("accept = 'ask'\n");
    let files = [a.new_file("one", 1, 1000), a.new_file("two", 2, 3 * MIB)];
    let words = words!["send", files[0], files[1], "--to", b.address(), "--peer", b.peer(), "--detach"];
    let number = a.cli().run(words).success().text().lines().next().unwrap().to_owned();
    let listed = a.cli().run(words!["list"]).success();
    assert!(listed.text().contains(&format!("two (b{number}, 2 of 2)")), "{}", listed.text());
    let all = format!("b{number}");
    assert_eq!(a.cli().json(words!["show", all]).success().events.len(), 2);
    a.cli().run(words!["priority", all, "high"]).success();
    let limited = a.cli().json(words!["limit", all, "1MiB/s"]).success();
    assert_eq!(limited.events.iter().filter(|line| line["limit_bps"] == MIB).count(), 2, "{limited}");
    let logged = a.cli().json(words!["log", all]).success().events;
    let of = |transfer: &Value| logged.iter().filter(|line| line["transfer"] == *transfer).count();
    let (first, second) = (of(&limited.events[0]["transfer"]), of(&limited.events[1]["transfer"]));
    assert!(first > 0 && second > 0 && first + second == logged.len(), "{logged:?}");
    assert!(logged.is_sorted_by_key(|line| line["at_ms"].as_u64()));
    let last = a.cli().json(words!["log", all, "-n", "1"]).success().events;
    assert_eq!(last, logged[logged.len() - 1..]);
    // What is over already is no reason not to do it to the rest.
    a.cli().run(words!["cancel", number]).success();
    for verb in ["pause", "resume"] {
        assert_eq!(a.cli().json(words![verb, all]).success().events.len(), 1);
    }
    a.cli().run(words!["cancel", all]).success();
    assert!(a.settled().iter().all(|transfer| transfer["state"] == "cancelled"));
}
