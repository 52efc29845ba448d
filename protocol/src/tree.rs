//! Chaining values: the BLAKE3 subtree hashes that tie each chunk to the File ID.
//!
//! A chunk size is a power of two of bytes and at least one BLAKE3 chunk, so every chunk is a complete
//! subtree of the file's hash tree (the last one possibly a shorter, rightmost one), and the tree over
//! their values has the shape of the BLAKE3 tree: the left side takes the largest power of two of leaves
//! that leaves at least one for the right (BLAKE3 specification, section 2.1).
//!
//! The list comes in two levels. The *top* has one value per page of [`PAGE_CHUNKS`] chunks and rebuilds
//! the File ID; a *page* has one value per chunk and rebuilds its value in the top. A file of a single
//! page has no top: its page rebuilds the File ID. A file of one chunk has no list at all.

use std::fmt;

use blake3::{
    Hasher,
    hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
};
use serde::{Deserialize, Serialize};

use crate::{
    FileId, Geometry, Layout,
    limits::{GROUP_LEN, PAGE_CHUNKS},
    plan::Span,
};

/// The chaining value of a complete subtree that is not the whole file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cv(pub [u8; 32]);

impl fmt::Debug for Cv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cv({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// A list of chaining values that does not rebuild what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The list has the wrong number of values.
    #[error("expected {expected} chaining values, got {got}")]
    Length {
        /// Values that the geometry asks for.
        expected: usize,
        /// Values that came.
        got: usize,
    },
    /// The list rebuilds another hash.
    #[error("the chaining values do not rebuild the expected hash")]
    Mismatch,
}

/// What a chunk is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The chunk is the whole file, and this its File ID.
    Root(FileId),
    /// The chunk is part of a larger file, and this its chaining value.
    Subtree(Cv),
    /// The chunk is of a folder: whole files, of which each must have its own File ID, or a piece of one, which must have the
    /// value that is kept of it since it came.
    Files,
}

/// A chunk whose bytes were found to be the right ones. Only [`verify`], [`verify_zeros`] and [`verify_in`] make one, and
/// a store takes nothing else.
#[derive(Debug)]
pub struct VerifiedChunk<B> {
    index: u32,
    payload: Payload<B>,
    groups: Vec<Cv>,
}

/// The bytes of a verified chunk.
#[derive(Debug)]
pub enum Payload<B> {
    /// The bytes themselves.
    Bytes(B),
    /// This many zero bytes, which need no disk.
    Zeros(u64),
}

impl<B> VerifiedChunk<B> {
    /// Which chunk of the file this is.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The chunk's bytes.
    pub fn payload(&self) -> &Payload<B> {
        &self.payload
    }

    /// The chaining value of each group in the chunk, for the list kept on disk. Empty for a chunk that
    /// is a whole file no longer than a group: its one value is the File ID.
    pub fn groups(&self) -> &[Cv] {
        &self.groups
    }
}

/// Checks the bytes of chunk `index`. `None` if they are not the expected ones.
pub fn verify<B: AsRef<[u8]>>(
    geometry: Geometry,
    index: u32,
    expected: Expected,
    bytes: B,
) -> Option<VerifiedChunk<B>> {
    let data = bytes.as_ref();
    if !geometry.has(index) || data.len() as u64 != geometry.len_of(index) {
        return None;
    }
    let groups = check_groups(geometry, index, expected, |group, len| {
        let start = (group * GROUP_LEN - geometry.offset(index)) as usize;
        hash_group(group, &data[start..start + len as usize])
    })
    .or_else(|| whole_small_file(geometry, expected, |hasher| hasher.update(data).finalize()))?;
    Some(VerifiedChunk { index, payload: Payload::Bytes(bytes), groups })
}

/// Checks that chunk `index` is nothing but zeros, without a buffer of its size.
pub fn verify_zeros<B>(geometry: Geometry, index: u32, expected: Expected) -> Option<VerifiedChunk<B>> {
    static ZEROS: [u8; GROUP_LEN as usize] = [0; GROUP_LEN as usize];
    if !geometry.has(index) {
        return None;
    }
    let groups =
        check_groups(geometry, index, expected, |group, len| hash_group(group, &ZEROS[..len as usize]))
            .or_else(|| {
                whole_small_file(geometry, expected, |hasher| {
                    hasher.update(&ZEROS[..geometry.size() as usize]).finalize()
                })
            })?;
    Some(VerifiedChunk { index, payload: Payload::Zeros(geometry.len_of(index)), groups })
}

