use std::time::Duration;

use p2p_protocol::{
    limits::{
        CONNECTION_WINDOW, FIRST_WINDOW, HANDSHAKE_DEADLINE, MAX_BIDI_STREAMS, MAX_UNI_STREAMS, STREAM_WINDOW,
    },
    reason::{Failure, PeerMisbehaved, close},
};

use super::*;
use crate::transport::tls;

/// Fault 54.
#[tokio::test]
async fn close_codes_say_what_to_do() {
    type Check = fn(&TransportError) -> bool;
    let cases: [(u32, &str, Failure, &str, Check); 5] = [
        (
            close::NOT_TRUSTED,
            "",
            Failure::Refused,
            "p2p peers trust",
            |error| matches!(error, TransportError::Closed { own, .. } if error.to_string().contains(&own.to_string())),
        ),
        (close::WRONG_PEER, "", Failure::Refused, "another peer", |_| true),
        (close::SHUTDOWN, "", Failure::Unreachable, "shutting down", |_| true),
        (close::BUSY, "", Failure::Unreachable, "try again later", |_| true),
        (
            PeerMisbehaved::MalformedFrame.close_code(),
            "a \u{1b}[31mframe",
            Failure::Other,
            "the peer says this side broke the protocol",
            |error| !error.to_string().contains('\u{1b}') && error.to_string().contains("[31mframe"),
        ),
    ];
    for (code, reason, failure, words, check) in cases {
        let pair = pair().await;
        assert!(pair.dialled.is_closed().is_none());
        pair.accepted.close(code, reason);
        let error = pair.dialled.closed().await;
        assert_eq!(error.failure(), failure, "{error}");
        assert!(error.to_string().contains(words) && check(&error), "{error}");
        assert_eq!(pair.dialled.is_closed().unwrap().to_string(), error.to_string());
        let own = pair.accepted.closed().await;
        assert!(matches!(own, TransportError::ClosedHere { code: c, .. } if c == code), "{own:?}");
        assert_eq!(own.failure(), failure, "{own}");
        let Err(later) = pair.dialled.open_chunk().await else { panic!("a stream on a closed connection") };
        assert_eq!(later.failure(), failure);
    }
}

#[tokio::test]
async fn a_closed_endpoint_says_goodbye_and_takes_nobody() {
    let pair = pair().await;
    pair.server.close(close::SHUTDOWN, "");
    let (error, ()) = tokio::join!(pair.dialled.closed(), pair.server.wait_idle());
    assert_eq!(error.failure(), Failure::Unreachable);
    assert!(error.to_string().contains("shutting down"), "{error}");
    assert!(pair.server.accept().await.is_none());
    let error = pair.server.connect(pair.client.local_addrs()[0]).await.unwrap_err();
    assert!(matches!(error, TransportError::ShuttingDown), "{error}");
    let own = pair.accepted.closed().await;
    assert_eq!(own.failure(), Failure::Unreachable, "{own}");
}

#[tokio::test]
async fn addresses_that_cannot_be_dialled_or_had_are_named() {
    let endpoint = endpoint();
    for bad in ["127.0.0.1:0", "0.0.0.0:4419", "[::]:4419", "224.0.0.1:4419"] {
        let error = endpoint.connect(bad.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, TransportError::BadAddress(_)), "{bad}: {error}");
    }
    let taken = endpoint.local_addrs()[0];
    let error = bind(&[taken], &Identity::ephemeral()).unwrap_err();
    assert_eq!(error.failure(), Failure::Conflict);
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    let foreign = "192.0.2.1:0".parse().unwrap();
    let error = bind(&[foreign], &Identity::ephemeral()).unwrap_err();
    assert!(matches!(error, TransportError::Bind { .. }), "{error}");
}

#[tokio::test]
async fn a_dual_stack_socket_dials_both_families() {
    let client = bind(&["[::]:0".parse().unwrap()], &Identity::ephemeral()).unwrap();
    let mut servers = vec![endpoint()];
    if has_ipv6() {
        servers.push(bind(&["[::1]:0".parse().unwrap()], &Identity::ephemeral()).unwrap());
    }
    for server in servers {
        let address = server.local_addrs()[0];
        let (dialled, accepted) = tokio::join!(client.connect(address), accept(&server));
        assert_eq!(dialled.unwrap().remote_addr(), address);
        // Dialled from the listening socket, which can be dialled back.
        assert_eq!(accepted.unwrap().remote_addr().port(), client.local_addrs()[0].port());
    }
}

