//! What was measured, for people and for programs.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use super::{Options, Turn, ways::Way};
use crate::machine::Machine;

/// The value in the middle.
fn median(turns: &[Turn], of: impl Fn(&Turn) -> Duration) -> f64 {
    let mut values: Vec<_> = turns.iter().map(of).collect();
    values.sort();
    values.get(values.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
}

/// The most memory of any turn, of each daemon.
fn peaks(turns: &[Turn]) -> Option<[u64; 2]> {
    turns.iter().filter_map(|turn| turn.peaks).reduce(|[a, b], [c, d]| [a.max(c), b.max(d)])
}

/// The table.
pub(super) fn print(ways: &[Way], absent: &[&str]) {
    println!(
        "{:<12}{:>10}{:>20}{:>10}{:>26}",
        "", "median", "times that of p2p", "CPU", "peak MiB (from, to)"
    );
    let p2p = ways.first().map_or(f64::NAN, |way| median(&way.turns, |turn| turn.took));
    for way in ways {
        let took = median(&way.turns, |turn| turn.took);
        let cpu = median(&way.turns, |turn| turn.cpu);
        let peaks = peaks(&way.turns).map_or("-".to_owned(), |[from, to]| {
            format!("{:.1}, {:.1}", from as f64 / f64::from(1 << 20), to as f64 / f64::from(1 << 20))
        });
        println!("{:<12}{took:>8.2} s{:>20.2}{cpu:>8.2} s{peaks:>26}", way.name, took / p2p);
    }
    for name in absent {
        println!("{name:<12}{:>10}", "absent");
    }
}

/// The same and what it was measured with, as JSON.
pub(super) fn json(
    options: &Options,
    folder: &Path,
    machine: &Machine,
    ways: &[Way],
    absent: &[&str],
) -> Value {
    let way = |way: &Way| {
        let all = |of: fn(&Turn) -> Duration| way.turns.iter().map(of).map(|time| time.as_secs_f64());
        json!({
            "name": way.name,
            "seconds": all(|turn| turn.took).collect::<Vec<_>>(),
            "median_seconds": median(&way.turns, |turn| turn.took),
            "cpu_seconds": all(|turn| turn.cpu).collect::<Vec<_>>(),
            "median_cpu_seconds": median(&way.turns, |turn| turn.cpu),
            "peak_bytes_from_to": peaks(&way.turns),
        })
    };
    json!({
        "machine": machine.json(),
        "folder": folder,
        "payload_bytes": options.size << 20,
        "rounds": options.rounds,
        "ways": ways.iter().map(way).collect::<Vec<_>>(),
        "absent": absent,
    })
}
