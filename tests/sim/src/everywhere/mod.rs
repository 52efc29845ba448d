//! Reference transfers, crashed at every point, and with every operation failing once.
//!
//! A reference transfer is played once without trouble, to count what each host does to its disk and the packets
//! between them. Then it is played again for each of them, with a crash or a failure just there.

mod cases;
mod stage;

pub use cases::{Case, Kind, Options, Summary, run, run_part};
pub use stage::{Moment, Ops, Played, Reference, Trouble, play};
