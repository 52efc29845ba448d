//! Hashing a file on all cores, in memory that does not depend on its size.

use std::{
    fs::File,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use p2p_protocol::{
    Cv, FileId,
    limits::{GROUP_LEN, MAX_FILE_LEN},
    tree,
};

use super::{
    Store,
    error::StoreError,
    list::{List, ListWriter},
};
use crate::buffer::Buffer;
use crate::disk::{Disk, is_hole, read_full};

/// Bytes that a worker reads at once, a whole number of groups. No more, since there may be as many workers as there are
/// files to be hashed, and more.
const BLOCK_LEN: u64 = GROUP_LEN;

/// Called with the bytes hashed so far; false cancels.
pub(crate) type Progress<'a> = &'a (dyn Fn(u64) -> bool + Sync);

/// Hashes the first `size` bytes of a file: its File ID, and its list if it has more than one group. A file
/// that ends earlier has changed.
pub(crate) fn hash_file(
    store: &Store,
    file: &File,
    path: &Path,
    size: u64,
    progress: Progress<'_>,
) -> Result<(FileId, Option<List>), StoreError> {
    let (disk, groups) = (&**store.disk(), size.div_ceil(GROUP_LEN));
    if groups < 2 {
        let mut bytes = vec![0; size as usize];
        read(disk, file, path, &mut bytes, 0)?;
        return Ok((tree::hash_small(&bytes), None));
    }
    if size > MAX_FILE_LEN {
        let error = std::io::Error::other(format!("larger than {MAX_FILE_LEN} bytes, the most p2p can move"));
        return Err(StoreError::io("hash the file", path)(error));
    }
    let kept = || StoreError::io("write the list of chaining values for", path);
    let writer = store.lists().begin(groups).map_err(kept())?;
    let run = Run {
        disk,
        file,
        path,
        size,
        writer: &writer,
        progress,
        next: AtomicU64::new(0),
        hashed: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        error: Mutex::new(None),
    };
    run.shared_by(store.workers().at_once());
    if let Some(error) = run.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    match writer.finish(groups).map_err(kept())? {
        Some((id, list)) => Ok((id, Some(list))),
        None => Err(kept()(std::io::ErrorKind::UnexpectedEof.into())),
    }
}

struct Run<'a> {
    disk: &'a dyn Disk,
    file: &'a File,
    path: &'a Path,
    size: u64,
    writer: &'a ListWriter,
    progress: Progress<'a>,
    /// The next block that nobody has taken.
    next: AtomicU64,
    hashed: AtomicU64,
    stop: AtomicBool,
    error: Mutex<Option<StoreError>>,
}

impl Run<'_> {
    fn shared_by(&self, threads: u64) {
        let blocks = self.size.div_ceil(BLOCK_LEN);
        std::thread::scope(|scope| {
            for _ in 1..threads.min(blocks) {
                // Without a further thread the others do its share.
                let _ = std::thread::Builder::new().name("hash".into()).spawn_scoped(scope, || self.work());
            }
            self.work();
        });
    }

    fn work(&self) {
        let mut buffer = Buffer::take(BLOCK_LEN.min(self.size) as usize);
        while !self.stop.load(Ordering::Relaxed) {
            let start = self.next.fetch_add(1, Ordering::Relaxed).saturating_mul(BLOCK_LEN);
            if start >= self.size {
                return;
            }
            let len = BLOCK_LEN.min(self.size - start);
            let done = self.block(start, &mut buffer[..len as usize]).and_then(|()| {
                let hashed = self.hashed.fetch_add(len, Ordering::Relaxed) + len;
                if (self.progress)(hashed) { Ok(()) } else { Err(StoreError::Cancelled) }
            });
            if let Err(error) = done {
                self.stop.store(true, Ordering::Relaxed);
                self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    }

    fn block(&self, start: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let first = start / GROUP_LEN;
        let values: Vec<Cv> = if is_hole(self.file, start..start + buffer.len() as u64) {
            zero_groups(first, buffer.len() as u64)
        } else {
            read(self.disk, self.file, self.path, buffer, start)?;
            hash_groups(first, buffer)
        };
        let kept = self.writer.put(first, &values);
        kept.map_err(StoreError::io("write the list of chaining values for", self.path))
    }
}

/// The values of groups that lie one after the other.
pub(super) fn hash_groups(first: u64, bytes: &[u8]) -> Vec<Cv> {
    bytes
        .chunks(GROUP_LEN as usize)
        .zip(first..)
        .map(|(bytes, group)| tree::hash_group(group, bytes))
        .collect()
}

/// The values of groups of zeros. They differ with the group's place, so each has to be computed.
pub(super) fn zero_groups(first: u64, len: u64) -> Vec<Cv> {
    static ZEROS: [u8; GROUP_LEN as usize] = [0; GROUP_LEN as usize];
    (0..len.div_ceil(GROUP_LEN))
        .map(|n| {
            let len = (len - n * GROUP_LEN).min(GROUP_LEN);
            tree::hash_group(first + n, &ZEROS[..len as usize])
        })
        .collect()
}

fn read(disk: &dyn Disk, file: &File, path: &Path, buffer: &mut [u8], offset: u64) -> Result<(), StoreError> {
    let read = read_full(disk, file, buffer, offset).map_err(StoreError::io("read the source", path))?;
    if read == buffer.len() { Ok(()) } else { Err(StoreError::SourceChanged { path: path.to_owned() }) }
}
