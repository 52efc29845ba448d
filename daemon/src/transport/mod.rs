//! QUIC: endpoints, mutual TLS, and the two kinds of stream. Nothing else names quinn or rustls.
//!
//! A connection is a proof: it exists only after a handshake in which the peer has signed with the key that its
//! Peer ID is the hash of. Whether that peer is trusted is for the session to decide, before any stream.

mod addresses;
mod chunk_stream;
mod congestion;
mod connection;
mod control_stream;
mod endpoint;
mod error;
mod handshakes;
mod network;
mod reset;
mod socket;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use chunk_stream::{ChunkReceiver, ChunkStreamError, InFlight};
pub use congestion::Congestion;
pub(crate) use connection::{Connection, PathStats};
pub(crate) use control_stream::ControlStream;
pub(crate) use endpoint::{Endpoint, Incoming};
pub(crate) use error::TransportError;
pub use network::Network;
pub(crate) use network::SystemNetwork;
pub(crate) use socket::{can_bind, granted_buffers, how_to_raise_buffers};
