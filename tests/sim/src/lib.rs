//! A simulated world in which real daemons run.
//!
//! Everything here panics on trouble: it runs in tests only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

pub mod disk;
