//! A provider that does not know its File ID yet, or says so, and a receiver that takes advantage of one.

use p2p_protocol::{
    ChunkRange, FileId, ResumeKey,
    limits::{HASH_FIRST_LEN, MAX_CHUNK_LEN},
    reason::{AbortReason, ChunkFailure, PeerMisbehaved, RefuseReason},
    tree::TreeError,
    wire::peer::{Accept, Done, Hashing, Message, Offer, Page, Seal, Want},
};
use p2p_tests::{
    Running,
    data::CHUNK,
    hostile::{Content, Conversation, Ended, Heard, Scene},
    words,
};

const KEY: ResumeKey = ResumeKey([7; 16]);

fn content() -> Content {
    Content::random("hostile.bin", 1, MAX_CHUNK_LEN + 2 * CHUNK + 5)
}

fn offer(content: &Content, key: ResumeKey) -> Message {
    Message::Offer(Offer { file_id: None, resume_key: Some(key), ..content.offer() })
}

fn seal(content: &Content) -> Seal {
    let geometry = content.geometry();
    Seal { file_id: content.file_id(), size: geometry.size(), chunks: geometry.chunks() }
}

/// A conversation whose offer was taken, and the chunks that the victim wants first.
async fn taken(scene: &Scene, content: &Content) -> (Conversation, Vec<u32>) {
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.say(offer(content, KEY)).await;
    assert!(matches!(conversation.expect().await, Message::Accept(_)));
    let wanted = conversation.expect_that("Want", wants).await;
    (conversation, wanted)
}

fn wants(message: &Message) -> Option<Vec<u32>> {
    match message {
        Message::Want(want) if !want.ranges.is_empty() => {
            Some(want.ranges.iter().flat_map(|range| range.start..range.start + range.count).collect())
        }
        _ => None,
    }
}

/// Sends these chunks, each with its value, and waits until each has counted.
async fn send(conversation: &mut Conversation, content: &Content, chunks: &[u32]) {
    for chunk in chunks {
        conversation.connection().send_stream(&content.valued_stream(conversation.id(), *chunk)).await;
        let counted = |message: &Message| match message {
            Message::Verified(ranges) => ranges.iter().any(|range| range.start == *chunk).then_some(()),
            _ => None,
        };
        conversation.expect_that("Verified", counted).await;
    }
}

/// Takes an honest offer up to where the File ID is due, and expects to be thrown out for what is said then.
async fn condemned(lies: Vec<Message>, fault: PeerMisbehaved) {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, wanted) = taken(&scene, &content).await;
    send(&mut conversation, &content, &wanted[..2]).await;
    for lie in lies {
        conversation.say(lie).await;
    }
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    assert!(scene.victim.received().is_empty(), "{:?}", scene.victim.received());
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_one_is_taken_and_its_name_learnt_at_the_end() {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, wanted) = taken(&scene, &content).await;
    send(&mut conversation, &content, &wanted).await;
    assert!(scene.victim.received().is_empty(), "published before it has a name");
    conversation.say(Message::Hashing(Hashing { left: 1 })).await;
    conversation.say(Message::Seal(seal(&content))).await;
    conversation.provide(&content, Vec::new()).await;
    assert_eq!(std::fs::read(scene.victim.inbox().join("hostile.bin")).unwrap(), content.bytes());
    let transfers = scene.victim.settled();
    assert_eq!(transfers[0]["file_id"], content.file_id().to_string(), "{transfers:?}");
    scene.check(&["sealed"]);
    assert!(scene.victim.partials().is_empty(), "{:?}", scene.victim.partials());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_before_the_chunks_is_as_good_as_a_file_id() {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, wanted) = taken(&scene, &content).await;
    conversation.say(Message::Seal(seal(&content))).await;
    let asked = |message: &Message| matches!(message, Message::NeedPages(_)).then_some(());
    conversation.expect_that("NeedPages", asked).await;
    conversation.say(Message::Page(content.page(0))).await;
    conversation.provide(&content, wanted).await;
    assert_eq!(std::fs::read(scene.victim.inbox().join("hostile.bin")).unwrap(), content.bytes());
    scene.check(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_without_its_value_ends_the_connection() {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, wanted) = taken(&scene, &content).await;
    conversation.send_chunk(&content, wanted[0]).await;
    let fault = PeerMisbehaved::ChunkHeader(wanted[0]);
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    scene.check(&["peer misbehaved"]);
}

