//! What was measured, for people and for programs. Counters are those of the turn that took the median time.

use std::time::Duration;

use serde_json::{Value, json};

use super::{LIMIT, Options, Row, Turn};

/// The turn in the middle; one that had to be ended took longer than any other.
fn median(row: &Row) -> Option<Turn> {
    let mut turns = row.turns.clone();
    turns.sort_by_key(|turn| turn.took.unwrap_or(Duration::MAX));
    turns.get(turns.len() / 2).copied()
}

fn bits_per_second(bytes: u64, took: Duration) -> f64 {
    bytes as f64 * 8.0 / took.as_secs_f64()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The table.
pub(super) fn print(rows: &[Row], bytes: u64) {
    println!(
        "{:<17}{:>10}{:>10}{:>18}{:>8}{:>12}{:>14}",
        "", "median", "Mbit/s", "carried/payload", "lost", "queue full", "longest wait"
    );
    for row in rows {
        let Some(Turn { took, forward }) = median(row) else { continue };
        let (time, rate) = match took {
            Some(took) => {
                let rate = bits_per_second(bytes, took) / 1e6;
                (format!("{:.2} s", took.as_secs_f64()), format!("{rate:.1}"))
            }
            None => (format!("> {} s", LIMIT.as_secs()), "-".to_owned()),
        };
        println!(
            "{:<17}{time:>10}{rate:>10}{:>18.3}{:>8}{:>12}{:>11.1} ms",
            row.name,
            forward.carried.bytes as f64 / bytes as f64,
            forward.lost.packets,
            forward.overflowed.packets,
            milliseconds(forward.longest_wait),
        );
    }
}

/// The same and what it was measured with, as JSON.
pub(super) fn json(options: &Options, rows: &[Row]) -> Value {
    let bytes = options.bytes();
    let row = |row: &Row| {
        let Turn { took, forward } = median(row)?;
        let seconds: Vec<_> = row.turns.iter().map(|turn| turn.took.map(|took| took.as_secs_f64())).collect();
        Some(json!({
            "name": row.name,
            "seconds": seconds,
            "median_seconds": took.map(|took| took.as_secs_f64()),
            "payload_bits_per_second": took.map(|took| bits_per_second(bytes, took)),
            "carried_bytes": forward.carried.bytes,
            "carried_packets": forward.carried.packets,
            "carried_per_payload": forward.carried.bytes as f64 / bytes as f64,
            "lost_packets": forward.lost.packets,
            "overflowed_packets": forward.overflowed.packets,
            "longest_wait_ms": milliseconds(forward.longest_wait),
        }))
    };
    json!({
        "rate_mbit": options.rate,
        "rtt_ms": options.rtt,
        "loss_percent": options.loss,
        "queue_bytes": options.route().queue(),
        "payload_bytes": bytes,
        "rounds": options.rounds,
        "limit_seconds": LIMIT.as_secs(),
        "ways": rows.iter().filter_map(row).collect::<Vec<_>>(),
    })
}
