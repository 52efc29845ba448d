//! Patterns of what in a folder is left out, as they are typed and as they stand in files.

use std::{fs, path::PathBuf};

use crate::{args::Excludes, error::CliError};

/// All patterns: those of the files, in their order, and then those that were typed, which so go before them.
pub(super) fn patterns(typed: &Excludes) -> Result<Vec<String>, CliError> {
    let mut patterns = Vec::new();
    for file in &typed.exclude_from {
        let text = fs::read_to_string(file)
            .map_err(|error| CliError::io("cannot read the patterns in", file, &error))?;
        patterns.extend(text.lines().map(str::to_owned));
    }
    patterns.extend(typed.exclude.iter().cloned());
    Ok(patterns)
}

/// Refuses patterns where nothing has anything in it that could be left out.
pub(super) fn need_folder(patterns: &[String], paths: &[PathBuf]) -> Result<(), CliError> {
    if patterns.is_empty() || paths.iter().any(|path| path.is_dir()) {
        return Ok(());
    }
    Err(CliError::usage("patterns to exclude by are for folders, and there is none here"))
}

#[cfg(test)]
mod tests {
    use p2p_protocol::reason::Failure;

    use super::*;
    use crate::error::Kind;

    #[test]
    fn patterns_need_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let of = |patterns: &[&str], paths: &[&std::path::Path]| {
            let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
            need_folder(&patterns, &paths).map_err(|error| error.exit_code())
        };
        assert_eq!(of(&["*.o"], &[&file]), Err(2));
        assert_eq!(of(&["*.o"], &[&file, folder.path()]), Ok(()));
        assert_eq!(of(&[], &[&file]), Ok(()));
    }

    #[test]
    fn what_is_typed_goes_before_what_stands_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("patterns");
        fs::write(&file, "*.o\n# comment\n").unwrap();
        let typed = Excludes { exclude: vec!["!a.o".into()], exclude_from: vec![file] };
        assert_eq!(patterns(&typed).unwrap(), ["*.o", "# comment", "!a.o"]);
        let absent = Excludes { exclude: Vec::new(), exclude_from: vec![folder.path().join("none")] };
        assert_eq!(patterns(&absent).unwrap_err().kind, Kind::Failure(Failure::NotFound));
    }
}
