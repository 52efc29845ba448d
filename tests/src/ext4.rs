//! A disk of its own, in a file: one that can be frozen, so that whoever writes to it waits, as on a disk that stalls.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A mounted ext4; it is unmounted when this is dropped.
#[derive(Debug)]
pub struct Ext4 {
    room: TempDir,
}

/// Keeps a file system frozen.
#[derive(Debug)]
pub struct Frozen<'a>(&'a Ext4);

impl Ext4 {
    /// A file system of this many bytes. `None`, with a word on standard error, where there are no loop devices to be
    /// had: what was to be tested on it is then left out.
    pub fn mount(bytes: u64) -> Option<Self> {
        let this = Self { room: TempDir::with_prefix("p2p-ext4-").expect("a temporary folder") };
        let image = this.room.path().join("image");
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("a sparse file");
        std::fs::create_dir(this.path()).expect("a folder to mount at");
        let made = run(Command::new("mkfs.ext4").arg("-q").arg(&image))
            && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(this.path()));
        if !made {
            eprintln!("left out: this process may not mount a file system of its own");
            return None;
        }
        Some(this)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.room.path().join("disk")
    }

    /// From now on whoever writes to it waits.
    pub fn freeze(&self) -> Frozen<'_> {
        assert!(freeze(&self.path(), "--freeze"), "a mounted ext4 can be frozen");
        Frozen(self)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if !freeze(&self.0.path(), "--unfreeze") {
            eprintln!("{} is still frozen", self.0.path().display());
        }
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // Lazily, since a daemon that is killed a moment later may still be there.
        run(Command::new("umount").arg("-l").arg(self.path()));
    }
}

fn freeze(folder: &Path, how: &str) -> bool {
    run(Command::new("fsfreeze").arg(how).arg(folder))
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
