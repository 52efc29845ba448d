//! What each request of the command line does. A handler yields events and knows no socket.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use bytes::Bytes;
use p2p_protocol::{
    FileId, PeerId,
    control::{
        Confinement, Event, Request, SendRequest, ShareRequest, ShareWith, Status, Summary, TransferEvent,
        WaitReason,
    },
    limits::CONTROL_QUEUE,
};
use tokio::{sync::mpsc, time::Instant};

use crate::session::{Begun, RunError, Sessions, Word, forward};

/// Carries out requests.
pub(crate) struct Handlers {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) facts: Facts,
}

/// What `p2p status` tells of the daemon itself.
pub(crate) struct Facts {
    pub(crate) peer: PeerId,
    pub(crate) listen: Vec<String>,
    pub(crate) home: PathBuf,
    pub(crate) inbox: PathBuf,
    pub(crate) started: Instant,
    pub(crate) confinement: Confinement,
}

/// The client has gone.
struct Gone;

/// Where a handler's events go.
struct Events(mpsc::Sender<Event>);

impl Events {
    async fn say(&self, event: Event) -> Result<(), Gone> {
        self.0.send(event).await.map_err(|_| Gone)
    }

    async fn answer(&self, result: Result<Event, RunError>) -> Result<(), Gone> {
        match result {
            Ok(event) => self.say(event).await,
            Err(error) => self.say(Event::Error(error.into_request())).await,
        }
    }
}

impl Handlers {
    /// Carries out one request. Ends early when the client goes, which ends no transfer.
    pub(crate) async fn handle(self: Arc<Self>, request: Request, events: mpsc::Sender<Event>) {
        let events = Events(events);
        // A client that has gone needs no answer.
        let _ = self.carry_out(request, &events).await;
    }

