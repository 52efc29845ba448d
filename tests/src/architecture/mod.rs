//! What reads the sources and complains; `tests/architecture.rs` shows it the workspace.

pub mod faults;
pub mod rules;
mod source;

pub use source::Source;
