//! Opening a partial: finding what an earlier run left, and deciding how much of it to believe.
//!
//! ```text
//!  log's header sound and of this data file?
//!    no  ─▶ the log starts over; the data's extents are doubtful
//!    yes ─▶ last record of an orderly end, and its stamp fits?
//!             yes ─▶ its chunks are verified
//!             no  ─▶ the records' chunks and the data's extents are doubtful
//! ```

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cap_std::fs::Dir;
use p2p_protocol::{ChunkSet, FileId, Geometry, Layout, Manifest, Plan};

use super::{
    Store,
    data::{Data, blocks_of},
    error::StoreError,
    folder::{Folder, is_still, lock, open_file},
    layout::{CUT, CVS, FRESH, INTO, LOG, PART, PARTIALS, PartialKey, TREE},
    log::{Contents, Header, Log},
    partial::{Partial, Parts, State},
    shown::Show,
    staging::Staging,
    stamp::Stamp,
    tree_file,
};
use crate::disk::{Disk, next_data, next_hole, remove_all};

/// What a partial is opened for.
#[derive(Clone, Debug)]
pub(crate) struct PartialSpec {
    /// The destination folder; made if need be.
    pub(crate) folder: PathBuf,
    /// What the partial is found by.
    pub(crate) key: PartialKey,
    /// The content, where the key does not name it and it is known all the same.
    pub(crate) file_id: Option<FileId>,
    /// Size and chunk size as offered; the chunk size of a partial that is here already wins.
    pub(crate) geometry: Geometry,
    /// Bytes that the content occupies at the provider.
    pub(crate) allocated: u64,
    /// Whether the published file is executable.
    pub(crate) executable: bool,
    /// Modification time of the published file, in nanoseconds since 1970 UTC.
    pub(crate) modified_ns: Option<i64>,
    /// What is in it, for a folder.
    pub(crate) manifest: Option<Arc<Manifest>>,
    /// Folders in which some of that may be already.
    pub(crate) alike: Vec<PathBuf>,
    /// An older copy of the file, of which some chunks may be right.
    pub(crate) older: Option<PathBuf>,
    /// Where a folder appears while it is filled; nowhere for one that is only looked at.
    pub(crate) show: Option<Show>,
}

impl Store {
    /// Finds or makes a partial, for which the content must have room, and takes its lock: while another writer holds
    /// that, in this process or another one, the result is [`StoreError::Busy`].
    pub(crate) fn open_partial(&self, spec: PartialSpec) -> Result<Partial, StoreError> {
        let disk = &**self.disk();
        self.keep_clear(&spec.folder)?;
        let folder = Folder::make(disk, &spec.folder)?;
        let stem = spec.key.to_string();
        let stored = folder.partials()?.map_or(0, |partials| blocks_of(&partials, &format!("{stem}{PART}")));
        if stored == 0 {
            // What was begun waits for room where that is gone, as it would have without an interruption.
            check_room(self, &folder, spec.allocated)?;
        }

        let (at, log_file) = enter(self, &folder, &stem)?;
        let (plan, looked_just_now) = match &spec.manifest {
            Some(manifest) => {
                let (plan, is_new) = self.plan_of(&at, &log_file, manifest, &spec)?;
                (Some(plan), is_new)
            }
            None => (None, true),
        };
        let data_path = at.path(PART);
        let data = match &plan {
            Some(plan) => {
                let staging = Staging::open(self.disk(), &at.partials, &at.name(PART), plan);
                Data::Folder(staging.map_err(|error| unfit(&data_path, error))?)
            }
            None => Data::File(Arc::new(open_own(self, &at, PART)?)),
        };
        let offered = plan.map_or(Layout::File(spec.geometry), Layout::Folder);
        let stamp = data.stamp().map_err(StoreError::io("look at", &data_path))?;
        let read_log = StoreError::io("read the log", &at.path(LOG));
        let contents = Contents::read(disk, &log_file).map_err(read_log)?;

        let mut found = believe(&spec.key, &offered, &contents, stamp, &data, &data_path)?;
        if let (Data::File(file), Some(older)) = (&data, &spec.older)
            && found.verified.is_empty()
            && found.doubtful.is_empty()
        {
            // Each of its chunks counts once it was hashed, like any that no record names.
            self.copy_older(older, file, found.layout.size()).map_err(StoreError::io("copy", older))?;
            found.doubtful = data.present(&found.layout);
        }
        if let Data::Folder(staging) = &data
            && !found.clean
            && !looked_just_now
            && !staging.spared_are_right()
        {
            // What was reused is not here any longer: the plan is made anew.
            let gone = disk.unlink(&at.partials, OsStr::new(&at.name(TREE)));
            gone.map_err(StoreError::io("remove", &at.path(TREE)))?;
            drop(log_file);
            return self.open_partial(spec);
        }
        let geometry = found.layout.geometry();
        let header = Header { file_id: spec.key.stand_in(), geometry, data: (stamp.dev, stamp.ino) };
        let log = if found.log_fits {
            Log::resume(disk, log_file, &contents)
        } else {
            Log::reset(disk, log_file, &header)
        };
        let log = log.map_err(StoreError::io("write the log", &at.path(LOG)))?;
        let is_new = match &data {
            Data::File(file) => {
                if stamp.size != geometry.size() {
                    let sized = disk.set_len(file, geometry.size());
                    sized.map_err(StoreError::io("size the partial file", &data_path))?;
                }
                stamp.size == 0
            }
            // Its files are sized when they are made.
            Data::Folder(_) => found.doubtful.is_empty() && found.verified.is_empty(),
        };
        let values = if found.layout.groups() < 2 { None } else { Some(open_own(self, &at, CVS)?) };
        let partial = Partial::new(Parts {
            store: self.clone(),
            folder,
            partials: at.partials,
            data,
            values,
            log,
            anchored: found.log_fits && contents.has_records,
            state: State::found(found.verified, found.claimed, found.doubtful.clone(), is_new),
            layout: found.layout,
            doubtful: found.doubtful,
            spec,
        });
        partial.shown()
    }

