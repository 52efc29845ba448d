//! Whole transfers between real daemons, asked for with the real command line: the contract, and what happens when
//! things break.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod away;
mod confine;
mod crash;
mod doctor;
mod dry_run;
mod findings;
mod folders;
mod history;
mod hooks;
mod identity;
mod in_process;
mod inbox;
mod invite;
mod jobs;
mod lifecycle;
mod limited_by;
mod limits;
mod load;
mod names;
mod network;
mod output;
mod parts;
mod progressive;
mod queue;
mod ranges;
mod rules;
mod scarcity;
mod secrets;
mod service;
mod shares;
mod source;
mod space;
mod stdin;
mod supervised;
mod swapped;
mod tickets;
mod together;
mod transfer;
mod trust;
mod unsealed;
mod update;
