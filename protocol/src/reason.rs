//! Why things fail, in the terms that both the wire and the exit codes use.

use serde::{Deserialize, Serialize};

use crate::{limits::CLAIM_LOCKOUT, shown::Bytes};

/// Why a peer refused an offer or a request. Append only: the order is the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RefuseReason {
    /// The peer is not trusted here, or not for this.
    #[error("the peer does not allow this (ask its owner to run `p2p peers trust`)")]
    NotAllowed,
    /// No such File ID is shared with this peer, or there is none at all: the answer is the same.
    #[error("the peer has no such File ID to give")]
    NotFound,
    /// The name is not one the receiver takes.
    #[error("the peer does not accept the file's name")]
    Name,
    /// The sizes in the offer are impossible or exceed a limit.
    #[error("the peer does not accept the file's size")]
    Size,
    /// Not enough free disk space.
    #[error("the peer's disk has not enough free space: {} are needed, {} are free", Bytes(*need), Bytes(*free))]
    Space {
        /// Bytes that the file needs.
        need: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The receiver's storage cannot take the file (read-only, I/O error).
    #[error("the peer's storage cannot take the file")]
    Storage,
    /// The owner said no.
    #[error("the peer's owner rejected the offer")]
    Rejected,
    /// Too many transfers, or this very one is running already.
    #[error("the peer is busy")]
    Busy,
    /// The offer uses something that this version does not know.
    #[error("the peer's version does not support this kind of offer")]
    Unsupported,
    /// The provider's copy no longer has the content that the File ID stands for.
    #[error("the peer's copy has changed since it was shared")]
    SourceChanged,
    /// The daemon is shutting down.
    #[error("the peer is shutting down")]
    ShuttingDown,
    /// The claim of an invitation or ticket does not hold; why is for its giver alone to know.
    #[error(
        "the peer does not know this token (any longer): it is used, expired or taken back; ask for another one"
    )]
    NoToken,
    /// It is larger than the owner takes of the sender.
    #[error("the peer's owner takes nothing larger than {} from here", Bytes(*limit))]
    TooLarge {
        /// The most bytes.
        limit: u64,
    },
    /// More than the owner wants to have of the sender.
    #[error("the peer's owner has set a quota for what comes from here: {} of it are left", Bytes(*left))]
    Quota {
        /// The bytes that are left.
        left: u64,
    },
    /// The name is taken, and the owner wants what has it to stay.
    #[error("the peer has something of this name already, and its owner wants it to stay")]
    Exists,
    /// Too many claims from the same address did not hold lately.
    #[error(
        "the peer listens to no token from this address for a while: too many from here did not hold; try again in {} minutes",
        CLAIM_LOCKOUT.as_secs() / 60
    )]
    Locked,
}

/// Why a running transfer was given up by one side. Append only: the order is the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AbortReason {
    /// Its owner cancelled it.
    #[error("cancelled by the peer")]
    Cancelled,
    /// The provider's source is not what it was.
    #[error("the source changed while it was sent")]
    SourceChanged,
    /// The provider cannot read its source.
    #[error("the peer cannot read its source")]
    SourceUnreadable,
    /// The receiver cannot write.
    #[error("the peer's storage failed")]
    Storage,
    /// Too many chunks did not verify.
    #[error("too many chunks did not verify")]
    Integrity,
    /// The other side broke the protocol.
    #[error("the peer says this side broke the protocol")]
    Protocol,
    /// Nothing moved within the deadline.
    #[error("nothing moved within the deadline")]
    Stalled,
    /// The daemon is shutting down; the transfer can go on later.
    #[error("the peer is shutting down")]
    ShuttingDown,
    /// The receiver cannot go on with what it has: of an offer without File ID it is not what it thought it was, or it was
    /// removed, or the machine was short of something. Offered again, it takes what is missing.
    #[error("the peer asks for the offer again")]
    OfferAgain,
    /// Its owner holds it back; it can go on later.
    #[error("the peer has paused it")]
    Paused,
    /// The receiver wanted some bytes of a file, and has them: for a provider that was asked, this is success.
    #[error("the peer took a part and wants no more")]
    Enough,
}

/// Why one chunk was not accepted. Append only: the order is the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChunkFailure {
    /// The bytes do not have the chunk's chaining value.
    #[error("its content does not match the File ID")]
    Corrupt,
    /// The stream ended or was reset before the chunk was whole.
    #[error("its stream ended before the chunk was whole")]
    Truncated,
    /// Nothing came for too long.
    #[error("its stream stalled")]
    Stalled,
    /// The receiver could not store it.
    #[error("it could not be stored")]
    NotStored,
}