    /// The plan of a folder's partial: that which it was begun with, or one for the files that are not here yet, which then
    /// were looked for just now.
    fn plan_of(
        &self,
        at: &Located,
        log: &File,
        manifest: &Arc<Manifest>,
        spec: &PartialSpec,
    ) -> Result<(Arc<Plan>, bool), StoreError> {
        let path = at.path(TREE);
        let file = open_own(self, at, TREE)?;
        let disk = &**self.disk();
        let known = tree_file::read(disk, &file, manifest.id()).map_err(StoreError::io("read", &path))?;
        if let Some(plan) = known {
            return Ok((plan, false));
        }
        self.forget_chunks(at, log)?;
        let plan_for = |files: &ChunkSet| {
            let plan = Plan::new(manifest.clone(), files, spec.geometry.chunk_log2());
            plan.map(Arc::new).map_err(|error| StoreError::io("plan", &path)(io::Error::other(error)))
        };
        let mut plan = plan_for(&ChunkSet::full(manifest.files().len() as u32))?;
        let from = at.others_alike(&spec.alike);
        if !from.is_empty() {
            let staging = Staging::open(self.disk(), &at.partials, &at.name(PART), &plan);
            let staging = staging.map_err(|error| unfit(&at.path(PART), error))?;
            plan = plan_for(&self.reuse(&staging, &from))?;
            // What no chunk will carry has to be on the disk before that is said.
            disk.sync_file_system(&staging.handle).map_err(StoreError::io("sync", &at.path(PART)))?;
        }
        tree_file::write(disk, &file, &plan).map_err(StoreError::io("write", &path))?;
        Ok((plan, true))
    }

