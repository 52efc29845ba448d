//! What is moved: a file's bytes, or those of a folder's files, one after the other.

use std::{
    fs, io,
    ops::Range,
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use p2p_protocol::{
    ByteRange, FileId, Manifest, Part,
    manifest::{Entry, Node, order},
};

/// What a part of a folder is: files that share a chunk with others, and one that is longer than a chunk.
pub const SOME_ENTRIES: [&str; 2] = ["a/deep", "long"];

/// A content that was meant to be moved somewhere.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
    /// Its identity.
    pub id: FileId,
    /// What is in it, for a folder.
    pub manifest: Option<Arc<Manifest>>,
}

impl Known {
    /// A file.
    pub fn file(bytes: Vec<u8>) -> Self {
        Self { id: id_of(&bytes), bytes: Arc::new(bytes), manifest: None }
    }

    /// A folder of these bytes.
    pub fn folder(bytes: Vec<u8>) -> Self {
        let mut entries: Vec<Entry> = ["a", "a/deep", "empty"].map(|path| entry(path, Node::Folder)).into();
        for (path, range) in pieces(bytes.len()) {
            entries.push(entry(path, file(&bytes[range], path.ends_with("run"))));
        }
        entries.push(entry("link", Node::Link { target: "a/one".to_owned() }));
        entries.sort_by(|one, other| order(&one.path, &other.path));
        let manifest = Manifest::new(entries).unwrap();
        Self { id: manifest.id(), bytes: Arc::new(bytes), manifest: Some(Arc::new(manifest)) }
    }

    /// The same kind of thing with other bytes.
    pub fn with(&self, bytes: Vec<u8>) -> Self {
        if self.manifest.is_some() { Self::folder(bytes) } else { Self::file(bytes) }
    }

