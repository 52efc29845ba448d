//! From a folder to the list of its entries, with every file hashed.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use cap_std::fs::Dir;
use p2p_protocol::{
    FileId, Manifest,
    limits::{GROUP_LEN, MAX_ENTRIES},
    manifest::{self, Entry, ManifestError, Node, check_path, stays_inside},
    tree,
};
use rustix::fs::{AtFlags, FileType, Stat};

use super::{
    Store,
    error::StoreError,
    excludes::Excludes,
    folder::Folder,
    folders::{Folders, lock, open_folder_in},
    hashing::Progress,
    import::{Opened, Trust},
    layout::PARTIALS,
    stamp::Stamp,
    tree_source::{Found, LeftOut, TreeSource},
};
use crate::disk::read_exact;

/// What was found at a path, before anything is hashed.
struct Raw {
    path: String,
    stat: Stat,
    /// What a symbolic link says.
    target: Option<String>,
}

impl Raw {
    fn modified_ns(&self) -> i64 {
        Stamp::of_stat(&self.stat).mtime_ns
    }

    fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::RegularFile
    }
}

impl Store {
    /// Hashes what is in a folder. Links that lead out of it, and what is neither file, folder nor link, is left out and
    /// named. `progress` hears of the bytes hashed so far; where it returns false, the result is
    /// [`StoreError::Cancelled`].
    pub(super) fn import_folder(
        &self,
        path: &Path,
        excludes: &Excludes,
        progress: Progress<'_>,
    ) -> Result<TreeSource, StoreError> {
        self.keep_private(path)?;
        let found = self.import_folder_of(path, excludes, None, Trust::Cache, progress)?;
        found.ok_or_else(|| StoreError::SourceChanged { path: path.to_owned() })
    }

    /// The same; `None`, and nothing hashed, where a size is named and the files have another one.
    fn import_folder_of(
        &self,
        path: &Path,
        excludes: &Excludes,
        size: Option<u64>,
        trust: Trust,
        progress: Progress<'_>,
    ) -> Result<Option<TreeSource>, StoreError> {
        let root = Folder::open(path).map_err(|error| match error {
            error if error.is_gone() => StoreError::NotFound { path: path.to_owned() },
            other => other,
        })?;
        let looked = rustix::fs::fstat(root.dir.as_fd());
        let own = looked.map_err(|error| StoreError::io("look at", path)(error.into()))?;
        let mut walk = Walk::new(path, excludes);
        walk.home = self.own_home();
        walk.folder(&root.dir, "")?;
        let Walk { mut raw, mut left_out, mut unsafe_names, excluded, .. } = walk;
        if raw.is_empty() && unsafe_names.is_empty() && excluded {
            return Err(StoreError::NothingLeft { path: path.to_owned() });
        }
        if !unsafe_names.is_empty() {
            unsafe_names.sort();
            return Err(StoreError::UnsafeNames { path: path.to_owned(), names: unsafe_names });
        }
        raw.sort_by(|one, other| manifest::order(&one.path, &other.path));
        left_out.sort_by(|one, other| one.path.cmp(&other.path));
        let (folders, firsts) = (Folders::new(root.dir), first_names(&raw));
        let first_ones =
            raw.iter().enumerate().filter(|(at, found)| found.is_file() && !firsts.contains_key(at));
        let sum: u64 = first_ones.map(|(_, found)| Stamp::of_stat(&found.stat).size).sum();
        if size.is_some_and(|size| size != sum) {
            return Ok(None);
        }
        let ids = Hashing::run(self, path, &folders, &raw, &firsts, trust, progress)?;
        let (mut entries, mut stamps) = (Vec::with_capacity(raw.len()), Vec::with_capacity(raw.len()));
        let mut allocated = 0_u64;
        for ((at, found), id) in raw.into_iter().enumerate().zip(ids) {
            let stamp = Stamp::of_stat(&found.stat);
            let node = match (&found.target, id, firsts.get(&at)) {
                (Some(target), ..) => Node::Link { target: target.clone() },
                (None, _, Some(first)) => Node::HardLink { of: *first as u32 },
                (None, Some(file_id), None) => {
                    let blocks = u64::try_from(found.stat.st_blocks).unwrap_or(0).saturating_mul(512);
                    allocated = allocated.saturating_add(blocks.min(stamp.size));
                    Node::File { size: stamp.size, file_id, executable: found.stat.st_mode & 0o111 != 0 }
                }
                (None, None, None) => Node::Folder,
            };
            stamps.push(matches!(node, Node::File { .. }).then_some(stamp));
            let modified_ns = Some(found.modified_ns()).filter(|_| !matches!(node, Node::Link { .. }));
            entries.push(Entry { path: found.path, modified_ns, node });
        }
        let manifest = Manifest::new(entries)
            .map_err(|error| StoreError::BadTree { path: path.to_owned(), error: error.into() })?;
        let modified_ns = Some(Stamp::of_stat(&own).mtime_ns);
        let root = Folder::open(path)?.dir;
        let path = path.to_owned();
        let found = Found { path, root, manifest, stamps, allocated, modified_ns, left_out };
        Ok(Some(TreeSource::new(self.clone(), found)))
    }

