//! Tickets: one thing that whoever has the token may fetch. Made and judged here, and used.

use std::{sync::Arc, time::Duration};

use p2p_protocol::{
    FileId,
    control::{FetchRequest, KeyPolicy, TicketInfo, TicketTerms, Ticketed, TokenText},
    limits::{MAX_TICKET_AGE, MAX_TICKETS},
    reason::{Failure, RefuseReason},
    token::{ClaimId, Grant, Proof},
    wire::peer::{Fetch, Message, Redeem},
};

use super::{
    Sessions, blocking,
    error::RunError,
    invite::{binding, place_of},
    job::{Job, now_ms},
    links::Link,
    spec::Spec,
};
use crate::store::{TicketClaim, TicketVerdict};

impl Sessions {
    /// Makes a ticket for what is shared.
    pub(crate) async fn make_ticket(
        &self,
        file_id: FileId,
        terms: TicketTerms,
    ) -> Result<Ticketed, RunError> {
        self.check_terms(file_id, &terms)?;
        let TicketTerms { uses, expires_s, addresses } = terms;
        let (token, addresses) = self.token(Grant::Fetch(file_id), &addresses)?;
        let created_ms = now_ms();
        let expires_ms = expires_s.map(|seconds| created_ms.saturating_add(seconds.saturating_mul(1000)));
        let ticket = TicketInfo { number: 0, file_id, uses, used: 0, created_ms, expires_ms };
        let (store, text, kept) = (self.store.clone(), TokenText(token.to_string()), ticket.clone());
        let put = blocking(&self.workers, move || store.catalog().put_ticket(token.id(), &token.key(), kept));
        let number = put.await??.ok_or_else(|| {
            let message =
                format!("{MAX_TICKETS} tickets hold, the most; take some back with `p2p unshare --ticket N`");
            RunError::new(Failure::Conflict, message)
        })?;
        tracing::info!(ticket = number, %file_id, "ticket made");
        Ok(Ticketed { token: text, ticket: TicketInfo { number, ..ticket }, addresses })
    }

    /// Whether a ticket can be made on these terms, for whatever it is.
    pub(crate) fn check_terms(&self, file_id: FileId, terms: &TicketTerms) -> Result<(), RunError> {
        let holds = terms.expires_s.map(Duration::from_secs);
        if terms.uses == Some(0) || holds.is_some_and(|holds| holds.is_zero() || holds > MAX_TICKET_AGE) {
            let days = MAX_TICKET_AGE.as_secs() / (24 * 3600);
            let message = format!("a ticket is for one machine at least, and holds from 1 s to {days} days");
            return Err(RunError::new(Failure::Usage, message));
        }
        self.token(Grant::Fetch(file_id), &terms.addresses).map(drop)
    }

    /// All tickets that hold.
    pub(crate) async fn tickets(&self) -> Result<Vec<TicketInfo>, RunError> {
        let store = self.store.clone();
        Ok(blocking(&self.workers, move || store.catalog().tickets(now_ms())).await??)
    }

    /// Takes a ticket back, also from those who fetch by it just now.
    pub(crate) async fn remove_ticket(self: &Arc<Self>, number: u64) -> Result<(), RunError> {
        let store = self.store.clone();
        let Some(id) = blocking(&self.workers, move || store.catalog().remove_ticket(number)).await?? else {
            let message = format!("there is no ticket {number}; `p2p shares` shows all");
            return Err(RunError::new(Failure::NotFound, message));
        };
        tracing::info!(ticket = number, "ticket taken back");
        self.stop_serving(|job| job.ticket() == Some(id)).await;
        Ok(())
    }

    /// Ends what is served to peers and may be no longer.
    pub(super) async fn stop_serving(self: &Arc<Self>, which: impl Fn(&Job) -> bool) {
        for job in self.registry.all() {
            if matches!(job.spec(), Spec::Serve { .. }) && !job.is_over() && which(&job) {
                // One that has just ended needs no end.
                let _ = self.cancel(job.number()).await;
            }
        }
    }

    /// Whether a peer may fetch something because it has a ticket for it; the answer to it where it may not.
    pub(super) async fn admits(
        &self,
        link: &Link,
        file_id: FileId,
        (id, proof): (ClaimId, Proof),
    ) -> Result<Result<(), RefuseReason>, RunError> {
        let (peer, address) = (link.peer(), link.connection().remote_addr());
        if self.wrong_claims.is_locked(address.ip()) {
            tracing::warn!(%peer, %address, "a claim was not looked at: too many from there did not hold");
            return Ok(Err(RefuseReason::Locked));
        }
        let binding = binding(link.connection(), false)?;
        let claim = TicketClaim { id, proof, binding, file_id, now_ms: now_ms() };
        let store = self.store.clone();
        let verdict = blocking(&self.workers, move || store.catalog().claim_ticket(claim)).await??;
        if verdict == TicketVerdict::Good {
            tracing::info!(%peer, %file_id, ticket = %id, "fetches by a ticket");
            return Ok(Ok(()));
        }
        self.wrong_claims.add(address.ip());
        let why = match verdict {
            TicketVerdict::Wrong => "wrong proof",
            _ => "no such ticket, or used up or expired",
        };
        tracing::warn!(%peer, %address, %file_id, ticket = %id, why, "a claim was refused");
        Ok(Err(RefuseReason::NoToken))
    }

    /// What a ticket asks for: its giver becomes known, with the addresses that the ticket says, and is asked by its Peer ID, so
    /// that no other machine is, and no pin of an address changes.
    pub(super) async fn with_ticket(&self, request: FetchRequest) -> Result<FetchRequest, RunError> {
        let Some(ticket) = &request.ticket else { return Ok(request) };
        let usage = |message: &str| RunError::new(Failure::Usage, message);
        let token = ticket.parse().map_err(|error| usage(&error.to_string()))?;
        let Grant::Fetch(file_id) = token.grant else {
            return Err(usage("this token is an invitation, and no ticket; use it with `p2p join`"));
        };
        if token.peer == self.links.endpoint().peer_id() {
            return Err(usage("this token is this machine's own; use it on another one"));
        }
        let places = token.addresses.iter().map(place_of).collect::<Result<Vec<_>, _>>()?;
        let (peers, peer) = (self.peers.clone(), token.peer);
        blocking(&self.workers, move || peers.know(peer, places)).await??;
        Ok(FetchRequest { file_id, from: vec![peer.to_string()], key: KeyPolicy::Known, ..request })
    }
}

/// The first message of a fetch: with the ticket, where it has one.
pub(super) fn asking(job: &Job, link: &Link, fetch: Fetch) -> Result<Message, RunError> {
    let Spec::Fetch { ticket: Some(ticket), .. } = job.spec() else { return Ok(Message::Fetch(fetch)) };
    let token = ticket.parse().map_err(|error| RunError::new(Failure::Usage, error.to_string()))?;
    let proof = token.key().prove(&binding(link.connection(), true)?);
    Ok(Message::Redeem(Redeem { ticket: token.id(), proof, fetch }))
}

/// Where what was fetched can be had again by its File ID: not where it took a ticket, or is a part of something.
pub(super) fn fetchable_again(job: &Job, target: &str) -> Option<String> {
    let once = job.spec().is_choosy() || matches!(job.spec(), Spec::Fetch { ticket: Some(_), .. });
    (!once).then(|| target.to_owned())
}
