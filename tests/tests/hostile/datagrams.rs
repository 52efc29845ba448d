//! What anyone can send to a UDP port.

use std::net::UdpSocket;

use p2p_tests::{Daemon, Relay, data, data::MIB, hostile::Scene, relay::Weather, trust_each_other, words};

fn shooter(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket
}

/// Sends a datagram; a full buffer on the way is no failure.
fn shoot(socket: &UdpSocket, datagram: &[u8]) {
    let _ = socket.send(datagram);
}

/// Fault 71.
#[tokio::test(flavor = "multi_thread")]
async fn random_datagrams_do_no_harm() {
    let mut scene = Scene::new();
    let socket = shooter(scene.victim.address());
    let noise = data::random(1, 4 * MIB);
    let mut at = 0;
    for n in 0..4000usize {
        let len = [0, 1, 7, 20, 100, 1200, 1452][n % 7];
        at = (at + 977) % (noise.len() - 2000);
        shoot(&socket, &noise[at..at + len]);
    }
    scene.check(&[]);
}

/// Fault 71.
#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_a_handshake_does_no_harm() {
    let mut scene = Scene::new();
    let socket = shooter(scene.victim.address());
    let noise = data::random(2, MIB);
    for n in 0..2000usize {
        // A long header of an Initial packet of QUIC version 1 (RFC 9000, 17.2), and then noise; of some, the version
        // is unknown, or the connection IDs are too long.
        let version = if n % 5 == 4 { [0xff; 4] } else { [0, 0, 0, 1] };
        let id_len = [8, 20, 0, 255][n % 4];
        let mut datagram = vec![0xc0 | (n % 16) as u8];
        datagram.extend_from_slice(&version);
        datagram.push(id_len);
        datagram.extend_from_slice(&noise[n..n + 8]);
        datagram.push(8);
        datagram.extend_from_slice(&noise[n + 8..n + 1200]);
        shoot(&socket, &datagram);
    }
    scene.check(&[]);
}

/// Fault 71.
#[test]
fn a_transfer_goes_on_under_fire() {
    let (a, mut b) = (Daemon::start("a"), Daemon::start("b"));
    trust_each_other(&[&a, &b]);
    let relay = Relay::to(b.address());
    relay.set(Weather { rate: 8 * MIB, damage: 20, ..Weather::default() });
    let file = a.new_file("f.bin", 1, 8 * MIB);
    let sending = a.cli().start_json(words!["send", file, "--to", relay.address()]);
    let (socket, noise) = (shooter(b.address()), data::random(3, MIB));
    for n in 0..20_000usize {
        let at = (n * 131) % (noise.len() - 1300);
        shoot(&socket, &noise[at..at + n % 1300]);
    }
    sending.finish().success();
    data::assert_same(&file, &b.inbox().join("f.bin"));
    assert!(b.is_alive() && !b.log().contains("panicked"));
}
