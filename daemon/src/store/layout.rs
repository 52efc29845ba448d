//! Every name that the store puts on a disk.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use p2p_protocol::{FileId, PeerId};

/// The folder of partial files, beside their destination. No received name may equal it.
pub(crate) use p2p_protocol::name::PARTIALS_FOLDER as PARTIALS;

/// Ending of a partial's data file.
pub(crate) const PART: &str = ".part";
/// Ending of a partial's log of checkpoints.
pub(crate) const LOG: &str = ".log";
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
        self.root.join("lists")
    }

    /// One file's list: the chaining values of its groups, in order.
    pub(crate) fn list(&self, id: FileId) -> PathBuf {
        let name = id.to_string();
        self.lists().join(&name[..2]).join(format!("{name}{CVS}"))
    }

    /// The folder for content that goes to standard output and is not kept.
    pub(crate) fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }
}

/// What a partial is found by: the content, and the peer that sends it unless this daemon asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartialKey {
    /// The content.
    pub(crate) file_id: FileId,
    /// The sending peer; `None` for a fetch, which may go on from another peer.
    pub(crate) from: Option<PeerId>,
}

impl fmt::Display for PartialKey {
    /// The stem of the partial's file names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            None => write!(f, "{}", self.file_id),
            Some(peer) => write!(f, "{}-{peer}", self.file_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_fit_a_file_system() {
        let file_id = FileId([0xab; 32]);
        let fetch = PartialKey { file_id, from: None }.to_string();
        let sent = PartialKey { file_id, from: Some(PeerId([1; 32])) }.to_string();
        assert_eq!(fetch, "ab".repeat(32));
        assert!(sent.starts_with(&fetch) && sent.len() == 64 + 1 + 52);
        let list = Home::new(Path::new("/h")).list(file_id);
        assert_eq!(list, PathBuf::from(format!("/h/lists/ab/{fetch}.cvs")));
    }
}
