//! The p2p daemon. This file is the composition root: settings go in, a running daemon comes out.

mod args;
mod buffer;
mod config;
mod confine;
mod control;
pub mod disk;
mod doctor;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod home;
mod identity;
mod logging;
mod node;
mod peers;
mod service;
mod session;
mod shutdown;
mod store;
mod text;
mod transport;
mod workers;

use std::{
    io::Write,
    net::SocketAddr,
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use p2p_protocol::{FileId, PeerId, control::Confinement, reason::Failure};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use args::{Args, Print};
pub use config::{Accept, Hooks, Load};
use config::{Settings, WriteOnlyIn};
use control::ControlSocket;
use home::{Home, HomeError};
use identity::{Identity, Passphrase};
use node::Parts;
pub use node::{Node, Surroundings};
pub use transport::{Congestion, Network};
pub use workers::{Pace, Workers};

/// Threads that may wait for a disk at once.
const DISK_THREADS: usize = 128;

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] Part);

/// The part that refused.
#[derive(Debug, thiserror::Error)]
enum Part {
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    #[error(transparent)]
    Confine(#[from] confine::ConfineError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    #[error(transparent)]
    Peers(#[from] peers::PeersError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(transparent)]
    Transport(#[from] transport::TransportError),
    #[error(transparent)]
    Sessions(#[from] session::RunError),
    #[error(transparent)]
    Control(#[from] control::SocketError),
    #[error("cannot {what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
    #[error("{0}")]
    Log(String),
}

impl Part {
    fn failure(&self) -> Failure {
        match self {
            Self::Config(config::ConfigError::Exists { .. }) => Failure::Conflict,
            Self::Config(config::ConfigError::Write { .. }) => Failure::Storage,
            Self::Config(_) | Self::Confine(_) => Failure::Usage,
            Self::Home(HomeError::AlreadyRunning { .. }) => Failure::Conflict,
            Self::Store(error) => error.failure(),
            Self::Transport(error) => error.failure(),
            Self::Identity(error) => error.failure(),
            Self::Sessions(error) => error.failure,
            _ => Failure::Other,
        }
    }
}

impl StartError {
    /// The exit code of a daemon that does not start for this reason, as in the command line's table.
    pub fn exit_code(&self) -> u8 {
        self.0.failure().exit_code()
    }
}

/// Where a daemon works.
#[derive(Clone, Debug)]
pub struct Options {
    /// State folder, made where there is none.
    pub home: PathBuf,
    /// UDP addresses to listen on; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Where received files land.
    pub inbox: PathBuf,
    /// What decides how much may be on its way to a peer.
    pub congestion: Congestion,
    /// What happens to a trusted peer's offer.
    pub accept: Accept,
    /// How much is done at a time.
    pub load: Load,
    /// Programs that are run when something happens.
    pub hooks: Hooks,
}

/// A running daemon. Dropping it without [`Daemon::shut_down`] is as good as a crash: what was checkpointed
/// is kept.
pub struct Daemon {
    node: Node,
    stop_control: CancellationToken,
    control: JoinHandle<()>,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Daemon {
    /// Starts within the running tokio run-time.
    ///
    /// # Errors
    /// The home is in use or damaged, an address is taken, or the operating system said no.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        // What the whole process gives up is not for a part of it to decide.
        Ok(Self::begin(&options, confine::nothing()).await?)
    }

    async fn begin(options: &Options, confinement: Confinement) -> Result<Self, Part> {
        let parts = Parts::open(options, Surroundings::system())?;
        let socket = ControlSocket::bind(&parts.home)?;
        let node = parts.start(confinement)?;
        let stop_control = CancellationToken::new();
        let handlers = node.handlers.clone();
        let serving = control::serve(
            socket,
            move |request, events| handlers.clone().handle(request, events),
            stop_control.clone(),
        );
        let control = tokio::spawn(serving);
        Ok(Self { node, stop_control, control })
    }

    /// Addresses that are listened on.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.node.addresses()
    }

    /// This daemon's identity.
    pub fn peer_id(&self) -> PeerId {
        self.node.peer_id()
    }

    /// Stops every transfer, keeps what was received, and closes all connections.
    pub async fn shut_down(self) {
        // Commands are answered to the end of it, so that none finds no daemon and starts another too early.
        self.node.stop().await;
        self.stop_control.cancel();
        if let Err(error) = self.control.await {
            tracing::debug!(%error, "the local socket did not end in order");
        }
    }
}

/// The program `p2pd`: runs a daemon until it is told to stop.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With nowhere to write to, the exit code has to do.
            let _ = writeln!(std::io::stderr(), "p2pd: {error}");
            ExitCode::from(error.failure().exit_code())
        }
    }
}

fn run(args: &Args) -> Result<(), Part> {
    if let Some(print) = args.print {
        return print_one(print, args);
    }
    let settings = Settings::resolve(args)?;
    let filter = logging::parse_filter(&settings.log.value).map_err(|error| Part::Log(error.to_string()))?;
    logging::start(filter).map_err(|error| Part::Log(error.to_string()))?;
    let confinement = give_up(&settings)?;
    // What talks to the network hands work to each other all the time, which is cheapest on one thread; the other
    // processors are for disk and hashing.
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads((processors / 2).max(1))
        .max_blocking_threads(DISK_THREADS)
        .build()
        .map_err(|source| Part::Io { what: "start threads", source })?;
    runtime.block_on(serve(settings, confinement))
}

/// Gives up what the settings say. Threads that were there already would keep it.
fn give_up(settings: &Settings) -> Result<Confinement, Part> {
    let mut runtime = None;
    if settings.write_only_in.value != WriteOnlyIn::Anywhere {
        // What is to be written in has to be there to be named.
        Home::prepare(&disk::System, &settings.home.value)?;
        disk::make_folders(&disk::System, &settings.inbox.value, disk::PUBLIC_FOLDER)
            .map_err(|source| Part::Io { what: "make the inbox", source })?;
        runtime = ControlSocket::folder_beside(&settings.home.value)?;
    }
    Ok(confine::apply(settings, runtime.as_deref())?)
}

/// Takes as many file descriptors as the system lets it have: a transfer needs a few, and what a shell gives its programs
/// is less than one peer's transfers may take.
fn allow_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on file descriptors stays as it is");
    }
}

