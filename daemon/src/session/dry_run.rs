//! Questions about a transfer that is not made: what would move of it, and what is in a folder. Whoever is asked answers as for
//! the transfer itself, opens no transfer, asks no owner and keeps nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use p2p_protocol::{
    Along, FileId, Manifest, Plan,
    control::{EntryKind, FetchRequest, FolderEntry, Planned, SendRequest},
    limits::{FIRST_FRAME_DEADLINE, MAX_FRAME_LEN},
    manifest::{Entry, Node},
    policy::{Permit, admit},
    reason::{Failure, PeerMisbehaved, RefuseReason},
    wire::peer::{Message, Offer, Peek, WouldTake},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Job, Sessions,
    accept::{admit_asked, refuse},
    blocking,
    error::RunError,
    folder::{Listed, say_manifest},
    goal::{Goal, named_as_part},
    links::Link,
    probe::Called,
    run::{closed_by, hear, offer_of, path_of},
    say, shares,
    spec::Spec,
};
use crate::{
    store::{PartialKey, PublishName, Remark, StoreError},
    transport::ControlStream,
};

/// Questions that are answered at a time, for all peers together: each may have to hash what it is about.
pub(super) const ANSWERED_AT_ONCE: usize = 4;
/// Somebody sits there and waits; whoever is asked may have to hash first.
const DEADLINE: Duration = Duration::from_secs(600);

impl Sessions {
    /// Answers a peer that wants to know what a fetch would bring.
    pub(super) async fn peeked(
        &self,
        link: &Arc<Link>,
        control: &mut ControlStream,
        Peek { file_id }: Peek,
    ) -> Result<(), RunError> {
        let (peer, store) = (link.peer(), self.store.clone());
        let share = blocking(&self.workers, move || store.catalog().share(file_id)).await??;
        let granted = shares::granted(share, &self.peers.keys_of(&peer), self.peers.rights(&peer));
        let Some(share) = granted else { return self.not_for_you(link, control, file_id).await };
        let (job, stop) = nobody(Spec::Serve { peer, file_id }, &self.shutdown);
        let source = {
            let Ok(_turn) = self.answers.try_acquire() else {
                return say(control, &Message::Refuse(RefuseReason::Busy)).await;
            };
            self.reopen_for(&job, control, &share, &stop).await?
        };
        say(control, &Message::Offer(offer_of(&source, Some(&source.name()), None, link)?)).await?;
        if let Some(manifest) = source.manifest() {
            let heard = timeout(FIRST_FRAME_DEADLINE, control.receiver.recv(MAX_FRAME_LEN)).await;
            match heard.map_err(|_| RunError::stalled())?? {
                Some(Message::NeedManifest) => {
                    say_manifest(&job, control, &self.workers, manifest, &stop).await?;
                }
                Some(other) => return Err(PeerMisbehaved::UnexpectedMessage(other.name()).into()),
                None => {}
            }
        }
        Ok(())
    }

    /// Answers a peer that wants to know what an offer of its would move.
    pub(super) async fn tried(
        &self,
        link: &Arc<Link>,
        control: &mut ControlStream,
        offer: &Offer,
    ) -> Result<(), RunError> {
        let peer = link.peer();
        if !self.peers.is_trusted(&peer) {
            return self.turn_away(link, control, RefuseReason::NotAllowed).await;
        }
        let permit = match admit(self.situation(&peer, offer, Along::default()).await?, offer) {
            Ok(permit) => permit,
            Err(refusal) => return refuse(link, control, refusal).await,
        };
        let Some(id) = permit.file_id() else {
            return say(control, &Message::Refuse(RefuseReason::Unsupported)).await;
        };
        let (inbox, key) = (self.inbox_of(&peer), self.key_of(peer, &permit).await?);
        let Some(name) = self.name_in(&peer, &inbox, &permit, key).await? else {
            return say(control, &Message::Refuse(RefuseReason::Exists)).await;
        };
        let name = (!self.asks_about(&peer)).then_some(name);
        let (job, stop) = nobody(Spec::Receive { peer, file_id: id }, &self.shutdown);
        let listed = self.listed(&job, control, &permit, &inbox, key, &stop).await?;
        let Ok(_turn) = self.answers.try_acquire() else {
            return say(control, &Message::Refuse(RefuseReason::Busy)).await;
        };
        let size = permit.geometry().size();
        let would = match (self.has_received(peer, id, &permit).await?, &name) {
            (Some(_), _) => WouldTake { files: 0, bytes: 0 },
            (None, Some(name)) => self.would_take(&permit, listed.as_ref(), inbox, key, name, size).await?,
            // What else is here is told to nobody whose offers wait for a yes.
            (None, None) => {
                let files = listed.as_ref().map_or(1, |listed| listed.manifest.files().len() as u64);
                WouldTake { files, bytes: size }
            }
        };
        say(control, &Message::WouldTake(would)).await
    }

