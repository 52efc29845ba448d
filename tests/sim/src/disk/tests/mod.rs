//! What the disk promises to lose, and to keep.

mod data;
mod faults;
mod names;
mod sqlite;

use std::{ffi::OsStr, fs::File};

use cap_std::fs::Dir;
use p2p_daemon::disk::Disk;
use rand::{SeedableRng, rngs::StdRng};
use rustix::fs::{Mode, OFlags};

use super::*;

struct Bed {
    disk: SimDisk,
    root: Dir,
    rng: StdRng,
}

impl Bed {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let root = Dir::from_std_file(File::open(disk.root()).unwrap());
        Self { disk, root, rng: StdRng::seed_from_u64(seed) }
    }

    fn create(&self, folder: &Dir, name: &str) -> File {
        let how = OFlags::RDWR | OFlags::CREATE;
        self.disk.open(folder, OsStr::new(name), how, Mode::RUSR | Mode::WUSR).unwrap()
    }

    /// A file that is durable, with this content.
    fn file(&self, name: &str, content: &[u8]) -> File {
        let file = self.create(&self.root, name);
        self.write(&file, content, 0);
        self.disk.sync_all(&file).unwrap();
        self.disk.sync_folder(&self.root).unwrap();
        file
    }

    fn folder(&self, name: &str) -> Dir {
        self.disk.make_folder(&self.root, OsStr::new(name), Mode::RWXU).unwrap();
        self.open_folder(name)
    }

    fn open_folder(&self, name: &str) -> Dir {
        Dir::from_std_file(File::open(self.disk.root().join(name)).unwrap())
    }

    fn write(&self, file: &File, content: &[u8], at: u64) {
        assert_eq!(self.disk.write_at(file, content, at).unwrap(), content.len());
    }

    fn power_loss(&mut self, loss: Loss) {
        self.disk.power_loss(loss, &mut self.rng).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.disk.root().join(name)).unwrap()
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.disk.root().join(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
