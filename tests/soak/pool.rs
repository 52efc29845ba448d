//! The files that move: of all sizes, each with every content that it has had.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use p2p_tests::{data, data::MIB};

use crate::random::Random;

/// Sizes in bytes; the edges of hashing, of chunks, of what goes along with an offer and of what is hashed first.
const SIZES: [u64; 16] = [
    0,
    1,
    1023,
    1025,
    data::CHUNK - 1,
    data::CHUNK,
    data::CHUNK + 1,
    3 * data::CHUNK + 17,
    MIB,
    5 * MIB + 3,
    8 * MIB,
    8 * MIB + 1,
    13 * MIB,
    24 * MIB + 5,
    48 * MIB,
    96 * MIB,
];
/// Length of the file that is mostly a hole.
const SPARSE: u64 = 512 * MIB;

/// All files of one daemon's user.
#[derive(Debug)]
pub(crate) struct Pool {
    folder: PathBuf,
    names: Vec<String>,
    /// Every File ID that a name has stood for.
    contents: HashMap<String, Vec<String>>,
    seed: u64,
}

impl Pool {
    /// New files in this folder, whose names begin with `owner`.
    pub(crate) fn new(folder: &Path, owner: usize, random: &mut Random) -> Self {
        let mut pool = Self {
            folder: folder.to_owned(),
            names: Vec::new(),
            contents: HashMap::new(),
            seed: random.next(),
        };
        for (n, size) in SIZES.into_iter().enumerate() {
            let name = format!("{owner}-{n}.bin");
            pool.write(&name, size);
            pool.names.push(name);
        }
        let sparse = format!("{owner}-sparse.img");
        data::write_sparse(
            &pool.path(&sparse),
            SPARSE,
            &[(MIB, &data::random(pool.seed, MIB)), (SPARSE - 5, b"end")],
        );
        pool.note(&sparse);
        pool.names.push(sparse);
        pool
    }

    /// One of them.
    pub(crate) fn pick(&self, random: &mut Random) -> (String, PathBuf) {
        let name = &self.names[random.index(self.names.len())];
        (name.clone(), self.path(name))
    }

    /// Writes one of the dense ones anew, of a size near the old one.
    pub(crate) fn change(&mut self, random: &mut Random) {
        let n = random.index(SIZES.len());
        let name = self.names[n].clone();
        self.write(&name, SIZES[n] + random.below(3));
    }

    /// Whether this name has ever stood for this content.
    pub(crate) fn has(&self, name: &str, id: &str) -> bool {
        self.contents.get(name).is_some_and(|ids| ids.iter().any(|known| known == id))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// In a new file that takes the old one's place, as editors and compilers do it: no reader ever sees a mixture.
    fn write(&mut self, name: &str, len: u64) {
        self.seed = self.seed.wrapping_add(1);
        let new = self.path(&format!("{name}.new"));
        data::write_random(&new, self.seed, len);
        std::fs::rename(new, self.path(name)).expect("the folder takes a new name");
        self.note(name);
    }

    fn note(&mut self, name: &str) {
        let id = data::file_id(&self.path(name));
        self.contents.entry(name.to_owned()).or_default().push(id);
    }
}
