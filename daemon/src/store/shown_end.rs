//! The end of a folder that appeared while it was filled: what no chunk carries, the times, and a look at what became of all that
//! had appeared. What somebody else has changed or put there stays as it is, and is named.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    io,
    os::fd::AsFd,
    path::Path,
};

use p2p_protocol::manifest::{Entry, Node};

use super::{
    data::Data,
    error::StoreError,
    folders::{Folders, lock, open_folder_in},
    layout::PART,
    partial::{Journal, Partial},
    publish::Published,
    shown::{Shown, is_no_folder, is_same, place_in, stat},
    staging::Staging,
    stamp::Stamp,
};

/// Names of what else is in a folder that are told.
const MOST_OTHERS: usize = 20;

impl Partial {
    /// Ends what appeared while it was filled. Everything that belongs into it is there, right and durable, or it is an error.
    pub(super) fn publish_shown(
        &self,
        journal: &mut Journal,
        shown: &Shown,
        staging: &Staging,
    ) -> Result<Published, StoreError> {
        let disk = &**self.store.disk();
        self.settle_length()?;
        self.data.sync(disk, true).map_err(|error| self.lost(&error))?;
        if let Some(names) = staging.same_name().map_err(self.io("look at"))? {
            return Err(StoreError::SameName { path: self.path_of(PART), names });
        }
        // What was removed, or moved elsewhere, comes again.
        lock(&shown.seen).due.extend(staging.plan.manifest().files());
        self.show_due(shown, staging)?;
        let failed = |what| StoreError::io(what, &shown.path);
        shown.make_folders(disk, &staging.plan).map_err(failed("make folders in"))?;
        let strange = self.complete_shown(shown, staging).map_err(failed("complete"))?;
        if !strange.is_empty() {
            return Err(in_the_way(shown, staging, &strange));
        }
        disk.sync_file_system(&shown.root.try_clone().map_err(failed("open"))?.into_std_file())
            .map_err(|error| self.lost(&error))?;
        self.sync_folders().map_err(failed("sync the folder of"))?;
        if !shown.has_its_name(&self.folder) {
            return Err(StoreError::Gone { path: shown.path.clone() });
        }
        let (strange, others) = shown.look_at_all(staging).map_err(failed("look at"))?;
        if !strange.is_empty() {
            return Err(in_the_way(shown, staging, &strange));
        }
        let published = Published {
            path: shown.path.clone(),
            name: shown.name().to_string_lossy().into_owned(),
            already: false,
            others,
            ..Published::default()
        };
        self.finish(journal, &published);
        Ok(published)
    }

