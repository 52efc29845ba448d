//! The file beside a folder's partial that says what the partial is of: the folder's entries, which of its files are to be
//! moved, and the chunk size, so that the same plan comes of it whenever the transfer goes on.
//!
//! ```text
//! magic 8 · version 2 · chunk log2 1 · zero 1 · length of the set 4 · the files' numbers, a set · CRC-32 4 · manifest
//! ```
//!
//! The manifest is checked by its hash, which is the File ID.

use std::{fs::File, io, sync::Arc};

use p2p_protocol::{ChunkSet, FileId, Manifest, Plan, limits::MAX_MANIFEST_LEN};

use crate::disk::{Disk, read_exact, write_all};

const MAGIC: [u8; 8] = *b"p2p tree";
const VERSION: u16 = 1;
const HEAD_LEN: usize = 16;
const CRC_LEN: usize = 4;
/// Longest set: each file's number in the form that costs most.
const MAX_SET_LEN: usize = 8 * 1024 * 1024;

/// Writes what a plan follows from.
pub(super) fn write(disk: &dyn Disk, file: &File, plan: &Plan) -> io::Result<()> {
    let set = plan.files().to_bytes();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[plan.chunk_log2(), 0]);
    bytes.extend_from_slice(&(set.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&set);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend_from_slice(&plan.manifest().encode());
    disk.set_len(file, 0)?;
    write_all(disk, file, &bytes, 0)?;
    disk.sync_data(file)
}

/// Reads it. `None` for what is not whole, or of another folder.
pub(super) fn read(disk: &dyn Disk, file: &File, id: FileId) -> io::Result<Option<Arc<Plan>>> {
    let len = file.metadata()?.len();
    if len > (HEAD_LEN + MAX_SET_LEN + CRC_LEN + MAX_MANIFEST_LEN) as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; len as usize];
    read_exact(disk, file, &mut bytes, 0)?;
    Ok(decode(&bytes, id))
}

fn decode(bytes: &[u8], id: FileId) -> Option<Arc<Plan>> {
    let (head, _) = bytes.split_first_chunk::<HEAD_LEN>()?;
    if head[..8] != MAGIC || head[8..10] != VERSION.to_le_bytes() {
        return None;
    }
    let set_len = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) as usize;
    let (checked, rest) = bytes.split_at_checked(HEAD_LEN.checked_add(set_len)?)?;
    let (crc, manifest) = rest.split_first_chunk::<CRC_LEN>()?;
    if crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
        return None;
    }
    let manifest = Manifest::decode(manifest).ok().filter(|manifest| manifest.id() == id)?;
    let files = ChunkSet::from_bytes(&checked[HEAD_LEN..], manifest.files().len() as u32)?;
    let plan = Plan::new(Arc::new(manifest), &files, head[10]).ok()?;
    Some(Arc::new(plan))
}

#[cfg(test)]
mod tests {
    use p2p_protocol::manifest::{Entry, Node};

    use super::*;
    use crate::disk::System;

    #[test]
    fn only_what_is_whole_and_of_this_folder_is_believed() {
        let node = |size| Node::File { size, file_id: FileId([1; 32]), executable: false };
        let entry = |path: &str, size| Entry { path: path.into(), modified_ns: Some(5), node: node(size) };
        let manifest = Arc::new(Manifest::new(vec![entry("a", 1), entry("b", 2), entry("c", 3)]).unwrap());
        let id = manifest.id();
        let files: ChunkSet = [0, 2].into_iter().collect();
        let plan = Plan::new(manifest.clone(), &files, 20).unwrap();
        let file = tempfile::tempfile().unwrap();
        write_all(&System, &file, &[7; 9999], 0).unwrap();
        write(&System, &file, &plan).unwrap();
        let found = read(&System, &file, id).unwrap().unwrap();
        assert_eq!((found.manifest(), found.files()), (&manifest, &files));
        assert_eq!((found.chunk_log2(), found.bytes()), (20, 4));
        assert!(read(&System, &file, FileId([9; 32])).unwrap().is_none());
        let len = file.metadata().unwrap().len() as usize;
        let mut bytes = vec![0; len];
        read_exact(&System, &file, &mut bytes, 0).unwrap();
        for at in 0..len {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x11;
            // Times are not part of the identity; anything else is noticed.
            let other = decode(&damaged, id).filter(|plan| {
                let paths = |manifest: &Manifest| {
                    manifest.entries().iter().map(|e| e.path.clone()).collect::<Vec<_>>()
                };
                paths(plan.manifest()) != paths(&manifest)
                    || *plan.files() != files
                    || plan.chunk_log2() != 20
            });
            assert!(other.is_none(), "{at}");
            assert!(decode(&bytes[..at], id).is_none(), "{at}");
        }
    }
}
