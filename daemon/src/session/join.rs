//! Joining a machine that has given this one an invitation.

use std::{net::SocketAddr, time::Duration};

use p2p_protocol::{
    PeerId,
    control::{Happening, JoinRequest, JoinedPeer},
    limits::MAX_FIRST_FRAME_LEN,
    policy::Rights,
    reason::{Failure, PeerMisbehaved, RefuseReason, close},
    token::{Grant, Token},
    wire::peer::{Join, Joined, Message},
};
use tokio::{task::JoinSet, time::timeout};

use super::{
    Sessions, blocking,
    error::RunError,
    invite::{binding, own_name, place_of},
    links::resolve,
    say,
};
use crate::{
    peers::{Place, Target},
    transport::{Connection, TransportError},
};

/// Somewhere the other machine is found, and it answers, each within this.
const DEADLINE: Duration = Duration::from_secs(8);

impl Sessions {
    /// Proves to have an invitation, after which both machines trust each other.
    pub(crate) async fn join(&self, request: JoinRequest) -> Result<JoinedPeer, RunError> {
        let usage = |message: String| RunError::new(Failure::Usage, message);
        let token = request.token.parse().map_err(|error| usage(error.to_string()))?;
        if token.grant != Grant::Join {
            return Err(usage(
                "this token is a ticket, and no invitation; use it with `p2p fetch`".to_owned(),
            ));
        }
        if !request.send && !request.fetch {
            return Err(crate::peers::PeersError::NoRight.into());
        }
        let name = own_name(request.name)?;
        let (connection, found) = self.find(&token).await?;
        let answer = timeout(DEADLINE, claim(&connection, &token, name)).await;
        connection.close(close::IDLE, "");
        let answer = answer.unwrap_or_else(|_| {
            let message = format!("{found} took the connection and does not answer");
            Err(RunError::new(Failure::Unreachable, message))
        })?;
        let mut places = vec![found.clone()];
        places.extend(token.addresses.iter().filter_map(|address| place_of(address).ok()));
        let (peers, peer) = (self.peers.clone(), token.peer);
        let rights = Rights { send: request.send, fetch: request.fetch };
        let name =
            blocking(&self.workers, move || peers.befriend(peer, &answer.name, rights, places)).await??;
        tracing::info!(%peer, name, "joined by its invitation, and trusted");
        self.note_peer(Happening::Trusted, peer, &name);
        Ok(JoinedPeer { peer, name, address: found.to_string() })
    }

    /// A connection to the machine that gave a token, at whichever of its addresses answers first with its key.
    pub(super) async fn find(&self, token: &Token) -> Result<(Connection, Place), RunError> {
        let own = self.links.endpoint().peer_id();
        if token.peer == own {
            return Err(RunError::new(
                Failure::Usage,
                "this token is this machine's own; use it on another one",
            ));
        }
        let mut tries = JoinSet::new();
        for address in &token.addresses {
            let place = place_of(address)?;
            let typed = place.to_string();
            let target = Target { typed, places: vec![place.clone()], expected: None, is_name_or_id: false };
            let (endpoint, meant) = (self.links.endpoint().clone(), token.peer);
            tries.spawn(async move {
                let mut failed = None;
                for address in resolve(&target).await? {
                    match timeout(DEADLINE, endpoint.connect(address)).await {
                        Ok(Ok(connection)) => match check(connection, meant, address) {
                            Ok(connection) => return Ok((connection, place)),
                            Err(error) => failed = Some(error),
                        },
                        Ok(Err(error)) => failed = Some(refused(error)),
                        Err(_) => {}
                    }
                }
                let silent =
                    || RunError::new(Failure::Unreachable, format!("{} did not answer", target.typed));
                Err(failed.unwrap_or_else(silent))
            });
        }
        let mut failures: Vec<RunError> = Vec::new();
        while let Some(ended) = tries.join_next().await {
            match ended {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => failures.push(error),
                Err(error) => tracing::debug!(%error, "a try did not end in order"),
            }
        }
        // An answer says more than none.
        failures.sort_by_key(|error| error.failure == Failure::Unreachable);
        let failure = failures.first().map_or(Failure::Usage, |error| error.failure);
        let mut messages: Vec<String> = failures.into_iter().map(|error| error.message).collect();
        messages.dedup();
        if messages.is_empty() {
            messages.push("the token has no address to dial".to_owned());
        }
        Err(RunError::new(failure, messages.join("; ")))
    }
}

/// The right machine, or none: nothing is said to another one.
fn check(connection: Connection, meant: PeerId, address: SocketAddr) -> Result<Connection, RunError> {
    let found = connection.peer_id();
    if found == meant {
        return Ok(connection);
    }
    connection.close(close::WRONG_PEER, "");
    let message = format!(
        "another machine answers at {address}: {meant} gave the token, {found} was found. Nothing was said to it"
    );
    Err(RunError { key: Some(found), ..RunError::new(Failure::Refused, message) })
}

/// A machine that has nothing for strangers closes their connections at once: the invitation is no more.
fn refused(error: TransportError) -> RunError {
    match error {
        TransportError::Closed { code: close::NOT_TRUSTED, .. } => RunError::refused(RefuseReason::NoToken),
        error => error.into(),
    }
}

async fn claim(connection: &Connection, token: &Token, name: String) -> Result<Joined, RunError> {
    let proof = token.key().prove(&binding(connection, true)?);
    let mut control = connection.open_control().await.map_err(refused)?;
    let join = Join { invitation: token.id(), proof, name };
    say(&mut control, &Message::Join(join)).await?;
    control.sender.finish();
    match control.receiver.recv(MAX_FIRST_FRAME_LEN).await.map_err(refused)? {
        Some(Message::Joined(joined)) => Ok(joined),
        Some(Message::Refuse(reason)) => Err(RunError::refused(reason)),
        Some(other) => Err(PeerMisbehaved::UnexpectedMessage(other.name()).into()),
        None => Err(RunError::new(Failure::Unreachable, "the peer ended the conversation without an answer")),
    }
}
