//! The messages on a transfer's bidirectional stream, in the order in which they usually come.
//!
//! The enums are append-only: a variant's number on the wire is its place here, pinned by golden bytes.

use serde::{Deserialize, Serialize};

use crate::{
    Batch, ChunkRange, Cv, FileId, ResumeKey,
    reason::{AbortReason, ChunkFailure, RefuseReason},
    token::{ClaimId, Proof},
};

/// What travels on a control stream, either way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Provider: what it has. First on a stream that the provider opens, or the answer to `Fetch`.
    Offer(Offer),
    /// Receiver: what it wants. First on a stream that the receiver opens.
    Fetch(Fetch),
    /// Receiver: the offer is taken.
    Accept(Accept),
    /// Either: the offer or the request is not taken. Ends the conversation.
    Refuse(RefuseReason),
    /// Provider: the top level of chaining values, one per page. Comes right after `Accept` where the file
    /// has more than one page.
    Top(Vec<Cv>),
    /// Receiver: the pages it needs next.
    NeedPages(Vec<u32>),
    /// Provider: one page of chaining values.
    Page(Page),
    /// Receiver: the chunks to send next, added to those wanted before, and how many may travel at once.
    Want(Want),
    /// Receiver: these chunks have verified.
    Verified(Vec<ChunkRange>),
    /// Receiver: this chunk was dropped, and will be wanted again unless the transfer ends.
    ChunkFailed(ChunkFailed),
    /// Receiver: nothing will be wanted for a while, for this reason. Before `Accept` only while its owner is asked.
    Paused(PauseReason),
    /// Provider: the File ID of an offer that had none.
    Seal(Seal),
    /// Receiver: the whole is durable under its final name. Ends the conversation.
    Done(Done),
    /// Either: the transfer is given up. Ends the conversation.
    Abort(AbortReason),
    /// Provider: it still hashes what it cannot seal before, and sends nothing meanwhile.
    Hashing(Hashing),
    /// Receiver: it needs the list of the folder's entries.
    NeedManifest,
    /// Provider: the next part of that list, as it is said in [`crate::manifest`].
    Manifest(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Receiver: the offer of a folder is taken.
    AcceptFolder(AcceptFolder),
    /// Receiver, before `AcceptFolder`: it has older versions of these of the folder's files, and needs their chaining values to see
    /// what of them is still right.
    NeedValues(Vec<ChunkRange>),
    /// Provider: the next of these values, one per 256 KiB, file for file. One without any stands for a file of which there are none.
    Values(Vec<Cv>),
    /// Who was given an invitation: that it has it. First on a stream, and with `Fetch` and `Redeem` all that a stranger may say.
    Join(Join),
    /// Who gave the invitation: the other side is trusted here from now on. Ends the conversation.
    Joined(Joined),
    /// Receiver: what it wants, and that it has a ticket for that. First on a stream, in place of `Fetch`.
    Redeem(Redeem),
    /// Whoever may fetch: what there is to fetch. First on a stream.
    List(List),
    /// The next part of the answer. Ends the conversation.
    Listed(Listed),
    /// Asks for the offer that a fetch would get, and, of a folder, the list of entries. First on a stream; nothing moves.
    Peek(Peek),
    /// An offer of which nothing is to move. First on a stream.
    Try(Offer),
    /// Receiver: what it would take of that.
    WouldTake(WouldTake),
    /// Provider: what it has, as one of several things that it offers together. First on a stream, in place of `Offer`.
    OfferTogether(OfferTogether),
    /// Who would like to know how fast the way is. First on a stream.
    Measure(Measure),
    /// What the other side will do of that.
    Measured(Measured),
    /// Either: bytes that mean nothing, as part of those that were settled.
    #[serde(with = "serde_bytes")]
    Filler(Vec<u8>),
    /// Who was asked: all bytes that it takes have come. Ends the conversation.
    Arrived(Arrived),
}

/// What a provider has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Proposed file name, one path component.
    pub name: String,
    /// Kind of thing offered.
    pub kind: Kind,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that the source really occupies; less than `size` for a sparse file.
    pub allocated: u64,
    /// Proposed chunk size as a power of two.
    pub chunk_log2: u8,
    /// The content's identity, if it is known already.
    pub file_id: Option<FileId>,
    /// What stands for the source where the File ID is not known, or was not when a transfer of it began.
    pub resume_key: Option<ResumeKey>,
    /// Whether the file is executable.
    pub executable: bool,
    /// Modification time in nanoseconds since 1970 UTC.
    pub modified_ns: Option<i64>,
}

/// What somebody would like to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peek {
    /// What.
    pub file_id: FileId,
}

/// What a receiver has not yet, of what is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WouldTake {
    /// How many files.
    pub files: u64,
    /// Their bytes, at most.
    pub bytes: u64,
}

/// What a provider has, and what it has along with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferTogether {
    /// What all of them are together.
    pub batch: Batch,
    /// This one.
    pub offer: Offer,
}

/// Kinds of things that can be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// One regular file.
    File,
    /// A folder.
    Folder {
        /// Bytes of the list of its entries.
        manifest_len: u32,
    },
}

