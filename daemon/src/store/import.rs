//! From a path to a hashed source, as seldom as possible by reading it.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileTypeExt,
    },
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use cap_std::fs::Dir;
use p2p_protocol::{
    FileId, Geometry,
    limits::{GROUP_LEN, HASH_FIRST_LEN, MAX_SENT_UNSEALED, MAX_UNSEALED_CHUNKS, RACY_WINDOW},
};
use rustix::fs::{Mode, OFlags};

use super::{
    Store,
    draft::Draft,
    error::StoreError,
    excludes::Excludes,
    file_source::FileSource,
    folder::Folder,
    hashing::{Progress, hash_file},
    list::List,
    source::Source,
    stamp::Stamp,
};
use crate::disk::place_of;

/// What is believed of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// What the hash cache says of its stamp.
    Cache,
    /// Nothing: a disk may have damaged it, and no stamp tells.
    Nothing,
}

/// A regular file that was just opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    pub(super) found: Metadata,
}

impl Store {
    /// Hashes a file on all cores, or believes the hash cache. `progress` hears of the bytes hashed so far, from
    /// several threads; where it returns false, the result is [`StoreError::Cancelled`].
    pub(crate) fn import_file(&self, path: &Path, progress: Progress<'_>) -> Result<FileSource, StoreError> {
        self.keep_private(path)?;
        let opened = open_regular(path)?;
        let (id, list) = match self.cached(&opened) {
            Some(known) => known,
            None => self.hash(&opened, progress)?,
        };
        Ok(FileSource::new(self.disk().clone(), opened, id, list))
    }

    /// Hashes a file, or what is in a folder but for what is excluded.
    pub(crate) fn import(
        &self,
        path: &Path,
        excludes: &Excludes,
        progress: Progress<'_>,
    ) -> Result<Source, StoreError> {
        if path.is_dir() {
            self.import_folder(path, excludes, progress).map(Source::Folder)
        } else {
            self.import_file(path, progress).map(Source::File)
        }
    }

    /// The File ID of an open file, from the hash cache or by hashing it; its list is kept.
    pub(super) fn id_of(
        &self,
        opened: &Opened,
        trust: Trust,
        progress: Progress<'_>,
    ) -> Result<FileId, StoreError> {
        match self.cached(opened).filter(|_| trust == Trust::Cache) {
            Some((id, _)) => Ok(id),
            None => self.hash(opened, progress).map(|(id, _)| id),
        }
    }

    /// The same of a file that is open already; `path` is for errors.
    pub(super) fn id_of_open(&self, file: File, path: &Path) -> Result<FileId, StoreError> {
        let found = file.metadata().map_err(|error| failed(path, error))?;
        check_kind(path, &found)?;
        let opened = Opened { stamp: Stamp::of(&found), file, path: path.to_owned(), found };
        self.id_of(&opened, Trust::Cache, &|_| true)
    }

    /// Opens a file to be sent: hashed if the hash cache knows it, else to be hashed on the way. `None` for one that is
    /// to be hashed first, with [`Self::import`]: a folder, a short file, one that is very long, and one that was sent just now, of
    /// which the receiver need not take a byte.
    pub(crate) fn open_to_send(&self, path: &Path) -> Result<Option<FileSource>, StoreError> {
        if path.is_dir() {
            return Ok(None);
        }
        self.keep_private(path)?;
        let opened = open_regular(path)?;
        if let Some((id, list)) = self.cached(&opened) {
            return Ok(Some(FileSource::new(self.disk().clone(), opened, id, list)));
        }
        let size = opened.stamp.size;
        let chunks = Geometry::for_size(size).map_or(u64::MAX, |geometry| geometry.chunks().into());
        let too_long = chunks > MAX_UNSEALED_CHUNKS;
        if size <= HASH_FIRST_LEN || too_long || self.was_sent(opened.stamp) {
            return Ok(None);
        }
        let draft = Draft::new(self.clone(), size.div_ceil(GROUP_LEN));
        let draft = draft.map_err(StoreError::io("write the list of chaining values for", path))?;
        Ok(Some(FileSource::unhashed(self.disk().clone(), opened, draft)))
    }

