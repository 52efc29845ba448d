//! Transfers: the only place where a pure decision of the protocol becomes an effect on disk or network.
//!
//! `registry` knows all transfers and `job` is one of them; `links` are the open connections; `run` works on
//! what the owner asked for, `accept` answers what peers ask for; `provide` and `receive` drive the protocol's
//! two state machines.

mod accept;
mod batch;
mod budget;
mod clean_up;
mod destination;
mod dry_run;

mod early;
mod ending;
mod error;
mod folder;
mod follow;
mod goal;
mod hooks;
mod inbox;
mod incoming;
mod invite;
mod job;
mod join;
mod lanes;
mod limiter;
mod limits;
mod links;
mod listing;
mod measure;
mod pause;
mod places;
mod probe;
mod provide;
mod receipts;
mod receive;
mod registry;
mod retry;
mod rules;
mod run;
mod shares;
mod spec;
mod stdout;
mod tickets;
mod tries;
mod waits;

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use p2p_protocol::{
    Batch, FileId, PeerId,
    control::{
        FetchRequest, Happening, LogEntry, LogRequest, Output, PeerInfo, SendRequest, ShareRequest, State,
        TransferEvent, TrustRequest, Wishes,
    },
    limits::{DRAIN_DEADLINE, MANIFEST_BUDGET, OUTGOING_BUDGET, STRANGER_BUDGET},
    reason::{AbortReason, Failure, RefuseReason, close},
    wire::peer::Message,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use error::RunError;
pub(crate) use job::{Job, Word};
pub(crate) use registry::{Registry, forward};

use crate::{
    config::{Accept, Hooks, Load},
    peers::Peers,
    store::{Excludes, Remark, Share, Store, StoreError, check_only},
    transport::{ControlStream, Endpoint, TransportError},
    workers::Workers,
};
use budget::Pool;
use invite::WrongClaims;
use job::now_ms;
use lanes::Lanes;
use limiter::Limiter;
use links::{Link, Links};
use shares::Audience;
use spec::Spec;
use stdout::StdoutClient;

/// What the secret behind resume keys is for.
pub(crate) const RESUME_CONTEXT: &str = "p2p 2026-11-25 resume keys of sources without file id";
/// How long a peer is given to take a last word.
const PARTING: Duration = Duration::from_secs(2);

/// A transfer that was made, or joined.
pub(crate) struct Begun {
    /// Its number.
    pub(crate) transfer: u64,
    /// What happens to it; of a new one, from before its first step.
    pub(crate) events: mpsc::Receiver<TransferEvent>,
    /// What it is offered together with.
    pub(crate) batch: Option<Batch>,
}

impl Begun {
    fn of(job: &Job) -> Self {
        Self { transfer: job.number(), events: job.watch(), batch: job.batch() }
    }
}

/// What is settled before any transfer.
pub(crate) struct Terms {
    /// Where received files land.
    pub(crate) inbox: PathBuf,
    /// What happens to a trusted peer's offer.
    pub(crate) accept: Accept,
    /// Folders outside which this daemon may write nothing, where it is confined.
    pub(crate) confined_to: Option<Vec<PathBuf>>,
    /// Behind the resume keys of what this machine sends.
    pub(crate) secret: [u8; 32],
    /// How much is done at a time.
    pub(crate) load: Load,
    /// Programs that are run when something happens, and the home that they are told of.
    pub(crate) hooks: (Hooks, PathBuf),
}

/// All transfers of this daemon and what they work with.
pub(crate) struct Sessions {
    workers: Workers,
    store: Store,
    peers: Peers,
    links: Arc<Links>,
    registry: Arc<Registry>,
    inbox: PathBuf,
    /// Whether what a trusted peer offers waits for the owner's yes.
    asks_owner: bool,
    /// Folders outside which this daemon may write nothing, where it is confined.
    confined_to: Option<Vec<PathBuf>>,
    /// Behind the resume keys of what this machine sends.
    secret: [u8; 32],
    pool: Arc<Pool>,
    limiter: Arc<Limiter>,
    /// Memory for what is read for trusted peers, and for strangers.
    outgoing: Arc<Semaphore>,
    outgoing_public: Arc<Semaphore>,
    /// Memory for the lists of entries of folders that come.
    manifests: Arc<Semaphore>,
    /// Questions of peers that are being answered.
    answers: Semaphore,
    /// What was measured with peers lately.
    measured: measure::Spent,
    /// Small files that were sent, the last ones: they do not go along with an offer again.
    delivered: Mutex<VecDeque<(PeerId, FileId)>>,
    /// One fetch at a time of each content.
    fetches: Mutex<HashMap<FileId, Arc<tokio::sync::Mutex<()>>>>,
    /// Where claims came from that did not hold.
    wrong_claims: WrongClaims,
    /// Clients that read what is fetched, by transfer.
    stdout: Mutex<HashMap<u64, Arc<StdoutClient>>>,
    shutdown: CancellationToken,
    /// What a shutdown waits for.
    runs: TaskTracker,
}

impl Sessions {
    /// Begins to accept connections, and takes up what an earlier daemon left unfinished.
    pub(crate) fn start(
        workers: Workers,
        store: Store,
        peers: Peers,
        endpoint: Endpoint,
        terms: Terms,
    ) -> Result<Arc<Self>, RunError> {
        let Terms { inbox, accept, confined_to, secret, load, hooks: (hooks, home) } = terms;
        let registry = Arc::new(Registry::load(store.clone())?);
        let limiter = Limiter::new(load.limit, limits::kept(&store)?);
        let pool = Pool::daemon();
        let lanes = Lanes::new(load.max_transfers, load.max_transfers_per_peer);
        let sessions = Arc::new(Self {
            links: Arc::new(Links::new(workers.clone(), endpoint, peers.clone(), pool.clone(), lanes)),
            workers,
            store,
            peers,
            registry,
            inbox,
            asks_owner: accept == Accept::Ask,
            confined_to,
            secret,
            pool,
            limiter,
            delivered: Mutex::default(),
            outgoing: Arc::new(Semaphore::new((OUTGOING_BUDGET / provide::MEMORY_UNIT) as usize)),
            manifests: Arc::new(Semaphore::new((MANIFEST_BUDGET / folder::LIST_UNIT) as usize)),
            answers: Semaphore::new(dry_run::ANSWERED_AT_ONCE),
            measured: measure::Spent::default(),
            outgoing_public: Arc::new(Semaphore::new((STRANGER_BUDGET / provide::MEMORY_UNIT) as usize)),
            fetches: Mutex::default(),
            wrong_claims: WrongClaims::none(),
            stdout: Mutex::default(),
            shutdown: CancellationToken::new(),
            runs: TaskTracker::new(),
        });
        sessions.sweep_spool()?;
        tokio::spawn(sessions.limiter.clone().follow_clock(sessions.shutdown.clone()));
        if !hooks.are_none() {
            let (registry, shutdown) = (sessions.registry.clone(), sessions.shutdown.clone());
            tokio::spawn(hooks::follow(registry, hooks, home, shutdown));
        }
        tokio::spawn(sessions.clone().accept_connections());
        let mut unfinished = sessions.registry.all();
        unfinished.retain(|job| !job.is_over());
        // They ask for their places in this order.
        unfinished.sort_by_key(|job| (job.wish().order(), job.number()));
        for job in unfinished {
            match job.spec() {
                Spec::Fetch { output: Output::Stdout, .. } => {
                    sessions.give_up(&job, &RunError::client_gone());
                    tokio::spawn(sessions.clone().forget_spool(job));
                }
                Spec::Serve { .. } => {
                    let error = RunError::new(Failure::Unreachable, "the daemon ended meanwhile");
                    sessions.give_up(&job, &error);
                }
                Spec::Receive { .. } | Spec::ReceiveUnsealed { .. } => {
                    tokio::spawn(sessions.clone().end_if_complete(job));
                }
                Spec::Send { .. } | Spec::Fetch { .. } => sessions.spawn_in_order(job),
            }
        }
        Ok(sessions)
    }

    fn give_up(&self, job: &Job, error: &RunError) {
        job.fail(error);
        self.registry.save(job);
    }

    /// Stops every run, keeps what was received, and closes all connections.
    pub(crate) async fn shut_down(&self) {
        self.shutdown.cancel();
        self.runs.close();
        if tokio::time::timeout(DRAIN_DEADLINE, self.runs.wait()).await.is_err() {
            tracing::warn!("transfers did not stop in time; what was checkpointed is kept");
        }
        let peers = self.peers.clone();
        if blocking(&self.workers, move || peers.flush()).await.is_err() {
            tracing::debug!("peers seen last were not written down");
        }
        self.links.endpoint().close(close::SHUTDOWN, "shutting down");
        if tokio::time::timeout(PARTING, self.links.endpoint().wait_idle()).await.is_err() {
            tracing::debug!("some peers did not confirm the end of their connection");
        }
    }

    /// All transfers.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Limits on bandwidth.
    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        self.links.count()
    }

    /// A transfer by its number.
    pub(crate) fn job(&self, number: u64) -> Result<Arc<Job>, RunError> {
        self.registry.get(number).ok_or_else(|| {
            RunError::new(Failure::NotFound, format!("there is no transfer {number}; `p2p list` shows all"))
        })
    }

    /// Sends a file, or joins the transfer that does so already.
    pub(crate) fn send(self: &Arc<Self>, request: SendRequest) -> Result<Begun, RunError> {
        self.check(&request)?;
        let (job, is_new) = self.make(request)?;
        Ok(self.begin(job, is_new))
    }

    /// Whether there can be such a transfer.
    fn check(&self, send: &SendRequest) -> Result<(), RunError> {
        self.links.check_target(&send.target)?;
        Excludes::new(&send.excludes)?;
        Ok(())
    }

    /// The transfer that a request is for, and whether it is new.
    fn make(&self, request: SendRequest) -> Result<(Arc<Job>, bool), RunError> {
        let path = String::from_utf8_lossy(&request.path).into_owned();
        let own_name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let (name, target) = (request.name.clone().unwrap_or(own_name), request.target.clone());
        let wishes = request.wishes;
        self.find_or_make(Spec::from(request), name, target, wishes)
    }

    /// Fetches a file, or joins the transfer that does so already. The second part is what goes to the
    /// client's standard output, where it is to go there.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        request: FetchRequest,
    ) -> Result<(Begun, Option<mpsc::Receiver<Bytes>>), RunError> {
        let request = self.settle(self.with_ticket(request).await?).await?;
        check_only(&request.only)?;
        let is_part = !request.only.is_empty() || request.range.is_some();
        if request.range.is_some() && request.output == Output::Inbox {
            return Err(RunError::new(
                Failure::Usage,
                "some bytes of a file have no name; say where to, with -o",
            ));
        }
        if is_part && matches!(request.output, Output::Update(_)) {
            let message =
                "a part does not take the place of the whole; name another place, or leave --update out";
            return Err(RunError::new(Failure::Usage, message));
        }
        for target in &request.from {
            self.links.check_target(target)?;
        }
        let (name, target) = (request.file_id.to_string(), request.from.join(", "));
        let to_stdout = request.output == Output::Stdout;
        let wishes = request.wishes;
        let spec = Spec::from(request);
        if !to_stdout {
            let (job, is_new) = self.find_or_make(spec, name, target, wishes)?;
            return Ok((self.begin(job, is_new), None));
        }
        let (job, _) = self.registry.find_or_make(spec, name, target)?;
        job.ask_for(wishes);
        let begun = Begun::of(&job);
        let (client, bytes) = StdoutClient::new();
        self.stdout_clients().insert(job.number(), client.clone());
        let reader = job.clone();
        tokio::spawn(async move {
            client.gone().await;
            reader.cancel();
        });
        self.spawn_job(job);
        Ok((begun, Some(bytes)))
    }

    fn find_or_make(
        &self,
        spec: Spec,
        name: String,
        target: String,
        wishes: Wishes,
    ) -> Result<(Arc<Job>, bool), RunError> {
        let (job, is_new) = self.registry.find_or_make(spec, name, target)?;
        if wishes != Wishes::default() {
            job.ask_for(wishes);
            self.links.lanes().reorder(job.number(), job.wish().order());
            self.registry.save(&job);
        }
        Ok((job, is_new))
    }

    fn begin(self: &Arc<Self>, job: Arc<Job>, is_new: bool) -> Begun {
        let begun = Begun::of(&job);
        if is_new {
            self.spawn_job(job);
        }
        begun
    }

    /// Makes a file or folder fetchable: its File ID, its path, who can fetch it, and what is worth a word about it. `keep_on` is asked
    /// while it is hashed.
    pub(crate) async fn share(
        &self,
        request: ShareRequest,
        keep_on: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<(FileId, PathBuf, String, Vec<Remark>), RunError> {
        let audience = Audience::of(&request, &self.peers)?.map(|audience| audience.stored());
        let (store, path) = (self.store.clone(), run::path_of(&request.path));
        let excludes = Excludes::new(&request.excludes)?;
        let shared = blocking(&self.workers, move || {
            let source = store.import(&path, &excludes, &|_| keep_on())?;
            // What was imported has a name.
            let Some(file_id) = source.file_id() else { return Err(StoreError::Cancelled) };
            let audience = match &audience {
                Some(audience) => audience.clone(),
                None => shares::kept(store.catalog().share(file_id)?),
            };
            let excludes = request.excludes;
            let share = Share { file_id, path, audience, created_ms: now_ms(), excludes };
            store.catalog().put_share(&share)?;
            Ok::<_, StoreError>((share, source.remarks()))
        });
        let (share, remarks) = shared.await??;
        let words = Audience::of_share(&share).words(&self.peers);
        let Share { file_id, path, .. } = share;
        tracing::info!(%file_id, path = %path.display(), audience = words, "shared");
        Ok((file_id, path, words, remarks))
    }

    /// Takes a share back, also from those who fetch it just now.
    pub(crate) async fn unshare(self: &Arc<Self>, id: FileId) -> Result<(), RunError> {
        let store = self.store.clone();
        if blocking(&self.workers, move || store.catalog().remove_share(id)).await?? {
            tracing::info!(file_id = %id, "no longer shared");
            self.stop_serving(|job| matches!(job.spec(), Spec::Serve { file_id, .. } if *file_id == id))
                .await;
            return Ok(());
        }
        Err(RunError::new(Failure::NotFound, format!("{id} is not shared here")))
    }

    /// What happened. Of a transfer that was never there nothing could.
    pub(crate) fn log(&self, request: LogRequest) -> Result<Vec<LogEntry>, RunError> {
        let found = self.registry.log(request)?;
        match request.transfer {
            Some(number) if found.is_empty() => self.job(number).map(|_| found),
            _ => Ok(found),
        }
    }

    /// What is shared, oldest first: each File ID, its path and, in words, who can fetch it.
    pub(crate) async fn shares(&self) -> Result<Vec<(FileId, PathBuf, String)>, RunError> {
        let store = self.store.clone();
        let read =
            move || Ok::<_, StoreError>((store.catalog().shares()?, store.catalog().tickets(now_ms())?));
        let (shares, tickets) = blocking(&self.workers, read).await??;
        let words = |share: &Share| {
            let by_ticket = tickets.iter().any(|ticket| ticket.file_id == share.file_id);
            match Audience::of_share(share) {
                // Its tickets are used up, or hold no longer.
                Audience::Peers(named) if named.is_empty() && !by_ticket => "nobody now".to_owned(),
                audience => audience.words(&self.peers),
            }
        };
        Ok(shares.into_iter().map(|share| (share.file_id, share.path.clone(), words(&share))).collect())
    }

    /// Number of shared files.
    pub(crate) async fn share_count(&self) -> Result<u64, RunError> {
        let store = self.store.clone();
        Ok(blocking(&self.workers, move || store.catalog().share_count()).await??)
    }

    /// Stops a transfer, or gives up one that failed, and removes what it left on this machine, but for files
    /// that had appeared in a folder: where these stay.
    pub(crate) async fn cancel(self: &Arc<Self>, number: u64) -> Result<Option<String>, RunError> {
        let job = self.job(number)?;
        if job.state() == State::Failed {
            // It ended, and what it kept so that it could go on is given up.
            let _running = job.running.lock().await;
            self.abandon(&job, &RunError::cancelled()).await;
            self.registry.save(&job);
            return Ok(job.left());
        }
        if !job.cancel() {
            return Err(RunError::new(Failure::Conflict, format!("transfer {number} is over already")));
        }
        // A run ends by itself; where there is none, or once it has, this is what ends the job.
        let _running = job.running.lock().await;
        if !job.is_over() {
            self.abandon(&job, &RunError::cancelled()).await;
            self.registry.save(&job);
        }
        Ok(job.left())
    }

    /// All peers.
    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        let connected = self.links.connected();
        let mut peers = self.peers.list();
        for peer in &mut peers {
            peer.connected = connected.contains(&peer.id);
        }
        peers
    }

    /// Trusts a peer. One that may do less than before loses its connections, so that it counts at once.
    pub(crate) async fn trust(&self, request: TrustRequest) -> Result<(), RunError> {
        let (id, before) = (request.id, self.peers.rights(&request.id));
        if id == self.links.endpoint().peer_id() {
            return Err(RunError::new(
                Failure::Usage,
                "this is the Peer ID of this machine itself; `p2p id`, run on the other one, prints the one to trust",
            ));
        }
        let name = request.name.clone().unwrap_or_default();
        let peers = self.peers.clone();
        blocking(&self.workers, move || peers.trust(request)).await??;
        let after = self.peers.rights(&id);
        if (before.send && !after.send) || (before.fetch && !after.fetch) {
            self.links.close_peer(&id);
        }
        tracing::info!(peer = %id, send = after.send, fetch = after.fetch, "trusted");
        self.note_peer(Happening::Trusted, id, &name);
        Ok(())
    }

    /// Forgets a peer, by name or Peer ID, and closes its connections.
    pub(crate) async fn forget(&self, peer: &str) -> Result<PeerId, RunError> {
        let (peers, asked) = (self.peers.clone(), peer.to_owned());
        let forgotten = blocking(&self.workers, move || peers.forget(&asked)).await??;
        let id = forgotten.ok_or_else(|| {
            RunError::new(Failure::NotFound, format!("{peer} is no peer known here; `p2p peers` lists them"))
        })?;
        self.links.close_peer(&id);
        self.note_peer(Happening::Forgotten, id, "");
        Ok(id)
    }

    fn note_peer(&self, what: Happening, peer: PeerId, name: &str) {
        let entry = LogEntry { peer: Some(peer), name: name.to_owned(), ..LogEntry::new(now_ms(), what) };
        self.registry.note(&entry);
    }

    fn fetch_gate(&self, id: FileId) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        gates.entry(id).or_default().clone()
    }

    fn stdout_clients(&self) -> MutexGuard<'_, HashMap<u64, Arc<StdoutClient>>> {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs something that may block, off the network tasks.
