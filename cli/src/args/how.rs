//! How a transfer is to be done, as it is typed.

use clap::{Args, ValueEnum};
use p2p_protocol::{control::Wishes, queue::Priority, rate::Rate};

/// How a transfer is to be done.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct How {
    /// What comes first where not all can run at a time
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) priority: Option<Level>,
    /// How fast it may go at most, like 500KiB/s, 10MiB/s or 100Mbit/s
    #[arg(long, value_name = "RATE")]
    pub(crate) limit: Option<Rate>,
    /// Yield to whatever else is on the way, and come after all other transfers
    #[arg(long)]
    pub(crate) background: bool,
}

impl From<How> for Wishes {
    fn from(how: How) -> Self {
        Self { priority: how.priority.map(Priority::from), limit: how.limit, background: how.background }
    }
}

/// What a transfer comes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Before all others.
    High,
    /// As most.
    Normal,
    /// When nothing else waits.
    Low,
}

impl From<Level> for Priority {
    fn from(level: Level) -> Self {
        match level {
            Level::High => Self::High,
            Level::Normal => Self::Normal,
            Level::Low => Self::Low,
        }
    }
}