/// How a peer broke the protocol. The name goes to the log and, as a number, into the close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerMisbehaved {
    /// A frame or header is longer than allowed.
    #[error("a frame of {0} bytes")]
    FrameTooLong(u64),
    /// A frame or header does not decode, or has bytes left over.
    #[error("a malformed frame")]
    MalformedFrame,
    /// A message came that the state of the conversation does not allow.
    #[error("an unexpected message: {0}")]
    UnexpectedMessage(&'static str),
    /// Geometry that is impossible.
    #[error("impossible geometry: {0}")]
    Geometry(#[from] crate::geometry::GeometryError),
    /// Ranges outside the file.
    #[error("bad ranges: {0}")]
    Ranges(#[from] crate::bitmap::RangesError),
    /// Chaining values that do not rebuild the File ID.
    #[error("forged chaining values: {0}")]
    ForgedList(#[from] crate::tree::TreeError),
    /// A chunk was sent that nobody asked for.
    #[error("too many chunks that were not asked for")]
    UnaskedChunks,
    /// A chunk header contradicts the geometry.
    #[error("a chunk header that contradicts the offer (chunk {0})")]
    ChunkHeader(u32),
    /// A page that does not exist was asked for.
    #[error("page {0} does not exist")]
    NoSuchPage(u32),
    /// More pages were asked for than allowed.
    #[error("too many pages asked for")]
    TooManyPages,
    /// The credit is zero or beyond the limit.
    #[error("a credit of {0} streams")]
    Credit(u32),
    /// `Done` names another File ID or came before everything was verified.
    #[error("a false completion")]
    FalseDone,
    /// The answer to a fetch offers another file.
    #[error("an offer of another file than was asked for")]
    WrongFile,
    /// Too many chunks that did not verify.
    #[error("{0} bad chunks")]
    BadChunks(u32),
    /// The name is unsafe.
    #[error("an unsafe name: {0}")]
    Name(#[from] crate::name::NameError),
    /// More chunks are wanted at once than allowed.
    #[error("too many chunks wanted at once")]
    TooManyWanted,
    /// An `Accept` whose number of chunks contradicts its ranges or the file.
    #[error("a count of {0} verified chunks that cannot be")]
    HaveCount(u32),
    /// A seal of another size than was offered.
    #[error("a seal that contradicts the offer")]
    FalseSeal,
    /// A list of a folder's entries that cannot be, or is not the one that was offered.
    #[error("a false list of a folder's entries")]
    FalseManifest,
    /// A list of what may be fetched that is out of order, too long, or does not end.
    #[error("a false list of what is shared")]
    FalseListing,
    /// Things that are offered together, of which there cannot be so many, or not this one.
    #[error("an offer of impossible things together")]
    FalseBatch,
}

impl PeerMisbehaved {
    /// The QUIC application error code that a connection closed for this carries.
    pub fn close_code(&self) -> u32 {
        let n = match self {
            Self::FrameTooLong(_) => 0,
            Self::MalformedFrame => 1,
            Self::UnexpectedMessage(_) => 2,
            Self::Geometry(_) => 3,
            Self::Ranges(_) => 4,
            Self::ForgedList(_) => 5,
            Self::UnaskedChunks => 6,
            Self::ChunkHeader(_) => 7,
            Self::NoSuchPage(_) => 8,
            Self::TooManyPages => 9,
            Self::Credit(_) => 10,
            Self::FalseDone => 11,
            Self::WrongFile => 12,
            Self::BadChunks(_) => 13,
            Self::Name(_) => 14,
            Self::TooManyWanted => 15,
            Self::HaveCount(_) => 16,
            Self::FalseSeal => 17,
            Self::FalseManifest => 18,
            Self::FalseListing => 19,
            Self::FalseBatch => 20,
        };
        close::MISBEHAVED + n
    }
}

/// QUIC application error codes, for connections and streams.
pub mod close {
    /// Nothing wrong: the connection is not needed any longer.
    pub const IDLE: u32 = 0;
    /// The daemon is shutting down.
    pub const SHUTDOWN: u32 = 1;
    /// The peer is not trusted. Whatever the cause, a stranger sees only this.
    pub const NOT_TRUSTED: u32 = 2;
    /// The key presented is not the one that was meant; sent by the dialling side.
    pub const WRONG_PEER: u32 = 3;
    /// Too many connections or streams.
    pub const BUSY: u32 = 4;
    /// A stream is not wanted (any longer).
    pub const STREAM_UNWANTED: u32 = 5;
    /// The transfer that the stream belongs to was given up.
    pub const STREAM_ABORTED: u32 = 6;
    /// A deadline passed.
    pub const DEADLINE: u32 = 7;
    /// First of the codes that name a misbehaviour.
    pub const MISBEHAVED: u32 = 0x100;
}

/// Classes of failure as the command line's exit codes know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Failure {
    /// Anything that fits nowhere else.
    Other,
    /// The command makes no sense as given.
    Usage,
    /// The daemon cannot be reached or started.
    Daemon,
    /// The peer cannot be reached.
    Unreachable,
    /// Not trusted, not allowed, key changed, offer rejected.
    Refused,
    /// No such path, File ID, transfer or peer.
    NotFound,
    /// Content does not match, or the source changed.
    Integrity,
    /// Disk full, read-only, I/O error.
    Storage,
    /// Busy, already running, limit reached.
    Conflict,
    /// Cancelled by its owner, here or at the peer.
    Cancelled,
    /// The key at the target is not known yet; the command line may ask its user.
    UnknownKey,
}

impl Failure {
    /// The exit code of a command that ends with this failure.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Other | Self::Cancelled => 1,
            Self::Usage => 2,
            Self::Daemon => 3,
            Self::Unreachable => 4,
            Self::Refused | Self::UnknownKey => 5,
            Self::NotFound => 6,
            Self::Integrity => 7,
            Self::Storage => 8,
            Self::Conflict => 9,
        }
    }

    /// The failure that an exit code stands for.
    pub fn of_exit_code(code: u8) -> Self {
        match code {
            2 => Self::Usage,
            3 => Self::Daemon,
            4 => Self::Unreachable,
            5 => Self::Refused,
            6 => Self::NotFound,
            7 => Self::Integrity,
            8 => Self::Storage,
            9 => Self::Conflict,
            _ => Self::Other,
        }
    }

    /// The word for this failure in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::Other => "error",
            Self::Usage => "usage",
            Self::Daemon => "daemon",
            Self::Unreachable => "unreachable",
            Self::Refused | Self::UnknownKey => "refused",
            Self::NotFound => "not_found",
            Self::Integrity => "integrity",
            Self::Storage => "storage",
            Self::Conflict => "conflict",
            Self::Cancelled => "cancelled",
        }
    }
}

