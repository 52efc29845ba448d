//! What the command line and its local daemon say to each other.
//!
//! One request per connection on the local socket. Each side first sends a [`Preamble`]; then the client sends
//! one [`Request`] frame and the daemon answers with [`Event`] frames until it closes the connection.

mod dry_run;
mod invite;
mod log;
mod peer;
mod progress;
mod status;
#[cfg(test)]
mod tests;
mod wishes;

use serde::{Deserialize, Serialize};

use crate::{
    Batch, ByteRange, ChunkRange, FileId, PeerId,
    queue::Priority,
    rate::{Change, InForce, Rate},
    reason::{ChunkFailure, Failure},
    rules::RulesChange,
    wire::peer::Shared,
};

pub use dry_run::{EntryKind, FolderEntry, Planned};
pub use invite::{
    InvitationInfo, InviteRequest, Invited, JoinRequest, JoinedPeer, TicketInfo, TicketTerms, Ticketed,
    TokenText,
};
pub use log::{Happening, LogEntry, LogRequest};
pub use peer::{PeerInfo, Standing};
pub use progress::Progress;
pub use status::{Confinement, Probe, Status, Writing};
pub use wishes::{KeyPolicy, Output, RequestId, Wishes};

/// Version of this conversation. It changes with every change of the types below.
pub const VERSION: u16 = 21;

/// The fixed bytes that open each direction, so that programs of different versions part with a clear word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The sender's [`VERSION`].
    pub version: u16,
}

impl Preamble {
    /// Bytes of an encoded preamble.
    pub const LEN: usize = 8;
    const MAGIC: [u8; 6] = *b"p2pctl";

    /// The preamble of this version.
    pub fn ours() -> Self {
        Self { version: VERSION }
    }

    /// Magic and version, little-endian.
    pub fn encode(self) -> [u8; Self::LEN] {
        let [low, high] = self.version.to_le_bytes();
        let [a, b, c, d, e, f] = Self::MAGIC;
        [a, b, c, d, e, f, low, high]
    }

    /// `None` if the other side speaks something else.
    pub fn decode(bytes: [u8; Self::LEN]) -> Option<Self> {
        let [magic @ .., low, high] = bytes;
        (magic == Self::MAGIC).then_some(Self { version: u16::from_le_bytes([low, high]) })
    }
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// How the daemon is: [`Event::Status`].
    Status,
    /// Send a file: [`Event::Queued`], then transfer events until the end unless detached.
    Send(SendRequest),
    /// Fetch a file: as `Send`; with [`Output::Stdout`] also [`Event::Data`].
    Fetch(FetchRequest),
    /// Make a file fetchable: [`Event::Transfer`] with `Waiting` while it is hashed, then [`Event::Shared`].
    Share(ShareRequest),
    /// Take a share back: [`Event::Ok`].
    Unshare(FileId),
    /// All transfers: one [`Event::Summary`] each, newest last.
    List,
    /// One transfer: [`Event::Detail`].
    Show(u64),
    /// The events of one transfer until it ends, or of all for as long as the client stays.
    Watch(Option<u64>),
    /// Stop a transfer: [`Event::Ok`].
    Cancel(u64),
    /// Take failed or cancelled transfers up again, in this order: one [`Event::Queued`] each. Those of several that did not end so are
    /// passed over.
    Retry(Vec<u64>),
    /// All peers: one [`Event::Peer`] each.
    Peers,
    /// Trust a peer: [`Event::Ok`].
    Trust(TrustRequest),
    /// Forget a peer, by Peer ID or name, and end its connections: [`Event::Ok`].
    Forget(String),
    /// Take an offer that waits for its owner's yes, with all that was offered together with it: one [`Event::Summary`] each.
    Accept(u64),
    /// Refuse one, in the same way.
    Reject(u64),
    /// All shares: one [`Event::Shared`] each, oldest first, and one [`Event::Ticket`] for each ticket.
    Shares,
    /// Whether the daemon answers, without a look at any disk: [`Event::Ok`].
    Ping,
    /// Try the way to a target, as typed, which has to be known: [`Event::Probed`].
    Probe(String),
    /// Send several files or folders: one [`Event::Queued`] each, in their order, then the events of all that are not
    /// detached until each has ended.
    SendEach(Vec<SendRequest>),
    /// The events of these transfers until each has ended.
    WatchEach(Vec<u64>),
    /// Hold a transfer back: [`Event::Ok`].
    Pause(u64),
    /// Let one go on that is held back: [`Event::Ok`].
    Resume(u64),
    /// Give a transfer another place in the queue: [`Event::Ok`].
    Prioritise(u64, Priority),
    /// Have other limits on bandwidth hold, of all transfers together: [`Event::Limits`].
    Limit {
        /// What is to be another.
        change: Change,
        /// Whether to go back to what the config says first.
        reset: bool,
    },
    /// Make an invitation: [`Event::Invited`].
    Invite(InviteRequest),
    /// All invitations: one [`Event::Invitation`] each.
    Invites,
    /// Take an invitation back: [`Event::Ok`].
    Uninvite(u64),
    /// Become a peer of who gave an invitation: [`Event::Joined`].
    Join(JoinRequest),
    /// Settle something for a peer, by Peer ID or name: [`Event::Peer`].
    Rule {
        /// Whom it is for.
        peer: String,
        /// What is to be another.
        change: RulesChange,
    },
    /// Take a ticket back: [`Event::Ok`].
    RemoveTicket(u64),
    /// What a target, as typed, shares with this machine: one [`Event::Listed`] each.
    Listing(String),
    /// What happened: one [`Event::Log`] each, oldest first.
    Log(LogRequest),
    /// What would move of this: what is to be said of the folder, then [`Event::Planned`].
    PlanSend(SendRequest),
    /// The same of this, from the first that has it.
    PlanFetch(FetchRequest),
    /// What is in a folder that a target, as typed, shares with this machine: one [`Event::Entry`] each, in order.
    Entries {
        /// The target.
        target: String,
        /// The folder.
        file_id: FileId,
    },
    /// Have one transfer go no faster than that, or as fast as it can: [`Event::Ok`].
    LimitOne(u64, Option<Rate>),
}

