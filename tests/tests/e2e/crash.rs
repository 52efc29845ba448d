//! Daemons that are killed, and what is left to do afterwards.
//!
//! The daemons stand behind a relay of known rate, so that a kill hits the middle, and so that what a crash may cost
//! is known: two checkpoint windows of a second each, and the chunks that were on their way.

use std::fs;

use p2p_protocol::control::{self, Event, FetchRequest, Request, RequestId, TransferEvent};
use p2p_tests::{Daemon, Output, Pair, Relay, data, data::MIB, words};

/// Bytes per second.
const RATE: u64 = 6 * MIB;
/// The rate just before a kill, so that the end does not overtake the word that it is near.
const SLOW: u64 = RATE / 8;
/// Chunks on their way when a daemon is killed.
const IN_FLIGHT: u64 = 6 * MIB;
/// What a crash may cost beyond what was missing: two windows, and what was on its way.
const IN_DOUBT: u64 = 2 * RATE + IN_FLIGHT;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Provider,
    Receiver,
    Both,
}

impl Killed {
    const ALL: [Self; 3] = [Self::Provider, Self::Receiver, Self::Both];

    fn kill(self, provider: &mut Daemon, receiver: &mut Daemon) {
        if self != Self::Receiver {
            provider.kill9();
        }
        if self != Self::Provider {
            receiver.kill9();
        }
    }

    fn start_again(self, provider: &mut Daemon, receiver: &mut Daemon) {
        if self != Self::Receiver {
            provider.start_again();
        }
        if self != Self::Provider {
            receiver.start_again();
        }
    }
}

