//! The rules: each from a file to complaints.

use super::source::{Source, words};

/// Longest file, in lines.
const MAX_LINES: usize = 600;

fn complain(source: &Source, forbidden: &[&str]) -> Vec<String> {
    let named = forbidden.iter().filter(|module| source.names(module));
    named.map(|module| format!("names {module}")).collect()
}

/// No I/O, no clock, no randomness in `protocol`.
pub fn protocol_is_pure(source: &Source) -> Vec<String> {
    if !source.path.starts_with("protocol/src/") {
        return Vec::new();
    }
    let mut complaints = complain(
        source,
        &[
            "tokio",
            "quinn",
            "rustls",
            "rand",
            "std::fs",
            "std::net",
            "std::io",
            "std::env",
            "std::process",
            "std::thread",
            "std::os",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
    );
    // By whatever way they came in.
    let clocks = ["Instant", "SystemTime"].into_iter().filter(|clock| source.has_word(clock));
    complaints.extend(clocks.map(|clock| format!("knows {clock}")));
    complaints
}

/// Dependencies that would let I/O into `protocol`, in its manifest.
pub fn impure_dependencies(manifest: &str) -> Vec<String> {
    const PURE: [&str; 8] = [
        "bincode",
        "blake3",
        "data-encoding",
        "roaring",
        "serde",
        "serde_bytes",
        "thiserror",
        "unicode-normalization",
    ];
    let section = manifest
        .split("\n[")
        .map(|section| section.trim_start_matches('['))
        .find_map(|section| section.strip_prefix("dependencies]"));
    section
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#') && !PURE.contains(name))
        .map(|name| format!("protocol depends on {name}"))
        .collect()
}

/// Only `transport` names quinn and rustls; tests and benchmarks may.
pub fn quic_only_in_transport(source: &Source) -> Vec<String> {
    let exempt = ["daemon/src/transport/", "daemon/examples/", "tests/"];
    if exempt.iter().any(|folder| source.path.starts_with(folder)) {
        return Vec::new();
    }
    complain(source, &["quinn", "rustls"])
}

/// Only the codec names bincode.
pub fn bincode_only_in_the_codec(source: &Source) -> Vec<String> {
    if source.path == "protocol/src/wire/codec.rs" {
        return Vec::new();
    }
    complain(source, &["bincode"])
}

/// Only `store` names rusqlite, and the simulated disk that it is run on.
pub fn sqlite_only_in_the_store(source: &Source) -> Vec<String> {
    if ["daemon/src/store/", "tests/sim/"].iter().any(|folder| source.path.starts_with(folder)) {
        return Vec::new();
    }
    complain(source, &["rusqlite"])
}

/// Nothing in the daemon points back: `store` and `transport` see neither each other nor what is above them, and
/// `session` does not see `control`.
pub fn layers_of_the_daemon(source: &Source) -> Vec<String> {
    let forbidden: &[&str] =
        match source.path.strip_prefix("daemon/src/").and_then(|path| path.split('/').next()) {
            Some("store") => &["transport", "session", "control"],
            Some("transport") => &["store", "session", "control"],
            Some("session") => &["control"],
            _ => return Vec::new(),
        };
    let sees = |module: &&&str| {
        source.paths.iter().any(|path| {
            let mut parts = path.split("::").skip_while(|part| *part == "super").peekable();
            // `super` leads out of the layer only if there are at least two.
            let supers = path.split("::").take_while(|part| *part == "super").count();
            match parts.peek() {
                Some(&"crate") => parts.nth(1) == Some(**module),
                Some(part) => supers >= 2 && *part == **module,
                None => false,
            }
        })
    };
    forbidden.iter().filter(sees).map(|module| format!("names crate::{module}")).collect()
}

/// Only `disk.rs` changes files and folders, so that whatever is injected there sees all of it. The local socket's name is
/// no file, and is made anew with every start.
pub fn only_the_disk_changes_files(source: &Source) -> Vec<String> {
    let exempt = ["daemon/src/disk.rs", "daemon/src/control/socket.rs"];
    // What the fuzz targets check is in no program either.
    let is_test = source.path.contains("/tests") || source.path.ends_with("/fuzzing.rs");
    if !source.path.starts_with("daemon/src/") || exempt.contains(&source.path.as_str()) || is_test {
        return Vec::new();
    }
    // Tests may do as they like; they stand at the end of a file.
    let code = match source.code.rsplit_once("#[cfg(test)]") {
        Some((code, tests)) if tests.contains("mod tests {") => code,
        _ => &source.code,
    };
    const CHANGES: [&str; 27] = [
        "OpenOptions",
        "DirBuilder",
        "create_dir",
        "create_dir_all",
        "create_new",
        "remove_file",
        "remove_dir",
        "remove_dir_all",
        "hard_link",
        "symlink",
        "set_permissions",
        "set_modified",
        "mkdirat",
        "unlinkat",
        "renameat",
        "renameat_with",
        "linkat",
        "symlinkat",
        "fchmod",
        "chmodat",
        "futimens",
        "utimensat",
        "fallocate",
        "ftruncate",
        "copy_file_range",
        "write_all_at",
        "pwrite",
    ];
    let mut complaints: Vec<String> = words(code)
        .filter(|(_, word)| CHANGES.contains(word))
        .map(|(_, word)| format!("changes files by itself: {word}"))
        .collect();
    for call in ["fs::write(", "fs::rename(", "fs::copy(", "File::create("] {
        if code.contains(call) {
            complaints.push(format!("changes files by itself: {call}"));
        }
    }
    complaints
}

/// The command line knows the daemon by its socket alone.
pub fn cli_does_not_see_the_daemon(source: &Source) -> Vec<String> {
    if !source.path.starts_with("cli/") {
        return Vec::new();
    }
    complain(source, &["p2p_daemon", "quinn", "rustls", "rusqlite"])
}

/// A file does one job.
pub fn files_are_short(source: &Source) -> Vec<String> {
    let too_long = source.lines > MAX_LINES;
    too_long.then(|| format!("{} lines, more than {MAX_LINES}", source.lines)).into_iter().collect()
}

/// No unfinished work, no switched-off tests, no code in comments.
pub fn no_leftovers(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let squeezed: String = source.code.split_whitespace().collect();
    for name in ["todo", "unimplemented", "dbg"] {
        let called = words(&source.code)
            .any(|(at, word)| word == name && source.code[at + word.len()..].trim_start().starts_with('!'));
        if called {
            complaints.push(format!("{name}!"));
        }
    }
    if squeezed.contains("#[ignore") {
        complaints.push("an ignored test".to_owned());
    }
    for comment in &source.comments {
        let marks = ["FIXME", "XXX", "TODO", "HACK"];
        if words(comment).any(|(_, word)| marks.contains(&word)) || is_code(comment) {
            complaints.push(format!("a leftover: {}", comment.trim()));
        }
    }
    complaints
}

/// Whether a comment is a line of code. Documentation may hold examples.
fn is_code(comment: &str) -> bool {
    let Some(text) = comment.strip_prefix("//").filter(|rest| !rest.starts_with(['/', '!'])) else {
        return false;
    };
    let text = text.trim();
    let begins = ["let ", "use ", "fn ", "pub ", "impl ", "#["].iter().any(|word| text.starts_with(word));
    let ends = text.ends_with([';', '{', '}']);
    (begins && ends) || text.ends_with(");") || text.ends_with(" {") || text == "}"
}

/// Every limit is used by more than the checks of their relations. A number that follows from other limits may
/// stand in those checks alone: it is there for them.
pub fn limits_are_used(sources: &[Source]) -> Vec<String> {
    let Some(limits) = sources.iter().find(|source| source.path == "protocol/src/limits.rs") else {
        return vec!["there is no protocol/src/limits.rs".to_owned()];
    };
    let (definitions, relations) = limits.code.split_once("const _").unwrap_or((&limits.code, ""));
    let named: Vec<(&str, &str)> =
        definitions.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once(':')).collect();
    let used_elsewhere = |name: &str| {
        sources
            .iter()
            .filter(|source| source.path != limits.path && !source.path.starts_with("tests/"))
            .any(|source| source.has_word(name))
    };
    // Once where it is defined, and again where another limit is made of it.
    let used_here = |name: &str| words(definitions).filter(|(_, word)| *word == name).count() > 1;
    let follows = |name: &str, value: &str| {
        let from_others = words(value).any(|(_, word)| named.iter().any(|(other, _)| *other == word));
        from_others && words(relations).any(|(_, word)| word == name)
    };
    named
        .iter()
        .filter(|(name, value)| !used_elsewhere(name) && !used_here(name) && !follows(name, value))
        .map(|(name, _)| format!("the limit {name} limits nothing"))
        .collect()
}

/// Every way to misbehave is provoked by a test with a hostile peer: its name stands in that suite.
pub fn every_misbehaviour_is_provoked(sources: &[Source]) -> Vec<String> {
    let declared = sources
        .iter()
        .find(|source| source.path == "protocol/src/reason.rs")
        .and_then(|source| source.code.split_once("pub enum PeerMisbehaved {"))
        .map_or("", |(_, rest)| rest.split("\n}").next().unwrap_or_default());
    let variants: Vec<&str> = declared
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .filter_map(|line| line.split(|c: char| !c.is_alphanumeric()).next())
        .collect();
    if variants.is_empty() {
        return vec!["no way to misbehave was found".to_owned()];
    }
    let suite = || sources.iter().filter(|source| source.path.starts_with("tests/tests/hostile/"));
    let is_provoked =
        |variant: &str| suite().any(|source| source.names(&format!("PeerMisbehaved::{variant}")));
    let missing = variants.into_iter().filter(|variant| !is_provoked(variant));
    missing.map(|variant| format!("no hostile peer misbehaves as PeerMisbehaved::{variant}")).collect()
}