    async fn carry_out(&self, request: Request, events: &Events) -> Result<(), Gone> {
        let sessions = &self.sessions;
        match request {
            Request::Status => events.answer(self.status().await).await,
            Request::Send(send) => {
                let detach = send.detach;
                match sessions.send(send) {
                    Ok(begun) => follow_new(begun, detach, events).await,
                    Err(error) => events.answer(Err(error)).await,
                }
            }
            Request::Fetch(fetch) => {
                let detach = fetch.detach;
                match sessions.fetch(fetch).await {
                    Ok((begun, Some(bytes))) => feed(begun, bytes, events).await,
                    Ok((begun, None)) => follow_new(begun, detach, events).await,
                    Err(error) => events.answer(Err(error)).await,
                }
            }
            Request::Share(share) => self.share(share, events).await,
            Request::Unshare(id) => events.answer(sessions.unshare(id).await.map(|()| Event::Ok)).await,
            Request::List => {
                for job in sessions.registry().all() {
                    events.say(Event::Summary(job.summary())).await?;
                }
                Ok(())
            }
            Request::Show(number) => {
                events.answer(sessions.job(number).map(|job| Event::Detail(job.detail()))).await
            }
            Request::Watch(Some(number)) => match sessions.job(number) {
                Ok(job) => follow(job.watch(), events).await,
                Err(error) => events.answer(Err(error)).await,
            },
            Request::Watch(None) => follow(sessions.registry().watch_all(), events).await,
            Request::SendEach(sends) => self.send_each(sends, events).await,
            Request::WatchEach(numbers) => {
                match numbers.into_iter().map(|number| sessions.job(number)).collect::<Result<Vec<_>, _>>() {
                    Ok(jobs) => {
                        let watches = jobs.iter().map(|job| (job.number(), job.watch()));
                        follow(merge(watches.collect()), events).await
                    }
                    Err(error) => events.answer(Err(error)).await,
                }
            }
            Request::Cancel(number) => {
                let left = |left: Option<String>| left.map_or(Event::Ok, |path| Event::Left { path });
                events.answer(sessions.cancel(number).await.map(left)).await
            }
            Request::Retry(numbers) => match sessions.retry(&numbers) {
                Ok(jobs) => {
                    for job in jobs {
                        events.say(Event::Queued { transfer: job.number(), batch: job.batch() }).await?;
                    }
                    Ok(())
                }
                Err(error) => events.answer(Err(error)).await,
            },
            Request::Pause(number) => events.answer(sessions.pause(number).map(|()| Event::Ok)).await,
            Request::Resume(number) => events.answer(sessions.unpause(number).map(|()| Event::Ok)).await,
            Request::Prioritise(number, priority) => {
                events.answer(sessions.prioritise(number, priority).map(|()| Event::Ok)).await
            }
            Request::Limit { change, reset } => {
                events.answer(sessions.change_limits(change, reset).await.map(Event::Limits)).await
            }
            Request::LimitOne(number, limit) => {
                events.answer(sessions.limit(number, limit).map(|()| Event::Ok)).await
            }
            Request::Log(request) => match sessions.log(request) {
                Ok(entries) => {
                    for entry in entries {
                        events.say(Event::Log(entry)).await?;
                    }
                    Ok(())
                }
                Err(error) => events.answer(Err(error)).await,
            },
            Request::Peers => {
                for peer in sessions.peers() {
                    events.say(Event::Peer(peer)).await?;
                }
                Ok(())
            }
            Request::Trust(trust) => events.answer(sessions.trust(trust).await.map(|()| Event::Ok)).await,
            Request::Accept(number) => decided(sessions.decide(number, Word::Yes).await, events).await,
            Request::Reject(number) => decided(sessions.decide(number, Word::No).await, events).await,
            Request::Shares => match sessions.shares().await {
                Ok(shares) => {
                    for (file_id, path, audience) in shares {
                        let path = path.display().to_string();
                        events.say(Event::Shared { file_id, path, audience }).await?;
                    }
                    match sessions.tickets().await {
                        Ok(tickets) => {
                            for ticket in tickets {
                                events.say(Event::Ticket(ticket)).await?;
                            }
                            Ok(())
                        }
                        Err(error) => events.answer(Err(error)).await,
                    }
                }
                Err(error) => events.answer(Err(error)).await,
            },
            Request::PlanSend(send) => match sessions.plan_send(send).await {
                Ok((remarks, planned)) => {
                    for remark in remarks {
                        events.say(Event::Transfer(remark.event(0))).await?;
                    }
                    events.say(Event::Planned(planned)).await
                }
                Err(error) => events.answer(Err(error)).await,
            },
            Request::PlanFetch(fetch) => {
                events.answer(sessions.plan_fetch(fetch).await.map(Event::Planned)).await
            }
            Request::Entries { target, file_id } => match sessions.entries(&target, file_id).await {
                Ok(entries) => {
                    for entry in entries {
                        events.say(Event::Entry(entry)).await?;
                    }
                    Ok(())
                }
                Err(error) => events.answer(Err(error)).await,
            },
            Request::Listing(target) => match sessions.listing(&target).await {
                Ok(mut listing) => loop {
                    match listing.next_page().await {
                        Ok(Some(shares)) => {
                            for share in shares {
                                events.say(Event::Listed(share)).await?;
                            }
                        }
                        Ok(None) => return Ok(()),
                        Err(error) => return events.answer(Err(error)).await,
                    }
                },
                Err(error) => events.answer(Err(error)).await,
            },
            Request::Rule { peer, change } => {
                events.answer(sessions.rule(&peer, change).await.map(Event::Peer)).await
            }
            Request::Forget(peer) => events.answer(sessions.forget(&peer).await.map(|_| Event::Ok)).await,
            Request::Probe(target) => events.answer(sessions.probe(&target).await.map(Event::Probed)).await,
            Request::Invite(invite) => events.answer(sessions.invite(invite).await.map(Event::Invited)).await,
            Request::Invites => {
                for invitation in sessions.invitations() {
                    events.say(Event::Invitation(invitation)).await?;
                }
                Ok(())
            }
            Request::Uninvite(number) => {
                events.answer(sessions.uninvite(number).await.map(|()| Event::Ok)).await
            }
            Request::RemoveTicket(number) => {
                events.answer(sessions.remove_ticket(number).await.map(|()| Event::Ok)).await
            }
            Request::Join(join) => events.answer(sessions.join(join).await.map(Event::Joined)).await,
            Request::Ping => events.say(Event::Ok).await,
        }
    }

