//! Some of a file's bytes as a file of their own: cut out of a partial that has the chunks they lie in.

use std::{ffi::OsStr, fs::File, io, ops::Range};

use p2p_protocol::{ChunkSet, FileId};

use super::{
    error::StoreError,
    folder::open_file,
    layout::{CUT, PART},
    partial::Partial,
    publish::{MOST_NUMBERED, PublishName, Published},
    recover::remove_files,
};
use crate::disk::{is_unsupported, write_all};

impl Partial {
    /// Makes these bytes durable under a name of their own, replacing nothing; a name that is taken by the same bytes is the
    /// result, as for a whole file. What else there is of the file stays as a partial. Chunks that are missing after all are told as
    /// [`StoreError::SyncFailed`], to be fetched again.
    pub(crate) fn publish_bytes(
        &self,
        name: &PublishName,
        bytes: Range<u64>,
    ) -> Result<Published, StoreError> {
        let mut journal = self.journal();
        self.check_publishable(&journal, name)?;
        let (file, id) = self.cut(&bytes)?;
        let published = self.place_cut(name, &file, id, bytes.end - bytes.start)?;
        if !self.has_more_than(&bytes) {
            journal.ended = true;
            if let Err(error) = remove_files(&self.store, &self.folder, &self.partials, &self.stem()) {
                tracing::warn!(%error, "what is left of a partial could not be removed");
            }
            return Ok(published);
        }
        drop(journal);
        if let Err(error) = self.park() {
            tracing::warn!(%error, "what else is here of the file is hashed when it goes on");
        }
        Ok(published)
    }

    /// Whether there is anything of the file besides the chunks of these bytes. What lies there unproven, of an end that was not orderly
    /// and that no record tells of, is not worth a partial that nobody may ever come back to.
    fn has_more_than(&self, bytes: &Range<u64>) -> bool {
        let mut rest = {
            let state = self.state();
            let mut all = state.durable.clone();
            [&state.pending, &state.syncing, &state.claimed].into_iter().for_each(|set| all.union(set));
            all
        };
        rest.subtract(&self.layout().geometry().chunks_with(bytes.clone()).collect::<ChunkSet>());
        !rest.is_empty()
    }

    /// Writes the bytes into a file beside the partial's data, synced, and says what their hash is.
    fn cut(&self, bytes: &Range<u64>) -> Result<(File, FileId), StoreError> {
        let (disk, geometry) = (&**self.store.disk(), self.layout().geometry());
        let chunks = geometry.chunks_with(bytes.clone());
        let missing: ChunkSet = {
            let state = self.state();
            chunks.clone().filter(|chunk| !state.is_stored(*chunk)).collect()
        };
        if !missing.is_empty() {
            return Err(StoreError::SyncFailed { lost: missing, path: self.path_of(PART) });
        }
        let path = self.path_of(CUT);
        let failed = |what| StoreError::io(what, &path);
        let file = open_file(disk, &self.partials, self.cut_name(), true).map_err(failed("open"))?;
        disk.set_len(&file, 0).map_err(failed("write"))?;
        let mut hasher = blake3::Hasher::new();
        for chunk in chunks {
            let (lies, read) = (geometry.bytes_of(chunk), self.read(chunk)?);
            let (start, end) = (bytes.start.max(lies.start), bytes.end.min(lies.end));
            let part = &read[(start - lies.start) as usize..(end - lies.start) as usize];
            hasher.update(part);
            write_all(disk, &file, part, start - bytes.start).map_err(failed("write"))?;
        }
        disk.set_mode(&file, self.store.file_mode() & 0o666).map_err(failed("set the permissions of"))?;
        disk.sync_all(&file).map_err(failed("sync"))?;
        Ok((file, FileId(*hasher.finalize().as_bytes())))
    }

    fn cut_name(&self) -> String {
        format!("{}{CUT}", self.stem())
    }

    fn place_cut(
        &self,
        name: &PublishName,
        file: &File,
        id: FileId,
        size: u64,
    ) -> Result<Published, StoreError> {
        for n in 0..=MOST_NUMBERED {
            let new = name.variant(n);
            let path = self.folder.path.join(&new);
            let named = new.to_string_lossy().into_owned();
            match self.rename_cut(&new) {
                Ok(()) => {
                    let synced = self
                        .store
                        .make_durable(file, &self.folder.dir)
                        .and_then(|()| self.store.disk().sync_folder(&self.partials));
                    if let Err(error) = synced {
                        // The next try finds these bytes under their name, and syncs that again.
                        return Err(StoreError::io("sync the folder of", &path)(error));
                    }
                    return Ok(Published { path, name: named, already: false, ..Published::default() });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let there = self.store.identical_in(&self.folder.dir, &new, &path, id, size)?;
                    if let Some(there) = there {
                        let durable = self.store.make_durable(&there, &self.folder.dir);
                        durable.map_err(StoreError::io("sync", &path))?;
                        return Ok(Published { path, name: named, already: true, ..Published::default() });
                    }
                }
                Err(error) => return Err(StoreError::io("publish as", &path)(error)),
            }
        }
        Err(StoreError::NoName { path: self.folder.path.join(name.variant(0)) })
    }

    fn rename_cut(&self, new: &OsStr) -> io::Result<()> {
        let (disk, cut) = (self.store.disk(), self.cut_name());
        let cut = OsStr::new(&cut);
        match disk.rename_new(&self.partials, cut, &self.folder.dir, new) {
            Err(error) if is_unsupported(&error) => {
                disk.link(&self.partials, cut, &self.folder.dir, new)?;
                disk.unlink(&self.partials, cut)
            }
            renamed => renamed,
        }
    }
}
