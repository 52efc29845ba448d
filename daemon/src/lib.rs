//! The p2p daemon.
#![allow(dead_code, unused_imports)]

pub(crate) mod identity;
mod store;
pub(crate) mod transport;