/// The folder in the state folder for content that has no other place: standard input that is to be sent, and what is
/// fetched to standard output.
pub const SPOOL_FOLDER: &str = "spool";
/// Start of the name of a file in it that holds standard input. Whoever writes it holds a lock on it until the daemon
/// has it; without lock and transfer it is swept.
pub const SPOOLED_INPUT: &str = "stdin-";

/// `p2p send`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRequest {
    /// Absolute path of the source, as the operating system's bytes.
    pub path: Vec<u8>,
    /// Where to, as typed.
    pub target: String,
    /// The name to offer, instead of the source's own.
    pub name: Option<String>,
    /// Whether the source is spooled standard input, which is removed once it is not needed any longer.
    pub spooled: bool,
    /// What to do about the key found at the target.
    pub key: KeyPolicy,
    /// Patterns of what in a folder is left out, as in a `.gitignore`.
    pub excludes: Vec<String>,
    /// How it is to be done.
    pub wishes: Wishes,
    /// Whether to answer with the transfer's number alone.
    pub detach: bool,
    /// What tells a request that is made again.
    pub request: Option<RequestId>,
}

/// `p2p fetch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRequest {
    /// What to fetch.
    pub file_id: FileId,
    /// Where from, as typed; the next is tried when one fails.
    pub from: Vec<String>,
    /// What gives the right to it, instead of trust. It says what to fetch, and where from.
    pub ticket: Option<TokenText>,
    /// Where to.
    pub output: Output,
    /// What to do about the key found at a target.
    pub key: KeyPolicy,
    /// Paths and patterns of what of a folder is wanted; all of it, where there are none.
    pub only: Vec<String>,
    /// The bytes of a file that are wanted, where that is not all of it.
    pub range: Option<ByteRange>,
    /// Whether a folder appears file by file, and not first when it is whole.
    pub progressive: bool,
    /// How it is to be done.
    pub wishes: Wishes,
    /// Whether to answer with the transfer's number alone.
    pub detach: bool,
    /// What tells a request that is made again.
    pub request: Option<RequestId>,
}

/// `p2p share`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRequest {
    /// Absolute path of the file, as the operating system's bytes.
    pub path: Vec<u8>,
    /// Who may fetch it.
    pub with: ShareWith,
    /// Patterns of what in a folder is left out, as in a `.gitignore`.
    pub excludes: Vec<String>,
}

