//! The attacks: each goes on until it is told to stop, and counts its blows.

use std::{
    net::UdpSocket,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use p2p_protocol::{
    limits::{MAX_BIDI_STREAMS, MAX_UNI_STREAMS},
    wire::peer::{Message, Offer},
};
use p2p_tests::{
    data::{self, CHUNK, MIB},
    hostile::{Content, Heard, Hostile, Raw, tls::Key},
};
use tokio::runtime::Handle;

use super::Target;

/// Chunks of what attackers offer.
const CHUNKS: u64 = 8;
/// Connections that are held at a time, by attacks that hold them.
const HELD: usize = 8;
/// Between two blows of those that have a rate.
const PAUSE: Duration = Duration::from_millis(10);

/// An attack.
pub(super) struct Attack {
    pub(super) name: &'static str,
    /// Whether the attacker is a trusted peer.
    pub(super) trusted: bool,
    /// Attacks until it is told to stop.
    pub(super) begin: fn(&Handle, Arc<Target>),
}

macro_rules! attack {
    ($name:literal, $trusted:literal, $attack:ident) => {
        Attack { name: $name, trusted: $trusted, begin: |handle, target| handle.block_on($attack(target)) }
    };
}

/// All of them.
pub(super) const ATTACKS: &[Attack] = &[
    attack!("corrupt chunks", true, corrupt_chunks),
    attack!("chunks nobody asked for", true, unasked_chunks),
    attack!("malformed frames", true, malformed_frames),
    attack!("unsafe names", true, unsafe_names),
    attack!("streams left idle", true, idle_streams),
    attack!("chunks a byte at a time", true, trickle),
    attack!("strangers that dial", false, strangers),
    Attack { name: "gaps in streams", trusted: true, begin: gaps },
    Attack { name: "handshakes never finished", trusted: false, begin: half_handshakes },
    Attack { name: "1000 forged first packets a second", trusted: false, begin: forged },
    Attack { name: "10000 random datagrams a second", trusted: false, begin: random },
];

async fn corrupt_chunks(target: Arc<Target>) {
    let content = Content::random("hostile.bin", 1, CHUNKS * CHUNK);
    while target.goes_on() {
        let mut conversation = target.hostile.dial(&target.address).await.open().await;
        conversation.offer(&content).await;
        let wanted = conversation.until_wanted(&content).await;
        let mut corrupt = content.chunk_stream(conversation.id(), wanted[0]);
        if let Some(last) = corrupt.last_mut() {
            *last ^= 1;
        }
        conversation.connection().send_stream(&corrupt).await;
        // Again as often as it is wanted, which ends with the connection.
        loop {
            match conversation.hear().await {
                Heard::Message(Message::Want(want)) if !want.ranges.is_empty() => {
                    conversation.connection().send_stream(&corrupt).await;
                }
                Heard::Message(_) => {}
                Heard::End | Heard::Closed(_) => break,
            }
        }
        target.count();
    }
}

async fn unasked_chunks(target: Arc<Target>) {
    let content = Content::random("hostile.bin", 1, CHUNKS * CHUNK);
    while target.goes_on() {
        let connection = target.hostile.dial(&target.address).await;
        for n in 0.. {
            if connection.0.close_reason().is_some() {
                break;
            }
            connection.send_stream(&content.chunk_stream(4 * n, 0)).await;
        }
        target.count();
    }
}

async fn malformed_frames(target: Arc<Target>) {
    while target.goes_on() {
        let mut conversation = target.hostile.dial(&target.address).await.open().await;
        conversation.say_bytes(&[0xff; 64]).await;
        conversation.expect_closed().await;
        target.count();
    }
}

async fn unsafe_names(target: Arc<Target>) {
    let offer = Offer { name: "..".into(), ..Content::random("hostile.bin", 1, CHUNK).offer() };
    let connection = target.hostile.dial(&target.address).await;
    while target.goes_on() {
        let mut conversation = connection.open().await;
        conversation.say(Message::Offer(offer.clone())).await;
        conversation.expect().await;
        target.count();
    }
}

async fn idle_streams(target: Arc<Target>) {
    let mut kept = Vec::new();
    for _ in 0..HELD {
        let connection = target.hostile.dial(&target.address).await;
        for _ in 0..MAX_UNI_STREAMS {
            let Ok(mut stream) = connection.0.open_uni().await else { return };
            let _ = stream.write_all(&[20]).await;
            kept.push(stream);
        }
        for _ in 0..MAX_BIDI_STREAMS {
            let Ok((mut stream, _)) = connection.0.open_bi().await else { return };
            let _ = stream.write_all(&[100, 0]).await;
            kept.push(stream);
        }
    }
    target.count();
    while target.goes_on() {
        tokio::time::sleep(PAUSE).await;
    }
}

async fn trickle(target: Arc<Target>) {
    let content = Content::random("hostile.bin", 1, CHUNKS * CHUNK);
    let connection = target.hostile.dial(&target.address).await;
    let mut conversation = connection.open().await;
    conversation.offer(&content).await;
    let mut streams = Vec::new();
    for chunk in conversation.until_wanted(&content).await {
        let Ok(mut stream) = connection.0.open_uni().await else { return };
        let _ = stream.write_all(&content.header(conversation.id(), chunk).encode()).await;
        streams.push(stream);
    }
    while target.goes_on() {
        for stream in &mut streams {
            let _ = stream.write_all(&[7]).await;
        }
        target.count();
        tokio::time::sleep(PAUSE).await;
    }
    connection.0.close(0u32.into(), b"");
}

async fn strangers(target: Arc<Target>) {
    while target.goes_on() {
        // Each with a key of its own.
        Hostile::new().dial_with(&target.address, p2p_tests::hostile::tls::client(&Key::generate())).await;
        target.count();
    }
}

fn gaps(_: &Handle, target: Arc<Target>) {
    let rest = vec![7; CHUNK as usize];
    while target.goes_on() {
        let mut raw = Raw::connect(target.hostile.key(), &target.address);
        raw.hear_all();
        while let Some(stream) = raw.open() {
            raw.write(stream, &[1]);
            drop(raw.outgoing());
            raw.write(stream, &rest);
            raw.send_all();
        }
        target.count();
    }
}

fn half_handshakes(_: &Handle, target: Arc<Target>) {
    let key = Key::generate();
    let mut held = std::collections::VecDeque::new();
    while target.goes_on() {
        let mut raw = Raw::new(&key, &target.address);
        raw.send_all();
        if raw.hears_retry() {
            raw.send_all();
        }
        held.push_back(raw);
        if held.len() > 500 {
            held.pop_front();
        }
        target.count();
    }
}

/// Calls this so many times a second, a hundredth of a second's worth at a time.
fn so_often(target: &Target, times: u64, mut strike: impl FnMut()) {
    let begun = Instant::now();
    let mut done = 0;
    while target.goes_on() {
        let due = begun.elapsed().as_millis() as u64 * times / 1000;
        for _ in done..due {
            strike();
            target.count();
        }
        done = due;
        thread::sleep(PAUSE);
    }
}

fn forged(_: &Handle, target: Arc<Target>) {
    let key = Key::generate();
    so_often(&target, 1000, || {
        let mut raw = Raw::new(&key, &target.address);
        for datagram in raw.outgoing() {
            raw.fire(&datagram);
        }
    });
}

fn random(_: &Handle, target: Arc<Target>) {
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return };
    let noise = data::random(1, 4 * MIB);
    let mut at = 0;
    so_often(&target, 10_000, || {
        at = (at + 977) % (noise.len() - 2000);
        let _ = socket.send_to(&noise[at..at + at % 1452], &target.address);
    });
}