    /// Whether a source that is not hashed itself was, meanwhile, as another transfer's.
    pub(crate) fn was_hashed(&self, source: &FileSource) -> bool {
        let stamp = source.stamp();
        self.was_sent(stamp) || self.catalog().hash(stamp).is_ok_and(|known| known.is_some())
    }

    fn was_sent(&self, stamp: Stamp) -> bool {
        self.sent().contains(&stamp)
    }

    /// Notes what a file that was hashed while it was sent holds. One that has not rested long enough for the hash
    /// cache is only known to have been sent, for as long as the daemon runs.
    pub(super) fn remember_sent(&self, stamp: Stamp, id: FileId, begun: i64) {
        if rests(stamp.ctime_ns, begun) {
            return self.remember(stamp, id);
        }
        let mut sent = self.sent();
        if sent.len() >= MAX_SENT_UNSEALED {
            sent.pop_front();
        }
        sent.push_back(stamp);
    }

    /// Opens a file that must still have this identity; reads it only if the hash cache does not know it.
    pub(crate) fn reopen(
        &self,
        path: &Path,
        excludes: &Excludes,
        id: FileId,
        progress: Progress<'_>,
    ) -> Result<Source, StoreError> {
        let source = self.import(path, excludes, progress).map_err(|error| match error {
            // It was a regular file once.
            StoreError::NotRegular { path, .. } => StoreError::SourceChanged { path },
            other => other,
        })?;
        if source.file_id() == Some(id) {
            Ok(source)
        } else {
            Err(StoreError::SourceChanged { path: path.to_owned() })
        }
    }

    /// Whether there is a regular file with this content; if so, it is made durable under its name, as nobody else may
    /// have seen to it: a daemon that was killed right after its rename has not. The size is compared first, then the
    /// hash cache asked, then the file hashed.
    pub(super) fn has_durably(
        &self,
        path: &Path,
        id: FileId,
        size: u64,
        trust: Trust,
    ) -> Result<bool, StoreError> {
        let opened = match open_regular(path) {
            Ok(opened) => opened,
            Err(StoreError::NotFound { .. } | StoreError::NotRegular { .. }) => return Ok(false),
            Err(other) => return Err(other),
        };
        if !self.has_content(&opened, id, size, trust)? {
            return Ok(false);
        }
        let (folder, _) = place_of(path).map_err(StoreError::io("open the folder of", path))?;
        self.make_durable(&opened.file, &folder).map_err(StoreError::io("sync", path))?;
        if let Some(folder) = path.parent() {
            self.sweep(folder);
        }
        Ok(true)
    }

    /// The same for a file or a folder.
    pub(crate) fn holds(
        &self,
        path: &Path,
        id: FileId,
        size: u64,
        is_folder: bool,
        trust: Trust,
    ) -> Result<bool, StoreError> {
        if is_folder {
            self.has_folder_durably(path, id, size, trust)
        } else {
            self.has_durably(path, id, size, trust)
        }
    }

    /// Syncs a file that was found, and its name.
    pub(super) fn make_durable(&self, file: &File, folder: &Dir) -> io::Result<()> {
        self.disk().sync_all(file)?;
        self.disk().sync_folder(folder)
    }

    /// Publishing may have been cut off after the rename: then this file is all there is to it, and nobody will open
    /// its partial again.
    fn sweep(&self, folder: &Path) {
        if let Ok(folder) = Folder::open(folder)
            && let Ok(Some(partials)) = folder.partials()
        {
            folder.sweep(&**self.disk(), &partials);
            folder.remove_partials_if_empty(&**self.disk());
        }
    }

    /// The regular file of this name in a folder, if it has this content.
    pub(super) fn identical_in(
        &self,
        folder: &Dir,
        name: &OsStr,
        path: &Path,
        id: FileId,
        size: u64,
    ) -> Result<Option<File>, StoreError> {
        match open_regular_in(folder.as_fd(), name.as_ref(), path) {
            Ok(opened) => Ok(self.has_content(&opened, id, size, Trust::Cache)?.then_some(opened.file)),
            // Whatever is there is in the way; the content gets another name.
            Err(error) => {
                tracing::debug!(%error, "a name is taken by what is no readable file");
                Ok(None)
            }
        }
    }

