//! What a partial's chunks are written into: one file, or the files of a folder in the making.

use std::{fs::File, io, ops::Range, os::unix::fs::MetadataExt, sync::Arc};

use cap_std::fs::Dir;
use p2p_protocol::{ChunkSet, Layout, plan::Span};

use super::{recover::extents, staging::Staging, stamp::Stamp};
use crate::disk::Disk;

/// The data of a partial.
#[derive(Debug)]
pub(super) enum Data {
    /// Of a file.
    File(Arc<File>),
    /// Of a folder.
    Folder(Staging),
}

/// Where a chunk's bytes are.
#[derive(Debug)]
pub(super) enum Place<'a> {
    /// In this range of this file.
    Range(Arc<File>, Range<u64>),
    /// They are the whole content of these entries of a folder.
    Files(&'a Staging, &'a [u32]),
}

impl Data {
    /// The file or folder itself.
    pub(super) fn handle(&self) -> &File {
        match self {
            Self::File(file) => file,
            Self::Folder(staging) => &staging.handle,
        }
    }

    /// Whether it has no name any longer.
    pub(super) fn is_removed(&self) -> io::Result<bool> {
        Ok(self.handle().metadata()?.nlink() == 0)
    }

    /// Where a chunk is, or is to be written.
    pub(super) fn place<'a>(
        &'a self,
        layout: &'a Layout,
        chunk: u32,
        to_write: bool,
    ) -> io::Result<Place<'a>> {
        let absent = || io::Error::new(io::ErrorKind::InvalidInput, format!("there is no chunk {chunk}"));
        match (self, layout) {
            (Self::File(file), Layout::File(geometry)) => {
                Ok(Place::Range(file.clone(), geometry.bytes_of(chunk)))
            }
            (Self::Folder(staging), Layout::Folder(plan)) => match plan.span(chunk).ok_or_else(absent)? {
                Span::Files(entries) => Ok(Place::Files(staging, entries)),
                Span::Piece { entry, geometry, piece } => {
                    let file = if to_write { staging.long_to_write(entry)? } else { staging.long(entry)? };
                    Ok(Place::Range(file, geometry.bytes_of(piece)))
                }
            },
            _ => Err(absent()),
        }
    }

    /// The chunks that may be here, as far as the file system tells.
    pub(super) fn present(&self, layout: &Layout) -> ChunkSet {
        match self {
            Self::File(file) => extents(file, layout.geometry()),
            Self::Folder(staging) => staging.present(),
        }
    }

    /// What tells whether anything was changed since.
    pub(super) fn stamp(&self) -> io::Result<Stamp> {
        match self {
            Self::File(file) => Ok(Stamp::of(&file.metadata()?)),
            Self::Folder(staging) => staging.stamp(),
        }
    }

    /// Gives files their length.
    pub(super) fn settle_length(&self, disk: &dyn Disk, layout: &Layout) -> io::Result<()> {
        match self {
            Self::File(file) => disk.set_len(file, layout.size()),
            Self::Folder(staging) => staging.settle_lengths(),
        }
    }

    /// Makes everything durable that was written; `all` includes mode and times.
    pub(super) fn sync(&self, disk: &dyn Disk, all: bool) -> io::Result<()> {
        match self {
            Self::File(file) if all => disk.sync_all(file),
            Self::File(file) => disk.sync_data(file),
            // One call for however many files there are; and a folder's entries are data too.
            Self::Folder(staging) => disk.sync_file_system(&staging.handle),
        }
    }
}

/// The bytes that what has this name in a folder occupies, with everything in it.
pub(super) fn blocks_of(folder: &Dir, name: &str) -> u64 {
    use cap_std::fs::MetadataExt as _;
    let Ok(found) = folder.symlink_metadata(name) else { return 0 };
    let own = found.blocks().saturating_mul(512);
    if !found.is_dir() {
        return own;
    }
    let Ok(inside) = super::folders::open_folder_in(folder, name) else { return own };
    let Ok(entries) = inside.entries() else { return own };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.fold(own, |sum, name| sum.saturating_add(blocks_of(&inside, &name)))
}
