//! The file beside a folder's partial that says under which name the folder appears while it is filled, and which folder that is, so
//! that after a crash this one goes on being filled and never one that somebody else made.
//!
//! ```text
//! magic 8 · version 2 · length of the name 2 · device 8 · inode 8 · time of birth 8 · File ID that was asked for 32 · name · CRC-32 4
//! ```

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
};

use cap_std::fs::Dir;
use p2p_protocol::FileId;
use rustix::fs::AtFlags;

use super::{
    Store,
    folder::{Folder, open_file},
    layout::INTO,
    stamp::Stamp,
};
use crate::disk::{Disk, read_exact, write_all};

const MAGIC: [u8; 8] = *b"p2p into";
const VERSION: u16 = 1;
const HEAD_LEN: usize = 68;
const CRC_LEN: usize = 4;
const MAX_LEN: usize = HEAD_LEN + 4096 + CRC_LEN;

/// Which folder: an inode's number is given again, but not at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Counts where the time of birth is not known; a disk may have another number after a restart.
    dev: u64,
    ino: u64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not say.
    born_ns: i64,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShownAs {
    /// The name in the destination.
    pub(super) name: OsString,
    /// The folder that has it, or is about to get it.
    pub(super) folder: Identity,
    /// What was asked for; of a part of a folder, that folder.
    pub(super) asked: FileId,
}

impl Identity {
    /// That of an open folder.
    pub(super) fn of(folder: &impl AsFd) -> io::Result<Self> {
        let found = Stamp::of_stat(&rustix::fs::fstat(folder)?);
        Ok(Self { dev: found.dev, ino: found.ino, born_ns: born_ns(folder) })
    }

    fn is(self, other: Self) -> bool {
        let alike = (self.ino, self.born_ns) == (other.ino, other.born_ns);
        alike && (self.born_ns != 0 || self.dev == other.dev)
    }
}

#[cfg(target_os = "linux")]
fn born_ns(folder: &impl AsFd) -> i64 {
    use rustix::fs::StatxFlags;
    let found = rustix::fs::statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME);
    let found = found.ok().filter(|found| found.stx_mask & StatxFlags::BTIME.bits() != 0);
    found.map_or(0, |found| {
        let (seconds, rest) = (found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
        seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(rest))
    })
}

#[cfg(not(target_os = "linux"))]
fn born_ns(_folder: &impl AsFd) -> i64 {
    0
}

impl ShownAs {
    fn encode(&self) -> Vec<u8> {
        let name = self.name.as_bytes();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
        let Identity { dev, ino, born_ns } = self.folder;
        [dev, ino, born_ns.cast_unsigned()]
            .into_iter()
            .for_each(|field| bytes.extend_from_slice(&field.to_le_bytes()));
        bytes.extend_from_slice(&self.asked.0);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (checked, crc) = bytes.split_last_chunk::<CRC_LEN>()?;
        let (head, name) = checked.split_first_chunk::<HEAD_LEN>()?;
        let is_whole = crc32fast::hash(checked) == u32::from_le_bytes(*crc);
        let len = usize::from(u16::from_le_bytes([head[10], head[11]]));
        if !is_whole || head[..8] != MAGIC || head[8..10] != VERSION.to_le_bytes() || name.len() != len {
            return None;
        }
        let field = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let folder = Identity { dev: field(12), ino: field(20), born_ns: field(28).cast_signed() };
        let mut asked = [0; 32];
        asked.copy_from_slice(&head[36..68]);
        Some(Self { name: OsString::from_vec(name.to_vec()), folder, asked: FileId(asked) })
    }

    /// Writes it, and makes it durable; not its name.
    pub(super) fn write(&self, disk: &dyn Disk, file: &File) -> io::Result<()> {
        disk.set_len(file, 0)?;
        write_all(disk, file, &self.encode(), 0)?;
        disk.sync_data(file)
    }

