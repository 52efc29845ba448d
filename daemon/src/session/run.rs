//! The transfers that this daemon's owner asked for: run, and run again, until they end.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    task::{Context, Waker},
};

use p2p_protocol::{
    FileId, Geometry, PeerId, ResumeKey, SafeName,
    control::{Output, State, WaitReason},
    limits::{HASH_FIRST_LEN, MAX_DELIVERED, MAX_EARLY_LEN, MAX_FRAME_LEN, MAX_MANIFEST_LEN},
    reason::{AbortReason, Failure, PeerMisbehaved},
    wire::peer::{Accept, Fetch, Kind, Message, Offer, OfferTogether, PauseReason},
};
use tokio_util::sync::CancellationToken;

use super::{
    Sessions,
    accept::admit_asked,
    blocking,
    ending::Ending,
    error::RunError,
    folder,
    goal::named_as_part,
    job::Job,
    limiter::Flow,
    links::Link,
    part,
    provide::{End, Opening, Providing, closed_early, provide},
    receipts::{Finished, finish_at_once},
    say,
    spec::Spec,
    stdout::StdoutFeed,
    tickets::{asking, fetchable_again},
    tries::{SoFar, Tries},
    while_wanted,
};
use crate::{
    store::{Excludes, Share, Show, Source, StoreError},
    transport::{ControlStream, TransportError},
};

impl Sessions {
    /// Works on a transfer in the background until it ends or the daemon stops.
    pub(super) fn spawn_job(self: &Arc<Self>, job: Arc<Job>) {
        let sessions = self.clone();
        self.runs.spawn(async move { sessions.drive(&job).await });
    }

    /// The same, but that its first step, in which it asks for a place, is made before this returns.
    pub(super) fn spawn_in_order(self: &Arc<Self>, job: Arc<Job>) {
        let sessions = self.clone();
        let mut work = Box::pin(async move { sessions.drive(&job).await });
        let mut nobody = Context::from_waker(Waker::noop());
        if work.as_mut().poll(&mut nobody).is_pending() {
            self.runs.spawn(work);
        }
    }

    /// Whether its peer is one that was there before, or that is known under the name it was asked for by: an address that
    /// nobody ever answered at may as well be a mistake.
    fn is_known(&self, job: &Job) -> bool {
        job.has_started()
            || match job.spec() {
                Spec::Send { target, .. } => self.links.expects(target),
                Spec::Fetch { from, .. } => from.iter().any(|target| self.links.expects(target)),
                Spec::Receive { .. } | Spec::ReceiveUnsealed { .. } | Spec::Serve { .. } => false,
            }
    }

