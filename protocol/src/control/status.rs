//! What a daemon tells of itself, and of the way to a peer.

use serde::{Deserialize, Serialize};

use super::PeerInfo;
use crate::{PeerId, rate::InForce};

/// The daemon's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Process number.
    pub pid: u32,
    /// This machine's identity.
    pub peer: PeerId,
    /// Addresses that are listened on.
    pub listen: Vec<String>,
    /// The state folder.
    pub home: String,
    /// The inbox.
    pub inbox: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Transfers that are moving or waiting.
    pub unfinished: u64,
    /// Open connections.
    pub connections: u64,
    /// Shared files.
    pub shares: u64,
    /// What it has given up.
    pub confinement: Confinement,
    /// The limits on bandwidth that hold now.
    pub limits: InForce,
}

/// What a daemon has given up, so that a hole in it would be worth less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Where it may write.
    pub writing: Writing,
    /// Whether no program that it starts can get rights that it has not.
    pub no_new_privs: bool,
    /// Whether another process of its user can read its memory, and a crash writes that to disk.
    pub dumpable: bool,
}

/// Where a daemon may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writing {
    /// Wherever its user may.
    Anywhere,
    /// The same, although it was to be confined: the kernel cannot do that.
    NotSupported,
    /// In some folders, as Linux's Landlock sees to.
    Landlock {
        /// The version of Landlock.
        abi: u32,
        /// The folders.
        folders: Vec<String>,
        /// Whether TCP is refused too.
        tcp_refused: bool,
    },
}

/// What came of trying the way to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Who is there, and what it is here.
    pub peer: PeerInfo,
    /// Where.
    pub address: String,
    /// Microseconds until there was a connection, its name's resolution and the handshake; `None` where one was open.
    pub connect_us: Option<u64>,
    /// Microseconds of a round trip, as measured so far.
    pub round_trip_us: u64,
    /// The largest packet known to get through so far, in bytes of UDP payload.
    pub mtu: u16,
    /// The protocol that both sides speak.
    pub protocol: String,
    /// Whether the peer trusts this daemon, where that shows.
    pub trusts: Option<bool>,
    /// The version of this daemon.
    pub version: String,
    /// The version of the peer's, where it tells.
    pub peer_version: Option<String>,
    /// Bytes a second from there to here in a short burst, where it was measured.
    pub down: Option<u64>,
    /// The same from here to there.
    pub up: Option<u64>,
}
