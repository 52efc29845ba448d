//! Conversations that end at every step: cancelled by their owner, given up or left without a word by the peer.

use p2p_protocol::{
    ChunkRange,
    limits::{HASH_FIRST_LEN, MAX_CHUNK_FAILURES},
    reason::{AbortReason, PeerMisbehaved},
    wire::peer::{Accept, Done, Message, Offer, Want},
};
use p2p_tests::{
    Running,
    data::CHUNK,
    hostile::{Content, Conversation, Ended, Heard, Scene},
    until::until_true,
    words,
};

const CHUNKS: u32 = 8;

fn content() -> Content {
    Content::random("hostile.bin", 1, u64::from(CHUNKS) * CHUNK)
}

/// How far a provider goes, and then waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provided {
    Offer,
    Page,
    HalfAChunk,
    OneChunk,
    AllButOne,
}

const PROVIDED: [Provided; 5] =
    [Provided::Offer, Provided::Page, Provided::HalfAChunk, Provided::OneChunk, Provided::AllButOne];

/// Offers to the victim, and goes on as far as that.
async fn provide(scene: &Scene, content: &Content, far: Provided) -> Conversation {
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.offer(content).await;
    if far == Provided::Offer {
        return conversation;
    }
    let wanted = conversation.until_wanted(content).await;
    match far {
        Provided::HalfAChunk => {
            let stream = content.chunk_stream(conversation.id(), wanted[0]);
            let mut half = conversation.connection().0.open_uni().await.unwrap();
            half.write_all(&stream[..stream.len() / 2]).await.unwrap();
            // Dropping it would be its end.
            std::mem::forget(half);
        }
        Provided::OneChunk | Provided::AllButOne => {
            let count = if far == Provided::OneChunk { 1 } else { wanted.len() - 1 };
            for chunk in &wanted[..count] {
                conversation.send_chunk(content, *chunk).await;
                let verified = |message: &Message| matches!(message, Message::Verified(_)).then_some(());
                conversation.expect_that("Verified", verified).await;
            }
        }
        _ => {}
    }
    conversation
}

fn abort(message: &Message) -> Option<AbortReason> {
    match message {
        Message::Abort(reason) => Some(*reason),
        _ => None,
    }
}

/// The number of the victim's one transfer that has not ended.
fn unfinished(scene: &Scene) -> String {
    let transfers = scene.victim.transfers();
    let open: Vec<_> = transfers.iter().filter(|line| line["ended_ms"].is_null()).collect();
    assert_eq!(open.len(), 1, "{transfers:?}");
    open[0]["transfer"].to_string()
}

/// Fault 37.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_cancels_at_any_step_keeps_nothing() {
    let mut scene = Scene::new();
    let content = content();
    let before = scene.victim.descriptors();
    for far in PROVIDED {
        let mut conversation = provide(&scene, &content, far).await;
        scene.victim.cli().json(words!["cancel", unfinished(&scene)]).success();
        assert_eq!(conversation.expect_that("Abort", abort).await, AbortReason::Cancelled, "{far:?}");
        until_true("nothing is left", || scene.victim.partials().is_empty());
        assert!(scene.victim.received().is_empty(), "{far:?}");
        conversation.connection().0.close(0u32.into(), b"");
    }
    until_true("no descriptor is left", || scene.victim.descriptors() <= before + 2);
    scene.check(&[]);
}

/// Fault 37.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cancels_at_any_step_leaves_nothing() {
    let mut scene = Scene::new();
    let content = content();
    for far in PROVIDED {
        let mut conversation = provide(&scene, &content, far).await;
        conversation.say(Message::Abort(AbortReason::Cancelled)).await;
        until_true("nothing is left", || scene.victim.partials().is_empty());
        assert!(scene.victim.received().is_empty(), "{far:?}");
        scene.victim.settled();
        conversation.connection().0.close(0u32.into(), b"");
    }
    scene.check(&[]);
}

/// Fault 60.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_may_vanish_after_any_message() {
    let mut scene = Scene::new();
    let content = content();
    for far in PROVIDED {
        let conversation = provide(&scene, &content, far).await;
        conversation.connection().0.close(0u32.into(), b"");
    }
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.offer(&content).await;
    let wanted = conversation.until_wanted(&content).await;
    assert_eq!(wanted.len(), 1, "what came before is not wanted again");
    conversation.provide(&content, wanted).await;
    assert_eq!(std::fs::read(scene.victim.inbox().join("hostile.bin")).unwrap(), content.bytes());
    scene.check(&[]);
}

/// How far a receiver goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Nothing,
    Accept,
    Want,
    Verified,
}

const TAKEN: [Taken; 4] = [Taken::Nothing, Taken::Accept, Taken::Want, Taken::Verified];

