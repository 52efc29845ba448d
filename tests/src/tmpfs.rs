//! File systems in memory: small ones that can be filled up, where this process may mount one.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Whether such a file system is mounted at this folder.
pub fn is_at(folder: &str) -> bool {
    has_at(&fs::read_to_string("/proc/mounts").unwrap_or_default(), folder)
}

fn has_at(mounts: &str, folder: &str) -> bool {
    // As in `fstab(5)`: what, where, of which kind.
    mounts.lines().any(|line| line.split(' ').skip(1).take(2).eq([folder, "tmpfs"]))
}

/// A mounted tmpfs; it is unmounted when this is dropped.
#[derive(Debug)]
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// A file system of this many bytes. `None`, with a word on standard error, where mounting is not allowed:
    /// what was to be tested on it is then left out.
    pub fn mount(bytes: u64) -> Option<Self> {
        let folder = TempDir::with_prefix("p2p-tmpfs-").expect("a temporary folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "p2p-test"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { folder }),
            _ => {
                eprintln!("left out: this process may not mount a tmpfs");
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether it takes no more writes from now on.
    pub fn set_read_only(&self, read_only: bool) {
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        let remounted = Command::new("mount").args(["-o", how]).arg(self.path()).output();
        assert!(remounted.as_ref().is_ok_and(|output| output.status.success()), "{how}: {remounted:?}");
    }

    /// Takes all space that is left, into one file whose path is returned.
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).expect("the file system is writable");
        // Smaller and smaller pieces, until not even a byte fits.
        let mut piece = vec![1; 1 << 20];
        while !piece.is_empty() {
            while file.write_all(&piece).is_ok() {}
            piece.truncate(piece.len() / 2);
        }
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, since a daemon that is killed a moment later may still be there.
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        if !matches!(unmounted, Ok(status) if status.success()) {
            eprintln!("{} is still mounted: {unmounted:?}", self.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::has_at;

    #[test]
    fn a_mount_tells_its_place_and_kind() {
        let mounts =
            "/dev/sda / ext4 rw 0 0\nsome /dev/shm tmpfs rw,size=1k 0 0\n/dev/sdb /disk ext4 rw 0 0\n";
        assert!(has_at(mounts, "/dev/shm"));
        assert!(!has_at(mounts, "/disk"));
        assert!(!has_at(mounts, "/dev"));
        assert!(!has_at("", "/dev/shm"));
    }
}
