//! The conversation with the local daemon, seen from this side.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use interprocess::local_socket::{
    GenericFilePath,
    tokio::{Stream, prelude::*},
};
use p2p_protocol::{
    control::{Event, Preamble, Request},
    limits::MAX_CONTROL_FRAME_LEN,
    wire::codec,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use crate::{error::CliError, start::LOOK_AGAIN};

/// The daemon's socket, inside its state folder.
const SOCKET: &str = "p2pd.sock";
/// A live daemon greets within this.
const GREETING_DEADLINE: Duration = Duration::from_secs(10);
/// How long a daemon that hangs up is tried.
const CROWDED_PATIENCE: Duration = Duration::from_secs(2);

/// A connection to the daemon that has not been asked anything yet.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<Stream>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// There is no socket, or nobody listens on it.
    #[error("no daemon runs")]
    NotRunning,
    /// The daemon is of another version.
    #[error("the daemon speaks control version {theirs}, this p2p {ours}")]
    Version {
        /// What the daemon speaks.
        theirs: u16,
        /// What this program speaks.
        ours: u16,
    },
    /// Whatever listens there is no daemon of ours.
    #[error("what listens on {0} does not speak like a p2p daemon")]
    Stranger(PathBuf),
    /// The daemon hangs up without a word, again and again.
    #[error(
        "the daemon at {0} hangs up: it has as many commands as it serves at a time, or no file descriptors"
    )]
    Crowded(PathBuf),
    /// The daemon did not greet in time.
    #[error("the daemon at {0} does not answer")]
    Silent(PathBuf),
    /// Anything else that the system says.
    #[error("cannot reach the daemon at {path}: {error}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl From<ConnectError> for CliError {
    fn from(error: ConnectError) -> Self {
        let hint = match &error {
            ConnectError::NotRunning => "start it with `p2pd`",
            ConnectError::Version { .. } => "restart the daemon, so that both are of one version",
            ConnectError::Stranger(_) => "if no daemon should run there, remove the socket and try again",
            ConnectError::Crowded(_) => {
                "try again when some of them have ended, such as `p2p watch` and `p2p wait`"
            }
            ConnectError::Silent(_) => {
                "look into its log; if it hangs, stop it and try again: nothing verified is lost"
            }
            ConnectError::Io { .. } => {
                "the state folder belongs to one user, who alone may talk to its daemon"
            }
        };
        Self::daemon(error.to_string()).hint(hint)
    }
}

impl Client {
    /// Connects to the daemon of this state folder and exchanges versions. A daemon that hangs up at once may be about to end,
    /// and is none a moment later; one that goes on so has too much to do.
    pub(crate) async fn connect(home: &Path) -> Result<Self, ConnectError> {
        let path = socket_path(home);
        let give_up = Instant::now() + CROWDED_PATIENCE;
        loop {
            let greeting = tokio::time::timeout(GREETING_DEADLINE, Self::greet(&path)).await;
            match greeting.unwrap_or(Err(ConnectError::Silent(path.clone()))) {
                Err(ConnectError::Crowded(_)) if Instant::now() < give_up => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                other => return other,
            }
        }
    }

    async fn greet(path: &Path) -> Result<Self, ConnectError> {
        let io = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                ConnectError::NotRunning
            }
            // Where the home's path is too long for a socket's, a daemon leaves a link to a shorter one.
            io::ErrorKind::InvalidInput if path.symlink_metadata().is_err() => ConnectError::NotRunning,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                ConnectError::Crowded(path.to_owned())
            }
            _ => ConnectError::Io { path: path.to_owned(), error },
        };
        let name = path.to_fs_name::<GenericFilePath>().map_err(io)?;
        let mut stream = BufReader::with_capacity(64 * 1024, Stream::connect(name).await.map_err(io)?);
        stream.write_all(&Preamble::ours().encode()).await.map_err(io)?;
        let mut theirs = [0; Preamble::LEN];
        stream.read_exact(&mut theirs).await.map_err(io)?;
        let ours = Preamble::ours().version;
        match Preamble::decode(theirs) {
            Some(Preamble { version }) if version == ours => Ok(Self { stream }),
            Some(Preamble { version }) => Err(ConnectError::Version { theirs: version, ours }),
            None => Err(ConnectError::Stranger(path.to_owned())),
        }
    }

    /// Asks the one question of this connection.
    pub(crate) async fn ask(mut self, request: &Request) -> Result<Events, CliError> {
        let frame = codec::frame(request, MAX_CONTROL_FRAME_LEN)
            .map_err(|_| CliError::usage("the command is too long for the daemon"))?;
        // A daemon that is gone already shows itself at the first read.
        let _ = self.stream.write_all(&frame).await;
        Ok(Events { stream: self.stream, frame: Vec::new(), body: None })
    }

    /// Asks, and hands back what the daemon answers, all of it, for a request that is quickly answered.
    pub(crate) async fn ask_all(self, request: &Request) -> Result<Vec<Event>, CliError> {
        let mut events = self.ask(request).await?;
        let mut all = Vec::new();
        loop {
            match events.next().await? {
                Some(Event::Error(error)) => return Err(CliError::request(error)),
                Some(event) => all.push(event),
                None if events.is_whole() => return Ok(all),
                None => return Err(lost()),
            }
        }
    }

    /// Asks for something to be done, to which the answer is only whether it was.
    pub(crate) async fn ask_ok(self, request: &Request) -> Result<(), CliError> {
        match self.ask_all(request).await?.as_slice() {
            [Event::Ok] => Ok(()),
            [] => Err(lost()),
            _ => Err(unexpected()),
        }
    }
}

