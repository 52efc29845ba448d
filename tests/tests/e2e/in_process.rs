//! Daemons inside this process, as whoever embeds one would use them.

use p2p_tests::{data, in_process::InProcess, words};

fn introduce(a: &InProcess, b: &InProcess) {
    for (one, other, name) in [(a, b, "b"), (b, a, "a")] {
        let words = words!["peers", "trust", other.peer(), "--name", name, "--address", other.address()];
        one.cli().json(words).success();
    }
}

#[test]
fn two_daemons_in_one_process_move_a_file() {
    let (a, b) = (InProcess::start(), InProcess::start());
    introduce(&a, &b);
    let file = a.place().root().join("files/f.bin");
    data::write_random(&file, 1, 3_000_000);
    a.cli().json(words!["send", file, "--to", "b"]).success();
    data::assert_same(&file, &b.place().inbox_path().join("f.bin"));
}

#[test]
fn a_home_is_free_again_after_a_shutdown_and_remembers() {
    let (a, b) = (InProcess::start(), InProcess::start());
    introduce(&a, &b);
    let file = a.place().root().join("files/f.bin");
    data::write_random(&file, 1, 300_000);
    let id = a.cli().run(words!["share", file]).success().text();
    let peer = a.peer();
    let (place, address) = a.shut_down();
    let a = InProcess::start_in(place, address);
    assert_eq!(a.peer(), peer);
    b.cli().json(words!["fetch", id, "--from", "a"]).success();
    data::assert_same(&file, &b.place().inbox_path().join("f.bin"));
}
