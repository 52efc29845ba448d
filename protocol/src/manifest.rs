//! What a folder holds: the list of its entries, in one fixed order and layout, whose hash is the folder's File ID.
//!
//! ```text
//! entry   kind 1 · length of path 2 · path · (modified 8) · what the kind needs
//! kinds   0 folder: nothing · 1 file, 2 executable file: size 8, File ID 32
//!         3 symbolic link: length 2, target · 4 hard link: 4, the number of an earlier entry that is a file
//! ```
//!
//! Numbers are little-endian. The times, nanoseconds since 1970 UTC, travel along and are no part of the File ID: a copy
//! that differs in nothing else is the same folder. Entries are sorted by path, component for component, so that
//! a folder comes before what is in it. The folder itself is no entry.

use std::cmp::Ordering;

use crate::{
    FileId, SafeName,
    limits::{MAX_DEPTH, MAX_ENTRIES, MAX_FILE_LEN, MAX_MANIFEST_LEN, MAX_PATH_LEN},
    name::NameError,
    tree::empty_id,
};

/// Keeps a folder's File ID apart from that of any file.
const ID_CONTEXT: &str = "p2p 2026-11-25 file id of a folder from its manifest";
/// Stands for a time that is not known.
const NO_TIME: i64 = i64::MIN;

/// A folder's entries. Whoever has one can rely on what [`Manifest::new`] checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
    /// The entries that are files, in order: a *file's number* is its place here.
    files: Vec<u32>,
    size: u64,
    id: FileId,
}

/// One thing in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where, from the folder on: names that are each a [`SafeName`], with `/` between them.
    pub path: String,
    /// Modification time in nanoseconds since 1970 UTC.
    pub modified_ns: Option<i64>,
    /// What it is.
    pub node: Node,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// The hash of its content.
        file_id: FileId,
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A symbolic link that stays inside the folder.
    Link {
        /// What it points at.
        target: String,
    },
    /// Another name of a file.
    HardLink {
        /// The number of the entry that is that file.
        of: u32,
    },
}

/// What is wrong with a list of entries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It ends in the middle of an entry, or has a kind that there is not.
    #[error("the list of entries is damaged")]
    Malformed,
    /// More than allowed.
    #[error("more than {MAX_ENTRIES} entries, or {MAX_MANIFEST_LEN} bytes of them")]
    TooMany,
    /// One name in a path is not safe.
    #[error("{path:?}: {error}")]
    Name {
        /// The path.
        path: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// A path is too long, or too deep.
    #[error("{0:?}: the path has more than {MAX_PATH_LEN} bytes or {MAX_DEPTH} names")]
    Path(String),
    /// Not in order, twice, or in no folder of the list.
    #[error("{0:?} is out of place")]
    Order(String),
    /// A symbolic link that may lead out of the folder.
    #[error("{0:?} is a link that leads out of the folder")]
    Leads(String),
    /// A hard link to something that is no earlier file.
    #[error("{0:?} is a second name of nothing")]
    Nameless(String),
    /// No bytes, and the File ID of some.
    #[error("{0:?} is empty, and has the File ID of what is not")]
    Empty(String),
    /// The sum of the sizes.
    #[error("the files have more than {MAX_FILE_LEN} bytes in all")]
    Size,
}

