//! Some daemons that trust each other, and how what has arrived is judged.

use std::{collections::BTreeMap, fs, path::Path};

use p2p_tests::{data, trust_each_other};

use crate::{node::Node, pool::id_of, random::Random};

/// Daemons; the last one has the small disk.
const NODES: usize = 4;

/// All of it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    /// What was done, and how often.
    pub(crate) done: BTreeMap<&'static str, u64>,
    /// Files and folders that were looked at and removed, and their bytes.
    pub(crate) verified: (u64, u64),
}

impl World {
    pub(crate) fn new(random: &mut Random) -> Self {
        let nodes: Vec<_> = (0..NODES).map(|n| Node::new(n, n + 1 == NODES, random)).collect();
        trust_each_other(&nodes.iter().map(|node| &node.daemon).collect::<Vec<_>>());
        Self { nodes, done: BTreeMap::new(), verified: (0, 0) }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    /// What was done so far, in words.
    pub(crate) fn counted(&self) -> String {
        let done = self.done.iter().map(|(what, times)| format!("{what} {times}"));
        let (files, bytes) = self.verified;
        let arrived = format!("{files} files and folders of {} MiB verified", bytes >> 20);
        done.chain([arrived]).collect::<Vec<_>>().join(", ")
    }

    /// Looks at everything that has arrived at a daemon, and removes it, so that the disk lasts and the same content moves
    /// again.
    ///
    /// # Panics
    /// A file is not what its name stands for.
    pub(crate) fn verify(&mut self, node: usize) {
        for path in self.nodes[node].arrived() {
            let Ok(found) = fs::metadata(&path) else { continue };
            let len = match found.is_dir() {
                true => data::files_below(&path)
                    .iter()
                    .filter_map(|file| fs::metadata(file).ok())
                    .map(|file| file.len())
                    .sum(),
                false => found.len(),
            };
            let (name, id) = (original(&path), id_of(&path));
            let is_right = self.nodes.iter().any(|node| node.pool.has(&name, &id));
            assert!(is_right, "{} has the content {id}, which no {name} ever had", path.display());
            let removed = if found.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("what has arrived can be removed");
            self.verified.0 += 1;
            self.verified.1 += len;
        }
    }
}

/// The name that a file was sent under: without the number that it got where that was taken.
fn original(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match (name.find(" ("), name.find(')')) {
        (Some(open), Some(close)) if open < close => format!("{}{}", &name[..open], &name[close + 1..]),
        _ => name.into_owned(),
    }
}
