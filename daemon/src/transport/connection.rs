//! A connection with a peer that has proved who it is.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use p2p_protocol::{PeerId, limits::TRANSFER_PROGRESS_DEADLINE, reason::close};
use quinn::VarInt;
use rustls::pki_types::CertificateDer;

use super::{
    chunk_stream::{ChunkReceiver, ChunkSender},
    congestion::Class,
    control_stream::ControlStream,
    error::{Context, TransportError},
    socket, tls,
};

/// What is derived from a handshake so that a proof can be bound to its connection.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-p2p-claim";

/// A connection. Clones are the same connection; it closes when the last of them and of its streams is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    quic: quinn::Connection,
    shared: Arc<Shared>,
}

/// Bytes that have gone over a path by the time that its rate is believed.
const RATE_KNOWN_AFTER: u64 = 1 << 20;

#[derive(Debug)]
struct Shared {
    id: u64,
    peer: PeerId,
    own: PeerId,
    /// The code with which this side closed the connection.
    closed_here: OnceLock<u32>,
    class: Class,
}

/// How the way to the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathStats {
    /// Current estimate of the round-trip time.
    pub(crate) rtt: Duration,
    /// Bytes that may be in flight now.
    pub(crate) window: u64,
    /// Frames with stream data that were sent. They stop when the peer grants no more and the path is gone.
    pub(crate) stream_frames: u64,
}

impl Connection {
    /// From a completed handshake, the only place where a peer's identity may come from.
    pub(super) fn new(quic: quinn::Connection, own: PeerId, class: Class) -> Result<Self, TransportError> {
        let identity =
            quic.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let Some(peer) = identity.and_then(|certificates| tls::peer_id(&certificates)) else {
            quic.close(close::NOT_TRUSTED.into(), b"");
            let remote = socket::canonical(quic.remote_address());
            return Err(TransportError::Unproven { remote, reason: "no certificate".to_owned() });
        };
        static MADE: AtomicU64 = AtomicU64::new(0);
        let id = MADE.fetch_add(1, Ordering::Relaxed);
        Ok(Self { quic, shared: Arc::new(Shared { id, peer, own, closed_here: OnceLock::new(), class }) })
    }

    /// Who is at the other end.
    pub(crate) fn peer_id(&self) -> PeerId {
        self.shared.peer
    }

    /// Who is at the other end had these keys before, the latest first, and each has signed for the next.
    pub(crate) fn predecessors(&self) -> Vec<PeerId> {
        let identity = self.quic.peer_identity();
        let identity = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        identity.map(|certificates| tls::predecessors(&certificates)).unwrap_or_default()
    }

    /// What the other end knows this side by.
    pub(crate) fn own_id(&self) -> PeerId {
        self.shared.own
    }

    /// What both ends, and nobody else, derive from this connection's handshake (RFC 8446, 7.5).
    pub(crate) fn exporter(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        self.quic.export_keying_material(&mut bytes, EXPORTER_LABEL, b"").ok().map(|()| bytes)
    }

    /// Whether what goes from here yields to whatever else is on the way.
    pub(crate) fn is_background(&self) -> bool {
        self.shared.class.is_background()
    }

    /// A number that no other connection of this process has.
    pub(crate) fn id(&self) -> u64 {
        self.shared.id
    }

    /// Where the peer is now. It may change while the connection lives.
    pub(crate) fn remote_addr(&self) -> SocketAddr {
        socket::canonical(self.quic.remote_address())
    }

    /// Lets the peer send this many bytes ahead of what is read here. Until then it may only a few. What this side has dialled is
    /// wide from the start.
    pub(crate) fn widen(&self, window: u64) {
        self.quic.set_receive_window(VarInt::from_u64(window).unwrap_or(VarInt::MAX));
    }

    /// Closes the connection at once, whatever is under way on it. The peer learns code and reason.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        // The first close counts, as it does for QUIC.
        let _ = self.shared.closed_here.set(code);
        self.quic.close(code.into(), reason.as_bytes());
    }

    /// Why the connection is closed, if it is.
    pub(crate) fn is_closed(&self) -> Option<TransportError> {
        self.quic.close_reason().map(|error| self.context().connection(error))
    }

    /// Waits until the connection is closed, by whichever side or fate.
    pub(crate) async fn closed(&self) -> TransportError {
        let error = self.quic.closed().await;
        self.context().connection(error)
    }

    /// How the way to the peer is now.
    pub(crate) fn stats(&self) -> PathStats {
        let stats = self.quic.stats();
        PathStats { rtt: stats.path.rtt, window: stats.path.cwnd, stream_frames: stats.frame_tx.stream }
    }

    /// About how many bytes a second the path takes, once enough went over it from here for that to be known. The
    /// window has room for a burst on top of what is on the path, so half of it is taken for that.
    pub(crate) fn rate(&self) -> Option<u64> {
        let stats = self.quic.stats();
        let known = stats.udp_tx.bytes >= RATE_KNOWN_AFTER && !stats.path.rtt.is_zero();
        known.then(|| (stats.path.cwnd as f64 / 2.0 / stats.path.rtt.as_secs_f64()) as u64)
    }

    /// The largest packet that is known to get through so far, in bytes of UDP payload.
    pub(crate) fn mtu(&self) -> u16 {
        self.quic.stats().path.current_mtu
    }

    /// Opens the control stream of a new transfer. The peer sees it with the first message. Waits while the peer
    /// has as many transfers open as it takes on one connection, though not for ever.
    pub(crate) async fn open_control(&self) -> Result<ControlStream, TransportError> {
        let after = TRANSFER_PROGRESS_DEADLINE;
        match tokio::time::timeout(after, self.quic.open_bi()).await {
            Ok(Ok(streams)) => Ok(ControlStream::new(self, streams)),
            Ok(Err(error)) => Err(self.context().connection(error)),
            Err(_) => Err(self.stalled("has taken no further transfer", after)),
        }
    }

    /// The next transfer that the peer opens. Dropping the future loses nothing.
    pub(crate) async fn accept_control(&self) -> Result<ControlStream, TransportError> {
        match self.quic.accept_bi().await {
            Ok(streams) => Ok(ControlStream::new(self, streams)),
            Err(error) => Err(self.context().connection(error)),
        }
    }

    /// Opens a stream for one chunk. Waits while the peer has as many open as it takes.
    pub(crate) async fn open_chunk(&self) -> Result<ChunkSender, TransportError> {
        match self.quic.open_uni().await {
            Ok(stream) => Ok(ChunkSender::new(self, stream)),
            Err(error) => Err(self.context().connection(error)),
        }
    }

    /// The next chunk stream that the peer opens. Dropping the future loses nothing.
    pub(crate) async fn accept_chunk(&self) -> Result<ChunkReceiver, TransportError> {
        match self.quic.accept_uni().await {
            Ok(stream) => Ok(ChunkReceiver::new(self, stream)),
            Err(error) => Err(self.context().connection(error)),
        }
    }

    pub(super) fn context(&self) -> Context {
        Context {
            remote: self.remote_addr(),
            own: self.shared.own,
            closed_here: self.shared.closed_here.get().copied(),
        }
    }

    pub(super) fn stalled(&self, what: &'static str, after: Duration) -> TransportError {
        TransportError::Stalled { remote: self.remote_addr(), what, after }
    }

    /// What is beneath, for tests that break the rules.
    #[cfg(test)]
    pub(super) fn quic(&self) -> &quinn::Connection {
        &self.quic
    }
}
