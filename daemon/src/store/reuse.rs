//! What of a folder need not be moved, since it is on this disk: in an earlier copy of the folder, wherever it lies in
//! that, or in another partial.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use p2p_protocol::{
    ChunkSet, FileId, Manifest,
    limits::{GROUP_LEN, MAX_RANGES},
    tree,
};

use super::{
    Store, error::StoreError, folders::Folders, import::open_regular, staging::Staging, walk::Candidate,
};
use crate::disk::{is_hole, is_zero, read_exact, write_all};

/// Where each content that is wanted belongs.
struct Wanted {
    /// The numbers of its files, by size and File ID.
    files: HashMap<u64, HashMap<FileId, Vec<u32>>>,
    left: ChunkSet,
}

/// Puts a file that was found where it is wanted, by its number; false where it is not right after all.
type Put<'a> = dyn Fn(u32, &Hit<'_>) -> io::Result<bool> + 'a;

impl Wanted {
    /// Every file of a folder that is not empty.
    fn of(manifest: &Manifest) -> Self {
        let mut wanted = Self { files: HashMap::new(), left: ChunkSet::new() };
        for (number, entry) in (0..).zip(manifest.files()) {
            if let Some((size, id)) = manifest.file(*entry).filter(|(size, _)| *size > 0) {
                wanted.files.entry(size).or_default().entry(id).or_default().push(number);
                wanted.left.insert(number);
            }
        }
        wanted
    }
}

/// A file that was found, and has some content that is wanted.
struct Hit<'a> {
    file: &'a File,
    id: FileId,
    /// The content, of a small one.
    bytes: Option<&'a [u8]>,
}

impl Store {
    /// The files of a folder, by their numbers, whose content is in none of these folders. Nothing is written.
    pub(crate) fn missing_files(&self, manifest: &Manifest, from: &[PathBuf]) -> ChunkSet {
        self.search(Wanted::of(manifest), from, &|_, _| Ok(true))
    }

    /// Copies into a folder in the making what of its files is found in these folders, each byte checked as it is copied; the
    /// numbers of those that have to be moved.
    pub(super) fn reuse(&self, staging: &Staging, from: &[PathBuf]) -> ChunkSet {
        let manifest = staging.manifest();
        let left = self.search(Wanted::of(manifest), from, &|number, hit| {
            let entry = manifest.files().get(number as usize).copied().unwrap_or(u32::MAX);
            match hit.bytes {
                Some(bytes) => staging.write_files(&[entry], bytes).map(|()| true),
                None => self.copy(hit.file, staging, entry, hit.id),
            }
        });
        few_ranges(left)
    }

    /// Looks for what is wanted in these folders, and gives each that is found to `put`, which says whether it was right: what
    /// is left.
    fn search(&self, mut wanted: Wanted, from: &[PathBuf], put: &Put<'_>) -> ChunkSet {
        for path in from {
            let (folders, candidates) = match self.candidates(path) {
                Ok(found) => found,
                Err(error) => {
                    tracing::debug!(%error, "nothing is reused of a folder");
                    continue;
                }
            };
            for candidate in candidates {
                if wanted.left.is_empty() {
                    break;
                }
                match self.reuse_file(path, &folders, &candidate, &mut wanted, put) {
                    // A disk that is full is one that the transfer will meet too, and say so.
                    Err(error) if error.is_full() => break,
                    Err(error) => tracing::debug!(%error, "a file is not reused"),
                    Ok(()) => {}
                }
            }
        }
        wanted.left
    }

    fn reuse_file(
        &self,
        path: &Path,
        folders: &Folders,
        candidate: &Candidate,
        wanted: &mut Wanted,
        put: &Put<'_>,
    ) -> Result<(), StoreError> {
        let Some(ids) = wanted.files.get(&candidate.size) else { return Ok(()) };
        let path = path.join(&candidate.path);
        let read = || StoreError::io("read", &path);
        let file = folders.open(&candidate.path).map_err(read())?;
        let (id, bytes) = if candidate.size <= GROUP_LEN {
            let mut bytes = vec![0; candidate.size as usize];
            read_exact(&**self.disk(), &file, &mut bytes, 0).map_err(read())?;
            (tree::hash_small(&bytes), Some(bytes))
        } else {
            (self.id_of_open(file.try_clone().map_err(read())?, &path)?, None)
        };
        let Some(numbers) = ids.get(&id) else { return Ok(()) };
        let hit = Hit { file: &file, id, bytes: bytes.as_deref() };
        for number in
            numbers.iter().filter(|number| wanted.left.contains(**number)).copied().collect::<Vec<_>>()
        {
            if put(number, &hit).map_err(StoreError::io("reuse", &path))? {
                wanted.left.remove(number);
            }
        }
        Ok(())
    }

    /// Copies what an older copy of a file has, as it is. One that is not there, or is no file, has nothing.
    pub(super) fn copy_older(&self, from: &Path, to: &File, size: u64) -> io::Result<()> {
        let Ok(opened) = open_regular(from) else { return Ok(()) };
        let len = opened.stamp.size.min(size);
        let mut buffer = vec![0; GROUP_LEN as usize];
        for start in (0..len).step_by(GROUP_LEN as usize) {
            let end = (start + GROUP_LEN).min(len);
            if !is_hole(&opened.file, start..end) {
                let part = &mut buffer[..(end - start) as usize];
                read_exact(&**self.disk(), &opened.file, part, start)?;
                write_all(&**self.disk(), to, part, start)?;
            }
        }
        Ok(())
    }

    /// Copies a file with its holes, and checks what it copies; false for what is not the content any longer.
    fn copy(&self, from: &File, staging: &Staging, entry: u32, id: FileId) -> io::Result<bool> {
        let (to, size) = (staging.long_to_write(entry)?, staging.size_of(entry)?);
        let disk = &**self.disk();
        // Whatever an earlier try left in it, all of it is a hole now.
        disk.set_len(&to, 0)?;
        disk.set_len(&to, size)?;
        let mut buffer = vec![0; GROUP_LEN as usize];
        let mut hasher = blake3::Hasher::new();
        for start in (0..size).step_by(GROUP_LEN as usize) {
            let part = &mut buffer[..GROUP_LEN.min(size - start) as usize];
            read_exact(disk, from, part, start)?;
            hasher.update(part);
            if !is_zero(part) {
                write_all(disk, &to, part, start)?;
            }
        }
        if hasher.finalize() != blake3::Hash::from(id.0) {
            return Ok(false);
        }
        staging.finish_long(entry, &to);
        Ok(true)
    }
}

/// A selection that one message can name: where it has too many gaps, the smallest of them are closed, and what is in
/// them is moved all the same.
fn few_ranges(mut files: ChunkSet) -> ChunkSet {
    let mut gap = 1;
    while files.ranges().len() > MAX_RANGES {
        let ranges = files.ranges();
        for pair in ranges.windows(2) {
            let (end, next) = (pair[0].start + pair[0].count, pair[1].start);
            if next - end <= gap {
                files.union(&(end..next).collect());
            }
        }
        gap *= 2;
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_fits_one_message() {
        let few: ChunkSet = (0..MAX_RANGES as u32).map(|n| n * 3).collect();
        assert_eq!(few_ranges(few.clone()), few);
        let many: ChunkSet = (0..3 * MAX_RANGES as u32).map(|n| n * 2 + 5 * (n / 7)).collect();
        let fewer = few_ranges(many.clone());
        assert!(fewer.ranges().len() <= MAX_RANGES);
        assert!(many.iter().all(|number| fewer.contains(number)) && fewer.len() < 2 * many.len());
    }
}