    /// Empties the log, durably, and removes the values: in another plan the same numbers are other chunks, and nothing else
    /// in a log would tell.
    fn forget_chunks(&self, at: &Located, log: &File) -> Result<(), StoreError> {
        let (disk, path) = (&**self.disk(), at.path(LOG));
        if log.metadata().map_err(StoreError::io("look at", &path))?.len() == 0 {
            return Ok(());
        }
        match disk.unlink(&at.partials, OsStr::new(&at.name(CVS))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &at.path(CVS))(error));
            }
            _ => {}
        }
        let emptied = disk.set_len(log, 0).and_then(|()| disk.sync_data(log));
        emptied.map_err(StoreError::io("write the log", &path))
    }

    /// What is in a folder of which there is a partial, so that its provider need not say it again.
    pub(crate) fn stored_manifest(
        &self,
        folder: &Path,
        key: &PartialKey,
    ) -> Result<Option<Arc<Manifest>>, StoreError> {
        let folder = match Folder::open(folder) {
            Err(error) if error.is_gone() => return Ok(None),
            other => other?,
        };
        let (Some(partials), Some(id)) = (folder.partials()?, key.file_id()) else { return Ok(None) };
        let Ok(file) = open_file(&**self.disk(), &partials, format!("{key}{TREE}"), false) else {
            return Ok(None);
        };
        let known = tree_file::read(&**self.disk(), &file, id);
        Ok(known.unwrap_or_default().map(|plan| plan.manifest().clone()))
    }

    /// Whether there is anything of a partial.
    pub(crate) fn has_partial(&self, folder: &Path, key: &PartialKey) -> Result<bool, StoreError> {
        let folder = match Folder::open(folder) {
            Err(error) if error.is_gone() => return Ok(false),
            other => other?,
        };
        let Some(partials) = folder.partials()? else { return Ok(false) };
        let stem = key.to_string();
        Ok([PART, CVS, TREE, LOG]
            .iter()
            .any(|ending| partials.symlink_metadata(format!("{stem}{ending}")).is_ok()))
    }

    /// Removes a partial that nobody writes. One that is not there is fine.
    pub(crate) fn discard_partial(&self, folder: &Path, key: &PartialKey) -> Result<(), StoreError> {
        let folder = match Folder::open(folder) {
            Err(error) if error.is_gone() => return Ok(()),
            other => other?,
        };
        let Some(partials) = folder.partials()? else { return Ok(()) };
        let stem = key.to_string();
        let log_name = format!("{stem}{LOG}");
        let log_path = folder.path.join(PARTIALS).join(&log_name);
        let lock_held = match open_file(&**self.disk(), &partials, &log_name, false) {
            Ok(log) => {
                lock(&log, &log_path)?;
                Some(log)
            }
            Err(_) => None,
        };
        remove_files(self, &folder, &partials, &stem)?;
        drop(lock_held);
        Ok(())
    }
}

