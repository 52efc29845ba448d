//! Whole commands against a daemon that says what the test wants.

mod several;
mod together;

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::CommandFactory;
use p2p_protocol::{
    FileId, PeerId,
    control::{
        Direction, Event, KeyPolicy, Output as Place, Preamble, Progress, Request, RequestError, State,
        TransferEvent, WaitReason,
    },
    limits::MAX_CONTROL_FRAME_LEN,
    reason::{ChunkFailure, Failure},
    wire::codec,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::Mutex,
};

use crate::{
    args::Typed,
    commands,
    context::{Context, Person},
    ended,
    testing::{Captured, context, typed},
};

const PEER: PeerId = PeerId([1; 32]);
const FILE: FileId = FileId([2; 32]);

/// One connection of the script: how the daemon greets, and what it says once it was asked.
#[derive(Clone, Debug)]
struct Turn {
    greeting: Vec<u8>,
    says: Vec<Vec<u8>>,
}

fn turn(events: impl IntoIterator<Item = Event>) -> Turn {
    let frame = |event| codec::frame(&event, MAX_CONTROL_FRAME_LEN).unwrap();
    Turn { greeting: Preamble::ours().encode().to_vec(), says: events.into_iter().map(frame).collect() }
}

/// What a command left behind.
#[derive(Debug)]
struct Ran {
    code: u8,
    data: String,
    people: String,
    asked: Vec<Request>,
}