    async fn drive(self: &Arc<Self>, job: &Arc<Job>) {
        let stop = job.supersede(&self.shutdown);
        let _running = job.running.lock().await;
        let mut source = None;
        let mut tries = Tries::default();
        while !job.is_over() {
            self.hold(job, &stop).await;
            let before = job.verified_bytes();
            let result = self.run_until_paused(job, &mut source, &stop).await;
            let Err(error) = result else { break };
            if error.failure == Failure::Cancelled {
                self.abandon(job, &error).await;
                break;
            }
            if stop.is_cancelled() {
                break;
            }
            if job.wish().paused {
                continue;
            }
            if error.stale {
                tracing::debug!(transfer = job.number(), error = %error.message, "an old connection was dead");
                continue;
            }
            let so_far = SoFar {
                is_known: self.is_known(job),
                has_started: job.has_started(),
                got_on: job.verified_bytes() > before,
            };
            let Some(pause) = tries.after(&error, so_far) else {
                job.fail(&error);
                break;
            };
            job.retrying(tries.attempt(), pause, &error.message);
            self.registry.save(job);
            let cancelled = job.cancelled();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancelled.cancelled() => {}
                () = job.is_paused() => {}
                () = stop.cancelled() => break,
            }
        }
        self.stdout_clients().remove(&job.number());
        if job.state() == State::Done {
            self.drop_spooled(job).await;
        }
        self.registry.save(job);
    }

    pub(super) async fn run_once(
        self: &Arc<Self>,
        job: &Arc<Job>,
        source: &mut Option<Arc<Source>>,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        if job.cancelled().is_cancelled() {
            return Err(RunError::cancelled());
        }
        match job.spec() {
            Spec::Send { path, excludes, target, name, .. } => {
                let path = (path_of(path), &**excludes);
                self.send_once(job, path, target, name.as_deref(), source, stop).await
            }
            Spec::Fetch { file_id, from, output, .. } => {
                self.fetch_once(job, *file_id, from, output, stop).await
            }
            Spec::Receive { .. } | Spec::ReceiveUnsealed { .. } | Spec::Serve { .. } => Err(RunError::new(
                Failure::Conflict,
                "the peer has to start this transfer again; it goes on from what is here",
            )),
        }
    }

    async fn send_once(
        self: &Arc<Self>,
        job: &Arc<Job>,
        (path, excludes): (PathBuf, &[String]),
        target: &str,
        name: Option<&str>,
        kept: &mut Option<Arc<Source>>,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let (link, fresh, _place) = self.reach(job, target, stop).await?;
        let _used = link.hold();
        let source = Box::pin(self.source(job, &path, excludes, kept.take(), stop)).await?;
        *kept = Some(source.clone());
        // What is hashed first at once has no partial that was begun before it was.
        let key = source.resume_key(&self.secret).filter(|_| source.size() > HASH_FIRST_LEN);
        let offer = offer_of(&source, name, key, &link)?;
        if offer.file_id.is_none() {
            tracing::debug!(transfer = job.number(), path = %path.display(), "offered before it is hashed");
        }
        if let Ok(geometry) = Geometry::new(offer.size, offer.chunk_log2) {
            job.measured(geometry);
        }
        let (shown, id) = (offer.name.clone(), offer.file_id);

        let mut control = open(job, &link, stop).await.map_err(|error| error.on(&link, fresh))?;
        let conversation = async {
            let offer = match job.batch() {
                Some(batch) => Message::OfferTogether(OfferTogether { batch, offer }),
                None => Message::Offer(offer),
            };
            say(&mut control, &offer).await?;
            // The one chunk of a small file goes along, unless it is known to be there.
            let opening = if let Some(manifest) = source.manifest() {
                Opening::Folder(
                    folder::answer(job, &mut control, &self.workers, &source, manifest, stop).await?,
                )
            } else if id.is_some_and(|id| self.may_go_early(link.peer(), id, source.size())) {
                Opening::Early
            } else {
                Opening::Accepted(answer(job, &mut control, stop).await?)
            };
            let (registry, control, link) = (&*self.registry, &mut control, &link);
            let (workers, memory) = (self.workers.clone(), self.outgoing.clone());
            let flow = Flow::new(job, self.limiter.up());
            let (source, name, stop) = (source.clone(), shown, stop.clone());
            let run = Providing {
                job,
                registry,
                workers,
                link,
                control,
                source,
                name,
                opening,
                memory,
                flow,
                stop,
            };
            provide(run).await
        };
        match Box::pin(conversation).await {
            Ok(End::Enough) => Err(PeerMisbehaved::UnexpectedMessage("Abort").into()),
            Ok(End::Done(done)) => {
                control.sender.finish();
                let fetch_from = done.fetchable.then(|| target.to_owned());
                self.note_delivered(link.peer(), done.file_id, source.size());
                job.done(done.file_id, done.name, source.size(), fetch_from);
                Ok(())
            }
            Err(error) => {
                part(&link, &mut control, &error).await;
                Err(error.on(&link, fresh))
            }
        }
    }

    /// Whether a file may go along with its offer: it is one small chunk, and was not sent there lately.
    fn may_go_early(&self, peer: PeerId, id: FileId, size: u64) -> bool {
        let delivered = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        (1..=MAX_EARLY_LEN).contains(&size) && !delivered.contains(&(peer, id))
    }

    fn note_delivered(&self, peer: PeerId, id: FileId, size: u64) {
        let mut delivered = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        if size > MAX_EARLY_LEN || delivered.contains(&(peer, id)) {
            return;
        }
        if delivered.len() >= MAX_DELIVERED {
            delivered.pop_front();
        }
        delivered.push_back((peer, id));
    }

    /// A source to be sent, hashed or not: that of the run before, unless it has been hashed meanwhile as another
    /// transfer's, of which the receiver then need not take a byte.
    async fn source(
        &self,
        job: &Arc<Job>,
        path: &Path,
        excludes: &[String],
        kept: Option<Arc<Source>>,
        stop: &CancellationToken,
    ) -> Result<Arc<Source>, RunError> {
        let (store, asked) = (self.store.clone(), path.to_owned());
        let opened = blocking(&self.workers, move || match kept {
            Some(source) if !matches!(&*source, Source::File(file) if file.file_id().is_none() && store.was_hashed(file)) => {
                Ok::<_, StoreError>(Some(source))
            }
            _ => Ok(store.open_to_send(&asked)?.map(|file| Arc::new(Source::File(file)))),
        });
        match opened.await?? {
            Some(source) => Ok(source),
            None => self.import(job, path, excludes, stop).await,
        }
    }

    /// Hashes a source, unless that is known already.
    pub(super) async fn import(
        &self,
        job: &Arc<Job>,
        path: &Path,
        excludes: &[String],
        stop: &CancellationToken,
    ) -> Result<Arc<Source>, RunError> {
        let (store, path, excludes) = (self.store.clone(), path.to_owned(), Excludes::new(excludes)?);
        let source =
            self.hashing(job, stop, move |progress| store.import(&path, &excludes, progress)).await?;
        source.remarks().into_iter().for_each(|remark| job.remark(remark));
        Ok(source)
    }

    /// Opens a shared file, which must still be what it was.
    pub(super) async fn reopen(
        &self,
        job: &Arc<Job>,
        share: &Share,
        stop: &CancellationToken,
    ) -> Result<Arc<Source>, RunError> {
        let (store, path, id) = (self.store.clone(), share.path.clone(), share.file_id);
        let excludes = Excludes::new(&share.excludes)?;
        self.hashing(job, stop, move |progress| store.reopen(&path, &excludes, id, progress)).await
    }

    async fn hashing(
        &self,
        job: &Arc<Job>,
        stop: &CancellationToken,
        open: impl FnOnce(&(dyn Fn(u64) -> bool + Sync)) -> Result<Source, StoreError> + Send + 'static,
    ) -> Result<Arc<Source>, RunError> {
        job.wait(WaitReason::Hashing);
        let (cancelled, stopped) = (job.cancelled(), stop.clone());
        let opened =
            blocking(&self.workers, move || open(&|_| !cancelled.is_cancelled() && !stopped.is_cancelled()));
        match opened.await? {
            Ok(source) => {
                job.resume();
                Ok(Arc::new(source))
            }
            Err(StoreError::Cancelled) if stop.is_cancelled() => Err(job.stopped()),
            Err(StoreError::Cancelled) => Err(RunError::cancelled()),
            Err(error) => Err(error.into()),
        }
    }

    async fn fetch_once(
        self: &Arc<Self>,
        job: &Arc<Job>,
        id: FileId,
        from: &[String],
        output: &Output,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let _turn = self.turn(job, id, stop).await?;
        let mut failed: Option<(bool, RunError)> = None;
        for target in from {
            let error = match self.fetch_from(job, id, target, output, stop).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // What failed here, and is told to the peer, no other peer can mend.
            if error.tell.is_some() || stop.is_cancelled() {
                return Err(error);
            }
            tracing::info!(transfer = job.number(), target, error = %error.message, "a source failed");
            // One that may come back is worth more than an answer, and that more than one that nobody ever found.
            let may_come = error.passing && (error.met || job.has_started() || self.links.expects(target));
            let replaces =
                |(came, before): &(bool, RunError)| (may_come, before.passing) > (*came, error.passing);
            if failed.as_ref().is_none_or(replaces) {
                failed = Some((may_come, error));
            }
        }
        let failed = failed.map(|(_, error)| error);
        Err(failed.unwrap_or_else(|| RunError::new(Failure::Usage, "no peer is named to fetch from")))
    }

    /// Waits until no other fetch of the same content runs, so that there is one writer.
    async fn turn(
        &self,
        job: &Job,
        id: FileId,
        stop: &CancellationToken,
    ) -> Result<tokio::sync::OwnedMutexGuard<()>, RunError> {
        let gate = self.fetch_gate(id);
        if let Ok(turn) = gate.clone().try_lock_owned() {
            return Ok(turn);
        }
        job.wait(WaitReason::Queue);
        while_wanted(job, stop, gate.lock_owned()).await
    }

    async fn fetch_from(
        self: &Arc<Self>,
        job: &Arc<Job>,
        id: FileId,
        target: &str,
        output: &Output,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let (link, fresh, _place) = self.reach(job, target, stop).await?;
        let _used = link.hold();
        let mut control = open(job, &link, stop).await.map_err(|error| error.on(&link, fresh))?;
        let result = Box::pin(self.fetch_over(job, id, target, output, &link, &mut control, stop)).await;
        match &result {
            Ok(()) => control.sender.finish(),
            Err(error) => part(&link, &mut control, error).await,
        }
        result.map_err(|error| error.on(&link, fresh))
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different part of one conversation")]
    async fn fetch_over(
        &self,
        job: &Arc<Job>,
        id: FileId,
        target: &str,
        output: &Output,
        link: &Arc<Link>,
        control: &mut ControlStream,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let eager = self.take_eager(job, link, id, output).await?;
        let chunks = link.expect_chunks(control.id);
        say(control, &asking(job, link, Fetch { file_id: id, eager: eager.is_some() })?).await?;
        let offer = match hear(job, control, stop).await? {
            Message::Offer(offer) => offer,
            other => return Err(closed_by(other)),
        };
        let permit = admit_asked(id, &offer)?;
        let (folder, name) = self.destination(output, &permit)?;
        // An eager fetch says nothing of a folder: it begins with the list of its entries.
        let eager = eager.filter(|_| permit.manifest_len().is_none());
        if name.is_none() && permit.manifest_len().is_some() {
            let message = "a folder cannot go to standard output; name a place for it with -o";
            return Err(RunError {
                tell: Some(AbortReason::Cancelled),
                ..RunError::new(Failure::Usage, message)
            });
        }
        let mut goal = self.goal(job, control, &permit, &folder, id, stop).await?;
        let name = named_as_part(name, goal.bytes.as_ref());
        if let (Some(name), None) = (&name, &goal.bytes)
            && let Some(path) = self.is_there(&folder, name, &goal).await?
        {
            // It may have come from elsewhere while this fetch was interrupted, and nobody opens the partial again.
            self.clean_up(job).await;
            let fetch_from = fetchable_again(job, target);
            let part = goal.part_of().map(|_| (goal.id, goal.size));
            let here = Finished { path, fetchable: false, fetch_from, eager: eager.is_some(), part };
            finish_at_once(job, link, control, &permit, id, here).await?;
            // A crash may have left a partial that nothing will ask for any more.
            self.clean_up(job).await;
            return Ok(());
        }
        if let Some(name) = &name {
            self.check_name(&folder, name, id, goal.is_folder).await?;
        }
        if goal.listed.is_none() {
            goal.listed = self.listed(job, control, &permit, &folder, goal.key(), stop).await?;
        }
        let manifest = goal.listed.as_ref().map(|listed| listed.manifest.clone());
        let wanted = job.spec().is_progressive();
        let show = name.clone().map(|name| Show { name, asked: id, wanted });
        let (place, key, room) = (folder.clone(), goal.key(), goal.room());
        let opened = self.open_partial(place, key, &permit, manifest, name.as_ref(), show, room).await?;
        let partial = opened.map_err(|error| self.explain(error, &folder))?;
        if eager.is_some() && !partial.is_new() {
            // Somebody else has begun it meanwhile; the next try will say what is here.
            return Err(RunError {
                passing: true,
                ..RunError::new(Failure::Conflict, "a partial has turned up")
            });
        }
        let (ending, spooled) = match name {
            Some(name) => (Ending::Publish { name, receipt: None }, None),
            None => {
                let client = self.stdout_clients().get(&job.number()).cloned();
                let client = client.ok_or_else(RunError::client_gone)?;
                let feed =
                    StdoutFeed::start(self.workers.clone(), client, partial.clone(), goal.bytes.clone());
                (Ending::Stdout(feed), Some(partial.clone()))
            }
        };
        let stop = stop.clone();
        let published = self
            .receive_into(
                job,
                link,
                control,
                chunks,
                &permit,
                partial,
                Some(&goal),
                eager,
                ending,
                false,
                stop,
            )
            .await?;
        if let Some(spooled) = spooled {
            blocking(&self.workers, move || spooled.discard()).await??;
        }
        let path = published.path.display().to_string();
        job.done(goal.id, path, goal.size, fetchable_again(job, target));
        Ok(())
    }
}

