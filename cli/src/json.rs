//! The lines of `--json`. Keys may be added; none is renamed, and `event` comes first.

mod batch;
mod entry;
mod missing;
mod planned;
mod status;
mod ticket;

use std::io;

use p2p_protocol::{
    FileId, PeerId,
    control::{Direction, PeerInfo, Progress, Standing, State, Summary, WaitReason},
    name::printable,
    queue::Priority,
    rate::Rate,
    reason::ChunkFailure,
    rules::{Acceptance, Exists, Rules},
    waits::{Shares, Stage},
    wire::peer::Shared,
};
use serde::{Deserialize, Serialize, Serializer};

pub(crate) use batch::BatchLine;
pub(crate) use entry::Entry;
pub(crate) use missing::{FailedChunk, Missing};
pub(crate) use planned::{EntryLine, PlannedLine};
pub(crate) use status::{LimitsLine, StatusLine};
pub(crate) use ticket::TicketLine;

use crate::format;

/// A line.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    Listed(ListedShare<'a>),
    FolderEntry(EntryLine<'a>),
    Planned(PlannedLine<'a>),
    Queued {
        transfer: u64,
        /// Where there are several, which of them it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        batch: Option<BatchLine>,
    },
    Started {
        transfer: u64,
        direction: Direction,
        name: &'a str,
        #[serde(serialize_with = "text")]
        peer: PeerId,
        total_bytes: u64,
        resumed_bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        batch: Option<BatchLine>,
    },
    Waiting {
        transfer: u64,
        reason: Wait,
    },
    Progress {
        transfer: u64,
        #[serde(flatten)]
        numbers: Numbers,
    },
    ChunkFailed {
        transfer: u64,
        chunk: u32,
        #[serde(serialize_with = "text")]
        peer: PeerId,
        reason: &'static str,
    },
    LeftOut {
        transfer: u64,
        path: &'a str,
        reason: &'a str,
    },
    SameName {
        transfer: u64,
        paths: &'a [String; 2],
    },
    Retrying {
        transfer: u64,
        attempt: u32,
        in_s: f64,
        reason: &'a str,
    },
    Done {
        transfer: u64,
        #[serde(serialize_with = "text")]
        file_id: FileId,
        path: &'a str,
        bytes: u64,
        moved_bytes: u64,
        seconds: f64,
        fetch: Option<&'a str>,
        #[serde(serialize_with = "some_text")]
        part_of: Option<FileId>,
    },
    Failed {
        transfer: Option<u64>,
        code: &'static str,
        message: &'a str,
        exit_code: u8,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        hints: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_text")]
        key: Option<PeerId>,
    },
    /// How the transfers of one command ended.
    Summary {
        transfers: u64,
        done: u64,
        failed: u64,
        bytes: u64,
        moved_bytes: u64,
        seconds: f64,
        exit_code: u8,
    },
    /// Ctrl-C: the transfer goes on.
    Interrupted {
        transfer: Option<u64>,
        exit_code: u8,
    },
    /// `--timeout`: the transfer goes on.
    Timeout {
        transfer: Option<u64>,
        exit_code: u8,
    },
    Shared {
        #[serde(serialize_with = "text")]
        file_id: FileId,
        path: &'a str,
        audience: &'a str,
    },
    Unshared {
        #[serde(serialize_with = "text")]
        file_id: FileId,
    },
    Cancelled {
        transfer: u64,
        left: Option<&'a str>,
    },
    Paused {
        transfer: u64,
    },
    Resumed {
        transfer: u64,
    },
    Limit {
        /// The transfer's number.
        transfer: u64,
        /// How fast it may go.
        limit_bps: Option<u64>,
    },
    Priority {
        transfer: u64,
        priority: Priority,
    },
    Accepted {
        transfer: u64,
    },
    Rejected {
        transfer: u64,
    },
    Verified {
        path: &'a str,
        #[serde(serialize_with = "text")]
        file_id: FileId,
        ok: bool,
        #[serde(serialize_with = "text")]
        actual: FileId,
    },
    Id {
        peer: &'a str,
    },
    IdExported {
        peer: &'a str,
        path: &'a str,
    },
    IdImported {
        peer: &'a str,
    },
    IdRotated {
        peer: &'a str,
    },
    Trusted {
        #[serde(serialize_with = "text")]
        peer: PeerId,
    },
    Forgotten {
        peer: &'a str,
    },
    Invited {
        token: &'a str,
        number: u64,
        expires_ms: u64,
        addresses: &'a [String],
    },
    Invitation {
        number: u64,
        allow: &'a [&'static str],
        created_ms: u64,
        expires_ms: u64,
        used_by: Option<&'a str>,
    },
    Uninvited {
        number: u64,
    },
    Ticketed {
        token: &'a str,
        #[serde(flatten)]
        ticket: TicketLine,
        addresses: &'a [String],
    },
    Ticket(TicketLine),
    TicketRemoved {
        number: u64,
    },
    Joined {
        #[serde(serialize_with = "text")]
        peer: PeerId,
        name: &'a str,
        address: &'a str,
    },
    Transfer(Transfer<'a>),
    Detail {
        #[serde(flatten)]
        transfer: Transfer<'a>,
        chunk_bytes: u64,
        /// Where its chunks' time goes, in percent.
        waits: Option<Shares>,
        missing: Vec<Missing>,
        failed_chunks: Vec<FailedChunk>,
    },
    Peer(Peer<'a>),
    Status(StatusLine<'a>),
    Limits(LimitsLine),
    Service(ServiceLine<'a>),
    ServicePlan {
        writes: Vec<Written<'a>>,
        removes: Vec<String>,
        runs: Vec<String>,
    },
    Log {
        line: &'a str,
    },
    Entry(Entry<'a>),
    ConfigWritten {
        path: &'a str,
    },
    Check(&'a Check),
    Probe {
        #[serde(serialize_with = "text")]
        peer: PeerId,
        address: &'a str,
        connect_ms: Option<f64>,
        round_trip_ms: f64,
        mtu: u16,
        protocol: &'a str,
        trusts: Option<bool>,
        version: &'a str,
        peer_version: Option<&'a str>,
        down_bps: Option<u64>,
        up_bps: Option<u64>,
    },
    Demo {
        step: &'a str,
    },
    DemoDone {
        #[serde(serialize_with = "text")]
        file_id: FileId,
        bytes: u64,
        kept_bytes: u64,
        moved_bytes: u64,
        seconds: f64,
        rate_bps: Option<u64>,
    },
}

/// One thing that `p2p doctor` has looked at, as the daemon's program says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) check: String,
    pub(crate) verdict: Verdict,
    pub(crate) found: String,
    pub(crate) advice: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// A service, as its manager and its daemon see it.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceLine<'a> {
    pub(crate) manager: &'static str,
    pub(crate) name: &'a str,
    pub(crate) file: &'a str,
    pub(crate) installed: bool,
    pub(crate) state: Option<&'a str>,
    pub(crate) pid: Option<u32>,
    pub(crate) version: Option<&'a str>,
}

/// A file that would be written.
#[derive(Debug, Serialize)]
pub(crate) struct Written<'a> {
    pub(crate) path: String,
    pub(crate) text: &'a str,
}

/// Why nothing moves: a reason of the daemon, or its own absence.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Wait {
    Reason(WaitReason),
    Daemon(DaemonGone),
}

/// The daemon is not there, and waited for.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DaemonGone {
    Daemon,
}

/// A transfer's numbers. Rates are bytes per second.
#[derive(Debug, Serialize)]
pub(crate) struct Numbers {
    verified_bytes: u64,
    total_bytes: u64,
    chunks_verified: u32,
    chunks_total: u32,
    chunks_failed: u32,
    rate_bps: u64,
    streams: u32,
    mode: &'static str,
    eta_s: Option<u64>,
    /// Whether a limit on bandwidth holds it back.
    limited: bool,
    /// Where most of its chunks' time goes.
    limited_by: Option<Stage>,
}

impl From<&Progress> for Numbers {
    fn from(progress: &Progress) -> Self {
        let Progress {
            verified_bytes,
            total_bytes,
            chunks_verified,
            chunks_total,
            chunks_failed,
            moved_bytes: _,
            rate,
            streams,
            parallel,
            limited,
            waits: _,
        } = *progress;
        Self {
            verified_bytes,
            total_bytes,
            chunks_verified,
            chunks_total,
            chunks_failed,
            rate_bps: rate,
            streams,
            mode: mode(parallel),
            eta_s: format::eta_s(total_bytes.saturating_sub(verified_bytes), rate),
            limited,
            limited_by: progress.limited_by(),
        }
    }
}

/// How chunks travel.
pub(crate) fn mode(parallel: bool) -> &'static str {
    if parallel { "parallel" } else { "sequential" }
}

/// The word for what limits a transfer.
pub(crate) fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Source => "source",
        Stage::Hashing => "hashing",
        Stage::Path => "path",
        Stage::Peer => "peer",
        Stage::Disk => "disk",
        Stage::Limit => "limit",
    }
}

