//! Who may do what with content that takes the place of an older copy: what its owner has closed to others stays closed.

use std::{ffi::OsStr, fs::File, io, os::unix::fs::MetadataExt};

use cap_std::fs::Dir;
use p2p_protocol::manifest::Node;
use rustix::fs::FileType;

use super::{
    data::Data,
    error::StoreError,
    folders::{Folders, open_folder_in},
    partial::Partial,
    shown::stat,
    staging::Staging,
};

impl Partial {
    /// Gives what is received the permissions of what has the name now, file by file where it is a folder. True where that has changed
    /// anything, which is to be synced then.
    pub(super) fn take_modes_of(&self, older: &OsStr) -> Result<bool, StoreError> {
        let disk = self.store.disk();
        let failed = |error| StoreError::io("set the permissions of", &self.folder.path.join(older))(error);
        let Some(name) = older.to_str() else { return Ok(false) };
        let Some(found) = stat(&self.folder.dir, name).map_err(failed)? else { return Ok(false) };
        match &self.data {
            Data::File(file) => {
                let mode = of_file(found.st_mode, self.spec.executable);
                let differs = file.metadata().map_err(failed)?.mode() & 0o777 != mode;
                if differs {
                    disk.set_mode(file, mode).map_err(failed)?;
                }
                Ok(differs)
            }
            Data::Folder(staging) => {
                let older = open_folder_in(&self.folder.dir, older).map_err(failed)?;
                self.take_modes_in(staging, older).map_err(failed)
            }
        }
    }

    fn take_modes_in(&self, staging: &Staging, older: Dir) -> io::Result<bool> {
        let disk = self.store.disk();
        let root = older.dir_metadata()?;
        let older = Folders::new(older);
        let mut changed = false;
        let mut set = |file: &File, mode: u32| -> io::Result<()> {
            if file.metadata()?.mode() & 0o777 != mode {
                disk.set_mode(file, mode)?;
                changed = true;
            }
            Ok(())
        };
        // From the inside outwards.
        for entry in staging.plan.manifest().entries().iter().rev() {
            // What was not there before has nothing to keep.
            let Ok((folder, name)) = older.locate(&entry.path) else { continue };
            let Ok(Some(found)) = stat(&folder, name) else { continue };
            match (&entry.node, FileType::from_raw_mode(found.st_mode)) {
                (Node::File { executable, .. }, FileType::RegularFile) => {
                    set(&staging.folders.open(&entry.path)?, of_file(found.st_mode, *executable))?;
                }
                (Node::Folder, FileType::Directory) => {
                    set(&staging.folders.open(&entry.path)?, of_folder(found.st_mode))?;
                }
                _ => {}
            }
        }
        set(&staging.handle, of_folder(cap_std::fs::MetadataExt::mode(&root)))?;
        Ok(changed)
    }
}

/// Whether it may be run is a matter of its content, and by whom one of who may read it.
fn of_file(older: u32, executable: bool) -> u32 {
    let mode = older & 0o666 | 0o400;
    if executable { mode | (mode & 0o444) >> 2 } else { mode }
}

/// A folder that its owner could not write to could not get its name.
fn of_folder(older: u32) -> u32 {
    older & 0o777 | 0o700
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_closed_stays_closed() {
        assert_eq!((of_file(0o100_600, false), of_file(0o100_600, true)), (0o600, 0o700));
        assert_eq!((of_file(0o100_755, false), of_file(0o100_640, true)), (0o644, 0o750));
        assert_eq!((of_file(0o104_000, false), of_file(0o100_222, true)), (0o400, 0o722));
        assert_eq!((of_folder(0o40_550), of_folder(0o40_755)), (0o750, 0o755));
    }
}
