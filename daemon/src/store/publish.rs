//! Giving complete content its final name, without replacing anything.
//!
//! ```text
//!  data synced ─▶ mode, times ─▶ data synced ─▶ renamed ─▶ both folders synced ─▶ log and values removed
//!                                             │                                 │
//!       a crash leaves the partial ◀──────────┤        a crash leaves the file, ┤ and a log without
//!                                             └─▶ either, whole                 └─▶ data, which is swept
//! ```

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    ops::Range,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use p2p_protocol::{ChunkSet, FileId, Layout, SafeName, limits::MAX_NAME_LEN, tree};

use super::{
    data::Data,
    error::StoreError,
    folder::is_still,
    import::{Trust, now_ns, rests},
    layout::PART,
    left_over::LeftOver,
    list::{List, RUN},
    partial::{Journal, Partial},
    recover::remove_files,
    staging::{Staging, times_of},
    stamp::Stamp,
};
use crate::disk::{PRIVATE_FOLDER, is_unsupported};

/// Variants of a name under which an earlier copy of a folder is looked for.
const ALIKE: u32 = 4;
/// Numbers that are tried before a name is given up.
pub(super) const MOST_NUMBERED: u32 = 10_000;

/// The name that content is to get in its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublishName {
    /// A peer's proposal.
    Free(SafeName),
    /// The owner's word: one component of a path, otherwise free.
    Exactly(OsString),
    /// The same, and what has that name already is an older copy, whose place this takes.
    Instead(OsString),
}

/// Where content is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// Its path.
    pub(crate) path: PathBuf,
    /// The last component of that; what is not UTF-8 in it is replaced.
    pub(crate) name: String,
    /// It was there before, byte for byte.
    pub(crate) already: bool,
    /// What in a folder is a copy and should be a hard link, which its file system has none of. The content is all
    /// there, and the folder is no longer the one that its File ID names.
    pub(crate) copies: Vec<String>,
    /// What else somebody has put into a folder that appeared while it was filled; with the same effect.
    pub(crate) others: Vec<String>,
    /// Where that is which was in an older copy and is not in this.
    pub(crate) left_over: Option<PathBuf>,
}

impl Published {
    /// Whether it is what its File ID names.
    pub(crate) fn is_exact(&self) -> bool {
        self.copies.is_empty() && self.others.is_empty()
    }
}

impl PublishName {
    /// The paths at which an earlier copy may be: this name in a folder, and the first of its variants.
    pub(crate) fn alike(&self, folder: &Path) -> Vec<PathBuf> {
        (0..ALIKE).map(|n| folder.join(self.variant(n))).collect()
    }

    /// The older copy whose place is to be taken.
    pub(crate) fn older(&self, folder: &Path) -> Option<PathBuf> {
        match self {
            Self::Instead(name) => Some(folder.join(name)),
            Self::Free(_) | Self::Exactly(_) => None,
        }
    }

    /// The path of this name in a folder.
    pub(crate) fn path_in(&self, folder: &Path) -> PathBuf {
        folder.join(self.variant(0))
    }

    /// The name itself for 0, else a numbered variant.
    pub(super) fn variant(&self, n: u32) -> OsString {
        match (self, n) {
            (Self::Free(name), 0) => name.as_str().into(),
            (Self::Free(name), n) => name.numbered(n).as_str().into(),
            (Self::Exactly(name) | Self::Instead(name), 0) => name.clone(),
            (Self::Exactly(name) | Self::Instead(name), n) => match name.to_str().map(SafeName::parse) {
                Some(Ok(safe)) => safe.numbered(n).as_str().into(),
                _ => numbered_bytes(name.as_bytes(), n),
            },
        }
    }

    pub(super) fn is_one_component(&self) -> bool {
        match self {
            Self::Free(_) => true,
            Self::Exactly(name) | Self::Instead(name) => {
                let bytes = name.as_bytes();
                !matches!(bytes, b"" | b"." | b"..") && !bytes.iter().any(|byte| matches!(byte, b'/' | 0))
            }
        }
    }
}

/// [`SafeName::numbered`] for names that are none.
fn numbered_bytes(name: &[u8], n: u32) -> OsString {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0).unwrap_or(name.len());
    let (stem, extension) = name.split_at(dot);
    let mark = format!(" ({n})").into_bytes();
    let extension = if extension.len() + mark.len() < MAX_NAME_LEN / 2 { extension } else { &[] };
    let room = MAX_NAME_LEN - mark.len() - extension.len();
    OsString::from_vec([&stem[..stem.len().min(room)], &mark, extension].concat())
}