    /// What a fetch of this would move, from the first target that has it.
    pub(crate) async fn plan_fetch(self: &Arc<Self>, fetch: FetchRequest) -> Result<Planned, RunError> {
        let fetch = self.settle(fetch).await?;
        let mut failed = RunError::new(Failure::Usage, "no peer is named to fetch from");
        for target in &fetch.from {
            match timeout(DEADLINE, self.plan_fetch_from(&fetch, target)).await {
                Ok(Ok(planned)) => return Ok(planned),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = no_answer(target),
            }
        }
        Err(failed)
    }

    async fn plan_fetch_from(
        self: &Arc<Self>,
        fetch: &FetchRequest,
        target: &str,
    ) -> Result<Planned, RunError> {
        let (called, id) = (self.call_with(target, fetch.key).await?, fetch.file_id);
        let mut asked = self.ask_about(&called, id, Spec::from(fetch.clone())).await?;
        let (folder, name) = self.destination(&fetch.output, &asked.permit)?;
        let goal = self.goal_of(&mut asked, &folder, id).await.map_err(|error| called.blame(error))?;
        let name = named_as_part(name, goal.bytes.as_ref());
        let files = goal.listed.as_ref().map_or(1, |listed| listed.manifest.files().len() as u64);
        let all = WouldTake { files, bytes: goal.size };
        let (geometry, path) = (asked.permit.geometry(), name.as_ref().map(|name| name.path_in(&folder)));
        let would = match (&name, &goal.bytes) {
            (_, Some(bytes)) => {
                let bytes = geometry.chunks_with(bytes.clone()).map(|chunk| geometry.len_of(chunk)).sum();
                WouldTake { files, bytes }
            }
            // What goes to standard output is fetched whole, unless it was begun before.
            (None, None) => all,
            (Some(name), None) => match self.is_there(&folder, name, &goal).await? {
                Some(_) => WouldTake { files: 0, bytes: 0 },
                None => {
                    self.check_name(&folder, name, id, goal.is_folder).await?;
                    let (listed, room) = (goal.listed.as_ref(), goal.room());
                    self.would_take(&asked.permit, listed, folder, goal.key(), name, room).await?
                }
            },
        };
        Ok(Planned {
            file_id: goal.id,
            name: asked.permit.name().to_string(),
            is_folder: goal.is_folder,
            files,
            bytes: goal.size,
            files_to_move: would.files,
            bytes_to_move: would.bytes,
            path: path.map(|path| path.display().to_string()),
        })
    }

    /// What would be here in the end, and what is in it; with that all is asked.
    async fn goal_of(&self, asked: &mut Asked, folder: &Path, id: FileId) -> Result<Goal, RunError> {
        let Asked { job, stop, control, permit } = asked;
        let mut goal = self.goal(job, control, permit, folder, id, stop).await?;
        if goal.listed.is_none() {
            goal.listed = self.listed(job, control, permit, folder, goal.key(), stop).await?;
        }
        control.sender.finish();
        Ok(goal)
    }

    /// What a send of this would move, and what its owner should know of it.
    pub(crate) async fn plan_send(
        self: &Arc<Self>,
        send: SendRequest,
    ) -> Result<(Vec<Remark>, Planned), RunError> {
        let (path, target) = (path_of(&send.path), send.target.clone());
        let (job, stop) = nobody(Spec::from(send.clone()), &self.shutdown);
        let called = self.call_with(&target, send.key).await?;
        let source = self.import(&job, &path, &send.excludes, &stop).await?;
        let offer = offer_of(&source, send.name.as_deref(), None, &called.link)?;
        let (name, file_id) = (offer.name.clone(), source.file_id());
        let asked = async {
            let mut control = called.link.connection().open_control().await?;
            say(&mut control, &Message::Try(offer)).await?;
            loop {
                match (hear(&job, &mut control, &stop).await?, source.manifest()) {
                    (Message::NeedManifest, Some(manifest)) => {
                        say_manifest(&job, &mut control, &self.workers, manifest, &stop).await?;
                    }
                    (Message::WouldTake(would), _) => return Ok(would),
                    (other, _) => return Err(closed_by(other)),
                }
            }
        };
        let would = timeout(DEADLINE, asked).await.map_err(|_| no_answer(&target))?;
        let would = would.map_err(|error: RunError| called.blame(error))?;
        let files = source.manifest().map_or(1, |manifest| manifest.files().len() as u64);
        let planned = Planned {
            file_id: file_id.ok_or_else(RunError::stopped)?,
            name,
            is_folder: source.manifest().is_some(),
            files,
            bytes: source.size(),
            files_to_move: would.files,
            bytes_to_move: would.bytes,
            path: None,
        };
        Ok((source.remarks(), planned))
    }

