use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use interprocess::local_socket::{GenericFilePath, ToFsName, tokio::Stream, traits::tokio::Stream as _};
use p2p_protocol::{
    control::{Event, Preamble, Request},
    limits::MAX_CONTROL_FRAME_LEN,
    reason::Failure,
    wire::codec,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    ControlSocket,
    server::{Bounds, serve_within},
};
use crate::{disk::System, home::Home};

/// A deadline that passes soon, for what is meant to run into it.
const SOON: Duration = Duration::from_millis(30);

/// Long enough that nothing in a test meets it unless it is meant to.
fn patient() -> Bounds {
    let long = Duration::from_secs(60);
    Bounds { preamble: long, request: long, progress: long, grace: long, parting: SOON, ..Bounds::new() }
}

/// A server with its home.
struct Server {
    _temp: tempfile::TempDir,
    _home: Home,
    path: PathBuf,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Server {
    fn start<H, F>(bounds: Bounds, handle: H) -> Self
    where
        H: Fn(Request, mpsc::Sender<Event>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::open(&System, temp.path()).unwrap();
        let socket = ControlSocket::bind(&home).unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(serve_within(socket, handle, shutdown.clone(), bounds));
        Self { path: temp.path().join("p2pd.sock"), _temp: temp, _home: home, shutdown, running }
    }

    async fn connect(&self) -> Stream {
        Stream::connect(self.path.as_path().to_fs_name::<GenericFilePath>().unwrap()).await.unwrap()
    }

    /// A client after the preambles.
    async fn client(&self) -> Stream {
        let mut stream = self.connect().await;
        stream.write_all(&Preamble::ours().encode()).await.unwrap();
        assert_eq!(preamble(&mut stream).await, Preamble::ours());
        stream
    }

    /// A client that has asked.
    async fn ask(&self, request: &Request) -> Stream {
        let mut stream = self.client().await;
        stream.write_all(&codec::frame(request, MAX_CONTROL_FRAME_LEN).unwrap()).await.unwrap();
        stream
    }

    /// Everything that comes back on a request.
    async fn answers(&self, request: &Request) -> Vec<Event> {
        let (mut stream, mut answers) = (self.ask(request).await, Vec::new());
        while let Some(event) = next(&mut stream).await {
            answers.push(event);
        }
        answers
    }

    /// What shows that the server serves others as before.
    async fn is_well(&self) {
        assert_eq!(self.answers(&Request::List).await, [Event::Ok]);
    }
}

async fn preamble(stream: &mut Stream) -> Preamble {
    let mut theirs = [0; Preamble::LEN];
    stream.read_exact(&mut theirs).await.unwrap();
    Preamble::decode(theirs).unwrap()
}

async fn next(stream: &mut Stream) -> Option<Event> {
    let mut prefix = [0; codec::PREFIX_LEN];
    stream.read_exact(&mut prefix).await.ok()?;
    let mut body = vec![0; codec::body_len(prefix, MAX_CONTROL_FRAME_LEN).unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    Some(codec::decode(&body).unwrap())
}

/// Whether the server has closed the connection. What it did not read makes the system say so with an error.
async fn is_closed(stream: &mut Stream) -> bool {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.is_err() || rest.is_empty()
}

/// Answers every request at once.
async fn say_ok(_: Request, events: mpsc::Sender<Event>) {
    let _ = events.send(Event::Ok).await;
}

fn refused(answers: &[Event]) -> Failure {
    match answers {
        [Event::Error(error)] => error.failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_is_carried_out_and_all_its_events_arrive_in_order() {
    let server = Server::start(patient(), |request, events| async move {
        let Request::Show(count) = request else { panic!("{request:?}") };
        for transfer in 0..count {
            let _ = events.send(Event::Queued { transfer, batch: None }).await;
        }
    });
    for count in [0, 1, 1000] {
        let answers = server.answers(&Request::Show(count)).await;
        assert!(answers.into_iter().eq((0..count).map(|transfer| Event::Queued { transfer, batch: None })));
    }
}

#[tokio::test]
async fn large_requests_and_answers_pass() {
    let server = Server::start(patient(), |request, events| async move {
        let Request::Forget(text) = request else { panic!("{request:?}") };
        let _ = events.send(Event::Data(text.into_bytes())).await;
        let _ = events.send(Event::Data(vec![7; MAX_CONTROL_FRAME_LEN])).await;
    });
    let text = "x".repeat(4 << 20);
    let answers = server.answers(&Request::Forget(text.clone())).await;
    assert_eq!(answers[0], Event::Data(text.into_bytes()));
    // One that no frame can hold is replaced by the error that says so.
    assert_eq!(refused(&answers[1..]), Failure::Other);
}

/// Fault 79.
#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let server = Server::start(patient(), say_ok);
    let mut watching = server.client().await;
    let mut bomb = Preamble::ours().encode().to_vec();
    bomb.extend(u32::MAX.to_le_bytes());
    let mut trailing = codec::frame(&Request::List, MAX_CONTROL_FRAME_LEN).unwrap();
    trailing[0] += 1;
    trailing.push(0);
    let mut after_preamble = Preamble::ours().encode().to_vec();
    after_preamble.extend(trailing);
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 64], bomb, after_preamble] {
        let mut stream = server.connect().await;
        // The server may close it before everything is written.
        let _ = stream.write_all(&bytes).await;
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert!(said.len() <= Preamble::LEN, "{said:?}");
    }
    for bytes in
        [&b""[..], b"p2p", &Preamble::ours().encode(), &[&Preamble::ours().encode()[..], &[9]].concat()]
    {
        let mut stream = server.connect().await;
        stream.write_all(bytes).await.unwrap();
    }
    server.is_well().await;
    watching.write_all(&codec::frame(&Request::List, MAX_CONTROL_FRAME_LEN).unwrap()).await.unwrap();
    assert_eq!(next(&mut watching).await, Some(Event::Ok));
}

/// Fault 81.
#[tokio::test]
async fn another_version_is_told_ours() {
    let server = Server::start(patient(), say_ok);
    let ours = Preamble::ours();
    for version in [ours.version + 1, ours.version - 1] {
        let mut stream = server.connect().await;
        stream.write_all(&Preamble { version }.encode()).await.unwrap();
        assert_eq!(preamble(&mut stream).await, ours);
        // What it asks all the same is not heard.
        let _ = stream.write_all(&codec::frame(&Request::List, MAX_CONTROL_FRAME_LEN).unwrap()).await;
        assert!(is_closed(&mut stream).await, "{version}");
    }
}

/// Fault 78.
#[tokio::test]
async fn another_user_is_refused() {
    let owner = rustix::process::geteuid().as_raw() + 1;
    let server = Server::start(Bounds { owner, ..patient() }, say_ok);
    let mut stream = server.connect().await;
    let _ = stream.write_all(&Preamble::ours().encode()).await;
    assert!(is_closed(&mut stream).await);
}

#[tokio::test]
async fn silence_has_a_deadline() {
    let server = Server::start(Bounds { preamble: SOON, ..patient() }, say_ok);
    assert!(is_closed(&mut server.connect().await).await);
    let server = Server::start(Bounds { request: SOON, ..patient() }, say_ok);
    assert!(is_closed(&mut server.client().await).await);
    let mut half = server.client().await;
    // The deadline may have passed before this is written.
    let _ = half.write_all(&codec::frame(&Request::List, MAX_CONTROL_FRAME_LEN).unwrap()[..6]).await;
    assert!(is_closed(&mut half).await);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_dropped_and_blocks_nobody() {
    let ended = Arc::new(Notify::new());
    let server = Server::start(Bounds { progress: SOON, ..patient() }, {
        let ended = ended.clone();
        move |request, events| {
            let ended = ended.clone();
            async move {
                if request == Request::List {
                    return say_ok(request, events).await;
                }
                while events.send(Event::Data(vec![0; 1 << 20])).await.is_ok() {}
                ended.notify_one();
            }
        }
    });
    let stuck = server.ask(&Request::Status).await;
    server.is_well().await;
    ended.notified().await;
    server.is_well().await;
    drop(stuck);
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    let server = Server::start(patient(), |_, events| async move {
        for _ in 0..8 {
            let _ = events.send(Event::Data(vec![5; 1 << 18])).await;
        }
    });
    let mut stream = server.ask(&Request::Status).await;
    let mut bytes: Vec<u8> = Vec::new();
    let mut buffer = [0; 1000];
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            count => bytes.extend(&buffer[..count]),
        }
        tokio::task::yield_now().await;
    }
    let one = codec::frame(&Event::Data(vec![5; 1 << 18]), MAX_CONTROL_FRAME_LEN).unwrap();
    assert_eq!(bytes, one.repeat(8));
}

