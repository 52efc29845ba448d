//! Invitations that this machine gives, and the claims of those who have them.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use p2p_protocol::{
    control::{Happening, InvitationInfo, InviteRequest, Invited, TokenText},
    limits::MAX_INVITATION_AGE,
    policy::Rights,
    reason::{Failure, RefuseReason},
    throttle::Throttle,
    token::{Address, Binding, Grant, SECRET_LEN, Secret, Token},
    wire::peer::{Join, Joined, Message},
};
use tokio::time::Instant;

use super::{Sessions, blocking, error::RunError, job::now_ms, links::Link, say};
use crate::{
    peers::{Claim, Place, Redeemed, check_name},
    transport::{Connection, ControlStream},
};

/// Where claims came from that did not hold.
#[derive(Debug)]
pub(super) struct WrongClaims {
    since: Instant,
    from: Mutex<Throttle<IpAddr>>,
}

impl WrongClaims {
    pub(super) fn none() -> Self {
        Self { since: Instant::now(), from: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Throttle<IpAddr>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_locked(&self, address: IpAddr) -> bool {
        self.lock().is_locked(&neighbourhood(address), self.since.elapsed())
    }

    pub(super) fn add(&self, address: IpAddr) {
        self.lock().was_wrong(neighbourhood(address), self.since.elapsed());
    }
}

/// What one attacker may well have many of: an IPv6 network of the smallest kind.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// What is true of one connection alone, where the holder of a secret is at the one end and its giver at the other.
pub(super) fn binding(connection: &Connection, holder_is_here: bool) -> Result<Binding, RunError> {
    let exporter = connection.exporter().ok_or_else(|| {
        RunError::new(Failure::Other, "the connection has nothing that a proof could be bound to")
    })?;
    let (own, peer) = (connection.own_id(), connection.peer_id());
    let (holder, giver) = if holder_is_here { (own, peer) } else { (peer, own) };
    Ok(Binding { exporter, holder, giver })
}

/// What this machine would like to be called: what was said, or its host name.
pub(super) fn own_name(said: Option<String>) -> Result<String, RunError> {
    match said {
        Some(name) => match check_name(&name) {
            Ok(()) => Ok(name),
            Err(fault) => Err(RunError::new(Failure::Usage, format!("{name:?}: {fault}"))),
        },
        None => Ok(rustix::system::uname().nodename().to_string_lossy().into_owned()),
    }
}

/// As a token says it; `None` for what no token can say, such as an address with a scope.
fn address_of(place: &Place) -> Option<Address> {
    let port = place.port;
    match place.host.parse::<IpAddr>() {
        Ok(IpAddr::V4(host)) => Some(Address::V4(host.octets(), port)),
        Ok(IpAddr::V6(host)) => Some(Address::V6(host.octets(), port)),
        Err(_) if place.host.contains(':') => None,
        Err(_) => Some(Address::Name(place.host.clone(), port)),
    }
}

impl Sessions {
    /// A new token, with addresses as typed, or those at which this machine listens.
    pub(super) fn token(&self, grant: Grant, typed: &[String]) -> Result<(Token, Vec<String>), RunError> {
        let usage = |error: &dyn std::fmt::Display| RunError::new(Failure::Usage, error.to_string());
        let endpoint = self.links.endpoint();
        let places: Vec<Place> = if typed.is_empty() {
            endpoint.own_addresses().into_iter().map(Place::from).collect()
        } else {
            typed
                .iter()
                .map(|typed| Place::parse(typed))
                .collect::<Result<_, _>>()
                .map_err(|error| usage(&error))?
        };
        let mut addresses = Vec::new();
        for place in &places {
            match address_of(place) {
                Some(address) => addresses.push(address),
                None => {
                    return Err(usage(&format_args!(
                        "{place}: an address with a scope means nothing elsewhere"
                    )));
                }
            }
        }
        let secret = Secret::new(rand::random::<[u8; SECRET_LEN]>());
        let token = Token::new(grant, endpoint.peer_id(), secret, addresses);
        let said = token.addresses.iter().map(|address| place_of(address).map(|place| place.to_string()));
        let said = said.collect::<Result<Vec<_>, _>>()?;
        if said.is_empty() {
            let message =
                "no address of this machine is known; say where it can be reached with --address host:port";
            return Err(RunError::new(Failure::Usage, message));
        }
        Ok((token, said))
    }

    /// Makes an invitation.
    pub(crate) async fn invite(&self, request: InviteRequest) -> Result<Invited, RunError> {
        let holds = Duration::from_secs(request.expires_s);
        if holds.is_zero() || holds > MAX_INVITATION_AGE {
            let days = MAX_INVITATION_AGE.as_secs() / (24 * 3600);
            return Err(RunError::new(
                Failure::Usage,
                format!("an invitation holds from 1 s to {days} days"),
            ));
        }
        let name = own_name(request.name)?;
        let (token, addresses) = self.token(Grant::Join, &request.addresses)?;
        let (peers, text) = (self.peers.clone(), TokenText(token.to_string()));
        let rights = Rights { send: request.send, fetch: request.fetch };
        let made = blocking(&self.workers, move || peers.invite(&token, rights, name, now_ms(), holds));
        let (number, expires_ms) = made.await??;
        tracing::info!(invitation = number, send = rights.send, fetch = rights.fetch, "invitation made");
        Ok(Invited { token: text, number, expires_ms, addresses })
    }

    /// All invitations that hold.
    pub(crate) fn invitations(&self) -> Vec<InvitationInfo> {
        self.peers.invitations(now_ms())
    }

    /// Takes an invitation back.
    pub(crate) async fn uninvite(&self, number: u64) -> Result<(), RunError> {
        let peers = self.peers.clone();
        blocking(&self.workers, move || peers.uninvite(number)).await??;
        tracing::info!(invitation = number, "invitation taken back");
        Ok(())
    }

    /// Answers the claim of an invitation. Why one does not hold its owner can see in the log; the other side gets one answer for all.
    pub(super) async fn redeem(
        &self,
        link: &Link,
        control: &mut ControlStream,
        join: Join,
    ) -> Result<(), RunError> {
        let (peer, address) = (link.peer(), link.connection().remote_addr());
        if self.wrong_claims.is_locked(address.ip()) {
            tracing::warn!(%peer, %address, "a claim was not looked at: too many from there did not hold");
            return say(control, &Message::Refuse(RefuseReason::Locked)).await;
        }
        let claim = Claim {
            id: join.invitation,
            proof: join.proof,
            binding: binding(link.connection(), false)?,
            name: join.name,
            address,
            now_ms: now_ms(),
        };
        let peers = self.peers.clone();
        match blocking(&self.workers, move || peers.redeem(&claim)).await? {
            Ok(Redeemed::Welcome { name, own_name }) => {
                tracing::info!(%peer, name, "has joined by invitation, and is trusted");
                self.note_peer(Happening::Trusted, peer, &name);
                say(control, &Message::Joined(Joined { name: own_name })).await
            }
            Ok(refused) => {
                self.wrong_claims.add(address.ip());
                let why = match refused {
                    Redeemed::Wrong => "wrong proof",
                    _ => "no such invitation, or used or expired",
                };
                tracing::warn!(%peer, %address, invitation = %join.invitation, why, "a claim was refused");
                say(control, &Message::Refuse(RefuseReason::NoToken)).await
            }
            Err(error) => {
                say(control, &Message::Refuse(RefuseReason::Busy)).await?;
                Err(error.into())
            }
        }
    }
}

/// As the daemon dials it.
pub(super) fn place_of(address: &Address) -> Result<Place, RunError> {
    let (host, port) = match address {
        Address::V4(host, port) => (IpAddr::from(*host).to_string(), *port),
        Address::V6(host, port) => (format!("[{}]", IpAddr::from(*host)), *port),
        Address::Name(host, port) => (host.clone(), *port),
    };
    Place::parse(&format!("{host}:{port}")).map_err(|error| RunError::new(Failure::Usage, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_through_a_token_and_back() {
        for typed in ["192.0.2.1:5", "[2001:db8::1]:4419", "nas.example:1"] {
            let place = Place::parse(typed).unwrap();
            assert_eq!(place_of(&address_of(&place).unwrap()).unwrap(), place);
        }
        assert_eq!(address_of(&Place::parse("[fe80::1%eth0]:5").unwrap()), None);
        assert!(place_of(&Address::Name("a..b".into(), 1)).is_err());
    }

    /// Fault 77.
    #[test]
    fn one_network_is_one_guesser() {
        let wrong = WrongClaims::none();
        for n in 0..p2p_protocol::limits::MAX_WRONG_CLAIMS {
            wrong.add(format!("2001:db8:0:1::{n}").parse().unwrap());
        }
        assert!(wrong.is_locked("2001:db8:0:1:ffff::".parse().unwrap()));
        assert!(!wrong.is_locked("2001:db8:0:2::".parse().unwrap()));
        assert!(!wrong.is_locked("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_name_that_was_said_is_checked() {
        assert_eq!(own_name(Some("bob".into())).unwrap(), "bob");
        assert_eq!(own_name(Some("a b".into())).unwrap_err().failure, Failure::Usage);
        assert!(!own_name(None).unwrap().is_empty());
    }
}