    /// Reads it. `None` for what is not whole.
    pub(super) fn read(disk: &dyn Disk, file: &File) -> io::Result<Option<Self>> {
        let len = file.metadata()?.len() as usize;
        if len > MAX_LEN {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        read_exact(disk, file, &mut bytes, 0)?;
        Ok(Self::decode(&bytes))
    }

    /// The folder, if it still has its name: none that has that name now and is another.
    pub(super) fn find(&self, destination: &Dir) -> Option<Dir> {
        use rustix::fs::{Mode, OFlags};
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(destination.as_fd(), &self.name, how, Mode::empty()).ok()?;
        let folder = Dir::from_std_file(opened.into());
        Identity::of(&folder).is_ok_and(|found| found.is(self.folder)).then_some(folder)
    }
}

impl Store {
    /// Whether a path is that of a folder which appears there file by file, for a fetch of this content.
    pub(crate) fn fills(&self, path: &Path, asked: FileId) -> bool {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return false };
        self.filled_in(parent).any(|shown| shown.asked == asked && shown.name == name)
    }

    /// The name under which this partial's folder appears file by file.
    pub(crate) fn filled_as(&self, destination: &Path, key: &super::PartialKey) -> Option<OsString> {
        let destination = Folder::open(destination).ok()?;
        let partials = destination.partials().ok()??;
        let file = open_file(&**self.disk(), &partials, format!("{key}{INTO}"), false).ok()?;
        let shown = ShownAs::read(&**self.disk(), &file).ok()??;
        shown.find(&destination.dir).map(|_| shown.name)
    }

    fn filled_in(&self, destination: &Path) -> impl Iterator<Item = ShownAs> {
        let opened = Folder::open(destination).ok();
        let partials = opened.as_ref().and_then(|folder| folder.partials().ok().flatten());
        let mut found = Vec::new();
        if let (Some(folder), Some(partials)) = (opened, partials) {
            let names = partials.entries().into_iter().flatten().flatten().map(|entry| entry.file_name());
            for name in names.filter(|name| name.as_bytes().ends_with(INTO.as_bytes())) {
                let shown = open_file(&**self.disk(), &partials, &name, false)
                    .and_then(|file| ShownAs::read(&**self.disk(), &file));
                if let Ok(Some(shown)) = shown
                    && shown.find(&folder.dir).is_some()
                {
                    found.push(shown);
                }
            }
        }
        found.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::System;

    #[test]
    fn only_what_is_whole_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let destination = crate::disk::open_folder(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("photos \u{e9}")).unwrap();
        let own = crate::disk::open_folder(&folder.path().join("photos \u{e9}")).unwrap();
        let shown = ShownAs {
            name: "photos \u{e9}".into(),
            folder: Identity::of(&own).unwrap(),
            asked: FileId([7; 32]),
        };
        let file = tempfile::tempfile().unwrap();
        write_all(&System, &file, &[7; 999], 0).unwrap();
        shown.write(&System, &file).unwrap();
        assert_eq!(ShownAs::read(&System, &file).unwrap().unwrap(), shown);
        assert!(shown.find(&destination).is_some());
        let bytes = shown.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x11;
            assert_eq!(ShownAs::decode(&damaged), None, "{at}");
            assert_eq!(ShownAs::decode(&bytes[..at]), None, "{at}");
        }
    }

    #[test]
    fn another_folder_of_the_name_is_not_the_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let destination = crate::disk::open_folder(folder.path()).unwrap();
        std::fs::create_dir(path("a")).unwrap();
        let own = crate::disk::open_folder(&path("a")).unwrap();
        let shown = ShownAs { name: "a".into(), folder: Identity::of(&own).unwrap(), asked: FileId([7; 32]) };
        std::fs::rename(path("a"), path("b")).unwrap();
        assert!(shown.find(&destination).is_none());
        std::os::unix::fs::symlink(path("b"), path("a")).unwrap();
        assert!(shown.find(&destination).is_none(), "a link to it has its name, and is not it");
        std::fs::remove_file(path("a")).unwrap();
        std::fs::create_dir(path("a")).unwrap();
        assert!(shown.find(&destination).is_none());
    }
}
