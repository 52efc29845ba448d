//! A receiver that lies to the one who sends to it.

use p2p_protocol::{
    ChunkRange,
    bitmap::RangesError,
    limits::{MAX_PAGES_ASKED, MAX_STREAMS_PER_TRANSFER},
    reason::{ChunkFailure, PeerMisbehaved},
    wire::peer::{Accept, ChunkFailed, Done, Message, Offer, Want},
};
use p2p_tests::{
    Output, Running,
    data::CHUNK,
    hostile::{Conversation, Ended, Scene},
    words,
};

/// The victim sends to the hostile peer, which has heard the offer and not yet answered.
async fn offered(scene: &Scene) -> (Running, Conversation, Offer) {
    let file = scene.victim.new_file("f.bin", 1, 8 * CHUNK);
    let running = scene.victim.cli().start_json(words!["send", file, "--to", scene.hostile.address()]);
    let mut conversation = scene.hostile.accept().await.accept().await;
    match conversation.expect().await {
        Message::Offer(offer) => (running, conversation, offer),
        other => panic!("expected Offer, got {other:?}"),
    }
}

async fn finish(running: Running) -> Output {
    tokio::task::spawn_blocking(move || running.finish()).await.unwrap()
}

fn nothing_yet(offer: &Offer) -> Message {
    Message::Accept(Accept { chunk_log2: offer.chunk_log2, have_count: 0, have: Vec::new() })
}

/// Takes the offer, says this, and expects to be thrown out for it.
async fn condemned(lie: impl Fn(&Offer) -> Message, fault: PeerMisbehaved) {
    let mut scene = attacked();
    let (running, mut conversation, offer) = offered(&scene).await;
    conversation.say(nothing_yet(&offer)).await;
    conversation.say(lie(&offer)).await;
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    let sent = finish(running).await;
    assert!(sent.code.is_some_and(|code| code != 0), "{sent}");
    check(&mut scene, &["peer misbehaved", &fault.to_string()]);
}

/// The victim must know the hostile peer's key, to dial it.
fn attacked() -> Scene {
    Scene::new()
}

fn check(scene: &mut Scene, logged: &[&str]) {
    // The file that the victim sent is its own, and no sign of a break-in.
    std::fs::remove_file(scene.victim.file("f.bin")).unwrap();
    scene.check(logged);
}

fn want(start: u32, count: u32, credit: u32) -> Message {
    Message::Want(Want { ranges: vec![ChunkRange { start, count }], credit })
}

fn outside(start: u32, count: u32) -> PeerMisbehaved {
    PeerMisbehaved::Ranges(RangesError::Outside(ChunkRange { start, count }))
}

/// Fault 44.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_done_is_no_success() {
    let done = |offer: &Offer| {
        let file_id = offer.file_id.unwrap();
        Message::Done(Done { file_id, name: "f.bin".into(), fetchable: false })
    };
    condemned(done, PeerMisbehaved::FalseDone).await;
}

