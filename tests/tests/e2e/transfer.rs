//! Content of every awkward size, both ways.

use std::fs;

use p2p_tests::{
    Daemon, Pair, data,
    data::{CHUNK, MIB},
    words,
};

/// Sends the file and fetches it, and checks both copies.
fn send_and_fetch(pair: &Pair, name: &str, seed: u64, len: u64) {
    let Pair { a, b } = pair;
    let file = a.new_file(name, seed, len);
    let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
    let id = data::file_id(&file);
    assert_eq!(sent.event("done")["file_id"], id, "{sent}");
    assert_eq!(sent.number("done", "bytes"), len, "{sent}");
    assert_eq!(sent.moved(), len, "nothing was there before\n{sent}");
    data::assert_same(&file, &b.inbox().join(name));

    let shared = a.cli().run(words!["share", file]).success();
    assert_eq!(shared.text(), id, "the File ID is the content's BLAKE3 hash\n{shared}");
    let target = b.file(&format!("fetched-{name}"));
    let fetched = b.cli().json(words!["fetch", id, "--from", a.address(), "-o", target]).success();
    assert_eq!(fetched.event("done")["file_id"], id, "{fetched}");
    assert!(fetched.moved() <= len, "more moved than there is\n{fetched}");
    data::assert_same(&file, &target);
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

/// Fault 32.
#[test]
fn sizes_around_every_boundary_are_exact() {
    let pair = Pair::new();
    let sizes = [
        0,
        1,
        1023,
        1024,
        1025,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        2 * CHUNK - 1,
        2 * CHUNK,
        2 * CHUNK + 1,
        7 * CHUNK + 12_345,
        64 * MIB - 1,
        64 * MIB,
        64 * MIB + 1,
    ];
    for (seed, len) in (1..).zip(sizes) {
        send_and_fetch(&pair, &format!("{len}.bin"), seed, len);
    }
}

#[test]
fn a_gibibyte_goes_both_ways() {
    let pair = Pair::new();
    send_and_fetch(&pair, "gibibyte.bin", 99, 1 << 30);
    for daemon in [&pair.a, &pair.b] {
        let peak = daemon.peak_memory();
        assert!(peak < 384 * MIB, "{peak} bytes of memory for a file of any size");
    }
}

#[test]
fn the_file_id_is_that_of_blake3() {
    let daemon = Daemon::start("a");
    let file = daemon.file("abc");
    fs::write(&file, "abc").unwrap();
    let shared = daemon.cli().run(words!["share", file]).success();
    // The test vector for "abc", as `b3sum` prints it.
    assert_eq!(shared.text(), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
}

/// Fault 58.
#[test]
fn mode_and_time_travel_but_no_privilege() {
    use std::{
        os::unix::fs::{MetadataExt, PermissionsExt},
        time::{Duration, UNIX_EPOCH},
    };
    let Pair { a, b } = Pair::new();
    let file = a.new_file("tool", 1, 1000);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).unwrap();
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .unwrap();
    a.cli().run(words!["send", file, "--to", b.address()]).success();
    let received = fs::metadata(b.inbox().join("tool")).unwrap();
    assert_ne!(received.mode() & 0o100, 0, "executable by its owner");
    assert_eq!(received.mode() & 0o7000, 0, "neither setuid nor setgid nor sticky");
    assert_eq!(received.mtime(), 1_000_000_000);
}

#[test]
fn zeros_cost_neither_network_nor_disk() {
    let Pair { a, b } = Pair::new();
    let file = a.file("sparse.img");
    let piece = data::random(3, MIB);
    data::write_sparse(&file, 2 << 30, &[(1 << 30, &piece)]);
    let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert!(sent.moved() <= 4 * MIB, "{} bytes moved for one MiB of data\n{sent}", sent.moved());
    let received = b.inbox().join("sparse.img");
    data::assert_same(&file, &received);
    let allocated = data::allocated(&received);
    assert!(allocated <= 8 * MIB, "{allocated} bytes occupied at the receiver");
}

#[test]
fn a_file_of_nothing_but_zeros_arrives() {
    let Pair { a, b } = Pair::new();
    for (name, len) in [("small-zeros", 1000), ("zeros", 5 * MIB + 1)] {
        let file = a.file(name);
        data::write_sparse(&file, len, &[]);
        let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
        assert_eq!(sent.moved(), 0, "{sent}");
        data::assert_same(&file, &b.inbox().join(name));
    }
}

/// Its only chunk goes along with the offer, as nobody here remembers that it is there.
#[test]
fn a_small_file_that_is_there_does_not_count_as_moved() {
    let Pair { mut a, b } = Pair::new();
    let file = a.new_file("small.bin", 1, 1000);
    let sent = a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert_eq!(sent.moved(), 1000, "{sent}");
    a.restart();
    let again = a.cli().json(words!["send", file, "--to", b.address()]).success();
    assert_eq!(again.moved(), 0, "{again}");
}

#[test]
fn many_transfers_share_one_connection() {
    let Pair { a, b } = Pair::new();
    let files: Vec<_> = (0..10).map(|n| a.new_file(&format!("{n}.bin"), n, 4 * MIB)).collect();
    // The first one opens the connection and pins nothing, since the key is trusted.
    let running: Vec<_> =
        files.iter().map(|file| a.cli().start_json(words!["send", file, "--to", b.address()])).collect();
    for command in running {
        command.finish().success();
    }
    for (n, file) in files.iter().enumerate() {
        data::assert_same(file, &b.inbox().join(format!("{n}.bin")));
    }
    assert_eq!(a.status()["connections"], 1, "ten transfers, one connection");
    assert!(b.partials().is_empty(), "{:?}", b.partials());
}

#[test]
fn both_send_at_once() {
    let Pair { a, b } = Pair::new();
    let (up, down) = (a.new_file("up.bin", 1, 8 * MIB), b.new_file("down.bin", 2, 8 * MIB));
    let sending = a.cli().start_json(words!["send", up, "--to", b.address()]);
    b.cli().json(words!["send", down, "--to", a.address()]).success();
    sending.finish().success();
    data::assert_same(&up, &b.inbox().join("up.bin"));
    data::assert_same(&down, &a.inbox().join("down.bin"));
}
