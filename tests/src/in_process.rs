//! Daemons inside the test's own process: no program to start, and everything in reach of a debugger. What a kill
//! does to a process they cannot show.

use std::net::SocketAddr;

use p2p_daemon::{Accept, Congestion, Hooks, Load, Options};
use p2p_protocol::PeerId;
use tokio::runtime::Runtime;

use crate::{Cli, daemon::Place};

/// A daemon in this process, on a run-time of its own.
#[derive(Debug)]
pub struct InProcess {
    place: Place,
    runtime: Runtime,
    /// None once it was shut down.
    daemon: Option<p2p_daemon::Daemon>,
    address: SocketAddr,
    peer: PeerId,
}

impl InProcess {
    /// Starts in new folders.
    pub fn start() -> Self {
        Self::start_in(Place::new(), "127.0.0.1:0".parse().expect("an address"))
    }

    /// Starts in these folders, at this address.
    pub fn start_in(place: Place, listen: SocketAddr) -> Self {
        let runtime = Runtime::new().expect("a run-time");
        let (home, inbox) = (place.home_path().to_owned(), place.inbox_path().to_owned());
        let options = Options {
            home,
            listen: vec![listen],
            inbox,
            congestion: Congestion::default(),
            accept: Accept::default(),
            load: Load::default(),
            hooks: Hooks::default(),
        };
        let daemon = runtime.block_on(p2p_daemon::Daemon::start(options)).expect("a daemon starts");
        let (address, peer) = (daemon.addresses()[0], daemon.peer_id());
        Self { place, runtime, daemon: Some(daemon), address, peer }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its identity.
    pub fn peer(&self) -> String {
        self.peer.to_string()
    }

    /// Its folders.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The command line that talks to it.
    pub fn cli(&self) -> Cli {
        self.place.cli()
    }

    /// Shuts it down in order, and gives its folders and address back for another one.
    pub fn shut_down(mut self) -> (Place, SocketAddr) {
        if let Some(daemon) = self.daemon.take() {
            self.runtime.block_on(daemon.shut_down());
        }
        (self.place, self.address)
    }
}
