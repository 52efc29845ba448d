//! Files whose chunks exist only as their chaining values.

use std::sync::OnceLock;

use p2p_protocol::{
    Cv, FileId, Geometry,
    tree::{Expected, hash_group, merge_root, top_from_chunks},
};

/// How many chunks there are files of: none, one, a page that is not full, and several pages.
const CHUNKS: [u32; 8] = [0, 1, 2, 5, 40, 300, 4097, 8195];

/// A file without bytes.
#[derive(Debug)]
pub(super) struct File {
    pub(super) geometry: Geometry,
    pub(super) id: FileId,
    pub(super) values: Vec<Cv>,
    pub(super) top: Vec<Cv>,
}

impl File {
    /// Two files of the same size, one of the sizes that there are.
    pub(super) fn pair(which: u8) -> &'static [Self; 2] {
        static FILES: OnceLock<Vec<[File; 2]>> = OnceLock::new();
        let files =
            FILES.get_or_init(|| CHUNKS.map(|chunks| [1, 2].map(|seed| Self::new(chunks, seed))).into());
        &files[usize::from(which) % files.len()]
    }

    fn new(chunks: u32, seed: u32) -> Self {
        let size = (u64::from(chunks) << 18).saturating_sub(77);
        let geometry = Geometry::new(size, 18).unwrap();
        let values: Vec<Cv> = (0..chunks)
            .map(|chunk| hash_group(u64::from(chunk), &[chunk.to_le_bytes(), seed.to_le_bytes()].concat()))
            .collect();
        let id = merge_root(&values).unwrap_or(FileId(values.first().map_or([0; 32], |cv| cv.0)));
        Self { geometry, id, top: top_from_chunks(&values), values }
    }

    /// The values on one page.
    pub(super) fn page(&self, page: u32) -> Vec<Cv> {
        let chunks = self.geometry.page_chunks(page);
        self.values[chunks.start as usize..chunks.end as usize].to_vec()
    }
}

/// Whether content of this value is what is expected.
pub(super) fn verifies(expected: Expected, content: Cv) -> bool {
    match expected {
        Expected::Root(id) => id.0 == content.0,
        Expected::Subtree(cv) => cv == content,
        Expected::Files => false,
    }
}