/// Checks the bytes of a chunk of a file or folder, or that it is nothing but zeros where there are none. `None` if they
/// are not the expected ones.
pub fn verify_in<B: AsRef<[u8]>>(
    layout: &Layout,
    index: u32,
    expected: Expected,
    bytes: Option<B>,
) -> Option<VerifiedChunk<B>> {
    let one = |geometry, index, bytes| match bytes {
        Some(bytes) => verify(geometry, index, expected, bytes),
        None => verify_zeros(geometry, index, expected),
    };
    let plan = match layout {
        Layout::File(geometry) => return one(*geometry, index, bytes),
        Layout::Folder(plan) => plan,
    };
    match plan.span(index)? {
        Span::Piece { geometry, piece, .. } => Some(VerifiedChunk { index, ..one(geometry, piece, bytes)? }),
        Span::Files(entries) => {
            let bytes = bytes.filter(|_| expected == Expected::Files)?;
            let mut rest = bytes.as_ref();
            for entry in entries {
                let (size, file_id) = plan.manifest().file(*entry)?;
                let (content, after) = rest.split_at_checked(size as usize)?;
                if hash_small(content) != file_id {
                    return None;
                }
                rest = after;
            }
            rest.is_empty().then(|| VerifiedChunk {
                index,
                payload: Payload::Bytes(bytes),
                groups: Vec::new(),
            })
        }
    }
}

/// The values of a chunk's groups, if they rebuild what is expected of the chunk. `None` also for a file
/// of a single group, which has no chaining value.
fn check_groups(
    geometry: Geometry,
    index: u32,
    expected: Expected,
    hash: impl Fn(u64, u64) -> Cv,
) -> Option<Vec<Cv>> {
    if geometry.groups() < 2 {
        return None;
    }
    let groups: Vec<Cv> = geometry
        .groups_of(index)
        .map(|group| hash(group, (geometry.size() - group * GROUP_LEN).min(GROUP_LEN)))
        .collect();
    let fits = match expected {
        Expected::Root(id) => merge_root(&groups) == Some(id),
        Expected::Subtree(cv) => merge(&groups) == Some(cv),
        Expected::Files => false,
    };
    fits.then_some(groups)
}

fn whole_small_file(
    geometry: Geometry,
    expected: Expected,
    hash: impl Fn(&mut Hasher) -> blake3::Hash,
) -> Option<Vec<Cv>> {
    let fits = geometry.groups() == 1
        && matches!(expected, Expected::Root(id) if hash(&mut Hasher::new()) == blake3::Hash::from(id.0));
    fits.then(Vec::new)
}

/// The chaining value of one group: `GROUP_LEN` bytes at a multiple of it, fewer at the end of the file.
pub fn hash_group(group: u64, bytes: &[u8]) -> Cv {
    Cv(Hasher::new().set_input_offset(group * GROUP_LEN).update(bytes).finalize_non_root())
}

/// The File ID of content that is here as a whole.
pub fn hash_small(bytes: &[u8]) -> FileId {
    FileId(*blake3::hash(bytes).as_bytes())
}

/// The File ID of the empty file.
pub fn empty_id() -> FileId {
    hash_small(&[])
}

/// Splits leaves as BLAKE3 does: the largest power of two below their number goes left.
fn split<T>(leaves: &[T]) -> (&[T], &[T]) {
    let left = 1 << (usize::BITS - 1 - (leaves.len() - 1).leading_zeros());
    leaves.split_at(left)
}

/// Merges the values of neighbouring complete subtrees, of which only the last may be shorter, into the
/// value of the subtree that they form. `None` for an empty list.
pub fn merge(leaves: &[Cv]) -> Option<Cv> {
    match leaves {
        [] => None,
        [one] => Some(*one),
        _ => {
            let (left, right) = split(leaves);
            let (left, right) = (merge(left)?, merge(right)?);
            Some(Cv(merge_subtrees_non_root(&left.0, &right.0, Mode::Hash)))
        }
    }
}

/// Merges the values of all subtrees of a file into its File ID. `None` for fewer than two: a file that
/// is one subtree has no chaining value.
pub fn merge_root(leaves: &[Cv]) -> Option<FileId> {
    if leaves.len() < 2 {
        return None;
    }
    let (left, right) = split(leaves);
    let (left, right) = (merge(left)?, merge(right)?);
    Some(FileId(*merge_subtrees_root(&left.0, &right.0, Mode::Hash).as_bytes()))
}

/// Checks the top level of a file with more than one page against its File ID.
pub fn check_top(geometry: Geometry, id: FileId, top: &[Cv]) -> Result<(), TreeError> {
    let expected = geometry.pages() as usize;
    if top.len() != expected || expected < 2 {
        return Err(TreeError::Length { expected, got: top.len() });
    }
    if merge_root(top) == Some(id) { Ok(()) } else { Err(TreeError::Mismatch) }
}

