//! Standard input that is to be sent. It has no second reading, so that the command line writes it to a file in the home
//! first, which is removed once no transfer needs it.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use p2p_protocol::control::SPOOLED_INPUT;

use super::{
    Store,
    error::StoreError,
    folder::{Folder, lock, open_file},
};

impl Store {
    /// Removes a file of standard input; one that is gone is fine, and nothing else is ever removed.
    pub(crate) fn remove_spooled(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.file_name().filter(|name| is_input(name) && path.parent() == Some(&self.spool()));
        let Some(name) = name else { return Ok(()) };
        match self.disk().unlink(&Folder::open(&self.spool())?.dir, name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes all files of standard input but these, and those that a command still holds the lock of.
    pub(crate) fn sweep_spooled(&self, wanted: &HashSet<PathBuf>) -> Result<(), StoreError> {
        let folder = match Folder::open(&self.spool()) {
            Err(error) if error.is_gone() => return Ok(()),
            other => other?,
        };
        let entries = folder.dir.entries().map_err(StoreError::io("list the folder", &folder.path))?;
        for name in entries.flatten().map(|entry| entry.file_name()).filter(|name| is_input(name)) {
            let path = folder.path.join(&name);
            if wanted.contains(&path) {
                continue;
            }
            // What cannot be opened is no file of ours.
            let Ok(file) = open_file(&**self.disk(), &folder.dir, &name, false) else { continue };
            if lock(&file, &path).is_ok() {
                tracing::info!(path = %path.display(), "removed standard input that nobody sends any longer");
                self.remove_spooled(&path)?;
            }
        }
        Ok(())
    }
}

fn is_input(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(SPOOLED_INPUT.as_bytes())
}
