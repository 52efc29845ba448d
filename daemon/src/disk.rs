//! The system calls that durability rests on, behind one trait, so that a test or a simulator can count
//! them, make them fail, or lose what they did not sync. Whatever changes a file or a folder goes through it.

use std::{
    ffi::OsStr,
    fmt,
    fs::{File, Permissions},
    io,
    os::{
        fd::AsFd,
        unix::fs::{FileExt, PermissionsExt},
    },
    path::Path,
};

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, SeekFrom, Timestamps};

/// What the daemon asks of a disk. Every method defaults to the operating system's own.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file in a folder, or makes it where `how` has [`OFlags::CREATE`].
    fn open(&self, folder: &Dir, name: &OsStr, how: OFlags, mode: Mode) -> io::Result<File> {
        Ok(rustix::fs::openat(folder.as_fd(), name, how | OFlags::CLOEXEC, mode)?.into())
    }

    /// Makes a folder in a folder.
    fn make_folder(&self, folder: &Dir, name: &OsStr, mode: Mode) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(folder.as_fd(), name, mode)?)
    }

    /// Removes an empty folder.
    fn remove_folder(&self, folder: &Dir, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(folder.as_fd(), name, AtFlags::REMOVEDIR)?)
    }

    /// Sets an open file's permissions.
    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// Sets an open file's times.
    fn set_times(&self, file: &File, times: &Timestamps) -> io::Result<()> {
        Ok(rustix::fs::futimens(file, times)?)
    }

    /// Reads at an offset; may be short.
    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }

    /// Writes at an offset; may be short.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }

    /// Cuts or extends a file.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    /// Gives a range's blocks back; it then reads as zeros.
    fn punch(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(file, how, offset, len)?)
    }

    /// Reserves blocks for a range without changing what it reads as.
    fn reserve(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, len)?)
    }

    /// Makes a file's data durable, with what is needed to find it again (its size and blocks).
    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Makes a file's data, mode and times durable.
    fn sync_all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Makes a folder's entries durable. Where a file system cannot sync a folder, it keeps entries in order
    /// by itself or not at all.
    fn sync_folder(&self, folder: &Dir) -> io::Result<()> {
        match rustix::fs::fsync(folder.as_fd()) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes everything durable that was written on a file's or folder's file system: data, names and times. Errors of
    /// writing since the file was opened are told (Linux 5.8 and later).
    fn sync_file_system(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::syncfs(file)?)
    }

    /// Makes a symbolic link.
    fn make_link(&self, target: &str, folder: &Dir, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, folder.as_fd(), name)?)
    }

    /// Renames without ever replacing anything: `AlreadyExists` if the new name is taken. Without support
    /// for that in the file system: `InvalidInput` or `Unsupported`.
    fn rename_new(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        let how = RenameFlags::NOREPLACE;
        Ok(rustix::fs::renameat_with(from.as_fd(), name, to.as_fd(), new, how)?)
    }

    /// Renames, and replaces what has the new name.
    fn rename(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(from.as_fd(), name, to.as_fd(), new)?)
    }

    /// Exchanges what two names mean, in one step. Without support for that: `InvalidInput` or `Unsupported`.
    fn exchange(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(from.as_fd(), name, to.as_fd(), new, RenameFlags::EXCHANGE)?)
    }

    /// Gives a file a second name, which must be free.
    fn link(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::linkat(from.as_fd(), name, to.as_fd(), new, AtFlags::empty())?)
    }

    /// Removes a name.
    fn unlink(&self, folder: &Dir, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(folder.as_fd(), name, AtFlags::empty())?)
    }

    /// Bytes that this user may still use on a folder's file system.
    fn free(&self, folder: &Dir) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(folder.as_fd())?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// The name of the SQLite VFS through which the catalog reaches this disk; `None` for SQLite's own.
    fn catalog_vfs(&self) -> Option<&str> {
        None
    }
}

/// The operating system.
#[derive(Debug)]
pub(crate) struct System;

impl Disk for System {}

/// Reads until the buffer is full or the file ends; the number of bytes read.
pub(crate) fn read_full(disk: &dyn Disk, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match disk.read_at(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Fills the buffer; `UnexpectedEof` if the file is too short.
pub(crate) fn read_exact(disk: &dyn Disk, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    if read_full(disk, file, buffer, offset)? == buffer.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Writes all bytes.
pub(crate) fn write_all(disk: &dyn Disk, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match disk.write_at(file, &bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A new file that only its owner can read. Its name must be free.
pub(crate) const NEW: OFlags = OFlags::RDWR.union(OFlags::CREATE).union(OFlags::EXCL);
/// Permissions of what nobody else may read.
pub(crate) const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Permissions of a folder that nobody else may look into.
pub(crate) const PRIVATE_FOLDER: Mode = Mode::RWXU;
/// Permissions of a destination folder: what the umask leaves.
pub(crate) const PUBLIC_FOLDER: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);

/// Opens a folder. The path is the owner's word, so links in it are followed.
pub(crate) fn open_folder(path: &Path) -> io::Result<Dir> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Dir::from_std_file(rustix::fs::open(path, how, Mode::empty())?.into()))
}

/// The folder that something lies in, and its name there.
pub(crate) fn place_of(path: &Path) -> io::Result<(Dir, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((open_folder(folder.unwrap_or(Path::new(".")))?, name))
}

/// Makes a folder and those above it that are missing, each of them durably.
pub(crate) fn make_folders(disk: &dyn Disk, path: &Path, mode: Mode) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folders(disk, parent, mode)?;
    }
    let (folder, name) = place_of(path)?;
    match disk.make_folder(&folder, name, mode) {
        // Somebody else has just made it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_folder(&folder),
    }
}

