//! What the daemon asks of the disk: counted, perhaps refused, done to the real files, and noted in the model.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
};

use cap_std::fs::Dir;
use p2p_daemon::disk::Disk;
use rand::RngExt;
use rustix::fs::{Mode, OFlags, Timestamps};

use super::{
    SimDisk, State,
    data::{Change, blocks_needed},
    faults::Op,
    names::look,
};

/// The operating system's own answers.
#[derive(Debug)]
struct Real;

impl Disk for Real {}

/// The path by which the system knows an open file.
fn path_of(file: impl AsFd) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())).unwrap_or_default()
}

impl SimDisk {
    /// Counts an operation on a file, and runs it if it does not fail.
    fn on<T>(
        &self,
        op: Op,
        file: impl AsFd,
        name: Option<&OsStr>,
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        let path = || {
            let path = path_of(file);
            self.shared.shown(&name.map_or_else(|| path.clone(), |name| path.join(name)))
        };
        state.faults.enter(op, path)?;
        act(&mut state)
    }

    fn sync(&self, op: Op, file: &File, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let done = self.on(op, file, None, |state| {
            if state.model.owes_error(file)? {
                return Err(rustix::io::Errno::IO.into());
            }
            sync()?;
            if !state.faults.lies {
                state.model.synced(file, op == Op::SyncAll)?;
            }
            Ok(())
        });
        if done.is_err() {
            let state = &mut *self.lock();
            if !state.faults.is_frozen() {
                state.model.sync_failed(file, &mut state.rng)?;
            }
        }
        done
    }
}

impl State {
    /// How much of a read or write is done.
    fn length(&mut self, len: usize) -> usize {
        if self.faults.short && len > 1 && self.rng.random_bool(0.3) {
            return self.rng.random_range(1..len);
        }
        len
    }

    /// Runs what frees blocks, and gives them back.
    fn freeing<T>(&mut self, file: &File, act: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        let before = file.metadata()?.blocks();
        let value = act(self)?;
        self.faults.give_back(before.saturating_sub(file.metadata()?.blocks()) * 512);
        Ok(value)
    }
}

impl Disk for SimDisk {
    fn open(&self, folder: &Dir, name: &OsStr, how: OFlags, mode: Mode) -> io::Result<File> {
        let makes = how.contains(OFlags::CREATE) && look(folder, name)?.is_none();
        let op = if makes { Op::Create } else { Op::Open };
        self.on(op, folder, Some(name), |state| {
            if makes {
                return state.model.rename(&[(folder, name)], || Real.open(folder, name, how, mode));
            }
            let file = Real.open(folder, name, how - OFlags::TRUNC, mode)?;
            if how.contains(OFlags::TRUNC) {
                state.set_len(&file, 0)?;
            }
            Ok(file)
        })
    }

    fn make_folder(&self, folder: &Dir, name: &OsStr, mode: Mode) -> io::Result<()> {
        self.on(Op::MakeFolder, folder, Some(name), |state| {
            state.model.rename(&[(folder, name)], || Real.make_folder(folder, name, mode))?;
            state.model.folder_made(folder, name)
        })
    }