impl Manifest {
    /// Checks a list of entries: the paths, their order, that each lies in a folder of the list, where links lead, the
    /// sum of the sizes.
    pub fn new(entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if entries.len() > MAX_ENTRIES {
            return Err(ManifestError::TooMany);
        }
        let (mut files, mut size) = (Vec::new(), 0_u64);
        // The folders that lead to where the list is.
        let mut open: Vec<&str> = Vec::new();
        let mut before: Option<&str> = None;
        for (at, entry) in (0_u32..).zip(&entries) {
            let path = entry.path.as_str();
            check_path(path)?;
            let out_of_place = || ManifestError::Order(path.to_owned());
            if before.is_some_and(|before| order(before, path) != Ordering::Less) {
                return Err(out_of_place());
            }
            before = Some(path);
            let parent = path.rsplit_once('/').map(|(parent, _)| parent);
            while open.last().copied() != parent {
                open.pop().ok_or_else(out_of_place)?;
            }
            match &entry.node {
                Node::Folder => open.push(path),
                // No chunk carries it that would show what it is.
                Node::File { size: 0, file_id, .. } if *file_id != empty_id() => {
                    return Err(ManifestError::Empty(path.to_owned()));
                }
                Node::File { size: len, .. } => {
                    files.push(at);
                    size = size
                        .checked_add(*len)
                        .filter(|sum| *sum <= MAX_FILE_LEN)
                        .ok_or(ManifestError::Size)?;
                }
                Node::Link { target } if stays_inside(path, target) => {}
                Node::Link { .. } => return Err(ManifestError::Leads(path.to_owned())),
                Node::HardLink { of } => {
                    let other = entries.get(*of as usize).filter(|_| *of < at);
                    if !other.is_some_and(|other| matches!(other.node, Node::File { .. })) {
                        return Err(ManifestError::Nameless(path.to_owned()));
                    }
                }
            }
        }
        let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
        let mut bytes = Vec::with_capacity(MAX_PATH_LEN);
        for entry in &entries {
            bytes.clear();
            entry.put(&mut bytes, false);
            hasher.update(&bytes);
        }
        let id = FileId(*hasher.finalize().as_bytes());
        Ok(Self { entries, files, size, id })
    }

    /// Reads what [`Self::encode`] makes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut rest = Bytes(bytes);
        let mut entries = Vec::new();
        while !rest.0.is_empty() {
            if entries.len() >= MAX_ENTRIES {
                return Err(ManifestError::TooMany);
            }
            entries.push(Entry::take(&mut rest).ok_or(ManifestError::Malformed)?);
        }
        Self::new(entries)
    }

    /// The list as it travels.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.entries.iter().for_each(|entry| entry.put(&mut bytes, true));
        bytes
    }

    /// The folder's File ID.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// All entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The numbers of the entries that are files; a file's own number is its place here.
    pub fn files(&self) -> &[u32] {
        &self.files
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Size and File ID of the entry of this number, if it is a file.
    pub fn file(&self, entry: u32) -> Option<(u64, FileId)> {
        match &self.entries.get(entry as usize)?.node {
            Node::File { size, file_id, .. } => Some((*size, *file_id)),
            _ => None,
        }
    }
}

impl Entry {
    fn put(&self, bytes: &mut Vec<u8>, with_time: bool) {
        bytes.push(match &self.node {
            Node::Folder => 0,
            Node::File { executable, .. } => 1 + u8::from(*executable),
            Node::Link { .. } => 3,
            Node::HardLink { .. } => 4,
        });
        put_text(bytes, &self.path);
        if with_time {
            bytes.extend_from_slice(&self.modified_ns.unwrap_or(NO_TIME).to_le_bytes());
        }
        match &self.node {
            Node::Folder => {}
            Node::File { size, file_id, .. } => {
                bytes.extend_from_slice(&size.to_le_bytes());
                bytes.extend_from_slice(&file_id.0);
            }
            Node::Link { target } => put_text(bytes, target),
            Node::HardLink { of } => bytes.extend_from_slice(&of.to_le_bytes()),
        }
    }

    fn take(bytes: &mut Bytes<'_>) -> Option<Self> {
        let [kind] = bytes.take()?;
        let path = bytes.text()?;
        let modified_ns = Some(i64::from_le_bytes(bytes.take()?)).filter(|time| *time != NO_TIME);
        let node = match kind {
            0 => Node::Folder,
            1 | 2 => {
                let (size, file_id) = (u64::from_le_bytes(bytes.take()?), FileId(bytes.take()?));
                Node::File { size, file_id, executable: kind == 2 }
            }
            3 => Node::Link { target: bytes.text()? },
            4 => Node::HardLink { of: u32::from_le_bytes(bytes.take()?) },
            _ => return None,
        };
        Some(Self { path, modified_ns, node })
    }
}

/// Texts are checked to be no longer than `MAX_PATH_LEN` before they are written.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn text(&mut self) -> Option<String> {
        let len = u16::from_le_bytes(self.take()?);
        let (taken, rest) = self.0.split_at_checked(len.into())?;
        self.0 = rest;
        String::from_utf8(taken.to_vec()).ok()
    }
}

