//! What of a folder is left out because its owner said so: patterns as in a `.gitignore` (gitignore(5) of Git).

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Most bytes of all patterns together.
const MAX_LEN: usize = 256 * 1024;

/// Patterns that make no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExcludeError {
    /// One of them cannot be read.
    #[error("{pattern:?} is no pattern to exclude by: {why}")]
    Pattern { pattern: String, why: String },
    /// They are too many.
    #[error("patterns to exclude by may have {MAX_LEN} bytes in all")]
    TooLong,
    /// Each makes sense, and all together do not.
    #[error("the patterns to exclude by cannot be used together: {0}")]
    Together(String),
}

/// What is left out.
#[derive(Clone, Debug)]
pub(crate) struct Excludes(Gitignore);

impl Excludes {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self(Gitignore::empty())
    }

    /// What these lines say; a later one goes before an earlier one.
    pub(crate) fn new(patterns: &[String]) -> Result<Self, ExcludeError> {
        if patterns.is_empty() {
            return Ok(Self::none());
        }
        if patterns.iter().map(String::len).sum::<usize>() > MAX_LEN {
            return Err(ExcludeError::TooLong);
        }
        let mut builder = GitignoreBuilder::new("");
        for pattern in patterns {
            if is_open(pattern) {
                let why = "a [ has no ]; write \\[ for the character itself".to_owned();
                return Err(ExcludeError::Pattern { pattern: pattern.clone(), why });
            }
            builder.add_line(None, pattern).map_err(|error| ExcludeError::Pattern {
                pattern: pattern.clone(),
                why: error.to_string(),
            })?;
        }
        builder.build().map(Self).map_err(|error| ExcludeError::Together(error.to_string()))
    }

    /// Whether nothing is.
    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something is left out, given from the folder on. What is in a folder that is left out need not be asked for.
    pub(super) fn covers(&self, path: &str, is_folder: bool) -> bool {
        self.0.matched(path, is_folder).is_ignore()
    }
}

/// Whether a set of characters is begun in a pattern and not ended, which Git takes for a pattern that fits nothing.
fn is_open(pattern: &str) -> bool {
    let mut rest = pattern.chars().peekable();
    if rest.peek() == Some(&'#') {
        return false;
    }
    while let Some(c) = rest.next() {
        match c {
            '\\' => drop(rest.next()),
            '[' => {
                rest.next_if(|c| matches!(c, '!' | '^'));
                // Right at the beginning it stands for itself.
                rest.next_if_eq(&']');
                loop {
                    match rest.next() {
                        None => return true,
                        Some(']') => break,
                        Some('\\') => drop(rest.next()),
                        Some(_) => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_without_an_end_is_no_pattern() {
        let is_refused = |pattern: &str| Excludes::new(&[pattern.to_owned()]).is_err();
        for open in ["[", "a[b", "[]", "[!]", "[a\\]", "*.[ch"] {
            assert!(is_refused(open), "{open}");
        }
        for whole in ["[a]", "[]]", "[!]a]", "\\[", "# [", "a]", "*.[ch]", "[a-z]*"] {
            assert!(!is_refused(whole), "{whole}");
        }
    }

    fn excludes(patterns: &[&str]) -> Excludes {
        Excludes::new(&patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        let all = excludes(&["# a comment", "", "*.o", "!keep.o", "/build", "target/", "docs/**/*.tmp"]);
        for (path, is_folder) in [
            ("a.o", false),
            ("deep/down/a.o", false),
            ("build", true),
            ("build", false),
            ("a/target", true),
            ("docs/a/b.tmp", false),
        ] {
            assert!(all.covers(path, is_folder), "{path}");
        }
        for (path, is_folder) in
            [("keep.o", false), ("a/build", true), ("a/target", false), ("b.tmp", false), ("a.oo", false)]
        {
            assert!(!all.covers(path, is_folder), "{path}");
        }
        assert!(!Excludes::none().covers("a.o", false));
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        let wrong = |pattern: &str| Excludes::new(&[pattern.to_owned()]).unwrap_err();
        assert!(wrong("[z-a]").to_string().contains("\"[z-a]\""));
        assert!(matches!(wrong(&"a".repeat(MAX_LEN + 1)), ExcludeError::TooLong));
    }
}