/// Fault 44.
#[tokio::test(flavor = "multi_thread")]
async fn verified_chunks_outside_the_file_are_a_lie() {
    for (start, count) in [(8, 1), (0, 9), (0, 0), (u32::MAX, 2)] {
        let lie = move |_: &Offer| Message::Verified(vec![ChunkRange { start, count }]);
        condemned(lie, outside(start, count)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wanting_what_is_not_there_is_refused() {
    condemned(|_| want(0, u32::MAX, 1), outside(0, u32::MAX)).await;
    condemned(|_| want(8, 1, 1), outside(8, 1)).await;
}

/// Fault 45.
#[tokio::test(flavor = "multi_thread")]
async fn a_credit_beyond_the_limits_is_refused() {
    for credit in [0, MAX_STREAMS_PER_TRANSFER + 1, u32::MAX] {
        condemned(move |_| want(0, 8, credit), PeerMisbehaved::Credit(credit)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_do_not_exist_are_refused() {
    condemned(|_| Message::NeedPages(vec![0, 1]), PeerMisbehaved::NoSuchPage(1)).await;
    condemned(|_| Message::NeedPages(vec![0; MAX_PAGES_ASKED + 1]), PeerMisbehaved::TooManyPages).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_chunk_that_does_not_exist_is_a_lie() {
    let lie = |_: &Offer| Message::ChunkFailed(ChunkFailed { chunk: 8, reason: ChunkFailure::Corrupt });
    condemned(lie, outside(8, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_provider_says_is_refused() {
    condemned(|_| Message::Top(Vec::new()), PeerMisbehaved::UnexpectedMessage("Top")).await;
}

/// Answers the offer with this, and expects to be thrown out for it.
async fn bad_accept(accept: impl Fn(&Offer) -> Accept, is_fault: impl Fn(u64) -> bool) {
    let mut scene = attacked();
    let (running, mut conversation, offer) = offered(&scene).await;
    conversation.say(Message::Accept(accept(&offer))).await;
    let ended = conversation.expect_closed().await;
    assert!(matches!(ended, Ended::Code(code) if is_fault(code)), "{ended:?}");
    let sent = finish(running).await;
    assert!(sent.code.is_some_and(|code| code != 0), "{sent}");
    check(&mut scene, &["peer misbehaved"]);
}

/// Faults 44 and 47.
#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_acceptance_is_refused() {
    let code = |fault: &PeerMisbehaved| u64::from(fault.close_code());
    for chunk_log2 in [0, 17, 23, 255] {
        let fault = p2p_protocol::Geometry::new(8 * CHUNK, chunk_log2).unwrap_err().into();
        let accept = move |_: &Offer| Accept { chunk_log2, have_count: 0, have: Vec::new() };
        bad_accept(accept, |found| found == code(&fault)).await;
    }
    let have = |start, count| vec![ChunkRange { start, count }];
    for (have_count, have) in [(9, Vec::new()), (0, have(0, 1)), (u32::MAX, have(0, 8))] {
        let accept = {
            let have = have.clone();
            move |offer: &Offer| Accept { chunk_log2: offer.chunk_log2, have_count, have: have.clone() }
        };
        bad_accept(accept, |found| found == code(&PeerMisbehaved::HaveCount(have_count))).await;
    }
    let accept =
        move |offer: &Offer| Accept { chunk_log2: offer.chunk_log2, have_count: 9, have: have(0, 9) };
    bad_accept(accept, |found| found == code(&outside(0, 9))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complaint_about_a_chunk_is_shown_and_answered() {
    let mut scene = attacked();
    let (running, mut conversation, offer) = offered(&scene).await;
    let streams = conversation.connection().0.clone();
    let receive = async |count: usize| {
        for _ in 0..count {
            let mut stream = streams.accept_uni().await.unwrap();
            assert!(stream.read_to_end(2 * CHUNK as usize).await.unwrap().len() as u64 > CHUNK);
        }
    };
    conversation.say(nothing_yet(&offer)).await;
    conversation.say(want(0, 8, 8)).await;
    receive(8).await;
    conversation.say(Message::ChunkFailed(ChunkFailed { chunk: 3, reason: ChunkFailure::Corrupt })).await;
    conversation.say(want(3, 1, 8)).await;
    receive(1).await;
    conversation.say(Message::Verified(vec![ChunkRange { start: 0, count: 8 }])).await;
    let file_id = offer.file_id.unwrap();
    conversation.say(Message::Done(Done { file_id, name: "theirs.bin".into(), fetchable: false })).await;
    let sent = finish(running).await.success();
    let complaint = sent.event("chunk_failed");
    assert_eq!(
        (complaint["chunk"].as_u64(), complaint["reason"].as_str()),
        (Some(3), Some("corrupt")),
        "{sent}"
    );
    assert_eq!(complaint["peer"], scene.hostile.peer_id(), "{sent}");
    assert_eq!(sent.event("done")["path"], "theirs.bin", "{sent}");
    assert_eq!(sent.moved(), 9 * CHUNK, "{sent}");
    check(&mut scene, &["damaged on the way"]);
}

/// Fault 69.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_wants_anything_holds_up_nobody() {
    let mut scene = attacked();
    let (running, mut conversation, offer) = offered(&scene).await;
    conversation.say(nothing_yet(&offer)).await;
    running.kill9();
    check(&mut scene, &[]);
}

/// Fault 69.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_reads_holds_up_nobody() {
    let mut scene = attacked();
    let (running, mut conversation, offer) = offered(&scene).await;
    conversation.say(nothing_yet(&offer)).await;
    conversation.say(want(0, 8, 8)).await;
    // Its chunk streams are never read.
    running.kill9();
    check(&mut scene, &[]);
}