    /// Makes links, and sets folders' times, from the inside outwards. The entries in whose place something else is.
    fn complete_shown(&self, shown: &Shown, staging: &Staging) -> io::Result<BTreeSet<u32>> {
        let (disk, visible) = (&**self.store.disk(), shown.folders()?);
        let manifest = staging.plan.manifest();
        let mut strange = shown.strange_files(&visible, staging)?;
        for (number, entry) in (0..).zip(manifest.entries()) {
            let made = match &entry.node {
                Node::File { .. } | Node::Folder => continue,
                Node::Link { target } => place_in(disk, &visible, &entry.path).and_then(|(folder, name)| {
                    match disk.make_link(target, &folder, OsStr::new(name)) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                            Ok(leads_to(&visible, entry, target))
                        }
                        made => made.map(|()| true),
                    }
                }),
                Node::HardLink { of } if strange.contains(of) => continue,
                Node::HardLink { of } => self.name_again(shown, &visible, *of, staging.entry(*of)?, entry),
            };
            match made {
                Ok(true) => {}
                Ok(false) => {
                    strange.insert(number);
                }
                Err(error) if is_no_folder(&error) => {
                    strange.insert(number);
                }
                Err(error) => return Err(error),
            }
        }
        for (number, entry) in manifest.entries().iter().enumerate().rev() {
            if entry.node != Node::Folder {
                continue;
            }
            let (folder, name) = match visible.locate(&entry.path) {
                Err(error) if is_no_folder(&error) => {
                    strange.insert(number as u32);
                    continue;
                }
                other => other?,
            };
            match open_folder_in(&folder, name) {
                Ok(found) => staging.set_time(&found.into_std_file(), entry.modified_ns),
                Err(error) if is_no_folder(&error) => {
                    strange.insert(number as u32);
                }
                Err(error) => return Err(error),
            }
        }
        staging.set_time(&shown.root.try_clone()?.into_std_file(), self.spec.modified_ns);
        Ok(strange)
    }

    /// Gives a file another name; false where that is taken by something else. Its time of change is another then.
    fn name_again(
        &self,
        shown: &Shown,
        visible: &Folders,
        of: u32,
        first: &Entry,
        entry: &Entry,
    ) -> io::Result<bool> {
        let disk = &**self.store.disk();
        let (from, first) = visible.locate(&first.path)?;
        let (folder, name) = place_in(disk, visible, &entry.path)?;
        let before = stat(&from, first)?.ok_or(io::ErrorKind::NotFound)?;
        match disk.link(&from, OsStr::new(first), &folder, OsStr::new(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let Some(found) = stat(&folder, name)?.filter(|found| is_same(found, &before)) else {
            return Ok(false);
        };
        let (before, after) = (Stamp::of_stat(&before), Stamp::of_stat(&found));
        let mut seen = lock(&shown.seen);
        if seen.stamps.get(&of) == Some(&before)
            && (before.size, before.mtime_ns) == (after.size, after.mtime_ns)
        {
            seen.stamps.insert(of, after);
        } else {
            seen.stamps.remove(&of);
        }
        Ok(true)
    }
}

impl Shown {
    /// The files that are not what they should be. One that was not touched since it appeared is not read.
    fn strange_files(&self, visible: &Folders, staging: &Staging) -> io::Result<BTreeSet<u32>> {
        let mut strange = BTreeSet::new();
        for number in staging.plan.manifest().files() {
            match self.is_right(visible, staging, *number, staging.entry(*number)?) {
                Ok(true) => {}
                Ok(false) => {
                    strange.insert(*number);
                }
                Err(error) if is_no_folder(&error) || error.kind() == io::ErrorKind::NotFound => {
                    strange.insert(*number);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(strange)
    }

    fn is_right(&self, visible: &Folders, staging: &Staging, number: u32, entry: &Entry) -> io::Result<bool> {
        let (folder, name) = visible.locate(&entry.path)?;
        let Some(found) = stat(&folder, name)? else { return Ok(false) };
        let stamp = Stamp::of_stat(&found);
        if lock(&self.seen).stamps.get(&number) == Some(&stamp) {
            return Ok(true);
        }
        let Node::File { size, file_id, executable } = entry.node else { return Ok(false) };
        let file = match visible.open(&entry.path) {
            // A link, or what its owner has closed.
            Err(error) if is_no_folder(&error) || error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(false);
            }
            other => other?,
        };
        let opened = file.metadata()?;
        let fits = opened.is_file()
            && Stamp::of(&opened) == stamp
            && stamp.size == size
            && (found.st_mode & 0o111 != 0) == executable
            && staging.hash_file(&file, size)? == file_id
            && Stamp::of(&file.metadata()?) == stamp;
        if fits {
            lock(&self.seen).stamps.insert(number, stamp);
        }
        Ok(fits)
    }

    /// What is not as it should be, of everything, and what else is in the folder.
    fn look_at_all(&self, staging: &Staging) -> io::Result<(BTreeSet<u32>, Vec<String>)> {
        let visible = self.folders()?;
        let manifest = staging.plan.manifest();
        let mut strange = self.strange_files(&visible, staging)?;
        let known: HashSet<&str> = manifest.entries().iter().map(|entry| entry.path.as_str()).collect();
        let mut others = others_in(&self.root, "", &known)?;
        for (number, entry) in (0..).zip(manifest.entries()) {
            let is_right = match &entry.node {
                Node::File { .. } => continue,
                Node::Link { target } => leads_to(&visible, entry, target),
                Node::HardLink { of } => {
                    let first = staging.entry(*of)?;
                    is_one_file(&visible, &first.path, &entry.path).unwrap_or(false)
                }
                Node::Folder => {
                    let opened = visible.locate(&entry.path).and_then(|(up, name)| open_folder_in(&up, name));
                    match opened {
                        Ok(folder) => {
                            others.extend(others_in(&folder, &entry.path, &known)?);
                            true
                        }
                        Err(_) => false,
                    }
                }
            };
            if !is_right {
                strange.insert(number);
            }
        }
        others.truncate(MOST_OTHERS);
        Ok((strange, others))
    }

    /// Long files under their names, for the hash cache.
    pub(super) fn stamp_of(&self, path: &str) -> io::Result<Stamp> {
        Ok(Stamp::of(&self.folders()?.open(path)?.metadata()?))
    }
}

fn leads_to(visible: &Folders, entry: &Entry, target: &str) -> bool {
    let read = visible
        .locate(&entry.path)
        .and_then(|(folder, name)| Ok(rustix::fs::readlinkat(folder.as_fd(), name, Vec::new())?));
    read.is_ok_and(|found| found.as_bytes() == target.as_bytes())
}

fn is_one_file(visible: &Folders, one: &str, other: &str) -> io::Result<bool> {
    let look = |path: &str| visible.locate(path).and_then(|(folder, name)| stat(&folder, name));
    Ok(look(one)?.zip(look(other)?).is_some_and(|(one, other)| is_same(&one, &other)))
}

/// What is in a folder and is none of these.
fn others_in(folder: &cap_std::fs::Dir, path: &str, known: &HashSet<&str>) -> io::Result<Vec<String>> {
    let mut others = Vec::new();
    for entry in folder.entries()? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let inside = Path::new(path).join(name).to_string_lossy().into_owned();
        if !known.contains(inside.as_str()) && others.len() < MOST_OTHERS {
            others.push(inside);
        }
    }
    others.sort();
    Ok(others)
}

fn in_the_way(shown: &Shown, staging: &Staging, strange: &BTreeSet<u32>) -> StoreError {
    let entries = staging.plan.manifest().entries();
    let names = strange.iter().filter_map(|number| entries.get(*number as usize));
    StoreError::InTheWay { path: shown.path.clone(), names: names.map(|entry| entry.path.clone()).collect() }
}

impl Partial {
    /// Where what is received appears while it is filled.
    pub(crate) fn shown_at(&self) -> Option<&Path> {
        match (&self.shown, &self.data) {
            (Some(shown), Data::Folder(_)) => Some(&shown.path),
            _ => None,
        }
    }
}
