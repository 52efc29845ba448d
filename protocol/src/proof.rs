//! Proofs that a piece belongs to a file: the chaining values beside the way from the piece to the root of the file's hash
//! tree. With a piece's own value they rebuild the File ID, so that it can be checked when nothing else is known of
//! the file. (Bao, and BLAKE3's paper in section 6.4, call this verified streaming.)

use blake3::hazmat::{Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::{Cv, FileId};

/// The tree over the values of a file's pieces.
#[derive(Clone, Debug)]
pub struct ProofTree {
    leaves: u32,
    /// Of each subtree its left part, its right part, its own value; the value of the whole is none, and not here.
    nodes: Vec<Cv>,
}

/// A subtree: its leaves, and where its nodes end.
#[derive(Clone, Copy)]
struct Subtree {
    leaves: u32,
    end: usize,
}

/// The leaves of the left part: the largest power of two below their number.
fn left_of(leaves: u32) -> u32 {
    1 << (u32::BITS - 1 - (leaves - 1).leading_zeros())
}

/// Nodes of a subtree of so many leaves.
fn nodes_of(leaves: u32) -> usize {
    2 * leaves as usize - 1
}

impl ProofTree {
    /// The tree over these values, at least two.
    pub fn new(values: &[Cv]) -> Option<Self> {
        let leaves = u32::try_from(values.len()).ok().filter(|leaves| *leaves >= 2)?;
        let mut nodes = Vec::with_capacity(nodes_of(leaves));
        let (left, right) = values.split_at(left_of(leaves) as usize);
        build(left, &mut nodes);
        build(right, &mut nodes);
        Some(Self { leaves, nodes })
    }

    /// The value of a piece, and the proof of it, from the leaf upwards.
    pub fn prove(&self, piece: u32) -> Option<(Cv, Vec<Cv>)> {
        if piece >= self.leaves {
            return None;
        }
        let (mut at, mut piece) = (Subtree { leaves: self.leaves, end: self.nodes.len() + 1 }, piece);
        let mut proof = Vec::new();
        while at.leaves > 1 {
            let left = left_of(at.leaves);
            let right = Subtree { leaves: at.leaves - left, end: at.end - 1 };
            let left = Subtree { leaves: left, end: right.end - nodes_of(right.leaves) };
            let other = if piece < left.leaves {
                at = left;
                right
            } else {
                piece -= left.leaves;
                at = right;
                left
            };
            proof.push(*self.nodes.get(other.end - 1)?);
        }
        proof.reverse();
        Some((*self.nodes.get(at.end - 1)?, proof))
    }
}

fn build(values: &[Cv], nodes: &mut Vec<Cv>) -> Cv {
    let value = match values {
        [one] => *one,
        _ => {
            let (left, right) = values.split_at(left_of(values.len() as u32) as usize);
            let (left, right) = (build(left, nodes), build(right, nodes));
            Cv(merge_subtrees_non_root(&left.0, &right.0, Mode::Hash))
        }
    };
    nodes.push(value);
    value
}

/// Whether a piece's value and its proof rebuild the File ID of a file that has so many pieces.
pub fn proves(file_id: FileId, pieces: u32, piece: u32, value: Cv, proof: &[Cv]) -> bool {
    if pieces < 2 || piece >= pieces {
        return false;
    }
    // From the root downwards, whether the piece is on the left.
    let mut sides = Vec::with_capacity(proof.len());
    let (mut leaves, mut at) = (pieces, piece);
    while leaves > 1 {
        let left = left_of(leaves);
        let is_left = at < left;
        sides.push(is_left);
        (leaves, at) = if is_left { (left, at) } else { (leaves - left, at - left) };
    }
    if sides.len() != proof.len() {
        return false;
    }
    let mut value = value;
    for (place, (is_left, other)) in sides.iter().rev().zip(proof).enumerate() {
        let (left, right) = if *is_left { (&value, other) } else { (other, &value) };
        if place + 1 == proof.len() {
            return merge_subtrees_root(&left.0, &right.0, Mode::Hash) == blake3::Hash::from(file_id.0);
        }
        value = Cv(merge_subtrees_non_root(&left.0, &right.0, Mode::Hash));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limits::{GROUP_LEN, MAX_CHUNKS, MAX_PROOF_LEN},
        tree::{hash_group, merge_root},
    };

    fn values(count: u64) -> Vec<Cv> {
        (0..count).map(|group| hash_group(group, &group.to_le_bytes())).collect()
    }

    #[test]
    fn every_piece_of_every_shape_is_proven() {
        for count in 2..70 {
            let values = values(count);
            let id = merge_root(&values).unwrap();
            let tree = ProofTree::new(&values).unwrap();
            for (piece, value) in (0..).zip(&values) {
                let (found, proof) = tree.prove(piece).unwrap();
                assert_eq!(found, *value);
                assert!(proves(id, count as u32, piece, *value, &proof), "{piece} of {count}");
            }
            assert!(tree.prove(count as u32).is_none());
        }
        assert!(ProofTree::new(&values(1)).is_none());
    }

    #[test]
    fn a_proof_is_that_of_the_hash_of_the_whole() {
        let data: Vec<u8> = (0..5 * GROUP_LEN + 77).map(|i| (i * 7 / 3) as u8).collect();
        let groups: Vec<Cv> =
            (0..).zip(data.chunks(GROUP_LEN as usize)).map(|(n, part)| hash_group(n, part)).collect();
        let id = FileId(*blake3::hash(&data).as_bytes());
        let (value, proof) = ProofTree::new(&groups).unwrap().prove(5).unwrap();
        assert!(proves(id, 6, 5, value, &proof));
    }

    /// Fault 43.
    #[test]
    fn forged_proofs_are_refused() {
        let values = values(11);
        let id = merge_root(&values).unwrap();
        let tree = ProofTree::new(&values).unwrap();
        let (value, proof) = tree.prove(4).unwrap();
        assert!(proves(id, 11, 4, value, &proof));
        assert!(!proves(FileId([1; 32]), 11, 4, value, &proof));
        assert!(!proves(id, 11, 5, value, &proof), "another piece");
        assert!(!proves(id, 11, 4, values[5], &proof), "another value");
        assert!(!proves(id, 11, 4, value, &proof[1..]), "too short");
        assert!(!proves(id, 11, 4, value, &[proof.clone(), proof.clone()].concat()), "too long");
        let (last, proof_of_last) = tree.prove(10).unwrap();
        assert!(proves(id, 11, 10, last, &proof_of_last));
        assert!(!proves(id, 11, 11, last, &proof_of_last), "a piece after the last");
        assert!(
            !proves(id, 11, 11, value, &proof)
                && !proves(id, 1, 0, value, &[])
                && !proves(id, 0, 0, value, &[])
        );
        for at in 0..proof.len() {
            let mut forged = proof.clone();
            forged[at].0[0] ^= 1;
            assert!(!proves(id, 11, 4, value, &forged), "{at}");
        }
    }

    #[test]
    fn the_longest_proof_fits() {
        let (mut leaves, mut steps) = (MAX_CHUNKS as u32, 0);
        while leaves > 1 {
            leaves = left_of(leaves);
            steps += 1;
        }
        assert_eq!(steps, MAX_PROOF_LEN);
    }
}
