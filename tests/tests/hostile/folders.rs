//! A provider whose folder is not what it says.

use std::sync::Arc;

use p2p_protocol::{
    ChunkRange, ChunkSet, Cv, Manifest, Plan,
    bitmap::RangesError,
    limits::GROUP_LEN,
    manifest::{Entry, Node},
    proof::ProofTree,
    reason::PeerMisbehaved,
    tree::{TreeError, hash_group, hash_small, merge_root},
    wire::{
        chunk::{ChunkHeader, Encoding},
        peer::{Fetch, Kind, Message, Offer},
    },
};
use p2p_tests::{
    data,
    hostile::{Conversation, Ended, Heard, Scene},
    words,
};

/// A small file, and one of three chunks.
struct Folder {
    manifest: Manifest,
    small: Vec<u8>,
    long: Vec<u8>,
    values: Vec<Cv>,
    tree: ProofTree,
}

fn folder() -> Folder {
    let (small, long) = (data::random(1, 300), data::random(2, 2 * GROUP_LEN + 9));
    let groups = long.chunks(GROUP_LEN as usize);
    let values: Vec<Cv> = (0..).zip(groups).map(|(group, part)| hash_group(group, part)).collect();
    let file = |path: &str, bytes: &[u8], file_id| Entry {
        path: path.into(),
        modified_ns: None,
        node: Node::File { size: bytes.len() as u64, file_id, executable: false },
    };
    let entries =
        vec![file("long", &long, merge_root(&values).unwrap()), file("small", &small, hash_small(&small))];
    let tree = ProofTree::new(&values).unwrap();
    Folder { manifest: Manifest::new(entries).unwrap(), small, long, values, tree }
}

impl Folder {
    fn offer(&self) -> Offer {
        let size = self.manifest.size();
        Offer {
            name: "folder".into(),
            kind: Kind::Folder { manifest_len: self.manifest.encode().len() as u32 },
            size,
            allocated: size,
            chunk_log2: 18,
            file_id: Some(self.manifest.id()),
            resume_key: None,
            executable: false,
            modified_ns: None,
        }
    }

    /// Chunk 0 is the small file, the others are the pieces of the long one.
    fn stream(&self, transfer: u64, chunk: u32, change: impl Fn(&mut ChunkHeader, &mut Vec<u8>)) -> Vec<u8> {
        let plan = Plan::new(Arc::new(self.manifest.clone()), &ChunkSet::full(2), 18).unwrap();
        let (mut bytes, cv, proof) = match chunk.checked_sub(1) {
            None => (self.small.clone(), None, Vec::new()),
            Some(piece) => {
                let (value, proof) = self.tree.prove(piece).unwrap();
                let start = piece as usize * GROUP_LEN as usize;
                let end = start + plan.len_of(chunk) as usize;
                (self.long[start..end].to_vec(), Some(value), proof)
            }
        };
        let len = bytes.len() as u32;
        let mut header = ChunkHeader { transfer, index: chunk, len, encoding: Encoding::Raw, cv, proof };
        change(&mut header, &mut bytes);
        [header.encode(), bytes].concat()
    }
}

async fn offered(scene: &Scene, offer: Offer) -> Conversation {
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.say(Message::Offer(offer)).await;
    let needs = |message: &Message| matches!(message, Message::NeedManifest).then_some(());
    conversation.expect_that("NeedManifest", needs).await;
    conversation
}

async fn until_wanted(conversation: &mut Conversation) {
    let wants = |message: &Message| match message {
        Message::Want(want) => Some(want.ranges.len()),
        _ => None,
    };
    conversation.expect_that("Want", wants).await;
}

/// A conversation by which the victim wants this folder.
async fn wanted(scene: &Scene, folder: &Folder) -> Conversation {
    let mut conversation = offered(scene, folder.offer()).await;
    conversation.say(Message::Manifest(folder.manifest.encode())).await;
    until_wanted(&mut conversation).await;
    conversation
}

