//! Claims of what somebody else was given: invitations, by peers that know more of them than they should.

use p2p_protocol::{
    FileId, PeerId, Token,
    limits::{MAX_STRANGER_REQUESTS, MAX_WRONG_CLAIMS},
    reason::{PeerMisbehaved, RefuseReason, close},
    token::{Binding, Proof},
    wire::peer::{Fetch, Join, Joined, Message, Redeem},
};
use p2p_tests::{
    data::CHUNK,
    hostile::{Connection, Content, Ended, Heard, Hostile, Scene},
    words,
};

const NO_TOKEN: Heard = Heard::Message(Message::Refuse(RefuseReason::NoToken));

fn invite(scene: &Scene) -> Token {
    scene.victim.cli().run(words!["invite", "--name", "victim"]).success().text().parse().unwrap()
}

/// What both ends of this connection derive from it.
fn binding(connection: &Connection, scene: &Scene, holder: &Hostile) -> Binding {
    let mut exporter = [0; 32];
    connection.0.export_keying_material(&mut exporter, b"EXPORTER-p2p-claim", b"").unwrap();
    let id = |text: &str| text.parse::<PeerId>().unwrap();
    Binding { exporter, holder: id(&holder.peer_id()), giver: id(scene.victim.peer()) }
}

/// A claim that would be right on that connection.
fn claim(token: &Token, binding: &Binding) -> Join {
    Join { invitation: token.id(), proof: token.key().prove(binding), name: "hostile".into() }
}

async fn say(connection: &Connection, join: Join) -> Heard {
    let mut conversation = connection.open().await;
    conversation.say(Message::Join(join)).await;
    conversation.hear().await
}

fn welcome() -> Heard {
    Heard::Message(Message::Joined(Joined { name: "victim".into() }))
}

/// Fault 77.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_worth_nothing_on_another_connection_or_for_another_peer() {
    let mut scene = Scene::with_stranger();
    let token = invite(&scene);
    let other = Hostile::new();
    let seen = scene.hostile.dial(scene.victim.address()).await;
    let here = scene.hostile.dial(scene.victim.address()).await;
    let right = binding(&here, &scene, &scene.hostile);
    // What was said on another connection of the same peer, as a relay sees it; as if another had said it here; the other way round.
    let elsewhere = binding(&seen, &scene, &scene.hostile);
    let of_another = binding(&here, &scene, &other);
    let reversed = Binding { holder: right.giver, giver: right.holder, ..right };
    for wrong in [elsewhere, of_another, reversed] {
        assert_eq!(say(&here, claim(&token, &wrong)).await, NO_TOKEN, "{wrong:?}");
    }
    assert_eq!(scene.victim.standing_of(&scene.hostile.peer_id()).as_deref(), Some("pending"));
    assert_eq!(say(&here, claim(&token, &right)).await, welcome());
    assert_eq!(scene.victim.standing_of(&scene.hostile.peer_id()).as_deref(), Some("trusted"));
    // The very same words again, from elsewhere.
    let replayed = other.dial(scene.victim.address()).await;
    assert_eq!(say(&replayed, claim(&token, &right)).await, NO_TOKEN);
    let used = binding(&replayed, &scene, &other);
    assert_eq!(say(&replayed, claim(&token, &used)).await, NO_TOKEN);
    assert_ne!(scene.victim.standing_of(&other.peer_id()).as_deref(), Some("trusted"));
    scene.check(&["wrong proof", "no such invitation", "has joined by invitation"]);
}

/// Fault 77.
#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_is_not_listened_to_any_longer() {
    let mut scene = Scene::with_stranger();
    let token = invite(&scene);
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let right = claim(&token, &binding(&connection, &scene, &scene.hostile));
    for n in 0..MAX_WRONG_CLAIMS {
        let guess = Join { proof: Proof([n as u8; 32]), ..right.clone() };
        assert_eq!(say(&connection, guess).await, NO_TOKEN);
    }
    // Now not even the right one, nor from a new connection with another key.
    let busy = Heard::Message(Message::Refuse(RefuseReason::Locked));
    invite(&scene);
    assert_eq!(say(&connection, right).await, busy);
    let other = Hostile::new();
    let again = other.dial(scene.victim.address()).await;
    let right = claim(&token, &binding(&again, &scene, &other));
    assert_eq!(say(&again, right).await, busy);
    let left = scene.victim.cli().json(words!["invites"]).success().events;
    assert_eq!(left.len(), 1, "that which was guessed at is void: {left:?}");
    scene.check(&["a claim was not looked at"]);
}

