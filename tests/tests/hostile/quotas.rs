//! What strangers, and peers that say nothing, may take up.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use p2p_protocol::{
    ChunkRange, FileId,
    limits::{MAX_STRANGER_CONNECTIONS, MAX_STRANGER_REQUESTS, STRANGER_BUDGET},
    reason::{AbortReason, RefuseReason, close},
    wire::peer::{Accept, Fetch, Message, Offer, Want},
};
use p2p_tests::{
    data::{self, MIB},
    hostile::{Connection, Conversation, Ended, Heard, Hostile, Scene},
    until::until_true,
    words,
};

/// A file that anybody may fetch, and its path.
fn share_with_all(scene: &Scene) -> (FileId, std::path::PathBuf) {
    let file = scene.victim.new_file("public.bin", 1, 1000);
    scene.victim.cli().run(words!["share", file, "--public"]).success();
    (data::file_id(&file).parse().unwrap(), file)
}

/// Asks for a file, and is offered it.
async fn fetch(connection: &Connection, file_id: FileId) -> (Conversation, Offer) {
    let mut conversation = connection.open().await;
    conversation.say(Message::Fetch(Fetch { file_id, eager: false })).await;
    match conversation.hear().await {
        Heard::Message(Message::Offer(offer)) => (conversation, offer),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_take_only_so_many_places() {
    let mut scene = Scene::with_stranger();
    let (file_id, file) = share_with_all(&scene);
    let mut kept = Vec::new();
    for _ in 0..MAX_STRANGER_CONNECTIONS {
        let stranger = Hostile::new();
        let connection = stranger.dial(scene.victim.address()).await;
        kept.push((fetch(&connection, file_id).await, stranger));
    }
    let one_more = scene.hostile.dial(scene.victim.address()).await;
    assert_eq!(one_more.ended().await, Ended::Code(close::BUSY.into()));
    std::fs::remove_file(file).unwrap();
    scene.check(&["too many connections"]);
}

/// What is read for strangers that do not take it comes from a budget of their own.
///
/// Fault 68.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_take_nothing_fill_only_so_much_memory() {
    let mut scene = Scene::with_stranger();
    let file = scene.victim.new_file("public.bin", 1, 64 * MIB);
    scene.victim.cli().run(words!["share", file, "--public"]).success();
    let file_id = data::file_id(&file).parse().unwrap();
    let (mut kept, mut readers) = (Vec::new(), tokio::task::JoinSet::new());
    let begun = Arc::new(AtomicU64::new(0));
    for _ in 0..MAX_STRANGER_CONNECTIONS {
        let stranger = Hostile::that_takes(1000);
        let connection = stranger.dial(scene.victim.address()).await;
        let (mut conversation, offer) = fetch(&connection, file_id).await;
        let chunk_log2 = offer.chunk_log2;
        conversation.say(Message::Accept(Accept { chunk_log2, have_count: 0, have: Vec::new() })).await;
        let wanted = ChunkRange { start: 0, count: (offer.size >> chunk_log2) as u32 };
        conversation.say(Message::Want(Want { ranges: vec![wanted], credit: wanted.count })).await;
        let begun = begun.clone();
        readers.spawn(async move {
            while let Ok(stream) = connection.0.accept_uni().await {
                begun.fetch_add(1 << chunk_log2, Ordering::Relaxed);
                // Neither read nor stopped.
                std::mem::forget(stream);
            }
        });
        kept.push((stranger, conversation));
    }
    until_true("as much is read as may be", || begun.load(Ordering::Relaxed) >= STRANGER_BUDGET);
    std::fs::remove_file(file).unwrap();
    scene.check(&[]);
    assert_eq!(begun.load(Ordering::Relaxed), STRANGER_BUDGET, "what is not taken makes room for no more");
}

/// Fault 68.
#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_peers_may_send_much_ahead() {
    let mut scene = Scene::with_stranger();
    let (file_id, file) = share_with_all(&scene);
    for trusted in [false, true] {
        let connection = scene.hostile.dial(scene.victim.address()).await;
        let _kept = fetch(&connection, file_id).await;
        let widened = connection.0.stats().frame_rx.max_data;
        assert_eq!(widened > 0, trusted);
        scene.victim.cli().run(words!["peers", "trust", scene.hostile.peer_id()]).success();
    }
    std::fs::remove_file(file).unwrap();
    scene.check(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_asks_only_so_often() {
    let mut scene = Scene::with_stranger();
    let (file_id, file) = share_with_all(&scene);
    let connection = scene.hostile.dial(scene.victim.address()).await;
    for _ in 0..MAX_STRANGER_REQUESTS {
        fetch(&connection, file_id).await.0.say(Message::Refuse(RefuseReason::Rejected)).await;
    }
    let mut one_more = connection.open().await;
    one_more.say(Message::Fetch(Fetch { file_id, eager: false })).await;
    assert_eq!(one_more.expect_closed().await, Ended::Code(close::BUSY.into()));
    std::fs::remove_file(file).unwrap();
    scene.check(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_never_begins_is_ended() {
    let mut scene = Scene::new();
    let mut silent = scene.hostile.dial(scene.victim.address()).await.open().await;
    // The stream is there, and half of the first length.
    silent.say_bytes(&[0, 0]).await;
    assert_eq!(silent.hear().await, Heard::Message(Message::Abort(AbortReason::Stalled)));
    scene.check(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_asks_for_nothing_makes_room() {
    let mut scene = Scene::with_stranger();
    scene.victim.cli().run(words!["invite"]).success();
    let idle = scene.hostile.dial(scene.victim.address()).await;
    assert_eq!(idle.ended().await, Ended::Code(close::DEADLINE.into()));
    scene.check(&[]);
}
