//! What a receiver begins with, what happens to it, and what should happen then.

use crate::{
    ChunkSet, Cv, FileId, Layout,
    reason::{AbortReason, ChunkFailure},
    tree::Expected,
    wire::peer::Message,
};

/// What a receiver begins with.
#[derive(Clone, Debug)]
pub struct ReceiverStart {
    /// How the content is cut, as in its `Accept`.
    pub layout: Layout,
    /// The content's identity, where the offer had one.
    pub file_id: Option<FileId>,
    /// Chunks that are durable here and were verified.
    pub verified: ChunkSet,
    /// Chunks whose bytes may be here, to be hashed before they count.
    pub doubtful: ChunkSet,
    /// Those of the doubtful ones that verified in an earlier run, as far as the partial's records tell. They
    /// were in `Accept`, and are shown as verified until a hash says otherwise.
    pub claimed: ChunkSet,
    /// Where the chunks above were checked against the values that came with them, and not against a list: these values,
    /// as far as they are here. Each is compared with the list before its chunk is published.
    pub values: Option<Vec<(u32, Cv)>>,
    /// How many chunks this receiver has memory for at once.
    pub credit: u32,
    /// The chunks that are to be here in the end, where these are not all.
    pub wanted: Option<ChunkSet>,
    /// Whether it asked with an eager `Fetch`, and so has said its first words already. Nothing may be here then.
    pub eager: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum ReceiverInput {
    /// The provider said something.
    Message(Message),
    /// So many bytes of admitted chunks came in.
    ChunkBytes(u64),
    /// A chunk has verified and is written, though perhaps not yet durable.
    ChunkStored {
        /// Which.
        chunk: u32,
    },
    /// An admitted chunk did not arrive whole, did not verify, or could not be stored.
    ChunkFailed {
        /// Which.
        chunk: u32,
        /// Why.
        reason: ChunkFailure,
    },
    /// A doubtful chunk was hashed.
    Rechecked {
        /// Which.
        chunk: u32,
        /// Whether its bytes are the right ones.
        good: bool,
    },
    /// The disk is full or gone; the chunk that found out, if one did, is lost.
    StorageFull {
        /// Which.
        chunk: Option<u32>,
    },
    /// There is room again.
    SpaceFreed,
    /// These chunks were stored and could not be made durable.
    Lost(ChunkSet),
    /// How many chunks this receiver has memory for at once.
    Credit(u32),
    /// Whether a limit on bandwidth lets the provider have no more credit for now.
    Hold(bool),
    /// The content is durable under this name.
    Published {
        /// The name.
        name: String,
        /// Whether the provider may fetch it back.
        fetchable: bool,
    },
    /// Time has passed.
    Tick,
}

/// What should happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiverAction {
    /// Say this to the provider.
    Send(Message),
    /// The page of a chunk that was held has come: this is what the chunk must verify against.
    Take {
        /// Which.
        chunk: u32,
        /// What its bytes must hash to.
        expected: Expected,
    },
    /// Hash what is stored of a doubtful chunk.
    Recheck {
        /// Which.
        chunk: u32,
        /// What its bytes must hash to.
        expected: Expected,
    },
    /// The provider has named the content.
    Sealed(FileId),
    /// Reserve disk space for the file's first so many bytes.
    ReserveUpTo(u64),
    /// Make the content durable under its final name; every chunk is verified.
    Publish,
    /// `Done` was said; nothing more will happen.
    Completed,
    /// The provider gave up.
    Aborted(AbortReason),
    /// A chunk was dropped.
    ChunkFailed {
        /// Which.
        chunk: u32,
        /// Why.
        reason: ChunkFailure,
    },
    /// Nothing is wanted until the disk has room.
    Paused,
    /// See whether there is room again.
    PollSpace,
    /// Something is owed by the provider and nothing has come for too long.
    Stalled,
    /// A chunk could not be received for a reason that is nobody's proven fault, too many times.
    GaveUp {
        /// Which.
        chunk: u32,
        /// Why, the last time.
        reason: ChunkFailure,
    },
}

/// What to do with a chunk stream whose header was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is not wanted (any longer).
    Ignore,
    /// Read it, and verify it against this.
    Take(Expected),
    /// Read it, and keep it until [`ReceiverAction::Take`]: it has overtaken its page.
    Hold,
}
