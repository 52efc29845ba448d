//! The conversation on the local socket: preambles, one request, events until it is answered.
//!
//! Whatever a client does, it does to itself: garbage, silence, reading nothing and leaving in the middle end its
//! own connection, and a client that has gone ends no transfer.

use std::{future::Future, io, sync::Arc, time::Duration};

use interprocess::local_socket::{tokio::Stream, traits::StreamCommon};
use p2p_protocol::{
    control::{Event, Preamble, Request, RequestError},
    limits::{
        CONTROL_GRACE, CONTROL_PARTING, CONTROL_PREAMBLE_DEADLINE, CONTROL_PROGRESS_DEADLINE, CONTROL_QUEUE,
        CONTROL_REQUEST_DEADLINE, MAX_CONTROL_CLIENTS, MAX_CONTROL_FRAME_LEN, MAX_CONTROL_REFUSALS,
    },
    reason::{Failure, PeerMisbehaved},
    wire::codec::{self, PREFIX_LEN, TooLarge},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ControlSocket, spare::Spare};

/// Pause after the system had no descriptor for a client, so that others can be closed meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Events are gathered into one write until it has this many bytes.
const WRITE_LEN: usize = 64 * 1024;
/// Room for a request at first, in bytes; it grows with what really comes.
const REQUEST_LEN: usize = 1024;

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) clients: usize,
    pub(super) preamble: Duration,
    pub(super) request: Duration,
    pub(super) progress: Duration,
    pub(super) grace: Duration,
    pub(super) parting: Duration,
    /// The user who may talk to this daemon.
    pub(super) owner: u32,
}

impl Bounds {
    pub(super) fn new() -> Self {
        Self {
            clients: MAX_CONTROL_CLIENTS,
            preamble: CONTROL_PREAMBLE_DEADLINE,
            request: CONTROL_REQUEST_DEADLINE,
            progress: CONTROL_PROGRESS_DEADLINE,
            grace: CONTROL_GRACE,
            parting: CONTROL_PARTING,
            owner: rustix::process::geteuid().as_raw(),
        }
    }
}

/// How a client's connection ends before its request was answered.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("another user (uid {0:?}) was refused")]
    OtherUser(Option<u32>),
    #[error("nothing that speaks this protocol")]
    NotAClient,
    #[error("a client of version {0}")]
    Version(u16),
    #[error("a malformed request: {0}")]
    Request(PeerMisbehaved),
    #[error("a client that was silent for too long")]
    Silent,
    #[error("a client that did not take its answers")]
    Stuck,
    #[error("the client went away: {0}")]
    Gone(#[from] io::Error),
}

/// Serves clients until the shutdown, then ends what they wait for and removes the socket. `handle` carries out
/// one request and sends its events; when the client goes, the events have nowhere to go any longer, and after a
/// time of grace the handler is dropped.
pub(crate) async fn serve<H, F>(socket: ControlSocket, handle: H, shutdown: CancellationToken)
where
    H: Fn(Request, mpsc::Sender<Event>) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    serve_within(socket, handle, shutdown, Bounds::new()).await;
}

pub(super) async fn serve_within<H, F>(
    socket: ControlSocket,
    handle: H,
    shutdown: CancellationToken,
    bounds: Bounds,
) where
    H: Fn(Request, mpsc::Sender<Event>) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let handle = Arc::new(handle);
    let places = Arc::new(Semaphore::new(bounds.clients));
    let refusals = Arc::new(Semaphore::new(MAX_CONTROL_REFUSALS));
    let (clients, spare) = (TaskTracker::new(), Arc::new(Spare::default()));
    spare.fill();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) if spare.give(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot take a client in");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (places, refusals) = (places.clone(), refusals.clone());
        let (handle, shutdown, spare) = (handle.clone(), shutdown.clone(), spare.clone());
        clients.spawn(async move {
            let client = Client { stream, bounds };
            let ended = if let Ok(_place) = places.try_acquire() {
                client.attend(&*handle, &shutdown).await
            } else if let Ok(_place) = refusals.try_acquire() {
                client.turn_away().await
            } else {
                Ok(())
            };
            spare.fill();
            match ended {
                Ok(()) => {}
                Err(fault @ Fault::OtherUser(_)) => tracing::warn!("local socket: {fault}"),
                Err(fault) => tracing::debug!("local socket: {fault}"),
            }
        });
    }
    // From here on a command that looks for a daemon finds none.
    drop(socket);
    clients.close();
    clients.wait().await;
}

/// How a handler's events came to their end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The request is answered.
    Answered,
    /// The daemon shuts down.
    Shutdown,
}

struct Client {
    stream: Stream,
    bounds: Bounds,
}