/// Fault 62.
#[tokio::test]
async fn a_transfer_survives_a_change_of_address() {
    let pair = pair().await;
    move_chunk(&pair.dialled, &pair.accepted, 0, payload(100_000)).await;
    let before = pair.accepted.remote_addr();
    let bytes = payload(4 << 20);
    let stream = pair.dialled.open_chunk().await.unwrap();
    let mut in_flight = vec![stream.write(&header(1, bytes.len()), bytes.clone()).await.unwrap()];
    let mut stream = pair.accepted.accept_chunk().await.unwrap();
    let first = stream.header().await.unwrap();
    // The header is through and most of the chunk is not.
    let after = pair.client.move_to(loopback());
    assert_ne!(before, after);
    let second = pair.dialled.open_chunk().await.unwrap();
    in_flight.push(second.write(&header(2, bytes.len()), bytes.clone()).await.unwrap());
    assert!(stream.payload(&first, &|_| {}).await.unwrap() == bytes);
    let mut stream = pair.accepted.accept_chunk().await.unwrap();
    let second = stream.header().await.unwrap();
    assert!(stream.payload(&second, &|_| {}).await.unwrap() == bytes);
    for in_flight in in_flight {
        in_flight.acked().await.unwrap();
    }
    assert_eq!(pair.accepted.remote_addr(), after);
    // And back the other way.
    move_chunk(&pair.accepted, &pair.dialled, 3, payload(100_000)).await;
}

#[tokio::test]
async fn large_packets_are_found_where_the_path_has_them() {
    let pair = pair().await;
    let mtu = || pair.dialled.quic().stats().path.current_mtu;
    for index in 0..200 {
        if mtu() > 6000 {
            return;
        }
        move_chunk(&pair.dialled, &pair.accepted, index, payload(100_000)).await;
    }
    panic!("still at {} bytes", mtu());
}

#[tokio::test]
async fn the_rate_of_a_path_is_known_when_enough_went_over_it_from_here() {
    let pair = pair().await;
    assert_eq!(pair.dialled.rate(), None);
    for index in 0..20 {
        move_chunk(&pair.dialled, &pair.accepted, index, payload(100_000)).await;
    }
    assert!(pair.dialled.rate().is_some_and(|rate| rate > 0), "{:?}", pair.dialled.rate());
    assert_eq!(pair.accepted.rate(), None, "it has only acknowledged");
}

/// A first packet as a client sends it.
async fn initial_packet() -> Vec<u8> {
    let silent = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let (client, address) = (endpoint(), silent.local_addr().unwrap());
    let dial = tokio::spawn(async move { client.connect(address).await });
    let mut packet = vec![0; 65536];
    let (len, _) = silent.recv_from(&mut packet).await.unwrap();
    dial.abort();
    packet.truncate(len);
    packet
}

/// Fault 71.
#[tokio::test]
async fn hostile_datagrams_do_no_harm() {
    let pair = pair().await;
    let target = pair.server.local_addrs()[0];
    let initial = initial_packet().await;
    let sender = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    // Whoever gets this far with garbage does not finish a handshake; the daemon would refuse it the same way.
    let server = pair.server.clone();
    let refusing = tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            tokio::spawn(incoming.finish());
        }
    });
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for round in 0..1500 {
        let packet = match round % 4 {
            0 => (0..random() % 1500).map(|_| random() as u8).collect(),
            1 => initial[..random() % initial.len()].to_vec(),
            2 => {
                let mut flipped = initial.clone();
                let at = random() % flipped.len();
                flipped[at] ^= 1 << (random() % 8);
                flipped
            }
            _ => {
                // The unprotected header, where lengths and versions are.
                let mut changed = initial.clone();
                changed[random() % 40] = random() as u8;
                changed
            }
        };
        sender.send_to(&packet, target).await.unwrap();
        if round % 100 == 0 {
            move_chunk(&pair.dialled, &pair.accepted, round, payload(1000)).await;
        }
    }
    // A replay of the real one, too.
    for _ in 0..10 {
        sender.send_to(&initial, target).await.unwrap();
    }
    move_chunk(&pair.dialled, &pair.accepted, 1, payload(1 << 20)).await;
    let newcomer = endpoint();
    let connection = newcomer.connect(target).await.unwrap();
    assert_eq!(connection.peer_id(), pair.dialled.peer_id());
    refusing.abort();
}