/// Checks one page: against the File ID where it is the only one, else against its value in the top.
pub fn check_page(
    geometry: Geometry,
    id: FileId,
    top: &[Cv],
    page: u32,
    values: &[Cv],
) -> Result<(), TreeError> {
    // A file of one chunk has a value and no page.
    let expected = if page < geometry.pages() { geometry.page_chunks(page).len() } else { 0 };
    if values.len() != expected || expected == 0 {
        return Err(TreeError::Length { expected, got: values.len() });
    }
    let fits = if geometry.pages() == 1 {
        merge_root(values) == Some(id)
    } else {
        top.get(page as usize).is_some_and(|value| merge(values) == Some(*value))
    };
    if fits { Ok(()) } else { Err(TreeError::Mismatch) }
}

/// Merges the values of a file's groups, given in order from the first of some chunk on, into chunk values.
pub fn chunks_from_groups(geometry: Geometry, groups: &[Cv]) -> Vec<Cv> {
    let per_chunk = (geometry.chunk_len() / GROUP_LEN) as usize;
    groups.chunks(per_chunk).filter_map(merge).collect()
}

/// Merges chunk values, given in order from the first of some page on, into the values of the top level.
pub fn top_from_chunks(chunks: &[Cv]) -> Vec<Cv> {
    chunks.chunks(PAGE_CHUNKS as usize).filter_map(merge).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        ChunkSet, Manifest,
        manifest::{Entry, Node},
        plan::Plan,
    };

    fn content(len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    }

    fn groups(data: &[u8]) -> Vec<Cv> {
        data.chunks(GROUP_LEN as usize).enumerate().map(|(i, part)| hash_group(i as u64, part)).collect()
    }

    fn id(data: &[u8]) -> FileId {
        FileId(*blake3::hash(data).as_bytes())
    }

    #[test]
    fn groups_rebuild_the_hash_of_the_whole() {
        let group = GROUP_LEN as usize;
        for len in [group + 1, 2 * group - 1, 2 * group, 2 * group + 1, 3 * group, 7 * group + 1023] {
            let data = content(len);
            assert_eq!(merge_root(&groups(&data)), Some(id(&data)), "{len}");
        }
    }

    #[test]
    fn chunks_of_every_size_verify_and_rebuild() {
        let data = content(9 * (1 << 20) + 12345);
        for log2 in 18..=22 {
            let g = Geometry::new(data.len() as u64, log2).unwrap();
            let values = chunks_from_groups(g, &groups(&data));
            assert_eq!(values.len(), g.chunks() as usize);
            check_page(g, id(&data), &[], 0, &values).unwrap();
            for chunk in 0..g.chunks() {
                let bytes = g.bytes_of(chunk);
                let part = &data[bytes.start as usize..bytes.end as usize];
                let expected = Expected::Subtree(values[chunk as usize]);
                let verified = verify(g, chunk, expected, part).unwrap();
                assert_eq!(verified.groups().len(), g.groups_of(chunk).count());
                assert!(verify(g, chunk, expected, &part[1..]).is_none());
                let mut bad = part.to_vec();
                bad[0] ^= 1;
                assert!(verify(g, chunk, expected, bad).is_none());
                assert!(verify(g, (chunk + 1) % g.chunks(), expected, part).is_none());
            }
        }
    }

    #[test]
    fn small_files_verify_against_their_id() {
        for len in [1, 1023, 1024, 1025, GROUP_LEN as usize] {
            let data = content(len);
            let g = Geometry::for_size(len as u64).unwrap();
            assert!(verify(g, 0, Expected::Root(id(&data)), &data).is_some(), "{len}");
            assert!(verify(g, 0, Expected::Root(empty_id()), &data).is_none());
            assert!(verify(g, 1, Expected::Root(id(&data)), &data).is_none());
        }
        let data = content(1_000_000);
        let g = Geometry::new(1_000_000, 20).unwrap();
        let one = verify(g, 0, Expected::Root(id(&data)), &data).unwrap();
        assert_eq!(merge_root(one.groups()), Some(id(&data)));
    }

    #[test]
    fn zeros_verify_without_bytes() {
        for (len, log2) in [(5_000_000, 20), (100, 18), (1_000_000, 20)] {
            let data = vec![0; len];
            let g = Geometry::new(len as u64, log2).unwrap();
            let values = chunks_from_groups(g, &groups(&data));
            for chunk in 0..g.chunks() {
                let expected = match g.pages() {
                    0 => Expected::Root(id(&data)),
                    _ => Expected::Subtree(values[chunk as usize]),
                };
                assert!(verify_zeros::<()>(g, chunk, expected).is_some());
            }
            assert!(verify_zeros::<()>(g, 0, Expected::Root(empty_id())).is_none());
        }
    }

    /// Fault 43.
    #[test]
    fn forged_lists_are_refused() {
        let g = Geometry::new((2 * PAGE_CHUNKS + 3) << 18, 18).unwrap();
        let values: Vec<Cv> = (0..g.chunks()).map(|i| hash_group(u64::from(i), &[1])).collect();
        let top = top_from_chunks(&values);
        let id = merge_root(&top).unwrap();
        assert_eq!(id, merge_root(&values).unwrap());
        check_top(g, id, &top).unwrap();
        let page: Vec<Cv> = g.page_chunks(2).map(|chunk| values[chunk as usize]).collect();
        check_page(g, id, &top, 2, &page).unwrap();
        let mut forged = top.clone();
        forged.swap(0, 1);
        assert_eq!(check_top(g, id, &forged), Err(TreeError::Mismatch));
        assert!(matches!(check_top(g, id, &top[..2]), Err(TreeError::Length { .. })));
        let mut forged = page.clone();
        forged[1] = forged[0];
        assert_eq!(check_page(g, id, &top, 2, &forged), Err(TreeError::Mismatch));
        assert!(check_page(g, id, &top, 1, &page).is_err());
        assert!(check_page(g, id, &top, 9, &[]).is_err());
        let one = Geometry::new(5, 18).unwrap();
        assert!(check_page(one, id, &values[..1], 0, &values[..1]).is_err(), "one chunk has no page");
    }

    #[test]
    fn the_smallest_file_with_values_is_of_two_groups() {
        let data = content(2 * GROUP_LEN as usize);
        let g = Geometry::new(data.len() as u64, 20).unwrap();
        let one = verify(g, 0, Expected::Root(id(&data)), &data).unwrap();
        assert_eq!((one.index(), one.groups()), (0, &groups(&data)[..]));
        assert!(verify(g, 0, Expected::Root(empty_id()), &data).is_none());
        assert_eq!((merge(&[]), merge_root(&[])), (None, None));
    }

    #[test]
    fn a_chunk_keeps_its_number() {
        let data = content(3 * GROUP_LEN as usize);
        let g = Geometry::new(data.len() as u64, 18).unwrap();
        let values = groups(&data);
        for chunk in 0..3 {
            let bytes = g.bytes_of(chunk);
            let part = &data[bytes.start as usize..bytes.end as usize];
            let verified = verify(g, chunk, Expected::Subtree(values[chunk as usize]), part).unwrap();
            assert_eq!(verified.index(), chunk);
        }
    }

    #[test]
    fn a_page_has_the_length_that_follows_from_the_file() {
        let data = content(3 * GROUP_LEN as usize);
        let g = Geometry::new(data.len() as u64, 18).unwrap();
        let values = groups(&data);
        let check = |page, values: &[Cv]| check_page(g, id(&data), &[], page, values);
        assert_eq!(check(0, &values), Ok(()));
        assert_eq!(check(0, &values[..2]), Err(TreeError::Length { expected: 3, got: 2 }));
        assert_eq!(check(1, &[]), Err(TreeError::Length { expected: 0, got: 0 }));
        assert_eq!(check(0, &[values[0]; 3]), Err(TreeError::Mismatch));
    }

    #[test]
    fn a_piece_of_a_folders_file_keeps_its_number_in_the_folder() {
        let data = content(2 * GROUP_LEN as usize + 1);
        let file = |path: &str, bytes: &[u8]| Entry {
            path: path.into(),
            modified_ns: None,
            node: Node::File { size: bytes.len() as u64, file_id: id(bytes), executable: false },
        };
        let manifest = Manifest::new(vec![file("a", b"small"), file("b", &data)]).unwrap();
        let plan = Plan::new(Arc::new(manifest), &ChunkSet::full(2), 18).unwrap();
        let layout = Layout::Folder(Arc::new(plan));
        let small = verify_in(&layout, 0, Expected::Files, Some(&b"small"[..])).unwrap();
        assert_eq!((small.index(), small.groups().len()), (0, 0));
        let expected = Expected::Subtree(groups(&data)[1]);
        let piece = &data[GROUP_LEN as usize..2 * GROUP_LEN as usize];
        let verified = verify_in(&layout, 2, expected, Some(piece)).unwrap();
        assert_eq!((verified.index(), verified.groups()), (2, &groups(&data)[1..2]));
        assert!(verify_in(&layout, 1, expected, Some(piece)).is_none());
        assert!(verify_in(&layout, 4, expected, Some(piece)).is_none());
        assert_eq!(format!("{:?}", groups(&data)[1]).len(), "Cv()".len() + 64);
    }
}
