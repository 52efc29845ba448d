//! The transport against itself, and against peers that break its rules, over loopback.

mod endpoints;
mod handshake;
mod streams;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use bytes::Bytes;
use p2p_protocol::wire::chunk::{ChunkHeader, Encoding};

use super::{Congestion, Connection, Endpoint, SystemNetwork, TransportError};
use crate::identity::Identity;

/// Two endpoints and a connection between them.
pub(super) struct Pair {
    pub(super) client: Endpoint,
    pub(super) server: Endpoint,
    /// The connection as its client sees it.
    pub(super) dialled: Connection,
    /// The same as its server sees it.
    pub(super) accepted: Connection,
}

pub(super) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// Listens on the machine's own network.
pub(super) fn bind(listen: &[SocketAddr], identity: &Identity) -> Result<Endpoint, TransportError> {
    Endpoint::bind(Arc::new(SystemNetwork), listen, identity, Congestion::default())
}

fn endpoint() -> Endpoint {
    bind(&[loopback()], &Identity::ephemeral()).unwrap()
}

async fn accept(endpoint: &Endpoint) -> Result<Connection, TransportError> {
    endpoint.accept().await.unwrap().finish().await
}

pub(super) async fn pair() -> Pair {
    let (client, server) = (endpoint(), endpoint());
    let address = server.local_addrs()[0];
    let (dialled, accepted) = tokio::join!(client.connect(address), accept(&server));
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
    // As a peer that is let in.
    accepted.widen(p2p_protocol::limits::CONNECTION_WINDOW);
    Pair { client, server, dialled, accepted }
}

fn header(index: u32, len: usize) -> ChunkHeader {
    ChunkHeader { transfer: 0, index, len: len as u32, encoding: Encoding::Raw, cv: None, proof: Vec::new() }
}

fn payload(len: usize) -> Bytes {
    (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// One chunk from one side to the other.
async fn move_chunk(from: &Connection, to: &Connection, index: u32, bytes: Bytes) {
    let sent = header(index, bytes.len());
    let send = async {
        let stream = from.open_chunk().await.unwrap();
        stream.write(&sent, bytes.clone()).await.unwrap().acked().await.unwrap();
    };
    let receive = async {
        let mut stream = to.accept_chunk().await.unwrap();
        let header = stream.header().await.unwrap();
        let payload = stream.payload(&header, &|_| {}).await.unwrap();
        (header, payload)
    };
    let ((), (header, got)) = tokio::join!(send, receive);
    assert_eq!(header, sent);
    assert!(got == bytes, "chunk {index} arrived changed");
}