/// Kills daemons once the receiver has verified `at` bytes, starts them again and asks again; returns what the second
/// command said and how many bytes were missing at the kill.
fn send_killed(killed: Killed, len: u64, at: u64) -> (Output, u64) {
    let (Pair { mut a, mut b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", at, len);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(at - MIB);
    relay.set_rate(SLOW);
    let verified = sending.wait_for_verified(at);
    killed.kill(&mut a, &mut b);
    sending.kill9();
    relay.set_rate(RATE);
    assert!(b.received().is_empty(), "{:?} before everything was verified", b.received());
    killed.start_again(&mut a, &mut b);
    let again = a.cli().json(words!["send", file, "--to", relay.address()]).success();
    data::assert_same(&file, &b.inbox().join("big.bin"));
    b.settled();
    assert_eq!(b.received().len(), 1, "{:?}", b.received());
    assert!(b.partials().is_empty(), "{:?}", b.partials());
    (again, len - verified)
}

fn fetch_killed(killed: Killed, len: u64, at: u64) -> (Output, u64) {
    let Pair { mut a, mut b } = Pair::new();
    let relay = Relay::to(a.address());
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", at, len);
    let id = a.cli().run(words!["share", file]).success().text();
    let mut fetching = b.cli().start_json(words!["fetch", id, "--from", relay.address()]);
    fetching.wait_for_verified(at - MIB);
    relay.set_rate(SLOW);
    let verified = fetching.wait_for_verified(at);
    killed.kill(&mut a, &mut b);
    fetching.kill9();
    relay.set_rate(RATE);
    killed.start_again(&mut a, &mut b);
    let again = b.cli().json(words!["fetch", id, "--from", relay.address()]).success();
    data::assert_same(&file, &b.inbox().join("big.bin"));
    assert_eq!(b.received().len(), 1, "{:?}", b.received());
    assert!(b.partials().is_empty(), "{:?}", b.partials());
    (again, len - verified)
}

fn assert_only_what_was_missing(again: &Output, missing: u64) {
    let allowed = missing + IN_DOUBT;
    assert!(again.moved() <= allowed, "{} moved, {missing} were missing\n{again}", again.moved());
}

/// Fault 1.
#[test]
fn a_killed_send_goes_on_early() {
    for killed in Killed::ALL {
        send_killed(killed, 16 * MIB, MIB);
    }
}

/// Fault 1.
#[test]
fn a_killed_send_goes_on_in_the_middle() {
    for killed in Killed::ALL {
        send_killed(killed, 16 * MIB, 8 * MIB);
    }
}

/// Fault 1.
#[test]
fn a_killed_send_goes_on_late() {
    for killed in Killed::ALL {
        send_killed(killed, 16 * MIB, 15 * MIB);
    }
}

/// Fault 1.
#[test]
fn a_killed_fetch_goes_on() {
    for (killed, at) in Killed::ALL.into_iter().zip([2 * MIB, 8 * MIB, 14 * MIB]) {
        fetch_killed(killed, 16 * MIB, at);
    }
}

/// Fault 1.
#[test]
fn a_send_moves_again_only_what_was_missing() {
    for killed in [Killed::Receiver, Killed::Both] {
        let (again, missing) = send_killed(killed, 56 * MIB, 46 * MIB);
        assert_only_what_was_missing(&again, missing);
    }
}

/// Fault 1.
#[test]
fn a_fetch_moves_again_only_what_was_missing() {
    let (again, missing) = fetch_killed(Killed::Receiver, 56 * MIB, 46 * MIB);
    assert_only_what_was_missing(&again, missing);
}

/// Fault 1.
#[test]
fn a_killed_sender_costs_nothing_that_was_verified() {
    let (again, missing) = send_killed(Killed::Provider, 24 * MIB, 12 * MIB);
    let moved = again.moved();
    assert!(moved <= missing + IN_FLIGHT, "{moved} moved, {missing} were missing\n{again}");
}

/// Fault 60.
#[test]
fn a_waiting_sender_outlives_the_receivers_restart() {
    let (Pair { a, mut b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let len = 16 * MIB;
    let file = a.new_file("big.bin", 1, len);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    let verified = sending.wait_for_verified(len / 2);
    b.restart();
    relay.set_rate(0);
    let sent = sending.finish().success();
    let retrying = sent.event("retrying");
    assert!(retrying["attempt"].as_u64().is_some_and(|attempt| attempt >= 2), "{retrying}");
    assert!(retrying["in_s"].is_number() && retrying["reason"].is_string(), "{retrying}");
    // One command saw it all, so it counts all.
    assert!(sent.moved() >= verified.min(len - IN_FLIGHT), "{sent}");
    assert!(sent.moved() <= len + IN_DOUBT, "{sent}");
    data::assert_same(&file, &b.inbox().join("big.bin"));
}

/// Fault 79.
#[test]
fn a_waiting_command_outlives_its_own_daemons_restart() {
    let (Pair { mut a, b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", 1, 16 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(4 * MIB);
    a.restart();
    let sent = sending.finish().success();
    assert!(sent.moved() <= 16 * MIB + IN_DOUBT, "{sent}");
    data::assert_same(&file, &b.inbox().join("big.bin"));
}

#[test]
fn a_waiting_command_gives_up_a_daemon_that_stays_away() {
    let (Pair { mut a, b: _b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", 1, 16 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(MIB);
    a.kill9();
    let given_up = sending.finish().exits(3);
    assert_eq!(given_up.event("failed")["exit_code"], 3, "{given_up}");
}

/// Fault 28.
#[test]
fn unfinished_work_is_taken_up_without_being_asked() {
    let (Pair { mut a, b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", 1, 16 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    let transfer = sending.wait_for_event("started")["transfer"].as_u64().unwrap();
    sending.wait_for_verified(4 * MIB);
    a.kill9();
    sending.kill9();
    a.start_again();
    a.cli().json(words!["wait", transfer.to_string()]).success();
    data::assert_same(&file, &b.inbox().join("big.bin"));
}

#[test]
fn a_stopped_receiver_keeps_what_it_has() {
    let (Pair { a, mut b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let len = 32 * MIB;
    let file = a.new_file("big.bin", 1, len);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address(), "--detach"]);
    let queued = sending.wait_for_event("queued")["transfer"].as_u64().unwrap();
    let mut watching = a.cli().start_json(words!["watch", queued.to_string()]);
    let verified = watching.wait_for_verified(24 * MIB);
    assert_eq!(b.sigterm().code(), Some(0));
    assert!(!b.partials().is_empty(), "the partial is kept");
    b.start_again();
    let sent = watching.finish().success();
    data::assert_same(&file, &b.inbox().join("big.bin"));
    // After an orderly end nothing is in doubt.
    let resumed = sent.event("started");
    let resumed = resumed["resumed_bytes"].as_u64().unwrap();
    assert!(
        resumed + IN_FLIGHT >= verified,
        "{verified} were verified, {resumed} are there afterwards\n{sent}"
    );
}

#[test]
fn a_stopped_sender_ends_well_and_goes_on() {
    let (Pair { mut a, b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", 1, 16 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(4 * MIB);
    assert_eq!(a.sigterm().code(), Some(0));
    a.start_again();
    sending.finish().success();
    data::assert_same(&file, &b.inbox().join("big.bin"));
}

/// Files of the receiver's partial whose names end so.
fn partials_ending(b: &Daemon, end: &str) -> Vec<std::path::PathBuf> {
    b.partials().into_iter().filter(|path| path.to_string_lossy().ends_with(end)).collect()
}

/// Damages the receiver's partial while it is down, and checks that the content is right in the end all the same.
fn damaged_partial(damage: impl Fn(&Daemon)) {
    let (Pair { a, mut b }, relay) = Pair::with_relay();
    relay.set_rate(RATE);
    let file = a.new_file("big.bin", 1, 24 * MIB);
    let mut sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    sending.wait_for_verified(14 * MIB);
    b.kill9();
    damage(&b);
    b.start_again();
    relay.set_rate(0);
    sending.finish().success();
    data::assert_same(&file, &b.inbox().join("big.bin"));
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

/// Fault 21.
#[test]
fn flipped_bytes_in_a_partial_are_found() {
    damaged_partial(|b| {
        let parts = partials_ending(b, ".part");
        assert_eq!(parts.len(), 1, "{:?}", b.partials());
        for offset in [0, 100_000, 3 * MIB + 7] {
            data::flip(&parts[0], offset);
        }
    });
}

/// Fault 4.
#[test]
fn a_damaged_record_of_chunks_is_not_believed() {
    damaged_partial(|b| {
        let logs = partials_ending(b, ".log");
        assert_eq!(logs.len(), 1, "{:?}", b.partials());
        let len = fs::metadata(&logs[0]).unwrap().len();
        for offset in [len / 3, len / 2, len - 1] {
            data::flip(&logs[0], offset);
        }
    });
}

/// Fault 4.
#[test]
fn a_record_that_was_cut_short_is_not_believed() {
    damaged_partial(|b| {
        for log in partials_ending(b, ".log") {
            let len = fs::metadata(&log).unwrap().len();
            fs::File::options().write(true).open(&log).unwrap().set_len(len - 3).unwrap();
        }
    });
}

/// Fault 8.
#[test]
fn a_partial_that_was_cut_short_is_fetched_again() {
    damaged_partial(|b| {
        for part in partials_ending(b, ".part") {
            fs::File::options().write(true).open(&part).unwrap().set_len(MIB).unwrap();
        }
    });
}

/// Fault 4.
#[test]
fn a_partial_without_its_record_is_hashed() {
    damaged_partial(|b| {
        for path in b.partials() {
            if !path.to_string_lossy().ends_with(".part") {
                fs::remove_file(path).unwrap();
            }
        }
    });
}

#[test]
fn a_partial_whose_data_was_swapped_is_found_out() {
    damaged_partial(|b| {
        for part in partials_ending(b, ".part") {
            let len = fs::metadata(&part).unwrap().len();
            fs::remove_file(&part).unwrap();
            data::write_random(&part, 12_345, len);
        }
    });
}

/// Fault 60.
#[test]
fn a_peer_that_was_restarted_is_dialled_anew_at_once() {
    let Pair { a, mut b } = Pair::new();
    for (name, seed) in [("one.bin", 1), ("two.bin", 2)] {
        let file = a.new_file(name, seed, 300_000);
        a.cli().json(words!["send", file, "--to", b.address()]).success();
        data::assert_same(&file, &b.inbox().join(name));
        b.kill9();
        b.start_again();
    }
}

/// Fault 34.
#[test]
fn one_file_sent_twice_at_once_to_one_peer_arrives() {
    let (Pair { a, b }, relay) = Pair::with_relay();
    relay.set_rate(6 * MIB);
    let file = a.new_file("big.bin", 1, 8 * MIB);
    a.cli().json(words!["peers", "trust", b.peer(), "--name", "bob", "--address", relay.address()]).success();
    let first = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    let second = a.cli().start_json(words!["send", file, "--to", "bob"]);
    let (first, second) = (first.finish().success(), second.finish().success());
    assert!(first.moved() + second.moved() <= 8 * MIB, "{first}\n{second}");
    data::assert_same(&file, &b.inbox().join("big.bin"));
}

/// Puts files where a partial of this name has them, as a power cut may bring them back.
fn bring_back(b: &Daemon, stem: &str, endings: &[&str]) {
    let partials = b.inbox().join(".p2p");
    fs::create_dir_all(&partials).unwrap();
    for ending in endings {
        fs::write(partials.join(format!("{stem}{ending}")), [1; 5000]).unwrap();
    }
}

#[test]
fn what_a_power_cut_brought_back_of_a_received_file_goes_when_it_is_sent_again() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("one.bin", 1, 300_000);
    let send = || a.cli().json(words!["send", file, "--to", b.address()]).success();
    send();
    for endings in [&[".part"][..], &[".part", ".cvs", ".log"]] {
        bring_back(&b, &format!("{}-{}", data::file_id(&file), a.peer()), endings);
        assert_eq!(send().moved(), 0);
        b.settled();
        assert!(b.partials().is_empty(), "{:?}", b.partials());
    }
    assert_eq!(b.received().len(), 1, "{:?}", b.received());
}

#[test]
fn what_a_power_cut_brought_back_of_a_fetched_file_goes_when_it_is_fetched_again() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("one.bin", 1, 300_000);
    let id = a.cli().run(words!["share", file]).success().text();
    let fetch = || b.cli().json(words!["fetch", id, "--from", a.address()]).success();
    fetch();
    for endings in [&[".part"][..], &[".part", ".cvs", ".log"]] {
        bring_back(&b, &id, endings);
        assert_eq!(fetch().moved(), 0);
        assert!(b.partials().is_empty(), "{:?}", b.partials());
    }
    assert_eq!(b.received().len(), 1, "{:?}", b.received());
}

/// A command whose daemon dies before it answered asks again, and cannot know what has become of it meanwhile.
///
/// Fault 79.
#[test]
fn a_fetch_that_is_asked_for_again_by_its_command_is_not_made_twice() {
    let Pair { a, mut b } = Pair::new();
    let folder = a.file("folder");
    fs::create_dir(&folder).unwrap();
    data::write_random(&folder.join("one"), 1, 300_000);
    let file_id = a.cli().run(words!["share", folder]).success().text().parse().unwrap();
    let place = b.file("got");
    let by = |request| {
        let output = control::Output::Path(place.as_os_str().as_encoded_bytes().to_vec());
        match p2p_tests::control::fetch(file_id, a.address()) {
            Request::Fetch(fetch) => {
                let request = Some(RequestId([request; 16]));
                Request::Fetch(FetchRequest { output, detach: false, request, ..fetch })
            }
            other => other,
        }
    };
    let ask = |b: &Daemon, request| p2p_tests::control::ask(b.place().home_path(), &by(request)).unwrap();
    let done = |events: &[Event]| match (events.first(), events.last()) {
        (Some(Event::Queued { transfer, .. }), Some(Event::Transfer(TransferEvent::Done { path, .. }))) => {
            (*transfer, path.clone())
        }
        _ => panic!("{events:?}"),
    };
    let shown = place.display().to_string();
    assert_eq!(done(&ask(&b, 1)), (1, shown.clone()));
    b.kill9();
    b.start_again();
    assert_eq!(done(&ask(&b, 1)), (1, shown.clone()));
    let inside: Vec<_> = fs::read_dir(&place).unwrap().map(|found| found.unwrap().file_name()).collect();
    assert_eq!(inside, ["one"]);
    // Another command that says the same is one of its own: what is there is a folder to fetch into.
    assert_eq!(done(&ask(&b, 2)), (2, place.join("folder").display().to_string()));
}