    async fn status(&self) -> Result<Event, RunError> {
        Ok(Event::Status(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            peer: self.facts.peer,
            listen: self.facts.listen.clone(),
            home: self.facts.home.display().to_string(),
            inbox: self.facts.inbox.display().to_string(),
            uptime_s: self.facts.started.elapsed().as_secs(),
            unfinished: self.sessions.registry().unfinished() as u64,
            connections: self.sessions.connections() as u64,
            shares: self.sessions.share_count().await?,
            confinement: self.facts.confinement.clone(),
            limits: self.sessions.limiter().in_force(),
        }))
    }

    /// Begins all of them before a word is said of any: a client that goes away does not leave half of its work undone.
    /// Begins all of them before a word is said of any: a client that goes away does not leave half of its work undone.
    async fn send_each(&self, sends: Vec<SendRequest>, events: &Events) -> Result<(), Gone> {
        let detached: Vec<bool> = sends.iter().map(|send| send.detach).collect();
        let (begun, result) = self.sessions.send_each(sends).await;
        let mut watches = BTreeMap::new();
        for (Begun { transfer, events: watch, batch }, detach) in begun.into_iter().zip(detached) {
            events.say(Event::Queued { transfer, batch }).await?;
            if !detach {
                watches.entry(transfer).or_insert(watch);
            }
        }
        match result {
            Err(error) => events.answer(Err(error)).await,
            Ok(()) => follow(merge(watches), events).await,
        }
    }

    async fn share(&self, share: ShareRequest, events: &Events) -> Result<(), Gone> {
        let (client, with) = (events.0.clone(), share.with.clone());
        // Nothing is shared for a ticket that cannot be.
        if let ShareWith::Ticket(terms) = &with
            && let Err(error) = self.sessions.check_terms(FileId([0; 32]), terms)
        {
            return events.answer(Err(error)).await;
        }
        let keep_on = move || !client.is_closed();
        events
            .say(Event::Transfer(TransferEvent::Waiting { transfer: 0, reason: WaitReason::Hashing }))
            .await?;
        let (file_id, path, audience, remarks) = match self.sessions.share(share, keep_on).await {
            Ok(shared) => shared,
            Err(error) => return events.answer(Err(error)).await,
        };
        for remark in remarks {
            events.say(Event::Transfer(remark.event(0))).await?;
        }
        events.say(Event::Shared { file_id, path: path.display().to_string(), audience }).await?;
        match with {
            ShareWith::Ticket(terms) => {
                events.answer(self.sessions.make_ticket(file_id, terms).await.map(Event::Ticketed)).await
            }
            _ => Ok(()),
        }
    }
}

async fn decided(result: Result<Vec<Summary>, RunError>, events: &Events) -> Result<(), Gone> {
    match result {
        Ok(decided) => {
            for summary in decided {
                events.say(Event::Summary(summary)).await?;
            }
            Ok(())
        }
        Err(error) => events.answer(Err(error)).await,
    }
}

async fn follow_new(begun: Begun, detach: bool, events: &Events) -> Result<(), Gone> {
    events.say(Event::Queued { transfer: begun.transfer, batch: begun.batch }).await?;
    if detach { Ok(()) } else { follow(begun.events, events).await }
}

/// Passes on what happens until the transfer ends. Where the events stop before that, because the client was
/// too slow or the daemon stops, the connection just closes, and the client may attach again.
async fn follow(mut watch: mpsc::Receiver<TransferEvent>, events: &Events) -> Result<(), Gone> {
    loop {
        let event = tokio::select! {
            event = watch.recv() => event,
            () = events.0.closed() => return Err(Gone),
        };
        match event {
            Some(event) => events.say(Event::Transfer(event)).await?,
            None => return Ok(()),
        }
    }
}

/// The events of several transfers, which end when each has ended.
fn merge(watches: BTreeMap<u64, mpsc::Receiver<TransferEvent>>) -> mpsc::Receiver<TransferEvent> {
    let (sender, merged) = mpsc::channel(CONTROL_QUEUE);
    for watch in watches.into_values() {
        tokio::spawn(forward(watch, sender.clone()));
    }
    merged
}

/// Data and events of a file that goes to the client's standard output.
async fn feed(begun: Begun, mut bytes: mpsc::Receiver<Bytes>, events: &Events) -> Result<(), Gone> {
    let Begun { transfer, events: mut watch, batch } = begun;
    events.say(Event::Queued { transfer, batch }).await?;
    loop {
        tokio::select! {
            biased;
            Some(data) = bytes.recv() => events.say(Event::Data(data.to_vec())).await?,
            event = watch.recv() => match event {
                Some(event) => {
                    // The transfer ends only after its last bytes are in the queue; they go out first.
                    if event.is_last() {
                        while let Ok(data) = bytes.try_recv() {
                            events.say(Event::Data(data.to_vec())).await?;
                        }
                    }
                    events.say(Event::Transfer(event)).await?;
                }
                None => return Ok(()),
            },
            () = events.0.closed() => return Err(Gone),
        }
    }
}
