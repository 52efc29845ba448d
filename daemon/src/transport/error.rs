//! What can go wrong between two peers, said so that its reader knows what to do.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use p2p_protocol::{
    PeerId,
    limits::{IDLE_TIMEOUT, MAX_TEXT_LEN},
    reason::{Failure, PeerMisbehaved, close},
    wire::ALPN,
};
use quinn::{ConnectError, ConnectionError, ReadError, TransportErrorCode, VarInt, WriteError};

/// Why something with a peer did not work.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum TransportError {
    /// The peer broke the protocol. The connection is to be closed with the fault's code.
    #[error("the peer broke the protocol: {0}")]
    Misbehaved(#[from] PeerMisbehaved),
    /// The peer does not want what this stream carries (any longer).
    #[error("the peer does not want this stream (code {code})")]
    Stopped { code: u32 },
    /// The peer gave up what it was sending on this stream.
    #[error("the peer gave up this stream (code {code})")]
    Reset { code: u32 },
    /// The peer does not read, write or grant what is due.
    #[error("{remote}: the peer {what} for {} s", .after.as_secs())]
    Stalled { remote: SocketAddr, what: &'static str, after: Duration },
    /// The peer closed the connection.
    #[error("{}", by_peer(.remote, *.code, .reason, .own))]
    Closed {
        remote: SocketAddr,
        code: u32,
        /// The peer's words, escaped.
        reason: String,
        /// This side's identity, which the other side's owner needs to know to trust it.
        own: PeerId,
    },
    /// This side closed the connection.
    #[error("{}", here(.remote, *.code))]
    ClosedHere { remote: SocketAddr, code: u32 },
    /// Nothing came back.
    #[error(
        "{remote} did not answer within {} s; is p2pd running there, and is UDP let through?", .after.as_secs()
    )]
    NoAnswer { remote: SocketAddr, after: Duration },
    /// The network has no way there.
    #[error("{remote} cannot be reached from here: {source}")]
    NoRoute { remote: SocketAddr, source: Arc<io::Error> },
    /// A connection that worked went silent.
    #[error("the connection to {remote} was lost: nothing was heard for {} s", IDLE_TIMEOUT.as_secs())]
    Lost { remote: SocketAddr },
    /// The peer no longer knows the connection.
    #[error("{remote} no longer knows the connection: its p2pd was restarted, or has closed it")]
    Restarted { remote: SocketAddr },
    /// The peer takes no connection now.
    #[error("{remote} takes no more connections now; try again later")]
    Busy { remote: SocketAddr },
    /// A peer that dialled had not finished its handshake when many others began one.
    #[error("{remote} was given up: too many handshakes are under way, and its was the oldest")]
    Crowded { remote: SocketAddr },
    /// What runs at the address has no protocol in common with this side.
    #[error(
        "{remote} speaks another protocol, or another version, than {}; the two machines need versions of p2p \
         that fit together",
        String::from_utf8_lossy(ALPN)
    )]
    OtherVersion { remote: SocketAddr },
    /// The peer did not prove that it has the key it shows.
    #[error("{remote} could not prove its identity: {reason}")]
    Unproven { remote: SocketAddr, reason: String },
    /// The peer did not accept this side's proof.
    #[error("{remote} did not accept this machine's identity: {reason}")]
    NotAccepted { remote: SocketAddr, reason: String },
    /// One of the two broke the rules of QUIC.
    #[error("{remote}: the connection broke: {reason}")]
    Broken { remote: SocketAddr, reason: String },
    /// An address that nothing can be sent to.
    #[error("{0} is not an address that can be dialled")]
    BadAddress(SocketAddr),
    /// The endpoint is closed.
    #[error("the daemon is shutting down")]
    ShuttingDown,
    /// A message of this side's own making is too large to send.
    #[error("{0}")]
    TooLarge(#[from] p2p_protocol::wire::codec::TooLarge),
    /// No socket at this address.
    #[error("cannot listen on {address}: {source}{}", hint(.source))]
    Bind { address: SocketAddr, source: Arc<io::Error> },
    /// The identity or the cryptography cannot be used.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

impl TransportError {
    /// The class of failure as exit codes know it.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Closed { code, .. } | Self::ClosedHere { code, .. } => match *code {
                close::NOT_TRUSTED | close::WRONG_PEER => Failure::Refused,
                close::MISBEHAVED.. => Failure::Other,
                _ => Failure::Unreachable,
            },
            Self::Unproven { .. } | Self::NotAccepted { .. } => Failure::Refused,
            Self::Stalled { .. }
            | Self::Reset { .. }
            | Self::NoAnswer { .. }
            | Self::NoRoute { .. }
            | Self::Lost { .. }
            | Self::Restarted { .. }
            | Self::Busy { .. }
            | Self::Crowded { .. }
            | Self::Broken { .. }
            | Self::ShuttingDown => Failure::Unreachable,
            Self::BadAddress(_) => Failure::Usage,
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Failure::Conflict,
            Self::Misbehaved(_)
            | Self::Stopped { .. }
            | Self::OtherVersion { .. }
            | Self::TooLarge(_)
            | Self::Bind { .. }
            | Self::Setup(_) => Failure::Other,
        }
    }
}

