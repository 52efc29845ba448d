//! What is on stable storage: the data of files, and names.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry as MapEntry},
    ffi::OsStr,
    fs::File,
    io,
    os::fd::AsFd,
    path::Path,
};

use rand::Rng;
use rustix::fs::{Mode, OFlags};

use super::{
    Loss,
    data::{Change, Data},
    names::{Names, Step, entry, look},
};

/// Device and inode number.
pub(super) type Id = (u64, u64);

pub(super) fn id_of(file: impl AsFd) -> io::Result<Id> {
    let found = rustix::fs::fstat(file)?;
    Ok((found.st_dev, found.st_ino))
}

/// What the disk has lost if the power fails now. A file or folder in which something is not durable is kept
/// open, so that its number is not given to another one.
#[derive(Debug, Default)]
pub(super) struct Model {
    handles: BTreeMap<Id, File>,
    data: BTreeMap<Id, Data>,
    names: Names,
    /// Files that a failed sync of everything has taken something from.
    untold: BTreeSet<Id>,
    /// How often syncing everything failed, and as of when that was told through which folder.
    failures: u64,
    told: BTreeMap<Id, u64>,
}

/// A file opened once more, in a way of its own: a clone would keep a lock of the one it was made of.
fn reopen(file: impl AsFd) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let open = |how| rustix::fs::open(&path, how | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
    Ok(open(OFlags::RDWR).or_else(|_| open(OFlags::RDONLY)).or_else(|_| open(OFlags::PATH))?.into())
}

impl Model {
    fn hold(&mut self, id: Id, file: impl AsFd) -> io::Result<()> {
        if let MapEntry::Vacant(free) = self.handles.entry(id) {
            free.insert(reopen(file)?);
        }
        Ok(())
    }

    /// Makes a change to a file's data. `change` says what will be done, `act` does it and says what of it was
    /// done.
    pub(super) fn change<T>(
        &mut self,
        file: impl AsFd,
        change: &Change,
        act: impl FnOnce() -> io::Result<(T, Option<Change>)>,
    ) -> io::Result<T> {
        let id = id_of(&file)?;
        self.hold(id, file)?;
        let data = self.data.entry(id).or_default();
        data.before(&self.handles[&id], change)?;
        let (value, done) = act()?;
        if let Some(done) = done {
            data.changed(done);
        }
        Ok(value)
    }

    /// Changes a file's mode or times.
    pub(super) fn change_attributes(
        &mut self,
        file: &File,
        act: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let id = id_of(file)?;
        self.hold(id, file)?;
        let data = self.data.entry(id).or_default();
        data.before_attributes(&self.handles[&id])?;
        act()
    }

    /// A file was synced.
    pub(super) fn synced(&mut self, file: impl AsFd, attributes_too: bool) -> io::Result<()> {
        if let Some(data) = self.data.get_mut(&id_of(file)?) {
            data.synced(attributes_too);
        }
        self.let_go();
        Ok(())
    }

    /// Everything was synced.
    pub(super) fn all_synced(&mut self) {
        self.data.values_mut().for_each(|data| data.synced(true));
        self.names.all_synced();
        self.let_go();
    }

    /// A sync of everything failed. What it lost of a file, that file's own next sync tells of; and whoever syncs everything
    /// through another folder is told too.
    pub(super) fn all_sync_failed(&mut self, folder: impl AsFd, rng: &mut dyn Rng) -> io::Result<()> {
        self.data.values_mut().for_each(|data| data.sync_failed(rng));
        self.untold.extend(self.data.keys());
        self.failures += 1;
        self.told.insert(id_of(folder)?, self.failures);
        Ok(())
    }

    /// Whether a file has lost something that its syncs have not told of.
    pub(super) fn owes_error(&mut self, file: impl AsFd) -> io::Result<bool> {
        Ok(self.untold.remove(&id_of(file)?))
    }

    /// A folder that was made after a sync had failed is not told of that: errors count from when it is opened.
    pub(super) fn folder_made(&mut self, folder: impl AsFd, name: &OsStr) -> io::Result<()> {
        if let Some(id) = look(folder, name)? {
            self.told.insert(id, self.failures);
        }
        Ok(())
    }

    /// Whether a sync of everything failed that nobody was told of through this folder.
    pub(super) fn owes_error_of_all(&mut self, folder: impl AsFd) -> io::Result<bool> {
        let told = self.told.insert(id_of(folder)?, self.failures);
        Ok(told.unwrap_or(0) < self.failures)
    }

    /// A sync of a file failed.
    pub(super) fn sync_failed(&mut self, file: impl AsFd, rng: &mut dyn Rng) -> io::Result<()> {
        if let Some(data) = self.data.get_mut(&id_of(file)?) {
            data.sync_failed(rng);
        }
        Ok(())
    }

    /// Makes or takes names: `names` are those that `act` changes, in one step.
    pub(super) fn rename<T>(
        &mut self,
        names: &[(&dyn AsFolder, &OsStr)],
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut before = Vec::new();
        for (folder, name) in names {
            let object = look(folder.fd(), name)?;
            if let Some(id) = object {
                self.hold_named(id, *folder, name)?;
            }
            before.push(object);
        }
        let value = act()?;
        let mut step = Step::new();
        for (folder, name) in names {
            let after = look(folder.fd(), name)?;
            if let Some(id) = after {
                self.hold_named(id, *folder, name)?;
            }
            self.hold(id_of(folder.fd())?, folder.fd())?;
            step.push((entry(folder.fd(), name)?, after));
        }
        if step.iter().zip(&before).any(|((_, after), before)| after != before) {
            self.names.changed(step, before);
        }
        Ok(value)
    }

    fn hold_named(&mut self, id: Id, folder: &dyn AsFolder, name: &OsStr) -> io::Result<()> {
        if self.handles.contains_key(&id) {
            return Ok(());
        }
        let how = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let named = rustix::fs::openat(folder.fd(), name, how, Mode::empty())?;
        let is_link = rustix::fs::fstat(&named)?.st_mode & 0o170_000 == 0o120_000;
        let file = if is_link { named.into() } else { reopen(named)? };
        self.handles.insert(id, file);
        Ok(())
    }

    /// A folder was synced.
    pub(super) fn folder_synced(&mut self, folder: impl AsFd) -> io::Result<()> {
        self.names.synced(id_of(folder)?);
        self.let_go();
        Ok(())
    }

    /// Forgets what is durable.
    fn let_go(&mut self) {
        let mentioned = self.names.mentioned();
        self.data.retain(|_, data| !data.is_clean());
        self.handles.retain(|id, _| self.data.contains_key(id) || mentioned.contains(id));
    }

    /// How many files and folders are kept open.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.handles.len()
    }

    /// The power fails. Nothing may have a file of this disk open.
    pub(super) fn power_loss(&mut self, root: &Path, loss: Loss, rng: &mut dyn Rng) -> io::Result<()> {
        let Self { mut handles, data, names, .. } = std::mem::take(self);
        for (id, data) in data {
            data.power_loss(&handles[&id], loss, rng)?;
        }
        names.power_loss(root, &mut handles, loss, rng)
    }
}

/// A folder, however it is held.
pub(super) trait AsFolder {
    /// Its descriptor.
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFolder for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}
