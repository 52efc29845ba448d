//! Peers that offer something else once their offer was accepted.

use p2p_protocol::{
    ResumeKey,
    limits::MAX_CHUNK_LEN,
    reason::RefuseReason,
    wire::peer::{Message, Offer, PauseReason},
};
use p2p_tests::{
    data::CHUNK,
    hostile::{Content, Conversation, Heard, Scene},
    words,
};
use serde_json::Value;

/// Offers it over a connection of its own, which is how a peer comes back.
async fn offer(scene: &Scene, offer: &Offer) -> Conversation {
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.say(Message::Offer(offer.clone())).await;
    conversation
}

/// Offers it, expects the victim's owner to be asked, and says yes: what was shown.
async fn accepted(scene: &Scene, offered: &Offer) -> Value {
    let mut conversation = offer(scene, offered).await;
    assert_eq!(conversation.hear().await, Heard::Message(Message::Paused(PauseReason::Owner)), "{offered:?}");
    let shown = scene.victim.cli().json(words!["inbox"]).success().events.remove(0);
    scene.victim.cli().run(words!["inbox", "accept", shown["transfer"].to_string()]).success();
    taken(&mut conversation).await;
    shown
}

async fn taken(conversation: &mut Conversation) {
    conversation.expect_that("Accept", |message| matches!(message, Message::Accept(_)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_is_to_the_name_and_the_size_that_were_shown() {
    let mut scene = Scene::new();
    let peer = scene.hostile.peer_id();
    scene.victim.cli().run(words!["peers", "rule", peer, "--accept", "ask"]).success();
    let named = Content::random("small.txt", 1, CHUNK).offer();
    let len = MAX_CHUNK_LEN + CHUNK;
    let unnamed = Offer {
        file_id: None,
        resume_key: Some(ResumeKey([7; 16])),
        ..Content::random("other.txt", 2, len).offer()
    };
    for first in [named, unnamed] {
        accepted(&scene, &first).await;
        // The same again is what was accepted.
        taken(&mut offer(&scene, &first).await).await;
        let renamed = Offer { name: "autostart.sh".into(), ..first.clone() };
        let shown = accepted(&scene, &renamed).await;
        assert_eq!((&shown["name"], &shown["total_bytes"]), (&"autostart.sh".into(), &first.size.into()));
        taken(&mut offer(&scene, &renamed).await).await;
        let size = first.size + len;
        let grown = Offer { size, allocated: 0, ..renamed };
        let mut asked = offer(&scene, &grown).await;
        assert_eq!(asked.hear().await, Heard::Message(Message::Paused(PauseReason::Owner)));
        let shown = scene.victim.cli().json(words!["inbox"]).success().events.remove(0);
        assert_eq!(shown["total_bytes"], size);
        scene.victim.cli().run(words!["inbox", "reject", shown["transfer"].to_string()]).success();
        assert_eq!(asked.hear().await, Heard::Message(Message::Refuse(RefuseReason::Rejected)));
    }
    scene.check(&[]);
}
