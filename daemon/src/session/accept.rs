//! What comes in: connections, and the conversations that peers open on them.

use std::{path::Path, sync::Arc};

use p2p_protocol::{
    Along, Batch, FileId, Geometry, Manifest, Part, PeerId,
    limits::{FIRST_FRAME_DEADLINE, MAX_FIRST_FRAME_LEN, MAX_STRANGER_REQUESTS},
    policy::{Permit, Refusal, Rights, Situation, admit},
    reason::{ChunkFailure, Failure, PeerMisbehaved, RefuseReason, close},
    rules::Bounds,
    token::{ClaimId, Proof},
    wire::peer::{Accept, AcceptFolder, ChunkFailed, Fetch, Message, Offer, OfferTogether, Redeem},
};
use tokio_util::sync::CancellationToken;

use super::{
    Sessions, blocking,
    budget::Allowance,
    ending::Ending,
    error::RunError,
    folder,
    goal::{Goal, as_provider_counts},
    job::{Job, now_ms},
    limiter::Flow,
    links::{ChunkQueue, Link, Opened},
    provide::{End, Opening, Providing, provide},
    receipts::Receipt,
    receive::{Receiving, receive},
    run::answer,
    say, shares,
    spec::Spec,
};
use crate::{
    store::{Partial, PartialKey, PartialSpec, PublishName, Published, Share, Show, Source, StoreError},
    transport::{ControlStream, Incoming},
};

impl Sessions {
    /// Takes connections in until the endpoint closes.
    pub(super) async fn accept_connections(self: Arc<Self>) {
        while let Some(incoming) = self.links.endpoint().accept().await {
            let sessions = self.clone();
            tokio::spawn(async move { sessions.admit_connection(incoming).await });
        }
    }