    /// Whether there is a folder with this content and nothing else in it; if so, it is made durable under its name.
    pub(super) fn has_folder_durably(
        &self,
        path: &Path,
        id: FileId,
        size: u64,
        trust: Trust,
    ) -> Result<bool, StoreError> {
        let found = match self.import_folder_of(path, &Excludes::none(), Some(size), trust, &|_| true) {
            Ok(Some(found)) => found,
            Ok(None)
            | Err(
                StoreError::NotFound { .. }
                | StoreError::Misplaced { .. }
                | StoreError::SourceChanged { .. }
                | StoreError::UnsafeNames { .. }
                | StoreError::BadTree { .. },
            ) => return Ok(false),
            Err(other) => return Err(other),
        };
        if found.manifest().id() != id || !found.left_out().is_empty() {
            return Ok(false);
        }
        let synced = |error| StoreError::io("sync", path)(error);
        let handle = Folder::open(path)?.dir.into_std_file();
        self.disk().sync_file_system(&handle).map_err(synced)?;
        let (parent, _) = crate::disk::place_of(path).map_err(synced)?;
        self.disk().sync_folder(&parent).map_err(synced)?;
        Ok(true)
    }
}

/// A file that may have some content.
pub(super) struct Candidate {
    /// Where, from the folder on.
    pub(super) path: String,
    pub(super) size: u64,
}

impl Store {
    /// The files in a folder that are not empty, and the folder's handles.
    pub(super) fn candidates(&self, path: &Path) -> Result<(Folders, Vec<Candidate>), StoreError> {
        let root = Folder::open(path)?.dir;
        let excludes = Excludes::none();
        let mut walk = Walk::new(path, &excludes);
        walk.folder(&root, "")?;
        let files = walk.raw.into_iter().filter(Raw::is_file);
        let candidates =
            files.map(|found| Candidate { size: Stamp::of_stat(&found.stat).size, path: found.path });
        let mut candidates: Vec<_> = candidates.filter(|candidate| candidate.size > 0).collect();
        candidates.sort_by(|one, other| manifest::order(&one.path, &other.path));
        Ok((Folders::new(root), candidates))
    }
}

/// Of each file that has several names here, and is not the first of them: the first.
fn first_names(raw: &[Raw]) -> HashMap<usize, usize> {
    let mut known = HashMap::new();
    let mut firsts = HashMap::new();
    for (at, found) in raw.iter().enumerate().filter(|(_, found)| found.is_file() && found.stat.st_nlink > 1)
    {
        match known.entry((found.stat.st_dev, found.stat.st_ino)) {
            std::collections::hash_map::Entry::Occupied(first) => drop(firsts.insert(at, *first.get())),
            std::collections::hash_map::Entry::Vacant(place) => drop(place.insert(at)),
        }
    }
    firsts
}

struct Walk<'a> {
    path: &'a Path,
    excludes: &'a Excludes,
    raw: Vec<Raw>,
    left_out: Vec<LeftOut>,
    unsafe_names: Vec<String>,
    /// The state folder, which is not entered.
    home: Option<(u64, u64)>,
    /// Whether anything was left out because its owner said so.
    excluded: bool,
}

fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Unsafe names that an error knows of.
const NAMES_KEPT: usize = 10_000;

impl<'a> Walk<'a> {
    fn new(path: &'a Path, excludes: &'a Excludes) -> Self {
        Self {
            path,
            excludes,
            raw: Vec::new(),
            left_out: Vec::new(),
            unsafe_names: Vec::new(),
            home: None,
            excluded: false,
        }
    }

