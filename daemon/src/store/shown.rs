//! A folder that appears under its name while it is filled: each file is in it once it is whole, verified and synced, and never
//! before. Its owner may look at it, change it and put things in it meanwhile.
//!
//! ```text
//!  folder made among the partials ─▶ its name and identity synced ─▶ renamed, replacing nothing ─▶ filled
//!  chunks durable ─▶ a file is whole ─▶ it gets its name there too, replacing nothing ─▶ ... ─▶ links, times ─▶ synced ─▶ done
//! ```
//!
//! A file keeps its first name among the partials until the end: what a crash leaves is what it leaves of any folder's partial, and
//! whoever removes a file from the folder takes nothing away that was verified. From the moment a file has two names it is not written to
//! any longer; what has to be written again is written to a copy (`Staging::long_to_write`). And a file gets its name in the folder
//! only while it has no other but the first: one that was moved elsewhere stays its mover's, and is copied.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use cap_std::fs::Dir;
use p2p_protocol::{
    ChunkSet, FileId, Plan,
    manifest::{Entry, Node},
    plan::Span,
};
use rustix::{
    fs::{AtFlags, Stat},
    io::Errno,
};

use super::{
    Store,
    data::Data,
    error::StoreError,
    folder::{Folder, open_file},
    folders::{Folders, lock, open_folder_in},
    layout::{CUT, FRESH, INTO, PART, PartialKey},
    partial::Partial,
    publish::{MOST_NUMBERED, PublishName},
    shown_file::{Identity, ShownAs},
    staging::Staging,
    stamp::Stamp,
};
use crate::disk::{Disk, PUBLIC_FOLDER, is_unsupported, takes_no_link};

/// Where a folder is to appear while it is filled.
#[derive(Clone, Debug)]
pub(crate) struct Show {
    /// Under this name.
    pub(crate) name: PublishName,
    /// What its owner asked for: of a part of a folder, that folder.
    pub(crate) asked: FileId,
    /// Whether that is begun; else it only goes on.
    pub(crate) wanted: bool,
}

/// The folder that is filled.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) path: PathBuf,
    is: ShownAs,
    pub(super) root: Dir,
    pub(super) seen: Mutex<Seen>,
}

/// What of it has appeared, by the numbers of the entries.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What these files were like when they appeared. One that is not here is hashed at the end.
    pub(super) stamps: HashMap<u32, Stamp>,
    /// Whole and durable, and still to appear.
    pub(super) due: BTreeSet<u32>,
    /// Something else is in their place.
    pub(super) blocked: BTreeSet<u32>,
    /// These have had their names in it, so that others may have had them in their hands.
    appeared: BTreeSet<u32>,
}

/// What became of a file that was to appear.
enum Place {
    Has(Option<Stamp>),
    IsTaken,
}

impl Shown {
    pub(super) fn name(&self) -> &OsStr {
        &self.is.name
    }

    /// Whether the folder still is where it appeared.
    pub(super) fn has_its_name(&self, destination: &Folder) -> bool {
        self.is.find(&destination.dir).is_some()
    }

    /// The folder as it is now: what was looked up before may have been swapped since.
    pub(super) fn folders(&self) -> io::Result<Folders> {
        Ok(Folders::new(self.root.try_clone()?))
    }
}

impl Partial {
    /// Lets a folder appear, where that is wanted or was begun, with what is in it already.
    pub(super) fn shown(mut self) -> Result<Self, StoreError> {
        let (Data::Folder(_), Some(show)) = (&self.data, self.spec.show.clone()) else { return Ok(self) };
        let shown = self.begin_to_show(&show).and_then(|shown| {
            self.shown = shown;
            self.show_first()
        });
        match shown {
            Ok(()) => Ok(self),
            Err(error) => {
                if let Err(error) = self.park() {
                    tracing::warn!(%error, "the last checkpoint failed");
                }
                Err(error)
            }
        }
    }

