//! The two state machines.
