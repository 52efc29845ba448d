//! What strangers, and peers that say nothing, may take up.

use p2p_protocol::{
    FileId,
    limits::{MAX_STRANGER_CONNECTIONS, MAX_STRANGER_REQUESTS},
    reason::{AbortReason, RefuseReason, close},
    wire::peer::{Fetch, Message},
};
use p2p_tests::{
    data,
    hostile::{Connection, Conversation, Ended, Heard, Hostile, Scene},
    words,
};

/// A file that anybody may fetch, and its path.
fn share_with_all(scene: &Scene) -> (FileId, std::path::PathBuf) {
    let file = scene.victim.new_file("public.bin", 1, 1000);
    scene.victim.cli().run(words!["share", file, "--public"]).success();
    (data::file_id(&file).parse().unwrap(), file)
}

/// Asks for a file, and is offered it.
async fn fetch(connection: &Connection, file_id: FileId) -> Conversation {
    let mut conversation = connection.open().await;
    conversation.say(Message::Fetch(Fetch { file_id, eager: false })).await;
    let heard = conversation.hear().await;
    assert!(matches!(heard, Heard::Message(Message::Offer(_))), "{heard:?}");
    conversation
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

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_asks_only_so_often() {
    let mut scene = Scene::with_stranger();
    let (file_id, file) = share_with_all(&scene);
    let connection = scene.hostile.dial(scene.victim.address()).await;
    for _ in 0..MAX_STRANGER_REQUESTS {
        fetch(&connection, file_id).await.say(Message::Refuse(RefuseReason::Rejected)).await;
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