/// The word for a priority.
pub(crate) fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    }
}

/// The word for a failed chunk.
pub(crate) fn chunk_failure(reason: ChunkFailure) -> &'static str {
    match reason {
        ChunkFailure::Corrupt => "corrupt",
        ChunkFailure::Truncated => "truncated",
        ChunkFailure::Stalled => "stalled",
        ChunkFailure::NotStored => "not_stored",
    }
}

/// A transfer in a list.
#[derive(Debug, Serialize)]
pub(crate) struct Transfer<'a> {
    transfer: u64,
    direction: Direction,
    state: State,
    name: &'a str,
    #[serde(serialize_with = "some_text")]
    file_id: Option<FileId>,
    #[serde(serialize_with = "some_text")]
    peer: Option<PeerId>,
    target: &'a str,
    path: Option<&'a str>,
    #[serde(flatten)]
    numbers: Numbers,
    moved_bytes: u64,
    priority: Priority,
    limit_bps: Option<u64>,
    background: bool,
    progressive: bool,
    waiting: Option<WaitReason>,
    error: Option<&'a str>,
    created_ms: u64,
    ended_ms: Option<u64>,
    batch: Option<BatchLine>,
    landed: Option<&'a str>,
}

impl<'a> From<&'a Summary> for Transfer<'a> {
    fn from(summary: &'a Summary) -> Self {
        Self {
            transfer: summary.transfer,
            direction: summary.direction,
            state: summary.state,
            name: &summary.name,
            file_id: summary.file_id,
            peer: summary.peer,
            target: &summary.target,
            path: summary.path.as_deref(),
            numbers: Numbers::from(&summary.progress),
            moved_bytes: summary.progress.moved_bytes,
            priority: summary.priority,
            limit_bps: summary.limit.map(Rate::bytes),
            background: summary.background,
            progressive: summary.progressive,
            waiting: summary.waiting,
            error: summary.error.as_deref(),
            created_ms: summary.created_ms,
            ended_ms: summary.ended_ms,
            batch: BatchLine::of(summary.batch),
            landed: summary.landed.as_deref(),
        }
    }
}

