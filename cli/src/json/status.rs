//! What a daemon tells of itself.

use p2p_protocol::{
    PeerId,
    control::{Status, Writing},
    rate::{InForce, Limits, Rate, Source},
};
use serde::Serialize;

use super::text;

/// The daemon's state.
#[derive(Debug, Serialize)]
pub(crate) struct StatusLine<'a> {
    version: &'a str,
    pid: u32,
    #[serde(serialize_with = "text")]
    peer: PeerId,
    listen: &'a [String],
    home: &'a str,
    inbox: &'a str,
    uptime_s: u64,
    unfinished: u64,
    connections: u64,
    shares: u64,
    confinement: ConfinementLine<'a>,
    no_new_privs: bool,
    dumpable: bool,
    limits: LimitsLine,
}

/// The limits on bandwidth that hold, in bytes per second.
#[derive(Debug, Serialize)]
pub(crate) struct LimitsLine {
    up_bps: Option<u64>,
    down_bps: Option<u64>,
    source: Source,
}

impl From<&InForce> for LimitsLine {
    fn from(in_force: &InForce) -> Self {
        let InForce { limits: Limits { up, down }, source } = *in_force;
        Self { up_bps: up.map(Rate::bytes), down_bps: down.map(Rate::bytes), source }
    }
}

impl<'a> From<&'a Status> for StatusLine<'a> {
    fn from(status: &'a Status) -> Self {
        Self {
            version: &status.version,
            pid: status.pid,
            peer: status.peer,
            listen: &status.listen,
            home: &status.home,
            inbox: &status.inbox,
            uptime_s: status.uptime_s,
            unfinished: status.unfinished,
            connections: status.connections,
            shares: status.shares,
            confinement: ConfinementLine::from(&status.confinement.writing),
            no_new_privs: status.confinement.no_new_privs,
            dumpable: status.confinement.dumpable,
            limits: (&status.limits).into(),
        }
    }
}

/// Where the daemon may write.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum ConfinementLine<'a> {
    None,
    Unsupported,
    Landlock { abi: u32, write_only_in: &'a [String], tcp_refused: bool },
}

impl<'a> From<&'a Writing> for ConfinementLine<'a> {
    fn from(writing: &'a Writing) -> Self {
        match writing {
            Writing::Anywhere => Self::None,
            Writing::NotSupported => Self::Unsupported,
            Writing::Landlock { abi, folders, tcp_refused } => {
                Self::Landlock { abi: *abi, write_only_in: folders, tcp_refused: *tcp_refused }
            }
        }
    }
}
