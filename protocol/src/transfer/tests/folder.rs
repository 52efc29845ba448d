//! A folder's transfer: the same machines, over a plan.

use std::sync::Arc;

use super::*;
use crate::{
    Layout, Manifest, Plan,
    limits::GROUP_LEN,
    manifest::{Entry, Node},
    plan::Span,
    proof::ProofTree,
    tree::{TreeError, hash_group, hash_small, merge_root, verify_in},
    wire::chunk::Encoding,
};

/// Three small files that share a chunk, and one of three pieces.
struct Folder {
    plan: Arc<Plan>,
    contents: Vec<Vec<u8>>,
    tree: ProofTree,
}

impl Folder {
    fn new() -> Self {
        let content = |len: usize, seed: u8| (0..len).map(|at| (at / 3) as u8 ^ seed).collect::<Vec<_>>();
        let contents =
            vec![content(10, 1), content(2 * GROUP_LEN as usize + 5, 2), content(300, 3), content(7, 4)];
        let long = contents[1].chunks(GROUP_LEN as usize);
        let values: Vec<Cv> = (0..).zip(long).map(|(group, part)| hash_group(group, part)).collect();
        let ids = [
            hash_small(&contents[0]),
            merge_root(&values).unwrap(),
            hash_small(&contents[2]),
            hash_small(&contents[3]),
        ];
        let entries = contents.iter().zip(ids).enumerate().map(|(at, (content, file_id))| Entry {
            path: format!("f{at}"),
            modified_ns: None,
            node: Node::File { size: content.len() as u64, file_id, executable: false },
        });
        let manifest = Arc::new(Manifest::new(entries.collect()).unwrap());
        let plan = Arc::new(Plan::new(manifest, &ChunkSet::full(4), 18).unwrap());
        assert_eq!(plan.chunks(), 4);
        Self { plan, contents, tree: ProofTree::new(&values).unwrap() }
    }

    fn layout(&self) -> Layout {
        Layout::Folder(self.plan.clone())
    }

    fn bytes(&self, chunk: u32) -> Vec<u8> {
        match self.plan.span(chunk).unwrap() {
            Span::Files(entries) => {
                entries.iter().flat_map(|entry| self.contents[*entry as usize].clone()).collect()
            }
            Span::Piece { entry, geometry, piece } => {
                let range = geometry.bytes_of(piece);
                self.contents[entry as usize][range.start as usize..range.end as usize].to_vec()
            }
        }
    }

    fn header(&self, chunk: u32) -> ChunkHeader {
        let (cv, proof) = match self.plan.span(chunk) {
            Some(Span::Piece { piece, .. }) => {
                let (value, proof) = self.tree.prove(piece).unwrap();
                (Some(value), proof)
            }
            _ => (None, Vec::new()),
        };
        let len = self.plan.len_of(chunk) as u32;
        ChunkHeader { transfer: 0, index: chunk, len, encoding: Encoding::Raw, cv, proof }
    }

    fn receiver(&self) -> Receiver {
        let start = ReceiverStart {
            wanted: None,
            layout: self.layout(),
            file_id: Some(self.plan.id()),
            verified: ChunkSet::new(),
            doubtful: ChunkSet::new(),
            claimed: ChunkSet::new(),
            values: None,
            credit: 8,
            eager: false,
        };
        Receiver::new(start, Now::ZERO)
    }
}

