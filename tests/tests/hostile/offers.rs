//! Offers of what cannot be, under names that must not be.

use p2p_protocol::{
    FileId, Geometry, ResumeKey, SafeName,
    limits::{MAX_CHUNK_LEN, MAX_FILE_LEN},
    reason::{PeerMisbehaved, RefuseReason},
    wire::peer::{Message, Offer},
};
use p2p_tests::{
    data::CHUNK,
    hostile::{Content, Ended, Heard, Scene},
    words,
};

fn content() -> Content {
    Content::random("hostile.bin", 1, 2 * CHUNK)
}

/// Offers this, and expects a refusal for this reason; the log has these words.
async fn refused(scene: &Scene, offer: Offer, reason: RefuseReason) {
    let shown = format!("{offer:?}");
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.say(Message::Offer(offer)).await;
    assert_eq!(conversation.hear().await, Heard::Message(Message::Refuse(reason)), "{shown}");
}

/// Faults 45 and 47.
#[tokio::test(flavor = "multi_thread")]
async fn impossible_sizes_are_refused() {
    let mut scene = Scene::new();
    let offer = content().offer();
    for (size, chunk_log2) in [
        (u64::MAX, 18),
        (u64::MAX, 22),
        (MAX_FILE_LEN + 1, 22),
        (1 << 45, 18),
        (1, 0),
        (1, 17),
        (1, 23),
        (1, 63),
        (1, 64),
        (1, 255),
    ] {
        let fault = PeerMisbehaved::Geometry(Geometry::new(size, chunk_log2).unwrap_err());
        refused(&scene, Offer { size, chunk_log2, allocated: 0, ..offer.clone() }, RefuseReason::Size).await;
        scene.victim.wait_for_log(&fault.to_string());
    }
    scene.check(&["peer misbehaved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_counts_for_the_quota() {
    let mut scene = Scene::new();
    let (peer, quota) = (scene.hostile.peer_id(), (3 * CHUNK).to_string());
    scene.victim.cli().run(words!["peers", "rule", peer, "--quota", quota]).success();
    let mut first = scene.hostile.dial(scene.victim.address()).await.open().await;
    first.offer(&content()).await;
    let second = Content::random("second.bin", 2, 2 * CHUNK);
    refused(&scene, second.offer(), RefuseReason::Quota { left: CHUNK }).await;
    scene.check(&[]);
}

/// Faults 52, 53, 54, 55 and 57.
#[tokio::test(flavor = "multi_thread")]
async fn unsafe_names_are_refused() {
    let mut scene = Scene::new();
    let offer = content().offer();
    let long = "x".repeat(256);
    for name in [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:x",
        "a\0b",
        "a\nb",
        "\u{1b}[2J",
        "a\u{202e}txt",
        ".p2p",
        ".P2P",
        "CON",
        "com¹.txt",
        "NUL.tar.gz",
        "a:stream",
        "trailing.",
        "trailing ",
        &long,
    ] {
        let fault = PeerMisbehaved::Name(SafeName::parse(name).unwrap_err());
        refused(&scene, Offer { name: name.to_owned(), ..offer.clone() }, RefuseReason::Name).await;
        scene.victim.wait_for_log(&fault.to_string());
    }
    assert!(scene.victim.received().is_empty() && scene.victim.partials().is_empty());
    let log = scene.victim.log();
    assert!(!log.contains('\u{1b}') && !log.contains('\u{202e}'), "the log shows what a peer said unescaped");
    scene.check(&["peer misbehaved"]);
}

/// Faults 11 and 46.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_disk_has_is_refused_with_the_numbers() {
    let mut scene = Scene::new();
    let need = 1 << 45;
    let offer = Offer { size: need, allocated: need, chunk_log2: 22, ..content().offer() };
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.say(Message::Offer(offer)).await;
    match conversation.expect().await {
        Message::Refuse(RefuseReason::Space { need: said, free }) => {
            assert!(said >= need && free < need, "needs {said}, free {free}");
        }
        other => panic!("expected Refuse(Space), got {other:?}"),
    }
    scene.check(&[]);
}

/// Fault 46.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_claim_of_what_it_occupies_is_no_harm() {
    let mut scene = Scene::new();
    let content = content();
    let offer = Offer { allocated: u64::MAX, ..content.offer() };
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.say(Message::Offer(offer)).await;
    assert!(matches!(conversation.expect().await, Message::Accept(_)));
    let wanted = conversation.until_wanted(&content).await;
    conversation.provide(&content, wanted).await;
    scene.check(&[]);
}

/// Fault 51.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_without_identity_or_key_or_list_is_refused_as_unsupported() {
    let mut scene = Scene::new();
    let offer = Offer { file_id: None, ..content().offer() };
    refused(&scene, Offer { size: MAX_CHUNK_LEN + 1, ..offer.clone() }, RefuseReason::Unsupported).await;
    let key = Some(ResumeKey([1; 16]));
    for size in [0, 1, MAX_CHUNK_LEN] {
        refused(&scene, Offer { size, resume_key: key, ..offer.clone() }, RefuseReason::Unsupported).await;
    }
    assert!(scene.victim.partials().is_empty());
    scene.check(&[]);
}