    fn begin_to_show(&self, show: &Show) -> Result<Option<Shown>, StoreError> {
        let disk = &**self.store.disk();
        let path = self.path_of(INTO);
        let known = match open_file(disk, &self.partials, format!("{}{INTO}", self.stem()), false) {
            Ok(file) => ShownAs::read(disk, &file).map_err(StoreError::io("read", &path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(StoreError::io("open", &path)(error)),
        };
        if let Some(is) = &known
            && let Some(root) = is.find(&self.folder.dir)
        {
            let at = self.folder.path.join(&is.name);
            let fits = match &show.name {
                PublishName::Free(_) => true,
                name => (0..=MOST_NUMBERED).any(|n| name.variant(n) == is.name),
            };
            if fits {
                return Ok(Some(Shown { path: at, is: is.clone(), root, seen: Mutex::default() }));
            }
            // It is asked for under another name now, and nobody fills the folder that there is: what is in that stays.
            tracing::info!(path = %at.display(), "a folder stays with what has appeared in it");
        }
        if show.wanted {
            return self.place_fresh(show);
        }
        if let (Some(is), Data::Folder(staging)) = (known, &self.data) {
            let at = self.folder.path.join(is.name);
            tracing::warn!(path = %at.display(), "a folder is not filled any longer; what it was to be comes as a whole");
            staging.own_all().map_err(self.io("copy files of"))?;
            let removed = disk.unlink(&self.partials, OsStr::new(&format!("{}{INTO}", self.stem())));
            removed.map_err(StoreError::io("remove", &path))?;
        }
        Ok(None)
    }

    /// Makes the folder, and gives it the first name that is free; none where all is there already. Which folder it is, and under which name, is durable before it
    /// has that: a crash leaves no folder that would not be known again.
    fn place_fresh(&self, show: &Show) -> Result<Option<Shown>, StoreError> {
        let (disk, name) = (&**self.store.disk(), &show.name);
        let (fresh, into) = (format!("{}{FRESH}", self.stem()), self.path_of(INTO));
        let failed = |what| StoreError::io(what, &self.folder.path.join(name.variant(0)));
        match disk.make_folder(&self.partials, OsStr::new(&fresh), PUBLIC_FOLDER) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make the folder")(error));
            }
            _ => {}
        }
        let root = open_folder_in(&self.partials, &fresh).map_err(failed("open"))?;
        let folder = Identity::of(&root).map_err(failed("look at"))?;
        let file = open_file(disk, &self.partials, format!("{}{INTO}", self.stem()), true)
            .map_err(StoreError::io("open", &into))?;
        self.check_links()?;
        for new in (0..=MOST_NUMBERED).map(|n| name.variant(n)) {
            if self.folder.dir.symlink_metadata(&new).is_ok() {
                if self.is_there(&new)? {
                    // A run that was killed at its end; there is nothing left to show.
                    return Ok(None);
                }
                continue;
            }
            let path = self.folder.path.join(&new);
            let is = ShownAs { name: new.clone(), folder, asked: show.asked };
            is.write(disk, &file).map_err(StoreError::io("write", &into))?;
            self.sync_folders().map_err(StoreError::io("sync the folder of", &path))?;
            match self.rename_fresh(&fresh, &new) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(StoreError::io("make the folder", &path))?,
            }
            if let Err(error) = self.sync_folders() {
                // A second sync of the same change would prove nothing; the next try makes it again.
                let back = disk.rename(&self.folder.dir, &new, &self.partials, OsStr::new(&fresh));
                back.map_err(StoreError::io("take back", &path))?;
                return Err(StoreError::io("sync the folder of", &path)(error));
            }
            tracing::info!(path = %path.display(), "a folder appears file by file");
            let shown = Shown { path, is, root, seen: Mutex::default() };
            return if shown.has_its_name(&self.folder) { Ok(Some(shown)) } else { Err(gone(&shown)) };
        }
        Err(StoreError::NoName { path: self.folder.path.join(name.variant(0)) })
    }

    /// Whether a file can have two names here, which is what this rests on.
    fn check_links(&self) -> Result<(), StoreError> {
        let disk = self.store.disk();
        let [into, second] = [INTO, CUT].map(|ending| OsString::from(format!("{}{ending}", self.stem())));
        // A crash may have left it.
        let _ = disk.unlink(&self.partials, &second);
        match disk.link(&self.partials, &into, &self.partials, &second) {
            Err(error) if takes_no_link(&error) => {
                Err(StoreError::NoLinks { path: self.folder.path.clone() })
            }
            linked => linked
                .and_then(|()| disk.unlink(&self.partials, &second))
                .map_err(StoreError::io("link", &self.path_of(INTO))),
        }
    }

    fn rename_fresh(&self, fresh: &str, new: &OsStr) -> io::Result<()> {
        let (disk, fresh) = (self.store.disk(), OsStr::new(fresh));
        match disk.rename_new(&self.partials, fresh, &self.folder.dir, new) {
            Err(error) if is_unsupported(&error) => {
                // An empty folder claims the name, and is what the folder may replace.
                disk.make_folder(&self.folder.dir, new, PUBLIC_FOLDER)?;
                disk.rename(&self.partials, fresh, &self.folder.dir, new)
            }
            renamed => renamed,
        }
    }

    /// Lets appear what is whole and durable already: folders, empty files, what was not to be moved, and what an earlier run has brought.
    fn show_first(&self) -> Result<(), StoreError> {
        let (Some(shown), Data::Folder(staging)) = (&self.shown, &self.data) else { return Ok(()) };
        let plan = &staging.plan;
        staging.make_empty_files().map_err(self.io("make files in"))?;
        shown
            .make_folders(&**self.store.disk(), plan)
            .map_err(StoreError::io("make folders in", &shown.path))?;
        let manifest = plan.manifest();
        let spared = (0..).zip(manifest.files()).filter(|(number, entry)| {
            let empty = manifest.file(**entry).is_some_and(|(size, _)| size == 0);
            empty || !plan.files().contains(*number)
        });
        lock(&shown.seen).due.extend(spared.map(|(_, entry)| *entry));
        let durable = self.state().durable.clone();
        self.show_whole(&durable)
    }

    /// Lets the files appear that are whole with these chunks, which are durable.
    pub(super) fn show_whole(&self, chunks: &ChunkSet) -> Result<(), StoreError> {
        let (Some(shown), Data::Folder(staging)) = (&self.shown, &self.data) else { return Ok(()) };
        let (mut due, mut begun) = (Vec::new(), HashSet::new());
        for chunk in chunks.iter() {
            match staging.plan.span(chunk) {
                Some(Span::Files(numbers)) => due.extend(numbers),
                Some(Span::Piece { entry, .. }) => {
                    begun.insert(entry);
                }
                None => {}
            }
        }
        if !begun.is_empty() {
            let state = self.state();
            let long = staging.plan.long_files().filter(|(entry, ..)| begun.contains(entry));
            let whole =
                long.filter(|(_, _, chunks, _)| chunks.clone().all(|chunk| state.durable.contains(chunk)));
            due.extend(whole.map(|(entry, ..)| entry));
        }
        lock(&shown.seen).due.extend(due);
        self.show_due(shown, staging)
    }

    /// Lets appear what is to. What fails is still to appear.
    pub(super) fn show_due(&self, shown: &Shown, staging: &Staging) -> Result<(), StoreError> {
        let mut seen = lock(&shown.seen);
        if seen.due.is_empty() {
            return Ok(());
        }
        if !shown.has_its_name(&self.folder) {
            return Err(gone(shown));
        }
        let visible = shown.folders().map_err(StoreError::io("open", &shown.path))?;
        while let Some(number) = seen.due.first().copied() {
            let entry = staging.entry(number).map_err(self.io("show a file of"))?;
            let had_appeared = seen.appeared.contains(&number);
            match self.show_file(&visible, staging, number, entry, had_appeared)? {
                Place::Has(stamp) => {
                    seen.blocked.remove(&number);
                    seen.appeared.insert(number);
                    match stamp {
                        Some(stamp) => seen.stamps.insert(number, stamp),
                        None => seen.stamps.remove(&number),
                    };
                }
                Place::IsTaken => {
                    seen.stamps.remove(&number);
                    if seen.blocked.insert(number) {
                        let path = shown.path.join(&entry.path);
                        tracing::warn!(path = %path.display(), "something else is where a file is to appear; it is left alone");
                    }
                }
            }
            seen.due.remove(&number);
        }
        Ok(())
    }

    fn show_file(
        &self,
        visible: &Folders,
        staging: &Staging,
        number: u32,
        entry: &Entry,
        had_appeared: bool,
    ) -> Result<Place, StoreError> {
        let disk = &**self.store.disk();
        let failed = |error: io::Error| StoreError::io("show a file of", &self.path_of(PART))(error);
        let (folder, name) = match place_in(disk, visible, &entry.path) {
            Err(error) if is_no_folder(&error) => return Ok(Place::IsTaken),
            other => other.map_err(failed)?,
        };
        let (from, first) = staging.folders.locate(&entry.path).map_err(failed)?;
        let own = || match stat(&from, first) {
            Ok(Some(own)) => Ok(own),
            Ok(None) => Err(StoreError::Removed { path: self.path_of(PART) }),
            Err(error) => Err(failed(error)),
        };
        let mut stored = own()?;
        match stat(&folder, name).map_err(failed)? {
            Some(found) if is_same(&found, &stored) => return Ok(Place::Has(untouched(entry, &found))),
            Some(_) => return Ok(Place::IsTaken),
            None => {}
        }
        // Who had it may have changed it before it was taken away, and longer than it should be it is right in every chunk.
        let is_longer = matches!(entry.node, Node::File { size, .. } if size != Stamp::of_stat(&stored).size);
        if stored.st_nlink > 1 || had_appeared || is_longer {
            self.own(staging, number)?;
            stored = own()?;
        }
        if entry.modified_ns.is_some_and(|set| set != Stamp::of_stat(&stored).mtime_ns) {
            let file = staging.folders.open(&entry.path).map_err(failed)?;
            staging.set_time(&file, entry.modified_ns);
            disk.sync_all(&file).map_err(failed)?;
        }
        match disk.link(&from, OsStr::new(first), &folder, OsStr::new(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Place::IsTaken),
            linked => linked.map_err(failed)?,
        }
        match stat(&folder, name).map_err(failed)? {
            Some(found) if is_same(&found, &stored) => Ok(Place::Has(untouched(entry, &found))),
            _ => Ok(Place::IsTaken),
        }
    }

    /// Copies a file that somebody else has under another name. What they did to it since it was verified shows in the copy.
    fn own(&self, staging: &Staging, number: u32) -> Result<(), StoreError> {
        staging.own(number).map_err(self.io("copy a file of"))?;
        if staging.is_right(number).map_err(self.io("read"))? {
            return Ok(());
        }
        let (lost, _) = chunks_of(&staging.plan, &HashSet::from([number]));
        let path = self.path_of(PART);
        if lost.is_empty() {
            // No chunk carries it. When the partial is opened again, that is found, and another plan made.
            return Err(StoreError::Removed { path });
        }
        self.state().doubt_all(&lost);
        Err(StoreError::SyncFailed { lost, path })
    }

    /// Takes back that chunks count of files that somebody has changed since they appeared; false where that is not enough to say
    /// what is right.
    pub(super) fn doubt_changed(&self) -> Result<bool, StoreError> {
        let (Some(shown), Data::Folder(staging)) = (&self.shown, &self.data) else { return Ok(true) };
        let seen = lock(&shown.seen);
        let mut changed = HashSet::new();
        for number in staging.plan.manifest().files() {
            let looked = staging.entry(*number).and_then(|entry| {
                let (folder, name) = staging.folders.locate(&entry.path)?;
                stat(&folder, name)
            });
            let found = looked.map_err(self.io("look at a file of"))?;
            let is_shared = found.is_some_and(|found| found.st_nlink > 1);
            let as_it_was = found.map(|found| Stamp::of_stat(&found)) == seen.stamps.get(number).copied();
            let entry = staging.entry(*number).map_err(self.io("look at a file of"))?;
            // There is no wrong way to be empty.
            let is_empty = matches!(entry.node, Node::File { size: 0, .. })
                && found.is_some_and(|found| found.st_size == 0);
            if (is_shared || seen.appeared.contains(number) && !is_empty) && !as_it_was {
                changed.insert(*number);
            }
        }
        if changed.is_empty() {
            return Ok(true);
        }
        let (chunks, all) = chunks_of(&staging.plan, &changed);
        self.state().doubt_all(&chunks);
        Ok(all)
    }

    /// Whether the folder appears while it is filled and has nothing in it, in which case it is gone now.
    pub(super) fn is_withdrawn(&self) -> bool {
        let Some(shown) = &self.shown else { return true };
        // What is published is nobody's to take back.
        !self.journal().ended && withdraw(&**self.store.disk(), &self.folder, &shown.is)
    }
}