#[test]
fn a_folder_is_sent_from_offer_to_done() {
    let folder = Folder::new();
    let accept = Accept { chunk_log2: 18, have_count: 0, have: Vec::new() };
    let mut provider = Provider::new(folder.layout(), folder.plan.id(), &accept, Now::ZERO).unwrap();
    let mut receiver = folder.receiver();
    let mut published = false;
    for _ in 0..200 {
        while let Some(action) = receiver.next_action() {
            match action {
                ReceiverAction::Send(message) => {
                    provider.handle(ProviderInput::Message(message), Now::ZERO).unwrap();
                }
                ReceiverAction::Publish => {
                    published = true;
                    let told = ReceiverInput::Published { name: "d".into(), fetchable: false };
                    receiver.handle(told, Now::ZERO).unwrap();
                }
                ReceiverAction::Completed => {}
                other => panic!("{other:?}"),
            }
        }
        while let Some(action) = provider.next_action() {
            match action {
                ProviderAction::SendChunk(chunk) => {
                    let header = ChunkHeader::decode(&folder.header(chunk).encode()[2..]).unwrap();
                    let Ok(Admission::Take(expected)) = receiver.admit(&header, Now::ZERO) else {
                        panic!("{chunk}")
                    };
                    assert!(
                        verify_in(&folder.layout(), chunk, expected, Some(folder.bytes(chunk))).is_some()
                    );
                    receiver.handle(ReceiverInput::ChunkStored { chunk }, Now::ZERO).unwrap();
                    let bytes = folder.plan.len_of(chunk);
                    provider.handle(ProviderInput::ChunkAcked { chunk, bytes }, Now::ZERO).unwrap();
                }
                ProviderAction::Completed(done) => {
                    assert_eq!(done.file_id, folder.plan.id());
                    let (here, there) = (receiver.progress(Now::ZERO), provider.progress(Now::ZERO));
                    assert_eq!(here.verified_bytes, folder.plan.bytes());
                    assert_eq!(
                        (here.verified_bytes, here.total_bytes),
                        (there.verified_bytes, there.total_bytes)
                    );
                    assert!(published);
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("never done");
}

/// Faults 43 and 48.
#[test]
fn a_piece_without_its_proof_is_forged() {
    let folder = Folder::new();
    let admit = |header: &ChunkHeader| folder.receiver().admit(header, Now::ZERO);
    let good = folder.header(2);
    assert!(matches!(admit(&good), Ok(Admission::Take(Expected::Subtree(_)))));
    let forged = Err(PeerMisbehaved::ForgedList(TreeError::Mismatch));
    assert_eq!(admit(&ChunkHeader { proof: Vec::new(), ..good.clone() }), forged);
    assert_eq!(admit(&ChunkHeader { cv: Some(Cv([7; 32])), ..good.clone() }), forged);
    assert_eq!(admit(&ChunkHeader { cv: None, ..good.clone() }), Err(PeerMisbehaved::ChunkHeader(2)));
    let small = folder.header(0);
    let odd = [
        ChunkHeader { proof: good.proof.clone(), ..small.clone() },
        ChunkHeader { encoding: Encoding::Zeros, ..small.clone() },
        ChunkHeader { len: small.len + 1, ..small },
    ];
    for header in odd {
        assert_eq!(admit(&header), Err(PeerMisbehaved::ChunkHeader(0)), "{header:?}");
    }
    let long = ChunkHeader { proof: vec![Cv([0; 32]); 25], ..good };
    assert!(ChunkHeader::decode(&long.encode()[2..]).is_err());
}

/// Fault 41.
#[test]
fn every_file_of_a_chunk_must_be_the_right_one() {
    let folder = Folder::new();
    let verifies = |bytes: Vec<u8>| verify_in(&folder.layout(), 0, Expected::Files, Some(bytes)).is_some();
    let bytes = folder.bytes(0);
    assert!(verifies(bytes.clone()));
    for at in [0, 9, 10, 309, 310, 316] {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        assert!(!verifies(wrong), "{at}");
    }
    assert!(
        !verifies(bytes[1..].to_vec()) && !verifies([&bytes[..], b"x"].concat()) && !verifies(Vec::new())
    );
    let root = Expected::Root(folder.plan.id());
    assert!(verify_in(&folder.layout(), 0, root, Some(bytes.clone())).is_none());
    assert!(verify_in::<Vec<u8>>(&folder.layout(), 0, Expected::Files, None).is_none(), "they are not zeros");
    assert!(
        verify_in(&folder.layout(), 2, Expected::Files, Some(folder.bytes(2))).is_none(),
        "nothing is kept of it"
    );
}

#[test]
fn what_need_not_be_moved_counts_from_the_start() {
    let folder = Folder::new();
    let manifest = folder.plan.manifest().clone();
    let plan = Arc::new(Plan::new(manifest.clone(), &[0, 3].into_iter().collect(), 18).unwrap());
    let start = ReceiverStart {
        wanted: None,
        layout: Layout::Folder(plan),
        file_id: Some(manifest.id()),
        verified: ChunkSet::new(),
        doubtful: ChunkSet::new(),
        claimed: ChunkSet::new(),
        values: None,
        credit: 1,
        eager: false,
    };
    let progress = Receiver::new(start, Now::ZERO).progress(Now::ZERO);
    assert_eq!((progress.verified_bytes, progress.total_bytes), (manifest.size() - 17, manifest.size()));
    assert_eq!(progress.chunks_total, 1);
}