/// Removes all files of a partial, the log that holds the lock last, and the folder of partials if that leaves it
/// empty. The data is durably gone before its log is: whatever the power takes back then is swept some day, while data
/// without a log would stay for ever. What says what a folder's data is of goes before all of it: without that its log says nothing
/// of files that are not there any longer, and what is under the folder's name already is found again.
pub(super) fn remove_files(
    store: &Store,
    folder: &Folder,
    partials: &Dir,
    stem: &str,
) -> Result<(), StoreError> {
    let has_data = partials.symlink_metadata(format!("{stem}{PART}")).is_ok();
    for ending in [INTO, TREE, PART, FRESH, CUT, CVS, LOG] {
        let name = format!("{stem}{ending}");
        let failed = |what| StoreError::io(what, &folder.path.join(PARTIALS).join(&name));
        match remove_all(&**store.disk(), partials, OsStr::new(&name)) {
            Ok(()) if ending == PART || (ending == TREE && has_data) => {
                store.disk().sync_folder(partials).map_err(failed("sync the removal of"))?;
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
            _ => {}
        }
    }
    folder.remove_partials_if_empty(&**store.disk());
    Ok(())
}

/// Where a partial's files are.
struct Located {
    partials: Dir,
    base: PathBuf,
    stem: String,
}

impl Located {
    fn name(&self, ending: &str) -> String {
        format!("{}{ending}", self.stem)
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.base.join(self.name(ending))
    }

    /// These folders, as far as they are there, and the data of other folders' partials.
    fn others_alike(&self, alike: &[PathBuf]) -> Vec<PathBuf> {
        let own = self.name(PART);
        let names = self.partials.entries().into_iter().flatten().flatten().map(|entry| entry.file_name());
        let names = names.filter_map(|name| name.into_string().ok());
        let others =
            names.filter(|name| name.ends_with(PART) && *name != own).map(|name| self.base.join(name));
        let mut others: Vec<_> = others.filter(|path| path.is_dir()).collect();
        others.sort();
        alike.iter().filter(|path| path.is_dir()).cloned().chain(others).collect()
    }
}

/// What is believed of what was found.
struct Found {
    layout: Layout,
    verified: ChunkSet,
    doubtful: ChunkSet,
    claimed: ChunkSet,
    log_fits: bool,
    /// Whether the last run ended in order, and nothing has changed since.
    clean: bool,
}

fn check_room(store: &Store, folder: &Folder, need: u64) -> Result<(), StoreError> {
    let free = store.disk().free(&folder.dir);
    let free = free.map_err(StoreError::io("ask for the free space of", &folder.path))?;
    if need <= free { Ok(()) } else { Err(StoreError::NoSpace { path: folder.path.clone(), need, free }) }
}

/// Makes or finds the folder of partials, and takes the partial's lock in it. Another transfer that ends may remove
/// the folder, while it is empty, at any moment.
fn enter(store: &Store, folder: &Folder, stem: &str) -> Result<(Located, File), StoreError> {
    for _ in 0..RACES {
        let disk = &**store.disk();
        let entered = folder.make_partials(disk).and_then(|partials| {
            let at = Located { partials, base: folder.path.join(PARTIALS), stem: stem.to_owned() };
            let log = open_locked(disk, &at)?;
            folder.sweep(disk, &at.partials);
            Ok((at, log))
        });
        match entered {
            Err(error) if error.is_gone() && folder.path.is_dir() => {}
            other => return other,
        }
    }
    Err(StoreError::Gone { path: folder.path.clone() })
}

/// Times that a race with another transfer that ends is run again.
const RACES: u32 = 16;
/// A sweep of the folder holds a lock for less than this, unless the machine is busy: it is waited for longer each time.
const RACE_PAUSE: Duration = Duration::from_millis(2);

/// Opens the log and takes its lock. The name must still be the file that was locked: whoever held the lock
/// before may have removed it.
fn open_locked(disk: &dyn Disk, at: &Located) -> Result<File, StoreError> {
    let path = at.path(LOG);
    for n in 1..=RACES {
        let log = open_file(disk, &at.partials, at.name(LOG), true).map_err(|error| unfit(&path, error))?;
        if MetadataExt::nlink(&log.metadata().map_err(StoreError::io("look at", &path))?) > 1 {
            return Err(StoreError::Misplaced { path, what: "a file with several names", wanted: "a log" });
        }
        match lock(&log, &path) {
            // No data file yet: it is not being written, but swept, or opened by another that will see us.
            Err(StoreError::Busy { .. }) if at.partials.symlink_metadata(at.name(PART)).is_err() => {
                std::thread::sleep(RACE_PAUSE * n);
                continue;
            }
            locked => locked?,
        }
        if is_still(&at.partials, at.name(LOG), &log).map_err(StoreError::io("look at", &path))? {
            return Ok(log);
        }
    }
    Err(StoreError::Busy { path })
}

/// Opens the data file or that of the values. One with a second name is let go of: publishing by link was cut off
/// between its two steps, or somebody planted a link to a file of the owner's; either way it is not ours to write.
fn open_own(store: &Store, at: &Located, ending: &str) -> Result<File, StoreError> {
    let (path, name) = (at.path(ending), at.name(ending));
    for _ in 0..RACES {
        let file =
            open_file(&**store.disk(), &at.partials, &name, true).map_err(|error| unfit(&path, error))?;
        let names = MetadataExt::nlink(&file.metadata().map_err(StoreError::io("look at", &path))?);
        if names <= 1 {
            return Ok(file);
        }
        tracing::warn!(path = %path.display(), "this file of a partial has another name too, a new one is begun");
        let removed = store.disk().unlink(&at.partials, OsStr::new(&name));
        removed.map_err(StoreError::io("remove", &path))?;
    }
    Err(StoreError::Busy { path })
}

fn unfit(path: &Path, error: io::Error) -> StoreError {
    match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::LOOP) => StoreError::Misplaced {
            path: path.to_owned(),
            what: "a symbolic link",
            wanted: "a partial's file",
        },
        Some(rustix::io::Errno::ISDIR) => {
            StoreError::Misplaced { path: path.to_owned(), what: "a folder", wanted: "a partial's file" }
        }
        _ if error.kind() == io::ErrorKind::InvalidInput => StoreError::Misplaced {
            path: path.to_owned(),
            what: "a pipe or device",
            wanted: "a partial's file",
        },
        _ => StoreError::io("open", path)(error),
    }
}

