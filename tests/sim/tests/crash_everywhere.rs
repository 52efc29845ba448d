//! A transfer is crashed at a sample of its points, on either side, and must come to its end all the same.
//!
//! `cargo run --release -p p2p-sim -- everywhere --kind crash` takes all of them.

use p2p_sim::everywhere::{Kind, Options, run_part};

/// One test to a program, as a run takes over the process that it is in.
#[test]
fn a_transfer_survives_crashes_at_a_sample_of_its_points() {
    let options = Options { kind: Some(Kind::Crash), every: 41, jobs: 1, show: false, part: None };
    let summary = run_part(&options, 0);
    assert!(summary.problems.is_empty(), "{:#?}", summary.problems);
    assert!(summary.counts["deaths"] >= summary.counts["runs"], "{:?}", summary.counts);
}