    /// What is in a folder that a target shares with this machine.
    pub(crate) async fn entries(
        self: &Arc<Self>,
        target: &str,
        id: FileId,
    ) -> Result<Vec<FolderEntry>, RunError> {
        let called = self.call(target).await?;
        let asked = async {
            let spec = Spec::Serve { peer: called.link.peer(), file_id: id };
            let mut asked = self.ask_about(&called, id, spec).await?;
            self.goal_of(&mut asked, &self.store.spool(), id).await.map_err(|error| called.blame(error))
        };
        let goal = timeout(DEADLINE, asked).await.map_err(|_| no_answer(target))??;
        let Some(Listed { manifest, .. }) = goal.listed else {
            let message = format!("{id} is a file, and has no entries");
            return Err(RunError::new(Failure::Usage, message));
        };
        Ok(manifest.entries().iter().map(|entry| entry_of(entry, &manifest)).collect())
    }

    /// Asks what a fetch would bring.
    async fn ask_about(&self, called: &Called, id: FileId, spec: Spec) -> Result<Asked, RunError> {
        let (job, stop) = nobody(spec, &self.shutdown);
        let conversation = async {
            let mut control = called.link.connection().open_control().await?;
            say(&mut control, &Message::Peek(Peek { file_id: id })).await?;
            let offer = match hear(&job, &mut control, &stop).await? {
                Message::Offer(offer) => offer,
                other => return Err(closed_by(other)),
            };
            Ok((control, admit_asked(id, &offer)?))
        };
        let (control, permit) = conversation.await.map_err(|error: RunError| called.blame(error))?;
        Ok(Asked { job, stop, control, permit })
    }

    /// What is missing here of something that is not here as a whole.
    async fn would_take(
        &self,
        permit: &Permit,
        listed: Option<&Listed>,
        folder: PathBuf,
        key: PartialKey,
        name: &PublishName,
        room: u64,
    ) -> Result<WouldTake, RunError> {
        let manifest = listed.map(|listed| listed.manifest.clone());
        let (store, place) = (self.store.clone(), folder.clone());
        let begun = blocking(&self.workers, move || store.has_partial(&place, &key)).await??;
        if begun {
            // One that another transfer writes to just now is counted as if nothing were here.
            let opened =
                self.open_partial(folder.clone(), key, permit, manifest.clone(), Some(name), None, room);
            match opened.await? {
                Ok(partial) => {
                    let layout = partial.layout();
                    let mut here = partial.verified();
                    here.union(&partial.doubtful());
                    here.union(&partial.claimed());
                    let missing = here.missing(layout.chunks());
                    let files = layout.plan().map_or(1, |plan| plan.files().len().into());
                    return Ok(WouldTake { files, bytes: layout.bytes_of(&missing) });
                }
                Err(StoreError::Busy { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Some(manifest) = manifest else {
            return Ok(WouldTake { files: 1, bytes: permit.geometry().size() });
        };
        let (store, alike) = (self.store.clone(), name.alike(&folder));
        let chunk_log2 = permit.geometry().chunk_log2();
        let would = blocking(&self.workers, move || {
            let missing = store.missing_files(&manifest, &alike);
            let plan = Plan::new(manifest, &missing, chunk_log2)?;
            Ok(WouldTake { files: missing.len().into(), bytes: plan.bytes() })
        });
        would.await?.map_err(|error| PeerMisbehaved::Geometry(error).into())
    }
}

/// What a peer has said of something that it would give.
struct Asked {
    job: Arc<Job>,
    stop: CancellationToken,
    control: ControlStream,
    permit: Permit,
}

/// Stands for a transfer that there is not.
fn nobody(spec: Spec, shutdown: &CancellationToken) -> (Arc<Job>, CancellationToken) {
    (Job::new(0, spec, String::new(), String::new()), shutdown.child_token())
}

fn no_answer(target: &str) -> RunError {
    RunError::new(Failure::Unreachable, format!("{target} took the connection and does not answer"))
}

fn entry_of(entry: &Entry, manifest: &Manifest) -> FolderEntry {
    let (kind, size, file_id, target) = match &entry.node {
        Node::Folder => (EntryKind::Folder, None, None, None),
        Node::File { size, file_id, executable: false } => {
            (EntryKind::File, Some(*size), Some(*file_id), None)
        }
        Node::File { size, file_id, executable: true } => {
            (EntryKind::Executable, Some(*size), Some(*file_id), None)
        }
        Node::Link { target } => (EntryKind::Link, None, None, Some(target.clone())),
        Node::HardLink { of } => {
            let first = manifest.entries().get(*of as usize).map(|first| first.path.clone());
            (EntryKind::HardLink, None, None, first)
        }
    };
    FolderEntry { path: entry.path.clone(), kind, size, file_id, target }
}
