//! What a peer can do with packets that are well made: play them again, forge where they come from, begin and not end,
//! leave gaps, and damage them.

use p2p_protocol::limits::{
    CONNECTION_WINDOW, FIRST_WINDOW, MAX_UNI_STREAMS, NARROW_CONNECTIONS_PER_PEER, NARROW_WINDOW,
    WIDE_CONNECTIONS_PER_PEER,
};
use p2p_tests::{
    data::{self, CHUNK, MIB},
    hostile::{Raw, Scene, tls::Key},
    until::until_true,
    words,
};

/// The most that may come back to an address that has proved nothing, for each byte from there (RFC 9000, 8.1).
const AMPLIFICATION: u64 = 3;
/// quinn begins a datagram as long as a byte of that is left, so that there may be one more, less a byte.
const DATAGRAM: u64 = 1200;
/// More handshakes than a daemon lets begin.
const FLOOD: usize = 320;

/// Connections that the victim has.
fn connections(scene: &Scene) -> u64 {
    scene.victim.status()["connections"].as_u64().unwrap()
}

/// Fault 65.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_packet_that_is_played_again_has_no_effect() {
    let mut scene = Scene::new();
    let mut raw = Raw::new(scene.hostile.key(), scene.victim.address());
    let flight = raw.outgoing();
    flight.iter().for_each(|datagram| raw.send(datagram));
    while raw.is_handshaking() {
        assert!(raw.hear(), "the daemon does not answer");
        raw.send_all();
    }
    until_true("it is connected", || connections(&scene) == 1);
    // From where it came, and from elsewhere.
    for _ in 0..100 {
        flight.iter().for_each(|datagram| raw.send(datagram));
    }
    assert!(raw.is_answered(), "the connection is unharmed");
    let mut elsewhere = Raw::new(&Key::generate(), scene.victim.address());
    for _ in 0..100 {
        flight.iter().for_each(|datagram| elsewhere.send(datagram));
    }
    elsewhere.drain();
    let (sent, received) = elsewhere.balance();
    assert!(received < AMPLIFICATION * sent + DATAGRAM, "{received} bytes for {sent}");
    assert_eq!(connections(&scene), 1, "nobody else has proved anything");
    assert!(raw.is_answered(), "the connection is unharmed");
    scene.check(&[]);
}

/// Nobody hears what is said to a forged address, so nobody answers it.
///
/// Fault 66.
#[tokio::test(flavor = "multi_thread")]
async fn forged_first_packets_get_little_and_keep_nobody_out() {
    let mut scene = Scene::with_stranger();
    let mut forged: Vec<_> = (0..FLOOD).map(|_| Raw::new(&Key::generate(), scene.victim.address())).collect();
    for raw in &mut forged {
        raw.send_all();
    }
    scene.check(&[]);
    let (mut all_sent, mut all_received) = (0, 0);
    for raw in &mut forged {
        raw.drain();
        let (sent, received) = raw.balance();
        assert!(received < AMPLIFICATION * sent + DATAGRAM, "{received} bytes for {sent}");
        all_sent += sent;
        all_received += received;
    }
    // Most are asked to prove their address first, which takes less than they have sent.
    assert!(all_received < all_sent, "{all_received} bytes for {all_sent}");
    assert!(scene.victim.peers().iter().all(|peer| peer["standing"] != "pending"), "nobody proved anything");
}

/// Addresses that are no forgery, of clients that go as far as they must to be believed and then say nothing. A
/// transfer that runs goes on, and a friend that comes later gets in.
///
/// Fault 67.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_never_finished_keep_nobody_out() {
    let mut scene = Scene::with_stranger();
    let relay = p2p_tests::Relay::to(scene.victim.address());
    relay.set_rate(2 * MIB);
    let file = scene.honest.new_file("running.bin", 7, 24 * MIB);
    let mut sending = scene.honest.cli().start_json(words!["send", file, "--to", relay.address()]);
    let before = sending.wait_for_verified(MIB);
    let memory = scene.victim.resident_memory();
    let mut slow = Vec::new();
    for _ in 0..FLOOD {
        let mut raw = Raw::new(&Key::generate(), scene.victim.address());
        raw.send_all();
        // Where it has to prove its address it does, and nothing else.
        if raw.hears_retry() {
            raw.send_all();
        }
        slow.push(raw);
    }
    scene.victim.wait_for_log("too many handshakes");
    scene.check(&[]);
    let after = sending.wait_for_verified(before + MIB);
    assert!(after > before);
    relay.set_rate(0);
    sending.finish().success();
    data::assert_same(&file, &scene.victim.inbox().join("running.bin"));
    std::fs::remove_file(&file).unwrap();
    let grown = scene.victim.peak_memory().saturating_sub(memory);
    assert!(grown < 96 * MIB, "{grown} bytes for handshakes");
}

/// Opens streams whose first byte never comes, so that nothing of the rest can be read, until no more is granted. The
/// bytes that were.
fn fill_with_gaps(raw: &mut Raw) -> u64 {
    let rest = vec![7; CHUNK as usize];
    let mut granted = 0;
    for _ in 0..MAX_UNI_STREAMS {
        let Some(stream) = raw.open() else { break };
        granted += raw.write(stream, &[1]) as u64;
        // Lost on the way, and not sent again.
        drop(raw.outgoing());
        granted += raw.write(stream, &rest) as u64;
        raw.send_all();
    }
    granted
}

