//! Questions about transfers that are not made: who asks wrongly, and who answers what cannot be.

use p2p_protocol::{
    FileId,
    reason::{PeerMisbehaved, RefuseReason},
    wire::peer::{Kind, Message, Offer, Peek, WouldTake},
};
use p2p_tests::{
    hostile::{Heard, Scene},
    words,
};

const ID: FileId = FileId([7; 32]);

fn folder() -> Offer {
    Offer {
        name: "f".into(),
        kind: Kind::Folder { manifest_len: 5 },
        size: 9,
        allocated: 9,
        chunk_log2: 18,
        file_id: Some(ID),
        resume_key: None,
        executable: false,
        modified_ns: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_answer_to_a_question_is_named() {
    let answers = [
        (
            Message::Offer(Offer { file_id: Some(FileId([8; 32])), ..folder() }),
            None,
            PeerMisbehaved::WrongFile,
        ),
        (
            Message::WouldTake(WouldTake { files: 1, bytes: 1 }),
            None,
            PeerMisbehaved::UnexpectedMessage("WouldTake"),
        ),
        (Message::Offer(folder()), Some(Message::Manifest(vec![0; 5])), PeerMisbehaved::FalseManifest),
        (Message::Offer(folder()), Some(Message::Manifest(vec![0; 6])), PeerMisbehaved::FalseManifest),
    ];
    for (answer, list, fault) in answers {
        let mut scene = Scene::new();
        let words = words!["ls", scene.hostile.address(), ID.to_string(), "--json"];
        let cli = scene.victim.cli();
        let asking = tokio::task::spawn_blocking(move || cli.run(words));
        let connection = scene.hostile.accept().await;
        let mut conversation = connection.accept().await;
        assert_eq!(conversation.hear().await, Heard::Message(Message::Peek(Peek { file_id: ID })));
        conversation.say(answer).await;
        if let Some(list) = list {
            assert_eq!(conversation.hear().await, Heard::Message(Message::NeedManifest));
            conversation.say(list).await;
        }
        let said = asking.await.unwrap();
        assert!(
            said.code != Some(0) && String::from_utf8_lossy(&said.stdout).contains(&fault.to_string()),
            "{said}"
        );

        scene.check(&[&fault.to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_neither_fetch_nor_send_is_told_nothing() {
    let mut scene = Scene::new();
    let peer = scene.hostile.peer_id();
    let file = scene.victim.new_file("a", 1, 1000);
    let id: FileId = scene.victim.cli().run(words!["share", &file]).success().text().parse().unwrap();
    let ask = async |first: Message| {
        let connection = scene.hostile.dial(scene.victim.address()).await;
        let mut conversation = connection.open().await;
        conversation.say(first).await;
        conversation.hear().await
    };
    assert!(matches!(ask(Message::Peek(Peek { file_id: id })).await, Heard::Message(Message::Offer(_))));
    scene.victim.cli().run(words!["peers", "trust", peer, "--allow", "send"]).success();
    let refused = |reason| Heard::Message(Message::Refuse(reason));
    assert_eq!(ask(Message::Peek(Peek { file_id: id })).await, refused(RefuseReason::NotFound));
    scene.victim.cli().run(words!["peers", "trust", peer, "--allow", "fetch"]).success();
    assert_eq!(ask(Message::Try(folder())).await, refused(RefuseReason::NotAllowed));
    std::fs::remove_file(file).unwrap();
    scene.check(&[]);
}

/// An offer that is tried is judged as one that is made, and its list as that of one.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_list_of_what_is_tried_is_named() {
    let mut scene = Scene::new();
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let mut conversation = connection.open().await;
    conversation.say(Message::Try(folder())).await;
    assert_eq!(conversation.hear().await, Heard::Message(Message::NeedManifest));
    conversation.say(Message::Manifest(vec![1; 5])).await;
    scene.check(&[&PeerMisbehaved::FalseManifest.to_string()]);
    assert!(scene.victim.partials().is_empty());
}
