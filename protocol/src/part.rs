//! A part of a folder: some of its entries with the folders above them, as a folder of its own with a File ID of its own, so that
//! it is never taken for the whole.
//!
//! Its files keep their order, so that a chunk plan for the same files is the same, whichever of the two lists it is made
//! from: the provider goes by the whole list, who fetches the part by that of the part, and only the numbers of files differ.

use std::sync::Arc;

use crate::{
    ChunkSet, FileId, Manifest,
    manifest::{Entry, ManifestError, Node},
};

/// Some of a folder's entries.
#[derive(Clone, Debug)]
pub struct Part {
    manifest: Arc<Manifest>,
    whole: FileId,
    /// The number in the whole of each file.
    numbers: Vec<u32>,
}

impl Part {
    /// The entries that were chosen, one answer for each entry of the whole, with the folders that they lie in, and with the file of
    /// which a chosen one is a second name.
    pub fn new(whole: &Manifest, chosen: &[bool]) -> Result<Self, ManifestError> {
        let entries = whole.entries();
        let mut kept: Vec<bool> = (0..entries.len()).map(|at| chosen.get(at) == Some(&true)).collect();
        for (at, entry) in entries.iter().enumerate() {
            if let (true, Node::HardLink { of }) = (kept[at], &entry.node) {
                kept[*of as usize] = true;
            }
        }
        // From the end, where what is in a folder comes before it; `above` is the next folder that has to be kept.
        let mut above: Option<&str> = None;
        for (entry, keep) in entries.iter().zip(&mut kept).rev() {
            *keep |= above == Some(entry.path.as_str());
            if *keep {
                above = entry.path.rsplit_once('/').map(|(parent, _)| parent);
            }
        }
        let (mut part, mut numbers, mut files) = (Vec::new(), Vec::new(), 0);
        let mut places = vec![0; entries.len()];
        for ((entry, keep), place) in entries.iter().zip(&kept).zip(0..) {
            let is_file = matches!(entry.node, Node::File { .. });
            if *keep {
                let node = match &entry.node {
                    Node::HardLink { of } => Node::HardLink { of: places[*of as usize] },
                    node => node.clone(),
                };
                places[place as usize] = part.len() as u32;
                part.push(Entry { node, ..entry.clone() });
                numbers.extend(is_file.then_some(files));
            }
            files += u32::from(is_file);
        }
        Ok(Self { manifest: Arc::new(Manifest::new(part)?), whole: whole.id(), numbers })
    }

    /// What is in it.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// The File ID of the folder that it is a part of.
    pub fn whole(&self) -> FileId {
        self.whole
    }

    /// The numbers that these of its files have in the whole.
    pub fn in_whole(&self, files: &ChunkSet) -> ChunkSet {
        files.iter().filter_map(|number| self.numbers.get(number as usize).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Plan, plan::Span};

    fn whole() -> Manifest {
        let entry = |path: &str, node| Entry { path: path.into(), modified_ns: Some(5), node };
        let file = |path: &str, size| {
            let file_id = if size == 0 { crate::tree::empty_id() } else { FileId([size as u8; 32]) };
            entry(path, Node::File { size, file_id, executable: false })
        };
        let entries = vec![
            file("a", 1),
            entry("b", Node::Folder),
            file("b/c", 700_000),
            entry("b/d", Node::Folder),
            file("b/d/e", 3),
            entry("b/d/f", Node::Link { target: "e".into() }),
            file("b/g", 0),
            entry("h", Node::Folder),
            entry("h/i", Node::HardLink { of: 4 }),
            file("j", 4),
        ];
        Manifest::new(entries).unwrap()
    }

    fn part(chosen: &[&str]) -> Part {
        let whole = whole();
        let chosen: Vec<bool> = whole.entries().iter().map(|entry| chosen.contains(&&*entry.path)).collect();
        Part::new(&whole, &chosen).unwrap()
    }

    fn paths(part: &Part) -> Vec<&str> {
        part.manifest().entries().iter().map(|entry| &*entry.path).collect()
    }

    #[test]
    fn folders_above_come_along_and_nothing_else() {
        assert_eq!(paths(&part(&["b/d/e", "j"])), ["b", "b/d", "b/d/e", "j"]);
        assert_eq!(paths(&part(&["b"])), ["b"]);
        assert!(paths(&part(&[])).is_empty());
        let all: Vec<String> = whole().entries().iter().map(|entry| entry.path.clone()).collect();
        let everything = part(&all.iter().map(|path| &**path).collect::<Vec<_>>());
        assert_eq!((everything.manifest().id(), everything.whole()), (whole().id(), whole().id()));
    }

    #[test]
    fn a_second_name_brings_its_file() {
        let part = part(&["h/i"]);
        assert_eq!(paths(&part), ["b", "b/d", "b/d/e", "h", "h/i"]);
        assert_eq!(part.manifest().entries()[4].node, Node::HardLink { of: 2 });
    }

    #[test]
    fn both_lists_make_the_same_plan() {
        let (whole, part) = (Arc::new(whole()), part(&["b/c", "b/d/e", "b/g", "j"]));
        let here = Plan::new(part.manifest().clone(), &ChunkSet::full(4), 18).unwrap();
        let there = Plan::new(whole.clone(), &part.in_whole(&ChunkSet::full(4)), 18).unwrap();
        assert_eq!((here.chunks(), here.bytes()), (there.chunks(), there.bytes()));
        assert_ne!(here.id(), there.id());
        let path = |manifest: &Manifest, entry: u32| manifest.entries()[entry as usize].path.clone();
        for chunk in 0..here.chunks() {
            let told = |plan: &Plan| match plan.span(chunk).unwrap() {
                Span::Files(entries) => {
                    (entries.iter().map(|entry| path(plan.manifest(), *entry)).collect(), None)
                }
                Span::Piece { entry, piece, .. } => (vec![path(plan.manifest(), entry)], Some(piece)),
            };
            assert_eq!(told(&here), told(&there), "{chunk}");
        }
    }
}