fn believe(
    key: &PartialKey,
    layout: &Layout,
    contents: &Contents,
    stamp: Stamp,
    data: &Data,
    path: &Path,
) -> Result<Found, StoreError> {
    let offered = layout.geometry();
    let nothing = |layout: Layout| Found {
        verified: ChunkSet::new(),
        doubtful: data.present(&layout),
        claimed: ChunkSet::new(),
        log_fits: false,
        clean: false,
        layout,
    };
    let header = contents.header.filter(|header| header.file_id == key.stand_in());
    let Some(header) = header else { return Ok(nothing(layout.clone())) };
    if layout.plan().is_some() && header.geometry != offered {
        // The plan is the one that was stored, so the log is of another time.
        return Ok(nothing(layout.clone()));
    }
    let same_data = header.data == (stamp.dev, stamp.ino);
    let chunk_log2 = header.geometry.chunk_log2();
    if header.geometry.size() != offered.size() {
        let last = header.geometry.chunks().checked_sub(1);
        if same_data && last.is_some_and(|last| contents.claimed.contains(last)) {
            return Err(StoreError::SizeConflict {
                path: path.to_owned(),
                known: header.geometry.size(),
                offered: offered.size(),
            });
        }
        // One of the two sizes is a lie, and neither has been proven. What is here is hashed against whichever
        // list comes.
        // Under a resume key another size is another file, and a chunk size was taken for the size it came with.
        let geometry = match key {
            PartialKey::Unsealed(..) => offered,
            _ => Geometry::new(offered.size(), chunk_log2).unwrap_or(offered),
        };
        return Ok(nothing(geometry.into()));
    }
    let layout = if layout.plan().is_some() { layout.clone() } else { header.geometry.into() };
    let mut found = Found {
        layout,
        verified: ChunkSet::new(),
        doubtful: ChunkSet::new(),
        claimed: ChunkSet::new(),
        log_fits: same_data,
        clean: false,
    };
    match &contents.clean {
        Some(clean) if same_data && clean.stamp == stamp => {
            found.clean = true;
            found.verified = clean.verified.clone();
            found.doubtful = clean.doubtful.clone();
        }
        _ => {
            found.doubtful = contents.claimed.clone();
            found.doubtful.union(&data.present(&found.layout));
        }
    }
    if same_data {
        found.claimed = contents.claimed.clone();
        found.claimed.subtract(&found.verified);
    }
    Ok(found)
}

/// The chunks that lie fully inside what the file system says was written.
pub(super) fn extents(data: &File, geometry: Geometry) -> ChunkSet {
    let mut chunks = ChunkSet::new();
    let len = data.metadata().map_or(0, |found| found.len());
    let mut at = 0;
    while let Some(start) = next_data(data, at) {
        let end = next_hole(data, start, len);
        if end <= start || end > len {
            break;
        }
        let first = start.div_ceil(geometry.chunk_len());
        let last = end / geometry.chunk_len();
        chunks_between(&mut chunks, geometry, first, last);
        // The last chunk may be shorter than the others.
        if end >= geometry.size() && geometry.chunks() > 0 && start <= geometry.offset(geometry.chunks() - 1)
        {
            chunks.insert(geometry.chunks() - 1);
        }
        at = end;
    }
    chunks
}

fn chunks_between(chunks: &mut ChunkSet, geometry: Geometry, first: u64, end: u64) {
    for chunk in first..end.min(u64::from(geometry.chunks())) {
        chunks.insert(chunk as u32);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use p2p_protocol::limits::GROUP_LEN;

    use super::*;

    #[test]
    fn only_whole_chunks_inside_extents_are_doubtful() {
        let chunk = GROUP_LEN;
        let geometry = Geometry::new(10 * chunk + 5, 18).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(geometry.size()).unwrap();
        let piece = vec![1; chunk as usize];
        assert!(extents(&file, geometry).is_empty());
        file.write_all_at(&piece, 0).unwrap();
        file.write_all_at(&piece, 3 * chunk + 4096).unwrap();
        file.write_all_at(&piece, 6 * chunk).unwrap();
        file.write_all_at(&piece, 7 * chunk).unwrap();
        file.write_all_at(b"last!", 10 * chunk).unwrap();
        assert_eq!(extents(&file, geometry), [0, 6, 7, 10].into_iter().collect());
        file.set_len(7 * chunk).unwrap();
        assert_eq!(extents(&file, geometry), [0, 6].into_iter().collect());
        // Half of the last chunk is not it.
        let geometry = Geometry::new(2 * chunk + 200_000, 18).unwrap();
        file.set_len(0).unwrap();
        file.set_len(geometry.size()).unwrap();
        file.write_all_at(&piece[..100_000], 2 * chunk + 100_000).unwrap();
        assert!(extents(&file, geometry).is_empty());
    }
}
