//! Thousands of jobs: for a peer that takes connections and never answers, over a restart, and for one that is not there.

use std::{net::UdpSocket, time::Instant};

use p2p_protocol::{control::Event, limits::MAX_JOBS};
use p2p_tests::{
    Daemon, control,
    hostile::{Connection, Hostile},
    until::until_true,
    words,
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinHandle};

use super::{Moment, Options, no_descriptor_is_left, seconds};
use crate::Result;

pub(super) fn measure(options: &Options) -> Result<Value> {
    let mut daemon = Daemon::start("queue");
    let before = Moment::of("no jobs", &daemon);
    let file = daemon.new_file("queued.bin", 1, 1 << 20);
    let runtime = Runtime::new()?;
    let (address, silent) = runtime.block_on(never_answers());
    let begun = Instant::now();
    queue(&daemon, &file, &address, options.jobs)?;
    let queued = seconds(begun);
    let waiting = Moment::of(format!("{} jobs for a peer that says nothing", options.jobs), &daemon);
    let begun = Instant::now();
    let listed = daemon.cli().run(words!["list"]).success().text().lines().count();
    let list = seconds(begun);
    println!("    queued in {queued:.1} s; `p2p list` of {listed} lines took {:.0} ms", list * 1000.0);

    let begun = Instant::now();
    daemon.restart();
    let started = seconds(begun);
    if daemon.status()["unfinished"] != options.jobs {
        return Err("jobs were lost over the restart".into());
    }
    println!("    killed, and ready again after {started:.2} s");
    let restarted = Moment::of("the same after kill -9 and a new start", &daemon);

    silent.abort();
    drop(runtime);
    let begun = Instant::now();
    let cancelled = cancel_all(&daemon);
    println!("    {cancelled} cancelled in {:.1} s", seconds(begun));
    until_true("nothing is unfinished", || daemon.status()["unfinished"] == 0);
    no_descriptor_is_left(&daemon, before.descriptors);

    // A port that nobody answers at.
    let absent = UdpSocket::bind("127.0.0.1:0")?;
    let address = absent.local_addr()?.to_string();
    let begun = Instant::now();
    queue(&daemon, &file, &address, options.jobs)?;
    println!("    queued in {:.1} s", seconds(begun));
    let dialled = Moment::of(format!("{} jobs for a peer that is not there", options.jobs), &daemon);
    until_true("all have failed", || daemon.status()["unfinished"] == 0);
    let failed = seconds(begun);
    println!("    all had failed {failed:.1} s after the first was queued");
    no_descriptor_is_left(&daemon, before.descriptors);
    let after = Moment::of("over", &daemon);
    let moments = [before, waiting, restarted, dialled, after].map(|moment| moment.json());
    Ok(json!({
        "moments": moments,
        "queued_seconds": queued,
        "list_seconds": list,
        "restart_seconds": started,
        "all_failed_seconds": failed,
        "most_jobs": MAX_JOBS,
    }))
}

/// Queues so many sends of one file, under different names.
fn queue(daemon: &Daemon, file: &std::path::Path, to: &str, count: u64) -> Result<()> {
    let home = daemon.place().home_path();
    let answers = control::ask_many(home, count, &|n| control::send(file, to, &format!("{n}.bin")));
    match answers.iter().find(|events| !matches!(events.as_slice(), [Event::Queued { .. }])) {
        None => Ok(()),
        Some(other) => Err(format!("not queued: {other:?}").into()),
    }
}

fn cancel_all(daemon: &Daemon) -> usize {
    let open = daemon.transfers().into_iter().filter(|line| line["ended_ms"].is_null());
    let numbers: Vec<u64> = open.filter_map(|line| line["transfer"].as_u64()).collect();
    let cancel = |n: u64| p2p_protocol::control::Request::Cancel(numbers[n as usize]);
    control::ask_many(daemon.place().home_path(), numbers.len() as u64, &cancel).len()
}

/// A peer that takes connections and conversations, and holds them.
async fn never_answers() -> (String, JoinHandle<()>) {
    let peer = Hostile::new();
    let address = peer.address();
    let accepting = tokio::spawn(async move {
        let mut held: Vec<(Connection, JoinHandle<()>)> = Vec::new();
        loop {
            let connection = peer.accept_any().await;
            let streams = connection.clone();
            let holding = tokio::spawn(async move {
                let mut open = Vec::new();
                while let Ok(stream) = streams.0.accept_bi().await {
                    open.push(stream);
                }
            });
            held.push((connection, holding));
        }
    });
    (address, accepting)
}
