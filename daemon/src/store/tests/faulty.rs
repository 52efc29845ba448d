//! A disk for tests: it counts what is asked of it, fails on demand, and can lose what was not synced.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    sync::{Mutex, MutexGuard},
};

use cap_std::fs::Dir;

use crate::disk::{Disk, System};

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Read,
    Write,
    SetLen,
    Punch,
    Reserve,
    SyncData,
    SyncAll,
    SyncFolder,
    SyncFileSystem,
    Rename,
    /// One that may replace.
    Replace,
    Exchange,
    Link,
    Unlink,
    Free,
}

type Hook = Box<dyn FnMut() + Send>;

#[derive(Default)]
struct Inner {
    counts: HashMap<Op, u64>,
    bytes_read: u64,
    trace: Vec<String>,
    /// Errors to give, by operation, after so many further calls succeed; `times` of them.
    failures: Vec<Failure>,
    /// Run once, at the start of the next such operation.
    hooks: Vec<(Op, Hook)>,
    free: Option<u64>,
    /// What would be left of each written file, by device and inode, if the power failed.
    platters: HashMap<(u64, u64), Platter>,
}

struct Failure {
    op: Op,
    error: i32,
    after: u64,
    times: u64,
}

/// A file on stable storage. A sync that fails leaves its pages clean and not here, as Linux does.
struct Platter {
    handle: File,
    content: Vec<u8>,
    dirty: Vec<std::ops::Range<usize>>,
}

impl Platter {
    fn take(&mut self, range: std::ops::Range<usize>) {
        let end = range.end.min(self.handle.metadata().unwrap().len() as usize);
        if range.start < end {
            self.content.resize(self.content.len().max(end), 0);
            self.handle.read_exact_at(&mut self.content[range.start..end], range.start as u64).unwrap();
        }
    }
}

#[derive(Default)]
pub(super) struct FaultyDisk {
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyDisk")
    }
}

fn identity(file: &File) -> (u64, u64) {
    let found = file.metadata().unwrap();
    (found.dev(), found.ino())
}

