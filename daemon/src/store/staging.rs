//! A folder on its way in: its files, each under the name that it will have, in a folder of its own among the partials.
//! Nobody else can look into it before it is published.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use cap_std::fs::Dir;
use p2p_protocol::{
    ChunkSet, FileId, Manifest, Plan,
    limits::GROUP_LEN,
    manifest::{Entry, Node},
    plan::Span,
    tree,
};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};

use super::{
    folders::{Folders, Recent, lock, open_folder_in},
    layout::PARTIALS,
    recover::extents,
    stamp::Stamp,
};
use crate::{
    buffer::Buffer,
    disk::{Disk, NEW, PRIVATE_FOLDER, PUBLIC_FOLDER, is_hole, read_exact, takes_no_link, write_all},
};

/// Permissions of a published file: what the umask leaves.
const PUBLIC_FILE: Mode =
    Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP).union(Mode::WGRP).union(Mode::ROTH).union(Mode::WOTH);
const EXECUTE: Mode = Mode::XUSR.union(Mode::XGRP).union(Mode::XOTH);

/// The folder in the making.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) plan: Arc<Plan>,
    /// The root as a file, for what files are asked.
    pub(super) handle: File,
    pub(super) folders: Folders,
    long: Mutex<Recent<u32, File>>,
}

impl Staging {
    /// Opens, or makes, the folder, and makes those in it.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        partials: &Dir,
        name: &str,
        plan: &Arc<Plan>,
    ) -> io::Result<Self> {
        match disk.make_folder(partials, OsStr::new(name), PRIVATE_FOLDER) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let root = open_folder_in(partials, name)?;
        let handle = root.try_clone()?.into_std_file();
        let (folders, long) = (Folders::new(root), Mutex::default());
        let staging = Self { disk: disk.clone(), plan: plan.clone(), handle, folders, long };
        for entry in plan.manifest().entries().iter().filter(|entry| entry.node == Node::Folder) {
            let (folder, name) = staging.folders.locate(&entry.path)?;
            match disk.make_folder(&folder, OsStr::new(name), PUBLIC_FOLDER) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(staging)
    }

    pub(super) fn entry(&self, entry: u32) -> io::Result<&Entry> {
        self.plan.manifest().entries().get(entry as usize).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// A file of more than one chunk, made with its full length if need be. To be read: it may be one that others see.
    pub(super) fn long(&self, number: u32) -> io::Result<Arc<File>> {
        self.long_as(number, false)
    }

    /// The same, to be written to: nobody else sees it. What others see already stays with them as it is, and here is a copy of it.
    pub(super) fn long_to_write(&self, number: u32) -> io::Result<Arc<File>> {
        self.long_as(number, true)
    }

    fn long_as(&self, number: u32, to_write: bool) -> io::Result<Arc<File>> {
        let mut kept = lock(&self.long);
        if let Some(known) = kept.get(&number)
            && (!to_write || known.metadata()?.nlink() <= 1)
        {
            return Ok(known);
        }
        let (entry, size) = (self.entry(number)?, self.size_of(number)?);
        let (folder, name) = self.folders.locate(&entry.path)?;
        let how = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = || self.disk.open(&folder, OsStr::new(name), how, mode_of(&entry.node));
        let mut file = open()?;
        let mut found = file.metadata()?;
        if !found.is_file() {
            self.disk.unlink(&folder, OsStr::new(name))?;
            file = open()?;
            found = file.metadata()?;
        }
        if found.nlink() > 1 && (to_write || found.len() != size) {
            self.make_own(number)?;
            file = open()?;
            found = file.metadata()?;
        }
        if found.len() != size {
            self.disk.set_len(&file, size)?;
        }
        let file = Arc::new(file);
        kept.remove(&number);
        kept.put(number, file.clone());
        Ok(file)
    }

    /// Makes a file one that nobody else sees, whatever it is.
    pub(super) fn own(&self, number: u32) -> io::Result<()> {
        let mut kept = lock(&self.long);
        kept.remove(&number);
        self.make_own(number)
    }

    /// The same of all files.
    pub(super) fn own_all(&self) -> io::Result<()> {
        for number in self.plan.manifest().files() {
            let (folder, name) = self.folders.locate(&self.entry(*number)?.path)?;
            match rustix::fs::statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if found.st_nlink > 1 => self.own(*number)?,
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether a file is here, and right.
    pub(super) fn is_right(&self, number: u32) -> io::Result<bool> {
        let found = self.plan.manifest().file(number);
        let (size, id) = found.ok_or(io::ErrorKind::InvalidInput)?;
        match self.hash(number, size) {
            Ok(hash) => Ok(hash == id),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the files that are empty, synced, as far as they are not here.
    pub(super) fn make_empty_files(&self) -> io::Result<()> {
        let manifest = self.plan.manifest();
        let is_empty = |number: &&u32| manifest.file(**number).is_some_and(|(size, _)| size == 0);
        let mut any = false;
        for number in manifest.files().iter().filter(is_empty).filter(|number| !self.has_file(**number)) {
            self.write_file(self.entry(*number)?, &[])?;
            any = true;
        }
        if any { self.disk.sync_file_system(&self.handle) } else { Ok(()) }
    }

    /// Puts a copy, synced, where a file is that others see under another name: whatever they do to theirs, this one stays.
    fn make_own(&self, number: u32) -> io::Result<()> {
        let entry = self.entry(number)?;
        let (folder, name) = self.folders.locate(&entry.path)?;
        let from = self.folders.open(&entry.path)?;
        // They may have made theirs longer, or shorter.
        let size = self.size_of(number)?;
        let there = from.metadata()?.len().min(size);
        // No name in a folder is that.
        let to = self.replacing(&folder, PARTIALS, || {
            self.disk.open(&folder, OsStr::new(PARTIALS), NEW | OFlags::NOFOLLOW, mode_of(&entry.node))
        })?;
        self.disk.set_len(&to, size)?;
        self.copy_bytes(&from, &to, there)?;
        self.set_time(&to, entry.modified_ns);
        self.disk.sync_all(&to)?;
        self.disk.rename(&folder, OsStr::new(PARTIALS), &folder, OsStr::new(name))?;
        self.disk.sync_folder(&folder)
    }

    /// Copies what is no hole.
    fn copy_bytes(&self, from: &File, to: &File, size: u64) -> io::Result<()> {
        let mut buffer = Buffer::take(GROUP_LEN as usize);
        for start in (0..size).step_by(GROUP_LEN as usize) {
            let end = (start + GROUP_LEN).min(size);
            if !is_hole(from, start..end) {
                let part = &mut buffer[..(end - start) as usize];
                read_exact(&*self.disk, from, part, start)?;
                write_all(&*self.disk, to, part, start)?;
            }
        }
        Ok(())
    }

    /// What is to be in it.
    pub(super) fn manifest(&self) -> &Arc<Manifest> {
        self.plan.manifest()
    }

    /// Sets the time of a long file that is complete.
    pub(super) fn finish_long(&self, number: u32, file: &File) {
        if let Ok(entry) = self.entry(number) {
            self.set_time(file, entry.modified_ns);
        }
    }

    /// Whether the files that no chunk carries are here, and right.
    pub(super) fn spared_are_right(&self) -> bool {
        let manifest = self.plan.manifest();
        (0..).zip(manifest.files()).all(|(number, entry)| {
            let Some((size, id)) = manifest.file(*entry) else { return false };
            size == 0
                || self.plan.files().contains(number)
                || self.hash(*entry, size).is_ok_and(|found| found == id)
        })
    }

    fn hash(&self, number: u32, size: u64) -> io::Result<FileId> {
        if size <= GROUP_LEN {
            return Ok(tree::hash_small(&self.read_files(&[number])?));
        }
        self.hash_file(&self.folders.open(&self.entry(number)?.path)?, size)
    }

    /// The hash of an open file's first so many bytes.
    pub(super) fn hash_file(&self, file: &File, size: u64) -> io::Result<FileId> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = Buffer::take(GROUP_LEN as usize);
        for start in (0..size).step_by(GROUP_LEN as usize) {
            let part = &mut buffer[..GROUP_LEN.min(size - start) as usize];
            read_exact(&*self.disk, file, part, start)?;
            hasher.update(part);
        }
        Ok(FileId(*hasher.finalize().as_bytes()))
    }

    pub(super) fn size_of(&self, number: u32) -> io::Result<u64> {
        self.plan
            .manifest()
            .file(number)
            .map(|(size, _)| size)
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Writes whole files, whose bytes lie one after the other.
    pub(super) fn write_files(&self, numbers: &[u32], bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        for number in numbers {
            let size = self.size_of(*number)?;
            let Some((content, after)) = rest.split_at_checked(size as usize) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            self.write_file(self.entry(*number)?, content)?;
            rest = after;
        }
        Ok(())
    }

    pub(super) fn write_file(&self, entry: &Entry, content: &[u8]) -> io::Result<()> {
        let (folder, name) = self.folders.locate(&entry.path)?;
        let file = self.replacing(&folder, name, || {
            self.disk.open(&folder, OsStr::new(name), NEW | OFlags::NOFOLLOW, mode_of(&entry.node))
        })?;
        write_all(&*self.disk, &file, content, 0)?;
        self.set_time(&file, entry.modified_ns);
        Ok(())
    }

    /// Makes something under a name that an earlier try may have used.
    fn replacing<T>(&self, folder: &Dir, name: &str, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.unlink(folder, OsStr::new(name))?;
                make()
            }
            other => other,
        }
    }

    pub(super) fn set_time(&self, file: &File, modified_ns: Option<i64>) {
        if let Some(modified) = modified_ns
            && let Err(error) = self.disk.set_times(file, &times_of(modified))
        {
            tracing::debug!(%error, "a modification time is not kept");
        }
    }

    /// What is stored of whole files, one after the other. One that is no regular file of its size is an error.
    pub(super) fn read_files(&self, numbers: &[u32]) -> io::Result<Bytes> {
        let sizes = numbers.iter().map(|number| self.size_of(*number)).collect::<io::Result<Vec<u64>>>()?;
        let mut bytes = Buffer::take(sizes.iter().sum::<u64>() as usize);
        let mut at = 0;
        for (number, size) in numbers.iter().zip(sizes) {
            let file = self.folders.open(&self.entry(*number)?.path)?;
            let found = file.metadata()?;
            if !found.is_file() || found.len() != size {
                return Err(io::ErrorKind::InvalidData.into());
            }
            read_exact(&*self.disk, &file, &mut bytes[at..at + size as usize], 0)?;
            at += size as usize;
        }
        Ok(bytes.freeze())
    }

    /// The chunks that may be here, as far as names, lengths and holes tell.
    pub(super) fn present(&self) -> ChunkSet {
        let mut chunks = ChunkSet::new();
        for chunk in 0..self.plan.chunks() {
            let Some(Span::Files(numbers)) = self.plan.span(chunk) else { break };
            if numbers.iter().all(|number| self.has_file(*number)) {
                chunks.insert(chunk);
            }
        }
        for (number, geometry, range, _) in self.plan.long_files() {
            let opened = self.entry(number).and_then(|entry| self.folders.open(&entry.path));
            if let Ok(file) = opened
                && file.metadata().is_ok_and(|found| found.is_file())
            {
                extents(&file, geometry).iter().for_each(|piece| {
                    chunks.insert(range.start + piece);
                });
            }
        }
        chunks
    }

    fn has_file(&self, number: u32) -> bool {
        let looked = self.entry(number).and_then(|entry| {
            let (folder, name) = self.folders.locate(&entry.path)?;
            folder.symlink_metadata(name)
        });
        let size = self.size_of(number);
        looked.is_ok_and(|found| found.is_file() && size.is_ok_and(|size| found.len() == size))
    }

    /// What tells whether anything here is another than at an orderly end: the stamps of all files together.
    pub(super) fn stamp(&self) -> io::Result<Stamp> {
        let root = Stamp::of(&self.handle.metadata()?);
        let mut hasher = blake3::Hasher::new();
        for number in self.plan.manifest().files() {
            let (folder, name) = self.folders.locate(&self.entry(*number)?.path)?;
            match rustix::fs::statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => {
                    let fields = [
                        found.st_dev,
                        found.st_ino,
                        found.st_size.cast_unsigned(),
                        found.st_mtime.cast_unsigned(),
                        found.st_mtime_nsec,
                        found.st_ctime.cast_unsigned(),
                        found.st_ctime_nsec,
                    ];
                    fields.iter().for_each(|field| {
                        hasher.update(&field.to_le_bytes());
                    });
                }
                Err(rustix::io::Errno::NOENT) => {
                    hasher.update(&[0]);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut reader = hasher.finalize_xof();
        let mut number = || {
            let mut bytes = [0; 8];
            reader.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        let (size, mtime_ns, ctime_ns) = (number(), number().cast_signed(), number().cast_signed());
        Ok(Stamp { size, mtime_ns, ctime_ns, ..root })
    }

    /// Gives every long file its length once more: a sync that failed may have lost it. One that others see was synced whole.
    pub(super) fn settle_lengths(&self) -> io::Result<()> {
        for (number, geometry, ..) in self.plan.long_files() {
            let file = self.long(number)?;
            if file.metadata()?.nlink() <= 1 {
                self.disk.set_len(&file, geometry.size())?;
            }
        }
        Ok(())
    }

    /// Makes what no chunk carries, and sets the times: the content is complete then, and not yet synced. Paths of hard
    /// links that are copies, as the file system has no such links.
    pub(super) fn complete(&self, mode: u32, modified_ns: Option<i64>) -> io::Result<Vec<String>> {
        let manifest = self.plan.manifest();
        let mut copies = Vec::new();
        for (number, entry) in (0..).zip(manifest.entries()) {
            let (folder, name) = self.folders.locate(&entry.path)?;
            match &entry.node {
                Node::File { size: 0, .. } => self.write_file(entry, &[])?,
                Node::File { .. } | Node::Folder => {}
                Node::Link { target } => {
                    self.replacing(&folder, name, || self.disk.make_link(target, &folder, OsStr::new(name)))?;
                }
                Node::HardLink { of } if *of < number => {
                    let (from, first) = self.folders.locate(&self.entry(*of)?.path)?;
                    let again = || self.disk.link(&from, OsStr::new(first), &folder, OsStr::new(name));
                    match self.replacing(&folder, name, again) {
                        Err(error) if takes_no_link(&error) => {
                            self.copy(*of, &folder, name)?;
                            copies.push(entry.path.clone());
                        }
                        other => other?,
                    }
                }
                Node::HardLink { .. } => return Err(io::ErrorKind::InvalidInput.into()),
            }
        }
        for (number, ..) in self.plan.long_files() {
            self.set_time(&*self.long(number)?, self.entry(number)?.modified_ns);
        }
        // From the inside outwards, as making something in a folder changes its time.
        for entry in manifest.entries().iter().rev().filter(|entry| entry.node == Node::Folder) {
            let (folder, name) = self.folders.locate(&entry.path)?;
            self.set_time(&open_folder_in(&folder, name)?.into_std_file(), entry.modified_ns);
        }
        self.disk.set_mode(&self.handle, mode)?;
        self.set_time(&self.handle, modified_ns);
        Ok(copies)
    }

    /// Copies a file of this folder.
    fn copy(&self, number: u32, folder: &Dir, name: &str) -> io::Result<()> {
        let (first, size) = (self.entry(number)?, self.size_of(number)?);
        let from = self.folders.open(&first.path)?;
        let to = self.replacing(folder, name, || {
            self.disk.open(folder, OsStr::new(name), NEW | OFlags::NOFOLLOW, mode_of(&first.node))
        })?;
        self.disk.set_len(&to, size)?;
        self.copy_bytes(&from, &to, size)?;
        self.set_time(&to, first.modified_ns);
        Ok(())
    }

    /// Two names of files or folders that turn out to be one: on a file system that folds case or normal forms the second
    /// has taken the place of the first. A name under which there is nothing is an error.
    pub(super) fn same_name(&self) -> io::Result<Option<[String; 2]>> {
        let mut known = HashMap::new();
        for entry in self.plan.manifest().entries() {
            if matches!(entry.node, Node::File { .. } | Node::Folder) {
                let (folder, name) = self.folders.locate(&entry.path)?;
                let found = rustix::fs::statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
                if let Some(first) = known.insert((found.st_dev, found.st_ino), &entry.path) {
                    return Ok(Some([first.clone(), entry.path.clone()]));
                }
            }
        }
        Ok(None)
    }

    /// The metadata of a long file, for the hash cache.
    pub(super) fn long_stamp(&self, number: u32) -> io::Result<Stamp> {
        // It has its final place, where its owner may have removed it already.
        Ok(Stamp::of(&self.folders.open(&self.entry(number)?.path)?.metadata()?))
    }
}

fn mode_of(node: &Node) -> Mode {
    match node {
        Node::File { executable: true, .. } => PUBLIC_FILE | EXECUTE,
        _ => PUBLIC_FILE,
    }
}

/// Sets the modification time and leaves the time of access alone.
pub(super) fn times_of(modified_ns: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: modified_ns.div_euclid(1_000_000_000),
            tv_nsec: modified_ns.rem_euclid(1_000_000_000),
        },
    }
}
