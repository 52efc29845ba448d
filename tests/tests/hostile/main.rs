//! Peers that lie, and strangers that shoot at the port. Whatever they do, the daemon lives, names what they did,
//! writes nothing where it must not, and goes on with everybody else: `Scene::check` looks at all of that after
//! every attack.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod chunks;
mod claims;
mod datagrams;
mod dry_run;
mod early;
mod folders;
mod frames;
mod keys;
mod listing;
mod lists;
mod masses;
mod measure;
mod offers;
mod packets;
mod quotas;
mod receiver;
mod steps;
mod together;
mod unsealed;
mod yes;
