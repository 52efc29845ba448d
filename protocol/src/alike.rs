//! Names that are different here and one name elsewhere: the file systems of macOS and Windows fold case, that of macOS also Unicode's normal
//! forms.

use std::collections::{HashMap, hash_map::Entry};

use unicode_normalization::UnicodeNormalization;

use crate::Manifest;

impl Manifest {
    /// The paths of files, folders and links beside each other whose names such a file system takes for one, each with the first of them. It
    /// cannot take this folder.
    pub fn alike(&self) -> Vec<[&str; 2]> {
        let (mut first, mut pairs) = (HashMap::new(), Vec::new());
        for entry in self.entries() {
            let (folder, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
            match first.entry((folder, folded(name))) {
                Entry::Vacant(free) => {
                    free.insert(entry.path.as_str());
                }
                Entry::Occupied(taken) => pairs.push([*taken.get(), &entry.path]),
            }
        }
        pairs
    }
}

/// What all spellings of a name have in common: decomposed, in lower case, composed. No file system folds more than that, though some fold less.
fn folded(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.nfd().flat_map(char::to_lowercase).nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        FileId,
        manifest::{Entry, Node, order},
    };

    fn of(paths: &[(&str, bool)]) -> Manifest {
        let file = |folder: bool| match folder {
            true => Node::Folder,
            false => {
                Node::File { size: 0, file_id: FileId(*blake3::hash(&[]).as_bytes()), executable: false }
            }
        };
        let entry = |(path, folder): &(&str, bool)| Entry {
            path: (*path).to_owned(),
            modified_ns: None,
            node: file(*folder),
        };
        let mut entries: Vec<Entry> = paths.iter().map(entry).collect();
        entries.sort_by(|one, other| order(&one.path, &other.path));
        Manifest::new(entries).unwrap()
    }

    #[test]
    fn names_that_differ_in_case_or_normal_form_are_found() {
        let composed = "\u{e9}t\u{e9}";
        let decomposed = "E\u{301}te\u{301}";
        let manifest = of(&[
            ("A", true),
            ("A/x", false),
            ("a", true),
            ("a/X", false),
            ("a/x", false),
            (decomposed, false),
            (composed, false),
        ]);
        assert_eq!(manifest.alike(), [["A", "a"], ["a/X", "a/x"], [decomposed, composed]]);
    }

    #[test]
    fn names_of_other_folders_and_other_names_are_not() {
        let manifest = of(&[
            ("a", true),
            ("a/x", false),
            ("b", true),
            ("b/X", false),
            ("stra\u{df}e", false),
            ("strasse", false),
        ]);
        assert!(manifest.alike().is_empty(), "{:?}", manifest.alike());
    }
}
