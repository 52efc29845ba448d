//! What of a folder is fetched because its owner said so: paths in it, or patterns as those of what is left out.

use std::collections::{HashMap, HashSet};

use ignore::Match;
use p2p_protocol::{
    Manifest, Part,
    manifest::{Entry, ManifestError, Node},
};

use super::excludes::{ExcludeError, matcher};

/// Why there is no such part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OnlyError {
    /// A pattern that cannot be read.
    #[error(transparent)]
    Pattern(#[from] ExcludeError),
    /// One to which nothing in the folder fits.
    #[error("nothing in the folder is {0:?}; `p2p ls PEER FILE_ID` shows what is in it")]
    Nothing(String),
    /// Only such as take out again.
    #[error(
        "! takes out of what other patterns take in, and here none does: say --only '*' first for all but {0}"
    )]
    NothingToTakeOutOf(String),
    /// It cannot be a folder.
    #[error(transparent)]
    Part(#[from] ManifestError),
}

/// Reads the patterns without a folder to use them on.
pub(crate) fn check_only(only: &[String]) -> Result<(), ExcludeError> {
    matcher(only).map(|_| ())
}

/// The part of a folder that paths and patterns name. What is the path of an entry means just that; anything else is a pattern, of
/// which the last that fits counts, and `!` takes out again. What is in a folder that fits comes along.
pub(crate) fn part_of(whole: &Manifest, only: &[String]) -> Result<Part, OnlyError> {
    let paths: HashSet<&str> = whole.entries().iter().map(|entry| entry.path.as_str()).collect();
    let lines: Vec<String> = only.iter().map(|typed| line_of(typed, &paths)).collect();
    let all = matcher(&lines)?;
    let mut fitting: HashSet<&str> = HashSet::new();
    let mut folders: HashMap<&str, bool> = HashMap::new();
    let mut chosen = Vec::with_capacity(whole.entries().len());
    for entry in whole.entries() {
        let is_folder = entry.node == Node::Folder;
        let choice = match all.matched(&entry.path, is_folder) {
            Match::Ignore(glob) => {
                fitting.insert(glob.original());
                true
            }
            Match::Whitelist(_) => false,
            Match::None => {
                let parent = entry.path.rsplit_once('/').map(|(parent, _)| parent);
                parent.and_then(|parent| folders.get(parent)).is_some_and(|choice| *choice)
            }
        };
        if is_folder {
            folders.insert(&entry.path, choice);
        }
        chosen.push(choice);
    }
    for (typed, line) in only.iter().zip(&lines) {
        // One that is not seen may be covered by a later one.
        if !line.starts_with('!') && !fitting.contains(line.as_str()) && !fits_any(line, whole.entries())? {
            return Err(OnlyError::Nothing(typed.clone()));
        }
    }
    if !chosen.contains(&true) && lines.iter().all(|line| line.starts_with('!')) {
        let taken_out: Vec<_> = only.iter().map(|typed| typed.trim_start_matches('!')).collect();
        return Err(OnlyError::NothingToTakeOutOf(taken_out.join(", ")));
    }
    if !chosen.contains(&true) {
        return Err(OnlyError::Nothing(only.join(", ")));
    }
    Ok(Part::new(whole, &chosen)?)
}

fn fits_any(line: &str, entries: &[Entry]) -> Result<bool, ExcludeError> {
    let one = matcher(&[line.to_owned()])?;
    Ok(entries.iter().any(|entry| one.matched(&entry.path, entry.node == Node::Folder).is_ignore()))
}

/// What is typed as a line of patterns: a path in the folder, whatever characters it has, fits itself alone.
fn line_of(typed: &str, paths: &HashSet<&str>) -> String {
    let path = typed.strip_prefix("./").unwrap_or(typed).trim_end_matches('/');
    if !paths.contains(path) {
        return typed.to_owned();
    }
    let mut line = String::from("/");
    for character in path.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '!' | '#' | ' ') {
            line.push('\\');
        }
        line.push(character);
    }
    line
}

#[cfg(test)]
mod tests {
    use p2p_protocol::FileId;

    use super::*;

    fn part(only: &[&str]) -> Result<Vec<String>, OnlyError> {
        let entry = |path: &str, node| Entry { path: path.into(), modified_ns: None, node };
        let file =
            |path: &str| entry(path, Node::File { size: 1, file_id: FileId([1; 32]), executable: false });
        let entries = vec![
            file("a 1.txt"),
            file("a [1].txt"),
            entry("docs", Node::Folder),
            file("docs/a.md"),
            entry("docs/deep", Node::Folder),
            file("docs/deep/b.md"),
            file("docs/deep/c.txt"),
            file("readme"),
            entry("src", Node::Folder),
            file("src/readme"),
        ];
        let whole = Manifest::new(entries).unwrap();
        let only: Vec<String> = only.iter().map(|line| (*line).to_owned()).collect();
        let part = part_of(&whole, &only)?;
        Ok(part.manifest().entries().iter().map(|entry| entry.path.clone()).collect())
    }

    #[test]
    fn a_path_means_itself_and_a_pattern_what_fits() {
        assert_eq!(part(&["readme"]).unwrap(), ["readme"]);
        assert_eq!(part(&["**/readme"]).unwrap(), ["readme", "src", "src/readme"]);
        assert_eq!(part(&["a [1].txt"]).unwrap(), ["a [1].txt"]);
        assert_eq!(part(&["b.md"]).unwrap(), ["docs", "docs/deep", "docs/deep/b.md"]);
        assert_eq!(
            part(&["docs/deep/"]).unwrap(),
            ["docs", "docs/deep", "docs/deep/b.md", "docs/deep/c.txt"]
        );
        assert_eq!(
            part(&["./docs", "!*.txt"]).unwrap(),
            ["docs", "docs/a.md", "docs/deep", "docs/deep/b.md"]
        );
        assert_eq!(part(&["docs/a.md", "docs/*.md"]).unwrap(), ["docs", "docs/a.md"]);
    }

    #[test]
    fn taking_out_alone_takes_nothing_in() {
        let error = part(&["!*.md", "!readme"]).unwrap_err();
        assert!(matches!(&error, OnlyError::NothingToTakeOutOf(what) if what == "*.md, readme"), "{error:?}");
    }

    #[test]
    fn what_fits_nothing_is_named() {
        let nothing = |only: &[&str]| match part(only) {
            Err(OnlyError::Nothing(named)) => named,
            other => panic!("{other:?}"),
        };
        assert_eq!(nothing(&["readme", "*.iso"]), "*.iso");
        assert_eq!(nothing(&["docs/a.md", "!docs/a.md"]), "docs/a.md, !docs/a.md");
        assert!(matches!(part(&["[z-a]"]), Err(OnlyError::Pattern(_))));
    }
}