fn by_peer(remote: &SocketAddr, code: u32, reason: &str, own: &PeerId) -> String {
    match code {
        close::NOT_TRUSTED => format!(
            "{remote} does not trust this machine; its owner can allow it with `p2p peers trust {own}` there"
        ),
        close::WRONG_PEER => format!("{remote} meant to dial another peer than this machine"),
        close::SHUTDOWN => format!("{remote} is shutting down"),
        close::BUSY => format!("{remote} takes no more connections now; try again later"),
        close::IDLE => format!("{remote} closed the connection"),
        close::DEADLINE => format!("{remote} closed the connection: a deadline passed"),
        close::MISBEHAVED.. => {
            format!("the peer says this side broke the protocol ({remote}: {})", or_code(reason, code))
        }
        _ => format!("{remote} closed the connection: {}", or_code(reason, code)),
    }
}

fn or_code(reason: &str, code: u32) -> String {
    if reason.is_empty() { format!("code {code:#x}") } else { reason.to_owned() }
}

fn here(remote: &SocketAddr, code: u32) -> String {
    match code {
        close::NOT_TRUSTED => format!("the peer at {remote} is not trusted here, or not any longer"),
        close::WRONG_PEER => format!("the peer at {remote} is not the one that was meant"),
        close::SHUTDOWN => "the daemon is shutting down".to_owned(),
        close::MISBEHAVED.. => {
            format!("the connection to {remote} was closed because the peer broke the protocol")
        }
        _ => format!("the connection to {remote} was closed on this side"),
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "; is another p2pd running? `--listen` takes another port, 0 a free one",
        io::ErrorKind::AddrNotAvailable => "; no network interface of this machine has this address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges, `--listen` takes another",
        _ => "",
    }
}

/// What is needed to put an error of quinn's into words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) remote: SocketAddr,
    pub(super) own: PeerId,
    /// The code with which this side closed the connection, if it did.
    pub(super) closed_here: Option<u32>,
}

impl Context {
    pub(super) fn connection(self, error: ConnectionError) -> TransportError {
        let Self { remote, own, closed_here } = self;
        match error {
            ConnectionError::ApplicationClosed(close) => TransportError::Closed {
                remote,
                code: code(close.error_code),
                reason: peer_text(&close.reason),
                own,
            },
            ConnectionError::LocallyClosed => {
                TransportError::ClosedHere { remote, code: closed_here.unwrap_or(close::SHUTDOWN) }
            }
            ConnectionError::TimedOut => TransportError::Lost { remote },
            ConnectionError::Reset => TransportError::Restarted { remote },
            ConnectionError::VersionMismatch => TransportError::OtherVersion { remote },
            ConnectionError::ConnectionClosed(close) => match Cause::of(close.error_code) {
                Cause::Alpn => TransportError::OtherVersion { remote },
                Cause::Refused => TransportError::Busy { remote },
                Cause::Tls => TransportError::NotAccepted { remote, reason: peer_text(&close.reason) },
                Cause::Other => {
                    TransportError::Broken { remote, reason: printable(&close.error_code.to_string()) }
                }
            },
            ConnectionError::TransportError(error) => match Cause::of(error.code) {
                Cause::Alpn => TransportError::OtherVersion { remote },
                Cause::Tls => TransportError::Unproven { remote, reason: printable(&error.reason) },
                Cause::Refused | Cause::Other => {
                    TransportError::Broken { remote, reason: printable(&error.to_string()) }
                }
            },
            ConnectionError::CidsExhausted => TransportError::Busy { remote },
        }
    }

    pub(super) fn connect(self, error: ConnectError) -> TransportError {
        match error {
            ConnectError::EndpointStopping => TransportError::ShuttingDown,
            ConnectError::InvalidRemoteAddress(_) => TransportError::BadAddress(self.remote),
            other => TransportError::Setup(other.to_string()),
        }
    }

    pub(super) fn write(self, error: WriteError) -> TransportError {
        match error {
            WriteError::Stopped(stopped) => TransportError::Stopped { code: code(stopped) },
            WriteError::ConnectionLost(error) => self.connection(error),
            // Writing after the end cannot be expressed: the sender is consumed, and 0-RTT is off.
            WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                TransportError::Reset { code: close::STREAM_ABORTED }
            }
        }
    }

    pub(super) fn read(self, error: ReadError) -> TransportError {
        match error {
            ReadError::Reset(reset) => TransportError::Reset { code: code(reset) },
            ReadError::ConnectionLost(error) => self.connection(error),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                TransportError::Reset { code: close::STREAM_ABORTED }
            }
        }
    }
}

/// What a QUIC transport error code is about.
enum Cause {
    Alpn,
    Tls,
    Refused,
    Other,
}

impl Cause {
    fn of(code: TransportErrorCode) -> Self {
        /// The TLS alert `no_application_protocol` (RFC 7301).
        const NO_APPLICATION_PROTOCOL: u8 = 120;
        if code == TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL) {
            Self::Alpn
        } else if (0x100..0x200).contains(&u64::from(code)) {
            Self::Tls
        } else if code == TransportErrorCode::CONNECTION_REFUSED {
            Self::Refused
        } else {
            Self::Other
        }
    }
}

/// An application code. Ours fit; what does not is as good as any unknown one.
pub(super) fn code(code: VarInt) -> u32 {
    u32::try_from(code.into_inner()).unwrap_or(u32::MAX)
}

fn peer_text(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes))
}

fn printable(text: &str) -> String {
    let shown: String = text.chars().take(MAX_TEXT_LEN).collect();
    shown.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
}
