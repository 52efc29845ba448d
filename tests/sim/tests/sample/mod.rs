//! A sample of all points, taken by the program, as each of its processes gives its clock and its randomness away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::process::Command;

/// What the program said.
pub(crate) struct Runs {
    pub(crate) said: String,
}

/// Runs every `every`-th point.
pub(crate) fn of(kind: &str, every: u64) -> Runs {
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["everywhere", "--kind", kind, "--every", &every.to_string()])
        .output()
        .expect("the program can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Runs { said }
}

impl Runs {
    /// How often something happened.
    pub(crate) fn count(&self, what: &str) -> u64 {
        let counts = self.said.lines().filter_map(|line| line.trim().split_once(' '));
        counts.filter(|(_, named)| *named == what).filter_map(|(count, _)| count.parse::<u64>().ok()).sum()
    }
}