/// What there is room for comes at once.
async fn granted<T>(opening: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), opening).await.expect("fewer streams than the limits say")
}

/// Fault 68.
#[tokio::test]
async fn a_peer_gets_no_more_streams_than_granted() {
    let pair = pair().await;
    let mut open = Vec::new();
    for _ in 0..MAX_UNI_STREAMS {
        open.push(granted(pair.dialled.open_chunk()).await.unwrap());
    }
    let one_more = tokio::time::timeout(Duration::from_millis(20), pair.dialled.open_chunk()).await;
    assert!(one_more.is_err(), "more streams than the peer granted");
    let mut conversations = Vec::new();
    for _ in 0..MAX_BIDI_STREAMS {
        conversations.push(granted(pair.dialled.quic().open_bi()).await.unwrap());
    }
    let one_more = tokio::time::timeout(Duration::from_millis(20), pair.dialled.quic().open_bi()).await;
    assert!(one_more.is_err(), "more conversations than the peer granted");
    assert_eq!(pair.dialled.quic().max_datagram_size(), None);
}

#[tokio::test]
async fn a_peer_sends_no_more_than_the_windows_hold() {
    let server = endpoint();
    let crypto = tls::client_config(&Identity::ephemeral()).unwrap();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    // Nothing on its own side holds it back.
    transport.send_window(u64::MAX);
    config.transport_config(Arc::new(transport));
    let client = quinn::Endpoint::client(loopback()).unwrap();
    let dialling = client.connect_with(config, server.local_addrs()[0], "p2p").unwrap();
    let (dialled, accepted) = tokio::join!(dialling, accept(&server));
    let (dialled, reads_nothing) = (dialled.unwrap(), accepted.unwrap());
    let (mut streams, mut taken) = (Vec::new(), 0);
    for n in 0..CONNECTION_WINDOW / STREAM_WINDOW + 3 {
        let mut stream = dialled.open_uni().await.unwrap();
        let mut of_stream = 0;
        if n == 1 {
            assert_eq!(taken, FIRST_WINDOW);
            reads_nothing.widen(CONNECTION_WINDOW);
            of_stream = stream.write(&[7; 1024]).await.unwrap() as u64;
        }
        // What is not taken at once waits for somebody to read.
        while let Ok(written) =
            tokio::time::timeout(Duration::from_millis(20), stream.write(&[7; 64 * 1024])).await
        {
            of_stream += written.unwrap() as u64;
            assert!(of_stream <= STREAM_WINDOW, "more than a stream's window");
        }
        taken += of_stream;
        streams.push(stream);
    }
    assert_eq!(taken, CONNECTION_WINDOW);
}

#[tokio::test]
async fn a_restarted_peer_is_noticed_at_once() {
    let identity = Identity::ephemeral();
    let life = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = {
        let _inside = life.enter();
        Arc::new(bind(&[loopback()], &identity).unwrap())
    };
    let address = first.local_addrs()[0];
    let serving = first.clone();
    let accepted = life.spawn(async move { accept(&serving).await.unwrap() });
    let client = endpoint();
    let dialled = client.connect(address).await.unwrap();
    let accepted = accepted.await.unwrap();
    // Its tasks end where they are, and only then what they are of, so that nobody is left to say a word.
    let ended = tokio::task::spawn_blocking(move || life.shutdown_timeout(HANDSHAKE_DEADLINE));
    ended.await.unwrap();
    drop((first, accepted));
    let second = loop {
        match bind(&[address], &identity) {
            Ok(endpoint) => break endpoint,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let stream = dialled.open_chunk().await.unwrap();
    let _in_flight = stream.write(&header(0, 100_000), payload(100_000)).await;
    let error = dialled.closed().await;
    assert!(matches!(error, TransportError::Restarted { .. }), "{error}");
    let (again, served) = tokio::join!(client.connect(address), accept(&second));
    move_chunk(&again.unwrap(), &served.unwrap(), 1, payload(1000)).await;
}