/// Fault 41.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_not_what_its_header_says_is_asked_for_again() {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, wanted) = taken(&scene, &content).await;
    let mut bad = content.valued_stream(conversation.id(), wanted[0]);
    *bad.last_mut().unwrap() ^= 1;
    conversation.connection().send_stream(&bad).await;
    let failed = |message: &Message| match message {
        Message::ChunkFailed(failed) => Some(*failed),
        _ => None,
    };
    let failed = conversation.expect_that("ChunkFailed", failed).await;
    assert_eq!((failed.chunk, failed.reason), (wanted[0], ChunkFailure::Corrupt));
    scene.check(&["chunk failed"]);
}

/// Fault 41.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_the_list_contradicts_is_asked_for_again() {
    let (mut scene, content) = (Scene::new(), content());
    // The same but for one byte, so that header and bytes agree, and the list does not.
    let lie = content.with_byte_flipped(CHUNK + 9);
    let (mut conversation, wanted) = taken(&scene, &content).await;
    send(&mut conversation, &lie, &wanted).await;
    conversation.say(Message::Seal(seal(&content))).await;
    let asked = loop {
        match conversation.expect().await {
            Message::NeedPages(pages) => {
                for page in pages {
                    conversation.say(Message::Page(content.page(page))).await;
                }
            }
            message => {
                if let Some(wanted) = wants(&message) {
                    break wanted;
                }
            }
        }
    };
    assert_eq!(asked, [1]);
    assert!(scene.victim.received().is_empty());
    conversation.provide(&content, asked).await;
    assert_eq!(std::fs::read(scene.victim.inbox().join("hostile.bin")).unwrap(), content.bytes());
    scene.check(&[]);
}