async fn blocking<T: Send + 'static>(
    workers: &Workers,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RunError> {
    workers
        .spawn(&Handle::current(), work)
        .await
        .map_err(|error| RunError::new(Failure::Other, format!("a background task failed: {error}")))
}

/// Waits for something for as long as the job is wanted and the run is not stopped.
async fn while_wanted<T>(
    job: &Job,
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, RunError> {
    let cancelled = job.cancelled();
    tokio::select! {
        done = work => Ok(done),
        () = cancelled.cancelled() => Err(RunError::cancelled()),
        () = stop.cancelled() => Err(job.stopped()),
    }
}

/// Says something to a peer. One that does not listen any longer has said why, or will: that is for the next
/// read to find.
async fn say(control: &mut ControlStream, message: &Message) -> Result<(), RunError> {
    match control.sender.send(message).await {
        Err(TransportError::Stopped { .. }) => Ok(()),
        sent => Ok(sent?),
    }
}

/// Ends a conversation that failed here: a peer at fault loses its connection, any other hears why.
async fn part(link: &Link, control: &mut ControlStream, error: &RunError) {
    if let Some(fault) = &error.fault {
        link.condemn(fault);
    } else if let Some(reason) = error.tell {
        tell(control, reason).await;
    }
    control.sender.finish();
}

async fn tell(control: &mut ControlStream, reason: AbortReason) {
    let abort = Message::Abort(reason);
    if !matches!(tokio::time::timeout(PARTING, control.sender.send(&abort)).await, Ok(Ok(()))) {
        tracing::debug!(%reason, "the peer did not hear why the transfer ended");
    }
}

impl StoreError {
    /// The answer to an offer that cannot be stored for this reason.
    fn refusal(&self) -> RefuseReason {
        match self {
            Self::Busy { .. } => RefuseReason::Busy,
            _ if self.is_exhausted() => RefuseReason::Busy,
            Self::NoSpace { need, free, .. } => RefuseReason::Space { need: *need, free: *free },
            _ => RefuseReason::Storage,
        }
    }
}
