//! What is done for a service, one step after the other, and what may come between.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A file gets this text.
    Write(PathBuf, String),
    /// A file is removed, if it is there.
    Remove(PathBuf),
    /// A command is run, and has to succeed.
    Run(Vec<String>),
    /// A command is run, and may fail: what it is for may be so already.
    Try(Vec<String>),
}

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// There is nobody to ask.
    #[error("no service manager runs here for this user ({0})")]
    NoManager(String),
    /// The manager said no.
    #[error("`{command}` failed: {said}")]
    Failed { command: String, said: String },
    /// A file cannot be written or removed.
    #[error("cannot {what} {path}: {source}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
}

/// A command of so many words.
pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Step {
    /// Does it.
    pub(crate) fn take(&self) -> Result<(), Trouble> {
        match self {
            Self::Write(path, text) => write(path, text).map_err(failed("write", path)),
            Self::Remove(path) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
                _ => Ok(()),
            },
            Self::Run(words) => run(words).map(drop),
            Self::Try(words) => match run(words) {
                Err(Trouble::Failed { .. }) | Ok(_) => Ok(()),
                Err(trouble) => Err(trouble),
            },
        }
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Trouble {
    let path = path.to_owned();
    move |source| Trouble::File { what, path, source }
}

/// A manager that reads the folder meanwhile finds the whole file, or none.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Runs a command of the manager's to its end.
pub(crate) fn run(words: &[String]) -> Result<Output, Trouble> {
    let (program, rest) =
        words.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    // What is parsed here is said in one language.
    let output = Command::new(program).args(rest).env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(|error| Trouble::NoManager(format!("cannot run {program}: {error}")))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    // systemctl's words where the user's systemd does not run.
    if said.contains("connect to") && said.contains("bus") {
        return Err(Trouble::NoManager(said));
    }
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(Trouble::Failed { command: words.join(" "), said })
}
