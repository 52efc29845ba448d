//! One pass of the demo.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use p2p_protocol::{
    FileId,
    control::{Event, KeyPolicy, Request, SendRequest, TransferEvent, TrustRequest, Wishes},
    reason::Failure,
};

use super::{file_id, node::Node, say};
use crate::{
    client::{self, Events},
    context::Context,
    error::CliError,
    format,
    view::{Step, View},
};

/// The receiver is killed once it has verified this much, in percent: about half is verified by the time the
/// news of it has come here.
const KILL_AT: u64 = 30;

/// How a pass ended that met no error.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The transfer was killed, resumed and checked.
    Shown(Report),
    /// It was over before the kill.
    TooFast,
    /// It arrived whole, but began anew after the kill.
    NothingKept,
}

/// What the demo found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) file_id: FileId,
    pub(crate) bytes: u64,
    /// What did not have to be moved again after the kill.
    pub(crate) kept_bytes: u64,
    pub(crate) moved_bytes: u64,
    /// From the start to the kill.
    pub(crate) before: Duration,
    /// From the resume to the end.
    pub(crate) after: Duration,
    /// Between the two.
    pub(crate) down: Duration,
}

/// Where the demo takes place.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    ctx: &'a Context,
    folder: PathBuf,
    size: u64,
}

/// When what happened.
#[derive(Debug, Default)]
struct Times {
    started: Option<Instant>,
    killed: Option<Instant>,
    resumed: Option<Instant>,
}

impl<'a> Room<'a> {
    pub(crate) fn new(ctx: &'a Context, folder: &Path, size: u64) -> Self {
        Self { ctx, folder: folder.to_owned(), size }
    }

    /// Does it all.
    pub(crate) async fn run(&self) -> Result<Outcome, CliError> {
        let ctx = self.ctx;
        let size = format::bytes(self.size);
        say(ctx, &format!("writing {size} of random data"))?;
        let source = self.folder.join("random.bin");
        let (path, len) = (source.clone(), self.size);
        let written = tokio::task::spawn_blocking(move || write_random(&path, len)).await;
        written
            .map_err(std::io::Error::other)
            .and_then(|written| written)
            .map_err(|error| CliError::io("cannot write", &source, &error))?;

        say(ctx, "starting two daemons on 127.0.0.1, who trust each other")?;
        let sender = Node::start(ctx, &self.folder.join("sender"), "127.0.0.1:0").await?;
        let receiver = Node::start(ctx, &self.folder.join("receiver"), "127.0.0.1:0").await?;
        sender.ask_ok(&trust(&receiver, "receiver")).await?;
        receiver.ask_ok(&trust(&sender, "sender")).await?;

        say(ctx, &format!("p2p send random.bin --to {}", receiver.address))?;
        let request = Request::Send(SendRequest {
            path: source.as_os_str().as_bytes().to_vec(),
            target: receiver.address.clone(),
            name: None,
            spooled: false,
            excludes: Vec::new(),
            key: KeyPolicy::Exactly(receiver.peer),
            wishes: Wishes::default(),
            detach: false,
            request: None,
        });
        let events = sender.ask(&request).await?;
        let result = self.transfer(events, &sender, receiver).await;
        result.map_err(|error| match error.transfer {
            // What the sending daemon knows of it is gone with its folder.
            Some(_) => CliError { message: format!("{error}\nthe sender's log:\n{}", sender.log()), ..error },
            None => error,
        })
    }

