//! Lists of a folder's entries, the plans that follow from them, and the proofs of pieces.

use std::sync::Arc;

use p2p_protocol::{
    ChunkSet, Cv, FileId, Layout, Manifest, Plan,
    limits::{MAX_FILES_PER_CHUNK, MAX_PROOF_LEN},
    manifest::{Node, order},
    plan::Span,
    proof::{ProofTree, proves},
    tree::{Expected, merge_root, verify_in},
};

/// A list that is taken is written the same again, leads nowhere outside, and has plans in which every byte of what is
/// wanted is once, at every chunk size. A proof proves its piece and no other.
pub fn folders(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    if first % 4 == 0 {
        return proofs(rest);
    }
    let Ok(manifest) = Manifest::decode(rest) else { return };
    assert_eq!(manifest.encode(), rest, "a list has one encoding");
    for pair in manifest.entries().windows(2) {
        assert_eq!(order(&pair[0].path, &pair[1].path), std::cmp::Ordering::Less);
    }
    for entry in manifest.entries() {
        entry.path.split('/').for_each(super::names::is_safe);
        if let Node::Link { target } = &entry.node {
            stays_inside(&entry.path, target);
        }
    }
    let manifest = Arc::new(manifest);
    let files = manifest.files().len() as u32;
    let wanted: ChunkSet = (0..files).filter(|file| first >> (file % 7) & 1 == 0).collect();
    for chunk_log2 in 17..=23 {
        if let Ok(plan) = Plan::new(manifest.clone(), &wanted, chunk_log2) {
            covers(&manifest, &wanted, Arc::new(plan));
        }
    }
}

/// Said in other words than the parser's own: followed by hand, step by step, where every other name is a folder.
fn stays_inside(path: &str, target: &str) {
    let mut depth = path.matches('/').count() as i64;
    let mut went_down = false;
    for step in target.split('/').filter(|step| !step.is_empty() && *step != ".") {
        assert!(step != ".." || !went_down, "{path} -> {target}");
        went_down |= step != "..";
        depth += if step == ".." { -1 } else { 1 };
        assert!(depth >= 0, "{path} -> {target}");
    }
    assert!(!target.starts_with('/'), "{path} -> {target}");
}

/// Looks at no more chunks than can be looked at.
fn covers(manifest: &Manifest, wanted: &ChunkSet, plan: Arc<Plan>) {
    const MOST: u32 = 2000;
    let size = |entry: u32| manifest.file(entry).unwrap().0;
    let expected: u64 = wanted.iter().map(|file| size(manifest.files()[file as usize])).sum();
    assert_eq!((plan.bytes(), plan.bytes_of(0..plan.chunks())), (expected, expected));
    let layout = Layout::Folder(plan.clone());
    assert_eq!((layout.chunks(), layout.size()), (plan.chunks(), manifest.size()));
    let (mut bytes, mut groups, mut seen) = (0, 0, Vec::new());
    for chunk in 0..plan.chunks().min(MOST) {
        let len = plan.len_of(chunk);
        assert!(len > 0 && len <= layout.chunk_len());
        bytes += len;
        let range = plan.groups_of(chunk);
        match plan.span(chunk).unwrap() {
            Span::Files(entries) => {
                assert!(entries.len() <= MAX_FILES_PER_CHUNK && !entries.is_empty());
                assert_eq!(entries.iter().map(|entry| size(*entry)).sum::<u64>(), len);
                seen.extend_from_slice(entries);
                assert!(range.is_empty());
                if len <= 1 << 16 {
                    // Nobody has the content, but for what is hardly possible.
                    let zeros = vec![0; len as usize];
                    let _ = verify_in(&layout, chunk, Expected::Files, Some(zeros));
                    assert!(verify_in::<Vec<u8>>(&layout, chunk, Expected::Files, None).is_none());
                }
            }
            Span::Piece { entry, geometry, piece } => {
                assert_eq!((geometry.size(), geometry.len_of(piece)), (size(entry), len));
                assert_eq!(range.start, groups, "values lie one after the other");
                groups = range.end;
                if piece == 0 {
                    seen.push(entry);
                }
            }
        }
    }
    assert_eq!(bytes, plan.bytes_of(0..plan.chunks().min(MOST)));
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count, "no file is in two places");
    if plan.chunks() <= MOST {
        assert_eq!((bytes, groups), (plan.bytes(), plan.groups()));
        let with_content = wanted.iter().filter(|file| size(manifest.files()[*file as usize]) > 0);
        assert_eq!(with_content.count(), count);
    }
    assert!(plan.span(plan.chunks()).is_none() && plan.len_of(plan.chunks()) == 0);
}

/// A number of pieces, which of them, one bit to flip, and a proof of the fuzzer's own.
fn proofs(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<6>() else { return };
    let [count, count_high, piece, piece_high, flip, flip_bit] = *head;
    let count = 2 + u32::from(u16::from_le_bytes([count, count_high]) % 600);
    let piece = u32::from(u16::from_le_bytes([piece, piece_high]));
    let values: Vec<Cv> = (0..count).map(|n| Cv(*blake3::hash(&n.to_le_bytes()).as_bytes())).collect();
    let id = merge_root(&values).unwrap();
    let tree = ProofTree::new(&values).unwrap();
    let own: Vec<Cv> = rest.as_chunks::<32>().0.iter().copied().map(Cv).collect();
    let own_value = own.first().copied().unwrap_or(Cv([0; 32]));
    assert!(!proves(id, count, piece, own_value, &own), "nobody can forge one");
    let _ = proves(FileId(own_value.0), u32::MAX, piece, own_value, &own);
    let Some((value, mut proof)) = tree.prove(piece) else {
        assert!(piece >= count && !proves(id, count, piece, values[0], &own));
        return;
    };
    assert_eq!(value, values[piece as usize]);
    assert!(proof.len() <= MAX_PROOF_LEN && proves(id, count, piece, value, &proof));
    assert!(!proves(id, count, (piece + 1) % count, value, &proof));
    let at = usize::from(flip) % (proof.len() * 32);
    proof[at / 32].0[at % 32] ^= 1 << (flip_bit % 8);
    assert!(!proves(id, count, piece, value, &proof));
}
