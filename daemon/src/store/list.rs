//! Lists of chaining values: one per group of 256 KiB, in order, 32 bytes each.
//!
//! A list is a cache. It is believed only after it has rebuilt the File ID, so a torn or forged one costs time
//! and nothing else, and none of them needs a sync. A file of no or one group has no list.

use std::{
    fs::File,
    io,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use p2p_protocol::{Cv, FileId, limits::CV_LEN, tree};

use super::layout::{Home, UNFINISHED};
use crate::disk::{
    self, Disk, PRIVATE_FOLDER, is_unsupported, make_folders, place_of, read_exact, write_all,
};

/// Values that are read at once while a list is checked; a power of two, so that each run is a subtree.
pub(crate) const RUN: u64 = 1 << 12;
/// Longest list, in values, that is kept in memory when the home's disk has no room for it.
const MOST_IN_MEMORY: u64 = 1 << 19;

/// An open list.
#[derive(Debug)]
pub(crate) enum List {
    /// In memory: a short one, or one that the disk had no room for.
    Memory(Vec<Cv>),
    /// On disk, where it may have no name any longer.
    File(File),
}

impl List {
    /// The values of these groups.
    pub(crate) fn read(&self, disk: &dyn Disk, groups: Range<u64>) -> io::Result<Vec<Cv>> {
        match self {
            Self::Memory(values) => {
                let part = values.get(groups.start as usize..groups.end as usize);
                part.map(<[Cv]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            Self::File(file) => read_values(disk, file, groups),
        }
    }

    /// The File ID that the first `groups` values rebuild, in flat memory. `None` for fewer than two.
    pub(crate) fn root(&self, disk: &dyn Disk, groups: u64) -> io::Result<Option<FileId>> {
        if groups <= RUN {
            return Ok(tree::merge_root(&self.read(disk, 0..groups)?));
        }
        let mut tops = Vec::new();
        for start in (0..groups).step_by(RUN as usize) {
            tops.extend(tree::merge(&self.read(disk, start..(start + RUN).min(groups))?));
        }
        Ok(tree::merge_root(&tops))
    }
}

fn read_values(disk: &dyn Disk, file: &File, groups: Range<u64>) -> io::Result<Vec<Cv>> {
    let len = (groups.end - groups.start) as usize * CV_LEN;
    let mut bytes = vec![0; len];
    read_exact(disk, file, &mut bytes, groups.start * CV_LEN as u64)?;
    Ok(bytes.chunks_exact(CV_LEN).map(cv_of).collect())
}

/// A value as it lies on disk.
pub(crate) fn cv_of(bytes: &[u8]) -> Cv {
    let mut cv = [0; CV_LEN];
    cv.copy_from_slice(bytes);
    Cv(cv)
}

/// The bytes of values as they lie on disk.
pub(crate) fn bytes_of(values: &[Cv]) -> Vec<u8> {
    values.iter().flat_map(|cv| cv.0).collect()
}

/// The home's folder of lists.
#[derive(Clone, Debug)]
pub(crate) struct Lists {
    home: Home,
    disk: Arc<dyn Disk>,
}

impl Lists {
    /// Makes the folder, and removes what an earlier daemon did not finish.
    pub(crate) fn open(home: &Home, disk: Arc<dyn Disk>) -> io::Result<Self> {
        make_folders(&*disk, &home.lists(), PRIVATE_FOLDER)?;
        for entry in std::fs::read_dir(home.lists())?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
                let _ = disk::remove(&*disk, &entry.path());
            }
        }
        Ok(Self { home: home.clone(), disk })
    }

    /// The stored list of a file with so many groups, if there is one that rebuilds its File ID.
    pub(crate) fn load(&self, id: FileId, groups: u64) -> Option<List> {
        let path = self.home.list(id);
        let list = List::File(File::open(&path).ok()?);
        match list.root(&*self.disk, groups) {
            Ok(Some(root)) if root == id => Some(list),
            _ => {
                tracing::warn!(path = %path.display(), "a list of chaining values is damaged, made anew");
                let _ = disk::remove(&*self.disk, &path);
                None
            }
        }
    }

    /// Begins a list of so many values, which may be put in any order and from many threads.
    pub(crate) fn begin(&self, groups: u64) -> io::Result<ListWriter> {
        let on_disk = if groups > RUN { Some(self.unfinished(groups)) } else { None };
        let place = match on_disk {
            Some(Ok((file, path))) => Place::File(file, path),
            Some(Err(error)) if groups > MOST_IN_MEMORY => return Err(error),
            _ => Place::Memory(Mutex::new(vec![Cv([0; CV_LEN]); groups as usize])),
        };
        Ok(ListWriter { lists: self.clone(), place })
    }

    fn unfinished(&self, groups: u64) -> io::Result<(File, Unfinished)> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = self.home.lists().join(format!("{UNFINISHED}{}-{serial}", std::process::id()));
        let file = disk::create(&*self.disk, &path)?;
        let unfinished = Unfinished { disk: self.disk.clone(), path };
        match self.disk.reserve(&file, 0, groups * CV_LEN as u64) {
            Err(error) if !is_unsupported(&error) => Err(error),
            _ => Ok((file, unfinished)),
        }
    }

    /// Forgets the list of a content that no file holds any longer.
    pub(crate) fn remove(&self, id: FileId) {
        let _ = disk::remove(&*self.disk, &self.home.list(id));
    }
}

