//! What two p2p daemons, and the command line with its own daemon, say to each other, and the
//! decisions that follow from it.
//!
//! This crate is pure: it knows no socket, no file system, no clock and no randomness. Time comes in
//! as an argument, bytes come in as slices, and what should happen comes out as values. The daemon's
//! `session` module is the only place where such a value becomes an effect.

mod alike;
pub mod batch;
pub mod bitmap;
pub mod control;
pub mod geometry;
pub mod ids;
pub mod layout;
pub mod limits;
pub mod manifest;
pub mod name;
pub mod plan;
pub mod policy;
pub mod proof;
pub mod queue;
pub mod rate;
pub mod reason;
pub mod rules;
pub mod shown;
pub mod succession;
pub mod throttle;
pub mod token;
pub mod transfer;
pub mod tree;
pub mod waits;
pub mod wire;

pub use batch::{Along, Answer, Batch, BatchId};
pub use bitmap::{ChunkRange, ChunkSet};
pub use geometry::Geometry;
pub use ids::{FileId, PeerId, ResumeKey};
pub use layout::Layout;
pub use manifest::Manifest;
pub use name::SafeName;
pub use plan::Plan;
pub use token::Token;
pub use tree::Cv;
