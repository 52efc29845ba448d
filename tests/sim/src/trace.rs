//! What happened in a run, in order: as one hash, and the last lines of it for people.

use std::{collections::VecDeque, fmt};

/// Lines that are kept.
const KEPT: usize = 400;

/// The record of a run.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    last: VecDeque<String>,
    print: bool,
}

impl Trace {
    /// Also prints every line from now on.
    pub fn print(&mut self) {
        self.print = true;
    }

    /// Notes what happened at some time, in nanoseconds since the beginning.
    pub fn note(&mut self, at: u64, what: fmt::Arguments<'_>) {
        let line = format!("{:>12.6} {what}", at as f64 / 1e9);
        self.hasher.update(line.as_bytes()).update(b"\n");
        if self.print {
            eprintln!("{line}");
        }
        if self.last.len() >= KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// The hash of all that was noted.
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex()[..32].to_owned()
    }

    /// The last lines.
    pub fn tail(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
