//! The p2p daemon.
#![allow(dead_code, unused_imports)]

pub(crate) mod identity;
pub(crate) mod transport;
