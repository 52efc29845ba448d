//! A peer that decides about each datagram: which it sends, how often and from where, and which it takes notice of. The
//! packets are those of a real client, whose clock does not run by itself, so that nothing is sent again unasked.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn::{ClientConfig, EndpointConfig, TransportConfig};
use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, StreamId, congestion::NewRenoConfig,
};

use super::tls::{self, Key};

/// How long an answer is waited for that may not come.
const ANSWER: Duration = Duration::from_millis(200);
/// So much time passes for the client between two looks at what it has to send, that it never holds itself back.
const STEP: Duration = Duration::from_millis(1);
/// More than any window.
const UNLIMITED: u64 = 1 << 32;
/// Datagrams after which the daemon is given the time to take them in.
const BURST: usize = 16;

/// A client, from its first packet on.
#[derive(Debug)]
pub struct Raw {
    socket: UdpSocket,
    target: SocketAddr,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    now: Instant,
    /// Bytes that were sent, and that came.
    sent: u64,
    received: u64,
    burst: usize,
}

impl Raw {
    /// A client that is about to dial; nothing is sent yet.
    pub fn new(key: &Key, address: &str) -> Self {
        let target = address.parse().expect("a daemon's address");
        let socket = socket();
        let mut congestion = NewRenoConfig::default();
        congestion.initial_window(UNLIMITED);
        let mut transport = TransportConfig::default();
        transport
            .congestion_controller_factory(Arc::new(congestion))
            .send_window(UNLIMITED)
            .mtu_discovery_config(None)
            .keep_alive_interval(None);
        let mut config = ClientConfig::new(Arc::new(tls::client(key)));
        config.transport_config(Arc::new(transport));
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let now = Instant::now();
        let (handle, connection) =
            endpoint.connect(now, config, target, "p2p").expect("loopback can be dialled");
        Self { socket, target, endpoint, handle, connection, now, sent: 0, received: 0, burst: 0 }
    }

    /// A client that has shaken hands.
    pub fn connect(key: &Key, address: &str) -> Self {
        let mut raw = Self::new(key, address);
        while raw.connection.is_handshaking() {
            raw.send_all();
            assert!(raw.hear(), "the daemon does not answer");
        }
        raw.send_all();
        raw
    }

    /// The datagrams that it has to send now. What is not sent then is lost.
    pub fn outgoing(&mut self) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        loop {
            self.now += STEP;
            let mut datagram = Vec::new();
            match self.connection.poll_transmit(self.now, 1, &mut datagram) {
                Some(_) => datagrams.push(datagram),
                None => return datagrams,
            }
        }
    }

    /// Sends what it has to send.
    pub fn send_all(&mut self) {
        for datagram in self.outgoing() {
            self.send(&datagram);
        }
    }

    /// Sends this, not faster than the daemon reads: now and then it waits for a sign of life, which it takes no notice
    /// of.
    pub fn send(&mut self, datagram: &[u8]) {
        self.fire(datagram);
        self.burst += 1;
        if self.burst.is_multiple_of(BURST) && !self.connection.is_handshaking() {
            self.receive();
        }
    }

    /// Sends this at once, though nobody may be able to take it in.
    pub fn fire(&mut self, datagram: &[u8]) {
        self.sent += datagram.len() as u64;
        // A full buffer on the way is no failure.
        let _ = self.socket.send_to(datagram, self.target);
    }

    /// Takes in one datagram, if one comes. False if none does.
    pub fn hear(&mut self) -> bool {
        let datagram = self.receive();
        datagram.is_some_and(|datagram| {
            self.take_in(&datagram);
            true
        })
    }

    /// Takes in what comes, until nothing more does.
    pub fn hear_all(&mut self) {
        while self.hear() {}
    }

    /// Waits for an answer, and takes it in if it is a Retry packet (RFC 9000, 17.2.5); of all else it takes no notice.
    pub fn hears_retry(&mut self) -> bool {
        const LONG_HEADER_RETRY: u8 = 0xf0;
        let datagram = self.receive().filter(|datagram| datagram[0] & LONG_HEADER_RETRY == LONG_HEADER_RETRY);
        datagram.is_some_and(|datagram| {
            self.take_in(&datagram);
            true
        })
    }

    fn take_in(&mut self, datagram: &[u8]) {
        self.now = self.now.max(Instant::now());
        let mut answer = Vec::new();
        let data = BytesMut::from(datagram);
        let event = self.endpoint.handle(self.now, self.target, None, None, data, &mut answer);
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.connection.handle_event(event);
        }
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
    }

    /// Hears everything that has come, and takes no notice of it.
    pub fn drain(&mut self) {
        self.socket.set_nonblocking(true).expect("a socket need not block");
        while self.receive().is_some() {}
        self.socket.set_nonblocking(false).expect("a socket may block");
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let (len, from) = self.socket.recv_from(&mut buffer).ok()?;
        assert_eq!(from, self.target);
        self.received += len as u64;
        buffer.truncate(len);
        Some(buffer)
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the connection was closed, by whichever side.
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// Bytes sent, and bytes that came for them.
    pub fn balance(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// From now on it is at another address.
    pub fn move_away(&mut self) {
        self.socket = socket();
        (self.sent, self.received) = (0, 0);
    }

    /// Opens a unidirectional stream, if it may.
    pub fn open(&mut self) -> Option<StreamId> {
        self.connection.streams().open(Dir::Uni)
    }

    /// Writes as much of this to a stream as the daemon has granted.
    pub fn write(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        self.connection.send_stream(stream).write(bytes).unwrap_or(0)
    }

    /// Asks for a sign of life, and says whether it came.
    pub fn is_answered(&mut self) -> bool {
        self.drain();
        self.connection.ping();
        self.send_all();
        self.hear() && !self.is_closed()
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    socket.set_read_timeout(Some(ANSWER)).expect("a timeout can be set");
    socket
}