/// Who may fetch a shared file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShareWith {
    /// Every trusted peer with the right to fetch.
    Trusted,
    /// These peers, by Peer ID or name.
    Peers(Vec<String>),
    /// Anyone who can reach the port.
    Public,
    /// Whoever has a ticket, which is made: [`Event::Ticketed`] follows. Who could fetch it before still can.
    Ticket(TicketTerms),
}

/// `p2p peers trust`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRequest {
    /// The peer.
    pub id: PeerId,
    /// A name for it.
    pub name: Option<String>,
    /// An address where it can be dialled.
    pub address: Option<String>,
    /// It may send files here.
    pub send: bool,
    /// It may fetch what is shared with it.
    pub fetch: bool,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The request was carried out.
    Ok,
    /// The request failed; nothing follows.
    Error(RequestError),
    /// A transfer was made, or joined, for the request.
    Queued {
        /// Its number.
        transfer: u64,
        /// What it is offered together with.
        batch: Option<Batch>,
    },
    /// Something happened to a transfer.
    Transfer(TransferEvent),
    /// The next bytes of a file that goes to standard output.
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A file is fetchable.
    Shared {
        /// Its File ID.
        file_id: FileId,
        /// Where it lies.
        path: String,
        /// Who can fetch it, in words.
        audience: String,
    },
    /// The daemon's state.
    Status(Status),
    /// A transfer in a list.
    Summary(Summary),
    /// A transfer in full.
    Detail(Detail),
    /// A peer in a list.
    Peer(PeerInfo),
    /// What came of trying the way to a peer.
    Probed(Probe),
    /// The limits on bandwidth that hold now.
    Limits(InForce),
    /// An invitation was made.
    Invited(Invited),
    /// An invitation in a list.
    Invitation(InvitationInfo),
    /// Another machine was joined.
    Joined(JoinedPeer),
    /// A ticket was made.
    Ticketed(Ticketed),
    /// A ticket in a list.
    Ticket(TicketInfo),
    /// Something that a peer shares.
    Listed(Shared),
    /// Something that happened.
    Log(LogEntry),
    /// What would move.
    Planned(Planned),
    /// Something in a folder.
    Entry(FolderEntry),
    /// The request was carried out, and this stays of what had arrived.
    Left {
        /// The folder that it is in.
        path: String,
    },
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestError {
    /// The class of failure.
    pub failure: Failure,
    /// What happened, where, and what to do about it.
    pub message: String,
    /// The key that was found, where the failure is about a key.
    pub key: Option<PeerId>,
}

/// Which way the bytes go, seen from this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// This daemon sends because its user said so.
    Send,
    /// This daemon fetches because its user said so.
    Fetch,
    /// A peer sends to this daemon.
    Receive,
    /// A peer fetches from this daemon.
    Serve,
}

impl Direction {
    /// The word for it, in JSON too.
    pub fn word(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Fetch => "fetch",
            Self::Receive => "receive",
            Self::Serve => "serve",
        }
    }
}

/// Something that happened to a transfer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TransferEvent {
    /// The two sides agreed on what moves.
    Started {
        /// The transfer's number.
        transfer: u64,
        /// Which way.
        direction: Direction,
        /// The file's name.
        name: String,
        /// The other side.
        peer: PeerId,
        /// The file's size in bytes.
        total_bytes: u64,
        /// Bytes that the receiver has verified already.
        resumed_bytes: u64,
        /// What it is offered together with.
        batch: Option<Batch>,
        /// The other side, as typed or as known by name.
        target: String,
    },
    /// Nothing moves, for this reason.
    Waiting {
        /// The transfer's number.
        transfer: u64,
        /// Why.
        reason: WaitReason,
    },
    /// How far it is.
    Progress {
        /// The transfer's number.
        transfer: u64,
        /// The numbers.
        progress: Progress,
    },
    /// A chunk was not accepted by the receiver.
    ChunkFailed {
        /// The transfer's number.
        transfer: u64,
        /// Which chunk.
        chunk: u32,
        /// The peer at the other end.
        peer: PeerId,
        /// Why.
        reason: ChunkFailure,
    },
    /// Something in a folder is not sent.
    LeftOut {
        /// The transfer's number.
        transfer: u64,
        /// Where, from the folder on.
        path: String,
        /// What it is.
        what: String,
    },
    /// Two names in a folder are one where case or normal forms are folded, so that such a receiver cannot take it.
    SameName {
        /// The transfer's number.
        transfer: u64,
        /// Where, from the folder on.
        paths: [String; 2],
    },
    /// The transfer broke and will be tried again.
    Retrying {
        /// The transfer's number.
        transfer: u64,
        /// Which attempt comes next; the first one was 1.
        attempt: u32,
        /// Milliseconds until then.
        in_ms: u64,
        /// What broke.
        reason: String,
    },
    /// The content is durable at the receiver.
    Done {
        /// The transfer's number.
        transfer: u64,
        /// The content's identity.
        file_id: FileId,
        /// Where it is at the receiver: a path here, or the name it got there.
        path: String,
        /// Its size in bytes.
        bytes: u64,
        /// Chunk payload that crossed the network since the client attached, in bytes.
        moved_bytes: u64,
        /// Milliseconds since the client attached.
        millis: u64,
        /// Where this copy can be fetched again, if it can.
        fetch_from: Option<String>,
        /// The folder that it is a part of.
        #[serde(default)]
        part_of: Option<FileId>,
    },
    /// The transfer ended without success.
    Failed {
        /// The transfer's number.
        transfer: u64,
        /// The class of failure.
        failure: Failure,
        /// What happened, and what to do about it.
        message: String,
        /// The key that was found at the target, where the failure is about a key.
        key: Option<PeerId>,
    },
}

