//! What connections cost that do nothing: the memory of a daemon before many trusted peers connect, while they are
//! there, after they have gone, and when they are there again, which tells what was kept for them from what was lost.
//!
//! The peers live in this process, each with a key of its own. Some share a socket, which the daemon does not notice.

use std::{path::PathBuf, sync::Arc, thread, time::Duration};

use p2p_protocol::{PeerId, limits::MAX_CONNECTIONS};
use p2p_tests::{
    Daemon,
    hostile::tls::{self, Key},
    until::until_true,
    words,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{Result, machine::Machine, save, usage};

/// Peers at one socket: so few that no answer finds its buffer full.
const AT_ONE_SOCKET: usize = 16;

/// Well below what the daemon allows a connection to be silent.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

const MIB: f64 = (1 << 20) as f64;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many peers connect.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MAX_CONNECTIONS as u64))]
    connections: u64,
    /// How long they do nothing before memory is looked at, in seconds.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=600))]
    seconds: u64,
    /// Writes what was measured to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a daemon has, in bytes.
#[derive(Clone, Copy, Debug)]
struct Memory {
    name: &'static str,
    resident: u64,
    /// The most since the moment before.
    peak: u64,
}

impl Memory {
    /// What it has after it was left alone.
    fn of(name: &'static str, daemon: &Daemon, options: &Options) -> Self {
        thread::sleep(Duration::from_secs(options.seconds));
        let memory = Self { name, resident: daemon.resident_memory(), peak: daemon.peak_memory() };
        usage::forget_peak(daemon);
        memory
    }

    fn per_connection(self, before: Self, options: &Options) -> [f64; 2] {
        [self.resident, self.peak]
            .map(|bytes| (bytes as f64 - before.resident as f64) / 1024.0 / options.connections as f64)
    }

    fn print(self) {
        println!(
            "{:<12}{:>10.1} MiB{:>10.1} MiB",
            self.name,
            self.resident as f64 / MIB,
            self.peak as f64 / MIB
        );
    }

    fn json(self) -> Value {
        json!({ "moment": self.name, "resident_bytes": self.resident, "peak_bytes": self.peak })
    }
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let machine = Machine::this();
    println!("{machine}");
    println!("{} connections of trusted peers that do nothing", options.connections);
    let keys: Vec<_> = (0..options.connections).map(|_| Key::generate()).collect();
    let mut daemon = Daemon::start("many");
    for key in &keys {
        daemon.cli().run(words!["peers", "trust", PeerId::from_spki(key.spki()).to_string()]).success();
    }
    // What so many commands have left in memory is no matter here.
    daemon.restart();
    let count = |daemon: &Daemon| daemon.status()["connections"].as_u64();
    println!("{:<12}{:>14}{:>14}", "", "resident", "at most");
    let before = Memory::of("before", &daemon, options);
    before.print();
    let runtime = Runtime::new()?;
    let with_all = |name| -> Result<Memory> {
        let peers = runtime.block_on(connect(&keys, daemon.address()))?;
        until_true("all are connected", || count(&daemon) == Some(options.connections));
        let memory = Memory::of(name, &daemon, options);
        if count(&daemon) != Some(options.connections) {
            return Err("not all of them have stayed connected".into());
        }
        memory.print();
        drop(peers);
        until_true("all have gone", || count(&daemon) == Some(0));
        Ok(memory)
    };
    let connected = with_all("connected")?;
    let after = Memory::of("gone", &daemon, options);
    after.print();
    let again = with_all("again")?;
    let [resident, peak] = connected.per_connection(before, options);
    println!("{:<12}{resident:>10.1} KiB{peak:>10.1} KiB", "each");
    let moments = [before, connected, after, again].map(Memory::json);
    let all = json!({
        "machine": machine.json(),
        "connections": options.connections,
        "idle_seconds": options.seconds,
        "moments": moments,
        "resident_kib_per_connection": resident,
        "peak_kib_per_connection": peak,
    });
    save(options.json.as_deref(), &all)
}

/// Connections that stay as long as this is kept.
pub(crate) struct Peers {
    connections: Vec<quinn::Connection>,
    sockets: Vec<quinn::Endpoint>,
}

impl Drop for Peers {
    fn drop(&mut self) {
        for connection in &self.connections {
            connection.close(0u32.into(), b"");
        }
    }
}

/// Connects one after the other, so that the daemon's bound on handshakes is none here.
pub(crate) async fn connect(keys: &[Key], address: &str) -> Result<Peers> {
    let address = address.parse()?;
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    let transport = Arc::new(transport);
    let mut peers = Peers { connections: Vec::new(), sockets: Vec::new() };
    for keys in keys.chunks(AT_ONE_SOCKET) {
        let socket = quinn::Endpoint::client((std::net::Ipv4Addr::LOCALHOST, 0).into())?;
        for key in keys {
            let mut config = quinn::ClientConfig::new(Arc::new(tls::client(key)));
            config.transport_config(transport.clone());
            peers.connections.push(socket.connect_with(config, address, "p2p")?.await?);
        }
        peers.sockets.push(socket);
    }
    Ok(peers)
}