async fn serve(settings: Settings, confinement: Confinement) -> Result<(), Part> {
    allow_descriptors();
    let stop = shutdown::signal()
        .and_then(|stop| shutdown::outlive_size_limits().map(|()| stop))
        .map_err(|source| Part::Io { what: "handle signals", source })?;
    let home = settings.home.value.clone();
    let options = Options {
        home: settings.home.value,
        listen: settings.listen.value,
        inbox: settings.inbox.value,
        congestion: settings.congestion.value,
        accept: settings.accept.value,
        load: Load {
            max_transfers: settings.max_transfers.value,
            max_transfers_per_peer: settings.max_transfers_per_peer.value,
            limit: settings.limit.value,
        },
        hooks: settings.hooks.value,
    };
    let daemon = Daemon::begin(&options, confinement).await?;
    let mut lines = String::new();
    for address in daemon.addresses() {
        lines.push_str(&format!("listening on {address} as {}\n", daemon.peer_id()));
    }
    say(&lines)?;
    tracing::info!(peer = %daemon.peer_id(), addresses = ?daemon.addresses(), "ready");
    service::ready(daemon.addresses());
    tokio::spawn(async move { service::prove_life(&home).await });
    stop.cancelled().await;
    service::stopping();
    daemon.shut_down().await;
    Ok(())
}

fn print_one(print: Print, args: &Args) -> Result<(), Part> {
    let text = match print {
        Print::Id => {
            let home = Settings::resolve(args)?.home.value;
            Identity::load_or_create(&disk::System, &home)?.peer_id().to_string() + "\n"
        }
        Print::ExportId => {
            let (home, passphrase) =
                (Settings::resolve(args)?.home.value, Passphrase::read(std::io::stdin())?);
            Identity::export(&disk::System, &home, of(args), &passphrase)?.to_string() + "\n"
        }
        Print::ImportId => {
            let (home, passphrase) =
                (Settings::resolve(args)?.home.value, Passphrase::read(std::io::stdin())?);
            Identity::import(&disk::System, &home, of(args), &passphrase)?.to_string() + "\n"
        }
        Print::Config => Settings::resolve(args)?.for_people(),
        Print::ConfigJson => {
            let line = Settings::resolve(args)?.for_programs();
            line.map_err(|error| Part::Log(error.to_string()))? + "\n"
        }
        Print::FolderId => folder_id(of(args))?.to_string() + "\n",
        Print::Man => {
            let page = args::manual().map_err(|source| Part::Io { what: "write the manual page", source })?;
            String::from_utf8_lossy(&page).into_owned()
        }
        Print::Doctor => {
            let findings = doctor::examine(&Settings::resolve(args)?);
            doctor::lines(&findings).map_err(|error| Part::Log(error.to_string()))?
        }
        // What is wrong with the file that is there is no matter here.
        Print::NewConfig => config::write_new(&disk::System, args)?.display().to_string() + "\n",
    };
    say(&text)
}

/// What it is about.
fn of(args: &Args) -> &Path {
    args.of.as_deref().unwrap_or(Path::new("."))
}

/// The File ID of a folder, in a store of its own, which has no cache to believe.
fn folder_id(path: &Path) -> Result<FileId, Part> {
    let scratch = std::env::temp_dir().join(format!("p2p-verify-{}", std::process::id()));
    let found = store::Store::open(Arc::new(disk::System), Workers::Threads, &scratch)
        .and_then(|store| store.import(path, &store::Excludes::none(), &|_| true));
    // What cannot be removed now is in the way of nothing.
    let _ =
        disk::place_of(&scratch).and_then(|(folder, name)| disk::remove_all(&disk::System, &folder, name));
    match found?.file_id() {
        Some(id) => Ok(id),
        None => Err(Part::Log(format!("{} is no folder", path.display()))),
    }
}

fn say(text: &str) -> Result<(), Part> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| Part::Io { what: "write to standard output", source })
}