/// Fault 79.
#[tokio::test]
async fn when_a_client_goes_its_handler_learns_it_and_comes_to_its_end() {
    let (closed, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = Server::start(patient(), {
        let (closed, done) = (closed.clone(), done.clone());
        move |_, events| {
            let (closed, done) = (closed.clone(), done.clone());
            async move {
                let _ = events.send(Event::Ok).await;
                events.closed().await;
                closed.notify_one();
                // What it is in the middle of goes on.
                tokio::task::yield_now().await;
                done.notify_one();
            }
        }
    });
    let mut stream = server.ask(&Request::Watch(None)).await;
    assert_eq!(next(&mut stream).await, Some(Event::Ok));
    drop(stream);
    closed.notified().await;
    done.notified().await;

    // One that talks on after its request is treated the same.
    let mut stream = server.ask(&Request::Watch(None)).await;
    assert_eq!(next(&mut stream).await, Some(Event::Ok));
    stream.write_all(&[1]).await.unwrap();
    done.notified().await;
    assert!(is_closed(&mut stream).await);
}

/// Tells when it is dropped.
struct Alarm(Arc<Notify>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_handler_that_does_not_end_is_dropped_after_a_time_of_grace() {
    let dropped = Arc::new(Notify::new());
    let server = Server::start(Bounds { grace: SOON, ..patient() }, {
        let dropped = dropped.clone();
        move |_, events: mpsc::Sender<Event>| {
            let alarm = Alarm(dropped.clone());
            async move {
                let _ = events.send(Event::Ok).await;
                std::future::pending::<()>().await;
                drop(alarm);
            }
        }
    });
    let mut stream = server.ask(&Request::Watch(None)).await;
    assert_eq!(next(&mut stream).await, Some(Event::Ok));
    drop(stream);
    dropped.notified().await;
}

#[tokio::test]
async fn a_handler_that_fails_fails_its_client_only() {
    let server = Server::start(patient(), |request, events| async move {
        if request == Request::List {
            return say_ok(request, events).await;
        }
        panic!("a bug, for the test");
    });
    assert_eq!(refused(&server.answers(&Request::Status).await), Failure::Other);
    server.is_well().await;
}

/// Fault 38.
#[tokio::test]
async fn the_client_too_many_is_told_so() {
    let server = Server::start(Bounds { clients: 2, ..patient() }, |request, events| async move {
        let _ = events.send(Event::Ok).await;
        if request == Request::Watch(None) {
            events.closed().await;
        }
    });
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = server.ask(&Request::Watch(None)).await;
        assert_eq!(next(&mut stream).await, Some(Event::Ok));
        waiting.push(stream);
    }
    assert_eq!(refused(&server.answers(&Request::List).await), Failure::Conflict);
    drop(waiting);
    // A place is free again as soon as the server has seen that they went.
    while server.answers(&Request::List).await != [Event::Ok] {}
}

#[tokio::test]
async fn a_shutdown_closes_every_connection_and_removes_the_socket() {
    let server = Server::start(patient(), |request, events| async move {
        let _ = events.send(Event::Ok).await;
        match request {
            Request::Watch(None) => events.closed().await,
            Request::Show(_) => while events.send(Event::Data(vec![0; 1 << 20])).await.is_ok() {},
            _ => std::future::pending().await,
        }
    });
    let mut watching = server.ask(&Request::Watch(None)).await;
    let mut deaf = server.ask(&Request::Status).await;
    let stuck = server.ask(&Request::Show(1)).await;
    for stream in [&mut watching, &mut deaf] {
        assert_eq!(next(stream).await, Some(Event::Ok));
    }
    let mut silent = server.connect().await;
    server.shutdown.cancel();
    assert_eq!(next(&mut watching).await, None);
    assert!(is_closed(&mut silent).await);
    server.running.await.unwrap();
    assert!(!server.path.exists());
    assert_eq!(next(&mut deaf).await, None);
    drop(stuck);
}

#[tokio::test]
async fn many_clients_at_once_are_all_served() {
    let server = Arc::new(Server::start(patient(), |request, events| async move {
        let Request::Cancel(transfer) = request else { panic!("{request:?}") };
        let _ = events.send(Event::Queued { transfer, batch: None }).await;
    }));
    let clients: Vec<_> = (0..100)
        .map(|n| {
            let server = server.clone();
            tokio::spawn(async move { (n, server.answers(&Request::Cancel(n)).await) })
        })
        .collect();
    for client in clients {
        let (transfer, answers) = client.await.unwrap();
        assert_eq!(answers, [Event::Queued { transfer, batch: None }]);
    }
}