/// Something that a peer shares.
#[derive(Debug, Serialize)]
pub(crate) struct ListedShare<'a> {
    #[serde(serialize_with = "text")]
    file_id: FileId,
    name: &'a str,
    folder: bool,
    bytes: Option<u64>,
}

impl<'a> From<&'a Shared> for ListedShare<'a> {
    fn from(share: &'a Shared) -> Self {
        Self { file_id: share.file_id, name: &share.name, folder: share.is_folder, bytes: share.size }
    }
}

/// A peer in a list.
#[derive(Debug, Serialize)]
pub(crate) struct Peer<'a> {
    #[serde(serialize_with = "text")]
    peer: PeerId,
    standing: Standing,
    name: Option<&'a str>,
    allow: Vec<&'static str>,
    addresses: &'a [String],
    connected: bool,
    rules: PeerRules<'a>,
}

/// What is settled for a peer; `null` is what holds for everybody.
#[derive(Debug, Serialize)]
struct PeerRules<'a> {
    accept: Option<&'static str>,
    folder: Option<&'a str>,
    largest_bytes: Option<u64>,
    quota_bytes: Option<u64>,
    exists: Option<&'static str>,
    seed: Option<bool>,
    progressive: Option<bool>,
}

impl<'a> From<&'a Rules> for PeerRules<'a> {
    fn from(rules: &'a Rules) -> Self {
        Self {
            accept: rules.accept.map(Acceptance::word),
            folder: rules.folder.as_deref(),
            largest_bytes: rules.largest.map(|size| size.0),
            quota_bytes: rules.quota.map(|size| size.0),
            exists: rules.exists.map(Exists::word),
            seed: rules.seed,
            progressive: rules.progressive,
        }
    }
}

impl<'a> From<&'a PeerInfo> for Peer<'a> {
    fn from(info: &'a PeerInfo) -> Self {
        Self {
            peer: info.id,
            standing: info.standing,
            name: info.name.as_deref(),
            allow: rights(info.send, info.fetch),
            addresses: &info.addresses,
            connected: info.connected,
            rules: (&info.rules).into(),
        }
    }
}

/// What somebody may do, as `--allow` takes it.
pub(crate) fn rights(send: bool, fetch: bool) -> Vec<&'static str> {
    [(send, "send"), (fetch, "fetch")].into_iter().filter_map(|(may, word)| may.then_some(word)).collect()
}

fn text<T: ToString, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

fn some_text<T: ToString, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}

/// A line as bytes, with its line feed. Characters that could move a terminal's cursor or reorder its line
/// are written as JSON escapes, so that the line is safe to look at and still holds the very text.
pub(crate) fn encode(line: &Line<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    line.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Escaping))?;
    bytes.push(b'\n');
    Ok(bytes)
}

struct Escaping;

impl serde_json::ser::Formatter for Escaping {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if printable(fragment) == fragment {
            return writer.write_all(fragment.as_bytes());
        }
        let (mut utf8, mut utf16) = ([0; 4], [0; 2]);
        for c in fragment.chars() {
            let shown: &str = c.encode_utf8(&mut utf8);
            if printable(shown) == shown {
                writer.write_all(shown.as_bytes())?;
            } else {
                for unit in c.encode_utf16(&mut utf16) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
