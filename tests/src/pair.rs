//! Two daemons that trust each other, with or without a network between them that can be bad.

use crate::{Daemon, Relay};

/// Two daemons that trust each other.
#[derive(Debug)]
pub struct Pair {
    /// One of them, mostly the sender.
    pub a: Daemon,
    /// The other, mostly the receiver.
    pub b: Daemon,
}

impl Pair {
    /// Two new daemons.
    pub fn new() -> Self {
        Self::of(Daemon::start("a"), Daemon::start("b"))
    }

    /// These daemons.
    pub fn of(a: Daemon, b: Daemon) -> Self {
        trust_each_other(&[&a, &b]);
        Self { a, b }
    }

    /// The same, and the way to `b` when dialled through the relay.
    pub fn with_relay() -> (Self, Relay) {
        let pair = Self::new();
        let relay = Relay::to(pair.b.address());
        (pair, relay)
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}

/// Every one of these daemons trusts every other.
pub fn trust_each_other(daemons: &[&Daemon]) {
    for one in daemons {
        for other in daemons.iter().filter(|other| other.peer() != one.peer()) {
            one.trust(other);
        }
    }
}