    fn has_content(&self, opened: &Opened, id: FileId, size: u64, trust: Trust) -> Result<bool, StoreError> {
        if opened.stamp.size != size {
            return Ok(false);
        }
        let known = match trust {
            Trust::Cache => self.catalog().hash(opened.stamp).unwrap_or_default(),
            Trust::Nothing => None,
        };
        let found = match known {
            Some(found) => found,
            None => match self.hash(opened, &|_| true) {
                Ok((found, _)) => found,
                Err(StoreError::SourceChanged { .. }) => return Ok(false),
                Err(other) => return Err(other),
            },
        };
        Ok(found == id)
    }

    fn cached(&self, opened: &Opened) -> Option<(FileId, Option<List>)> {
        let id = self.catalog().hash(opened.stamp).unwrap_or_else(|error| {
            tracing::warn!(%error, "the hash cache cannot be read");
            None
        })?;
        let groups = opened.stamp.size.div_ceil(GROUP_LEN);
        if groups < 2 {
            return Some((id, None));
        }
        self.lists().load(id, groups).map(|list| (id, Some(list)))
    }

    fn hash(&self, opened: &Opened, progress: Progress<'_>) -> Result<(FileId, Option<List>), StoreError> {
        let Opened { file, path, stamp, .. } = opened;
        let begun = now_ns();
        let hashed = hash_file(self, file, path, stamp.size, progress)?;
        let after = file.metadata().map_err(StoreError::io("look at the source", path))?;
        if Stamp::of(&after) != *stamp {
            return Err(StoreError::SourceChanged { path: path.clone() });
        }
        if rests(stamp.ctime_ns, begun) {
            self.remember(*stamp, hashed.0);
        }
        Ok(hashed)
    }

    /// Notes in the hash cache what a file holds, and drops lists that are of no use any longer. Failing to is
    /// logged only: it costs hashing again.
    pub(super) fn remember(&self, stamp: Stamp, id: FileId) {
        match self.catalog().put_hash(stamp, id) {
            Ok(unused) => {
                unused.into_iter().filter(|old| *old != id).for_each(|old| self.lists().remove(old))
            }
            Err(error) => tracing::warn!(%error, "the hash cache did not take a file"),
        }
    }
}

/// Whether a change after `now` must show in a time stamp that is `time` now. Within the racy window it need
/// not: file systems count time in ticks, of up to two seconds, and a later write may fall into the same one.
pub(super) fn rests(time: i64, now: i64) -> bool {
    let window = i64::try_from(RACY_WINDOW.as_nanos()).unwrap_or(i64::MAX);
    time.saturating_add(window) < now
}

/// The time in nanoseconds since 1970 UTC.
pub(super) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Opens a regular file and nothing else. It is looked at first, as merely opening a device can have an effect,
/// and again once it is open, as it may have been replaced in between; an open that would wait (a pipe) does not.
pub(super) fn open_regular(path: &Path) -> Result<Opened, StoreError> {
    check_kind(path, &std::fs::symlink_metadata(path).map_err(|error| failed(path, error))?)?;
    open_regular_in(rustix::fs::CWD, path, path)
}

/// Opens a regular file in a folder; `path` is for errors.
fn open_regular_in(folder: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<Opened, StoreError> {
    let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, how, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err(not_regular(path, "a symbolic link")),
        Err(rustix::io::Errno::NXIO) => return Err(not_regular(path, "a socket or device")),
        Err(error) => return Err(failed(path, error.into())),
    };
    let found = file.metadata().map_err(|error| failed(path, error))?;
    check_kind(path, &found)?;
    Ok(Opened { stamp: Stamp::of(&found), file, path: path.to_owned(), found })
}

fn failed(path: &Path, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            StoreError::NotFound { path: path.to_owned() }
        }
        _ => StoreError::io("open", path)(error),
    }
}

fn check_kind(path: &Path, found: &Metadata) -> Result<(), StoreError> {
    let kind = found.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(not_regular(path, what))
}

fn not_regular(path: &Path, what: &'static str) -> StoreError {
    StoreError::NotRegular { path: path.to_owned(), what }
}
