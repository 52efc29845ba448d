//! Frames that are no messages, and messages at the wrong moment.

use p2p_protocol::{
    limits::{MAX_FIRST_FRAME_LEN, MAX_FRAME_LEN},
    reason::{AbortReason, PeerMisbehaved},
    wire::{
        codec,
        peer::{Message, Seal},
    },
};
use p2p_tests::{
    data::CHUNK,
    hostile::{Content, Ended, Scene},
};

fn content() -> Content {
    Content::random("hostile.bin", 1, 8 * CHUNK)
}

/// A frame of these bytes.
fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes(), body].concat()
}

/// Says these bytes first thing, and expects to be thrown out.
async fn condemned_first(bytes: &[u8], fault: PeerMisbehaved) {
    let mut scene = Scene::new();
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.say_bytes(bytes).await;
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault), "{bytes:?}");
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

/// Says these bytes after its offer was taken, and expects to be thrown out.
async fn condemned_later(bytes: &[u8], fault: PeerMisbehaved) {
    let (mut scene, content) = (Scene::new(), content());
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.offer(&content).await;
    conversation.say_bytes(bytes).await;
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    scene.check(&["peer misbehaved", &fault.to_string()]);
}

fn whole(message: &Message) -> Vec<u8> {
    codec::frame(message, MAX_FRAME_LEN).unwrap()
}

/// Fault 50.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_frame_that_is_too_long_is_not_read() {
    let len = MAX_FIRST_FRAME_LEN as u32 + 1;
    condemned_first(&len.to_le_bytes(), PeerMisbehaved::FrameTooLong(len.into())).await;
}

/// Fault 50.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_frame_that_is_too_long_is_not_read() {
    condemned_later(&[0xff; 4], PeerMisbehaved::FrameTooLong(u32::MAX.into())).await;
}

/// Fault 51.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_message_is_refused() {
    condemned_first(&frame(&99u32.to_le_bytes()), PeerMisbehaved::MalformedFrame).await;
}

/// Fault 50.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_frame_is_refused() {
    condemned_first(&frame(b""), PeerMisbehaved::MalformedFrame).await;
}

/// Fault 50.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_left_over_are_refused() {
    let offer = whole(&Message::Offer(content().offer()));
    let longer = [&offer[codec::PREFIX_LEN..], &[0]].concat();
    condemned_first(&frame(&longer), PeerMisbehaved::MalformedFrame).await;
}

/// Fault 50.
#[tokio::test(flavor = "multi_thread")]
async fn a_length_inside_a_frame_is_not_believed() {
    // An offer whose name claims to have 2^64 - 1 bytes.
    let bomb = [&0u32.to_le_bytes()[..], &u64::MAX.to_le_bytes(), b"x"].concat();
    condemned_first(&frame(&bomb), PeerMisbehaved::MalformedFrame).await;
}

/// Fault 55.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_no_text_is_refused() {
    let mut offer = whole(&Message::Offer(content().offer()));
    // The first byte of the name, after the frame's length, the variant and the name's length.
    offer[4 + 4 + 8] = 0xff;
    condemned_first(&offer, PeerMisbehaved::MalformedFrame).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_offer_is_refused() {
    let again = whole(&Message::Offer(content().offer()));
    condemned_later(&again, PeerMisbehaved::UnexpectedMessage("Offer")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_receiver_says_is_refused() {
    let done =
        p2p_protocol::wire::peer::Done { file_id: content().file_id(), name: "x".into(), fetchable: false };
    condemned_later(&whole(&Message::Done(done)), PeerMisbehaved::UnexpectedMessage("Done")).await;
    let verified = Message::Verified(vec![p2p_protocol::ChunkRange { start: 0, count: 8 }]);
    condemned_later(&whole(&verified), PeerMisbehaved::UnexpectedMessage("Verified")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_where_the_file_id_is_known_is_refused() {
    let seal = Seal { file_id: content().file_id(), size: 8 * CHUNK, chunks: 8 };
    condemned_later(&whole(&Message::Seal(seal)), PeerMisbehaved::UnexpectedMessage("Seal")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_begins_with_an_offer_or_a_request() {
    let first = whole(&Message::Abort(AbortReason::Cancelled));
    condemned_first(&first, PeerMisbehaved::UnexpectedMessage("Abort")).await;
}

/// Fault 68.
#[tokio::test(flavor = "multi_thread")]
async fn silence_holds_up_nobody() {
    let (mut scene, content) = (Scene::new(), content());
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let mut kept = Vec::new();
    for n in 0..50 {
        let mut conversation = connection.open().await;
        // Nothing, half a length, half a message, or a whole offer and then nothing.
        let offer = whole(&Message::Offer(content.offer()));
        conversation.say_bytes(&offer[..[0, 2, 20, offer.len()][n % 4]]).await;
        kept.push(conversation);
    }
    scene.check(&[]);
}

/// Fault 60.
#[tokio::test(flavor = "multi_thread")]
async fn vanishing_at_any_moment_leaves_a_transfer_that_can_go_on() {
    let (mut scene, content) = (Scene::new(), content());
    for moment in 0..4u32 {
        let connection = scene.hostile.dial(scene.victim.address()).await;
        let mut conversation = connection.open().await;
        conversation.offer(&content).await;
        if moment > 0 {
            let wanted = conversation.until_wanted(&content).await;
            for chunk in wanted.into_iter().take(moment as usize - 1) {
                conversation.send_chunk(&content, chunk).await;
            }
        }
        connection.0.close(0u32.into(), b"");
    }
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.offer(&content).await;
    let wanted = conversation.until_wanted(&content).await;
    conversation.provide(&content, wanted).await;
    assert_eq!(std::fs::read(scene.victim.inbox().join("hostile.bin")).unwrap(), content.bytes());
    scene.check(&[]);
}