impl Partial {
    /// Makes complete content durable under its final name. A name that is taken is left alone: where it has the
    /// same content, that is the result, else the next numbered name is tried. Chunks that are missing after all
    /// are told as [`StoreError::SyncFailed`], to be fetched again.
    pub(crate) fn publish(&self, name: &PublishName) -> Result<Published, StoreError> {
        self.publish_noting(name, &|_| ())
    }

    /// The same, and says beforehand at which path the content is about to be, so that it is found there by whoever looks after a
    /// crash: between its getting the name and a word of that there is always a moment.
    pub(crate) fn publish_noting(
        &self,
        name: &PublishName,
        about_to_be_at: &dyn Fn(&Path),
    ) -> Result<Published, StoreError> {
        let mut journal = self.journal();
        self.check_publishable(&journal, name)?;
        self.check_complete()?;
        if let (Some(shown), Data::Folder(staging)) = (&self.shown, &self.data) {
            about_to_be_at(&shown.path);
            return self.publish_shown(&mut journal, shown, staging);
        }
        let copies = self.settle()?;
        let published = match name {
            PublishName::Instead(new) => {
                about_to_be_at(&self.folder.path.join(new));
                self.take_the_place_of(new)?
            }
            name => self.place(name, about_to_be_at)?,
        };
        let published = Published { copies, ..published };

        self.finish(&mut journal, &published);
        Ok(published)
    }

    /// Whether there is still something to publish, a name for it, and the folder that it was begun for.
    pub(super) fn check_publishable(&self, journal: &Journal, name: &PublishName) -> Result<(), StoreError> {
        if journal.ended {
            return Err(StoreError::Removed { path: self.path_of(PART) });
        }
        if !name.is_one_component() {
            let error = io::Error::new(io::ErrorKind::InvalidFilename, "it names no file");
            return Err(StoreError::io("publish as", &self.folder.path.join(name.variant(0)))(error));
        }
        self.check_place()
    }

    /// The content's identity, without which nothing is published.
    fn named(&self) -> Result<FileId, StoreError> {
        let unnamed = || self.io("publish")(io::Error::other("its File ID is not known yet"));
        self.file_id().ok_or_else(unnamed)
    }

    fn check_complete(&self) -> Result<(), StoreError> {
        let mut missing = ChunkSet::full(self.layout().chunks());
        {
            let state = self.state();
            missing.subtract(&state.durable);
            missing.subtract(&state.pending);
        }
        if !missing.is_empty() {
            return Err(StoreError::SyncFailed { lost: missing, path: self.path_of(PART) });
        }
        // Where there is no chunk, nothing has been verified yet.
        let file_id = self.named()?;
        if let Layout::File(geometry) = self.layout()
            && geometry.chunks() == 0
            && file_id != tree::empty_id()
        {
            return Err(StoreError::Impossible { file_id, size: geometry.size() });
        }
        Ok(())
    }

    /// Sets mode and times, and syncs the data with them; what of a folder is a copy.
    fn settle(&self) -> Result<Vec<String>, StoreError> {
        let mut copies = Vec::new();
        self.reserve_no_more();
        self.settle_length()?;
        let disk = &**self.store.disk();
        match &self.data {
            Data::File(file) => {
                let allowed = if self.spec.executable { 0o777 } else { 0o666 };
                let mode = self.store.file_mode() & allowed;
                disk.set_mode(file, mode).map_err(self.io("set the permissions of"))?;
                if let Some(modified) = self.spec.modified_ns
                    && let Err(error) = disk.set_times(file, &times_of(modified))
                {
                    tracing::debug!(path = %self.path_of(PART).display(), %error, "the modification time is not kept");
                }
            }
            Data::Folder(staging) => {
                let completed = staging.complete(self.store.file_mode(), self.spec.modified_ns);
                copies = completed.map_err(self.io("complete the folder"))?;
                if let Some(names) = staging.same_name().map_err(self.io("look at"))? {
                    return Err(StoreError::SameName { path: self.path_of(PART), names });
                }
            }
        }
        self.data.sync(disk, true).map_err(|error| self.lost(&error))?;
        Ok(copies)
    }

