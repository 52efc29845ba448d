//! Connections that do nothing, and transfers beside them.

use p2p_protocol::{
    PeerId,
    control::{Event, Request, TrustRequest},
};
use p2p_tests::{Daemon, Pair, Relay, control, hostile::tls::Key, until::until_true};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Moment, Options, no_descriptor_is_left};
use crate::{Result, memory};

/// Size of each file.
const FILE: u64 = 4 << 20;
/// So that none is done before all have begun and the daemon was looked at, in bytes per second.
const SLOW: u64 = 1 << 20;

pub(super) fn measure(options: &Options) -> Result<Value> {
    let mut pair = Pair::new();
    let keys: Vec<_> = (0..options.connections).map(|_| Key::generate()).collect();
    let home = pair.a.place().home_path().to_owned();
    for key in &keys {
        let id = PeerId::from_spki(key.spki());
        let trust = TrustRequest { id, name: None, address: None, send: true, fetch: true };
        match control::ask(&home, &Request::Trust(trust))?.as_slice() {
            [Event::Ok] => {}
            other => return Err(format!("trusted: {other:?}").into()),
        }
    }
    let files = (0..options.transfers).map(|n| pair.a.new_file(&format!("{n}.bin"), n, FILE));
    let files: Vec<_> = files.collect();
    let shared = control::ask_many(&home, options.transfers, &|n| control::share(&files[n as usize]));
    let ids = shared.iter().flatten().filter_map(|event| match event {
        Event::Shared { file_id, .. } => Some(*file_id),
        _ => None,
    });
    let ids: Vec<_> = ids.collect();
    // What so many commands have left in memory is no matter here.
    pair.a.restart();
    let daemon = &pair.a;
    let before = Moment::of("nothing to do", daemon);

    let runtime = Runtime::new()?;
    let peers = runtime.block_on(memory::connect(&keys, daemon.address()))?;
    until_true("all are connected", || daemon.status()["connections"] == options.connections);
    let idle = Moment::of(format!("{} idle connections", options.connections), daemon);

    let relay = Relay::to(daemon.address());
    relay.set_rate(SLOW);
    let from = relay.address();
    let fetch = |n: u64| control::fetch(ids[n as usize], &from);
    control::ask_many(pair.b.place().home_path(), ids.len() as u64, &fetch);
    until_true("all transfers run", || active(daemon) == ids.len());
    let busy = Moment::of(format!("and {} transfers beside them", ids.len()), daemon);
    if active(daemon) != ids.len() {
        return Err("a transfer ended before it was looked at".into());
    }
    relay.set_rate(0);
    let ended = pair.b.settled();
    if ended.iter().filter(|line| line["state"] == "done").count() != ids.len() {
        return Err("not all files have arrived".into());
    }
    drop(peers);
    drop(relay);
    pair.b.sigterm();
    until_true("all have gone", || daemon.status()["connections"] == 0);
    no_descriptor_is_left(daemon, before.descriptors);
    let after = Moment::of("over", daemon);
    Ok(json!([before.json(), idle.json(), busy.json(), after.json()]))
}

fn active(daemon: &Daemon) -> usize {
    daemon.transfers().iter().filter(|line| line["state"] == "active").count()
}
