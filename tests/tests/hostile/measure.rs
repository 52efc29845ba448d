//! Who measures the way more than it may, and who lies while it is measured.

use p2p_protocol::{
    limits::{MEASURE_BUDGET, MEASURE_LEN},
    reason::{PeerMisbehaved, RefuseReason},
    wire::peer::{Arrived, Measure, Measured, Message},
};
use p2p_tests::{
    hostile::{Heard, Scene},
    words,
};

/// However often it asks, a daemon spends no more on it than its budget, and answers all the same.
#[tokio::test(flavor = "multi_thread")]
async fn who_measures_again_and_again_gets_so_much_and_no_more() {
    let mut scene = Scene::new();
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let (mut all, mut kept, mut was_denied) = (0, Vec::new(), false);
    for ways in 0..12 {
        let mut conversation = connection.open().await;
        let (wants, brings) = if ways % 2 == 0 { (u32::MAX, 0) } else { (0, u32::MAX) };
        conversation.say(Message::Measure(Measure { wants, brings })).await;
        let Heard::Message(Message::Measured(Measured { sends, takes, .. })) = conversation.hear().await
        else {
            panic!("no answer")
        };
        assert!(sends <= MEASURE_LEN && takes <= MEASURE_LEN);
        all += u64::from(sends) + u64::from(takes);
        was_denied |= sends + takes == 0;
        kept.push(conversation);
    }
    assert!(all <= MEASURE_BUDGET && was_denied, "{all}");
    drop(kept);
    scene.check(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_were_not_settled_are_named() {
    let wrong = [
        Message::Filler(vec![0; 2000]),
        Message::Filler(Vec::new()),
        Message::Arrived(Arrived { micros: 1 }),
    ];
    for wrong in wrong {
        let fault = PeerMisbehaved::UnexpectedMessage(wrong.name());
        let mut scene = Scene::new();
        let connection = scene.hostile.dial(scene.victim.address()).await;
        let mut conversation = connection.open().await;
        conversation.say(Message::Measure(Measure { wants: 0, brings: 1000 })).await;
        let heard = conversation.hear().await;
        assert!(
            matches!(heard, Heard::Message(Message::Measured(Measured { takes: 1000, .. }))),
            "{heard:?}"
        );
        conversation.say(wrong).await;
        scene.check(&[&fault.to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_measures_nothing() {
    let scene = Scene::new();
    let peer = scene.hostile.peer_id();
    scene.victim.cli().run(words!["peers", "forget", peer]).success();
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let mut conversation = connection.open().await;
    conversation.say(Message::Measure(Measure { wants: 1000, brings: 0 })).await;
    let heard = conversation.hear().await;
    let refused = Heard::Message(Message::Refuse(RefuseReason::NotAllowed));
    assert!(heard == refused || !matches!(heard, Heard::Message(_)), "{heard:?}");
}