impl TransferEvent {
    /// The number of the transfer that this is about.
    pub fn transfer(&self) -> u64 {
        match self {
            Self::Started { transfer, .. }
            | Self::Waiting { transfer, .. }
            | Self::Progress { transfer, .. }
            | Self::ChunkFailed { transfer, .. }
            | Self::LeftOut { transfer, .. }
            | Self::SameName { transfer, .. }
            | Self::Retrying { transfer, .. }
            | Self::Done { transfer, .. }
            | Self::Failed { transfer, .. } => *transfer,
        }
    }

    /// Whether nothing more will happen to the transfer.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }
}

/// Why nothing moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitReason {
    /// The source is hashed.
    Hashing,
    /// The receiver's owner has to say yes.
    Accept,
    /// The receiver's disk is full.
    Space,
    /// The peer is not there.
    Peer,
    /// Other transfers come first.
    Queue,
    /// Its owner holds it back.
    Paused,
}

/// The states of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not started, or broken and to be tried again.
    Waiting,
    /// Moving.
    Active,
    /// Durable at the receiver.
    Done,
    /// Ended without success; can be taken up again.
    Failed,
    /// Ended by its owner.
    Cancelled,
}

/// A transfer in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its number.
    pub transfer: u64,
    /// Which way.
    pub direction: Direction,
    /// Where it is in its life.
    pub state: State,
    /// The file's name.
    pub name: String,
    /// The content's identity, once known.
    pub file_id: Option<FileId>,
    /// The other side, once known.
    pub peer: Option<PeerId>,
    /// The other side, as typed or as known by name.
    pub target: String,
    /// The path here: of the source, or of where what is received is.
    pub path: Option<String>,
    /// How far it is.
    pub progress: Progress,
    /// What it comes before.
    #[serde(default)]
    pub priority: Priority,
    /// How fast it may go, where that was asked for.
    #[serde(default)]
    pub limit: Option<Rate>,
    /// Whether it yields to whatever else is on its way.
    #[serde(default)]
    pub background: bool,
    /// Whether what is received appears file by file, in the folder at its path.
    #[serde(default)]
    pub progressive: bool,
    /// Why it waits.
    pub waiting: Option<WaitReason>,
    /// What went wrong last.
    pub error: Option<String>,
    /// When it was made, in milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// When it ended, in milliseconds since 1970 UTC.
    pub ended_ms: Option<u64>,
    /// What it is offered together with.
    #[serde(default)]
    pub batch: Option<Batch>,
    /// What it has become at the receiver, once it is done: a path where that is here, else the name that it got there.
    #[serde(default)]
    pub landed: Option<String>,
}

/// A transfer in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// What the list shows.
    pub summary: Summary,
    /// Bytes of a chunk.
    pub chunk_len: u64,
    /// Chunks that are not verified, as far as known and as fits.
    pub missing: Vec<ChunkRange>,
    /// The last failed chunks: which, and why.
    pub failed_chunks: Vec<(u32, ChunkFailure)>,
}