/// Fault 43.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_under_a_false_identity_is_never_published() {
    let mut scene = Scene::new();
    let content = Content::random("hostile.bin", 1, CHUNK / 2);
    let offer = Offer { file_id: Some(FileId([9; 32])), ..content.offer() };
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let mut conversation = connection.open().await;
    conversation.say(Message::Offer(offer)).await;
    assert!(matches!(conversation.expect().await, Message::Accept(_)));
    loop {
        match conversation.hear().await {
            Heard::Message(Message::Want(want)) if !want.ranges.is_empty() => {
                conversation.send_chunk(&content, 0).await;
            }
            Heard::Message(Message::Done(done)) => panic!("{done:?}"),
            Heard::Message(_) => {}
            Heard::End | Heard::Closed(_) => break,
        }
    }
    assert!(scene.victim.received().is_empty(), "{:?}", scene.victim.received());
    scene.check(&["peer misbehaved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_fetch_must_be_what_was_asked_for() {
    let mut scene = Scene::new();
    let content = content();
    let asked = "77".repeat(32);
    let cli = scene.victim.cli();
    let fetching = cli.start_json(words!["fetch", asked, "--from", scene.hostile.address()]);
    let connection = scene.hostile.accept().await;
    let mut conversation = connection.accept().await;
    let request = conversation.expect().await;
    assert!(matches!(&request, Message::Fetch(fetch) if fetch.file_id.to_string() == asked), "{request:?}");
    conversation.say(Message::Offer(content.offer())).await;
    let fault = PeerMisbehaved::WrongFile;
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    let fetched = tokio::task::spawn_blocking(move || fetching.finish()).await.unwrap().exits(7);
    assert_eq!(fetched.event("failed")["code"], "integrity", "{fetched}");
    assert!(scene.victim.received().is_empty() && scene.victim.partials().is_empty());
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_answer_to_a_fetch_is_taken() {
    let mut scene = Scene::new();
    let content = content();
    let cli = scene.victim.cli();
    let id = content.file_id().to_string();
    let fetching = cli.start_json(words!["fetch", id, "--from", scene.hostile.address()]);
    let mut conversation = scene.hostile.accept().await.accept().await;
    assert!(matches!(conversation.expect().await, Message::Fetch(fetch) if fetch.eager));
    let wanted = conversation.offer_eagerly(&content).await;
    conversation.provide(&content, wanted).await;
    tokio::task::spawn_blocking(move || fetching.finish()).await.unwrap().success();
    assert_eq!(std::fs::read(scene.victim.inbox().join("hostile.bin")).unwrap(), content.bytes());
    scene.check(&[]);
}

/// An eager fetch says that nothing is here, and asks for everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_partial_that_turns_up_after_an_eager_fetch_makes_it_begin_anew() {
    let mut scene = Scene::new();
    let content = Content::random("hostile.bin", 1, 5 * CHUNK);
    let asked = words!["fetch", content.file_id().to_string(), "--from", scene.hostile.address()];
    let cli = scene.victim.cli();
    let is_eager = |message: Message| matches!(message, Message::Fetch(fetch) if fetch.eager);

    // A partial is made, and put aside.
    let first = cli.start_json(asked.clone());
    let connection = scene.hostile.accept().await;
    let mut conversation = connection.accept().await;
    assert!(is_eager(conversation.expect().await));
    conversation.offer_eagerly(&content).await;
    conversation.send_chunk(&content, 0).await;
    let verified = |message: &Message| matches!(message, Message::Verified(_)).then_some(());
    conversation.expect_that("the first chunk is verified", verified).await;
    let (partials, aside) = (scene.victim.partials(), scene.victim.place().root().join("aside"));
    std::fs::create_dir(&aside).unwrap();
    for path in &partials {
        std::fs::copy(path, aside.join(path.file_name().unwrap())).unwrap();
    }
    scene.victim.cli().run(words!["cancel", "1"]).success();
    tokio::task::spawn_blocking(move || first.finish()).await.unwrap().exits(1);

    let second = cli.start_json(asked);
    let mut conversation = connection.accept().await;
    assert!(is_eager(conversation.expect().await), "nothing is there");
    let folder = scene.victim.inbox().join(".p2p");
    std::fs::create_dir_all(&folder).unwrap();
    for path in &partials {
        let name = path.file_name().unwrap();
        std::fs::rename(aside.join(name), folder.join(name)).unwrap();
    }
    std::fs::remove_dir(&aside).unwrap();
    conversation.offer_eagerly(&content).await;
    let mut conversation = connection.accept().await;
    assert!(!is_eager(conversation.expect().await), "something is there");
    conversation.offer(&content).await;
    let wanted = conversation.until_wanted(&content).await;
    conversation.provide(&content, wanted).await;
    tokio::task::spawn_blocking(move || second.finish()).await.unwrap().success();
    assert_eq!(std::fs::read(scene.victim.inbox().join("hostile.bin")).unwrap(), content.bytes());
    scene.check(&["a partial has turned up"]);
}
