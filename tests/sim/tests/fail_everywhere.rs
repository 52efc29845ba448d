//! A sample of a transfer's operations fail, each once and in a run of its own, and the transfer must end well, or fail
//! cleanly and end well when it is tried again.
//!
//! `cargo run --release -p p2p-sim -- everywhere --kind fail` takes all of them.

use p2p_sim::everywhere::{Kind, Options, run_part};

/// One test to a program, as a run takes over the process that it is in.
#[test]
fn a_transfer_survives_the_failure_of_a_sample_of_its_operations() {
    let options = Options { kind: Some(Kind::Fail), every: 23, jobs: 1, show: false, part: None };
    let summary = run_part(&options, 0);
    assert!(summary.problems.is_empty(), "{:#?}", summary.problems);
    assert!(summary.counts["operations that failed, and packets lost"] > 20, "{:?}", summary.counts);
}