    fn place(&self, name: &PublishName, about_to_be_at: &dyn Fn(&Path)) -> Result<Published, StoreError> {
        let mut unsynced = false;
        for n in 0..=MOST_NUMBERED {
            let new = name.variant(n);
            let path = self.folder.path.join(&new);
            let published = |already| {
                let name = new.to_string_lossy().into_owned();
                Published { path: path.clone(), name, already, ..Published::default() }
            };
            if self.folder.dir.symlink_metadata(&new).is_err() {
                about_to_be_at(&path);
            }
            loop {
                match self.rename_to(&new) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        if self.is_there(&new)? {
                            return Ok(published(true));
                        }
                        break;
                    }
                    Err(error) => return Err(StoreError::io("publish as", &path)(error)),
                }
                self.check_renamed(&new)?;
                match self.sync_folders() {
                    Ok(()) => return Ok(published(false)),
                    Err(error) => {
                        self.rename_back(&new)?;
                        if std::mem::replace(&mut unsynced, true) {
                            return Err(StoreError::io("sync the folder of", &path)(error));
                        }
                    }
                }
            }
        }
        Err(StoreError::NoName { path: self.folder.path.join(name.variant(0)) })
    }

    /// Takes a name, and the older copy that has it takes the partial's: at no moment is there neither. That copy goes
    /// with what is left of the partial.
    fn take_the_place_of(&self, new: &OsStr) -> Result<Published, StoreError> {
        let path = self.folder.path.join(new);
        let (disk, part) = (self.store.disk(), OsString::from(format!("{}{PART}", self.stem())));
        let name = new.to_string_lossy().into_owned();
        let (mut published, mut left_over) =
            (Published { path: path.clone(), name, ..Published::default() }, None);

        let exchange = || disk.exchange(&self.partials, &part, &self.folder.dir, new);
        let undo: &dyn Fn() -> io::Result<()> = match self.rename_to(new) {
            Ok(()) => {
                self.check_renamed(new)?;
                &|| self.rename_back(new).map_err(io::Error::other)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.check_replaceable(new, &path)?;
                if self.take_modes_of(new)? {
                    self.data.sync(&**disk, true).map_err(|error| self.lost(&error))?;
                }
                if let Some(plan) = self.layout().plan() {
                    left_over.insert(LeftOver::new(self, new, plan)?).keep()?;
                }

                match exchange() {
                    Ok(()) => &exchange,
                    Err(error) if is_unsupported(&error) && matches!(self.data, Data::File(_)) => {
                        let renamed = disk.rename(&self.partials, &part, &self.folder.dir, new);
                        renamed.map_err(StoreError::io("take the place of", &path))?;
                        &|| Ok(())
                    }
                    Err(error) => return Err(StoreError::io("take the place of", &path)(error)),
                }
            }
            Err(error) => return Err(StoreError::io("publish as", &path)(error)),
        };
        if let Err(error) = self.sync_folders() {
            // A second sync of the same change would prove nothing; the next try makes it again.
            undo().map_err(StoreError::io("take back", &path))?;
            return Err(StoreError::io("sync the folder of", &path)(error));
        }
        if let Some(mut left_over) = left_over {
            // From now on nothing can come to it under its name.
            if let Err(error) = left_over.keep() {
                tracing::warn!(%error, "what came to a folder while it was replaced may be lost");
            }
            published.left_over = left_over.path();
        }
        Ok(published)
    }

    /// Only a file takes a file's place, and a folder a folder's.
    fn check_replaceable(&self, new: &OsStr, path: &Path) -> Result<(), StoreError> {
        let found = self.folder.dir.symlink_metadata(new).map_err(StoreError::io("look at", path))?;
        let (fits, wanted) = match self.data {
            Data::File(_) => (found.is_file(), "a file that may be replaced"),
            Data::Folder(_) => (found.is_dir(), "a folder that may be replaced"),
        };
        let what = if found.is_dir() { "a folder" } else { "something else" };
        if fits { Ok(()) } else { Err(StoreError::Misplaced { path: path.to_owned(), what, wanted }) }
    }

    fn rename_to(&self, new: &OsStr) -> io::Result<()> {
        let disk = self.store.disk();
        let part = OsString::from(format!("{}{PART}", self.stem()));
        match disk.rename_new(&self.partials, &part, &self.folder.dir, new) {
            Err(error) if is_unsupported(&error) => {}
            other => return other,
        }
        if let Data::Folder(_) = self.data {
            // An empty folder claims the name, and is what the folder may replace.
            disk.make_folder(&self.folder.dir, new, PRIVATE_FOLDER)?;
            let renamed = disk.rename(&self.partials, &part, &self.folder.dir, new);
            if renamed.is_err()
                && let Err(error) = disk.remove_folder(&self.folder.dir, new)
            {
                let path = self.folder.path.join(new);
                tracing::warn!(path = %path.display(), %error, "an empty folder is left that claimed a name");
            }
            return renamed;
        }
        disk.link(&self.partials, &part, &self.folder.dir, new)?;
        if let Err(error) = disk.unlink(&self.partials, &part) {
            tracing::warn!(path = %self.path_of(PART).display(), %error, "a published file keeps its first name too");
        }
        Ok(())
    }

    /// Whether what got the name is the file that was verified: a rename takes what has the old name at that moment.
    fn check_renamed(&self, new: &OsStr) -> Result<(), StoreError> {
        let path = self.folder.path.join(new);
        if is_still(&self.folder.dir, new, self.data.handle()).map_err(StoreError::io("look at", &path))? {
            return Ok(());
        }
        tracing::warn!(path = %path.display(), "the partial file was swapped while it was published");
        self.rename_back(new)?;
        Err(StoreError::Removed { path: self.path_of(PART) })
    }

    /// Undoes a rename that could not be synced. A second sync of the same change would succeed and prove nothing;
    /// the change has to be made again.
    fn rename_back(&self, new: &OsStr) -> Result<(), StoreError> {
        let disk = self.store.disk();
        let part = OsString::from(format!("{}{PART}", self.stem()));
        let back = match disk.rename_new(&self.folder.dir, new, &self.partials, &part) {
            Err(error) if is_unsupported(&error) && matches!(self.data, Data::Folder(_)) => {
                disk.rename(&self.folder.dir, new, &self.partials, &part)
            }
            Err(error) if is_unsupported(&error) => disk
                .link(&self.folder.dir, new, &self.partials, &part)
                .and_then(|()| disk.unlink(&self.folder.dir, new)),
            other => other,
        };
        back.map_err(StoreError::io("take back", &self.folder.path.join(new)))
    }

    pub(super) fn sync_folders(&self) -> io::Result<()> {
        self.store.disk().sync_folder(&self.folder.dir)?;
        self.store.disk().sync_folder(&self.partials)
    }

    /// Whether a name that is taken has this very content; if so, that is made durable, as nobody else may have
    /// seen to it.
    pub(super) fn is_there(&self, new: &OsStr) -> Result<bool, StoreError> {
        let (id, size) = (self.named()?, self.layout().size());
        let path = self.folder.path.join(new);
        if let Some(plan) = self.layout().plan() {
            return self.store.has_folder_durably(&path, plan.id(), size, Trust::Cache);
        }
        let Some(file) = self.store.identical_in(&self.folder.dir, new, &path, id, size)? else {
            return Ok(false);
        };
        self.store.make_durable(&file, &self.folder.dir).map_err(StoreError::io("sync", &path))?;
        Ok(true)
    }

    /// What is left to do once the content is safe under its name. Nothing of it can fail the transfer.
    pub(super) fn finish(&self, journal: &mut Journal, published: &Published) {
        journal.ended = true;
        let is_shown = self.shown.is_some();
        if !published.already && !is_shown {
            self.remember_published();
        }
        let remove = || remove_files(&self.store, &self.folder, &self.partials, &self.stem());
        // Nothing else would come back to it, where a folder's first names are among it.
        if let Err(error) = remove().or_else(|_| remove()) {
            tracing::warn!(%error, "what is left of a partial could not be removed");
        }
        if is_shown {
            // Its files have lost their first names, which counts as a change of them.
            self.remember_published();
        }
    }

    /// Notes list and hash of the published file, so that it can be served without being read.
    ///
    /// Its change time is that of the rename, a moment ago, so the rule for hashed files would not let it into
    /// the cache. What stands in for the rule is the modification time: up to the rename nobody else could reach
    /// the file, and whoever writes to it afterwards moves that time to then, which shows where we had set it to
    /// one that is well past. Where it is not, the file is hashed once when it is first served.
    fn remember_published(&self) {
        match (&self.data, self.layout()) {
            (Data::File(file), Layout::File(geometry)) => {
                let (Ok(found), Some(id)) = (file.metadata(), self.file_id()) else { return };
                self.remember_file(Stamp::of(&found), self.spec.modified_ns, id, 0..geometry.groups());
            }
            (Data::Folder(staging), Layout::Folder(plan)) => {
                for (number, _, _, groups) in plan.long_files() {
                    let entry = plan.manifest().entries().get(number as usize);
                    let file =
                        entry.zip(plan.manifest().file(number)).zip(self.stamp_of_long(staging, number).ok());
                    if let Some(((entry, (_, id)), stamp)) = file {
                        self.remember_file(stamp, entry.modified_ns, id, groups);
                    }
                }
            }
            _ => {}
        }
    }

    fn stamp_of_long(&self, staging: &Staging, number: u32) -> io::Result<Stamp> {
        match &self.shown {
            Some(shown) => shown.stamp_of(&staging.entry(number)?.path),
            None => staging.long_stamp(number),
        }
    }

    fn remember_file(&self, stamp: Stamp, modified_ns: Option<i64>, id: FileId, groups: Range<u64>) {
        let set_by_us = modified_ns == Some(stamp.mtime_ns);
        if set_by_us && rests(stamp.mtime_ns, now_ns()) {
            match self.keep_list(id, groups) {
                Ok(true) => self.store.remember(stamp, id),
                Ok(false) => {
                    tracing::debug!("chaining values of a partial are incomplete, hashed when served")
                }
                Err(error) => tracing::debug!(%error, "chaining values of a partial are not kept"),
            }
        }
    }

    /// Copies a file's values to the home; false if they do not rebuild its File ID.
    fn keep_list(&self, id: FileId, groups: Range<u64>) -> io::Result<bool> {
        let Some(values) = &self.values else { return Ok(true) };
        let disk = &**self.store.disk();
        let list = List::File(File::try_clone(values)?);
        let count = groups.end - groups.start;
        let writer = self.store.lists().begin(count)?;
        for start in (0..count).step_by(RUN as usize) {
            let end = (start + RUN).min(count);
            writer.put(start, &list.read(disk, groups.start + start..groups.start + end)?)?;
        }
        Ok(writer.finish_as(count, id)?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_a_place_has_an_older_one() {
        let (folder, path) = (Path::new("/in"), PathBuf::from("/in/a"));
        let free = PublishName::Free(SafeName::parse("a").unwrap());
        for (name, older) in [
            (free, None),
            (PublishName::Exactly("a".into()), None),
            (PublishName::Instead("a".into()), Some(path.clone())),
        ] {
            assert_eq!((name.path_in(folder), name.older(folder)), (path.clone(), older));
        }
    }

    #[test]
    fn names_outside_the_safe_ones_are_numbered_too() {
        let exactly = |name: &[u8]| PublishName::Exactly(OsString::from_vec(name.to_vec()));
        assert_eq!(exactly(b"a.txt").variant(3), "a (3).txt");
        assert_eq!(exactly(b"\xff.txt").variant(3).as_bytes(), b"\xff (3).txt");
        assert_eq!(exactly(b"a:b").variant(1), "a:b (1)");
        assert_eq!(exactly(&[b':'; 255]).variant(10).len(), 255);
        assert_eq!(exactly(b".\xff").variant(1).as_bytes(), b".\xff (1)", "no extension");
        assert!(exactly("é".repeat(127).as_bytes()).variant(1).to_str().is_some(), "text stays text");
        // An extension that would leave little of the name is cut with it.
        for (long, is_kept) in [(122, true), (123, false)] {
            let extension = [&b"."[..], &vec![0xff; long - 1]].concat();
            let numbered = exactly(&[&[b':'; 132][..], &extension].concat()).variant(3);
            assert_eq!(numbered.as_bytes().ends_with(&[b" (3)", &extension[..]].concat()), is_kept, "{long}");
            assert_eq!(numbered.len(), if is_kept { 255 } else { 132 + 4 });
        }
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert!(!exactly(name).is_one_component(), "{name:?}");
        }
        assert!(exactly(b"..a").is_one_component());
    }
}
