//! What is in an older copy of a folder and has no place in the new one, whoever put it there: it is kept beside that.
//!
//! ```text
//!  a second name for each in a folder of its own ─▶ that synced ─▶ the new folder takes the older one's place ─▶ the older one removed
//! ```

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
};

use cap_std::fs::Dir;
use p2p_protocol::{
    Plan,
    limits::{MAX_DEPTH, MAX_NAME_LEN},
};

use super::{
    error::StoreError,
    folders::open_folder_in,
    partial::Partial,
    publish::{MOST_NUMBERED, PublishName},
};
use crate::disk::{Disk, PUBLIC_FOLDER, takes_no_link};

/// The folder that is to be replaced, and what is kept of it.
pub(super) struct LeftOver<'a> {
    partial: &'a Partial,
    name: &'a OsStr,
    older: Dir,
    known: HashSet<&'a str>,
    /// Made when there is something to keep.
    kept: Option<(PathBuf, Dir)>,
}

impl<'a> LeftOver<'a> {
    /// Looks at what has this name. What it is must be settled.
    pub(super) fn new(partial: &'a Partial, name: &'a OsStr, plan: &'a Plan) -> Result<Self, StoreError> {
        let older = open_folder_in(&partial.folder.dir, name);
        let older = older.map_err(StoreError::io("open", &partial.folder.path.join(name)))?;
        let known = plan.manifest().entries().iter().map(|entry| entry.path.as_str()).collect();
        Ok(Self { partial, name, older, known, kept: None })
    }

    /// Where something is kept.
    pub(super) fn path(self) -> Option<PathBuf> {
        self.kept.map(|(path, _)| path)
    }

    /// Keeps what there is, durably. Again, it keeps what has come since.
    pub(super) fn keep(&mut self) -> Result<(), StoreError> {
        let path = self.partial.folder.path.join(self.name);
        let failed = StoreError::io("keep what is left over of", &path);
        let older = self.older.try_clone();
        older.and_then(|older| self.keep_of(&older, &mut Vec::new())).map_err(failed)
    }

    fn keep_of(&mut self, folder: &Dir, path: &mut Vec<OsString>) -> io::Result<()> {
        let mut kept = None;
        for entry in folder.entries()? {
            let name = entry?.file_name();
            let found = match folder.symlink_metadata(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => found?,
            };
            if found.is_dir() {
                path.push(name.clone());
                if path.len() > MAX_DEPTH {
                    return Err(io::Error::other("folders lie too deep in it"));
                }
                self.keep_of(&open_folder_in(folder, &name)?, path)?;
                path.pop();
                continue;
            }
            let inside: PathBuf = path.iter().chain([&name]).collect();
            if inside.to_str().is_some_and(|inside| self.known.contains(inside)) {
                continue;
            }
            let place = match &kept {
                Some(place) => place,
                None => kept.insert(self.place(path)?),
            };
            keep_one(&**self.partial.store.disk(), folder, place, &name)?;
        }
        kept.map_or(Ok(()), |place| self.partial.store.disk().sync_folder(&place))
    }

    /// The folder in which something of a folder is kept.
    fn place(&mut self, path: &[OsString]) -> io::Result<Dir> {
        let disk = &**self.partial.store.disk();
        let mut folder = match &self.kept {
            Some((_, root)) => root.try_clone()?,
            None => {
                let (kept, root) = self.make_root(disk)?;
                self.kept = Some((kept, root.try_clone()?));
                root
            }
        };
        for name in path {
            let made = disk.make_folder(&folder, name, PUBLIC_FOLDER);
            let inside = match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => open_folder_in(&folder, name)?,
            };
            disk.sync_folder(&folder)?;
            folder = inside;
        }
        Ok(folder)
    }

    fn make_root(&self, disk: &dyn Disk) -> io::Result<(PathBuf, Dir)> {
        let mut name = self.name.to_owned();
        name.push(" (left over)");
        if name.len() + " (10000)".len() > MAX_NAME_LEN {
            name = "left over".into();
        }
        let folder = &self.partial.folder;
        for name in (0..=MOST_NUMBERED).map(|n| PublishName::Exactly(name.clone()).variant(n)) {
            match disk.make_folder(&folder.dir, &name, PUBLIC_FOLDER) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            disk.sync_folder(&folder.dir)?;
            return Ok((folder.path.join(&name), open_folder_in(&folder.dir, &name)?));
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no name is free for it"))
    }
}

/// Gives something a second name, or where it can have none, another one.
fn keep_one(disk: &dyn Disk, from: &Dir, to: &Dir, name: &OsStr) -> io::Result<()> {
    let kept = match disk.link(from, name, to, name) {
        Err(error) if takes_no_link(&error) => disk.rename_new(from, name, to, name),
        kept => kept,
    };
    match kept {
        // It was kept when this looked before.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        kept => kept,
    }
}
