//! A provider whose chunks are not what they should be.

use p2p_protocol::{
    limits::{MAX_BIDI_STREAMS, MAX_CHUNK_FAILURES, MAX_UNASKED_CHUNKS},
    reason::{ChunkFailure, PeerMisbehaved},
    wire::{
        chunk::{ChunkHeader, Encoding},
        peer::{ChunkFailed, Message},
    },
};
use p2p_tests::{
    data::CHUNK,
    hostile::{Content, Conversation, Ended, Heard, Scene},
    words,
};

const CHUNKS: u64 = 8;

fn content() -> Content {
    Content::random("hostile.bin", 1, CHUNKS * CHUNK - 100)
}

/// A conversation in which the victim wants chunks.
async fn wanted(scene: &Scene, content: &Content) -> (Conversation, Vec<u32>) {
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let mut conversation = connection.open().await;
    conversation.offer(content).await;
    let wanted = conversation.until_wanted(content).await;
    (conversation, wanted)
}

fn failure(message: &Message) -> Option<ChunkFailed> {
    match message {
        Message::ChunkFailed(failed) => Some(*failed),
        _ => None,
    }
}

/// The chunk's stream with its last byte wrong.
fn corrupt(content: &Content, transfer: u64, chunk: u32) -> Vec<u8> {
    let mut bytes = content.chunk_stream(transfer, chunk);
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

/// What the victim shows of the hostile transfer.
fn shown(scene: &Scene) -> serde_json::Value {
    let transfers = scene.victim.transfers();
    let it = transfers.iter().find(|line| line["name"] == "hostile.bin");
    let number = it.unwrap_or_else(|| panic!("{transfers:?}"))["transfer"].to_string();
    scene.victim.cli().json(words!["show", number]).success().event("detail").clone()
}

/// Spoils one chunk's stream once, is honest otherwise, and expects the victim to drop the chunk for this reason, to
/// ask for it again, and to end with the right content.
async fn spoiled_once(spoil: impl Fn(&Content, &Conversation, u32) -> Vec<u8>, expected: ChunkFailure) {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, mut wanted) = wanted(&scene, &content).await;
    let bad = wanted.remove(0);
    let stream = spoil(&content, &conversation, bad);
    conversation.connection().send_stream(&stream).await;
    let failed = conversation.expect_that("ChunkFailed", failure).await;
    assert_eq!(failed, ChunkFailed { chunk: bad, reason: expected });
    conversation.provide(&content, wanted).await;
    assert_eq!(std::fs::read(scene.victim.inbox().join("hostile.bin")).unwrap(), content.bytes());
    let shown = shown(&scene);
    let word = format!("{expected:?}").to_lowercase();
    assert_eq!(shown["chunks_failed"], 1, "{shown}");
    assert_eq!(shown["failed_chunks"], serde_json::json!([{ "chunk": bad, "reason": word }]), "{shown}");
    scene.check(&["chunk failed"]);
}

/// Fault 41.
#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_chunk_is_dropped_counted_and_asked_for_again() {
    let spoil =
        |content: &Content, conversation: &Conversation, chunk| corrupt(content, conversation.id(), chunk);
    spoiled_once(spoil, ChunkFailure::Corrupt).await;
}

/// Fault 42.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_chunk_at_a_wrong_index_is_rejected() {
    let spoil = |content: &Content, conversation: &Conversation, chunk: u32| {
        let other = if chunk == 1 { 2 } else { 1 };
        [&content.header(conversation.id(), chunk).encode(), content.chunk(other)].concat()
    };
    spoiled_once(spoil, ChunkFailure::Corrupt).await;
}

/// Fault 41.
#[tokio::test(flavor = "multi_thread")]
async fn zeros_that_are_none_are_rejected() {
    let spoil = |content: &Content, conversation: &Conversation, chunk| {
        ChunkHeader { encoding: Encoding::Zeros, ..content.header(conversation.id(), chunk) }.encode()
    };
    spoiled_once(spoil, ChunkFailure::Corrupt).await;
}

/// Fault 49.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_cut_short_is_asked_for_again() {
    let spoil = |content: &Content, conversation: &Conversation, chunk| {
        let mut stream = content.chunk_stream(conversation.id(), chunk);
        stream.truncate(stream.len() / 2);
        stream
    };
    spoiled_once(spoil, ChunkFailure::Truncated).await;
}

/// Fault 49.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_goes_on_too_long_is_asked_for_again() {
    let spoil = |content: &Content, conversation: &Conversation, chunk| {
        let mut stream = content.chunk_stream(conversation.id(), chunk);
        stream.extend_from_slice(&[0; 100]);
        stream
    };
    spoiled_once(spoil, ChunkFailure::Truncated).await;
}

