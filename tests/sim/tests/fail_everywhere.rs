//! A sample of a transfer's operations fail, each once and in a run of its own, and the transfer must end well, or fail
//! cleanly and end well when it is tried again.
//!
//! `cargo run --release -p p2p-sim -- everywhere --kind fail` takes all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod sample;

/// Faults 15 and 16.
#[test]
fn a_transfer_survives_the_failure_of_a_sample_of_its_operations() {
    let runs = sample::of("fail", 23);
    assert!(runs.count("operations that failed, and packets lost") > 20, "{}", runs.said);
    assert!(runs.count("transfers that failed at first: Storage") > 0, "{}", runs.said);
}