/// Fault 77.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_gets_in() {
    let mut scene = Scene::with_stranger();
    let token = invite(&scene);
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let other = Hostile::new();
        let connection = other.dial(scene.victim.address()).await;
        let join = claim(&token, &binding(&connection, &scene, &other));
        tries.spawn(async move {
            let heard = say(&connection, join).await;
            (heard, other)
        });
    }
    let all = tries.join_all().await;
    let let_in = all.iter().filter(|(heard, _)| *heard == welcome()).count();
    assert_eq!(let_in, 1, "{all:?}");
    let trusted = scene.victim.peers().iter().filter(|peer| peer["standing"] == "trusted").count();
    assert_eq!(trusted, 2, "the honest one and the one that was let in");
    scene.check(&[]);
}

/// Faults 72 and 77.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_opens_nothing_but_itself_to_strangers() {
    let mut scene = Scene::with_stranger();
    let token = invite(&scene);
    let content = Content::random("hostile.bin", 1, CHUNK);
    let fetch = Message::Fetch(Fetch { file_id: FileId([7; 32]), eager: false });
    for question in [Message::Offer(content.offer()), fetch] {
        let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
        conversation.say(question).await;
        assert_eq!(conversation.expect_closed().await, Ended::Code(close::NOT_TRUSTED.into()));
    }
    let mut conversation = scene.hostile.dial(scene.victim.address()).await.open().await;
    conversation.say(Message::Joined(Joined { name: "x".into() })).await;
    let fault = PeerMisbehaved::UnexpectedMessage("Joined");
    assert_eq!(conversation.expect_closed().await, Ended::misbehaved(&fault));
    // A name that would fill a frame is one that is cut.
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let right = claim(&token, &binding(&connection, &scene, &scene.hostile));
    let name = format!("honest\u{1b}[2J{}", "x".repeat(3000));
    assert_eq!(say(&connection, Join { name, ..right }).await, welcome());
    let peers = scene.victim.peers();
    let joined = peers.iter().find(|peer| peer["peer"] == scene.hostile.peer_id().as_str()).unwrap();
    assert!(joined["name"].as_str().unwrap().starts_with("honest--2Jxxx"), "{joined}");
    assert!(joined["name"].as_str().unwrap().len() < 64, "{joined}");
    scene.check(&["misbehaved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_invitations_a_stranger_is_shown_out_as_ever() {
    let mut scene = Scene::with_stranger();
    let token = invite(&scene);
    scene.victim.cli().run(words!["uninvite", "1"]).success();
    let connection = scene.hostile.dial(scene.victim.address()).await;
    assert_eq!(connection.ended().await, Ended::Code(close::NOT_TRUSTED.into()));
    // One that was there before asks in vain, and only so often.
    invite(&scene);
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let right = claim(&token, &binding(&connection, &scene, &scene.hostile));
    assert_eq!(say(&connection, right.clone()).await, NO_TOKEN);
    for _ in 1..MAX_STRANGER_REQUESTS {
        say(&connection, right.clone()).await;
    }
    assert_eq!(say(&connection, right).await, Heard::Closed(Ended::Code(close::BUSY.into())));
    scene.check(&[]);
}

/// A daemon that joins says nothing to a machine that only has the right address.
#[tokio::test(flavor = "multi_thread")]
async fn an_impostor_hears_nothing() {
    let mut scene = Scene::with_stranger();
    let token =
        scene.victim.cli().run(words!["invite", "--address", scene.hostile.address()]).success().text();
    let honest = scene.honest.cli();
    let joining = tokio::task::spawn_blocking(move || honest.json(words!["join", token]));
    let connection = scene.hostile.accept().await;
    assert_eq!(connection.ended().await, Ended::Code(close::WRONG_PEER.into()));
    joining.await.unwrap().exits(5);
    scene.check(&[]);
}

fn ticket(scene: &Scene, words: &[&str]) -> (Token, std::path::PathBuf) {
    let file = scene.victim.file("ticket.bin");
    if !file.exists() {
        scene.victim.new_file("ticket.bin", 7, 1000);
    }
    let words = words!["share", file, "--ticket"].into_iter().chain(words.iter().map(Into::into));
    (scene.victim.cli().run(words).success().text().parse().unwrap(), file)
}

fn redeem(token: &Token, file_id: FileId, binding: &Binding) -> Message {
    let fetch = Fetch { file_id, eager: false };
    Message::Redeem(Redeem { ticket: token.id(), proof: token.key().prove(binding), fetch })
}

async fn ask(connection: &Connection, message: Message) -> Heard {
    let mut conversation = connection.open().await;
    conversation.say(message).await;
    conversation.hear().await
}

/// Fault 77.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_for_one_thing_on_its_own_connection() {
    let mut scene = Scene::with_stranger();
    let (token, file) = ticket(&scene, &["--uses", "1"]);
    let private = scene.victim.new_file("private.bin", 2, 1000);
    scene.victim.cli().run(words!["share", private]).success();
    let id = |path: &std::path::Path| p2p_tests::data::file_id(path).parse::<FileId>().unwrap();
    let other = Hostile::new();
    let seen = scene.hostile.dial(scene.victim.address()).await;
    let here = scene.hostile.dial(scene.victim.address()).await;
    let right = binding(&here, &scene, &scene.hostile);
    for (file_id, wrong) in [
        (id(&file), binding(&seen, &scene, &scene.hostile)),
        (id(&file), binding(&here, &scene, &other)),
        (id(&private), right),
        (FileId([9; 32]), right),
    ] {
        assert_eq!(ask(&here, redeem(&token, file_id, &wrong)).await, NO_TOKEN, "{file_id} {wrong:?}");
    }
    let offered = ask(&here, redeem(&token, id(&file), &right)).await;
    assert!(matches!(offered, Heard::Message(Message::Offer(_))), "{offered:?}");
    // It is used up, for another one.
    let late = other.dial(scene.victim.address()).await;
    let claim = redeem(&token, id(&file), &binding(&late, &scene, &other));
    assert_eq!(ask(&late, claim).await, NO_TOKEN);
    // And it is no invitation.
    let join = Join { invitation: token.id(), proof: token.key().prove(&right), name: String::new() };
    assert_eq!(say(&here, join).await, NO_TOKEN);
    let plain = Message::Fetch(Fetch { file_id: id(&file), eager: false });
    assert_eq!(ask(&here, plain).await, Heard::Closed(Ended::Code(close::NOT_TRUSTED.into())));
    for path in [file, private] {
        std::fs::remove_file(path).unwrap();
    }
    scene.check(&["wrong proof", "no such ticket"]);
}

/// Fault 77.
#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_tickets_is_not_listened_to_any_longer() {
    let mut scene = Scene::with_stranger();
    let (token, file) = ticket(&scene, &[]);
    let file_id = p2p_tests::data::file_id(&file).parse().unwrap();
    let connection = scene.hostile.dial(scene.victim.address()).await;
    let right = redeem(&token, file_id, &binding(&connection, &scene, &scene.hostile));
    let Message::Redeem(claim) = right.clone() else { unreachable!() };
    for n in 0..MAX_WRONG_CLAIMS {
        let guess = Redeem { proof: Proof([n as u8; 32]), ..claim.clone() };
        assert_eq!(ask(&connection, Message::Redeem(guess)).await, NO_TOKEN);
    }
    ticket(&scene, &[]);
    assert_eq!(ask(&connection, right).await, Heard::Message(Message::Refuse(RefuseReason::Locked)));
    std::fs::remove_file(file).unwrap();
    scene.check(&["a claim was not looked at"]);
}
