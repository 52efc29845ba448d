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

/// Small files in a folder.
const SMALL_FILES: u64 = 200;
/// Length of the long file beside them, which is the only one in it that changes, so that whoever reads the folder meanwhile finds it as
/// it was or as it is.
const LONG: u64 = 6 * MIB + 7;
const LONG_NAME: &str = "b/long.bin";

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
        let tree = format!("{owner}-tree");
        pool.plant(&tree);
        pool.names.push(tree);
        pool
    }

    /// One of them.
    pub(crate) fn pick(&self, random: &mut Random) -> (String, PathBuf) {
        let name = &self.names[random.index(self.names.len())];
        (name.clone(), self.path(name))
    }

    /// Writes one of the dense ones anew, of a size near the old one, or a little of the long file in the folder.
    pub(crate) fn change(&mut self, random: &mut Random) {
        let n = random.index(SIZES.len() + 4);
        let Some(name) = self.names.get(n).filter(|_| n < SIZES.len()).cloned() else {
            return self.graft(random);
        };
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

    /// A folder of small files and a long one.
    fn plant(&mut self, name: &str) {
        let root = self.path(name);
        for folder in ["a/deep", "b", "empty"] {
            std::fs::create_dir_all(root.join(folder)).expect("the folder takes folders");
        }
        for n in 0..SMALL_FILES {
            let path = root.join(["a", "a/deep", "b"][n as usize % 3]).join(format!("{n}.txt"));
            data::write_random(&path, self.seed.wrapping_mul(31).wrapping_add(n), n * n % 20_000);
        }
        data::write_random(&root.join(LONG_NAME), self.seed, LONG);
        self.note(name);
    }

    fn graft(&mut self, random: &mut Random) {
        let name = self.names.last().cloned().unwrap_or_default();
        let path = self.path(&name).join(LONG_NAME);
        let mut bytes = std::fs::read(&path).expect("the long file is there");
        let at = random.below(LONG - 4096) as usize;
        bytes[at..at + 4096].copy_from_slice(&data::random(random.next(), 4096));
        let new = self.folder.join("long.new");
        std::fs::write(&new, bytes).expect("the folder takes a file");
        std::fs::rename(new, path).expect("the folder takes a new name");
        self.note(&name);
    }

    fn note(&mut self, name: &str) {
        let id = id_of(&self.path(name));
        self.contents.entry(name.to_owned()).or_default().push(id);
    }
}

/// What stands for the content of a file or folder: of a folder the names and contents of all that is in it.
pub(crate) fn id_of(path: &Path) -> String {
    if !path.is_dir() {
        return data::file_id(path);
    }
    let mut hasher = blake3::Hasher::new();
    for file in data::files_below(path) {
        let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
        hasher.update(format!("{name}\n{}\n", data::file_id(&file)).as_bytes());
    }
    hasher.update(&[u8::from(path.join("empty").is_dir())]);
    hasher.finalize().to_hex().to_string()
}