/// Begins a send of the victim's.
fn send(scene: &Scene, name: &str, len: u64) -> Running {
    let file = scene.victim.new_file(name, 1, len);
    scene.victim.cli().start_json(words!["send", file, "--to", scene.hostile.address()])
}

/// Hears the victim's offer, and goes on as far as that.
async fn take(scene: &Scene, far: Taken) -> (Conversation, Offer) {
    let mut conversation = scene.hostile.accept().await.accept().await;
    let Message::Offer(offer) = conversation.expect().await else { panic!("expected Offer") };
    if far == Taken::Nothing {
        return (conversation, offer);
    }
    let accept = Accept { chunk_log2: offer.chunk_log2, have_count: 0, have: Vec::new() };
    conversation.say(Message::Accept(accept)).await;
    if far == Taken::Accept {
        return (conversation, offer);
    }
    let ranges = vec![ChunkRange { start: 0, count: CHUNKS }];
    conversation.say(Message::Want(Want { ranges: ranges.clone(), credit: CHUNKS })).await;
    for _ in 0..CHUNKS {
        let mut stream = conversation.connection().0.accept_uni().await.unwrap();
        stream.read_to_end(2 * CHUNK as usize).await.unwrap();
    }
    if far == Taken::Verified {
        conversation.say(Message::Verified(ranges)).await;
    }
    (conversation, offer)
}

/// Fault 37.
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_cancels_at_any_step_is_heard() {
    let mut scene = Scene::new();
    let before = scene.victim.descriptors();
    for far in TAKEN {
        let running = send(&scene, "f.bin", u64::from(CHUNKS) * CHUNK);
        let (mut conversation, _) = take(&scene, far).await;
        scene.victim.cli().json(words!["cancel", unfinished(&scene)]).success();
        assert_eq!(conversation.expect_that("Abort", abort).await, AbortReason::Cancelled, "{far:?}");
        tokio::task::spawn_blocking(move || running.finish()).await.unwrap().exits(1);
        conversation.connection().0.close(0u32.into(), b"");
    }
    until_true("no descriptor is left", || scene.victim.descriptors() <= before + 2);
    std::fs::remove_file(scene.victim.file("f.bin")).unwrap();
    scene.check(&[]);
}

/// Fault 60.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_may_vanish_after_any_message() {
    let mut scene = Scene::new();
    let running = send(&scene, "f.bin", u64::from(CHUNKS) * CHUNK);
    for far in TAKEN {
        let (conversation, _) = take(&scene, far).await;
        conversation.connection().0.close(0u32.into(), b"");
    }
    let (mut conversation, offer) = take(&scene, Taken::Verified).await;
    let file_id = offer.file_id.unwrap();
    conversation.say(Message::Done(Done { file_id, name: "f.bin".into(), fetchable: false })).await;
    let sent = tokio::task::spawn_blocking(move || running.finish()).await.unwrap().success();
    assert!(sent.event("retrying")["attempt"].as_u64().is_some_and(|attempt| attempt >= 4), "{sent}");
    std::fs::remove_file(scene.victim.file("f.bin")).unwrap();
    scene.check(&[]);
}

/// Fault 36.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_sender_spoils_nothing_of_a_good_one_s() {
    let mut scene = Scene::new();
    let len = HASH_FIRST_LEN / 2;
    let content = Content::random("same.bin", 5, len);
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.offer(&content).await;
    let wanted = conversation.until_wanted(&content).await;
    let bad = wanted[0];
    let mut corrupt = content.chunk_stream(conversation.id(), bad);
    *corrupt.last_mut().unwrap() ^= 1;
    // One good chunk, and then nothing but lies, with the honest one's whole transfer in between.
    conversation.send_chunk(&content, wanted[1]).await;
    conversation.connection().send_stream(&corrupt).await;
    let file = scene.honest.new_file("same.bin", 5, len);
    let sent = scene.honest.cli().json(words!["send", file, "--to", scene.victim.address()]).success();
    assert_eq!(sent.moved(), len, "nothing of the other's is taken for its own\n{sent}");
    let ended = loop {
        match conversation.hear().await {
            Heard::Message(Message::Want(want)) => {
                if want.ranges.iter().any(|range| (range.start..range.start + range.count).contains(&bad)) {
                    conversation.connection().send_stream(&corrupt).await;
                }
            }
            Heard::Message(_) => {}
            Heard::End => break conversation.connection().ended().await,
            Heard::Closed(ended) => break ended,
        }
    };
    let fault = PeerMisbehaved::BadChunks(MAX_CHUNK_FAILURES);
    assert_eq!(ended, Ended::misbehaved(&fault));
    assert_eq!(std::fs::read(scene.victim.inbox().join("same.bin")).unwrap(), content.bytes());
    std::fs::remove_file(file).unwrap();
    scene.check(&["peer misbehaved", &fault.to_string()]);
}