impl Shown {
    /// Makes the folders in it that are not there.
    pub(super) fn make_folders(&self, disk: &dyn Disk, plan: &Plan) -> io::Result<()> {
        let visible = self.folders()?;
        for entry in plan.manifest().entries().iter().filter(|entry| entry.node == Node::Folder) {
            match make_folder(disk, &visible, &entry.path) {
                // What is in the way is named when something is to appear there, or at the end.
                Err(error) if is_no_folder(&error) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl Store {
    /// Leaves the folder of a partial that is given up to its owner: where, unless it had nothing in it and is gone now.
    pub(crate) fn leave_shown(&self, destination: &std::path::Path, key: &PartialKey) -> Option<PathBuf> {
        let folder = Folder::open(destination).ok()?;
        let partials = folder.partials().ok()??;
        let file = open_file(&**self.disk(), &partials, format!("{key}{INTO}"), false).ok()?;
        let is = ShownAs::read(&**self.disk(), &file).ok()??;
        is.find(&folder.dir)?;
        (!withdraw(&**self.disk(), &folder, &is)).then(|| folder.path.join(is.name))
    }
}

/// Removes a folder that has nothing but folders in it; false for any other.
fn withdraw(disk: &dyn Disk, destination: &Folder, is: &ShownAs) -> bool {
    let Some(root) = is.find(&destination.dir) else { return false };
    has_only_folders(&root).unwrap_or(false)
        && remove_folders_in(disk, &root)
            .and_then(|()| disk.remove_folder(&destination.dir, &is.name))
            .is_ok()
}

fn has_only_folders(folder: &Dir) -> io::Result<bool> {
    for entry in folder.entries()? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || !has_only_folders(&inner(folder, &entry.file_name())?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A folder that something was put in meanwhile stays, and so do those around it.
fn remove_folders_in(disk: &dyn Disk, folder: &Dir) -> io::Result<()> {
    for entry in folder.entries()? {
        let name = entry?.file_name();
        remove_folders_in(disk, &inner(folder, &name)?)?;
        disk.remove_folder(folder, &name)?;
    }
    Ok(())
}

fn inner(folder: &Dir, name: &OsStr) -> io::Result<Dir> {
    open_folder_in(folder, name.to_str().ok_or(io::ErrorKind::InvalidFilename)?)
}

fn gone(shown: &Shown) -> StoreError {
    StoreError::Gone { path: shown.path.clone() }
}

/// The chunks that carry anything of these entries, and whether each of these is carried by some.
pub(super) fn chunks_of(plan: &Plan, entries: &HashSet<u32>) -> (ChunkSet, bool) {
    let (mut chunks, mut carried) = (ChunkSet::new(), HashSet::new());
    for chunk in 0..plan.chunks() {
        let before = carried.len();
        match plan.span(chunk) {
            Some(Span::Files(numbers)) => {
                carried.extend(numbers.iter().filter(|number| entries.contains(number)));
                if carried.len() > before {
                    chunks.insert(chunk);
                }
            }
            Some(Span::Piece { entry, .. }) if entries.contains(&entry) => {
                carried.insert(entry);
                chunks.insert(chunk);
            }
            _ => {}
        }
    }
    (chunks, carried.len() == entries.len())
}

/// What has a name in a folder, and not what a link leads to; `None` where nothing has.
pub(super) fn stat(folder: &Dir, name: &str) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// What tells later whether a file was changed since it was verified. Whoever has written to it before this was taken has moved
/// the time that we had set.
pub(super) fn untouched(entry: &Entry, found: &Stat) -> Option<Stamp> {
    Some(Stamp::of_stat(found)).filter(|stamp| entry.modified_ns == Some(stamp.mtime_ns))
}

/// Something that is no folder has the name of one.
pub(super) fn is_no_folder(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOTDIR | Errno::LOOP | Errno::MLINK))
}

/// The folder that something lies in, and its name there. Folders that are missing are made.
pub(super) fn place_in<'a>(
    disk: &dyn Disk,
    visible: &Folders,
    path: &'a str,
) -> io::Result<(Arc<Dir>, &'a str)> {
    match visible.locate(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            for (at, _) in path.match_indices('/') {
                make_folder(disk, visible, &path[..at])?;
            }
            visible.locate(path)
        }
        found => found,
    }
}

fn make_folder(disk: &dyn Disk, visible: &Folders, path: &str) -> io::Result<()> {
    let (parent, name) = visible.locate(path)?;
    match disk.make_folder(&parent, OsStr::new(name), PUBLIC_FOLDER) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