async fn thrown_out(mut scene: Scene, mut conversation: Conversation, fault: PeerMisbehaved) {
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    assert!(scene.victim.received().is_empty());
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

/// What was said of a folder before says nothing of one that is offered as larger.
#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_is_not_that_of_a_list_that_is_known_already_is_refused() {
    let (scene, folder) = (Scene::new(), folder());
    let mut begun = wanted(&scene, &folder).await;
    begun.connection().send_stream(&folder.stream(begun.id(), 0, |_, _| {})).await;
    begun.expect_that("Verified", |message| matches!(message, Message::Verified(_)).then_some(())).await;
    let size = folder.manifest.size() + 1;
    let mut conversation = offered(&scene, Offer { size, ..folder.offer() }).await;
    conversation.say(Message::Manifest(folder.manifest.encode())).await;
    thrown_out(scene, conversation, PeerMisbehaved::FalseManifest).await;
}

/// Faults 43, 53 and 57.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_entries_that_lies_is_refused() {
    let honest = folder();
    let bytes = honest.manifest.encode();
    let mut outside = bytes.clone();
    let at = outside.windows(5).position(|part| part == b"small").unwrap();
    outside[at..at + 5].copy_from_slice(b"../up");
    let mut another = bytes.clone();
    let last = another.len() - 1;
    another[last] ^= 1;
    let mut torn = bytes.clone();
    torn[0] = 9;
    for lie in [outside, another, torn] {
        let scene = Scene::new();
        let mut conversation = offered(&scene, honest.offer()).await;
        conversation.say(Message::Manifest(lie)).await;
        thrown_out(scene, conversation, PeerMisbehaved::FalseManifest).await;
    }
}

/// Fault 50.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_entries_of_another_length_is_refused() {
    let honest = folder();
    let long = [honest.manifest.encode(), vec![0]].concat();
    for lie in [long, Vec::new()] {
        let scene = Scene::new();
        let mut conversation = offered(&scene, honest.offer()).await;
        conversation.say(Message::Manifest(lie)).await;
        thrown_out(scene, conversation, PeerMisbehaved::FalseManifest).await;
    }
}

/// Fault 45.
#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_is_not_that_of_the_entries_is_refused() {
    let (scene, honest) = (Scene::new(), folder());
    let offer = Offer { size: honest.manifest.size() + 1, ..honest.offer() };
    let mut conversation = offered(&scene, offer).await;
    conversation.say(Message::Manifest(honest.manifest.encode())).await;
    thrown_out(scene, conversation, PeerMisbehaved::FalseManifest).await;
}

/// Fault 50.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_longer_than_any_is_refused_before_it_is_read() {
    let (mut scene, honest) = (Scene::new(), folder());
    let offer = Offer { kind: Kind::Folder { manifest_len: u32::MAX }, ..honest.offer() };
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.say(Message::Offer(offer)).await;
    assert!(matches!(conversation.hear().await, Heard::Message(Message::Refuse(_))));
    scene.check(&["an offer was refused"]);
}

/// Fault 43.
#[tokio::test(flavor = "multi_thread")]
async fn a_piece_whose_proof_is_forged_is_refused() {
    let (scene, honest) = (Scene::new(), folder());
    let conversation = wanted(&scene, &honest).await;
    let forged = honest.stream(conversation.id(), 1, |header, _| header.proof[0].0[0] ^= 1);
    conversation.connection().send_stream(&forged).await;
    thrown_out(scene, conversation, PeerMisbehaved::ForgedList(TreeError::Mismatch)).await;
}

/// Fault 41.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_a_folder_that_are_wrong_are_asked_for_again() {
    let (mut scene, honest) = (Scene::new(), folder());
    let mut conversation = wanted(&scene, &honest).await;
    for chunk in 0..4 {
        let wrong = honest.stream(conversation.id(), chunk, |_, bytes| bytes[0] ^= 1);
        conversation.connection().send_stream(&wrong).await;
        let failed = |message: &Message| match message {
            Message::ChunkFailed(failed) => Some(failed.chunk),
            _ => None,
        };
        assert_eq!(conversation.expect_that("ChunkFailed", failed).await, chunk);
        let right = honest.stream(conversation.id(), chunk, |_, _| {});
        conversation.connection().send_stream(&right).await;
    }
    let done = |message: &Message| match message {
        Message::Done(done) => Some(done.file_id),
        _ => None,
    };
    assert_eq!(conversation.expect_that("Done", done).await, honest.manifest.id());
    let folder = scene.victim.inbox().join("folder");
    assert_eq!(std::fs::read(folder.join("small")).unwrap(), honest.small);
    assert_eq!(std::fs::read(folder.join("long")).unwrap(), honest.long);
    std::fs::remove_dir_all(folder).unwrap();
    scene.check(&["chunk failed"]);
}

