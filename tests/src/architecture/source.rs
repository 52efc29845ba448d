//! A Rust file as the rules see it: code without comments and text, comments by themselves, and every path that
//! the code names.

use std::collections::BTreeSet;

/// A file.
#[derive(Debug)]
pub struct Source {
    /// From the workspace's root, with slashes.
    pub path: String,
    /// Number of lines.
    pub lines: usize,
    /// The code; comments and the content of literals are blanks.
    pub code: String,
    /// Comments, with their marks, a line each.
    pub comments: Vec<String>,
    /// Paths in the code, those of `use` with their braces resolved.
    pub paths: BTreeSet<String>,
}

impl Source {
    /// Takes a file apart.
    pub fn new(path: &str, text: &str) -> Self {
        let (code, comments) = split(text);
        let paths = paths(&code);
        Self { path: path.to_owned(), lines: text.lines().count(), code, comments, paths }
    }

    /// Whether the code names something in this module or crate, given as a whole path.
    pub fn names(&self, module: &str) -> bool {
        self.paths.iter().any(|path| path == module || path.starts_with(&format!("{module}::")))
    }

    /// Whether a word stands in the code.
    pub fn has_word(&self, word: &str) -> bool {
        words(&self.code).any(|(_, found)| found == word)
    }
}

/// Code and comments apart.
fn split(text: &str) -> (String, Vec<String>) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), Vec::new());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let len = if rest.starts_with(&['/', '/']) {
            let len = rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
            comments.push(rest[..len].iter().collect());
            len
        } else if rest.starts_with(&['/', '*']) {
            let len = block_comment(rest);
            comments.extend(rest[..len].iter().collect::<String>().lines().map(str::to_owned));
            len
        } else if let Some(len) = literal(rest, at.checked_sub(1).map(|before| chars[before])) {
            code.push('"');
            len
        } else {
            code.push(chars[at]);
            at += 1;
            continue;
        };
        // Line feeds stay, so that lines are lines.
        code.extend(rest[..len].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at += len;
    }
    (code, comments)
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the text, byte or character literal that begins here, if one does.
fn literal(rest: &[char], before: Option<char>) -> Option<usize> {
    let inside_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    match rest {
        ['"', ..] => Some(quoted(rest, 1)),
        ['r' | 'b' | 'c', ..] if !inside_word => {
            let prefix = rest.iter().take_while(|c| matches!(c, 'r' | 'b' | 'c')).count().min(2);
            let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
            if rest.get(prefix + hashes) != Some(&'"') {
                return None;
            }
            if !rest[..prefix].contains(&'r') {
                return (hashes == 0).then(|| quoted(rest, prefix + 1));
            }
            let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let end: Vec<char> = end.chars().collect();
            let body = prefix + hashes + 1;
            let len = (body..rest.len()).find(|at| rest[*at..].starts_with(&end)).map(|at| at + end.len());
            Some(len.unwrap_or(rest.len()))
        }
        // A character; a lifetime has no second quote where a character's end would be.
        ['\'', '\\', ..] => {
            Some(2 + rest[2..].iter().skip(1).position(|c| *c == '\'').map_or(0, |at| at + 2))
        }
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

/// The length of a literal with escapes, whose content begins at `from`.
fn quoted(rest: &[char], from: usize) -> usize {
    let mut at = from;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Words of the code and where they begin.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + code[at..].find(is_word)?;
        let end = code[start..].find(|c| !is_word(c)).map_or(code.len(), |len| start + len);
        at = end;
        Some((start, &code[start..end]))
    })
}

/// All paths: those in `use`, and those elsewhere that have at least two parts.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, word) in words(code) {
        if word == "use" {
            let statement = code[at + word.len()..].split(';').next().unwrap_or_default();
            expand("", statement, &mut found);
        }
    }
    let squeezed: String =
        code.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ::", "::").replace(":: ", "::");
    for piece in squeezed.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        let path = piece.trim_matches(':');
        if path.contains("::") {
            found.insert(path.to_owned());
        }
    }
    found
}

/// Resolves the braces of a `use`.
fn expand(prefix: &str, tree: &str, found: &mut BTreeSet<String>) {
    let tree = tree.trim().trim_start_matches("::");
    if tree.is_empty() {
        return;
    }
    if let Some((head, inner)) = tree.split_once('{') {
        let inner = inner.rfind('}').map_or(inner, |end| &inner[..end]);
        let prefix = format!("{prefix}{}", head.split_whitespace().collect::<String>());
        for part in top_level_parts(inner) {
            expand(&prefix, part, found);
        }
    } else {
        let name = tree.split(" as ").next().unwrap_or_default();
        let name: String = name.split_whitespace().collect();
        let path =
            if name == "self" { prefix.trim_end_matches(':').to_owned() } else { format!("{prefix}{name}") };
        found.insert(path);
    }
}

/// The parts of a list that no inner brace holds together.
fn top_level_parts(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_comments_and_literals_are_told_apart() {
        let source = Source::new(
            "a.rs",
            "let a = \"// \\\" x::y\"; // b::c\nlet d = r#\"e::f \" \"#; let g = '\"'; h::i('\\'');",
        );
        assert_eq!(source.comments, ["// b::c"]);
        assert_eq!(source.paths.iter().collect::<Vec<_>>(), ["h::i"]);
        assert_eq!(source.code.lines().count(), 2);
        assert!(Source::new("a.rs", "fn f<'a>(x: &'a str) -> j::K<'a> {}").names("j"));
        assert!(!Source::new("a.rs", "/* a::b /* c::d */ e::f */").names("a"));
    }

    #[test]
    fn trees_of_use_are_resolved() {
        let source = Source::new(
            "a.rs",
            "use std::{\n    fmt, io::{self, Read as R},\n    time::Duration,\n};\nuse quinn;",
        );
        for module in ["std::fmt", "std::io", "std::io::Read", "std::time::Duration", "quinn"] {
            assert!(source.names(module), "{module} in {:?}", source.paths);
        }
        assert!(!source.names("std::tim"));
        assert!(!source.names("fmt"));
    }
}
