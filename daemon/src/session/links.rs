//! Connections as sessions use them: dialled once and shared by many transfers, each chunk stream handed
//! to the transfer that asked for it, and closed at once when trust is withdrawn.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use p2p_protocol::{
    PeerId,
    control::KeyPolicy,
    limits::{
        FIRST_FRAME_DEADLINE, FIRST_WINDOW, MAX_CONNECTIONS, MAX_STRANGER_CONNECTIONS,
        MAX_STREAMS_PER_TRANSFER, MAX_UNASKED_CHUNKS, POOL_IDLE, SEND_WINDOW,
    },
    reason::{Failure, PeerMisbehaved, close},
    wire::chunk::ChunkHeader,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

use super::{
    blocking,
    budget::{Allowance, Pool},
    early::{Early, Taken, Verdict},
    error::RunError,
    lanes::{FailedDial, Lanes, Place},
    places::{Guest, who_makes_room, window},
    provide::MEMORY_UNIT,
};
use crate::{
    peers::{Peers, Target},
    transport::{ChunkReceiver, Connection, Endpoint, TransportError},
    workers::Workers,
};

/// Chunk streams whose header was read and that wait for their transfer to take them.
const CHUNK_QUEUE: usize = 16;
/// How long one address is tried before the next.
const DIAL_DEADLINE: Duration = Duration::from_secs(8);

/// A chunk stream after its header.
pub(crate) type IncomingChunk = (ChunkHeader, ChunkReceiver);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    /// Whether this daemon dialled it.
    dialled: bool,
    /// Bytes that the peer may send ahead of what is read, where it has dialled.
    window: u64,
    routes: Mutex<Routes>,
    transfers_running: AtomicUsize,
    pool: Arc<Pool>,
    /// Bytes read for this connection and not yet with the peer.
    outgoing: Semaphore,
    /// Chunks that may still come for no transfer before the peer counts as misbehaving.
    strays: AtomicI64,
}

/// Where chunk streams go.
#[derive(Debug)]
struct Routes {
    transfers: HashMap<u64, mpsc::Sender<IncomingChunk>>,
    /// Chunks that came before their transfer, each with the room that it takes.
    early: Early<(IncomingChunk, Allowance)>,
}