    fn remove_folder(&self, folder: &Dir, name: &OsStr) -> io::Result<()> {
        self.on(Op::RemoveFolder, folder, Some(name), |state| {
            state.model.rename(&[(folder, name)], || Real.remove_folder(folder, name))
        })
    }

    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        self.on(Op::SetMode, file, None, |state| {
            state.model.change_attributes(file, || Real.set_mode(file, mode))
        })
    }

    fn set_times(&self, file: &File, times: &Timestamps) -> io::Result<()> {
        self.on(Op::SetTimes, file, None, |state| {
            state.model.change_attributes(file, || Real.set_times(file, times))
        })
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.on(Op::Read, file, None, |state| {
            let len = state.length(buffer.len());
            Real.read_at(file, &mut buffer[..len], offset)
        })
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.on(Op::Write, file, None, |state| {
            let len = state.length(bytes.len());
            state.write(file, &bytes[..len], offset, || Real.write_at(file, &bytes[..len], offset))
        })
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.on(Op::SetLen, file, None, |state| state.set_len(file, len))
    }

    fn punch(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        self.on(Op::Punch, file, None, |state| {
            let change = Change::Punch(offset..offset + len);
            state.freeing(file, |state| {
                state.model.change(file, &change, || {
                    Real.punch(file, offset, len)?;
                    Ok(((), Some(Change::Punch(offset..offset + len))))
                })
            })
        })
    }

    fn reserve(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        self.on(Op::Reserve, file, None, |state| {
            // What is reserved is taken when it is written; a disk that is full says so now.
            if state.faults.room.is_some_and(|room| room < blocks_needed(file, offset..offset + len)) {
                return Err(rustix::io::Errno::NOSPC.into());
            }
            Real.reserve(file, offset, len)
        })
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.sync(Op::SyncData, file, || Real.sync_data(file))
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.sync(Op::SyncAll, file, || Real.sync_all(file))
    }

    fn sync_folder(&self, folder: &Dir) -> io::Result<()> {
        // What a folder's failed sync leaves is pending as before: names are not pages that were marked clean.
        self.on(Op::SyncFolder, folder, None, |state| {
            Real.sync_folder(folder)?;
            if state.faults.lies { Ok(()) } else { state.model.folder_synced(folder) }
        })
    }

    fn sync_file_system(&self, file: &File) -> io::Result<()> {
        let mut owed = false;
        let done = self.on(Op::SyncFileSystem, file, None, |state| {
            owed = state.model.owes_error_of_all(file)?;
            if !state.faults.lies {
                state.model.all_synced();
            }
            // What is told now was lost earlier.
            if owed { Err(rustix::io::Errno::IO.into()) } else { Ok(()) }
        });
        if done.is_err() && !owed {
            let state = &mut *self.lock();
            if !state.faults.is_frozen() {
                state.model.all_sync_failed(file, &mut state.rng)?;
            }
        }
        done
    }

    fn make_link(&self, target: &str, folder: &Dir, name: &OsStr) -> io::Result<()> {
        self.on(Op::MakeLink, folder, Some(name), |state| {
            state.model.rename(&[(folder, name)], || Real.make_link(target, folder, name))
        })
    }

    fn rename_new(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        self.on(Op::RenameNew, to, Some(new), |state| {
            state.model.rename(&[(from, name), (to, new)], || Real.rename_new(from, name, to, new))
        })
    }

    fn rename(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        self.on(Op::Rename, to, Some(new), |state| {
            state.model.rename(&[(from, name), (to, new)], || Real.rename(from, name, to, new))
        })
    }

    fn exchange(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        self.on(Op::Rename, to, Some(new), |state| {
            state.model.rename(&[(from, name), (to, new)], || Real.exchange(from, name, to, new))
        })
    }

    fn link(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        self.on(Op::Link, to, Some(new), |state| {
            state.model.rename(&[(to, new)], || Real.link(from, name, to, new))
        })
    }

    fn unlink(&self, folder: &Dir, name: &OsStr) -> io::Result<()> {
        self.on(Op::Unlink, folder, Some(name), |state| {
            let freed = match rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if found.st_nlink == 1 => u64::try_from(found.st_blocks).unwrap_or(0) * 512,
                _ => 0,
            };
            state.model.rename(&[(folder, name)], || Real.unlink(folder, name))?;
            state.faults.give_back(freed);
            Ok(())
        })
    }

    fn free(&self, folder: &Dir) -> io::Result<u64> {
        self.on(Op::Free, folder, None, |state| state.faults.room.map_or_else(|| Real.free(folder), Ok))
    }

    fn catalog_vfs(&self) -> Option<&str> {
        Some(self.vfs.name())
    }
}

impl State {
    /// A write that `act` does, and of which it says how much was done.
    pub(super) fn write(
        &mut self,
        file: impl AsFd + Copy,
        bytes: &[u8],
        at: u64,
        act: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.faults.room.is_some() {
            let handle = File::from(file.as_fd().try_clone_to_owned()?);
            self.faults.take(blocks_needed(&handle, at..at + bytes.len() as u64))?;
        }
        let change = Change::Write { at, bytes: bytes.into() };
        self.model.change(file, &change, || {
            let done = act()?;
            Ok((done, Some(Change::Write { at, bytes: bytes[..done].into() })))
        })
    }

    fn set_len(&mut self, file: &File, len: u64) -> io::Result<()> {
        self.freeing(file, |state| {
            state.model.change(file, &Change::SetLen(len), || {
                Real.set_len(file, len)?;
                Ok(((), Some(Change::SetLen(len))))
            })
        })
    }
}