/// The provider's description of a source.
pub(super) fn offer_of(
    source: &Source,
    name: Option<&str>,
    resume_key: Option<ResumeKey>,
    link: &Link,
) -> Result<Offer, RunError> {
    let Some(name) = name.or(source.path().file_name().and_then(OsStr::to_str)).map(str::to_owned) else {
        let message = format!("{}: its name is not UTF-8; give another with --name", source.path().display());
        return Err(RunError::new(Failure::Usage, message));
    };
    if let Err(error) = SafeName::parse(&name) {
        let message = format!("no receiver takes this name ({error}); give another with --name");
        return Err(RunError::new(Failure::Usage, message));
    }
    let geometry = Geometry::for_path(source.size(), link.connection().rate())
        .map_err(|error| RunError::new(Failure::Usage, format!("{}: {error}", source.path().display())))?;
    let kind = match source.manifest() {
        Some(_) => Kind::Folder { manifest_len: list_len(source)? },
        None => Kind::File,
    };
    Ok(Offer {
        name,
        kind,
        size: source.size(),
        allocated: source.allocated(),
        chunk_log2: geometry.chunk_log2(),
        file_id: source.file_id(),
        resume_key,
        executable: source.executable(),
        modified_ns: source.modified_ns(),
    })
}

fn list_len(source: &Source) -> Result<u32, RunError> {
    let (len, path) = (source.list_len(), source.path());
    u32::try_from(len).ok().filter(|_| len <= MAX_MANIFEST_LEN).ok_or_else(|| {
        let message = format!(
            "{}: the list of what is in it has {len} bytes, and {MAX_MANIFEST_LEN} are the most; send parts of it",
            path.display()
        );
        RunError::new(Failure::Usage, message)
    })
}

