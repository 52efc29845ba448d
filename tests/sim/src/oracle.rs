//! What must be so, whatever happened: what is looked for on a host's disk after each crash and at the end.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use p2p_protocol::{ChunkSet, FileId, Geometry, Manifest, Plan, plan::Span};

use crate::content::{Known, id_at};

/// The daemon's folder of what is not complete yet, in the inbox.
const PARTIALS: &str = ".p2p";

/// What a host may have, and what it must.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// What may turn up in the inbox.
    pub welcome: Vec<Known>,
    /// What of that appears file by file.
    pub filling: Vec<Known>,
    /// What may be among the partials, though a part of it alone is to turn up.
    pub parts_of: Vec<Known>,
    /// What may be at a path, and one of which has to be at any moment.
    pub kept: BTreeMap<PathBuf, Vec<FileId>>,
    /// What was said to be there for good.
    pub promised: BTreeMap<PathBuf, FileId>,
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
        } else {
            match id_at(&path) {
                Ok(id) if expected.welcome.iter().any(|known| known.id == id) => {}
                // One that appears while it is filled has whole files in it, at any moment.
                Ok(_)
                    if expected.filling.iter().any(|known| known.is_being_filled(&path).unwrap_or(false)) => {
                }
                Ok(_) => wrong.push(format!("{name} in the inbox is what nobody sent")),
                Err(error) => wrong.push(format!("{name} in the inbox: {error}")),
            }
        }
    }
    for (path, ids) in &expected.kept {
        match id_at(path) {
            Ok(found) if ids.contains(&found) => {}
            Ok(_) => wrong.push(format!("{}: neither the old version nor the new one", path.display())),
            Err(error) => wrong.push(format!("{}: the old version was to be kept: {error}", path.display())),
        }
    }
    for (path, id) in &expected.promised {
        match id_at(path) {
            Ok(found) if found == *id => {}
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

/// The data, among the partials, of what is fetched.
pub fn partial_of(id: FileId) -> String {
    format!("{id}.part")
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
        let (Ok(log), Ok(found)) = (fs::read(partials.join(&name)), fs::metadata(&part)) else { continue };
        let Some(log) = Log::read(&log) else { continue };
        // Beside another data file a log says nothing.
        if log.data != (found.dev(), found.ino()) {
            continue;
        }
        if found.is_dir() {
            let tree = fs::read(partials.join(format!("{stem}.tree"))).unwrap_or_default();
            wrong.extend(false_bits_of_folder(stem, &part, &log, &tree, expected));
            continue;
        }
        let Ok(data) = fs::read(&part) else { continue };
        for chunk in log.durable.iter() {
            let range = log.geometry.bytes_of(chunk);
            let range = range.start as usize..range.end as usize;
            let stored = data.get(range.clone());
            let fits = |known: &Known| {
                known.manifest.is_none()
                    && known.bytes.len() as u64 == log.geometry.size()
                    && known.bytes.get(range.clone()) == stored
            };
            if stored.is_none() || !expected.welcome.iter().chain(&expected.parts_of).any(fits) {
                wrong.push(format!("{stem}: chunk {chunk} is said to be durable and is not"));
            }
        }
    }
    wrong
}

/// The same of a folder. Without the plan, which lies beside it, the log says nothing.
fn false_bits_of_folder(stem: &str, part: &Path, log: &Log, tree: &[u8], expected: &Expected) -> Vec<String> {
    let Some(plan) = plan_of(tree) else { return Vec::new() };
    if plan.nominal() != log.geometry {
        return Vec::new();
    }
    let known = expected.welcome.iter().find(|known| known.id == plan.id());
    let holds = |entry: u32, range: Option<Range<u64>>| {
        let path = &plan.manifest().entries()[entry as usize].path;
        let (stored, right) = (fs::read(part.join(path)).ok()?, known?.bytes_of(path)?);
        match range {
            None => (stored == right).then_some(()),
            Some(range) => {
                let range = range.start as usize..range.end as usize;
                (stored.get(range.clone())? == right.get(range)?).then_some(())
            }
        }
    };
    let is_right = |chunk: &u32| match plan.span(*chunk) {
        Some(Span::Files(entries)) => entries.iter().all(|entry| holds(*entry, None).is_some()),
        Some(Span::Piece { entry, geometry, piece }) => {
            holds(entry, Some(geometry.bytes_of(piece))).is_some()
        }
        None => false,
    };
    let wrong = log.durable.iter().filter(|chunk| !is_right(chunk));
    wrong.map(|chunk| format!("{stem}: chunk {chunk} of a folder is said to be durable and is not")).collect()
}

/// What a folder's partial is of, read as the daemon's documentation describes it.
fn plan_of(bytes: &[u8]) -> Option<Plan> {
    let (head, _) = bytes.split_first_chunk::<16>()?;
    let set_len = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) as usize;
    let (checked, rest) = bytes.split_at_checked(16 + set_len)?;
    let (crc, manifest) = rest.split_first_chunk::<4>()?;
    if head[..8] != *b"p2p tree" || crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
        return None;
    }
    let manifest = Manifest::decode(manifest).ok()?;
    let files = ChunkSet::from_bytes(&checked[16..], manifest.files().len() as u32)?;
    Plan::new(manifest.into(), &files, head[10]).ok()
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