impl RefuseReason {
    /// The class of failure that the refused side reports.
    pub fn failure(self) -> Failure {
        match self {
            Self::NotAllowed | Self::Rejected | Self::Name | Self::Size | Self::NoToken => Failure::Refused,
            Self::TooLarge { .. } | Self::Quota { .. } | Self::Locked => Failure::Refused,
            Self::Exists => Failure::Conflict,
            Self::NotFound => Failure::NotFound,
            Self::Space { .. } | Self::Storage => Failure::Storage,
            Self::Busy => Failure::Conflict,
            Self::Unsupported => Failure::Other,
            Self::SourceChanged => Failure::Integrity,
            Self::ShuttingDown => Failure::Unreachable,
        }
    }

    /// Whether trying again later, without anybody doing anything, may help.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Busy | Self::ShuttingDown)
    }
}

impl AbortReason {
    /// The class of failure that the other side reports.
    pub fn failure(self) -> Failure {
        match self {
            Self::Cancelled => Failure::Cancelled,
            Self::SourceChanged | Self::Integrity => Failure::Integrity,
            Self::SourceUnreadable | Self::Storage => Failure::Storage,
            Self::Protocol | Self::Enough => Failure::Other,
            Self::Stalled | Self::ShuttingDown | Self::Paused => Failure::Unreachable,
            Self::OfferAgain => Failure::Conflict,
        }
    }

    /// Whether the transfer may be tried again without anybody doing anything.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Stalled | Self::ShuttingDown | Self::OfferAgain | Self::Paused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_contract() {
        let all = [
            (Failure::Other, 1, "error"),
            (Failure::Cancelled, 1, "cancelled"),
            (Failure::Usage, 2, "usage"),
            (Failure::Daemon, 3, "daemon"),
            (Failure::Unreachable, 4, "unreachable"),
            (Failure::Refused, 5, "refused"),
            (Failure::UnknownKey, 5, "refused"),
            (Failure::NotFound, 6, "not_found"),
            (Failure::Integrity, 7, "integrity"),
            (Failure::Storage, 8, "storage"),
            (Failure::Conflict, 9, "conflict"),
        ];
        for (failure, exit_code, code) in all {
            assert_eq!((failure.exit_code(), failure.code()), (exit_code, code), "{failure:?}");
        }
    }

    #[test]
    fn a_broken_rule_has_its_code_on_the_wire() {
        assert_eq!(PeerMisbehaved::FrameTooLong(0).close_code(), 0x100);
        assert_eq!(PeerMisbehaved::MalformedFrame.close_code(), 0x101);
        assert_eq!(PeerMisbehaved::BadChunks(8).close_code(), 0x10d);
        assert_eq!(PeerMisbehaved::FalseManifest.close_code(), 0x112);
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        assert!([RefuseReason::Busy, RefuseReason::ShuttingDown].iter().all(|reason| reason.is_passing()));
        let lasting = [RefuseReason::NotAllowed, RefuseReason::NotFound, RefuseReason::SourceChanged];
        assert!(!lasting.iter().any(|reason| reason.is_passing()));
        let passing =
            [AbortReason::Stalled, AbortReason::ShuttingDown, AbortReason::OfferAgain, AbortReason::Paused];
        assert!(passing.iter().all(|reason| reason.is_passing()));
        let lasting = [AbortReason::Cancelled, AbortReason::Integrity, AbortReason::Storage];
        assert!(!lasting.iter().any(|reason| reason.is_passing()));
    }
}
