//! Lines about what is not moved: a dry run, and what is in a folder.

use p2p_protocol::{
    FileId,
    control::{FolderEntry, Planned},
};
use serde::Serialize;

/// What would move.
#[derive(Debug, Serialize)]
pub(crate) struct PlannedLine<'a> {
    #[serde(serialize_with = "super::text")]
    file_id: FileId,
    name: &'a str,
    folder: bool,
    files: u64,
    bytes: u64,
    files_to_move: u64,
    bytes_to_move: u64,
    path: Option<&'a str>,
}

impl<'a> From<&'a Planned> for PlannedLine<'a> {
    fn from(planned: &'a Planned) -> Self {
        Self {
            file_id: planned.file_id,
            name: &planned.name,
            folder: planned.is_folder,
            files: planned.files,
            bytes: planned.bytes,
            files_to_move: planned.files_to_move,
            bytes_to_move: planned.bytes_to_move,
            path: planned.path.as_deref(),
        }
    }
}

/// Something in a folder. What does not belong to its kind is null.
#[derive(Debug, Serialize)]
pub(crate) struct EntryLine<'a> {
    path: &'a str,
    kind: &'static str,
    bytes: Option<u64>,
    #[serde(serialize_with = "super::some_text")]
    file_id: Option<FileId>,
    target: Option<&'a str>,
}

impl<'a> From<&'a FolderEntry> for EntryLine<'a> {
    fn from(entry: &'a FolderEntry) -> Self {
        Self {
            path: &entry.path,
            kind: entry.kind.word(),
            bytes: entry.size,
            file_id: entry.file_id,
            target: entry.target.as_deref(),
        }
    }
}