/// The ending of an open file's name: which of a partial's files it is.
fn kind(file: &File) -> String {
    use std::os::fd::AsRawFd;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    path.extension().map(|ending| ending.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The same file, opened anew: a clone would keep the lock of the one it was made of.
fn reopened(file: &File) -> File {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(true).open(path).unwrap()
}

fn name_of(file: &File) -> String {
    use std::os::fd::AsRawFd;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn folder_name(folder: &Dir) -> String {
    use std::os::fd::AsRawFd;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).unwrap_or_default();
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl FaultyDisk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// The next `times` calls of `op`, after `after` that succeed, give this error.
    pub(super) fn fail(&self, op: Op, error: rustix::io::Errno, after: u64, times: u64) {
        self.lock().failures.push(Failure { op, error: error.raw_os_error(), after, times });
    }

    pub(super) fn heal(&self) {
        self.lock().failures.clear();
    }

    /// Runs something at the start of the next `op`.
    pub(super) fn at_next(&self, op: Op, hook: impl FnMut() + Send + 'static) {
        self.lock().hooks.push((op, Box::new(hook)));
    }

    pub(super) fn set_free(&self, free: Option<u64>) {
        self.lock().free = free;
    }

    pub(super) fn count(&self, op: Op) -> u64 {
        self.lock().counts.get(&op).copied().unwrap_or(0)
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.lock().bytes_read
    }

    /// What was synced, written and renamed since the last call, in order.
    pub(super) fn trace(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().trace)
    }

    /// The power fails: of every unsynced write, `keep` says whether it reached the disk all the same.
    pub(super) fn power_loss(&self, mut keep: impl FnMut() -> bool) {
        for (_, mut platter) in self.lock().platters.drain() {
            for range in std::mem::take(&mut platter.dirty) {
                if keep() {
                    platter.take(range);
                }
            }
            platter.handle.set_len(0).unwrap();
            platter.handle.set_len(platter.content.len() as u64).unwrap();
            for (block, at) in platter.content.chunks(4096).zip((0..).step_by(4096)) {
                if block.iter().any(|byte| *byte != 0) {
                    platter.handle.write_all_at(block, at).unwrap();
                }
            }
        }
    }

    fn enter(&self, op: Op, what: impl FnOnce() -> String) -> io::Result<()> {
        let mut hooks = Vec::new();
        let result = {
            let mut inner = self.lock();
            *inner.counts.entry(op).or_default() += 1;
            let mut at = 0;
            while at < inner.hooks.len() {
                if inner.hooks[at].0 == op { hooks.push(inner.hooks.remove(at).1) } else { at += 1 }
            }
            inner.trace.push(what());
            let due = inner.failures.iter_mut().filter(|failure| failure.op == op && failure.times > 0);
            let mut error = None;
            for failure in due {
                if failure.after > 0 {
                    failure.after -= 1;
                } else if error.is_none() {
                    failure.times -= 1;
                    error = Some(failure.error);
                }
            }
            error.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
        };
        hooks.iter_mut().for_each(|hook| hook());
        result
    }

    fn dirty(&self, file: &File, offset: u64, len: usize) {
        self.platter(file, |platter| platter.dirty.push(offset as usize..offset as usize + len));
    }

    fn platter(&self, file: &File, change: impl FnOnce(&mut Platter)) {
        let mut inner = self.lock();
        let platter = inner.platters.entry(identity(file)).or_insert_with(|| {
            let mut content = vec![0; file.metadata().unwrap().len() as usize];
            file.read_exact_at(&mut content, 0).unwrap();
            Platter { handle: reopened(file), content, dirty: Vec::new() }
        });
        change(platter);
    }

    fn sync(&self, file: &File, outcome: &io::Result<()>) {
        self.platter(file, |platter| {
            for range in std::mem::take(&mut platter.dirty) {
                if outcome.is_ok() {
                    platter.take(range);
                }
            }
        });
    }
}

impl Disk for FaultyDisk {
    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.enter(Op::Read, String::new)?;
        // Short, as reads may be.
        let len = buffer.len().min(150_000);
        let read = System.read_at(file, &mut buffer[..len], offset)?;
        self.lock().bytes_read += read as u64;
        Ok(read)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.enter(Op::Write, || format!("write {}", kind(file)))?;
        let len = bytes.len().min(150_000);
        self.dirty(file, offset, len);
        System.write_at(file, &bytes[..len], offset)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.enter(Op::SetLen, || format!("size {}", kind(file)))?;
        self.platter(file, |platter| platter.content.resize(len as usize, 0));
        System.set_len(file, len)
    }

    fn punch(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        self.enter(Op::Punch, || format!("punch {}", kind(file)))?;
        self.dirty(file, offset, len as usize);
        System.punch(file, offset, len)
    }

    fn reserve(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        self.enter(Op::Reserve, || format!("reserve {}", kind(file)))?;
        System.reserve(file, offset, len)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        let outcome = self.enter(Op::SyncData, || format!("sync {}", kind(file)));
        self.sync(file, &outcome);
        outcome
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        let outcome = self.enter(Op::SyncAll, || format!("sync {}", kind(file)));
        self.sync(file, &outcome);
        outcome
    }

    fn sync_folder(&self, folder: &Dir) -> io::Result<()> {
        self.enter(Op::SyncFolder, || format!("sync {}/", folder_name(folder)))
    }

    fn sync_file_system(&self, file: &File) -> io::Result<()> {
        let outcome = self.enter(Op::SyncFileSystem, || format!("sync all of {}", name_of(file)));
        let files: Vec<_> =
            self.lock().platters.values().map(|platter| platter.handle.try_clone().unwrap()).collect();
        files.iter().for_each(|file| self.sync(file, &outcome));
        outcome
    }

    fn rename_new(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        self.enter(Op::Rename, || "rename".into())?;
        System.rename_new(from, name, to, new)
    }

    fn rename(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        self.enter(Op::Replace, || "replace".into())?;
        System.rename(from, name, to, new)
    }

    fn exchange(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        self.enter(Op::Exchange, || "exchange".into())?;
        System.exchange(from, name, to, new)
    }

    fn link(&self, from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> io::Result<()> {
        self.enter(Op::Link, || "link".into())?;
        System.link(from, name, to, new)
    }

    fn unlink(&self, folder: &Dir, name: &OsStr) -> io::Result<()> {
        self.enter(Op::Unlink, || "unlink".into())?;
        System.unlink(folder, name)
    }

    fn free(&self, folder: &Dir) -> io::Result<u64> {
        self.enter(Op::Free, String::new)?;
        let free = self.lock().free;
        free.map_or_else(|| System.free(folder), Ok)
    }
}
