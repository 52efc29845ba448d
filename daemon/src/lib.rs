//! The p2p daemon.
#![allow(dead_code, unused_imports)]

pub(crate) mod args;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod home;
pub(crate) mod identity;
pub(crate) mod logging;
pub(crate) mod peers;
pub(crate) mod shutdown;
pub(crate) mod text;
pub(crate) mod transport;
