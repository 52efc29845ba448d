//! What must be so, whatever happened: what is looked for on a host's disk after each crash and at the end.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use p2p_protocol::{ChunkSet, FileId, Geometry};

/// The daemon's folder of what is not complete yet, in the inbox.
const PARTIALS: &str = ".p2p";

/// A content that was meant to be moved somewhere.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its bytes.
    pub bytes: std::sync::Arc<Vec<u8>>,
    /// Its identity.
    pub id: FileId,
}

/// What a host may have, and what it must.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// What may turn up in the inbox.
    pub welcome: Vec<Known>,
    /// What was said to be there for good.
    pub promised: BTreeMap<PathBuf, FileId>,
}

/// The identity of a content.
pub fn id_of(bytes: &[u8]) -> FileId {
    FileId(*blake3::hash(bytes).as_bytes())
}

/// Everything that is wrong on a host's disk.
pub fn complaints(root: &Path, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in names(root) {
        if !["home", "inbox", "sources"].contains(&name.as_str()) {
            wrong.push(format!("something outside of home and inbox: {name}"));
        }
    }
    let inbox = root.join("inbox");
    for name in names(&inbox) {
        let path = inbox.join(&name);
        if name == PARTIALS {
            wrong.extend(false_bits(&path, expected));
        } else if !path.symlink_metadata().unwrap().is_file() {
            wrong.push(format!("{name} in the inbox is no file"));
        } else {
            let id = id_of(&fs::read(&path).unwrap());
            if !expected.welcome.iter().any(|known| known.id == id) {
                wrong.push(format!("{name} in the inbox is what nobody sent"));
            }
        }
    }
    for (path, id) in &expected.promised {
        match fs::read(path) {
            Ok(bytes) if id_of(&bytes) == *id => {}
            Ok(_) => wrong.push(format!("{}: not what was promised", path.display())),
            Err(error) => wrong.push(format!("{}: was promised: {error}", path.display())),
        }
    }
    wrong
}

/// Data of files that are not complete. A log without data, of a daemon that died just after publishing, is swept when
/// the folder is next used.
pub fn leftovers(root: &Path) -> Vec<String> {
    let mut names = names(&root.join("inbox").join(PARTIALS));
    names.retain(|name| name.ends_with(".part"));
    names
}

/// What is in a folder; nothing where there is none.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Chunks that a partial's log says are durable, and that are not what anybody sent.
fn false_bits(partials: &Path, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in names(partials) {
        let Some(stem) = name.strip_suffix(".log") else { continue };
        let part = partials.join(format!("{stem}.part"));
        let (Ok(log), Ok(data), Ok(found)) =
            (fs::read(partials.join(&name)), fs::read(&part), fs::metadata(&part))
        else {
            continue;
        };
        let Some(log) = Log::read(&log) else { continue };
        // Beside another data file a log says nothing.
        if log.data != (found.dev(), found.ino()) {
            continue;
        }
        for chunk in log.durable.iter() {
            let range = log.geometry.bytes_of(chunk);
            let range = range.start as usize..range.end as usize;
            let stored = data.get(range.clone());
            let fits = |known: &Known| {
                known.bytes.len() as u64 == log.geometry.size() && known.bytes.get(range.clone()) == stored
            };
            if stored.is_none() || !expected.welcome.iter().any(fits) {
                wrong.push(format!("{stem}: chunk {chunk} is said to be durable and is not"));
            }
        }
    }
    wrong
}

/// A partial's log, read as `docs/durability.md` and the daemon's own documentation describe it.
struct Log {
    geometry: Geometry,
    data: (u64, u64),
    durable: ChunkSet,
}

impl Log {
    fn read(bytes: &[u8]) -> Option<Self> {
        const HEADER: usize = 72;
        let header = bytes.get(..HEADER)?;
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
        let mut crc = crc32fast::hash(&header[..HEADER - 4]);
        if header[HEADER - 4..] != crc.to_le_bytes() {
            return None;
        }
        let geometry = Geometry::new(number(44), header[10]).ok()?;
        let mut log = Self { geometry, data: (number(52), number(60)), durable: ChunkSet::new() };
        let mut rest = &bytes[HEADER..];
        while rest.len() >= 9 {
            let len = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
            let Some(record) = rest.get(..len.saturating_add(9)) else { break };
            let (said, stored) = record.split_at(len + 5);
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&crc.to_le_bytes());
            hasher.update(said);
            crc = hasher.finalize();
            if stored != crc.to_le_bytes() {
                break;
            }
            let set = |bytes: &[u8]| ChunkSet::from_bytes(bytes, geometry.chunks());
            match (said[4], &said[5..]) {
                (1, payload) => log.durable.union(&set(payload)?),
                (3, payload) => log.durable.subtract(&set(payload)?),
                // An orderly end says nothing new.
                _ => {}
            }
            rest = &rest[record.len()..];
        }
        Some(log)
    }
}