/// A conversation of a job's own. A peer that takes no more of them is busy.
async fn open(job: &Job, link: &Link, stop: &CancellationToken) -> Result<ControlStream, RunError> {
    while_wanted(job, stop, link.connection().open_control()).await?.map_err(|error| match error {
        TransportError::Stalled { .. } => {
            RunError { passing: true, ..RunError::new(Failure::Conflict, error.to_string()) }
        }
        error => error.into(),
    })
}

/// The receiver's answer to an offer. It may take as long as it takes: the receiver may have to hash, or its owner to be
/// asked.
pub(super) async fn answer(
    job: &Job,
    control: &mut ControlStream,
    stop: &CancellationToken,
) -> Result<Accept, RunError> {
    loop {
        match hear(job, control, stop).await? {
            Message::Accept(accept) => {
                job.resume();
                return Ok(accept);
            }
            Message::Paused(PauseReason::Owner) => job.wait(WaitReason::Accept),
            other => return Err(closed_by(other)),
        }
    }
}

/// What a message comes to that is not the one waited for.
pub(super) fn closed_by(message: Message) -> RunError {
    match message {
        Message::Refuse(reason) => RunError::refused(reason),
        Message::Abort(reason) => RunError::aborted(reason),
        other => PeerMisbehaved::UnexpectedMessage(other.name()).into(),
    }
}

/// The next message, for as long as the job is wanted.
pub(super) async fn hear(
    job: &Job,
    control: &mut ControlStream,
    stop: &CancellationToken,
) -> Result<Message, RunError> {
    while_wanted(job, stop, control.receiver.recv(MAX_FRAME_LEN)).await??.ok_or_else(closed_early)
}

#[cfg(unix)]
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(not(unix))]
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}
