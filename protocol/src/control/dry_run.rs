//! What would move, and what is in a folder: questions after which everything is as it was.

use serde::{Deserialize, Serialize};

use crate::FileId;

/// What a transfer would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// What it would be about.
    pub file_id: FileId,
    /// Its name, as the provider proposes it.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// How many files that is.
    pub files: u64,
    /// How long they are together, in bytes.
    pub bytes: u64,
    /// How many of them would move.
    pub files_to_move: u64,
    /// Bytes that would move. Of files of which the receiver has an older version it may be less.
    pub bytes_to_move: u64,
    /// Where it would be put, or is already, on this machine.
    pub path: Option<String>,
}

/// Kinds of things that a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A file.
    File,
    /// A file that may be run.
    Executable,
    /// A symbolic link.
    Link,
    /// Another name of a file.
    HardLink,
}

impl EntryKind {
    /// The word for it in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::File => "file",
            Self::Executable => "executable",
            Self::Link => "link",
            Self::HardLink => "hard_link",
        }
    }
}

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderEntry {
    /// Where, from the folder on.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes, of a file.
    pub size: Option<u64>,
    /// The File ID, of a file.
    pub file_id: Option<FileId>,
    /// What a link leads to, and of what file another name is one.
    pub target: Option<String>,
}
