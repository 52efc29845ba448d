//! An older or damaged copy is brought up to date: what is right in it is not moved, and it stays until the new one takes
//! its place.

use std::{fs, io::Write, path::Path};

use p2p_tests::{
    Pair, data,
    data::{CHUNK, MIB},
    words,
};

/// Shares a file, and gives the other side the same under a name of its own.
fn shared(pair: &Pair, len: u64) -> (String, std::path::PathBuf, std::path::PathBuf) {
    let source = pair.a.new_file("whole.bin", 1, len);
    let id = pair.a.cli().run(words!["share", source]).success().text();
    let copy = pair.b.file("copy.bin");
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::copy(&source, &copy).unwrap();
    (id, source, copy)
}

fn is_left_alone(folder: &Path) {
    assert!(!folder.join(".p2p").exists(), "nothing is left beside it");
}

#[test]
fn a_damaged_file_is_mended_by_the_chunks_that_are_damaged() {
    let pair = Pair::new();
    let (id, source, copy) = shared(&pair, 8 * MIB);
    data::flip(&copy, 3 * CHUNK + 5);
    data::flip(&copy, 9 * CHUNK);
    let check = words!["verify", copy, id, "--repair", "--from", pair.a.address()];
    let mended = pair.b.cli().json(check.clone()).success();
    assert_eq!(mended.moved(), 2 * CHUNK);
    data::assert_same(&source, &copy);
    is_left_alone(copy.parent().unwrap());
    let intact = pair.b.cli().json(check.clone()).success();
    assert!(intact.events.iter().all(|event| event["event"] != "done"), "{intact}");
}

#[test]
fn a_copy_that_is_known_and_was_damaged_since_is_mended() {
    let pair = Pair::new();
    let (id, source, copy) = shared(&pair, 2 * MIB);
    // The daemon gets to know it as intact.
    let modified = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::open(&copy).unwrap().set_modified(modified).unwrap();
    let update = words!["fetch", id, "--from", pair.a.address(), "--update", "-o", copy];
    assert_eq!(pair.b.cli().json(update.clone()).success().moved(), 0);
    data::flip(&copy, 7);
    fs::File::options().write(true).open(&copy).unwrap().set_modified(modified).unwrap();
    assert_eq!(pair.b.cli().json(update.clone()).success().moved(), CHUNK);
    data::assert_same(&source, &copy);
}

#[test]
fn an_older_file_of_another_length_is_brought_up_to_date() {
    for (older, missing) in [(3 * MIB, 5 * MIB), (11 * MIB, 0)] {
        let pair = Pair::new();
        let (id, source, copy) = shared(&pair, 8 * MIB);
        let bytes = fs::read(&source).unwrap();
        let mut old = bytes[..bytes.len().min(older as usize)].to_vec();
        old.resize(older as usize, 7);
        fs::write(&copy, old).unwrap();
        let update = words!["fetch", id, "--from", pair.a.address(), "--update", "-o", copy];
        assert_eq!(pair.b.cli().json(update.clone()).success().moved(), missing);
        data::assert_same(&source, &copy);
        is_left_alone(copy.parent().unwrap());
    }
}

#[test]
fn where_nothing_is_an_update_is_a_fetch() {
    let pair = Pair::new();
    let (id, source, copy) = shared(&pair, MIB);
    fs::remove_file(&copy).unwrap();
    let update = words!["fetch", id, "--from", pair.a.address(), "--update", "-o", copy];
    assert_eq!(pair.b.cli().json(update.clone()).success().moved(), MIB);
    data::assert_same(&source, &copy);
}

#[test]
fn an_older_folder_is_brought_up_to_date_by_the_files_that_differ() {
    let pair = Pair::new();
    let source = pair.a.file("tree");
    for n in 0..20 {
        let path = source.join(format!("{}/{n}", n % 3));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data::random(n, 1000 + n)).unwrap();
    }
    let copy = pair.b.file("copy");
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    let id = pair.a.cli().run(words!["share", source]).success().text();
    let update = words!["fetch", id, "--from", pair.a.address(), "--update", "-o", copy];
    pair.b.cli().json(update.clone()).success();
    fs::write(copy.join("1/4"), "damaged").unwrap();
    fs::remove_file(copy.join("2/5")).unwrap();
    fs::write(copy.join("2/more"), "not in it").unwrap();
    let mended =
        pair.b.cli().json(words!["verify", copy, id, "--repair", "--from", pair.a.address()]).success();
    assert_eq!(mended.moved(), 1004 + 1005);
    for n in 0..20 {
        let path = format!("{}/{n}", n % 3);
        data::assert_same(&source.join(&path), &copy.join(&path));
    }
    // What is nobody's but its owner's is not taken away.
    assert!(!copy.join("2/more").exists());
    let kept = pair.b.file("copy (left over)");
    assert_eq!(fs::read(kept.join("2/more")).unwrap(), b"not in it");
    assert_eq!(data::files_below(&kept).len(), 1);
    assert_eq!(mended.event("left_out")["path"], kept.to_str().unwrap());
    fs::remove_dir_all(kept).unwrap();
    is_left_alone(copy.parent().unwrap());
}

#[test]
fn of_a_long_file_in_a_folder_only_the_chunks_that_differ_are_moved() {
    let pair = Pair::new();
    let source = pair.a.file("tree");
    fs::create_dir_all(source.join("sub")).unwrap();
    let (long, other) = (source.join("sub/long"), source.join("other"));
    fs::write(&long, data::random(1, 8 * MIB)).unwrap();
    fs::write(&other, data::random(2, 2 * MIB)).unwrap();
    let same = |copy: &Path| {
        data::assert_same(&long, &copy.join("sub/long"));
        data::assert_same(&other, &copy.join("other"));
    };
    let send = words!["send", source, "--to", pair.b.address()];
    pair.a.cli().json(send.clone()).success();
    // Changed within, and longer.
    data::flip(&long, 3 * CHUNK + 5);
    fs::OpenOptions::new().append(true).open(&long).unwrap().write_all(&[7; 10]).unwrap();
    assert_eq!(pair.a.cli().json(send).success().moved(), CHUNK + 10);
    same(&pair.b.inbox().join("tree (1)"));

    let id = pair.a.cli().run(words!["share", source]).success().text();
    // Where no newer copy is beside it.
    let copy = pair.b.file("copy");
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::rename(pair.b.inbox().join("tree"), &copy).unwrap();
    let update = words!["fetch", id, "--from", pair.a.address(), "--update", "-o", copy];
    assert_eq!(pair.b.cli().json(update).success().moved(), CHUNK + 10);
    same(&copy);
    data::flip(&copy.join("sub/long"), 0);
    data::flip(&copy.join("other"), MIB);
    let repair = words!["verify", copy, id, "--repair", "--from", pair.a.address()];
    assert_eq!(pair.b.cli().json(repair).success().moved(), 2 * CHUNK);
    same(&copy);
    is_left_alone(copy.parent().unwrap());
}

#[test]
fn only_a_file_takes_a_files_place() {
    let pair = Pair::new();
    let (id, _, copy) = shared(&pair, MIB);
    fs::remove_file(&copy).unwrap();
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("precious"), "x").unwrap();
    let update = words!["fetch", id, "--from", pair.a.address(), "--update", "-o", copy];
    let refused = pair.b.cli().json(update.clone());
    assert_eq!(refused.code, Some(2), "{refused}");
    assert_eq!(fs::read(copy.join("precious")).unwrap(), b"x");
    assert!(
        pair.b.partials().is_empty() && !copy.parent().unwrap().join(".p2p").exists(),
        "nothing has moved"
    );
}
