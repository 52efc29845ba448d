//! Some bytes of a file: no more chunks move than hold them.

use std::fs;

use p2p_tests::{
    Pair, Relay, data,
    data::{CHUNK, MIB},
    words,
};
use serde_json::Value;

#[test]
fn bytes_of_a_file_go_where_they_are_wanted_and_nothing_else_moves() {
    let Pair { a, b } = Pair::new();
    let size = 20 * CHUNK + 77;
    let file = a.new_file("long.bin", 1, size);
    let content = fs::read(&file).unwrap();
    let id = a.cli().run(words!["share", file]).success().text();
    let out = b.file("piece");
    let fetch = |range: &str, to: &str| {
        b.cli().json(words!["fetch", id, "--from", a.address(), "--range", range, "-o", to])
    };
    for (range, from, to, chunks) in [
        ("0-0", 0, 1, 1),
        (&*format!("{}-{}", CHUNK - 5, CHUNK + 4), CHUNK - 5, CHUNK + 5, 2),
        (&*format!("{}-", 18 * CHUNK + 3), 18 * CHUNK + 3, size, 3),
        ("-10", size - 10, size, 1),
    ] {
        let fetched = fetch(range, out.to_str().unwrap()).success();
        assert_eq!(fs::read(&out).unwrap(), content[from as usize..to as usize], "{range}");
        let done = fetched.event("done");
        assert_eq!((&done["bytes"], done["part_of"].as_str()), (&Value::from(to - from), Some(&*id)));
        assert!((fetched.moved()) <= chunks * CHUNK && fetched.moved() > 0, "{fetched}");
        fs::remove_file(&out).unwrap();
        let piped =
            b.cli().run(words!["fetch", id, "--from", a.address(), "--range", range, "-o", "-"]).success();
        assert_eq!(piped.stdout, content[from as usize..to as usize], "{range}");
    }
    b.settled();
    assert!(b.partials().is_empty(), "{:?}", b.partials());
    // What has the name already stays; the same bytes are success.
    fs::write(&out, b"mine").unwrap();
    let beside = fetch("3-7", out.to_str().unwrap()).success();
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    let path = beside.event("done")["path"].as_str().unwrap();
    assert!(path.ends_with("piece (1)"), "{beside}");
    assert_eq!(fs::read(path).unwrap(), content[3..8]);
    let again = fetch("3-7", path).success();
    assert_eq!(again.event("done")["path"].as_str(), Some(path));
    // The provider is done with each, and knows of no error.
    assert!(a.settled().iter().all(|transfer| transfer["state"] == "done"), "{:?}", a.transfers());
}

#[test]
fn a_range_that_is_not_there_is_said() {
    let Pair { a, b } = Pair::new();
    let file = a.new_file("f", 1, 100);
    let id = a.cli().run(words!["share", file]).success().text();
    let out = b.file("piece");
    let fetch = |range: &str| {
        b.cli().json(words!["fetch", id, "--from", a.address(), &format!("--range={range}"), "-o", out])
    };
    let outside = fetch("100-").exits(2);
    assert!(outside.message().contains("100 bytes"), "{outside}");
    fetch("5-4").exits(2);
    fetch("x").exits(2);
    b.cli().run(words!["fetch", id, "--from", a.address(), "--range", "1-2"]).exits(2);
    let folder = a.file("folder");
    fs::create_dir_all(&folder).unwrap();
    let of_folder = a.cli().run(words!["share", folder]).success().text();
    b.cli().run(words!["fetch", of_folder, "--from", a.address(), "--range", "1-2", "-o", out]).exits(2);
    assert!(!out.exists());
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn a_range_goes_on_after_a_kill_and_what_else_is_here_of_the_file_stays() {
    let Pair { a, mut b } = Pair::new();
    let relay = Relay::to(a.address());
    let size = 30 * MIB;
    let file = a.new_file("long.bin", 1, size);
    let content = fs::read(&file).unwrap();
    let id = a.cli().run(words!["share", file]).success().text();
    relay.set_rate(6 * MIB);
    let (out, whole) = (b.file("piece"), b.file("whole"));
    let fetch = words!["fetch", id, "--from", relay.address(), "--range", "10000000-29999999", "-o", out];
    let mut fetching = b.cli().start_json(fetch.clone());
    fetching.wait_for_verified(10 * MIB);
    b.kill9();
    fetching.kill9();
    assert!(!out.exists(), "not before it is complete");
    b.start_again();
    let again = b.cli().json(fetch).success();
    assert!(again.moved() < 19 * MIB, "nothing was kept\n{again}");
    assert_eq!(fs::read(&out).unwrap(), content[10_000_000..30_000_000]);
    b.settled();
    assert!(b.partials().is_empty(), "{:?}", b.partials());

    // A fetch of the whole that was stopped keeps what it has, whatever ranges are fetched meanwhile.
    let fetch = words!["fetch", id, "--from", relay.address(), "-o", whole];
    let mut fetching = b.cli().start_json(fetch.clone());
    let verified = fetching.wait_for_verified(12 * MIB);
    b.kill9();
    fetching.kill9();
    b.start_again();
    relay.set_rate(600 * MIB);
    let last = words!["fetch", id, "--from", relay.address(), "--range=-1000", "-o", b.file("last")];
    b.cli().run(last).success();
    assert_eq!(fs::read(b.file("last")).unwrap(), content[size as usize - 1000..]);
    b.cli().json(fetch).success();
    assert_eq!(data::file_id(&whole), id);
    assert!(verified >= 12 * MIB);
    b.settled();
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}