/// Fault 41.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_never_verifies_ends_the_connection() {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, wanted) = wanted(&scene, &content).await;
    let bad = wanted[0];
    conversation.connection().send_stream(&corrupt(&content, conversation.id(), bad)).await;
    let ended = loop {
        match conversation.hear().await {
            Heard::Message(Message::Want(want)) => {
                if want.ranges.iter().any(|range| (range.start..range.start + range.count).contains(&bad)) {
                    conversation.connection().send_stream(&corrupt(&content, conversation.id(), bad)).await;
                }
            }
            Heard::Message(Message::ChunkFailed(failed)) => assert_eq!(failed.chunk, bad),
            Heard::Message(other) => panic!("{other:?} after a bad chunk"),
            Heard::End => break conversation.connection().ended().await,
            Heard::Closed(ended) => break ended,
        }
    };
    let fault = PeerMisbehaved::BadChunks(MAX_CHUNK_FAILURES);
    assert_eq!(ended, Ended::misbehaved(&fault));
    assert!(scene.victim.received().iter().all(|path| !path.ends_with("hostile.bin")));
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

/// Sends one stream, and expects the victim to close the connection for this fault.
async fn condemned(stream: impl Fn(&Content, &Conversation) -> Vec<u8>, fault: PeerMisbehaved) {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, _) = wanted(&scene, &content).await;
    conversation.connection().send_stream(&stream(&content, &conversation)).await;
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

/// Fault 42.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_beyond_the_file_ends_the_connection() {
    let beyond = CHUNKS as u32;
    let stream = move |content: &Content, conversation: &Conversation| {
        let header = ChunkHeader { index: beyond, ..content.header(conversation.id(), 0) };
        [&header.encode(), content.chunk(0)].concat()
    };
    condemned(stream, PeerMisbehaved::ChunkHeader(beyond)).await;
}

/// Fault 49.
#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_contradicts_the_offer_ends_the_connection() {
    for len in [0, 1, CHUNK as u32 - 1, CHUNK as u32 + 1, u32::MAX] {
        let stream = move |content: &Content, conversation: &Conversation| {
            ChunkHeader { len, ..content.header(conversation.id(), 0) }.encode()
        };
        condemned(stream, PeerMisbehaved::ChunkHeader(0)).await;
    }
}

/// Fault 50.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_too_long_ends_the_connection() {
    condemned(|_, _| vec![0xff; 200], PeerMisbehaved::FrameTooLong(0xffff)).await;
}

/// Fault 50.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_does_not_decode_ends_the_connection() {
    let stream = |content: &Content, conversation: &Conversation| {
        let mut bytes = content.header(conversation.id(), 0).encode();
        // One byte more than a header has.
        bytes[0] += 1;
        bytes.push(0);
        bytes
    };
    condemned(stream, PeerMisbehaved::MalformedFrame).await;
}

/// Fault 48.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_nobody_asked_for_are_ignored_within_a_quota() {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, mut wanted) = wanted(&scene, &content).await;
    // Each of them twice: the second is not wanted.
    let first = wanted.remove(0);
    for _ in 0..2 {
        conversation.send_chunk(&content, first).await;
    }
    conversation.provide(&content, wanted).await;
    assert_eq!(std::fs::read(scene.victim.inbox().join("hostile.bin")).unwrap(), content.bytes());
    scene.check(&[]);
}

/// Fault 48.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_chunks_that_nobody_asked_for_end_the_connection() {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, wanted) = wanted(&scene, &content).await;
    for _ in 0..MAX_UNASKED_CHUNKS * 2 {
        conversation.send_chunk(&content, wanted[0]).await;
    }
    let fault = PeerMisbehaved::UnaskedChunks;
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

/// Fault 48.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_for_no_conversation_end_the_connection() {
    let (mut scene, content) = (Scene::new(), content());
    let connection = scene.hostile.dial(scene.victim.address()).await;
    // As many as there may be conversations could have come before these.
    for n in 0..MAX_BIDI_STREAMS + MAX_UNASKED_CHUNKS * 2 {
        connection.send_stream(&content.chunk_stream(4 * u64::from(n), 0)).await;
    }
    let fault = PeerMisbehaved::UnaskedChunks;
    assert_eq!(connection.ended().await, Ended::misbehaved(&fault));
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

/// Fault 68.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_left_open_hold_up_nobody() {
    let (mut scene, content) = (Scene::new(), content());
    let (conversation, _wanted) = wanted(&scene, &content).await;
    let mut kept = Vec::new();
    for n in 0..100u32 {
        let opening = conversation.connection().0.open_uni();
        let Ok(Ok(mut stream)) = tokio::time::timeout(std::time::Duration::from_secs(5), opening).await
        else {
            break;
        };
        // Half a header, or a header and half a chunk, and then nothing.
        let header = content.header(conversation.id(), n % CHUNKS as u32).encode();
        let part = if n % 2 == 0 { &header[..header.len() / 2] } else { &header };
        let _ = stream.write_all(part).await;
        kept.push(stream);
    }
    assert!(!kept.is_empty());
    scene.check(&[]);
    drop(kept);
}
