//! What the tests with real processes stand on: daemons and commands in temporary homes, a network between
//! them that can be bad, data to move, and peers that mean harm.
//!
//! Everything here panics on trouble, with the output of every process involved: it runs in tests only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

pub mod architecture;
pub mod binaries;
pub mod cli;
pub mod clock;
pub mod control;
pub mod daemon;
pub mod data;
pub mod ext4;
pub mod fuzz;
pub mod hostile;
pub mod in_process;
pub mod link;
pub mod pair;
pub mod relay;
pub mod tmpfs;
pub mod until;

pub use cli::{Cli, Output, Running};
pub use daemon::Daemon;
pub use pair::{Pair, trust_each_other};
pub use relay::Relay;

/// Words of a command line, of whatever is text or a path.
#[macro_export]
macro_rules! words {
    ($($word:expr),* $(,)?) => {
        [$(::std::ffi::OsString::from(::std::convert::AsRef::<::std::ffi::OsStr>::as_ref(&$word))),*]
    };
}
