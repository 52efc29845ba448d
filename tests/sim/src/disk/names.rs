//! The names on stable storage, as far as they differ from what the folders show.
//!
//! Every step that makes or takes a name is pending until a folder it touches is synced. A rename is one step:
//! its two sides reach the disk together. Stable storage is known entry by entry, so that any subset of the
//! pending steps has a meaning, also one in which a file was renamed that was never made.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs::{File, Permissions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::{FileExt, MetadataExt, PermissionsExt},
    },
    path::Path,
};

use rand::{Rng, RngExt};
use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{
    Loss,
    data::extents,
    model::{Id, id_of},
};

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) folder: Id,
    pub(super) name: OsString,
}

/// What one operation did to names: each of them means this object afterwards, or nothing.
pub(super) type Step = Vec<(Entry, Option<Id>)>;

/// The names that may be otherwise on stable storage.
#[derive(Debug, Default)]
pub(super) struct Names {
    durable: BTreeMap<Entry, Option<Id>>,
    pending: Vec<Step>,
}

/// What a name means just now.
pub(super) fn look(folder: impl AsFd, name: &OsStr) -> io::Result<Option<Id>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some((found.st_dev, found.st_ino))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Names {
    /// A step was made; `before` is what its names meant.
    pub(super) fn changed(&mut self, step: Step, before: impl IntoIterator<Item = Option<Id>>) {
        for ((entry, _), before) in step.iter().zip(before) {
            self.durable.entry(entry.clone()).or_insert(before);
        }
        self.pending.push(step);
    }

    /// A folder was synced: the steps that touch it are durable, and those before them on the same names.
    pub(super) fn synced(&mut self, folder: Id) {
        let mut names = BTreeSet::new();
        let mut pending = Vec::new();
        let mut durable = Vec::new();
        for step in std::mem::take(&mut self.pending).into_iter().rev() {
            if step.iter().any(|(entry, _)| entry.folder == folder || names.contains(entry)) {
                names.extend(step.iter().map(|(entry, _)| entry.clone()));
                durable.push(step);
            } else {
                pending.push(step);
            }
        }
        pending.reverse();
        self.pending = pending;
        durable.into_iter().rev().for_each(|step| self.reach(step));
        let waiting: BTreeSet<&Entry> = self.pending.iter().flatten().map(|(entry, _)| entry).collect();
        self.durable.retain(|entry, _| waiting.contains(entry));
    }

    /// Everything was synced: stable storage has what the folders show.
    pub(super) fn all_synced(&mut self) {
        self.pending.clear();
        self.durable.clear();
    }

    fn reach(&mut self, step: Step) {
        self.durable.extend(step);
    }

    /// Folders and objects that have to be within reach.
    pub(super) fn mentioned(&self) -> BTreeSet<Id> {
        let folders = self.durable.keys().map(|entry| entry.folder);
        let before = self.durable.values().copied().flatten();
        let after = self.pending.iter().flatten().filter_map(|(_, object)| *object);
        folders.chain(before).chain(after).collect()
    }

    /// The power fails: folders get the names that stable storage has.
    pub(super) fn power_loss(
        mut self,
        root: &Path,
        handles: &mut BTreeMap<Id, File>,
        loss: Loss,
        rng: &mut dyn Rng,
    ) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let kept = match loss {
            Loss::Everything => 0,
            Loss::AnySubset => pending.len(),
            Loss::Journal => rng.random_range(0..=pending.len()),
        };
        for step in pending.into_iter().take(kept) {
            if loss == Loss::Journal || rng.random() {
                self.reach(step);
            }
        }
        Rebuild::new(root, handles)?.run(self.durable)
    }
}

/// Changes folders to what stable storage has. What has to go is first put aside, in a folder of this work's
/// own, and from there takes its place again or vanishes.
struct Rebuild<'a> {
    aside: tempfile::TempDir,
    handles: &'a mut BTreeMap<Id, File>,
    moved: BTreeMap<Id, Vec<OsString>>,
    count: u64,
}