impl Ran {
    fn json(&self) -> Vec<serde_json::Value> {
        self.data.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Answers one connection after the other, each on a socket of its own as a new process would, and is gone
/// after the last.
async fn daemon(
    socket: PathBuf,
    mut listener: UnixListener,
    script: Vec<Turn>,
    asked: Arc<Mutex<Vec<Request>>>,
) {
    let turns = script.len();
    for (n, turn) in script.into_iter().enumerate() {
        let (stream, _) = listener.accept().await.unwrap();
        std::fs::remove_file(&socket).unwrap();
        if n + 1 < turns {
            listener = UnixListener::bind(&socket).unwrap();
        }
        converse(stream, turn, &asked).await;
    }
}

async fn converse(mut stream: UnixStream, turn: Turn, asked: &Mutex<Vec<Request>>) {
    let mut preamble = [0; Preamble::LEN];
    stream.read_exact(&mut preamble).await.unwrap();
    assert_eq!(Preamble::decode(preamble), Some(Preamble::ours()));
    stream.write_all(&turn.greeting).await.unwrap();
    let mut prefix = [0; codec::PREFIX_LEN];
    if stream.read_exact(&mut prefix).await.is_err() {
        return;
    }
    let mut body = vec![0; codec::body_len(prefix, MAX_CONTROL_FRAME_LEN).unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    asked.lock().await.push(codec::decode(&body).unwrap());
    for bytes in turn.says {
        // A command that has seen enough closes the connection.
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn run_with(words: &[&str], script: Vec<Turn>, change: impl FnOnce(&mut Context, &Path)) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(folder.path().join("a.iso"), "content").unwrap();
    let socket = home.join("p2pd.sock");
    let asked = Arc::new(Mutex::new(Vec::new()));
    if !script.is_empty() {
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(daemon(socket, listener, script, asked.clone()));
    }
    let path = folder.path().join("a.iso").display().to_string();
    let words: Vec<&str> =
        words.iter().map(|word| if *word == "PATH" { path.as_str() } else { word }).collect();
    let typed = typed(&words);
    let captured = Captured::default();
    let mut ctx = context(&home, captured.output(&typed.global));
    ctx.patience = Duration::from_millis(300);
    change(&mut ctx, folder.path());
    let result = commands::run(&mut ctx, typed.command).await;
    let code = ended(&ctx.out, result);
    let asked = asked.lock().await.clone();
    let hidden = folder.path().display().to_string();
    Ran { code, data: captured.data(), people: captured.people().replace(&hidden, "[folder]"), asked }
}

async fn run(words: &[&str], script: Vec<Turn>) -> Ran {
    run_with(words, script, |_, _| {}).await
}

fn started(direction: Direction, resumed_bytes: u64) -> Event {
    let name = "a.iso".to_owned();
    Event::Transfer(TransferEvent::Started {
        transfer: 7,
        direction,
        name,
        peer: PEER,
        total_bytes: 1000,
        resumed_bytes,
        batch: None,
        target: "fifi".into(),
    })
}

fn progress(verified_bytes: u64, moved_bytes: u64) -> Event {
    let numbers =
        Progress { verified_bytes, moved_bytes, total_bytes: 1000, rate: 100, ..Progress::default() };
    Event::Transfer(TransferEvent::Progress { transfer: 7, progress: numbers })
}

fn done(moved_bytes: u64) -> Event {
    Event::Transfer(TransferEvent::Done {
        transfer: 7,
        file_id: FILE,
        path: "a (1).iso".into(),
        bytes: 1000,
        moved_bytes,
        millis: 99_000,
        fetch_from: Some("fifi".into()),
        part_of: None,
    })
}

fn failed(failure: Failure, key: Option<PeerId>) -> Event {
    Event::Transfer(TransferEvent::Failed { transfer: 7, failure, message: "it \u{1b}[2J broke".into(), key })
}

const QUEUED: Event = Event::Queued { transfer: 7, batch: None };

#[tokio::test]
async fn a_send_says_where_it_landed() {
    let script = [QUEUED, progress(0, 0), started(Direction::Send, 0), progress(500, 500), done(1000)];
    let ran = run(&["send", "PATH", "--to", "fifi"], vec![turn(script)]).await;
    assert_eq!((ran.code, ran.data.as_str()), (0, ""));
    assert!(
        ran.people.starts_with("sending a.iso (1000 B) to fifi\nsent a.iso: 1000 B in 0.0 s"),
        "{}",
        ran.people
    );
    assert!(ran.people.contains("it is a (1).iso at fifi\n"), "{}", ran.people);
    assert!(
        ran.people.contains(&format!("fetch it again with: p2p fetch {FILE} --from fifi\n")),
        "{}",
        ran.people
    );
    match ran.asked.as_slice() {
        [Request::Send(send)] => {
            assert_eq!((send.target.as_str(), send.key, send.detach), ("fifi", KeyPolicy::Known, false));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_send_in_json_is_one_object_a_line() {
    let chunk_failed =
        TransferEvent::ChunkFailed { transfer: 7, chunk: 3, peer: PEER, reason: ChunkFailure::Truncated };
    let retrying = TransferEvent::Retrying { transfer: 7, attempt: 2, in_ms: 1500, reason: "gone".into() };
    let script = [
        QUEUED,
        Event::Transfer(TransferEvent::Waiting { transfer: 7, reason: WaitReason::Hashing }),
        progress(0, 0),
        started(Direction::Send, 400),
        progress(500, 100),
        Event::Transfer(chunk_failed),
        Event::Transfer(retrying),
        done(600),
    ];
    let ran = run(&["send", "PATH", "--to", "fifi", "--json"], vec![turn(script)]).await;
    assert_eq!((ran.code, ran.people.as_str()), (0, ""));
    let lines = ran.json();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["waiting", "started", "progress", "chunk_failed", "retrying", "done"]);
    assert!(ran.data.lines().all(|line| line.starts_with("{\"event\":\"")));
    assert_eq!(lines[5]["moved_bytes"], 600);
    assert_eq!(lines[5]["fetch"], format!("p2p fetch {FILE} --from fifi"));
    assert!(lines[5]["seconds"].as_f64().unwrap() < 60.0, "the time is this command's");
}

#[tokio::test]
async fn failures_have_their_exit_codes() {
    for (failure, code) in [
        (Failure::Other, 1),
        (Failure::Cancelled, 1),
        (Failure::Unreachable, 4),
        (Failure::Refused, 5),
        (Failure::NotFound, 6),
        (Failure::Integrity, 7),
        (Failure::Storage, 8),
        (Failure::Conflict, 9),
    ] {
        let script = [QUEUED, started(Direction::Send, 0), failed(failure, None)];
        let ran = run(&["send", "PATH", "--to", "fifi", "--json"], vec![turn(script)]).await;
        assert_eq!(ran.code, code);
        let lines = ran.json();
        let last = lines.last().unwrap();
        assert_eq!((&last["event"], &last["transfer"]), (&"failed".into(), &7.into()));
        assert_eq!((&last["exit_code"], &last["code"]), (&code.into(), &failure.code().into()));
        assert_eq!(lines.iter().filter(|line| line["event"] == "failed").count(), 1);

        let error = RequestError { failure, message: "no".into(), key: None };
        let ran = run(&["cancel", "7"], vec![turn([Event::Error(error)])]).await;
        assert_eq!((ran.code, ran.people.as_str()), (code, "error: no\n"));
    }
}

/// Fault 54.
#[tokio::test]
async fn an_error_cannot_move_the_cursor_and_says_how_to_go_on() {
    let script = [QUEUED, started(Direction::Fetch, 0), failed(Failure::Unreachable, None)];
    let ran = run(&["fetch", &FILE.to_string(), "--from", "fifi"], vec![turn(script)]).await;
    assert_eq!(ran.code, 4);
    assert_eq!(
        ran.people,
        "fetching a.iso (1000 B) from fifi\nerror: it \\u{1b}[2J broke\n       \
         what was verified is kept; go on from there with: p2p retry 7\n"
    );
}

#[tokio::test]
async fn many_failed_chunks_do_not_fill_the_screen() {
    let chunk = |chunk| {
        let reason = ChunkFailure::Corrupt;
        Event::Transfer(TransferEvent::ChunkFailed { transfer: 7, chunk, peer: PEER, reason })
    };
    let script =
        [QUEUED, started(Direction::Fetch, 0)].into_iter().chain((0..100).map(chunk)).chain([done(1000)]);
    let ran = run(&["fetch", &FILE.to_string(), "--from", "fifi"], vec![turn(script)]).await;
    assert_eq!(ran.people.matches("content does not match").count(), 8, "{}", ran.people);
    assert!(ran.people.contains("more chunks fail; see them with: p2p show 7\n"), "{}", ran.people);
}

#[tokio::test]
async fn errors_before_there_is_a_transfer_are_json_too() {
    let ran = run(&["send", "/nowhere/x", "--to", "fifi", "--json"], vec![]).await;
    assert_eq!(ran.code, 6);
    assert!(
        ran.data.starts_with("{\"event\":\"failed\",\"transfer\":null,\"code\":\"not_found\","),
        "{}",
        ran.data
    );
    assert!(ran.data.contains("\"exit_code\":6"), "{}", ran.data);
}

#[tokio::test]
async fn an_unknown_key_is_refused_where_nobody_can_be_asked() {
    let error = RequestError { failure: Failure::UnknownKey, message: "unknown key".into(), key: Some(PEER) };
    for event in [Event::Error(error), failed(Failure::UnknownKey, Some(PEER))] {
        let ran = run(&["send", "PATH", "--to", "fifi"], vec![turn([event])]).await;
        assert_eq!(ran.code, 5);
        assert!(ran.people.contains(&format!("--peer {PEER}")), "{}", ran.people);
        assert!(ran.people.contains("--accept-new-key"), "{}", ran.people);
    }
}

#[tokio::test]
async fn a_person_is_asked_about_an_unknown_key_and_their_yes_is_that_key_alone() {
    let refused = || turn([QUEUED, failed(Failure::UnknownKey, Some(PEER))]);
    let sent = turn([QUEUED, started(Direction::Send, 0), done(1000)]);
    let words = ["send", "PATH", "--to", "fifi"];
    let ran = run_with(&words, vec![refused(), sent], |ctx, _| {
        ctx.person = Person::Says("y");
    })
    .await;
    assert_eq!(ran.code, 0, "{}", ran.people);
    assert!(ran.people.contains(&PEER.to_string()) && ran.people.contains("[y/N]"), "{}", ran.people);
    match ran.asked.as_slice() {
        [Request::Send(first), Request::Send(second)] => {
            assert_eq!((first.key, second.key), (KeyPolicy::Known, KeyPolicy::Exactly(PEER)));
        }
        other => panic!("{other:?}"),
    }

    let ran = run_with(&words, vec![refused()], |ctx, _| ctx.person = Person::Says("")).await;
    assert_eq!((ran.code, ran.asked.len()), (5, 1));
}

#[tokio::test]
async fn detached_prints_the_number_alone() {
    let words = ["send", "PATH", "--to", "fifi", "--detach"];
    let ran = run(&words, vec![turn([QUEUED])]).await;
    assert_eq!((ran.code, ran.data.as_str()), (0, "7\n"));
    let ran = run(&[&words[..], &["--json"]].concat(), vec![turn([QUEUED])]).await;
    assert_eq!((ran.code, ran.data.as_str()), (0, "{\"event\":\"queued\",\"transfer\":7}\n"));
}

#[tokio::test]
async fn a_daemon_that_dies_and_comes_back_is_watched_on() {
    let script = vec![
        turn([QUEUED, progress(0, 0), started(Direction::Send, 0), progress(500, 500)]),
        turn([progress(400, 400), started(Direction::Send, 400), progress(900, 900), done(1000)]),
    ];
    let ran = run_with(&["send", "PATH", "--to", "fifi", "--json"], script, |ctx, _| {
        ctx.patience = Duration::from_secs(10);
    })
    .await;
    assert_eq!(ran.code, 0, "{}", ran.data);
    assert!(matches!(ran.asked.as_slice(), [Request::Send(_), Request::Watch(Some(7))]), "{:?}", ran.asked);
    let lines = ran.json();
    assert!(
        lines.iter().any(|line| line["event"] == "waiting" && line["reason"] == "daemon"),
        "{}",
        ran.data
    );
    assert_eq!(lines.last().unwrap()["moved_bytes"], 1100, "what moved twice counts twice");
}

/// It may have taken the request before it died, and be done with it when it is back.
#[tokio::test]
async fn a_request_that_was_not_answered_is_made_again_as_the_same() {
    let id = |request: &Request| match request {
        Request::Send(send) => send.request.unwrap(),
        Request::SendEach(sends) => sends[0].request.unwrap(),
        other => panic!("{other:?}"),
    };
    for paths in [&["PATH"][..], &["PATH", "PATH"]] {
        let words = [&["send", "--to", "fifi"], paths].concat();
        let script = vec![turn([]), turn(vec![QUEUED; paths.len()].into_iter().chain([done(0)]))];
        let patient = |ctx: &mut Context, _: &Path| ctx.patience = Duration::from_secs(10);
        let ran = run_with(&words, script.clone(), patient).await;
        assert_eq!((ran.code, ran.asked.len()), (0, 2), "{}", ran.people);
        assert_eq!(ran.asked[0], ran.asked[1]);
        let other = run_with(&words, script, patient).await;
        assert_ne!(id(&ran.asked[0]), id(&other.asked[0]));
    }
}

#[tokio::test]
async fn a_daemon_that_does_not_come_back_is_exit_3() {
    let ran = run(&["wait", "7"], vec![turn([started(Direction::Send, 0)])]).await;
    assert_eq!(ran.code, 3);
    assert!(
        ran.people.contains("daemon gone: waiting for it to come back\nerror: the daemon went away"),
        "{}",
        ran.people
    );
    let ran = run(&["status"], vec![turn([])]).await;
    assert_eq!(ran.code, 3);
}

#[tokio::test]
async fn what_only_looks_starts_no_daemon() {
    for words in
        [&["status"][..], &["list"], &["show", "7"], &["watch"], &["watch", "7"], &["wait", "7"], &["peers"]]
    {
        let ran = run(words, vec![]).await;
        assert_eq!(ran.code, 3, "{words:?}");
        assert!(ran.people.contains("no daemon runs"), "{}", ran.people);
    }
    let ran = run_with(&["send", "PATH", "--to", "x"], vec![], |ctx, _| ctx.may_start = false).await;
    assert_eq!(ran.code, 3);
}

/// Fault 81.
#[tokio::test]
async fn another_version_and_garbage_are_told_apart() {
    let other = Preamble { version: Preamble::ours().version + 1 };
    let old = Turn { greeting: other.encode().to_vec(), says: vec![] };
    let ran = run(&["status"], vec![old]).await;
    assert_eq!(ran.code, 3);
    let ours = Preamble::ours().version;
    let said = format!("error: the daemon speaks control version {}, this p2p {ours}\n", ours + 1);
    assert!(ran.people.starts_with(&said) && ran.people.contains("restart the daemon"), "{}", ran.people);

    let stranger = Turn { greeting: b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), says: vec![] };
    assert_eq!(run(&["status"], vec![stranger]).await.code, 3);

    for bytes in [vec![0xff; 64], vec![3, 0, 0, 0, 9, 9, 9], vec![5, 0, 0, 0, 1], vec![0; 4]] {
        let garbage = Turn { says: vec![bytes.clone()], ..turn([]) };
        let ran = run(&["status"], vec![garbage]).await;
        assert_eq!(ran.code, 3, "{bytes:?}");
    }
    assert_eq!(run(&["list"], vec![turn([QUEUED])]).await.code, 3);
    assert_eq!(run(&["watch", "7"], vec![turn([Event::Ok])]).await.code, 3);
}

#[tokio::test]
async fn a_file_on_standard_output_stands_alone_and_survives_the_daemon() {
    let data = |text: &str| Event::Data(text.into());
    let script = vec![
        turn([QUEUED, started(Direction::Fetch, 0), data("hello "), data("wor")]),
        turn([
            Event::Queued { transfer: 8, batch: None },
            started(Direction::Fetch, 0),
            data("hel"),
            data("lo world"),
            done(11),
        ]),
    ];
    let ran =
        run_with(&["fetch", &FILE.to_string(), "--from", "fifi", "-o", "-", "--json"], script, |ctx, _| {
            ctx.patience = Duration::from_secs(10);
        })
        .await;
    assert_eq!((ran.code, ran.data.as_str()), (0, "hello world"));
    assert!(ran.people.lines().all(|line| line.starts_with("{\"event\":")), "{}", ran.people);
    assert!(
        ran.asked.iter().all(|asked| matches!(asked, Request::Fetch(fetch) if fetch.output == Place::Stdout))
    );
    assert_eq!(ran.asked.len(), 2);
}

#[tokio::test]
async fn a_transfer_that_was_there_counts_from_now() {
    let script = [started(Direction::Receive, 0), progress(400, 450), progress(900, 950), done(1050)];
    let ran = run(&["watch", "7", "--json"], vec![turn(script)]).await;
    assert_eq!(ran.json().last().unwrap()["moved_bytes"], 600);
    let ran = run(&["wait", "7", "--json"], vec![turn([done(1050)])]).await;
    assert_eq!((ran.code, &ran.json()[0]["moved_bytes"]), (0, &0.into()));
    let ran = run(&["wait", "7"], vec![turn([failed(Failure::Storage, None)])]).await;
    assert_eq!(ran.code, 8);
}

#[tokio::test]
async fn all_transfers_are_watched_until_the_daemon_goes_for_good() {
    let script = [
        started(Direction::Send, 0),
        failed(Failure::Refused, None),
        started(Direction::Serve, 0),
        done(1000),
    ];
    let ran = run(&["watch"], vec![turn(script)]).await;
    assert_eq!(ran.code, 3);
    assert!(ran.people.contains("   7 sending a.iso"), "{}", ran.people);
    assert!(ran.people.contains("error: transfer 7: it"), "{}", ran.people);
    assert!(ran.people.contains("   7 given a.iso"), "{}", ran.people);
}

#[tokio::test]
async fn a_share_prints_its_file_id_alone() {
    let shared =
        Event::Shared { file_id: FILE, path: "/x/a.iso".into(), audience: "every trusted peer".into() };
    let waiting = Event::Transfer(TransferEvent::Waiting { transfer: 0, reason: WaitReason::Hashing });
    let ran = run(&["share", "PATH"], vec![turn([waiting, shared.clone()])]).await;
    assert_eq!((ran.code, ran.data), (0, format!("{FILE}\n")));
    assert_eq!(ran.people, "/x/a.iso can be fetched by every trusted peer\n");
    let ran = run(&["share", "PATH", "--public", "--json"], vec![turn([shared])]).await;
    let line = format!(
        "{{\"event\":\"shared\",\"file_id\":\"{FILE}\",\"path\":\"/x/a.iso\",\"audience\":\"every trusted peer\"}}\n"
    );
    assert_eq!(ran.data, line);
}

#[tokio::test]
async fn the_inbox_lists_what_waits_for_a_yes() {
    let mut offer = commands::example(7, State::Waiting);
    (offer.direction, offer.waiting) = (Direction::Receive, Some(WaitReason::Accept));
    let other = Event::Summary(commands::example(8, State::Waiting));
    let ran = run(&["inbox"], vec![turn([Event::Summary(offer.clone()), other.clone()])]).await;
    assert!(ran.data.contains("a.iso") && ran.data.lines().count() == 2, "{}", ran.data);
    assert_eq!(ran.people, "take one with: p2p inbox accept N\n");
    let ran = run(&["inbox", "--json"], vec![turn([Event::Summary(offer), other.clone()])]).await;
    assert_eq!(ran.json().iter().map(|line| line["transfer"].as_u64()).collect::<Vec<_>>(), [Some(7)]);
    let ran = run(&["inbox"], vec![turn([other])]).await;
    assert_eq!((ran.code, ran.people.as_str()), (0, "no offer waits\n"));
}

#[tokio::test]
async fn what_is_shared_is_listed() {
    let shared = || Event::Shared { file_id: FILE, path: "/x/a.iso".into(), audience: "fifi".into() };
    let ran = run(&["shares"], vec![turn([shared()])]).await;
    assert!(ran.data.contains(&format!("{FILE}  fifi  /x/a.iso")), "{}", ran.data);
    let ran = run(&["shares", "--json"], vec![turn([shared(), shared()])]).await;
    assert!(ran.json().iter().all(|line| line["event"] == "shared" && line["audience"] == "fifi"));
    let ran = run(&["shares"], vec![turn([])]).await;
    assert_eq!((ran.code, ran.data.as_str(), ran.people.as_str()), (0, "", "nothing is shared\n"));
}

#[tokio::test]
async fn a_command_whose_time_is_over_leaves_the_transfer_alone() {
    // The daemon goes away after the first event, and the command would wait for it.
    let ran = run_with(&["wait", "7", "--timeout", "0s", "--json"], vec![turn([QUEUED])], |ctx, _| {
        ctx.patience = Duration::from_secs(1000);
    })
    .await;
    assert_eq!(ran.code, 1);
    let last = "{\"event\":\"timeout\",\"transfer\":7,\"exit_code\":1}\n";
    assert!(ran.data.ends_with(last), "{}", ran.data);
    let ran = run_with(&["wait", "7", "--timeout", "0s"], vec![turn([QUEUED])], |ctx, _| {
        ctx.patience = Duration::from_secs(1000);
    })
    .await;
    let said = "error: not done within 0s; transfer 7 goes on\n";
    assert!(ran.people.contains(said) && ran.people.contains("p2p cancel 7"), "{}", ran.people);
}

#[tokio::test]
async fn lists_go_to_standard_output_in_either_form() {
    let summary = || Event::Summary(commands::example(7, State::Active));
    let ran = run(&["list"], vec![turn([summary()])]).await;
    assert!(ran.data.contains("a.iso") && ran.data.contains("40%"), "{}", ran.data);
    let ran = run(&["list", "--json"], vec![turn([summary(), summary()])]).await;
    assert!(ran.json().iter().all(|line| line["event"] == "transfer" && line["total_bytes"] == 1 << 30));
    let ran = run(&["list"], vec![turn([])]).await;
    assert_eq!((ran.code, ran.data.as_str(), ran.people.as_str()), (0, "", "no transfers yet\n"));
}

#[tokio::test]
async fn changes_say_that_they_happened() {
    for (words, said) in [
        (&["cancel", "7"][..], "transfer 7 is cancelled\n"),
        (&["peers", "forget", "fifi"], "fifi is forgotten; its connections are closed\n"),
    ] {
        let ran = run(words, vec![turn([Event::Ok])]).await;
        assert_eq!((ran.code, ran.people.as_str()), (0, said));
    }
    let ran = run(&["retry", "7"], vec![turn([QUEUED])]).await;
    assert_eq!(ran.people, "transfer 7 goes on; see it with: p2p watch 7\n");
    let decided = || Event::Summary(commands::example(7, State::Waiting));
    let ran = run(&["inbox", "accept", "7"], vec![turn([decided()])]).await;
    assert_eq!(ran.people, "offer 7 is accepted; see it with: p2p watch 7\n");
    let ran = run(&["inbox", "reject", "7", "--json"], vec![turn([decided()])]).await;
    assert_eq!(ran.data, "{\"event\":\"rejected\",\"transfer\":7}\n");
}

#[tokio::test]
async fn the_socket_is_found_behind_a_link() {
    let ran = run_with(&["cancel", "7"], vec![turn([Event::Ok])], |ctx, folder| {
        let linked = folder.join("linked");
        std::fs::create_dir(&linked).unwrap();
        symlink(ctx.home.join("p2pd.sock"), linked.join("p2pd.sock")).unwrap();
        ctx.home = linked;
    })
    .await;
    assert_eq!(ran.code, 0, "{}", ran.people);
}

#[test]
fn the_command_line_is_well_formed() {
    Typed::command().debug_assert();
    let mut command = Typed::command().term_width(100);
    command.build();
    insta::assert_snapshot!("help", command.render_help().to_string());
    let send = command.find_subcommand_mut("send").unwrap();
    insta::assert_snapshot!("help_send", send.render_help().to_string());
}

#[test]
fn what_clap_says_is_one_line_with_all_that_it_names() {
    let said = |words: &[&str]| {
        let typed = Typed::command().try_get_matches_from(words);
        crate::first_words(&typed.unwrap_err().to_string())
    };
    let missing = said(&["p2p", "send"]);
    assert!(missing.contains("--to <TARGET>, <PATH>..."), "{missing}");
    let unknown = said(&["p2p", "send", "a", "--to", "b", "--nonsense"]);
    assert_eq!(unknown, "unexpected argument '--nonsense' found");
}
