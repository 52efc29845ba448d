//! The bytes on the wire. `docs/protocol.md` specifies them for a second implementation.

pub mod chunk;
pub mod codec;
pub mod peer;

/// The ALPN protocol name. A change that an older daemon could not read gets a new one.
pub const ALPN: &[u8] = b"p2p/1";

/// The same protocol on a connection on which both sides yield to whatever else is on its way.
pub const ALPN_BACKGROUND: &[u8] = b"p2p/1-background";
