//! The daemon without its local socket: what a simulation runs, and what [`Daemon`](crate::Daemon) puts a socket in front of.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

use p2p_protocol::{
    PeerId,
    control::{Confinement, Event, Request, Writing},
    limits::CONTROL_QUEUE,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    Accept, Hooks, Load, Options, Part, StartError, confine,
    control::{Facts, Handlers},
    disk::{Disk, System},
    home::Home,
    identity::Identity,
    peers::Peers,
    session::{self, Sessions, Terms},
    store::Store,
    transport::{Endpoint, Network, SystemNetwork},
    workers::Workers,
};

/// What a daemon stands on. A simulation brings its own; time and tasks are those of the tokio run-time.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// Where packets go.
    pub network: Arc<dyn Network>,
    /// Who does what may wait for a disk.
    pub workers: Workers,
}

impl Surroundings {
    /// The operating system.
    pub(crate) fn system() -> Self {
        Self { disk: Arc::new(System), network: Arc::new(SystemNetwork), workers: Workers::Threads }
    }
}

/// A daemon's parts, opened, before any of them does anything.
pub(crate) struct Parts {
    pub(crate) home: Home,
    around: Surroundings,
    identity: Identity,
    peers: Peers,
    store: Store,
    endpoint: Endpoint,
    inbox: PathBuf,
    accept: Accept,
    load: Load,
    hooks: Hooks,
}

impl Parts {
    /// All of this reads files, none of it for long.
    pub(crate) fn open(options: &Options, around: Surroundings) -> Result<Self, Part> {
        let (disk, workers) = (&around.disk, &around.workers);
        let home = Home::open(&**disk, &options.home)?;
        let inbox = std::path::absolute(&options.inbox)
            .map_err(|source| Part::Io { what: "find the inbox", source })?;
        let identity = Identity::load_or_create(&**disk, home.path())?;
        let peers = Peers::load(disk.clone(), workers.clone(), home.path())?;
        let store = Store::open(disk.clone(), workers.clone(), home.path())?;
        let endpoint =
            Endpoint::bind(around.network.clone(), &options.listen, &identity, options.congestion)?;
        Ok(Self {
            home,
            around,
            identity,
            peers,
            store,
            endpoint,
            inbox,
            accept: options.accept,
            load: options.load.clone(),
            hooks: options.hooks.clone(),
        })
    }

    /// Takes up the work.
    pub(crate) fn start(self, confinement: Confinement) -> Result<Node, Part> {
        let Self { home, around, identity, peers, store, endpoint, inbox, accept, load, hooks } = self;
        let (peer_id, addresses) = (identity.peer_id(), endpoint.local_addrs());
        let confined_to = match &confinement.writing {
            Writing::Landlock { folders, .. } => Some(folders.iter().map(PathBuf::from).collect()),
            Writing::Anywhere | Writing::NotSupported => None,
        };
        let secret = identity.secret_for(session::RESUME_CONTEXT);
        let hooks = (hooks, home.path().to_owned());
        let terms = Terms { inbox: inbox.clone(), accept, confined_to, secret, load, hooks };
        let sessions = Sessions::start(around.workers, store, peers, endpoint, terms)?;
        let listen = addresses.iter().map(SocketAddr::to_string).collect();
        let (home_path, started) = (home.path().to_owned(), Instant::now());
        let facts = Facts { peer: peer_id, listen, home: home_path, inbox, started, confinement };
        let handlers = Arc::new(Handlers { sessions, facts });
        Ok(Node { handlers, addresses, peer_id, _home: home })
    }
}

/// A running daemon that is asked directly. Dropping it, and the run-time with it, is as good as a crash.
pub struct Node {
    pub(crate) handlers: Arc<Handlers>,
    addresses: Vec<SocketAddr>,
    peer_id: PeerId,
    _home: Home,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("peer_id", &self.peer_id).field("addresses", &self.addresses).finish()
    }
}

impl Node {
    /// Starts within the running tokio run-time.
    ///
    /// # Errors
    /// As [`Daemon::start`](crate::Daemon::start).
    pub fn start(options: &Options, around: Surroundings) -> Result<Self, StartError> {
        Ok(Parts::open(options, around)?.start(confine::nothing())?)
    }

    /// Carries out a request, as the local socket would; its events until the answer is complete. Whoever drops
    /// them is a client that went away.
    pub fn ask(&self, request: Request) -> mpsc::Receiver<Event> {
        let (sender, events) = mpsc::channel(CONTROL_QUEUE);
        tokio::spawn(self.handlers.clone().handle(request, sender));
        events
    }

    /// Addresses that are listened on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// This daemon's identity.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Stops every transfer, keeps what was received, and closes all connections.
    pub async fn stop(&self) {
        self.handlers.sessions.shut_down().await;
    }
}
