//! A config file to begin with: every setting, what it is for, and its default. What it says is what `file` reads.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    ConfigError, Settings, Surroundings,
    file::{KEYS, Values},
};
use crate::{
    args::Args,
    disk::{self, Disk, PRIVATE_FOLDER},
};

const HEAD: &str = "\
# Settings of the p2p daemon. As it is, nothing is set: each setting below has its default, behind a #. Take that away
# from what you change. The daemon reads this file when it starts; `p2p config` shows what holds, and why.
";

/// Writes the config file that these arguments mean, where none is there; returns its path.
///
/// # Errors
/// One is there already, or the disk does not take it.
pub(crate) fn write_new(disk: &dyn Disk, args: &Args) -> Result<PathBuf, ConfigError> {
    write_new_in(disk, args, &Surroundings::of_the_process())
}

pub(super) fn write_new_in(
    disk: &dyn Disk,
    args: &Args,
    around: &Surroundings<'_>,
) -> Result<PathBuf, ConfigError> {
    let (home, config) = Settings::places(args, around)?;
    let path = config.value.clone();
    // What would hold without a word from anybody.
    let silent = Surroundings { env: &|_| None, ..around.clone() };
    let defaults = Settings::settle(&Args::default(), &silent, home, config, Values::default())?;
    match write(disk, &path, &text(&defaults)) {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(ConfigError::Exists { path }),
        Err(source) => Err(ConfigError::Write { path, source }),
    }
}

fn write(disk: &dyn Disk, path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        disk::make_folders(disk, folder, PRIVATE_FOLDER)?;
    }
    let file = disk::create(disk, path)?;
    disk::write_all(disk, &file, text.as_bytes(), 0)?;
    disk.sync_all(&file)?;
    disk.sync_folder(&disk::place_of(path)?.0)
}

fn text(defaults: &Settings) -> String {
    let mut text = HEAD.to_owned();
    for shown in defaults.shown() {
        if let Some(key) = KEYS.iter().find(|key| key.name == shown.key) {
            let means: String = key.means.iter().map(|line| format!("# {line}\n")).collect();
            text += &format!("\n{means}#{} = {}\n", shown.key, shown.value);
        }
    }
    text
}