/// A conversation that the peer has opened. When it is dropped, what came for it and was not taken is stopped.
#[derive(Debug)]
pub(crate) struct Opened {
    link: Arc<Link>,
    conversation: u64,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let held = self.link.lock().early.close(self.conversation);
        drop(held);
        // A chunk that was sent along with an offer may come when that is refused already.
        self.link.strays.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps a connection from counting as idle.
#[derive(Debug)]
pub(crate) struct LinkUse(Arc<Link>);

impl Drop for LinkUse {
    fn drop(&mut self) {
        self.0.transfers_running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    /// Marks the connection as in use by one more conversation.
    pub(crate) fn hold(self: &Arc<Self>) -> LinkUse {
        self.transfers_running.fetch_add(1, Ordering::Relaxed);
        LinkUse(self.clone())
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connection's window, shared by the transfers that receive on it.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Bytes that may be read for this connection ahead of what the peer has, in units of `MEMORY_UNIT`.
    pub(crate) fn outgoing(&self) -> &Semaphore {
        &self.outgoing
    }

    /// Names a fault and closes the connection for it.
    pub(crate) fn condemn(&self, fault: &PeerMisbehaved) {
        tracing::warn!(peer = %self.peer(), %fault, "peer misbehaved, connection closed");
        self.connection.close(fault.close_code(), &fault.to_string());
    }

    /// Whether this daemon opened the connection.
    pub(crate) fn is_dialled(&self) -> bool {
        self.dialled
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.connection.peer_id()
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the chunk streams of a transfer handed over from now on, until the returned value is dropped.
    pub(crate) fn expect_chunks(self: &Arc<Self>, transfer: u64) -> ChunkQueue {
        let (sender, receiver) = mpsc::channel(CHUNK_QUEUE);
        // What is on its way when the transfer ends comes late, and is nobody's fault.
        self.strays.fetch_add(i64::from(MAX_STREAMS_PER_TRANSFER), Ordering::Relaxed);
        let mut routes = self.lock();
        let taken = routes.early.take(transfer);
        let missed = matches!(taken, Taken::Stopped);
        if let Taken::Held((chunk, _room)) = taken {
            // The queue is empty, so there is room.
            let _ = sender.try_send(chunk);
        }
        routes.transfers.insert(transfer, sender);
        drop(routes);
        ChunkQueue { link: self.clone(), transfer, receiver, missed }
    }

    /// Holds no chunk that comes before a conversation is ready: that will take long.
    pub(crate) fn hold_nothing(&self, conversation: u64) {
        let held = self.lock().early.decline(conversation);
        // Dropping a stream stops it.
        drop(held);
    }

    /// The peer has opened a conversation, in the order of their numbers.
    pub(crate) fn opened(self: &Arc<Self>, conversation: u64) -> Opened {
        self.lock().early.open(conversation);
        Opened { link: self.clone(), conversation }
    }

    /// Hands a chunk stream over to its transfer. Of a peer that `may_send` one may come before its offer was taken.
    async fn route(self: Arc<Self>, mut chunk: ChunkReceiver, may_send: bool, daemon: Arc<Pool>) {
        let header = match chunk.header().await {
            Ok(header) => header,
            Err(error) => {
                if let TransportError::Misbehaved(fault) = &error {
                    self.condemn(fault);
                }
                return;
            }
        };
        let queue = {
            let mut routes = self.lock();
            match routes.transfers.get(&header.transfer) {
                Some(queue) => Some(queue.clone()),
                None if may_send => match routes.early.judge(&header) {
                    Verdict::Hold => {
                        if let Some(room) = Allowance::try_take_early(&self.pool, &daemon) {
                            let transfer = header.transfer;
                            routes.early.hold(transfer, ((header, chunk), room));
                            drop(routes);
                            self.expire_early(transfer);
                        }
                        return;
                    }
                    // Dropping a stream stops it.
                    Verdict::Stop => return,
                    Verdict::Stray => None,
                },
                None => None,
            }
        };
        match queue {
            Some(queue) => {
                if let Err(mpsc::error::SendError((_, chunk))) = queue.send((header, chunk)).await {
                    chunk.stop(close::STREAM_UNWANTED);
                }
            }
            None => {
                chunk.stop(close::STREAM_UNWANTED);
                if self.strays.fetch_sub(1, Ordering::Relaxed) <= 0 {
                    self.condemn(&PeerMisbehaved::UnaskedChunks);
                }
            }
        }
    }
}

impl Link {
    /// Gives up, after a while, a chunk whose conversation never came.
    fn expire_early(self: &Arc<Self>, conversation: u64) {
        let link = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(FIRST_FRAME_DEADLINE).await;
            if let Some(link) = link.upgrade() {
                let held = link.lock().early.expire(conversation);
                drop(held);
            }
        });
    }
}

/// The chunk streams of one transfer.
#[derive(Debug)]
pub(crate) struct ChunkQueue {
    link: Arc<Link>,
    transfer: u64,
    receiver: mpsc::Receiver<IncomingChunk>,
    missed: bool,
}

impl ChunkQueue {
    /// Whether a chunk came before the transfer was ready for it, and was stopped.
    pub(crate) fn missed(&self) -> bool {
        self.missed
    }

