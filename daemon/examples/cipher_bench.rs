//! Measures how fast the cipher code of ring and of aws-lc-rs protects and opens QUIC packets, through the
//! very traits that quinn uses. `transport::tls` chooses its cipher suites by these figures.
//!
//! Run it with `cargo run --release -p p2p-daemon --example cipher_bench`.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use rustls::{
    Side, SupportedCipherSuite,
    crypto::{aws_lc_rs, ring},
    quic::{Keys, Version},
};

/// Packet sizes: the least QUIC allows, an Ethernet path, a jumbo frame or loopback.
const SIZES: [usize; 3] = [1200, 1452, 6500];
/// Bytes of a short QUIC header, which are authenticated and not encrypted.
const HEADER: usize = 12;
/// How long each figure is measured. The best of several rounds counts: what disturbs only slows down.
const ROUND: Duration = Duration::from_millis(120);
const ROUNDS: usize = 5;

fn main() {
    let suites: [(&str, SupportedCipherSuite, SupportedCipherSuite); 3] = [
        (
            "AES-128-GCM",
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ),
        (
            "AES-256-GCM",
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ),
        (
            "ChaCha20-Poly1305",
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ),
    ];
    println!("MB of packets per second on one core, best of {ROUNDS} rounds");
    println!(
        "{:<18} {:>6} {:>11} {:>11} {:>11} {:>11}",
        "cipher", "packet", "ring seal", "aws seal", "ring open", "aws open"
    );
    for (name, ring, aws) in suites {
        for size in SIZES {
            let (ring, aws) = (both_ends(ring), both_ends(aws));
            // Interleaved, so that a change of clock speed meets both.
            let mut best = [0.0_f64; 4];
            for _ in 0..ROUNDS {
                for (slot, measured) in
                    [seal(&ring, size), seal(&aws, size), open(&ring, size), open(&aws, size)]
                        .into_iter()
                        .enumerate()
                {
                    best[slot] = best[slot].max(measured);
                }
            }
            println!(
                "{name:<18} {size:>6} {:>11.0} {:>11.0} {:>11.0} {:>11.0}",
                best[0], best[1], best[2], best[3]
            );
        }
    }
}

/// The keys of a client and of its server.
fn both_ends(suite: SupportedCipherSuite) -> (Keys, Keys) {
    let suite = suite.tls13().and_then(|suite| suite.quic_suite());
    let Some(suite) = suite else { unreachable!("every TLS 1.3 suite of both providers serves QUIC") };
    let keys = |side| suite.keys(b"measured", side, Version::V1);
    (keys(Side::Client), keys(Side::Server))
}

/// Protects packets, header protection included, and returns MB/s.
fn seal((client, _): &(Keys, Keys), size: usize) -> f64 {
    let mut packet = vec![0x5a; size];
    rate(size, |number| {
        let (header, body) = packet.split_at_mut(HEADER);
        let (payload, tag) = body.split_at_mut(size - HEADER - client.local.packet.tag_len());
        if let Ok(made) = client.local.packet.encrypt_in_place(number, header, payload) {
            tag.copy_from_slice(made.as_ref());
        }
        let sample = &payload[..client.local.header.sample_len()];
        let _ = client.local.header.encrypt_in_place(sample, &mut header[0], &mut header_number());
        black_box(&packet);
    })
}

/// Opens copies of one packet and returns MB/s; the copy is part of the figure, and the same for both.
fn open((client, server): &(Keys, Keys), size: usize) -> f64 {
    let header = [0x40; HEADER];
    let mut sealed = vec![0x5a; size - HEADER];
    let payload_len = sealed.len() - client.local.packet.tag_len();
    let (payload, tag) = sealed.split_at_mut(payload_len);
    if let Ok(made) = client.local.packet.encrypt_in_place(7, &header, payload) {
        tag.copy_from_slice(made.as_ref());
    }
    let mut packet = sealed.clone();
    rate(size, |_| {
        packet.copy_from_slice(&sealed);
        let mut first = header[0];
        let sample = &packet[..server.remote.header.sample_len()];
        let _ = server.remote.header.decrypt_in_place(sample, &mut first, &mut header_number());
        let opened = server.remote.packet.decrypt_in_place(7, &header, &mut packet);
        assert!(opened.is_ok(), "a packet sealed by the client opens at its server");
    })
}

fn header_number() -> [u8; 4] {
    [0; 4]
}

fn rate(size: usize, mut work: impl FnMut(u64)) -> f64 {
    let begun = Instant::now();
    let mut packets = 0;
    while begun.elapsed() < ROUND {
        for _ in 0..256 {
            work(packets);
            packets += 1;
        }
    }
    packets as f64 * size as f64 / begun.elapsed().as_secs_f64() / 1e6
}
