//! Older versions of a folder's long files: what of them is still right is taken over, and only the rest has to be moved.

use std::{fs::File, io, ops::Range, sync::Arc};

use p2p_protocol::{
    Cv,
    limits::{CHECKPOINT_BYTES, MAX_VALUES_ASKED},
    tree::{self, Expected},
};

use super::{error::StoreError, folder::Folder, folders::Folders, partial::Partial};
use crate::disk::is_hole;

/// An older version of one of the folder's long files.
#[derive(Debug)]
pub(crate) struct Older {
    /// The number of the file's entry.
    entry: u32,
    /// The file's number among the files.
    number: u32,
    groups: u64,
    path: String,
    copy: Arc<Folders>,
}

impl Older {
    /// The file's number among the folder's files.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// How many values the file has.
    pub(crate) fn groups(&self) -> u64 {
        self.groups
    }
}

impl Partial {
    /// Files that have the paths of long ones of which there is nothing here yet, in the folders in which earlier copies may be; as
    /// many as there may be asked about.
    pub(crate) fn older_versions(&self) -> Vec<Older> {
        let Some(plan) = self.layout().plan() else { return Vec::new() };
        let here = {
            let state = self.state();
            let mut here = state.durable.clone();
            here.union(&state.unchecked);
            here
        };
        let opened = self.spec.alike.iter().filter_map(|path| Folder::open(path).ok());
        let copies: Vec<Arc<Folders>> = opened.map(|folder| Arc::new(Folders::new(folder.dir))).collect();
        let (mut found, mut left) = (Vec::new(), MAX_VALUES_ASKED);
        if copies.is_empty() {
            return found;
        }
        for (entry, geometry, chunks, groups) in plan.long_files() {
            let groups = groups.end - groups.start;
            let is_begun = here.next_from(chunks.start).is_some_and(|chunk| chunk < chunks.end);
            let Some(path) = plan.manifest().entries().get(entry as usize).map(|entry| &entry.path) else {
                continue;
            };
            if is_begun || groups > left || geometry.chunks() < 2 {
                continue;
            }
            let has = |copy: &&Arc<Folders>| {
                copy.open(path).and_then(|file| file.metadata()).is_ok_and(|metadata| metadata.is_file())
            };
            let (copy, number) = (copies.iter().find(has), plan.manifest().files().binary_search(&entry));
            if let (Some(copy), Ok(number)) = (copy, number) {
                left -= groups;
                let (number, path, copy) = (number as u32, path.clone(), copy.clone());
                found.push(Older { entry, number, groups, path, copy });
            }
        }
        found
    }

    /// Takes over what of an older version has the values that belong there, which have to be all of the file's; durable afterwards.
    /// `keep_on` is asked now and then.
    ///
    /// # Errors
    /// The values are not those of the file. What cannot be read or written is none: it is moved then, and if that cannot be
    /// written either, that says so.
    pub(crate) fn take_over(
        &self,
        older: &Older,
        values: &[Cv],
        keep_on: &dyn Fn() -> bool,
    ) -> Result<(), tree::TreeError> {
        let Some(plan) = self.layout().plan() else { return Ok(()) };
        let long = plan.long_files().find(|(entry, ..)| *entry == older.entry);
        let (Some((_, geometry, chunks, _)), Some((_, id))) = (long, plan.manifest().file(older.entry))
        else {
            return Ok(());
        };
        if values.len() as u64 != older.groups || tree::merge_root(values) != Some(id) {
            return Err(tree::TreeError::Mismatch);
        }
        let opened = older.copy.open(&older.path).and_then(|file| Ok((file.metadata()?, file)));
        let Ok((metadata, file)) = opened else { return Ok(()) };
        if !metadata.is_file() {
            return Ok(());
        }
        let mut unsynced = 0;
        for (piece, chunk) in (0..).zip(chunks) {
            if !keep_on() {
                break;
            }
            let (range, groups) = (geometry.bytes_of(piece), geometry.groups_of(piece));
            let value = values.get(groups.start as usize..groups.end as usize).and_then(tree::merge);
            let Some(value) = value.filter(|_| range.end <= metadata.len()) else { continue };
            let len = range.end - range.start;
            match self.take_over_chunk(&file, chunk, range, Expected::Subtree(value)) {
                Ok(true) => unsynced += len,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, "an older version of a file is not used");
                    break;
                }
            }
            if unsynced >= CHECKPOINT_BYTES && self.synced(&mut unsynced).is_err() {
                break;
            }
        }
        let _ = self.synced(&mut unsynced);
        Ok(())
    }

    fn take_over_chunk(
        &self,
        older: &File,
        chunk: u32,
        range: Range<u64>,
        expected: Expected,
    ) -> Result<bool, StoreError> {
        let bytes = if is_hole(older, range.clone()) {
            None
        } else {
            match self.read_range(older, range) {
                // It was cut short meanwhile.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => Some(read.map_err(self.io("read an older version for"))?),
            }
        };
        let Some(verified) = tree::verify_in(self.layout(), chunk, expected, bytes) else { return Ok(false) };
        self.write(verified)?;
        Ok(true)
    }

    /// A checkpoint. What is lost when it fails is fetched.
    fn synced(&self, unsynced: &mut u64) -> Result<(), StoreError> {
        if std::mem::take(unsynced) == 0 {
            return Ok(());
        }
        self.checkpoint()
            .map(|_| ())
            .inspect_err(|error| tracing::debug!(%error, "what was taken over is lost"))
    }
}