    fn io(&self, what: &'static str, inside: &str) -> impl FnOnce(io::Error) -> StoreError {
        let path = self.path.join(inside);
        move |error| unreadable(what, &path, error)
    }

    fn folder(&mut self, folder: &Dir, inside: &str) -> Result<(), StoreError> {
        let entries = folder.entries().map_err(self.io("read the folder", inside))?;
        for entry in entries {
            let name = entry.map_err(self.io("read the folder", inside))?.file_name();
            let slash = if inside.is_empty() { "" } else { "/" };
            let shown = format!("{inside}{slash}{}", name.to_string_lossy());
            if name == PARTIALS {
                self.left_out.push(LeftOut { path: shown, what: "what p2p has not finished receiving" });
                continue;
            }
            let is_text = std::str::from_utf8(name.as_bytes()).is_ok();
            if self.is_excluded(folder, &name, &shown)? {
                self.excluded = true;
                continue;
            }
            let wrong = match check_path(&shown) {
                _ if !is_text => Some("the name is not UTF-8".to_owned()),
                Err(ManifestError::Name { error, .. }) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
                Ok(()) => None,
            };
            if let Some(wrong) = wrong {
                if self.unsafe_names.len() < NAMES_KEPT {
                    self.unsafe_names.push(format!("{shown} ({wrong})"));
                }
                continue;
            }
            self.entry(folder, &shown)?;
        }
        Ok(())
    }

    /// What is at a path; `None` where it went away while the folder was read.
    fn stat(&self, folder: &Dir, name: &OsStr, path: &str) -> Result<Option<Stat>, StoreError> {
        match rustix::fs::statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(self.io("look at", path)(error.into())),
        }
    }

    /// A name that no receiver takes is no trouble where it is excluded. In one that is not UTF-8 what is wrong counts as U+FFFD.
    fn is_excluded(&self, folder: &Dir, name: &OsStr, path: &str) -> Result<bool, StoreError> {
        if self.excludes.are_none() {
            return Ok(false);
        }
        let is_folder = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Ok(self.excludes.covers(path, self.stat(folder, name, path)?.is_some_and(is_folder)))
    }

    fn entry(&mut self, folder: &Dir, path: &str) -> Result<(), StoreError> {
        let name = name_of(path);
        let Some(stat) = self.stat(folder, name.as_ref(), path)? else { return Ok(()) };
        if self.raw.len() >= MAX_ENTRIES {
            let error = ManifestError::TooMany.into();
            return Err(StoreError::BadTree { path: self.path.to_owned(), error });
        }
        let mut raw = Raw { path: path.to_owned(), stat, target: None };
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                self.raw.push(raw);
                return Ok(());
            }
            FileType::Directory if self.home == Some((stat.st_dev, stat.st_ino)) => "p2p's own state folder",
            FileType::Directory => {
                self.raw.push(raw);
                let inside = open_folder_in(folder, name).map_err(self.io("open the folder", path))?;
                return self.folder(&inside, path);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder.as_fd(), name, Vec::new());
                let target = target.map_err(|error| self.io("read the link", path)(error.into()))?;
                match target.into_string() {
                    Ok(target) if stays_inside(path, &target) => {
                        raw.target = Some(target);
                        self.raw.push(raw);
                        return Ok(());
                    }
                    _ => "a symbolic link that leads out of the folder",
                }
            }
            FileType::Fifo => "a named pipe",
            FileType::Socket => "a socket",
            _ => "a device",
        };
        self.left_out.push(LeftOut { path: path.to_owned(), what });
        Ok(())
    }
}

/// Files that are hashed by several threads: many short ones at once, and long ones one after the other, each by
/// all.
struct Hashing<'a> {
    store: &'a Store,
    path: &'a Path,
    folders: &'a Folders,
    raw: &'a [Raw],
    /// The short ones.
    short: Vec<usize>,
    next: AtomicUsize,
    hashed: AtomicU64,
    stop: AtomicBool,
    trust: Trust,
    progress: Progress<'a>,
    ids: Mutex<Vec<Option<FileId>>>,
    error: Mutex<Option<StoreError>>,
}