    /// The part of it that is fetched where a part is: of a folder [`SOME_ENTRIES`], of a file [`some_bytes`](Self::some_bytes).
    pub fn part(&self) -> Self {
        let Some(whole) = &self.manifest else {
            let range = self.some_bytes().within(self.bytes.len() as u64).unwrap();
            return Self::file(self.bytes[range.start as usize..range.end as usize].to_vec());
        };
        let is_in = |path: &str| {
            SOME_ENTRIES.iter().any(|chosen| {
                path.strip_prefix(chosen).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let chosen: Vec<bool> = whole.entries().iter().map(|entry| is_in(&entry.path)).collect();
        let manifest = Part::new(whole, &chosen).unwrap().manifest().clone();
        Self { id: manifest.id(), bytes: self.bytes.clone(), manifest: Some(manifest) }
    }

    /// The bytes of a file that a part of it is, which begin and end within chunks.
    pub fn some_bytes(&self) -> ByteRange {
        let third = self.bytes.len() as u64 / 3;
        ByteRange::From(third, Some(2 * third))
    }

    /// Whether who fetches it lets it appear file by file, as half of the folders are.
    pub fn appears(&self) -> bool {
        self.manifest.is_some() && self.id.0[0].is_multiple_of(2)
    }

    /// Whether what is at a path is a part of this folder: some of its files, each of them whole.
    pub fn is_being_filled(&self, path: &Path) -> io::Result<bool> {
        let Some(manifest) = &self.manifest else { return Ok(false) };
        let mut entries = Vec::new();
        read_folder(path, "", &mut entries)?;
        Ok(entries.iter().all(|found| manifest.entries().contains(found)))
    }

    /// The bytes of a folder's file.
    pub fn bytes_of(&self, path: &str) -> Option<&[u8]> {
        let (_, range) = pieces(self.bytes.len()).into_iter().find(|(known, _)| *known == path)?;
        self.bytes.get(range)
    }

    /// Writes it where it is to be sent from, with this time.
    pub fn write(&self, path: &Path, modified: SystemTime) {
        if self.manifest.is_none() {
            write_file(path, &self.bytes, modified);
            return;
        }
        fs::create_dir_all(path.join("a/deep")).unwrap();
        fs::create_dir_all(path.join("empty")).unwrap();
        for (name, range) in pieces(self.bytes.len()) {
            let file = path.join(name);
            write_file(&file, &self.bytes[range], modified);
            if name.ends_with("run") {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        if path.join("link").symlink_metadata().is_err() {
            symlink("a/one", path.join("link")).unwrap();
        }
    }
}

/// How a folder's bytes are divided: one file has more than half of them, and so often more than a chunk.
fn pieces(len: usize) -> Vec<(&'static str, Range<usize>)> {
    const SHARES: [(&str, usize); 8] = [
        ("long", 60),
        ("a/one", 1),
        ("a/two", 2),
        ("a/deep/three", 20),
        ("a/deep/run", 3),
        ("b", 13),
        ("nothing", 0),
        ("rest", 1),
    ];
    let mut at = 0;
    let last = SHARES.len() - 1;
    let piece = |(number, (name, share)): (usize, (&'static str, usize))| {
        let end = if number == last { len } else { at + len * share / 100 };
        let range = at..end;
        at = end;
        (name, range)
    };
    SHARES.into_iter().enumerate().map(piece).collect()
}

fn entry(path: &str, node: Node) -> Entry {
    Entry { path: path.to_owned(), modified_ns: None, node }
}

fn file(bytes: &[u8], executable: bool) -> Node {
    Node::File { size: bytes.len() as u64, file_id: id_of(bytes), executable }
}

/// Holes stay holes.
fn write_file(path: &Path, bytes: &[u8], modified: SystemTime) {
    let file = fs::File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (number, block) in bytes.chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, number as u64 * 4096).unwrap();
        }
    }
    file.set_modified(modified).unwrap();
}

/// The identity of a file's content.
pub fn id_of(bytes: &[u8]) -> FileId {
    FileId(*blake3::hash(bytes).as_bytes())
}

/// The identity of what is at a path.
///
/// # Errors
/// It cannot be read, or is nothing that could be sent.
pub fn id_at(path: &Path) -> io::Result<FileId> {
    if !path.symlink_metadata()?.is_dir() {
        return Ok(id_of(&fs::read(path)?));
    }
    let mut entries = Vec::new();
    read_folder(path, "", &mut entries)?;
    entries.sort_by(|one, other| order(&one.path, &other.path));
    Ok(Manifest::new(entries).map_err(io::Error::other)?.id())
}

fn read_folder(folder: &Path, inside: &str, entries: &mut Vec<Entry>) -> io::Result<()> {
    for found in fs::read_dir(folder)? {
        let found = found?;
        let name = found.file_name().into_string().map_err(|name| io::Error::other(format!("{name:?}")))?;
        let path = if inside.is_empty() { name } else { format!("{inside}/{name}") };
        let kind = found.file_type()?;
        if kind.is_dir() {
            entries.push(entry(&path, Node::Folder));
            read_folder(&found.path(), &path, entries)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(found.path())?.to_string_lossy().into_owned();
            entries.push(entry(&path, Node::Link { target }));
        } else {
            let executable = found.metadata()?.permissions().mode() & 0o111 != 0;
            entries.push(entry(&path, file(&fs::read(found.path())?, executable)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_known() {
        for len in [0, 1, 99, 100_000, 3 << 20] {
            let folder = tempfile::tempdir().unwrap();
            let known = Known::folder((0..len).map(|at| (at / 7) as u8).collect());
            let path = folder.path().join("x");
            known.write(&path, SystemTime::UNIX_EPOCH);
            assert_eq!(id_at(&path).unwrap(), known.id, "{len}");
            known.write(&path, SystemTime::UNIX_EPOCH);
            assert_eq!(id_at(&path).unwrap(), known.id, "{len} again");
            fs::write(path.join("empty/more"), "x").unwrap();
            assert_ne!(id_at(&path).unwrap(), known.id, "{len}");
        }
    }
}