/// A list in the making. One that is dropped leaves nothing.
#[derive(Debug)]
pub(crate) struct ListWriter {
    lists: Lists,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Mutex<Vec<Cv>>),
    File(File, Unfinished),
    Nowhere,
}

/// A list's temporary name; dropping it removes what is there.
#[derive(Debug)]
struct Unfinished {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = disk::remove(&*self.disk, &self.path);
    }
}

impl ListWriter {
    /// Puts the values of the groups from `first` on.
    pub(crate) fn put(&self, first: u64, values: &[Cv]) -> io::Result<()> {
        match &self.place {
            Place::Memory(all) => {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                let first = first as usize;
                let place = all.get_mut(first..first + values.len());
                place.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(values);
                Ok(())
            }
            Place::File(file, _) => {
                write_all(&*self.lists.disk, file, &bytes_of(values), first * CV_LEN as u64)
            }
            Place::Nowhere => Ok(()),
        }
    }

    /// Values that were put.
    pub(crate) fn read(&self, groups: Range<u64>) -> io::Result<Vec<Cv>> {
        match &self.place {
            Place::Memory(all) => {
                let all = all.lock().unwrap_or_else(PoisonError::into_inner);
                let part = all.get(groups.start as usize..groups.end as usize);
                part.map(<[Cv]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            Place::File(file, _) => read_values(&*self.lists.disk, file, groups),
            Place::Nowhere => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Keeps the complete list under the File ID that it rebuilds, and returns both. `None` for fewer than
    /// two values. A list that cannot be kept still works until it is dropped.
    pub(crate) fn finish(self, groups: u64) -> io::Result<Option<(FileId, List)>> {
        self.finish_if(groups, |_| true)
    }

    /// Keeps the complete list if it rebuilds this File ID; else `None`.
    pub(crate) fn finish_as(self, groups: u64, id: FileId) -> io::Result<Option<(FileId, List)>> {
        self.finish_if(groups, |rebuilt| rebuilt == id)
    }

    fn finish_if(
        mut self,
        groups: u64,
        wanted: impl Fn(FileId) -> bool,
    ) -> io::Result<Option<(FileId, List)>> {
        let (list, path) = match std::mem::replace(&mut self.place, Place::Nowhere) {
            Place::Memory(values) => {
                (List::Memory(values.into_inner().unwrap_or_else(PoisonError::into_inner)), None)
            }
            Place::File(file, path) => (List::File(file), Some(path)),
            Place::Nowhere => return Ok(None),
        };
        let Some(id) = list.root(&*self.lists.disk, groups)?.filter(|id| wanted(*id)) else {
            return Ok(None);
        };
        let kept = match (&list, path) {
            (_, Some(path)) => self.keep(id, path),
            (List::Memory(values), None) => self.keep_short(id, values),
            (List::File(_), None) => Ok(()),
        };
        if let Err(error) = kept {
            tracing::debug!(%error, file_id = %id, "a list of chaining values is not kept");
        }
        Ok(Some((id, list)))
    }

    fn keep(&self, id: FileId, unfinished: Unfinished) -> io::Result<()> {
        let path = self.lists.home.list(id);
        if let Some(folder) = path.parent() {
            // Usually it is there. Like the list, it need not be durable.
            let (lists, name) = place_of(folder)?;
            let _ = self.lists.disk.make_folder(&lists, name, PRIVATE_FOLDER);
        }
        // The old name is gone then, and removing it again finds nothing.
        disk::rename(&*self.lists.disk, &unfinished.path, &path)
    }

    fn keep_short(&self, id: FileId, values: &[Cv]) -> io::Result<()> {
        let (file, unfinished) = self.lists.unfinished(values.len() as u64)?;
        write_all(&*self.lists.disk, &file, &bytes_of(values), 0)?;
        self.keep(id, unfinished)
    }
}
