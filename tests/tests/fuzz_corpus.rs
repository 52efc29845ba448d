//! The corpora of the fuzz targets, replayed: what a fuzzer once found interesting, or wrong, holds in every build.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::{fs, panic, path::Path};

use p2p_tests::fuzz;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for path in files {
        let bytes = fs::read(&path).unwrap();
        if panic::catch_unwind(|| check(&bytes)).is_err() {
            panic!("{} fails, as told above", path.display());
        }
    }
}

#[test]
fn frames_headers_and_sets() {
    replay("wire", fuzz::wire);
}

#[test]
fn lists_and_chunks() {
    replay("lists", fuzz::lists);
}

#[test]
fn folders_plans_and_proofs() {
    replay("folders", fuzz::folders);
}

#[test]
fn names_and_identities() {
    replay("names", fuzz::names);
}

#[test]
fn tokens() {
    replay("tokens", fuzz::tokens);
}

#[test]
fn the_receiver() {
    replay("receiver", fuzz::receiver);
}

#[test]
fn the_provider() {
    replay("provider", fuzz::provider);
}