/// Fault 46.
#[tokio::test(flavor = "multi_thread")]
async fn a_seal_of_another_size_ends_the_connection() {
    let content = content();
    let seal = seal(&content);
    for lie in [Seal { size: seal.size - 1, ..seal }, Seal { chunks: seal.chunks + 1, ..seal }] {
        condemned(vec![Message::Seal(lie)], PeerMisbehaved::FalseSeal).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_seal_ends_the_connection() {
    let seal = || Message::Seal(seal(&content()));
    condemned(vec![seal(), seal()], PeerMisbehaved::UnexpectedMessage("Seal")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_has_sealed_hashes_no_longer() {
    let lies = vec![Message::Seal(seal(&content())), Message::Hashing(Hashing { left: 0 })];
    condemned(lies, PeerMisbehaved::UnexpectedMessage("Hashing")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_before_the_seal_end_the_connection() {
    let content = content();
    let page = vec![Message::Page(content.page(0))];
    condemned(page, PeerMisbehaved::UnexpectedMessage("Page")).await;
    condemned(vec![Message::Top(content.top())], PeerMisbehaved::UnexpectedMessage("Top")).await;
}

/// Fault 43.
#[tokio::test(flavor = "multi_thread")]
async fn a_seal_under_a_false_name_ends_the_connection() {
    let content = content();
    let lie = Message::Seal(Seal { file_id: FileId([9; 32]), ..seal(&content) });
    let page = Message::Page(Page { page: 0, values: content.page(0).values });
    condemned(vec![lie, page], PeerMisbehaved::ForgedList(TreeError::Mismatch)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_of_what_has_a_name_ends_the_connection() {
    let (mut scene, content) = (Scene::new(), content());
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.offer(&content).await;
    conversation.say(Message::Seal(seal(&content))).await;
    let fault = PeerMisbehaved::UnexpectedMessage("Seal");
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_twice_over_one_connection_waits() {
    let (mut scene, content) = (Scene::new(), content());
    let (mut first, wanted) = taken(&scene, &content).await;
    let mut second = first.connection().open().await;
    second.say(offer(&content, KEY)).await;
    assert_eq!(second.hear().await, Heard::Message(Message::Refuse(RefuseReason::Busy)));
    // With its name too it is the same transfer.
    let mut third = first.connection().open().await;
    third.say(Message::Offer(Offer { resume_key: Some(KEY), ..content.offer() })).await;
    assert_eq!(third.hear().await, Heard::Message(Message::Refuse(RefuseReason::Busy)));
    send(&mut first, &content, &wanted).await;
    first.say(Message::Seal(seal(&content))).await;
    first.provide(&content, Vec::new()).await;
    scene.check(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_under_a_key_goes_on_under_a_name() {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, wanted) = taken(&scene, &content).await;
    let (there, missing) = wanted.split_at(wanted.len() / 2);
    send(&mut conversation, &content, there).await;
    conversation.connection().0.close(0u32.into(), b"");
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    // The victim may not have noticed yet that the other connection is gone.
    let accept = loop {
        conversation.say(Message::Offer(Offer { resume_key: Some(KEY), ..content.offer() })).await;
        match conversation.expect().await {
            Message::Accept(accept) => break accept,
            Message::Refuse(RefuseReason::Busy) => {
                conversation = conversation.connection().open().await;
            }
            other => panic!("expected Accept, got {other:?}"),
        }
    };
    assert_eq!(accept.have_count as usize, there.len(), "{accept:?}");
    let asked = conversation.until_wanted(&content).await;
    let mut sorted = (asked.clone(), missing.to_vec());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1, "what is there is not wanted again");
    conversation.provide(&content, asked).await;
    assert_eq!(std::fs::read(scene.victim.inbox().join("hostile.bin")).unwrap(), content.bytes());
    scene.check(&[]);
    assert!(scene.victim.partials().is_empty(), "{:?}", scene.victim.partials());
}

/// What was received under a key is not taken again; under the same key another name gets nothing out of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_content_is_here_is_waited_for_to_have_a_name() {
    let (mut scene, content) = (Scene::new(), content());
    let (mut conversation, wanted) = taken(&scene, &content).await;
    send(&mut conversation, &content, &wanted).await;
    conversation.say(Message::Seal(seal(&content))).await;
    conversation.provide(&content, Vec::new()).await;
    scene.victim.settled();
    let mut conversation = conversation.connection().open().await;
    conversation.say(offer(&content, KEY)).await;
    let Message::Accept(accept) = conversation.expect().await else { panic!("expected Accept") };
    assert_eq!(accept.have_count, content.geometry().chunks());
    assert_eq!(conversation.expect().await, Message::Want(Want { ranges: Vec::new(), credit: 1 }));
    conversation.say(Message::Hashing(Hashing { left: 3 })).await;
    conversation.say(Message::Seal(seal(&content))).await;
    let Message::Done(done) = conversation.expect().await else { panic!("expected Done") };
    assert_eq!(done.file_id, content.file_id());
    let other = Message::Seal(Seal { file_id: FileId([9; 32]), ..seal(&content) });
    let mut conversation = conversation.connection().open().await;
    conversation.say(offer(&content, KEY)).await;
    conversation.say(other).await;
    let abort = |message: &Message| match message {
        Message::Abort(reason) => Some(*reason),
        _ => None,
    };
    assert_eq!(conversation.expect_that("Abort", abort).await, AbortReason::OfferAgain);
    let lies = [
        (Message::Seal(Seal { size: 1, ..seal(&content) }), PeerMisbehaved::FalseSeal),
        (Message::Page(content.page(0)), PeerMisbehaved::UnexpectedMessage("Page")),
    ];
    for (lie, fault) in lies {
        let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
        conversation.say(offer(&content, KEY)).await;
        conversation.say(lie).await;
        assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    }
    assert_eq!(scene.victim.received().len(), 1);
    scene.check(&["peer misbehaved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_fetch_has_a_name() {
    let (mut scene, content) = (Scene::new(), content());
    let cli = scene.victim.cli();
    let asked = content.file_id().to_string();
    let fetching = cli.start_json(words!["fetch", asked, "--from", scene.hostile.address()]);
    let mut conversation = scene.hostile.accept().await.accept().await;
    assert!(matches!(conversation.expect().await, Message::Fetch(_)));
    conversation.say(offer(&content, KEY)).await;
    let fetched = tokio::task::spawn_blocking(move || fetching.finish()).await.unwrap();
    assert!(fetched.code.is_some_and(|code| code != 0), "{fetched}");
    assert!(scene.victim.received().is_empty() && scene.victim.partials().is_empty());
    scene.check(&[]);
}

/// The victim sends what it has not hashed to the hostile peer, which has taken the offer.
async fn taking(scene: &Scene) -> (Running, Conversation, Offer) {
    let file = scene.victim.new_file("f.bin", 1, HASH_FIRST_LEN + CHUNK);
    let running = scene.victim.cli().start_json(words!["send", file, "--to", scene.hostile.address()]);
    let mut conversation = scene.hostile.accept().await.accept().await;
    let Message::Offer(offer) = conversation.expect().await else { panic!("expected Offer") };
    assert!(offer.file_id.is_none() && offer.resume_key.is_some(), "{offer:?}");
    let accept = Accept { chunk_log2: offer.chunk_log2, have_count: 0, have: Vec::new() };
    conversation.say(Message::Accept(accept)).await;
    (running, conversation, offer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_may_not_ask_for_lists_or_be_done_before_the_seal() {
    let done = Done { file_id: FileId([1; 32]), name: "f.bin".into(), fetchable: false };
    for (lie, fault) in [
        (Message::NeedPages(vec![0]), PeerMisbehaved::UnexpectedMessage("NeedPages")),
        (Message::Done(done), PeerMisbehaved::FalseDone),
    ] {
        let mut scene = Scene::new();
        let (running, mut conversation, _) = taking(&scene).await;
        conversation.say(lie).await;
        assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
        let sent = tokio::task::spawn_blocking(move || running.finish()).await.unwrap();
        assert!(sent.code.is_some_and(|code| code != 0), "{sent}");
        std::fs::remove_file(scene.victim.file("f.bin")).unwrap();
        scene.check(&["peer misbehaved", &fault.to_string()]);
    }
}

/// A receiver that says nothing of what it was sent gets no second reading and no seal out of it; one that wants
/// nothing gets the seal at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_does_not_want_is_hashed_and_sealed_all_the_same() {
    let mut scene = Scene::new();
    let (running, mut conversation, offer) = taking(&scene).await;
    conversation.say(Message::Want(Want { ranges: Vec::new(), credit: 1 })).await;
    let sealed = |message: &Message| match message {
        Message::Seal(seal) => Some(*seal),
        _ => None,
    };
    let seal = conversation.expect_that("Seal", sealed).await;
    assert_eq!(seal.size, offer.size);
    let all = ChunkRange { start: 0, count: seal.chunks };
    conversation.say(Message::Verified(vec![all])).await;
    conversation.say(Message::Done(Done { file_id: seal.file_id, name: "f".into(), fetchable: false })).await;
    let sent = tokio::task::spawn_blocking(move || running.finish()).await.unwrap().success();
    assert_eq!(sent.event("done")["file_id"], seal.file_id.to_string(), "{sent}");
    assert_eq!(sent.moved(), 0, "{sent}");
    std::fs::remove_file(scene.victim.file("f.bin")).unwrap();
    scene.check(&[]);
}
