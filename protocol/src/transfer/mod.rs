//! The two sides of a conversation after an offer was accepted, as state machines without I/O.
//!
//! Time is an argument, inputs are what happened, actions are what should happen. The daemon's session
//! drivers carry the actions out; tests drive the machines against each other instead.
//!
//! ```text
//!  provider                                          receiver
//!  ────────                                          ────────
//!  (Top, where there are several pages) ───────────▶ check against the File ID
//!                                    ◀── NeedPages ─ for the chunks that come next
//!  Page ───────────────────────────────────────────▶ check against the top
//!  queue ◀───────────────────────────────── Want ──── chunks, and how many may be unverified at once
//!  as many as credit and path allow ═══ chunk ═════▶ admit ▶ (verify, store) ▶ ChunkStored
//!  progress ◀─────────────────────────── Verified ───
//!  (Seal, where the offer had no File ID, and Top) ▶ compare what came with the list
//!  Completed ◀─────────────────────────── Done ────── (publish) once every chunk is verified
//! ```

mod pages;
mod provider;
mod receiver;
mod schedule;
mod stats;
mod unhashed;

pub use provider::{Provider, ProviderAction, ProviderInput};
pub use receiver::{Admission, Receiver, ReceiverAction, ReceiverInput, ReceiverStart};

use crate::{ChunkRange, Geometry, limits::EAGER_BYTES, wire::peer::Want};

/// What an eager fetch wants of a file before its receiver has seen the offer: the first chunks, at least one.
fn eager_want(geometry: Geometry) -> Want {
    let count = ((EAGER_BYTES / geometry.chunk_len()) as u32).clamp(1, geometry.chunks());
    Want { ranges: vec![ChunkRange { start: 0, count }], credit: count }
}

/// Time since the conversation began, on a clock that never goes back.
pub type Now = std::time::Duration;

#[cfg(test)]
mod tests;