    /// Decides once, on the completed handshake and before any stream, whether a peer is let in.
    async fn admit_connection(self: Arc<Self>, incoming: Incoming) {
        let connection = match incoming.finish().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(%error, "a handshake failed");
                return;
            }
        };
        let peer = connection.peer_id();
        if let Err(error) = self.links.follow(&connection).await {
            tracing::warn!(%peer, %error, "a new key could not be noted");
        }
        let stranger = !self.peers.is_trusted(&peer);
        if !self.links.make_room(&peer, stranger) {
            tracing::warn!(%peer, "too many connections, one refused");
            connection.close(close::BUSY, "");
            return;
        }
        if stranger {
            self.peers.note_pending(&peer, connection.remote_addr());
            if !self.anything_for_strangers().await {
                tracing::info!(%peer, address = %connection.remote_addr(), "an unknown peer was refused");
                connection.close(close::NOT_TRUSTED, "");
                return;
            }
        }
        tracing::debug!(%peer, stranger, "connected");
        let link = self.links.adopt(connection, false);
        self.attend(link).await;
    }

    /// Whether a stranger may come for something: what is public, or what it was invited to.
    async fn anything_for_strangers(&self) -> bool {
        if self.peers.invites_anybody(now_ms()) {
            return true;
        }
        let store = self.store.clone();
        let public = shares::Audience::Public.stored();
        let anything = move || {
            let catalog = store.catalog();
            Ok::<_, StoreError>(catalog.has_share_for(&public)? || catalog.has_ticket(now_ms())?)
        };
        matches!(blocking(&self.workers, anything).await, Ok(Ok(true)))
    }

    /// Serves the conversations that the peer opens, for as long as the connection lives. A stranger's come
    /// one at a time, and few.
    pub(super) async fn attend(self: Arc<Self>, link: Arc<Link>) {
        let mut asked = 0;
        while let Some(control) = self.next_conversation(&link).await {
            let opened = link.opened(control.id);
            let conversation = self.clone().conversation(link.clone(), control, opened);
            if self.peers.is_trusted(&link.peer()) {
                self.runs.spawn(conversation);
                continue;
            }
            asked += 1;
            if asked > MAX_STRANGER_REQUESTS {
                link.connection().close(close::BUSY, "");
                return;
            }
            conversation.await;
        }
    }

    /// The next conversation, which a stranger that has dialled has to open soon: it holds one of few places.
    async fn next_conversation(&self, link: &Link) -> Option<ControlStream> {
        let opened = link.connection().accept_control();
        tokio::pin!(opened);
        loop {
            match tokio::time::timeout(FIRST_FRAME_DEADLINE, &mut opened).await {
                Ok(control) => return control.ok(),
                Err(_) if link.is_dialled() || self.peers.is_trusted(&link.peer()) => {}
                Err(_) => {
                    link.connection().close(close::DEADLINE, "");
                    return None;
                }
            }
        }
    }

    async fn conversation(self: Arc<Self>, link: Arc<Link>, mut control: ControlStream, _opened: Opened) {
        let _used = link.hold();
        if let Err(error) = self.converse(&link, &mut control).await {
            super::part(&link, &mut control, &error).await;
        }
        control.sender.finish();
    }

    async fn converse(&self, link: &Arc<Link>, control: &mut ControlStream) -> Result<(), RunError> {
        let first = control.receiver.recv(MAX_FIRST_FRAME_LEN);
        let first = tokio::select! {
            first = tokio::time::timeout(FIRST_FRAME_DEADLINE, first) => first.map_err(|_| RunError::stalled())?,
            () = self.shutdown.cancelled() => return Err(RunError::stopped()),
        };
        match first? {
            Some(Message::Offer(offer)) => self.offered(link, control, &offer, None).await,
            Some(Message::OfferTogether(OfferTogether { batch, offer })) => {
                self.offered(link, control, &offer, Some(batch)).await
            }
            Some(Message::Fetch(fetch)) => self.serve(link, control, fetch, None).await,
            Some(Message::Redeem(Redeem { ticket, proof, fetch })) => {
                self.serve(link, control, fetch, Some((ticket, proof))).await
            }
            Some(Message::Join(join)) => self.redeem(link, control, join).await,
            Some(Message::List(list)) => self.list(link, control, list).await,
            Some(Message::Peek(peek)) => self.peeked(link, control, peek).await,
            Some(Message::Try(offer)) => self.tried(link, control, &offer).await,
            Some(Message::Measure(measure)) => self.measured_by(link, control, measure).await,
            Some(other) => Err(PeerMisbehaved::UnexpectedMessage(other.name()).into()),
            None => Ok(()),
        }
    }

    /// Answers a stranger: on a connection of its own it learns nothing but that it is not trusted.
    pub(super) async fn turn_away(
        &self,
        link: &Link,
        control: &mut ControlStream,
        reason: RefuseReason,
    ) -> Result<(), RunError> {
        self.peers.note_pending(&link.peer(), link.connection().remote_addr());
        if link.is_dialled() {
            return say(control, &Message::Refuse(reason)).await;
        }
        tracing::info!(peer = %link.peer(), "an unknown peer was refused");
        link.connection().close(close::NOT_TRUSTED, "");
        Ok(())
    }

    /// The transfer behind what a peer asks for, and whether it is new. Where there is no room for it, the peer is told.
    async fn job_of_peer(
        &self,
        link: &Link,
        spec: Spec,
        name: String,
        control: &mut ControlStream,
    ) -> Result<(Arc<Job>, bool), RunError> {
        let peer = link.peer();
        let known_as = self.peers.name_of(&peer).unwrap_or_else(|| peer.to_string());
        match self.registry.find_or_make(spec, name, known_as) {
            Ok((job, is_new)) => {
                job.set_background(link.connection().is_background());
                Ok((job, is_new))
            }
            Err(error) => {
                tracing::warn!(%peer, %error, "what a peer asks for was refused, for want of a place");
                let reason = match error.failure {
                    Failure::Storage => RefuseReason::Storage,
                    _ => RefuseReason::Busy,
                };
                say(control, &Message::Refuse(reason)).await?;
                Err(RunError { tell: None, ..error })
            }
        }
    }

    async fn offered(
        &self,
        link: &Arc<Link>,
        control: &mut ControlStream,
        offer: &Offer,
        batch: Option<Batch>,
    ) -> Result<(), RunError> {
        let peer = link.peer();
        if batch.is_some_and(|batch| !batch.is_possible()) {
            return Err(PeerMisbehaved::FalseBatch.into());
        }
        if !self.peers.is_trusted(&peer) {
            return self.turn_away(link, control, RefuseReason::NotAllowed).await;
        }
        let (batch, along) = self.along(&peer, offer, batch);
        let permit = match admit(self.situation(&peer, offer, along).await?, offer) {
            Ok(permit) => permit,
            Err(refusal) => return refuse(link, control, refusal).await,
        };
        if self.was_rejected(link, offer, control).await? {
            return Ok(());
        }
        let key = self.key_of(peer, &permit).await?;
        let spec = match key {
            PartialKey::Unsealed(key, peer) => Spec::ReceiveUnsealed { peer, key },
            PartialKey::Sent(file_id, _) | PartialKey::Fetched(file_id) => Spec::Receive { peer, file_id },
        };
        let (job, is_new) = self.job_of_peer(link, spec, permit.name().to_string(), control).await?;
        // The same content twice over one connection: the second waits its turn, and then costs nothing. Over
        // another one, the peer is back before its old connection was found dead, and takes over.
        if job.runs_on(link.connection().id()) {
            return say(control, &Message::Refuse(RefuseReason::Busy)).await;
        }
        let stop = job.supersede(&self.shutdown);
        let _running = job.running.lock().await;
        let _on = job.run_on(link.connection().id());
        if job.is_over() || stop.is_cancelled() {
            return say(control, &Message::Refuse(RefuseReason::Busy)).await;
        }
        job.offered(batch, permit.name().to_string(), permit.geometry());
        let result = self.receive_offer(&job, is_new, link, control, &permit, key, stop).await;
        if let Err(error) = &result {
            self.end_receiving(&job, error).await;
        }
        self.registry.save(&job);
        result
    }

    /// What the partial of an offer is found by. One that was begun before the File ID was known goes on under the key
    /// that it was begun under.
    pub(super) async fn key_of(&self, peer: PeerId, permit: &Permit) -> Result<PartialKey, RunError> {
        let (id, key) = match (permit.file_id(), permit.resume_key()) {
            (Some(id), Some(key)) => (id, key),
            (Some(id), None) => return Ok(PartialKey::Sent(id, peer)),
            (None, Some(key)) => return Ok(PartialKey::Unsealed(key, peer)),
            (None, None) => return Err(RunError::new(Failure::Other, Refusal::Unsealed.to_string())),
        };
        let (sent, unsealed) = (PartialKey::Sent(id, peer), PartialKey::Unsealed(key, peer));
        if self.registry.has_unfinished(&Spec::ReceiveUnsealed { peer, key }) {
            return Ok(unsealed);
        }
        let (store, inbox) = (self.store.clone(), self.inbox_of(&peer));
        let begun_before = blocking(&self.workers, move || {
            Ok::<_, StoreError>(!store.has_partial(&inbox, &sent)? && store.has_partial(&inbox, &unsealed)?)
        });
        // A folder that cannot be looked into cannot be received into, which is found out in a moment.
        Ok(if begun_before.await?.unwrap_or_default() { unsealed } else { sent })
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different part of one conversation")]
    async fn receive_offer(
        &self,
        job: &Job,
        is_new: bool,
        link: &Arc<Link>,
        control: &mut ControlStream,
        permit: &Permit,
        key: PartialKey,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        let peer = link.peer();
        let (fetchable, inbox) = (self.may_fetch_back(&peer), self.inbox_of(&peer));
        let stand_in = permit.resume_key().map(|key| PartialKey::Unsealed(key, peer).stand_in());
        let receipt = Arc::new(Receipt::new(self.store.clone(), peer, stand_in, fetchable));
        self.hold_offer(job, link, control, &stop).await?;
        if self.received_before(job, is_new, link, control, permit, key, &receipt, &stop).await? {
            return Ok(());
        }
        // Nobody is asked for a yes that would come to nothing.
        self.free_name(&peer, &inbox, control, permit, key).await?;
        self.ask_owner(job, link, control, permit, &stop).await?;
        let name = self.free_name(&peer, &inbox, control, permit, key).await?;
        let listed = self.listed(job, control, permit, &inbox, key, &stop).await?;
        let manifest = listed.as_ref().map(|listed| listed.manifest.clone());
        let show = self.shows(&peer, &name, key);
        let opened = self.open_partial(inbox, key, permit, manifest, Some(&name), show, u64::MAX);
        let partial = match opened.await? {
            Ok(partial) => partial,
            Err(error) => {
                tracing::warn!(%peer, %error, "an offer cannot be stored");
                let refusal = Message::Refuse(error.refusal());
                say(control, &refusal).await?;
                return Err(RunError { tell: None, ..error.into() });
            }
        };
        let ending = Ending::Publish { name, receipt: Some(receipt) };
        let chunks = link.expect_chunks(control.id);
        let published = self
            .receive_into(job, link, control, chunks, permit, partial, None, None, ending, fetchable, stop)
            .await?;
        // Published is only what has a name.
        if let Some(id) = job.file_id() {
            job.done(id, published.path.display().to_string(), permit.geometry().size(), None);
        }
        Ok(())
    }

    /// The name that something received gets; the peer is told where there is none.
    async fn free_name(
        &self,
        peer: &PeerId,
        inbox: &Path,
        control: &mut ControlStream,
        permit: &Permit,
        key: PartialKey,
    ) -> Result<PublishName, RunError> {
        if let Some(name) = self.name_in(peer, inbox, permit, key).await? {
            return Ok(name);
        }
        tracing::info!(%peer, name = %permit.name(), "an offer was refused: its name is taken");
        say(control, &Message::Refuse(RefuseReason::Exists)).await?;
        Err(RunError::new(Failure::Conflict, "the name is taken, and what has it is to stay"))
    }

    /// Finds or makes the partial of an accepted offer.
    #[expect(clippy::too_many_arguments, reason = "each is a different part of one conversation")]
    pub(super) async fn open_partial(
        &self,
        folder: std::path::PathBuf,
        key: PartialKey,
        permit: &Permit,
        manifest: Option<Arc<Manifest>>,
        name: Option<&PublishName>,
        show: Option<Show>,
        room: u64,
    ) -> Result<Result<Arc<Partial>, StoreError>, RunError> {
        let alike = name.map_or_else(Vec::new, |name| name.alike(&folder));
        let older = name.and_then(|name| name.older(&folder));
        let spec = PartialSpec {
            folder,
            key,
            file_id: permit.file_id(),
            geometry: permit.geometry(),
            allocated: permit.allocated().min(room),
            executable: permit.executable(),
            modified_ns: permit.modified_ns(),
            manifest,
            alike,
            older,
            show,
        };
        let store = self.store.clone();
        Ok(blocking(&self.workers, move || store.open_partial(spec)).await?.map(Arc::new))
    }

    /// Accepts, and receives to the end.
    #[expect(clippy::too_many_arguments, reason = "each is a different part of one conversation")]
    pub(super) async fn receive_into(
        &self,
        job: &Job,
        link: &Arc<Link>,
        control: &mut ControlStream,
        chunks: ChunkQueue,
        permit: &Permit,
        partial: Arc<Partial>,
        goal: Option<&Goal>,
        eager: Option<Allowance>,
        ending: Ending,
        fetchable: bool,
        stop: CancellationToken,
    ) -> Result<Published, RunError> {
        let part = goal.and_then(|goal| goal.part.as_ref());
        if let Some(path) = partial.shown_at() {
            job.shows(path);
        }
        if eager.is_none() {
            self.take_over(job, control, &partial, part, &stop).await?;
            let mut here = partial.verified();
            here.union(&partial.claimed());
            let layout = partial.layout();
            let accept = Accept {
                chunk_log2: layout.geometry().chunk_log2(),
                have_count: here.len(),
                have: here.wire().into_iter().next().unwrap_or_default(),
            };
            let accept = match layout.plan() {
                Some(plan) => {
                    let files = as_provider_counts(plan.files(), part)?;
                    Message::AcceptFolder(AcceptFolder { files, accept })
                }
                None => Message::Accept(accept),
            };
            say(control, &accept).await?;
            if chunks.missed() {
                // Its bytes may all have arrived, so that its sender takes it for delivered.
                let missed = ChunkFailed { chunk: 0, reason: ChunkFailure::NotStored };
                say(control, &Message::ChunkFailed(missed)).await?;
            }
        }
        let pool = self.pool.clone();
        let (registry, name) = (&*self.registry, permit.name().to_string());
        let receiving = Receiving {
            job,
            registry,
            workers: self.workers.clone(),
            link,
            control,
            chunks,
            partial,
            part_of: part.map(Part::whole),
            bytes: goal.and_then(|goal| goal.bytes.clone()),
            eager,
            name,
            ending,
            pool,
            flow: Flow::new(job, self.limiter.down()),
            fetchable,
            stop,
        };
        receive(receiving).await
    }

    /// What becomes of a peer's transfer whose run broke.
    async fn end_receiving(&self, job: &Job, error: &RunError) {
        if error.failure == Failure::Cancelled {
            self.abandon(job, error).await;
        } else if error.passing {
            job.interrupted(&error.message);
        } else {
            job.fail(error);
        }
    }

    /// Answers a request for a file.
    async fn serve(
        &self,
        link: &Arc<Link>,
        control: &mut ControlStream,
        fetch: Fetch,
        ticket: Option<(ClaimId, Proof)>,
    ) -> Result<(), RunError> {
        let (peer, id) = (link.peer(), fetch.file_id);
        let (store, rights) = (self.store.clone(), self.peers.rights(&peer));
        let share = blocking(&self.workers, move || store.catalog().share(id)).await??;
        let (granted, by) = match (shares::granted(share.clone(), &self.peers.keys_of(&peer), rights), ticket)
        {
            // Who may fetch it anyway uses no ticket up.
            (None, Some(ticket)) => match self.admits(link, id, ticket).await? {
                Ok(()) => (share, Some(ticket.0)),
                Err(reason) => return say(control, &Message::Refuse(reason)).await,
            },
            (granted, _) => (granted, None),
        };
        let Some(share) = granted else { return self.not_for_you(link, control, id).await };
        let name = share.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (job, _) = self.job_of_peer(link, Spec::Serve { peer, file_id: id }, name, control).await?;
        job.serve_by(by);

        let stop = job.supersede(&self.shutdown);
        let _running = job.running.lock().await;
        let result = self.serve_share(&job, link, control, &share, fetch.eager, stop).await;
        if let Err(error) = &result {
            job.fail(error);
        }
        self.registry.save(&job);
        result
    }

    /// One answer to whoever asks for what is not here and for what is not for it.
    pub(super) async fn not_for_you(
        &self,
        link: &Link,
        control: &mut ControlStream,
        id: FileId,
    ) -> Result<(), RunError> {
        let peer = link.peer();
        tracing::info!(%peer, file_id = %id, "asked for what it may not have or what is not here");
        if self.peers.is_trusted(&peer) {
            return say(control, &Message::Refuse(RefuseReason::NotFound)).await;
        }
        self.turn_away(link, control, RefuseReason::NotFound).await
    }

    /// Opens a share for a peer that asked for it, and tells it where that cannot be.
    pub(super) async fn reopen_for(
        &self,
        job: &Arc<Job>,
        control: &mut ControlStream,
        share: &Share,
        stop: &CancellationToken,
    ) -> Result<Arc<Source>, RunError> {
        match self.reopen(job, share, stop).await {
            Ok(source) => Ok(source),
            Err(error) => {
                // A peer learns no more of a file that cannot be served than that it cannot be had.
                let reason = match error.failure {
                    Failure::Integrity => RefuseReason::SourceChanged,
                    Failure::Conflict => RefuseReason::Busy,
                    Failure::Cancelled | Failure::Unreachable => RefuseReason::ShuttingDown,
                    _ => RefuseReason::NotFound,
                };
                say(control, &Message::Refuse(reason)).await?;
                Err(RunError { tell: None, ..error })
            }
        }
    }

    async fn serve_share(
        &self,
        job: &Arc<Job>,
        link: &Arc<Link>,
        control: &mut ControlStream,
        share: &Share,
        eager: bool,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        let source = self.reopen_for(job, control, share, &stop).await?;
        let offer = super::run::offer_of(&source, Some(&source.name()), None, link)?;
        let geometry = Geometry::new(offer.size, offer.chunk_log2).map_err(PeerMisbehaved::Geometry)?;
        say(control, &Message::Offer(offer)).await?;
        let opening = match source.manifest() {
            // An eager fetch says nothing of a folder.
            Some(manifest) => {
                Opening::Folder(folder::answer(job, control, &self.workers, &source, manifest, &stop).await?)
            }
            None if eager => Opening::Eager(geometry),
            None => Opening::Accepted(answer(job, control, &stop).await?),
        };
        let (registry, size, name) = (&*self.registry, source.size(), source.name());
        let shown = name.clone();
        let public = if self.peers.is_trusted(&link.peer()) { &self.outgoing } else { &self.outgoing_public };
        let memory = public.clone();
        let flow = Flow::new(job, self.limiter.up());
        let workers = self.workers.clone();
        let providing =
            Providing { job, registry, workers, link, control, source, name, opening, memory, flow, stop };
        match provide(providing).await? {
            End::Done(done) => job.done(share.file_id, done.name, size, None),
            // It had asked for some bytes of it, and took what these lie in.
            End::Enough => job.done(share.file_id, shown, job.verified_bytes(), None),
        }
        Ok(())
    }
}

/// The judgement on the answer to a fetch, which its owner wants: nothing but the rules of the conversation can be against it.
pub(super) fn admit_asked(id: FileId, offer: &Offer) -> Result<Permit, RunError> {
    let (rights, bounds) = (Rights::default(), Bounds::default());
    let (along, asked) = (Along::default(), Some(id));
    let situation = Situation { rights, asked, running: 0, max_running: 1, bounds, along };
    admit(situation, offer).map_err(|refusal| match refusal.misbehaviour() {
        Some(fault) => fault.into(),
        None => RunError::new(Failure::Other, refusal.to_string()),
    })
}

pub(super) async fn refuse(
    link: &Link,
    control: &mut ControlStream,
    refusal: Refusal,
) -> Result<(), RunError> {
    tracing::warn!(peer = %link.peer(), %refusal, "an offer was refused");
    say(control, &Message::Refuse(refusal.reason())).await?;
    if let Some(fault) = refusal.misbehaviour() {
        tracing::warn!(peer = %link.peer(), %fault, "peer misbehaved");
    }
    Ok(())
}