/// The order of paths: component for component, each by its bytes.
pub fn order(one: &str, other: &str) -> Ordering {
    one.split('/').cmp(other.split('/'))
}

/// Whether every name of a path is one that a receiver takes.
pub fn check_path(path: &str) -> Result<(), ManifestError> {
    if path.len() > MAX_PATH_LEN || path.split('/').count() > MAX_DEPTH {
        return Err(ManifestError::Path(path.to_owned()));
    }
    for name in path.split('/') {
        SafeName::parse(name).map_err(|error| ManifestError::Name { path: path.to_owned(), error })?;
    }
    Ok(())
}

/// Whether a symbolic link at `path` leads to something inside the folder, whatever other links of the folder it
/// passes: it is relative, goes up only at its beginning, and no further than the folder. A step up later would be one
/// from wherever a link on the way leads to.
pub fn stays_inside(path: &str, target: &str) -> bool {
    if target.is_empty() || target.len() > MAX_PATH_LEN || target.starts_with('/') {
        return false;
    }
    if target.chars().any(char::is_control) {
        return false;
    }
    let mut up = 0;
    let mut down = false;
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." if down => return false,
            ".." => up += 1,
            _ => down = true,
        }
    }
    up <= path.matches('/').count()
}

const _: () = assert!(MAX_PATH_LEN <= u16::MAX as usize, "a path's length fits its field");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str, node: Node) -> Entry {
        Entry { path: path.into(), modified_ns: Some(7), node }
    }

    fn file(path: &str, size: u64) -> Entry {
        let file_id = if size == 0 { empty_id() } else { FileId([size as u8; 32]) };
        entry(path, Node::File { size, file_id, executable: size == 2 })
    }

    fn link(path: &str, target: &str) -> Entry {
        entry(path, Node::Link { target: target.into() })
    }

    fn tree() -> Vec<Entry> {
        vec![
            file("a", 2),
            entry("b", Node::Folder),
            entry("b/c", Node::Folder),
            file("b/c/d", 300),
            link("b/c/e", "../../a"),
            entry("b/c/f", Node::HardLink { of: 3 }),
            file("b-", 0),
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut entries = tree();
        entries[1].modified_ns = None;
        let manifest = Manifest::new(entries).unwrap();
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
        assert_eq!((manifest.files(), manifest.size()), (&[0, 3, 6][..], 302));
        assert_eq!(manifest.file(3), Some((300, FileId([44; 32]))));
        assert_eq!((manifest.file(1), manifest.file(99)), (None, None));
    }

    #[test]
    fn the_identity_depends_on_everything_but_times() {
        let id = |change: &dyn Fn(&mut Vec<Entry>)| {
            let mut entries = tree();
            change(&mut entries);
            Manifest::new(entries).unwrap().id()
        };
        let plain = id(&|_| {});
        assert_eq!(id(&|entries| entries[0].modified_ns = None), plain);
        let others = [
            id(&|entries| entries[0].path = "A".into()),
            id(&|entries| entries[6].node = Node::Folder),
            id(&|entries| entries[6].node = file("", 1).node),
            id(&|entries| entries[4].node = Node::Link { target: "../../b-".into() }),
            id(&|entries| entries[5].node = Node::HardLink { of: 0 }),
            id(&|entries| drop(entries.pop())),
            Manifest::new(Vec::new()).unwrap().id(),
            crate::tree::empty_id(),
            crate::tree::hash_small(&Manifest::new(tree()).unwrap().encode()),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != plain && !others[..at].contains(other), "{at}");
        }
    }

    /// Faults 53 and 57.
    #[test]
    fn lists_that_lie_are_refused() {
        let refused = |entries: Vec<Entry>| Manifest::new(entries).unwrap_err();
        assert!(matches!(refused(vec![file("../a", 1)]), ManifestError::Name { .. }));
        assert!(matches!(refused(vec![file("/a", 1)]), ManifestError::Name { .. }));
        assert!(matches!(refused(vec![file("", 1)]), ManifestError::Name { .. }));
        assert!(matches!(refused(vec![file(".p2p", 1)]), ManifestError::Name { .. }));
        assert!(matches!(refused(vec![entry("a", Node::Folder), file("a/", 1)]), ManifestError::Name { .. }));
        let deep = vec!["a"; MAX_DEPTH].join("/");
        assert_eq!(check_path(&deep), Ok(()));
        let deep = format!("a/{deep}");
        assert!(matches!(refused(vec![file(&deep, 1)]), ManifestError::Path(_)));
        let long = vec!["a".repeat(255); 16].join("/");
        assert_eq!((long.len(), check_path(&long)), (MAX_PATH_LEN - 1, Ok(())));
        let longest = [long.clone().replacen('a', "", 1), "a".into()].join("/");
        assert_eq!((longest.len(), check_path(&longest)), (MAX_PATH_LEN, Ok(())));
        let longer = format!("{longest}a");
        assert_eq!(check_path(&longer), Err(ManifestError::Path(longer)));
        assert!(matches!(refused(vec![file("a/b", 1)]), ManifestError::Order(_)), "its folder is not there");
        assert!(matches!(refused(vec![file("a", 1), file("a/b", 1)]), ManifestError::Order(_)));
        assert!(matches!(refused(vec![link("a", "b"), file("a/b", 1)]), ManifestError::Order(_)));
        assert!(matches!(refused(vec![file("b", 1), file("a", 1)]), ManifestError::Order(_)));
        assert!(matches!(refused(vec![file("a", 1), file("a", 1)]), ManifestError::Order(_)));
        let late = vec![entry("a", Node::Folder), file("b", 1), file("a/c", 1)];
        assert!(matches!(refused(late), ManifestError::Order(_)));
        for of in [0, 1, 2, 9] {
            let entries = vec![entry("a", Node::Folder), entry("b", Node::HardLink { of }), file("c", 1)];
            assert!(matches!(refused(entries), ManifestError::Nameless(_)), "{of}");
        }
        assert_eq!(refused(vec![file("a", MAX_FILE_LEN), file("b", 1)]), ManifestError::Size);
        assert_eq!(refused(vec![file("a", u64::MAX)]), ManifestError::Size);
        // No chunk carries what is empty, so that nothing else would find out.
        let false_empty = Node::File { size: 0, file_id: FileId([1; 32]), executable: false };
        assert_eq!(refused(vec![entry("a", false_empty)]), ManifestError::Empty("a".into()));
    }

    #[test]
    fn links_stay_inside_whatever_they_pass() {
        for (path, target) in [
            ("a", "b"),
            ("a", "b/c"),
            ("a", "./b"),
            ("a/b", ".."),
            ("a/b/c", "../../d"),
            ("a/b", "../c//d/"),
            ("a/b", ".././/.//c"),
            ("a", "./."),
        ] {
            assert!(stays_inside(path, target), "{path} {target}");
        }
        assert!(
            stays_inside("a", &"b".repeat(MAX_PATH_LEN)) && !stays_inside("a", &"b".repeat(MAX_PATH_LEN + 1))
        );
        for (path, target) in [
            ("a", ""),
            ("a", "/etc/passwd"),
            ("a", ".."),
            ("a/b", "../.."),
            ("a/b/c", "../../../d"),
            ("a/b/c", "../d/../.."),
            ("a/b/c", "d/../e"),
            ("a", "b\0c"),
            ("a", "b\nc"),
        ] {
            assert!(!stays_inside(path, target), "{path} {target}");
            assert!(Manifest::new(vec![link("a", target)]).is_err() || path != "a");
        }
    }

    #[test]
    fn a_folder_comes_before_what_is_in_it_and_its_content_together() {
        let mut paths = ["b-", "b/c", "b", "b.c", "b/c/d", "a"];
        paths.sort_by(|one, other| order(one, other));
        assert_eq!(paths, ["a", "b", "b/c", "b/c/d", "b-", "b.c"]);
    }

    proptest! {
        /// Fault 50.
        #[test]
        fn damaged_lists_never_panic(at in 0_usize..1000, byte in any::<u8>(), cut in 0_usize..1000) {
            let mut bytes = Manifest::new(tree()).unwrap().encode();
            let len = bytes.len();
            bytes[at % len] = byte;
            let _ = Manifest::decode(&bytes);
            bytes.truncate(cut % len);
            let _ = Manifest::decode(&bytes);
        }
    }
}
