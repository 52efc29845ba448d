//! Chunks that come before anybody has asked for them, as the only chunk of a small file may.

use p2p_protocol::{
    limits::{MAX_EARLY_CHUNKS, MAX_UNASKED_CHUNKS},
    reason::{PeerMisbehaved, RefuseReason},
    wire::peer::{Message, Offer},
};
use p2p_tests::{
    data::CHUNK,
    hostile::{Content, Conversation, Ended, Heard, Scene},
};

fn content() -> Content {
    Content::random("hostile.bin", 1, CHUNK - 5)
}

/// Hears that the chunk which is there already is taken, and that nothing else is wanted.
async fn until_done(conversation: &mut Conversation, content: &Content) {
    let done = |message: &Message| match message {
        Message::ChunkFailed(failed) => panic!("{failed:?}"),
        Message::Done(done) => Some(done.clone()),
        _ => None,
    };
    let done = conversation.expect_that("Done", done).await;
    assert_eq!(done.file_id, content.file_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_chunk_may_come_before_its_offer_is_taken() {
    let (mut scene, content) = (Scene::new(), content());
    let connection = scene.hostile.dial(scene.victim.address()).await;
    for early in [true, false] {
        let mut conversation = connection.open().await;
        if early {
            // Before the first message even.
            conversation.send_chunk(&content, 0).await;
        }
        conversation.say(Message::Offer(content.offer())).await;
        if !early {
            // What is here is not taken again, and is no fault either.
            conversation.send_chunk(&content, 0).await;
        }
        until_done(&mut conversation, &content).await;
    }
    assert_eq!(std::fs::read(scene.victim.inbox().join("hostile.bin")).unwrap(), content.bytes());
    scene.check(&[]);
}

/// Fault 48.
#[tokio::test(flavor = "multi_thread")]
async fn early_chunks_of_refused_offers_are_no_fault() {
    let (mut scene, content) = (Scene::new(), content());
    let connection = scene.hostile.dial(scene.victim.address()).await;
    for n in 0..MAX_UNASKED_CHUNKS * 3 {
        let mut conversation = connection.open().await;
        if n % 2 == 0 {
            conversation.send_chunk(&content, 0).await;
        }
        conversation.say(Message::Offer(Offer { name: "..".into(), ..content.offer() })).await;
        assert_eq!(conversation.hear().await, Heard::Message(Message::Refuse(RefuseReason::Name)));
        if n % 2 == 1 {
            // When the answer is there already.
            conversation.send_chunk(&content, 0).await;
        }
    }
    let mut conversation = connection.open().await;
    conversation.say(Message::Offer(content.offer())).await;
    conversation.send_chunk(&content, 0).await;
    until_done(&mut conversation, &content).await;
    scene.check(&[]);
}

/// Fault 48.
#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_early_chunks_find_room() {
    let mut scene = Scene::new();
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let mut conversations = Vec::new();
    for n in 0..2 * MAX_EARLY_CHUNKS {
        let content = Content::random(&format!("early-{n}.bin"), n as u64, CHUNK - 5);
        let conversation = connection.open().await;
        conversation.send_chunk(&content, 0).await;
        conversations.push((conversation, content));
    }
    for (mut conversation, content) in conversations {
        conversation.say(Message::Offer(content.offer())).await;
        assert!(matches!(conversation.expect().await, Message::Accept(_)));
        loop {
            match conversation.expect().await {
                // What was stopped is wanted like any other; what was held is on its way to the disk already, and a
                // second copy of it is ignored.
                Message::Want(want) if !want.ranges.is_empty() => conversation.send_chunk(&content, 0).await,
                Message::Done(done) => {
                    assert_eq!(done.file_id, content.file_id());
                    break;
                }
                _ => {}
            }
        }
    }
    assert_eq!(scene.victim.received().len(), 2 * MAX_EARLY_CHUNKS);
    scene.check(&[]);
}

/// Fault 48.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_early_chunk_and_those_of_larger_files_are_not_asked_for() {
    let (mut scene, content) = (Scene::new(), content());
    let large = Content::random("hostile.bin", 2, 3 * CHUNK);
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let conversation = connection.open().await;
    for _ in 0..MAX_UNASKED_CHUNKS {
        conversation.send_chunk(&content, 0).await;
        conversation.send_chunk(&large, 1).await;
    }
    let fault = PeerMisbehaved::UnaskedChunks;
    assert_eq!(connection.ended().await, Ended::misbehaved(&fault));
    scene.check(&["peer misbehaved", &fault.to_string()]);
}
