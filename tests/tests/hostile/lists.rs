//! A provider whose chaining values are forged.

use p2p_protocol::{
    Cv,
    limits::{GROUP_LEN, PAGE_CHUNKS},
    reason::PeerMisbehaved,
    tree::TreeError,
    wire::peer::{Message, Offer, Page},
};
use p2p_tests::{
    data,
    data::CHUNK,
    hostile::{Content, Conversation, Ended, Scene},
};

fn content() -> Content {
    Content::random("hostile.bin", 1, 8 * CHUNK)
}

/// Offers honestly, answers the first question for a page with this, and expects to be thrown out for this fault
/// before anything was kept.
async fn forged_page(forge: impl Fn(&Content) -> Page, fault: PeerMisbehaved) {
    let (mut scene, content) = (Scene::new(), content());
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.offer(&content).await;
    let pages = conversation
        .expect_that("NeedPages", |message| match message {
            Message::NeedPages(pages) => Some(pages.clone()),
            _ => None,
        })
        .await;
    assert_eq!(pages, [0]);
    conversation.say(Message::Page(forge(&content))).await;
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    assert_nothing_kept(&scene);
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

fn assert_nothing_kept(scene: &Scene) {
    for path in scene.victim.partials().iter().filter(|path| path.to_string_lossy().ends_with(".part")) {
        let bytes = std::fs::read(path).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0), "{} holds data", path.display());
    }
}

/// Fault 43.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_page_is_refused_before_any_data() {
    let forge = |content: &Content| {
        let mut page = content.page(0);
        page.values[3] = page.values[2];
        page
    };
    forged_page(forge, PeerMisbehaved::ForgedList(TreeError::Mismatch)).await;
}

/// Fault 43.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_wrong_length_is_refused() {
    let forge = |content: &Content| {
        let mut page = content.page(0);
        page.values.pop();
        page
    };
    forged_page(forge, PeerMisbehaved::ForgedList(TreeError::Length { expected: 8, got: 7 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_nobody_asked_for_is_refused() {
    let forge = |content: &Content| Page { page: 1, ..content.page(0) };
    forged_page(forge, PeerMisbehaved::UnexpectedMessage("Page")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_top_where_there_is_none_is_refused() {
    let (mut scene, content) = (Scene::new(), content());
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.offer(&content).await;
    conversation.say(Message::Top(content.top())).await;
    let fault = PeerMisbehaved::UnexpectedMessage("Top");
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

/// An offer of more than a page of chunks, which claims to occupy nothing.
fn large_offer(content: &Content) -> Offer {
    Offer { size: (2 * PAGE_CHUNKS + 1) * GROUP_LEN, allocated: 0, chunk_log2: 18, ..content.offer() }
}

async fn large(scene: &Scene) -> Conversation {
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.say(Message::Offer(large_offer(&content()))).await;
    let accepted = conversation.expect().await;
    assert!(matches!(accepted, Message::Accept(_)), "{accepted:?}");
    conversation
}

/// Fault 43.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_top_is_refused_before_any_data() {
    for (values, fault) in [
        (3, TreeError::Mismatch),
        (2, TreeError::Length { expected: 3, got: 2 }),
        (4, TreeError::Length { expected: 3, got: 4 }),
        (0, TreeError::Length { expected: 3, got: 0 }),
    ] {
        let mut scene = Scene::new();
        let mut conversation = large(&scene).await;
        conversation.say(Message::Top(vec![Cv([7; 32]); values])).await;
        let fault = PeerMisbehaved::ForgedList(fault);
        assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault), "{values} values");
        assert_nothing_kept(&scene);
        scene.check(&["peer misbehaved", &fault.to_string()]);
    }
}

/// Fault 46.
#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_size_occupies_nothing() {
    let mut scene = Scene::new();
    let _conversation = large(&scene).await;
    scene.check(&[]);
    let occupied: u64 = scene.victim.partials().iter().map(|path| data::allocated(path)).sum();
    assert!(occupied < data::MIB, "{occupied} bytes for a claim");
}
