//! Several transfers of one owner: asked for together, held back, put in order.

use std::fs;

use p2p_tests::{Daemon, Pair, data, words};

#[test]
fn several_paths_land_beside_each_other() {
    let Pair { a, b } = Pair::new();
    let (one, two) = (a.new_file("one.bin", 1, 3_000_000), a.new_file("two.bin", 2, 70_000));
    let folder = a.file("folder");
    fs::create_dir(&folder).unwrap();
    data::write_random(&folder.join("inside.bin"), 3, 5000);
    let sent = a.cli().json(words!["send", one, two, folder, "--to", b.address()]).success();
    let queued: Vec<_> = sent.events.iter().filter(|event| event["event"] == "queued").collect();
    let paths: Vec<_> = queued.iter().map(|event| event["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths, [&one, &two, &folder].map(|path| path.display().to_string()));
    let done: Vec<_> = sent.events.iter().filter(|event| event["event"] == "done").collect();
    assert_eq!(done.len(), 3, "{sent}");
    let summary = sent.events.last().unwrap();
    assert_eq!((&summary["event"], &summary["done"]), (&"summary".into(), &3.into()), "{sent}");
    assert_eq!(summary["moved_bytes"], 3_075_000, "{sent}");
    data::assert_same(&one, &b.inbox().join("one.bin"));
    data::assert_same(&two, &b.inbox().join("two.bin"));
    data::assert_same(&folder.join("inside.bin"), &b.inbox().join("folder/inside.bin"));
    assert_eq!(b.received().len(), 3, "{:?}", b.received());
    // Once more, and nothing has to move.
    let again = a.cli().json(words!["send", one, two, folder, "--to", b.address()]).success();
    assert_eq!(again.event("summary")["moved_bytes"], 0, "{again}");
    // One path that is not there, and nothing is sent.
    let before = a.transfers().len();
    a.cli()
        .json(words!["send", a.new_file("new.bin", 9, 10), a.file("missing"), "--to", b.address()])
        .exits(6);
    assert_eq!(a.transfers().len(), before);
}

#[test]
fn several_paths_end_with_the_worst_of_their_ends() {
    let (a, b) = (Daemon::start("a"), Daemon::start("b"));
    b.trust(&a);
    let (good, taken) = (a.new_file("good.bin", 1, 5000), a.new_file("con:", 2, 5000));
    let words = words!["send", good, taken, "--to", b.address(), "--accept-new-key"];
    let sent = a.cli().json(words).exits(2);
    assert_eq!(
        (sent.event("summary")["done"].as_u64(), sent.event("summary")["failed"].as_u64()),
        (Some(1), Some(1))
    );
    data::assert_same(&good, &b.inbox().join("good.bin"));
    // Detached, the numbers come in the order of the paths.
    let words = words!["send", good, a.new_file("last.bin", 3, 10), "--to", b.address(), "--detach"];
    let numbers = a.cli().run(words).success().text();
    let numbers: Vec<u64> = numbers.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.len() == 2 && numbers[0] < numbers[1], "{numbers:?}");
    a.settled();
    data::assert_same(&a.file("last.bin"), &b.inbox().join("last.bin"));
}
