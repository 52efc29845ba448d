//! Peers that are not who they should be.

use p2p_protocol::{
    reason::close,
    wire::peer::{Fetch, Message},
};
use p2p_tests::{
    data::CHUNK,
    hostile::{Content, Ended, Heard, Scene, tls},
};

/// Fault 72.
#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_is_no_connection() {
    let mut scene = Scene::new();
    let ended = scene.hostile.dial_with(scene.victim.address(), tls::client_without_certificate()).await;
    assert!(matches!(ended, Ended::Otherwise(_)), "refused in the handshake: {ended:?}");
    scene.check(&[]);
}

/// Faults 51 and 72.
#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_is_no_connection() {
    let mut scene = Scene::new();
    for alpn in [&b"h3"[..], b"p2p/2", b"p2p"] {
        let crypto = tls::client_with_alpn(scene.hostile.key(), alpn);
        let ended = scene.hostile.dial_with(scene.victim.address(), crypto).await;
        assert!(matches!(ended, Ended::Otherwise(_)), "refused in the handshake: {ended:?}");
    }
    scene.check(&[]);
}

/// Fault 72.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_certificate_is_no_identity() {
    let mut scene = Scene::with_stranger();
    // The honest daemon shows its certificate to everyone who dials it.
    let dialled = scene.hostile.dial(scene.honest.address()).await;
    let certificate = dialled.certificate();
    let crypto = tls::client_with_stolen_certificate(scene.hostile.key(), certificate);
    let ended = scene.hostile.dial_with(scene.victim.address(), crypto).await;
    assert!(matches!(ended, Ended::Otherwise(_)), "refused in the handshake: {ended:?}");
    let peers = scene.victim.peers();
    assert!(peers.iter().all(|peer| peer["standing"] != "pending"), "nothing was proved: {peers:?}");
    scene.check(&[]);
}

/// Fault 72.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_certificate_of_a_stranger_lists_nobody() {
    let mut scene = Scene::with_stranger();
    let crypto =
        tls::client_with_stolen_certificate(&tls::Key::generate(), scene.hostile.key().certificate());
    scene.hostile.dial_with(scene.victim.address(), crypto).await;
    assert_eq!(scene.victim.standing_of(&scene.hostile.peer_id()), None);
    scene.check(&[]);
}

/// Fault 72.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_shown_out_before_it_can_say_anything() {
    let mut scene = Scene::with_stranger();
    let connection = scene.hostile.dial(scene.victim.address()).await;
    assert_eq!(connection.ended().await, Ended::Code(close::NOT_TRUSTED.into()));
    assert_eq!(scene.victim.standing_of(&scene.hostile.peer_id()).as_deref(), Some("pending"));
    scene.check(&["refused"]);
}

/// Faults 72 and 75.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_the_same_end_whatever_it_asks() {
    let mut scene = Scene::with_stranger();
    let public = scene.victim.new_file("public.bin", 1, 1000);
    scene.victim.cli().run(p2p_tests::words!["share", public, "--public"]).success();
    let private = scene.victim.new_file("private.bin", 2, 1000);
    scene.victim.cli().run(p2p_tests::words!["share", private]).success();
    let content = Content::random("hostile.bin", 1, CHUNK);
    let id = |text: String| Message::Fetch(Fetch { file_id: text.parse().unwrap(), eager: false });
    let private_id = id(p2p_tests::data::file_id(&private));
    for question in [Message::Offer(content.offer()), private_id, id("88".repeat(32))] {
        let connection = scene.hostile.dial(scene.victim.address()).await;
        let mut conversation = connection.open().await;
        conversation.say(question.clone()).await;
        assert_eq!(
            conversation.expect_closed().await,
            Ended::Code(close::NOT_TRUSTED.into()),
            "{question:?}"
        );
    }
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.say(id(p2p_tests::data::file_id(&public))).await;
    let heard = conversation.hear().await;
    assert!(matches!(heard, Heard::Message(Message::Offer(_))), "{heard:?}");
    for file in [public, private] {
        std::fs::remove_file(file).unwrap();
    }
    scene.check(&[]);
}

/// Fault 67.
#[tokio::test(flavor = "multi_thread")]
async fn many_strangers_leave_room_for_friends() {
    let mut scene = Scene::with_stranger();
    let strangers: Vec<_> = (0..100).map(|_| tls::client(&tls::Key::generate())).collect();
    let mut dials = tokio::task::JoinSet::new();
    for crypto in strangers {
        let address = scene.victim.address().to_owned();
        // Each has a socket of its own: the buffer of a shared one would be too small for what all are told.
        dials.spawn(async move { p2p_tests::hostile::Hostile::new().dial_with(&address, crypto).await });
    }
    while let Some(ended) = dials.join_next().await {
        let ended = ended.unwrap();
        assert!(
            matches!(ended, Ended::Code(code) if code == u64::from(close::NOT_TRUSTED) || code == u64::from(close::BUSY)),
            "{ended:?}"
        );
    }
    scene.check(&[]);
}