/// A request for an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// What is wanted.
    pub file_id: FileId,
    /// The receiver has nothing of it and takes the offer as it comes. This stands for what it would say next: an
    /// `Accept` of the proposed chunk size, `NeedPages` for the first page, and a `Want` of the first chunks.
    pub eager: bool,
}

/// The answer to an offer that is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// The chunk size in force, as a power of two: that of the partial, where there is one.
    pub chunk_log2: u8,
    /// Number of chunks that are verified already, in all.
    pub have_count: u32,
    /// The same chunks as ranges, as far as they fit one message; only for showing progress.
    pub have: Vec<ChunkRange>,
}

/// The answer to an offer of a folder that is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptFolder {
    /// Which of the folder's files are to be moved, by their numbers: the plan is that of these.
    pub files: Vec<ChunkRange>,
    /// As for a file.
    pub accept: Accept,
}

/// One page of chaining values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Which page.
    pub page: u32,
    /// One value per chunk of the page.
    pub values: Vec<Cv>,
}

/// Chunks to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The chunks, in the order in which they are wanted.
    pub ranges: Vec<ChunkRange>,
    /// How many chunk streams may be in flight at once from now on.
    pub credit: u32,
}

/// A chunk that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkFailed {
    /// Which chunk.
    pub chunk: u32,
    /// Why.
    pub reason: ChunkFailure,
}

/// Why a receiver wants nothing for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PauseReason {
    /// The disk is full, or its folder is gone.
    Space,
    /// Its owner has to say yes or no to the offer.
    Owner,
}

/// The identity of content whose offer had none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The content's identity.
    pub file_id: FileId,
    /// Its size in bytes.
    pub size: u64,
    /// Its number of chunks.
    pub chunks: u32,
}

/// How far a provider is that has to hash what its receiver has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashing {
    /// Chunks that it has not hashed. Less than the last time: a word that says nothing new counts for nothing.
    pub left: u32,
}

/// The receiver's word that the content is safe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The content's identity.
    pub file_id: FileId,
    /// The name it got, which may differ from the one offered.
    pub name: String,
    /// Whether this provider may fetch it from the receiver again.
    pub fetchable: bool,
}

/// The claim of an invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Which one.
    pub invitation: ClaimId,
    /// That its secret is known, for this connection alone.
    pub proof: Proof,
    /// What the machine that joins would like to be called. The other side decides.
    pub name: String,
}

/// The answer to a claim that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// What this machine would like to be called. The other side decides.
    pub name: String,
}

/// A request for an offer by somebody who was given a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeem {
    /// Which ticket.
    pub ticket: ClaimId,
    /// That its secret is known, for this connection alone.
    pub proof: Proof,
    /// The request itself.
    pub fetch: Fetch,
}

/// A question for what may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// What comes after this in the order of File IDs; from the beginning where it is nothing.
    pub after: Option<FileId>,
}

/// A part of what may be fetched, in the order of File IDs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// At most [`LIST_PAGE`](crate::limits::LIST_PAGE) of them.
    pub shares: Vec<Shared>,
    /// Whether there are more after these.
    pub more: bool,
}

/// Something that may be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// The content's identity.
    pub file_id: FileId,
    /// Its name, without a path.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its size in bytes, where that is known without a look into it.
    pub size: Option<u64>,
}

/// A question for how fast the way is, by bytes that mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Bytes that are to come back.
    pub wants: u32,
    /// Bytes that would go there.
    pub brings: u32,
}

/// The answer to that, before any of those bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The version of the program that answers.
    pub version: String,
    /// Bytes that come now: no more than were wanted, and none where that is too much.
    pub sends: u32,
    /// Bytes that it takes afterwards: no more than were to be brought.
    pub takes: u32,
}

/// How long those bytes took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// Microseconds that all of them took, without the round trip before the first.
    pub micros: u64,
}

impl Message {
    /// The message's name, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Offer(_) => "Offer",
            Self::Fetch(_) => "Fetch",
            Self::Accept(_) => "Accept",
            Self::Refuse(_) => "Refuse",
            Self::Top(_) => "Top",
            Self::NeedPages(_) => "NeedPages",
            Self::Page(_) => "Page",
            Self::Want(_) => "Want",
            Self::Verified(_) => "Verified",
            Self::ChunkFailed(_) => "ChunkFailed",
            Self::Paused(_) => "Paused",
            Self::Seal(_) => "Seal",
            Self::Done(_) => "Done",
            Self::Abort(_) => "Abort",
            Self::Hashing(_) => "Hashing",
            Self::NeedManifest => "NeedManifest",
            Self::Manifest(_) => "Manifest",
            Self::AcceptFolder(_) => "AcceptFolder",
            Self::NeedValues(_) => "NeedValues",
            Self::Values(_) => "Values",
            Self::Join(_) => "Join",
            Self::Joined(_) => "Joined",
            Self::Redeem(_) => "Redeem",
            Self::List(_) => "List",
            Self::Listed(_) => "Listed",
            Self::Peek(_) => "Peek",
            Self::Try(_) => "Try",
            Self::WouldTake(_) => "WouldTake",
            Self::OfferTogether(_) => "OfferTogether",
            Self::Measure(_) => "Measure",
            Self::Measured(_) => "Measured",
            Self::Filler(_) => "Filler",
            Self::Arrived(_) => "Arrived",
        }
    }
}