/// The daemon's answer as it comes in.
#[derive(Debug)]
pub(crate) struct Events {
    stream: BufReader<Stream>,
    /// What was read of the current frame's part: its prefix, or its body.
    frame: Vec<u8>,
    /// The body's length, once the prefix was read.
    body: Option<usize>,
}

impl Events {
    /// Whether no event is half read.
    fn is_whole(&self) -> bool {
        self.frame.is_empty() && self.body.is_none()
    }

    /// Waits for the next event; `None` when the daemon has closed the connection or is gone. Cancel-safe:
    /// what was read of a frame is kept.
    ///
    /// # Errors
    /// What came is nothing that a daemon of this version says.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, CliError> {
        loop {
            let want = self.body.unwrap_or(codec::PREFIX_LEN);
            self.frame.reserve(want - self.frame.len());
            while self.frame.len() < want {
                let rest = (want - self.frame.len()) as u64;
                match (&mut self.stream).take(rest).read_buf(&mut self.frame).await {
                    Ok(0) | Err(_) => return Ok(None),
                    Ok(_) => {}
                }
            }
            let frame = std::mem::take(&mut self.frame);
            match (self.body.take(), <[u8; codec::PREFIX_LEN]>::try_from(frame.as_slice())) {
                (None, Ok(prefix)) => {
                    let len = codec::body_len(prefix, MAX_CONTROL_FRAME_LEN).map_err(|_| unexpected())?;
                    self.body = Some(len);
                }
                _ => return codec::decode(&frame).map(Some).map_err(|_| unexpected()),
            }
        }
    }
}

/// The daemon went away in the middle of an answer.
pub(crate) fn lost() -> CliError {
    CliError::daemon("the daemon went away before it answered")
        .hint("try again; if it happens again, look into the daemon's log")
}

/// The daemon said something that makes no sense here.
pub(crate) fn unexpected() -> CliError {
    CliError::daemon("the daemon said something that this p2p does not understand")
        .hint("restart the daemon, so that both are of one version")
}

/// The socket of a state folder. Where the folder's own path is too long for a socket address, the daemon
/// leaves a link there to the real one.
fn socket_path(home: &Path) -> PathBuf {
    let path = home.join(SOCKET);
    std::fs::read_link(&path).map_or(path, |target| home.join(target))
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// Hangs up on so many, and is gone then.
    async fn hangs_up(listener: UnixListener, socket: PathBuf, times: usize) {
        for _ in 1..times {
            drop(listener.accept().await);
        }
        let last = listener.accept().await;
        std::fs::remove_file(socket).unwrap();
        drop(last);
    }

    #[tokio::test]
    async fn no_daemon_runs_where_the_path_is_too_long_for_a_socket() {
        let home = tempfile::tempdir().unwrap();
        let ended = Client::connect(&home.path().join("x".repeat(200))).await;
        assert!(matches!(&ended, Err(ConnectError::NotRunning)), "{ended:?}");
    }

    #[tokio::test]
    async fn a_daemon_that_hangs_up_has_too_much_to_do_or_ends() {
        let home = tempfile::tempdir().unwrap();
        let socket = socket_path(home.path());
        let listen = || UnixListener::bind(&socket).unwrap();
        let daemon = tokio::spawn(hangs_up(listen(), socket.clone(), usize::MAX));
        let ended = Client::connect(home.path()).await;
        assert!(matches!(&ended, Err(ConnectError::Crowded(at)) if *at == socket), "{ended:?}");
        daemon.abort();
        std::fs::remove_file(&socket).unwrap();

        tokio::spawn(hangs_up(listen(), socket.clone(), 3));
        let ended = Client::connect(home.path()).await;
        assert!(matches!(&ended, Err(ConnectError::NotRunning)), "{ended:?}");
    }
}