    /// The next chunk stream. `None` once the connection is gone.
    pub(crate) async fn next(&mut self) -> Option<IncomingChunk> {
        self.receiver.recv().await
    }
}

impl Drop for ChunkQueue {
    fn drop(&mut self) {
        self.link.lock().transfers.remove(&self.transfer);
    }
}

/// All open connections.
#[derive(Debug)]
pub(crate) struct Links {
    pub(super) workers: Workers,
    endpoint: Endpoint,
    pub(super) peers: Peers,
    /// The budget of the daemon, for what comes before it is asked for.
    pool: Arc<Pool>,
    /// By their numbers, the oldest first.
    open: Mutex<BTreeMap<u64, Arc<Link>>>,
    lanes: Arc<Lanes>,
}

impl Links {
    pub(crate) fn new(
        workers: Workers,
        endpoint: Endpoint,
        peers: Peers,
        pool: Arc<Pool>,
        lanes: Arc<Lanes>,
    ) -> Self {
        Self { workers, endpoint, peers, pool, open: Mutex::default(), lanes }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Link>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What transfers to a target share, and who may run.
    pub(crate) fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn connected(&self) -> HashSet<PeerId> {
        self.lock().values().map(|link| link.peer()).collect()
    }

    /// Closes every connection with this peer.
    pub(crate) fn close_peer(&self, peer: &PeerId) {
        for link in self.lock().values().filter(|link| link.peer() == *peer) {
            tracing::info!(%peer, "trust withdrawn, connection closed");
            link.connection.close(close::NOT_TRUSTED, "");
        }
    }

    /// Whether a target, as typed, can be dialled at all.
    pub(crate) fn check_target(&self, typed: &str) -> Result<(), RunError> {
        self.parse(typed).map(|_| ())
    }

    /// Whether a certain peer is meant by a target: by its name or Peer ID, or because it was found there before.
    pub(crate) fn expects(&self, typed: &str) -> bool {
        self.parse(typed).is_ok_and(|target| target.expected.is_some())
    }

    fn parse(&self, typed: &str) -> Result<Target, RunError> {
        self.peers.parse_target(typed).map_err(|error| {
            let failure = if error.is_unknown_peer() { Failure::NotFound } else { Failure::Usage };
            RunError::new(failure, error.to_string())
        })
    }

    /// Whether there is room for a connection that came in; one of a peer that has many may have to go. Strangers share a small number
    /// of places.
    pub(crate) fn make_room(&self, peer: &PeerId, stranger: bool) -> bool {
        let mut open = self.lock();
        if stranger {
            let none = |link: &&Arc<Link>| !link.dialled && !self.peers.is_trusted(&link.peer());
            return open.values().filter(none).count() < MAX_STRANGER_CONNECTIONS
                && open.len() < MAX_CONNECTIONS;
        }
        if open.len() < MAX_CONNECTIONS {
            return true;
        }
        let Some(link) = who_makes_room(peer, &guests(&open)).and_then(|id| open.remove(&id)) else {
            return false;
        };
        tracing::warn!(peer = %link.peer(), "too many connections, one of this peer's closed");
        link.connection.close(close::BUSY, "");
        true
    }

    /// Takes a connection in: its chunk streams are routed and it is forgotten when it closes.
    pub(crate) fn adopt(self: &Arc<Self>, connection: Connection, dialled: bool) -> Arc<Link> {
        let mut open = self.lock();
        // What is granted and not read costs memory, so that nobody gets it many times over.
        let window = match dialled || !self.peers.is_trusted(&connection.peer_id()) {
            true => FIRST_WINDOW,
            false => window(&connection.peer_id(), &guests(&open)),
        };
        let link = Arc::new(Link {
            connection,
            dialled,
            window,
            routes: Mutex::new(Routes { transfers: HashMap::new(), early: Early::new(dialled) }),
            transfers_running: AtomicUsize::new(0),
            pool: Pool::connection(),
            outgoing: Semaphore::new((SEND_WINDOW / MEMORY_UNIT) as usize),
            strays: AtomicI64::new(i64::from(MAX_UNASKED_CHUNKS)),
        });
        if window > FIRST_WINDOW {
            link.connection.widen(window);
        }
        open.insert(link.connection.id(), link.clone());
        drop(open);
        tokio::spawn({
            let (link, peers, pool) = (link.clone(), self.peers.clone(), self.pool.clone());
            async move {
                while let Ok(chunk) = link.connection.accept_chunk().await {
                    let may_send = peers.rights(&link.peer()).send;
                    tokio::spawn(link.clone().route(chunk, may_send, pool.clone()));
                }
            }
        });
        tokio::spawn({
            let (links, link) = (Arc::downgrade(self), link.clone());
            async move {
                let reason = link.connection.closed().await;
                tracing::debug!(peer = %link.peer(), %reason, "connection closed");
                if let Some(links) = links.upgrade() {
                    links.lock().remove(&link.connection.id());
                }
                // Transfers that wait for chunks see the end of their queue.
                link.lock().transfers.clear();
            }
        });
        if dialled {
            tokio::spawn(close_when_idle(Arc::downgrade(&link)));
        }
        link
    }

    /// A connection to the peer at a target, one of that class that is open already if there is one. Whether its key is
    /// the right one is decided here, before anything is said on it.
    pub(crate) async fn dial(
        self: &Arc<Self>,
        typed: &str,
        policy: KeyPolicy,
        place: &Place,
        background: bool,
    ) -> Result<(Arc<Link>, bool), RunError> {
        let mut dial = place.dial().await?;
        let target = self.parse(typed)?;
        if let Some(link) = self.reusable(&target, policy, background).await {
            return Ok((link, false));
        }
        let begun = Instant::now();
        match self.dial_anew(&target, policy, background).await {
            Ok(link) => {
                *dial = None;
                Ok((link, true))
            }
            Err(error) => {
                // What is wrong with a key may be so for one command only.
                if error.failure == Failure::Unreachable {
                    *dial = Some(FailedDial { begun, error: error.clone() });
                }
                Err(error)
            }
        }
    }

    /// A connection that nothing else uses yet, also where one is open.
    pub(crate) async fn dial_apart(
        self: &Arc<Self>,
        typed: &str,
        policy: KeyPolicy,
    ) -> Result<Arc<Link>, RunError> {
        self.dial_anew(&self.parse(typed)?, policy, false).await
    }

    async fn dial_anew(
        self: &Arc<Self>,
        target: &Target,
        policy: KeyPolicy,
        background: bool,
    ) -> Result<Arc<Link>, RunError> {
        let addresses = resolve(target).await?;
        let mut failed = None;
        for address in addresses {
            let dial = self.endpoint.connect_as(address, background);
            let attempt = tokio::time::timeout(DIAL_DEADLINE, dial).await;
            let connection = match attempt {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => {
                    failed = Some(RunError::from(error));
                    continue;
                }
                Err(_) => {
                    let secs = DIAL_DEADLINE.as_secs();
                    failed = Some(RunError {
                        passing: true,
                        ..RunError::new(
                            Failure::Unreachable,
                            format!(
                                "{address} did not answer within {secs} s; is p2pd running there, and UDP let through?"
                            ),
                        )
                    });
                    continue;
                }
            };
            let found = connection.peer_id();
            self.follow(&connection).await?;
            // What is meant may have another key since.
            let (peers, meant) = (self.peers.clone(), self.parse(&target.typed)?);
            if let Err(error) =
                blocking(&self.workers, move || peers.check_key(&meant, found, policy)).await?
            {
                connection.close(close::WRONG_PEER, "");
                return Err(error.into());
            }
            self.peers.remember_address(&found, target, address);
            return Ok(self.adopt(connection, true));
        }
        Err(failed.unwrap_or_else(|| no_address(target)))
    }

    /// An open connection to the peer that is meant, where it is certain that the target means that peer:
    /// it was dialled at one of the target's addresses, or the target is the peer's name or ID.
    async fn reusable(&self, target: &Target, policy: KeyPolicy, background: bool) -> Option<Arc<Link>> {
        let expected = match policy {
            KeyPolicy::Exactly(id) => Some(id),
            KeyPolicy::Known | KeyPolicy::AcceptNew => target.expected,
        }?;
        let candidates: Vec<Arc<Link>> = self
            .lock()
            .values()
            .filter(|link| link.peer() == expected && link.connection.is_closed().is_none())
            .filter(|link| link.connection.is_background() == background)
            .cloned()
            .collect();
        if candidates.is_empty() {
            return None;
        }
        let link = if target.is_name_or_id {
            candidates.into_iter().next()
        } else {
            let addresses = resolve(target).await.ok()?;
            candidates
                .into_iter()
                .find(|link| link.dialled && addresses.contains(&canonical(link.connection.remote_addr())))
        }?;
        // The pin may be new (a key given with the command), and trust may have changed since it was dialled.
        self.peers.check_key(target, expected, policy).is_ok().then_some(link)
    }
}

/// The connections that came in.
fn guests(open: &BTreeMap<u64, Arc<Link>>) -> Vec<Guest> {
    let incoming = open.values().filter(|link| !link.dialled);
    let guests = incoming.map(|link| Guest {
        id: link.connection.id(),
        peer: link.peer(),
        window: link.window,
        is_busy: link.transfers_running.load(Ordering::Relaxed) > 0,
    });
    guests.collect()
}

/// An IPv4 address as such, where a dual-stack socket shows it mapped into IPv6. The scope of a link-local
/// address stays.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

pub(super) async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, RunError> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut failed = None;
    for place in &target.places {
        match tokio::net::lookup_host((place.host.as_str(), place.port)).await {
            Ok(found) => addresses.extend(found.map(canonical)),
            Err(error) => failed = Some((place.host.clone(), error)),
        }
    }
    match failed {
        Some((host, error)) if addresses.is_empty() => Err(RunError {
            passing: true,
            ..RunError::new(Failure::Unreachable, not_found(target, &host, &error))
        }),
        _ => {
            let mut seen = HashSet::new();
            addresses.retain(|address| seen.insert(*address));
            Ok(addresses)
        }
    }
}

/// What is neither a peer that is known nor a host that is found may be either, mistyped.
fn not_found(target: &Target, host: &str, error: &std::io::Error) -> String {
    if target.expected.is_some() {
        return format!("{host}: its address cannot be found ({error})");
    }
    format!(
        "{host} is no peer known here, and no host of that name can be found ({error}); `p2p peers` lists the peers"
    )
}

fn no_address(target: &Target) -> RunError {
    RunError::new(Failure::Unreachable, format!("no address is known for {}", target.typed))
}

async fn close_when_idle(link: std::sync::Weak<Link>) {
    let mut was_idle = false;
    loop {
        tokio::time::sleep(POOL_IDLE / 2).await;
        let Some(link) = link.upgrade() else { return };
        if link.connection.is_closed().is_some() {
            return;
        }
        let idle = link.transfers_running.load(Ordering::Relaxed) == 0;
        if idle && was_idle {
            link.connection.close(close::IDLE, "idle");
            return;
        }
        was_idle = idle;
    }
}