/// Offers a folder of which the victim has an older version, and hears for which files it wants the values.
async fn asked_for_values(scene: &Scene, honest: &Folder) -> Conversation {
    let older = scene.victim.inbox().join("folder");
    std::fs::create_dir_all(&older).unwrap();
    let mut long = honest.long.clone();
    long[7] ^= 1;
    std::fs::write(older.join("long"), long).unwrap();
    let mut conversation = offered(scene, honest.offer()).await;
    conversation.say(Message::Manifest(honest.manifest.encode())).await;
    let asked = |message: &Message| match message {
        Message::NeedValues(files) => Some(files.clone()),
        _ => None,
    };
    let files = conversation.expect_that("NeedValues", asked).await;
    assert_eq!(files, [ChunkRange { start: 0, count: 1 }]);
    conversation
}

/// Fault 43.
#[tokio::test(flavor = "multi_thread")]
async fn forged_values_of_a_folders_file_are_refused() {
    let honest = folder();
    let mut forged = honest.values.clone();
    forged[1].0[0] ^= 1;
    let many = [honest.values.clone(), honest.values.clone()].concat();
    for lie in [vec![forged], vec![many], vec![honest.values[..1].to_vec(), Vec::new()]] {
        let mut scene = Scene::new();
        let mut conversation = asked_for_values(&scene, &honest).await;
        for part in lie {
            conversation.say(Message::Values(part)).await;
        }
        let fault = PeerMisbehaved::ForgedList(TreeError::Mismatch);
        assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
        std::fs::remove_dir_all(scene.victim.inbox().join("folder")).unwrap();
        scene.check(&["peer misbehaved", &fault.to_string()]);
    }
}

/// Who has no values says so, and the file moves whole; else what is right of the older version does not.
#[tokio::test(flavor = "multi_thread")]
async fn without_values_a_file_of_a_folder_is_moved_whole() {
    for (values, wanted) in [(Vec::new(), 4), (folder().values, 2)] {
        let (scene, honest) = (Scene::new(), folder());
        let mut conversation = asked_for_values(&scene, &honest).await;
        conversation.say(Message::Values(values)).await;
        let accepted = |message: &Message| match message {
            Message::AcceptFolder(accept) => Some(accept.accept.have_count),
            _ => None,
        };
        assert_eq!(conversation.expect_that("AcceptFolder", accepted).await, 4 - wanted);
    }
}

/// Fault 44.
#[tokio::test(flavor = "multi_thread")]
async fn only_values_that_there_are_can_be_asked_for_and_once() {
    let far = ChunkRange { start: 7, count: 1 };
    let small = ChunkRange { start: 1, count: 1 };
    let long = ChunkRange { start: 0, count: 1 };
    let unasked = PeerMisbehaved::UnexpectedMessage("NeedValues");
    for (asked, fault) in [
        (vec![far], PeerMisbehaved::Ranges(RangesError::Outside(far))),
        (vec![small], PeerMisbehaved::NoSuchPage(1)),
        (vec![long], unasked),
    ] {
        let mut scene = Scene::new();
        let honest = folder();
        let shared = scene.victim.file("folder");
        std::fs::create_dir_all(&shared).unwrap();
        std::fs::write(shared.join("long"), &honest.long).unwrap();
        std::fs::write(shared.join("small"), &honest.small).unwrap();
        let id = scene.victim.cli().run(words!["share", shared]).success().text().parse().unwrap();
        let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
        conversation.say(Message::Fetch(Fetch { file_id: id, eager: false })).await;
        let offer = |message: &Message| matches!(message, Message::Offer(_)).then_some(());
        conversation.expect_that("Offer", offer).await;
        conversation.say(Message::NeedValues(asked.clone())).await;
        if asked == [long] {
            let values = |message: &Message| match message {
                Message::Values(values) => Some(values.clone()),
                _ => None,
            };
            assert_eq!(conversation.expect_that("Values", values).await, honest.values);
            conversation.say(Message::NeedValues(asked)).await;
        }
        assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
        std::fs::remove_dir_all(shared).unwrap();
        scene.check(&["peer misbehaved", &fault.to_string()]);
    }
}
