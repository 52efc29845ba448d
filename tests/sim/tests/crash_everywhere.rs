//! A transfer is crashed at a sample of its points, on either side, and must come to its end all the same.
//!
//! `cargo run --release -p p2p-sim -- everywhere --kind crash` takes all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod sample;

/// Faults 1, 2, 3 and 5.
#[test]
fn a_transfer_survives_crashes_at_a_sample_of_its_points() {
    let runs = sample::of("crash", 41);
    assert!(runs.count("deaths") > runs.count("runs"), "{}", runs.said);
}
