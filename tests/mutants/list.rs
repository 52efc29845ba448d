//! The mistakes, as `list.toml` has them.

use std::{collections::HashSet, path::PathBuf};

use serde::Deserialize;

use super::{Result, suite::Suite};

const LIST: &str = include_str!("list.toml");

/// A deliberate mistake.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mistake {
    /// What is wrong, in a few words.
    pub(crate) name: String,
    /// Where, from the root of the repository.
    pub(crate) file: PathBuf,
    /// A piece of the file that is in it once.
    from: String,
    /// What is put in its place.
    to: String,
    /// Another change of the same file that belongs to it.
    also: Option<Change>,
    /// The tests of which one has to notice.
    #[serde(rename = "test")]
    pub(crate) suite: Suite,
}

/// A piece of a file, and what is put in its place.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    from: String,
    to: String,
}

impl Mistake {
    /// The pieces, each with what is put in its place.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&str, &str)> {
        let also = self.also.iter().map(|change| (change.from.as_str(), change.to.as_str()));
        std::iter::once((self.from.as_str(), self.to.as_str())).chain(also)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mistake: Vec<Mistake>,
}

/// All mistakes, in the order of the list.
pub(crate) fn read() -> Result<Vec<Mistake>> {
    let List { mistake: mistakes } = toml::from_str(LIST)?;
    let mut names = HashSet::new();
    for mistake in &mistakes {
        if !names.insert(mistake.name.clone()) {
            return Err(format!("two mistakes are called {}", mistake.name).into());
        }
    }
    Ok(mistakes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Code that is changed changes what can go wrong in it, and the list has to follow.
    #[test]
    fn every_mistake_fits_the_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository");
        for mistake in read().expect("the list is readable") {
            let text = std::fs::read_to_string(root.join(&mistake.file)).unwrap_or_default();
            for (from, _) in mistake.changes() {
                let times = text.matches(from).count();
                assert_eq!(
                    times,
                    1,
                    "{:?}: this is {times} times in {}:\n{from}",
                    mistake.name,
                    mistake.file.display()
                );
            }
        }
    }
}
