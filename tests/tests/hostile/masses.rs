//! The same again and again, and as much of it as there may be at once: memory and descriptors stay what they were.

use p2p_protocol::ChunkRange;
use p2p_protocol::{
    limits::{MAX_BIDI_STREAMS, MAX_UNI_STREAMS, MAX_WANTED_CHUNKS},
    reason::{PeerMisbehaved, RefuseReason},
    wire::peer::{Accept, Message, Offer, Want},
};
use p2p_tests::{
    data::{self, CHUNK, MIB},
    hostile::{Content, Ended, Heard, Scene},
    until::until_true,
    words,
};

/// Fails unless the victim's memory has grown by less than this since `before`, also in between.
fn assert_grown_less(scene: &Scene, before: u64, bound: u64) {
    let grown = scene.victim.peak_memory().saturating_sub(before);
    assert!(grown < bound, "{grown} bytes of memory more");
}

/// Faults 50 and 52.
#[tokio::test(flavor = "multi_thread")]
async fn breaking_a_rule_again_and_again_costs_nothing() {
    let mut scene = Scene::new();
    let offer = Content::random("hostile.bin", 1, 2 * CHUNK).offer();
    let (before, descriptors) = (scene.victim.resident_memory(), scene.victim.descriptors());
    for round in 0..150 {
        let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
        if round % 2 == 0 {
            conversation.say_bytes(&[0xff; 64]).await;
            let fault = PeerMisbehaved::FrameTooLong(u32::MAX.into());
            assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
        } else {
            conversation.say(Message::Offer(Offer { name: "..".into(), ..offer.clone() })).await;
            assert_eq!(conversation.hear().await, Heard::Message(Message::Refuse(RefuseReason::Name)));
            conversation.connection().0.close(0u32.into(), b"");
        }
    }
    assert_grown_less(&scene, before, 24 * MIB);
    until_true("no descriptor is left", || scene.victim.descriptors() <= descriptors + 2);
    scene.check(&["peer misbehaved"]);
}

/// Every stream that one may open on each of several connections, left alone.
///
/// Fault 68.
#[tokio::test(flavor = "multi_thread")]
async fn as_many_idle_streams_as_there_may_be_cost_little() {
    let mut scene = Scene::new();
    let before = scene.victim.resident_memory();
    let mut kept = Vec::new();
    for _ in 0..4 {
        let connection = scene.hostile.dial(scene.victim.address()).await;
        for _ in 0..MAX_UNI_STREAMS {
            let mut stream = connection.0.open_uni().await.unwrap();
            stream.write_all(&[20]).await.unwrap();
            kept.push(stream);
        }
        for _ in 0..MAX_BIDI_STREAMS {
            let (mut stream, _) = connection.0.open_bi().await.unwrap();
            stream.write_all(&[100, 0]).await.unwrap();
            kept.push(stream);
        }
        // No more than were granted.
        let more = tokio::time::timeout(std::time::Duration::from_millis(50), connection.0.open_bi());
        assert!(more.await.is_err(), "one stream too many");
    }
    assert_grown_less(&scene, before, 48 * MIB);
    scene.check(&[]);
    assert_grown_less(&scene, before, 96 * MIB);
    drop(kept);
}

/// Large chunks of many files, of each of which the first byte comes and then one now and then.
///
/// Fault 69.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_come_a_byte_at_a_time_fill_no_memory() {
    let mut scene = Scene::new();
    let before = scene.victim.resident_memory();
    let mut kept = Vec::new();
    for n in 0..24 {
        let connection = scene.hostile.dial(scene.victim.address()).await;
        let content = Content::random(&format!("slow-{n}.bin"), n, 2 * CHUNK);
        let mut conversation = connection.open().await;
        // As one that is far longer than it is, in the largest chunks.
        let offer =
            Offer { size: 40 << 30, allocated: 0, chunk_log2: 22, resume_key: None, ..content.offer() };
        conversation.say(Message::Offer(offer)).await;
        assert!(matches!(conversation.expect().await, Message::Accept(_)));
        let mut streams = Vec::new();
        for index in 0..4 {
            let mut header = content.header(conversation.id(), 0);
            (header.index, header.len) = (index, 4 << 20);
            let Ok(mut stream) = connection.0.open_uni().await else { break };
            if stream.write_all(&header.encode()).await.is_ok() {
                streams.push(stream);
            }
        }
        kept.push((conversation, streams));
    }
    for _ in 0..3 {
        for stream in kept.iter_mut().flat_map(|(_, streams)| streams) {
            // One that nobody asked for has been stopped by now.
            let _ = stream.write_all(&[7]).await;
        }
        assert!(scene.victim.is_alive());
    }
    assert_grown_less(&scene, before, 128 * MIB);
    scene.check(&[]);
}

/// More than may be wanted and not yet sent, of a file that has as many chunks.
///
/// Fault 44.
#[tokio::test(flavor = "multi_thread")]
async fn wanting_more_than_may_be_wanted_ends_the_connection() {
    let mut scene = Scene::new();
    let file = scene.victim.file("f.bin");
    let chunks = MAX_WANTED_CHUNKS as u32 + 8;
    data::write_sparse(&file, u64::from(chunks) * CHUNK, &[(0, b"x")]);
    let running = scene.victim.cli().start_json(words!["send", file, "--to", scene.hostile.address()]);
    let mut conversation = scene.hostile.accept().await.accept().await;
    assert!(matches!(conversation.expect().await, Message::Offer(_)));
    let accept = Accept { chunk_log2: 18, have_count: 0, have: Vec::new() };
    conversation.say(Message::Accept(accept)).await;
    conversation
        .say(Message::Want(Want { ranges: vec![ChunkRange { start: 0, count: chunks }], credit: 1 }))
        .await;
    let fault = PeerMisbehaved::TooManyWanted;
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    let sent = tokio::task::spawn_blocking(move || running.finish()).await.unwrap();
    assert!(sent.code.is_some_and(|code| code != 0), "{sent}");
    std::fs::remove_file(file).unwrap();
    scene.check(&["peer misbehaved", &fault.to_string()]);
}
