//! A simulated world in which real daemons run.
//!
//! `disk` and `network` are what a daemon stands on, `takeover` makes the process's own clock and randomness part of it.
//! `host` is one machine, `world` all of them and time. `plan` is what a seed means, `run` carries it out, `transfer` is one
//! thing that is moved, `requests` are what hosts are asked for, and `oracle` says what is wrong. `everywhere` is one transfer, crashed
//! and failing at every point. `kill9` is not simulated: real processes, killed.
//!
//! Everything here panics on trouble: it runs in tests only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

pub mod content;
pub mod disk;
pub mod everywhere;
pub mod host;
pub mod kill9;
pub mod network;
pub mod oracle;
pub mod plan;
pub mod requests;
pub mod run;
pub mod takeover;
pub mod trace;
pub mod transfer;
pub mod world;