/// Fault 70.
#[tokio::test(flavor = "multi_thread")]
async fn gaps_in_streams_cost_no_more_than_was_granted() {
    let mut scene = Scene::new();
    let before = scene.victim.resident_memory();
    let mut raw = Raw::connect(scene.hostile.key(), scene.victim.address());
    until_true("it is connected", || connections(&scene) == 1);
    raw.hear_all();
    let granted = fill_with_gaps(&mut raw);
    assert!((CONNECTION_WINDOW / 2..=CONNECTION_WINDOW).contains(&granted), "{granted} bytes were granted");
    let grown = scene.victim.peak_memory().saturating_sub(before);
    assert!(grown < 2 * CONNECTION_WINDOW + 24 * MIB, "{grown} bytes for {granted} that were granted");
    scene.check(&[]);
}

/// What one connection may cost, many of one peer do not cost many times.
///
/// Fault 70.
#[tokio::test(flavor = "multi_thread")]
async fn many_connections_of_one_peer_are_not_granted_many_times_as_much() {
    const CONNECTIONS: u64 = 48;
    let mut scene = Scene::new();
    let before = scene.victim.resident_memory();
    let mut all = Vec::new();
    let mut granted = 0;
    for n in 1..=CONNECTIONS {
        let mut raw = Raw::connect(scene.hostile.key(), scene.victim.address());
        until_true("it is connected", || connections(&scene) == n);
        raw.hear_all();
        granted += fill_with_gaps(&mut raw);
        all.push(raw);
    }
    let wide = WIDE_CONNECTIONS_PER_PEER as u64;
    let more = NARROW_CONNECTIONS_PER_PEER as u64;
    let bound =
        wide * CONNECTION_WINDOW + (more - wide) * NARROW_WINDOW + (CONNECTIONS - more) * FIRST_WINDOW;
    assert!(granted <= bound, "{granted} bytes were granted");
    let grown = scene.victim.peak_memory().saturating_sub(before);
    let memory = bound + bound / 2 + 24 * MIB;
    assert!(grown < memory, "{grown} bytes for {granted} that were granted");
    scene.allow_memory(memory);
    scene.check(&[]);
}

/// One byte in two, on many streams at once: a place for each piece would cost far more than the pieces.
///
/// Fault 70.
#[tokio::test(flavor = "multi_thread")]
async fn streams_in_crumbs_cost_no_more_either() {
    const STREAMS: u32 = 64;
    const CRUMBS: usize = 2500;
    let mut scene = Scene::new();
    let before = scene.victim.resident_memory();
    let mut raw = Raw::connect(scene.hostile.key(), scene.victim.address());
    until_true("it is connected", || connections(&scene) == 1);
    let streams: Vec<_> = (0..STREAMS.min(MAX_UNI_STREAMS)).filter_map(|_| raw.open()).collect();
    assert_eq!(streams.len(), STREAMS as usize);
    for crumb in 0..2 * CRUMBS {
        for stream in &streams {
            raw.write(*stream, &[7]);
        }
        for datagram in raw.outgoing().iter().filter(|_| crumb % 2 == 1) {
            raw.send(datagram);
        }
    }
    let grown = scene.victim.peak_memory().saturating_sub(before);
    assert!(grown < 48 * MIB, "{grown} bytes for {} pieces of one byte", CRUMBS * streams.len());
    scene.check(&[]);
}

/// Connections that are begun and left without a word, each with its own connection IDs.
///
/// Fault 70.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_left_alone_cost_little() {
    const LEFT: usize = 200;
    let mut scene = Scene::new();
    let before = scene.victim.resident_memory();
    for _ in 0..LEFT {
        drop(Raw::connect(scene.hostile.key(), scene.victim.address()));
    }
    let grown = scene.victim.peak_memory().saturating_sub(before);
    assert!(grown < 64 * MIB, "{grown} bytes for {LEFT} connections that do nothing");
    scene.check(&[]);
}

/// Packets of a connection that somebody on the way has damaged, in its name and from elsewhere.
///
/// Fault 71.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_packets_of_a_connection_meet_silence() {
    let mut scene = Scene::new();
    let mut raw = Raw::connect(scene.hostile.key(), scene.victim.address());
    let stream = raw.open().unwrap();
    raw.write(stream, &[7; 900]);
    let sound = raw.outgoing().remove(0);
    let mut elsewhere = Raw::new(&Key::generate(), scene.victim.address());
    for bit in 0..sound.len() * 8 {
        let mut damaged = sound.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        raw.fire(&damaged);
        if bit % 7 == 0 {
            elsewhere.fire(&damaged);
        }
    }
    elsewhere.drain();
    let (sent, received) = elsewhere.balance();
    assert!(received <= sent, "{received} bytes for {sent}");
    assert!(raw.is_answered(), "the connection is unharmed");
    raw.send(&sound);
    scene.check(&[]);
}