    /// Watches the transfer, kills and restarts the receiver on the way, and checks what arrived.
    async fn transfer(&self, mut events: Events, sender: &Node, receiver: Node) -> Result<Outcome, CliError> {
        let ctx = self.ctx;
        let mut view = View::of_new(ctx, &receiver.address);
        let mut receiver = receiver;
        let mut times = Times::default();
        let mut moved = 0;
        let mut moved_before = 0;
        loop {
            let event = match events.next().await? {
                Some(Event::Transfer(event)) => event,
                Some(Event::Queued { .. }) => continue,
                Some(Event::Error(error)) => return Err(CliError::request(error)),
                Some(_) => return Err(client::unexpected()),
                None => {
                    let said = sender.log();
                    return Err(CliError::daemon(format!("the sending daemon went away; it says:\n{said}")));
                }
            };
            let mut kill = false;
            match &event {
                TransferEvent::Started { .. } => {
                    times.started.get_or_insert_with(Instant::now);
                    if times.killed.is_some() {
                        times.resumed.get_or_insert_with(Instant::now);
                    }
                }
                TransferEvent::Progress { progress, .. } => {
                    let verified = format::percent(progress.verified_bytes, self.size);
                    kill = times.killed.is_none() && (KILL_AT..100).contains(&verified);
                    if times.resumed.is_none() {
                        moved_before = progress.moved_bytes;
                    }
                }
                TransferEvent::Done { moved_bytes, .. } => moved = *moved_bytes,
                _ => {}
            }
            let done = match event {
                TransferEvent::Done { file_id, .. } => Some(file_id),
                _ => None,
            };
            match view.on(event)? {
                Step::More => {}
                Step::Failed(error) => return Err(error),
                Step::Done { .. } => {
                    let (Some(file_id), Some(killed)) = (done, times.killed) else {
                        return Ok(Outcome::TooFast);
                    };
                    let again = moved.saturating_sub(moved_before);
                    let kept = self.size.saturating_sub(again);
                    return self.check(file_id, kept, moved, &times, killed);
                }
            }
            if kill {
                times.killed = Some(Instant::now());
                receiver.kill();
                say(ctx, "kill -9 of the receiving daemon, in the middle")?;
                let (home, address) = (self.folder.join("receiver"), receiver.address.clone());
                receiver = Node::start(ctx, &home, &address).await?;
                say(ctx, "it is started again, on the same port")?;
            }
        }
    }

    fn check(
        &self,
        promised: FileId,
        kept_bytes: u64,
        moved_bytes: u64,
        times: &Times,
        killed: Instant,
    ) -> Result<Outcome, CliError> {
        let now = Instant::now();
        say(self.ctx, "hashing what arrived")?;
        let actual = file_id(&self.folder.join("receiver/inbox/random.bin"))?;
        if actual != promised {
            return Err(CliError::new(Failure::Integrity, "what arrived is not what was sent")
                .hint(format!("sent {promised}, arrived {actual}; please report this")));
        }
        if kept_bytes == 0 {
            return Ok(Outcome::NothingKept);
        }
        let (started, back) = (times.started.unwrap_or(killed), times.resumed.unwrap_or(now));
        Ok(Outcome::Shown(Report {
            file_id: actual,
            bytes: self.size,
            kept_bytes,
            moved_bytes,
            before: killed.duration_since(started),
            after: now.duration_since(back),
            down: back.duration_since(killed),
        }))
    }
}

fn trust(node: &Node, name: &str) -> Request {
    Request::Trust(TrustRequest {
        id: node.peer,
        name: Some(name.to_owned()),
        address: Some(node.address.clone()),
        send: true,
        fetch: true,
    })
}

/// Random data as fast as a hash can make it: BLAKE3's output stream from a key that nobody has used.
fn write_random(path: &Path, len: u64) -> std::io::Result<()> {
    let mut key = [0; blake3::KEY_LEN];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let mut stream = blake3::Hasher::new_keyed(&key).finalize_xof();
    let mut file = File::create_new(path)?;
    let mut block = vec![0; 1 << 20];
    let mut rest = len;
    while rest > 0 {
        let part = rest.min(block.len() as u64);
        let block = &mut block[..part as usize];
        stream.fill(block);
        file.write_all(block)?;
        rest -= part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_data_has_its_length_and_never_repeats() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        write_random(&a, (1 << 20) + 7).unwrap();
        write_random(&b, (1 << 20) + 7).unwrap();
        let (a, b) = (std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
        assert_eq!(a.len(), (1 << 20) + 7);
        assert_ne!(a, b);
        assert_ne!(a[..32], a[32..64]);
    }
}
