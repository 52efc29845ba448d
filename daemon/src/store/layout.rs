//! Every name that the store puts on a disk.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use p2p_protocol::{FileId, PeerId, ResumeKey, control::SPOOL_FOLDER};

/// The folder of partial files, beside their destination. No received name may equal it.
pub(crate) use p2p_protocol::name::PARTIALS_FOLDER as PARTIALS;

/// Ending of a partial's data file.
pub(crate) const PART: &str = ".part";
/// Ending of a partial's log of checkpoints.
pub(crate) const LOG: &str = ".log";
/// Ending of the file that says what folder a partial is of.
pub(crate) const TREE: &str = ".tree";
/// Ending of a file with some of the bytes of a partial, on its way to a name of its own.
pub(crate) const CUT: &str = ".cut";
/// The folder of lists of chaining values in the state folder.
pub(super) const LISTS: &str = "lists";
/// Ending of the file that says where a folder appears while it is filled.
pub(crate) const INTO: &str = ".into";
/// Ending of such a folder that has not got its name yet.
pub(crate) const FRESH: &str = ".fresh";
/// Ending of a file of chaining values.
pub(crate) const CVS: &str = ".cvs";

/// Start of the name of a list that is still being written.
pub(crate) const UNFINISHED: &str = "tmp-";

/// The names inside the daemon's home that the store owns.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    root: PathBuf,
}

impl Home {
    /// The layout below this folder.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The home itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Jobs, shares, receipts and the hash cache.
    pub(crate) fn catalog(&self) -> PathBuf {
        self.root.join("catalog.sqlite")
    }

    /// Where a damaged catalog goes; its companions keep their endings.
    pub(crate) fn damaged_catalog(&self, unix_seconds: u64) -> PathBuf {
        self.root.join(format!("catalog.damaged-{unix_seconds}"))
    }

    /// The folder of chaining-value lists.
    pub(crate) fn lists(&self) -> PathBuf {
        self.root.join(LISTS)
    }

    /// One file's list: the chaining values of its groups, in order.
    pub(crate) fn list(&self, id: FileId) -> PathBuf {
        let name = id.to_string();
        self.lists().join(&name[..2]).join(format!("{name}{CVS}"))
    }

    /// The folder for standard input that is to be sent, and for what goes to standard output and is not kept.
    pub(crate) fn spool(&self) -> PathBuf {
        self.root.join(SPOOL_FOLDER)
    }
}

/// What a partial is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PartialKey {
    /// The content. This daemon asked for it, and may go on from another peer.
    Fetched(FileId),
    /// The content, and the peer that sends it.
    Sent(FileId, PeerId),
    /// What stands for the content as long as that has no name, and the peer that sends it.
    Unsealed(ResumeKey, PeerId),
}

/// What stands for a File ID that is not known is derived in this context, so that it is none.
const UNSEALED_CONTEXT: &str = "p2p 2026-11-25 stands for a file id that is not known";

impl PartialKey {
    /// The content, where the key names it.
    pub(crate) fn file_id(&self) -> Option<FileId> {
        match self {
            Self::Fetched(id) | Self::Sent(id, _) => Some(*id),
            Self::Unsealed(..) => None,
        }
    }

    /// What stands where a File ID would: in the partial's log, and in the receipt for what comes of it.
    pub(crate) fn stand_in(&self) -> FileId {
        match self {
            Self::Fetched(id) | Self::Sent(id, _) => *id,
            Self::Unsealed(key, _) => FileId(blake3::derive_key(UNSEALED_CONTEXT, &key.0)),
        }
    }
}

impl fmt::Display for PartialKey {
    /// The stem of the partial's file names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetched(id) => write!(f, "{id}"),
            Self::Sent(id, peer) => write!(f, "{id}-{peer}"),
            Self::Unsealed(key, peer) => write!(f, "unsealed-{key}-{peer}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_fit_a_file_system() {
        let file_id = FileId([0xab; 32]);
        let fetch = PartialKey::Fetched(file_id).to_string();
        let sent = PartialKey::Sent(file_id, PeerId([1; 32])).to_string();
        assert_eq!(fetch, "ab".repeat(32));
        assert!(sent.starts_with(&fetch) && sent.len() == 64 + 1 + 52);
        let unsealed = PartialKey::Unsealed(ResumeKey([0xab; 16]), PeerId([1; 32]));
        assert_eq!(unsealed.to_string(), format!("unsealed-{}-{}", "ab".repeat(16), PeerId([1; 32])));
        let other = PartialKey::Unsealed(ResumeKey([0xac; 16]), PeerId([1; 32]));
        assert!(unsealed.stand_in() != file_id && unsealed.stand_in() != other.stand_in());
        let list = Home::new(Path::new("/h")).list(file_id);
        assert_eq!(list, PathBuf::from(format!("/h/lists/ab/{fetch}.cvs")));
    }
}