impl<'a> Rebuild<'a> {
    fn new(root: &Path, handles: &'a mut BTreeMap<Id, File>) -> io::Result<Self> {
        let aside = tempfile::Builder::new().prefix(".aside-").tempdir_in(root)?;
        Ok(Self { aside, handles, moved: BTreeMap::new(), count: 0 })
    }

    fn run(mut self, wanted: BTreeMap<Entry, Option<Id>>) -> io::Result<()> {
        let mut wrong = Vec::new();
        for (entry, object) in wanted {
            let found = look(self.handle(entry.folder), &entry.name)?;
            if found != object {
                wrong.push((entry, object));
            }
        }
        let dead: BTreeSet<Id> = wrong.iter().filter_map(|(_, object)| *object).collect();
        for id in dead {
            self.revive_folder(id)?;
        }
        // Names in a folder that is gone for good are gone with it.
        wrong.retain(|(entry, _)| self.handle(entry.folder).metadata().is_ok_and(|found| found.nlink() > 0));
        for (entry, _) in &wrong {
            if let Some(found) = look(self.handle(entry.folder), &entry.name)? {
                let name = self.next_name();
                let (folder, aside) = (self.handle(entry.folder), File::open(self.aside.path())?);
                rustix::fs::renameat(folder, &entry.name, &aside, &name)?;
                self.moved.entry(found).or_default().push(name);
            }
        }
        for (entry, object) in &wrong {
            if let Some(object) = object {
                self.place(entry, *object)?;
            }
        }
        self.aside.close()
    }

    fn handle(&self, id: Id) -> &File {
        &self.handles[&id]
    }

    fn next_name(&mut self) -> OsString {
        self.count += 1;
        self.count.to_string().into()
    }

    /// A folder that was removed, and is there again, is a new one in the old one's place.
    fn revive_folder(&mut self, id: Id) -> io::Result<()> {
        let found = self.handle(id).metadata()?;
        if !found.is_dir() || found.nlink() > 0 {
            return Ok(());
        }
        let name = self.next_name();
        let path = self.aside.path().join(&name);
        std::fs::create_dir(&path)?;
        std::fs::set_permissions(&path, found.permissions())?;
        self.handles.insert(id, File::open(&path)?);
        self.moved.entry(id).or_default().push(name);
        Ok(())
    }

    fn place(&mut self, entry: &Entry, object: Id) -> io::Result<()> {
        let moved = self.moved.get_mut(&object).and_then(Vec::pop);
        let (folder, file) = (self.handle(entry.folder), self.handle(object));
        if let Some(name) = moved {
            let aside = File::open(self.aside.path())?;
            return Ok(rustix::fs::renameat(&aside, &name, folder, &entry.name)?);
        }
        let found = file.metadata()?;
        if found.nlink() > 0 {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let whole = rustix::fs::CWD;
            return Ok(rustix::fs::linkat(whole, path, folder, &entry.name, AtFlags::SYMLINK_FOLLOW)?);
        }
        copy(file, folder.as_fd(), &entry.name)
    }
}

/// Makes a new file of one that has no name any more.
fn copy(from: &File, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let found = from.metadata()?;
    let how = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let to = File::from(rustix::fs::openat(folder, name, how, Mode::RUSR | Mode::WUSR)?);
    to.set_len(found.len())?;
    for extent in extents(from, 0..found.len()) {
        let mut bytes = vec![0; (extent.end - extent.start) as usize];
        from.read_exact_at(&mut bytes, extent.start)?;
        to.write_all_at(&bytes, extent.start)?;
    }
    to.set_permissions(Permissions::from_mode(found.mode() & 0o7777))?;
    to.set_times(std::fs::FileTimes::new().set_modified(found.modified()?))
}

/// The folder's identity, and a name in it.
pub(super) fn entry(folder: impl AsFd, name: &OsStr) -> io::Result<Entry> {
    Ok(Entry { folder: id_of(folder)?, name: name.to_owned() })
}
