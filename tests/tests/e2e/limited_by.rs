//! What limits a transfer is named: each place is slowed down in turn, and both sides are asked. Nothing is said of how long
//! anything takes.

use std::{
    fs::File,
    io,
    net::{SocketAddr, UdpSocket},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use p2p_daemon::{
    Accept, Congestion, Hooks, Load, Network, Node, Options, Surroundings, Workers, disk::Disk,
};
use p2p_protocol::{
    control::{Event, KeyPolicy, Request, SendRequest, TransferEvent, TrustRequest, Wishes},
    rate::Rate,
    waits::Stage,
};
use p2p_tests::{Relay, data, data::MIB};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::sync::mpsc;

/// What a slow disk takes for a piece of a chunk's size.
const SLOW: Duration = Duration::from_millis(120);
/// Shorter pieces are not content.
const PIECE: usize = 64 << 10;

/// A disk that may be slow.
#[derive(Debug, Default)]
struct Platter {
    reads: bool,
    writes: bool,
}

impl Platter {
    fn turn(&self, is_slow: bool, len: usize) {
        if is_slow && len >= PIECE {
            std::thread::sleep(SLOW);
        }
    }
}

impl Disk for Platter {
    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.turn(self.reads, buffer.len());
        file.read_at(buffer, offset)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.turn(self.writes, bytes.len());
        file.write_at(bytes, offset)
    }
}

/// The loopback interface.
#[derive(Debug)]
struct Loopback;

impl Network for Loopback {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(UdpSocket::bind(address)?)
    }

    fn bind_to_dial(&self) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.bind(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn check_route(&self, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }
}

fn start(root: &Path, disk: Platter) -> Node {
    let options = Options {
        home: root.join("home"),
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        inbox: root.join("inbox"),
        congestion: Congestion::default(),
        accept: Accept::default(),
        load: Load::default(),
        hooks: Hooks::default(),
    };
    let around =
        Surroundings { disk: Arc::new(disk), network: Arc::new(Loopback), workers: Workers::Threads };
    Node::start(&options, around).unwrap()
}

/// What limited it, as was said last of a transfer that ended well.
async fn limited_by(mut events: mpsc::Receiver<Event>) -> Option<Stage> {
    let mut by = None;
    while let Some(event) = events.recv().await {
        match event {
            Event::Transfer(TransferEvent::Progress { progress, .. }) => by = progress.limited_by().or(by),
            Event::Transfer(TransferEvent::Done { .. }) => return by,
            Event::Transfer(TransferEvent::Failed { message, .. }) => panic!("{message}"),
            Event::Error(error) => panic!("{}", error.message),
            _ => {}
        }
    }
    panic!("the events ended before the transfer")
}

/// What the sender and the receiver of a transfer say.
fn send(source: Platter, destination: Platter, path: u64, limit: [Option<&str>; 2]) -> [Option<Stage>; 2] {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _within = runtime.enter();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (start(here.path(), source), start(there.path(), destination));
    let relay = Relay::to(&b.addresses()[0].to_string());
    relay.set_rate(path);
    let file = here.path().join("f.bin");
    data::write_random(&file, 1, 5 * MIB);
    let rate = |text: &str| text.parse::<Rate>().unwrap();
    let said = runtime.block_on(async {
        let trust = TrustRequest { id: a.peer_id(), name: None, address: None, send: true, fetch: true };
        assert_eq!(b.ask(Request::Trust(trust)).recv().await, Some(Event::Ok));
        if let [_, Some(down)] = limit {
            let change = p2p_protocol::rate::Change { up: None, down: Some(Some(rate(down))) };
            b.ask(Request::Limit { change, reset: false }).recv().await.unwrap();
        }
        let there = b.ask(Request::Watch(None));
        let here = a.ask(Request::Send(SendRequest {
            path: file.as_os_str().as_bytes().to_vec(),
            target: relay.address(),
            name: None,
            spooled: false,
            excludes: Vec::new(),
            key: KeyPolicy::Exactly(b.peer_id()),
            wishes: Wishes { limit: limit[0].map(rate), ..Wishes::default() },
            detach: false,
            request: None,
        }));
        let said = tokio::join!(limited_by(here), limited_by(there));
        a.stop().await;
        b.stop().await;
        [said.0, said.1]
    });
    drop((a, b));
    said
}

#[test]
fn a_slow_source_is_named_and_its_peer_waits_for_it() {
    let slow = Platter { reads: true, writes: false };
    assert_eq!(send(slow, Platter::default(), 0, [None, None]), [Some(Stage::Source), Some(Stage::Peer)]);
}

#[test]
fn a_slow_destination_is_named_and_its_peer_waits_for_it() {
    let slow = Platter { reads: false, writes: true };
    assert_eq!(send(Platter::default(), slow, 0, [None, None]), [Some(Stage::Peer), Some(Stage::Disk)]);
}

#[test]
fn a_slow_path_is_named_at_both_ends() {
    let said = send(Platter::default(), Platter::default(), 2 * MIB, [None, None]);
    assert_eq!(said, [Some(Stage::Path), Some(Stage::Path)]);
}

#[test]
fn a_limit_is_named_where_it_was_set() {
    let [sender, _] = send(Platter::default(), Platter::default(), 0, [Some("2 MiB/s"), None]);
    assert_eq!(sender, Some(Stage::Limit));
    let said = send(Platter::default(), Platter::default(), 0, [None, Some("2 MiB/s")]);
    assert_eq!(said, [Some(Stage::Peer), Some(Stage::Limit)]);
}