impl Client {
    async fn attend<H, F>(self, handle: &H, shutdown: &CancellationToken) -> Result<(), Fault>
    where
        H: Fn(Request, mpsc::Sender<Event>) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let request = tokio::select! {
            request = self.request() => request?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let (sender, mut events) = mpsc::channel(CONTROL_QUEUE);
        let mut work = tokio::spawn(handle(request, sender));
        let ended = tokio::select! {
            ended = self.deliver(&mut events, shutdown) => ended,
            // A client that takes nothing does not hold a shutdown up.
            () = sleep_after(shutdown, self.bounds.parting) => Ok(End::Shutdown),
        };
        drop(events);
        // A request that changes something shall not stop halfway because nobody waits for its answer.
        let grace = if shutdown.is_cancelled() { self.bounds.parting } else { self.bounds.grace };
        match (ended, timeout(grace, &mut work).await) {
            (Ok(End::Answered), Ok(Err(error))) if error.is_panic() => {
                self.write(&frame(&refusal(Failure::Other, "the daemon failed at this; see its log"))).await
            }
            (ended, Ok(_)) => ended.map(|_| ()),
            (ended, Err(_)) => {
                work.abort();
                ended.map(|_| ())
            }
        }
    }

    /// Answers a client for which there is no place.
    async fn turn_away(self) -> Result<(), Fault> {
        self.request().await?;
        let message = "too many commands talk to the daemon at once; end some of them, or try again later";
        self.write(&frame(&refusal(Failure::Conflict, message))).await
    }

    /// Checks who it is, exchanges preambles and reads the request.
    async fn request(&self) -> Result<Request, Fault> {
        let user = self.stream.peer_creds()?.euid();
        if user != Some(self.bounds.owner) {
            return Err(Fault::OtherUser(user));
        }
        let mut preamble = [0; Preamble::LEN];
        self.read(&mut preamble, self.bounds.preamble).await?;
        let theirs = Preamble::decode(preamble).ok_or(Fault::NotAClient)?;
        let ours = Preamble::ours();
        // One of another version is told ours, so that it can say why it goes no further.
        self.write(&ours.encode()).await?;
        if theirs != ours {
            return Err(Fault::Version(theirs.version));
        }
        let body = timeout(self.bounds.request, self.frame()).await;
        codec::decode(&body.map_err(|_| Fault::Silent)??).map_err(Fault::Request)
    }

    async fn frame(&self) -> Result<Vec<u8>, Fault> {
        let mut reader = &self.stream;
        let mut prefix = [0; PREFIX_LEN];
        reader.read_exact(&mut prefix).await?;
        let len = codec::body_len(prefix, MAX_CONTROL_FRAME_LEN).map_err(Fault::Request)?;
        // The length is only a claim: memory grows with what comes.
        let mut body = Vec::with_capacity(len.min(REQUEST_LEN));
        if reader.take(len as u64).read_to_end(&mut body).await? < len {
            return Err(Fault::Gone(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(body)
    }

    async fn read(&self, buffer: &mut [u8], deadline: Duration) -> Result<(), Fault> {
        match timeout(deadline, (&self.stream).read_exact(buffer)).await {
            Ok(read) => Ok(read.map(|_| ())?),
            Err(_) => Err(Fault::Silent),
        }
    }

    /// Writes what the handler has to say, as much at a time as there is.
    async fn deliver(
        &self,
        events: &mut mpsc::Receiver<Event>,
        shutdown: &CancellationToken,
    ) -> Result<End, Fault> {
        let mut next = Vec::with_capacity(CONTROL_QUEUE);
        loop {
            let end = tokio::select! {
                biased;
                count = events.recv_many(&mut next, CONTROL_QUEUE) => (count == 0).then_some(End::Answered),
                fault = self.gone() => return Err(fault),
                () = shutdown.cancelled() => Some(End::Shutdown),
            };
            let mut bytes = Vec::new();
            for event in next.drain(..) {
                bytes.extend(frame(&event));
                if bytes.len() >= WRITE_LEN {
                    self.write(&bytes).await?;
                    bytes.clear();
                }
            }
            self.write(&bytes).await?;
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// Waits until the client has closed its side. It has nothing to say after its request, so a byte more is the
    /// end as well.
    async fn gone(&self) -> Fault {
        match (&self.stream).read(&mut [0]).await {
            Ok(0) => Fault::Gone(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Fault::NotAClient,
            Err(error) => Fault::Gone(error),
        }
    }

    /// Writes all of it, for as long as the client takes a byte now and then.
    async fn write(&self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match timeout(self.bounds.progress, (&self.stream).write(bytes)).await {
                Ok(Ok(0)) => return Err(Fault::Gone(io::ErrorKind::WriteZero.into())),
                Ok(Ok(count)) => bytes = &bytes[count..],
                Ok(Err(error)) => return Err(Fault::Gone(error)),
                Err(_) => return Err(Fault::Stuck),
            }
        }
        Ok(())
    }
}

fn refusal(failure: Failure, message: &str) -> Event {
    Event::Error(RequestError { failure, message: message.to_owned(), key: None })
}

async fn sleep_after(token: &CancellationToken, pause: Duration) {
    token.cancelled().await;
    tokio::time::sleep(pause).await;
}

/// An event as bytes. One that is too large for its frame becomes the error that says so.
fn frame(event: &Event) -> Vec<u8> {
    codec::frame(event, MAX_CONTROL_FRAME_LEN).unwrap_or_else(|TooLarge(len)| {
        tracing::error!(len, "an answer is too large for the local socket");
        let error = refusal(Failure::Other, "the answer is too large");
        codec::frame(&error, MAX_CONTROL_FRAME_LEN).unwrap_or_default()
    })
}
