//! Folders below one root, as handles: whatever is planted in their place meanwhile, no link is followed.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cap_std::fs::Dir;
use rustix::fs::{Mode, OFlags};

/// Handles that are kept open.
const KEPT: usize = 32;

/// A folder and those in it that were used last.
#[derive(Debug)]
pub(super) struct Folders {
    root: Arc<Dir>,
    recent: Mutex<Recent<String, Dir>>,
}

impl Folders {
    pub(super) fn new(root: Dir) -> Self {
        Self { root: Arc::new(root), recent: Mutex::default() }
    }

    /// The folder that something lies in, and its name there.
    pub(super) fn locate<'a>(&self, path: &'a str) -> io::Result<(Arc<Dir>, &'a str)> {
        let Some((parent, name)) = path.rsplit_once('/') else { return Ok((self.root.clone(), path)) };
        if let Some(known) = lock(&self.recent).get(parent) {
            return Ok((known, name));
        }
        let mut folder = self.root.clone();
        for step in parent.split('/') {
            folder = Arc::new(open_folder_in(&folder, step)?);
        }
        lock(&self.recent).put(parent.to_owned(), folder.clone());
        Ok((folder, name))
    }

    /// Opens what is there, to be read; a pipe is not waited for.
    pub(super) fn open(&self, path: &str) -> io::Result<File> {
        let (folder, name) = self.locate(path)?;
        let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(folder.as_fd(), name, how, Mode::empty())?.into())
    }
}

/// Opens a folder in a folder, and not what a link leads to.
pub(super) fn open_folder_in(folder: &Dir, name: impl AsRef<OsStr>) -> io::Result<Dir> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(Dir::from_std_file(rustix::fs::openat(folder.as_fd(), name.as_ref(), how, Mode::empty())?.into()))
}

/// What was used last, to be used again.
#[derive(Debug)]
pub(super) struct Recent<K, V>(Vec<(K, Arc<V>)>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Recent<K, V> {
    pub(super) fn get<Q: PartialEq<K> + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>> {
        let at = self.0.iter().rposition(|(known, _)| key == known)?;
        let found = self.0.remove(at);
        let value = found.1.clone();
        self.0.push(found);
        Some(value)
    }

    pub(super) fn remove(&mut self, key: &K)
    where
        K: PartialEq,
    {
        self.0.retain(|(known, _)| known != key);
    }

    pub(super) fn put(&mut self, key: K, value: Arc<V>) {
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        self.0.push((key, value));
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
