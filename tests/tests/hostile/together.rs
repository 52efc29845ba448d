//! Peers that lie about what they offer together.

use p2p_protocol::{
    Batch, BatchId,
    limits::MAX_BATCH,
    reason::{PeerMisbehaved, RefuseReason},
    wire::peer::{Message, OfferTogether, PauseReason},
};
use p2p_tests::{
    data::CHUNK,
    hostile::{Connection, Content, Conversation, Ended, Heard, Hostile, Scene},
    words,
};
use serde_json::Value;

const BATCH: Batch = Batch { id: BatchId([7; 16]), position: 0, count: 3, total_bytes: Some(3 * CHUNK) };

/// A victim whose owner is asked about this peer's offers.
fn asking() -> Scene {
    let scene = Scene::new();
    asks_about(&scene, &scene.hostile);
    scene
}

fn asks_about(scene: &Scene, peer: &Hostile) {
    scene.victim.cli().run(words!["peers", "rule", peer.peer_id(), "--accept", "ask"]).success();
}

fn content(n: u64) -> Content {
    Content::random(&format!("{n}.bin"), n, CHUNK)
}

async fn offer(connection: &Connection, content: &Content, batch: Batch) -> Conversation {
    let mut conversation = connection.open().await;
    let offer = OfferTogether { batch, offer: content.offer() };
    conversation.say(Message::OfferTogether(offer)).await;
    conversation
}

/// Offers it, and expects its owner to be asked.
async fn asked(connection: &Connection, content: &Content, batch: Batch) -> Conversation {
    let mut conversation = offer(connection, content, batch).await;
    assert_eq!(conversation.hear().await, Heard::Message(Message::Paused(PauseReason::Owner)));
    conversation
}

async fn taken(conversation: &mut Conversation) {
    conversation.expect_that("Accept", |message| matches!(message, Message::Accept(_)).then_some(())).await;
}

fn offers(scene: &Scene) -> Vec<Value> {
    scene.victim.cli().json(words!["inbox"]).success().events
}

fn answer(scene: &Scene, word: &str, name: &str) -> usize {
    let number = offers(scene).iter().find(|offer| offer["name"] == name).unwrap()["transfer"].to_string();
    scene.victim.cli().json(words!["inbox", word, number]).success().events.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_ends_the_connection() {
    let mut scene = Scene::new();
    for (position, count) in [(0, 0), (0, 1), (3, 3), (u32::MAX, 3), (0, MAX_BATCH + 1), (0, u32::MAX)] {
        let connection = scene.hostile.dial(scene.victim.address()).await;
        let mut conversation = offer(&connection, &content(1), Batch { position, count, ..BATCH }).await;
        assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&PeerMisbehaved::FalseBatch));
    }
    scene.check(&[&PeerMisbehaved::FalseBatch.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_covers_no_more_than_was_shown() {
    let mut scene = asking();
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let mut first = asked(&connection, &content(1), BATCH).await;
    assert_eq!(answer(&scene, "accept", "1.bin"), 1);
    taken(&mut first).await;
    // What was said to come is taken.
    let second = Batch { position: 1, ..BATCH };
    taken(&mut offer(&connection, &content(2), second).await).await;
    // A place that is taken, more of them, another sum, and more bytes than were named: each is another question.
    let large = Content::random("6.bin", 6, 2 * CHUNK);
    let mut open = [
        asked(&connection, &content(3), second).await,
        asked(&connection, &content(4), Batch { position: 2, count: 4, ..BATCH }).await,
        asked(&connection, &content(5), Batch { position: 2, total_bytes: None, ..BATCH }).await,
        asked(&connection, &large, Batch { position: 2, ..BATCH }).await,
        asked(&connection, &content(7), Batch { id: BatchId([8; 16]), position: 2, ..BATCH }).await,
    ];
    assert_eq!(offers(&scene).len(), 5);
    // A no to one that contradicts the batch is none to the others.
    assert_eq!(answer(&scene, "reject", "3.bin"), 1);
    assert_eq!(open[0].hear().await, Heard::Message(Message::Refuse(RefuseReason::Rejected)));
    assert_eq!(offers(&scene).len(), 4);
    scene.check(&["contradicts"]);
}

/// Another peer's batch of the same ID is another.
#[tokio::test(flavor = "multi_thread")]
async fn a_no_holds_for_what_comes_later_and_not_for_others() {
    let mut scene = asking();
    let other = Hostile::new();
    scene.victim.cli().run(words!["peers", "trust", other.peer_id()]).success();
    asks_about(&scene, &other);
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let _first = asked(&connection, &content(1), BATCH).await;
    let elsewhere = other.dial(scene.victim.address()).await;
    let _same = asked(&elsewhere, &content(1), BATCH).await;
    assert_eq!(offers(&scene).len(), 2);
    assert_eq!(answer(&scene, "reject", "1.bin"), 1);
    assert_eq!(offers(&scene).len(), 1);
    let mut second = offer(&connection, &content(2), Batch { position: 1, ..BATCH }).await;
    assert_eq!(second.hear().await, Heard::Message(Message::Refuse(RefuseReason::Rejected)));
    let _other = asked(&elsewhere, &content(2), Batch { position: 1, ..BATCH }).await;
    scene.check(&[]);
}

/// Each is a transfer, and those have their bounds.
#[tokio::test(flavor = "multi_thread")]
async fn endless_batches_cost_no_more_than_offers() {
    let mut scene = asking();
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let mut open = Vec::new();
    for n in 0..100 {
        let batch = Batch { id: BatchId([n; 16]), ..BATCH };
        open.push(asked(&connection, &content(u64::from(n)), batch).await);
    }
    assert_eq!(offers(&scene).len(), 100);
    scene.check(&[]);
}