impl<'a> Hashing<'a> {
    fn run(
        store: &'a Store,
        path: &'a Path,
        folders: &'a Folders,
        raw: &'a [Raw],
        firsts: &HashMap<usize, usize>,
        trust: Trust,
        progress: Progress<'a>,
    ) -> Result<Vec<Option<FileId>>, StoreError> {
        let is_first = |(at, found): &(usize, &Raw)| found.is_file() && !firsts.contains_key(at);
        let files = raw.iter().enumerate().filter(is_first);
        let (short, long): (Vec<_>, Vec<_>) =
            files.partition(|(_, found)| found.stat.st_size as u64 <= GROUP_LEN);
        let run = Self {
            store,
            path,
            folders,
            raw,
            short: short.into_iter().map(|(at, _)| at).collect(),
            next: AtomicUsize::new(0),
            hashed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            trust,
            progress,
            ids: Mutex::new(vec![None; raw.len()]),
            error: Mutex::default(),
        };
        std::thread::scope(|scope| {
            for _ in 1..store.workers().at_once().min(run.short.len() as u64 / 16 + 1) {
                // Without a further thread the others do its share.
                let _ = std::thread::Builder::new().name("hash".into()).spawn_scoped(scope, || run.work());
            }
            run.work();
        });
        if let Some(error) = lock(&run.error).take() {
            return Err(error);
        }
        for (at, found) in long {
            let before = run.hashed.load(Ordering::Relaxed);
            let id = run.long(found, &|hashed| (progress)(before + hashed))?;
            run.hashed.fetch_add(found.stat.st_size as u64, Ordering::Relaxed);
            if let Some(place) = lock(&run.ids).get_mut(at) {
                *place = Some(id);
            }
        }
        Ok(std::mem::take(&mut *lock(&run.ids)))
    }

    fn work(&self) {
        // Results are handed over in batches, as there are many.
        let mut found = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let Some(at) = self.short.get(self.next.fetch_add(1, Ordering::Relaxed)).copied() else { break };
            let raw = &self.raw[at];
            let done = self.short(raw).and_then(|id| {
                let len = raw.stat.st_size as u64;
                let hashed = self.hashed.fetch_add(len, Ordering::Relaxed) + len;
                if (self.progress)(hashed) { Ok(id) } else { Err(StoreError::Cancelled) }
            });
            match done {
                Ok(id) => found.push((at, id)),
                Err(error) => {
                    self.stop.store(true, Ordering::Relaxed);
                    lock(&self.error).get_or_insert(error);
                }
            }
        }
        let mut ids = lock(&self.ids);
        for (at, id) in found {
            ids[at] = Some(id);
        }
    }

    fn open(&self, raw: &Raw) -> Result<Opened, StoreError> {
        let path = self.path.join(&raw.path);
        let changed = || StoreError::SourceChanged { path: path.clone() };
        let file = self.folders.open(&raw.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => changed(),
            // A link has taken its place.
            _ if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::LOOP) => changed(),
            _ => unreadable("open", &path, error),
        })?;
        let found = file.metadata().map_err(StoreError::io("look at the source", &path))?;
        let stamp = Stamp::of(&found);
        if stamp != Stamp::of_stat(&raw.stat) {
            return Err(changed());
        }
        Ok(Opened { file, path, stamp, found })
    }

    /// It is read rather than looked up: that costs no more.
    fn short(&self, raw: &Raw) -> Result<FileId, StoreError> {
        let Opened { file, path, stamp, .. } = self.open(raw)?;
        let mut bytes = vec![0; stamp.size as usize];
        read_exact(&**self.store.disk(), &file, &mut bytes, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => StoreError::SourceChanged { path: path.clone() },
            _ => StoreError::io("read the source", &path)(error),
        })?;
        Ok(tree::hash_small(&bytes))
    }

    fn long(&self, raw: &Raw, progress: Progress<'_>) -> Result<FileId, StoreError> {
        self.store.id_of(&self.open(raw)?, self.trust, progress)
    }
}

/// Something in a folder that cannot be read, which need not go along.
fn unreadable(what: &'static str, path: &Path, error: io::Error) -> StoreError {
    let may_not = error.kind() == io::ErrorKind::PermissionDenied;
    StoreError::io(if may_not { "may not be read, and can be left out with --exclude" } else { what }, path)(
        error,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_read_something_is_told_how_to_go_on_without_it() {
        let said = |errno: rustix::io::Errno| unreadable("open", Path::new("/a/b"), errno.into()).to_string();
        assert!(
            said(rustix::io::Errno::ACCESS)
                .starts_with("/a/b: may not be read, and can be left out with --exclude: ")
        );
        assert!(said(rustix::io::Errno::IO).starts_with("/a/b: open: "));
    }
}
