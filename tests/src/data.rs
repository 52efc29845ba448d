//! Content to move: random by a seed, so that it never compresses or repeats, and with holes.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

/// Bytes of the smallest chunk, which is that of a small file.
pub const CHUNK: u64 = 256 << 10;
/// One mebibyte.
pub const MIB: u64 = 1 << 20;

const PIECE: usize = 1 << 20;

/// Bytes that only the seed determines.
pub fn random(seed: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).expect("it fits memory")];
    stream(seed).fill(&mut bytes);
    bytes
}

/// A file of such bytes, written piece by piece.
pub fn write_random(path: &Path, seed: u64, len: u64) {
    let mut file = create(path);
    let (mut stream, mut piece, mut left) = (stream(seed), vec![0; PIECE], len);
    while left > 0 {
        let part = &mut piece[..left.min(PIECE as u64) as usize];
        stream.fill(part);
        file.write_all(part).expect("the disk takes test data");
        left -= part.len() as u64;
    }
}

/// A file of this length that is empty but for these pieces.
pub fn write_sparse(path: &Path, len: u64, pieces: &[(u64, &[u8])]) {
    let file = create(path);
    file.set_len(len).expect("the file system has sparse files");
    for (offset, bytes) in pieces {
        file.write_all_at(bytes, *offset).expect("the disk takes test data");
    }
}

/// The File ID as the contract defines it: the hash that `b3sum` prints.
pub fn file_id(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut file = open(path);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).expect("test data is readable") {
            0 => return hasher.finalize().to_hex().to_string(),
            n => hasher.update(&piece[..n]),
        };
    }
}

/// Fails unless both files have the same content.
pub fn assert_same(left: &Path, right: &Path) {
    let len =
        |path: &Path| fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).len();
    assert_eq!(len(left), len(right), "sizes of {} and {}", left.display(), right.display());
    assert_eq!(file_id(left), file_id(right), "content of {} and {}", left.display(), right.display());
}

/// Inverts one byte in place.
pub fn flip(path: &Path, offset: u64) {
    let mut file = File::options().read(true).write(true).open(path).expect("the file to damage is there");
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).expect("seek");
    file.read_exact(&mut byte).expect("the file to damage reaches that far");
    file.write_all_at(&[!byte[0]], offset).expect("the file to damage is writable");
}

/// Bytes that a file occupies on disk.
pub fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).blocks() * 512
}

/// All regular files below a folder, sorted; none where there is no folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("a test's folder is readable").path();
        if path.is_dir() && !path.is_symlink() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn stream(seed: u64) -> blake3::OutputReader {
    blake3::Hasher::new().update(b"test data").update(&seed.to_le_bytes()).finalize_xof()
}

fn create(path: &Path) -> File {
    File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
