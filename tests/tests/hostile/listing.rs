//! Lists of shares: who asks for them wrongly, and who answers with what none is.

use p2p_protocol::{
    FileId,
    limits::LIST_PAGE,
    reason::{PeerMisbehaved, RefuseReason},
    wire::peer::{List, Listed, Message, Shared},
};
use p2p_tests::{
    hostile::{Heard, Scene},
    words,
};

fn share(n: u32, name: &str) -> Shared {
    let mut file_id = FileId([0; 32]);
    file_id.0[..4].copy_from_slice(&n.to_be_bytes());
    Shared { file_id, name: name.to_owned(), is_folder: false, size: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_list_of_shares_is_named() {
    let many = (0..LIST_PAGE as u32 + 1).map(|n| share(n, "x")).collect();
    let lies = [
        Listed { shares: vec![share(2, "b"), share(1, "a")], more: false },
        Listed { shares: vec![share(1, "a"), share(1, "a")], more: false },
        Listed { shares: vec![], more: true },
        Listed { shares: vec![share(1, &"n".repeat(300))], more: false },
        Listed { shares: many, more: false },
    ];
    for lie in lies {
        let mut scene = Scene::new();
        let words = words!["ls", scene.hostile.address(), "--json"];
        let cli = scene.victim.cli();
        let listing = tokio::task::spawn_blocking(move || cli.run(words));
        let connection = scene.hostile.accept().await;
        let mut conversation = connection.accept().await;
        assert_eq!(conversation.hear().await, Heard::Message(Message::List(List { after: None })));
        conversation.say(Message::Listed(lie)).await;
        listing.await.unwrap().exits(1);
        scene.check(&[&PeerMisbehaved::FalseListing.to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_never_ends_is_refused_once_it_stands_still() {
    let mut scene = Scene::new();
    let words = words!["ls", scene.hostile.address(), "--json"];
    let cli = scene.victim.cli();
    let listing = tokio::task::spawn_blocking(move || cli.run(words));
    let connection = scene.hostile.accept().await;
    for _ in 0..2 {
        let mut conversation = connection.accept().await;
        conversation.hear().await;
        conversation.say(Message::Listed(Listed { shares: vec![share(1, "a")], more: true })).await;
    }
    listing.await.unwrap().exits(1);
    scene.check(&[&PeerMisbehaved::FalseListing.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_fetch_is_told_of_nothing() {
    let mut scene = Scene::new();
    let peer = scene.hostile.peer_id();
    scene.victim.cli().run(words!["peers", "trust", peer, "--allow", "send"]).success();
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let mut conversation = connection.open().await;
    conversation.say(Message::List(List { after: Some(FileId([255; 32])) })).await;
    assert_eq!(conversation.hear().await, Heard::Message(Message::Refuse(RefuseReason::NotAllowed)));
    scene.check(&[]);
}
