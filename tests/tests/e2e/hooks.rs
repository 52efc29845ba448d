//! Programs that the daemon runs when something happens.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use p2p_tests::{
    Daemon, Pair,
    daemon::Place,
    data::{self, MIB},
    trust_each_other,
    until::{until, until_true},
    words,
};

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program that writes its environment into a file named after the event, and the place it writes to.
fn recorder(root: &Path) -> (PathBuf, PathBuf) {
    let (program, facts) = (root.join("record.sh"), root.join("facts"));
    fs::create_dir(&facts).unwrap();
    let text =
        "#!/bin/sh\nenv | grep '^P2P_' > \"$1/new.$$\" && mv \"$1/new.$$\" \"$1/$P2P_EVENT.$P2P_TRANSFER\"\n";
    write_program(&program, text);
    (program, facts)
}

/// A daemon whose hooks are recorded.
fn recorded(name: &str, more: &str) -> (Daemon, PathBuf) {
    let place = Place::new();
    let (program, facts) = recorder(place.root());
    let hook = format!("[{program:?}, {facts:?}]");
    let config = format!("{more}\nhooks = {{ offer = {hook}, done = {hook}, failed = {hook} }}\n");
    (Daemon::start_in(name, place.config(&config)), facts)
}

/// Waits until the hook has run for an event of some transfer; what it was told.
fn told(facts: &Path, event: &str) -> BTreeMap<String, String> {
    let text = until(&format!("a hook was run for {event}"), || {
        let mut found = fs::read_dir(facts).unwrap().map(|entry| entry.unwrap().path());
        let is_it = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == event);
        found.find(is_it).map(|path| fs::read_to_string(path).unwrap())
    });
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, fact)| (key.into(), fact.into()))
        .collect()
}

#[test]
fn a_program_is_run_when_something_is_received_and_when_it_was_sent() {
    let ((a, sent), (b, received)) = (recorded("a", ""), recorded("b", ""));
    let Pair { a, b } = Pair::of(a, b);
    let file = a.new_file("it's $(not) a `command`.bin", 1, MIB);
    a.cli().run(words!["send", file, "--to", b.address(), "--peer", b.peer()]).success();
    let facts = told(&received, "done");
    let landed = b.inbox().join("it's $(not) a `command`.bin");
    assert_eq!((&*facts["P2P_DIRECTION"], &*facts["P2P_NAME"]), ("receive", "it's $(not) a `command`.bin"));
    assert_eq!((Path::new(&facts["P2P_PATH"]), &*facts["P2P_PEER"]), (&*landed, a.peer()));
    assert_eq!((&*facts["P2P_FILE_ID"], &*facts["P2P_BYTES"]), (&*data::file_id(&file), "1048576"));
    assert_eq!(Path::new(&facts["P2P_HOME"]), b.place().home_path());
    let told_there = told(&sent, "done");
    assert_eq!((&*told_there["P2P_DIRECTION"], Path::new(&told_there["P2P_PATH"])), ("send", &*file));
}

#[test]
fn a_program_hears_of_an_offer_and_can_say_yes() {
    let a = Daemon::start("a");
    let (b, facts) = recorded("b", "accept = \"ask\"");
    let Pair { a, b } = Pair::of(a, b);
    let file = a.new_file("f.bin", 1, MIB);
    let sending = a.cli().start_json(words!["send", file, "--to", b.address(), "--peer", b.peer()]);
    let offer = told(&facts, "offer");
    assert_eq!((&*offer["P2P_NAME"], &*offer["P2P_BYTES"]), ("f.bin", "1048576"));
    b.cli().run(words!["inbox", "accept", offer["P2P_TRANSFER"]]).success();
    sending.finish().success();
    assert_eq!(told(&facts, "done")["P2P_TRANSFER"], offer["P2P_TRANSFER"]);
}

#[test]
fn a_program_that_runs_too_long_does_not_outlive_the_daemon() {
    let place = Place::new();
    let (program, started) = (place.root().join("hang.sh"), place.root().join("started"));
    let text =
        format!("#!/bin/sh\necho $$ > {started:?}.new && mv {started:?}.new {started:?}\nexec sleep 600\n");
    write_program(&program, &text);
    let mut b = Daemon::start_in("b", place.config(&format!("hooks = {{ done = [{program:?}] }}\n")));
    let a = Daemon::start("a");
    trust_each_other(&[&a, &b]);
    a.cli().run(words!["send", a.new_file("f.bin", 1, 1000), "--to", b.address()]).success();
    let pid = until("the hook runs", || fs::read_to_string(&started).ok());
    b.sigterm();
    // One that was killed and that nobody has waited for yet is a zombie.
    let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    until_true("the hook is gone", || !fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")));
}

#[test]
fn a_failure_is_told_with_its_code_and_a_hook_that_fails_harms_nobody() {
    let (a, facts) = recorded("a", "");
    let place = Place::new();
    let b = Daemon::start_in(
        "b",
        place.config("hooks = { done = [\"/nowhere/at/all\"], failed = [\"false\"] }\n"),
    );
    let Pair { a, b } = Pair::of(a, b);
    let gone = a.place().root().join("files/gone.bin");
    a.cli().run(words!["send", gone, "--to", b.address(), "--peer", b.peer(), "--detach"]);
    let absent = "0".repeat(64);
    a.cli().run(words!["fetch", absent, "--from", b.address(), "--peer", b.peer()]).exits(6);
    let facts = told(&facts, "failed");
    assert_eq!((&*facts["P2P_CODE"], &*facts["P2P_EXIT_CODE"]), ("not_found", "6"));
    assert!(!facts["P2P_MESSAGE"].is_empty() && !facts.contains_key("P2P_BYTES"));
    let file = a.new_file("f.bin", 1, MIB);
    a.cli().run(words!["send", file, "--to", b.address(), "--peer", b.peer()]).success();
    b.wait_for_log("a hook could not be run");
}