/// Makes a new file that only its owner can read.
pub(crate) fn create(disk: &dyn Disk, path: &Path) -> io::Result<File> {
    let (folder, name) = place_of(path)?;
    disk.open(&folder, name, NEW, PRIVATE_FILE)
}

/// Renames, and replaces what has the new name.
pub(crate) fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    let ((folder, name), (target, new)) = (place_of(from)?, place_of(to)?);
    disk.rename(&folder, name, &target, new)
}

/// Removes a name, and everything below it where it is a folder.
pub(crate) fn remove_all(disk: &dyn Disk, folder: &Dir, name: &OsStr) -> io::Result<()> {
    use rustix::io::Errno;
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = match rustix::fs::openat(folder.as_fd(), name, how, Mode::empty()) {
        Ok(inside) => Dir::from_std_file(inside.into()),
        Err(Errno::NOTDIR | Errno::LOOP) => return disk.unlink(folder, name),
        Err(error) => return Err(error.into()),
    };
    for entry in inside.entries()? {
        remove_all(disk, &inside, &entry?.file_name())?;
    }
    disk.remove_folder(folder, name)
}

/// Removes a file's name.
pub(crate) fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let (folder, name) = place_of(path)?;
    disk.unlink(&folder, name)
}

/// The first offset from `from` on that may hold data; `None` if only holes follow. A file system that
/// does not tell has data everywhere.
pub(crate) fn next_data(file: &File, from: u64) -> Option<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(at) => Some(at),
        Err(rustix::io::Errno::NXIO) => None,
        Err(_) => Some(from),
    }
}

/// The first offset from `from` on that is in a hole, or the end of the file.
pub(crate) fn next_hole(file: &File, from: u64, len: u64) -> u64 {
    rustix::fs::seek(file, SeekFrom::Hole(from)).unwrap_or(len)
}

/// Whether nothing was ever written to this range, so that it reads as zeros.
pub(crate) fn is_hole(file: &File, range: std::ops::Range<u64>) -> bool {
    next_data(file, range.start).is_none_or(|at| at >= range.end)
}

/// Whether a file system does not have an operation, so that another way has to do.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL))
}

/// Whether a file cannot have a second name where it lies: FAT knows none, and says so in its own way, and every file
/// system has a most.
pub(crate) fn takes_no_link(error: &io::Error) -> bool {
    use rustix::io::Errno;
    is_unsupported(error) || matches!(Errno::from_io_error(error), Some(Errno::PERM | Errno::MLINK))
}

/// Whether all bytes are zero: the first one, and each one equal to its neighbour.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    match bytes {
        [] => true,
        [first, rest @ ..] => *first == 0 && *rest == bytes[..rest.len()],
    }
}

/// A disk for tests that notes, in their order, the steps that make something durable.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Noting {
    noted: std::sync::Mutex<Vec<&'static str>>,
    /// Whether files cannot be synced.
    pub(crate) fails: std::sync::atomic::AtomicBool,
}

#[cfg(test)]
impl Noting {
    /// What was noted since the last call.
    pub(crate) fn noted(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.noted.lock().unwrap())
    }

    fn note(&self, what: &'static str) {
        self.noted.lock().unwrap().push(what);
    }
}

#[cfg(test)]
impl Disk for Noting {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.note("written");
        System.write_at(file, bytes, offset)
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.note("synced");
        match self.fails.load(std::sync::atomic::Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => System.sync_all(file),
        }
    }

    fn sync_folder(&self, folder: &Dir) -> io::Result<()> {
        self.note("folder synced");
        System.sync_folder(folder)
    }

    fn rename(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        self.note("named");
        System.rename(from, name, to, new)
    }

    fn link(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        self.note("named");
        System.link(from, name, to, new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_told_from_data() {
        assert!(is_zero(&[]) && is_zero(&[0; 5000]));
        for at in [0, 1, 2500, 4999] {
            let mut bytes = [0; 5000];
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
        }
    }

    /// Fault 56.
    #[test]
    fn what_links_lead_to_is_not_removed_with_them() {
        let temp = tempfile::tempdir().unwrap();
        let at = |inside: &str| temp.path().join(inside);
        std::fs::create_dir_all(at("all/inner")).unwrap();
        std::fs::create_dir(at("elsewhere")).unwrap();
        std::fs::write(at("elsewhere/precious"), "precious").unwrap();
        for link in ["all/link", "all/inner/link", "alone"] {
            std::os::unix::fs::symlink(at("elsewhere"), at(link)).unwrap();
        }
        let folder = open_folder(temp.path()).unwrap();
        for name in ["all", "alone"] {
            remove_all(&System, &folder, OsStr::new(name)).unwrap();
            assert!(at(name).symlink_metadata().is_err(), "{name}");
        }
        assert_eq!(std::fs::read(at("elsewhere/precious")).unwrap(), b"precious");
    }

    #[test]
    fn holes_are_found() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 << 20).unwrap();
        file.write_all_at(b"x", 2 << 20).unwrap();
        assert!(is_hole(&file, 0..1 << 20));
        assert!(!is_hole(&file, 2 << 20..3 << 20));
        assert!(is_hole(&file, 3 << 20..4 << 20));
        System.punch(&file, 2 << 20, 1 << 20).unwrap();
        assert!(is_hole(&file, 0..4 << 20));
    }
}
