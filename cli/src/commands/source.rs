//! The file or folder that a command is given to read.

use std::{
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use p2p_protocol::reason::Failure;

use crate::error::CliError;

/// A regular file or a folder, as it was named.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Absolute path of the thing itself.
    pub(crate) path: PathBuf,
    /// The name it was given by, where that is not the file's own: a link's.
    pub(crate) link_name: Option<String>,
}

impl Source {
    /// Looks at what was typed. A link stands for the file it leads to, under the link's own name; the daemon
    /// itself follows none.
    pub(crate) fn look(path: &Path) -> Result<Self, CliError> {
        let cannot = |error: &std::io::Error| CliError::io("cannot read", path, error);
        let absolute = std::path::absolute(path).map_err(|error| cannot(&error))?;
        let is_link = absolute.symlink_metadata().map_err(|error| cannot(&error))?.is_symlink();
        let kind = absolute.metadata().map_err(|error| cannot(&error))?.file_type();
        if !kind.is_file() && !kind.is_dir() {
            return Err(CliError::usage(format!("{} is neither a file nor a folder", path.display())));
        }
        // `..` has no name of its own.
        if !is_link && absolute.file_name().is_some() {
            return Ok(Self { path: absolute, link_name: None });
        }
        let link_name =
            absolute.file_name().filter(|_| is_link).map(|name| name.to_string_lossy().into_owned());
        let path = absolute.canonicalize().map_err(|error| cannot(&error))?;
        if path.file_name().is_none() {
            return Err(CliError::usage(format!("{} has no name to be sent under", path.display()))
                .hint("name what is in it"));
        }
        Ok(Self { path, link_name })
    }

    /// The path as the daemon takes it.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.path.into_os_string().into_vec()
    }
}

/// Refuses standard input, where a file has to stay what it is.
pub(crate) fn not_stdin(path: &Path) -> Result<(), CliError> {
    if path == Path::new("-") {
        return Err(CliError::usage("standard input cannot be shared, as nothing of it stays")
            .hint("write it to a file first; a file called - is named ./-"));
    }
    Ok(())
}

/// Refuses a name that no receiver takes.
pub(crate) fn check_name(name: &str) -> Result<(), CliError> {
    p2p_protocol::SafeName::parse(name).map(drop).map_err(|error| {
        CliError::new(Failure::Usage, format!("no receiver takes the name `{name}`: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_has_its_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let code = |name: &str| Source::look(&folder.path().join(name)).unwrap_err().exit_code();
        assert_eq!(code("missing"), 6);
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
        assert_eq!(code("dangling"), 6);
        std::fs::write(folder.path().join("file"), "x").unwrap();
        assert_eq!(code("file/below"), 6);
        assert_eq!(Source::look(Path::new("/")).unwrap_err().exit_code(), 2);
        assert_eq!(Source::look(Path::new("/dev/null")).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_folder_has_its_own_name_however_it_is_typed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        for typed in ["a", "a/", "a/.", "a/b/..", "./a"] {
            let found = Source::look(&root.join(typed)).unwrap();
            assert_eq!(found.path.file_name().unwrap(), "a", "{typed}");
            assert_eq!(found.link_name, None);
        }
    }

    #[test]
    fn a_link_gives_its_name_to_the_file_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::write(root.join("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", root.join("link")).unwrap();
        let plain = Source::look(&root.join("file")).unwrap();
        assert_eq!(plain, Source { path: root.join("file"), link_name: None });
        let link = Source::look(&root.join("link")).unwrap();
        assert_eq!(link, Source { path: root.join("file"), link_name: Some("link".into()) });
    }

    #[test]
    fn a_dash_is_standard_input_and_bad_names_are_refused_here() {
        assert_eq!(not_stdin(Path::new("-")).unwrap_err().exit_code(), 2);
        assert!(not_stdin(Path::new("./-")).is_ok());
        assert_eq!(check_name("../x").unwrap_err().exit_code(), 2);
        assert!(check_name("x.iso").is_ok());
    }
}
