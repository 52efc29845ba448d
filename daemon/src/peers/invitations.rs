//! Invitations: what lets a stranger in, once. They are kept in the trust file, so that one write takes an invitation and gives the
//! trust: whenever the daemon is killed, there is the one or the other.
//!
//! ```text
//!  made ──▶ open ──▶ used by a peer, which may claim it again: it may not have heard the answer
//!            │ │
//!            │ └──▶ void: too many wrong proofs
//!            └────▶ taken back, or expired
//! ```

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use p2p_protocol::{
    PeerId,
    control::InvitationInfo,
    limits::{CLOCK_SLACK, MAX_INVITATIONS, MAX_WRONG_CLAIMS},
    policy::Rights,
    token::{Binding, ClaimId, ClaimKey, Proof, Token},
};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    Peers, PeersError,
    book::{Book, Entry},
    file::{Mistake, Right, peer_id},
    target::Place,
};

/// All invitations of a home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Invitations(BTreeMap<ClaimId, Invitation>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Invitation {
    number: u64,
    /// A hash of the secret, which is kept nowhere.
    key: ClaimKey,
    /// What who joins may do here.
    rights: Rights,
    /// What this machine would like to be called by who joins.
    name: String,
    created_ms: u64,
    expires_ms: u64,
    wrong: u32,
    used_by: Option<PeerId>,
}

/// What a peer says to have, with what is true of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Which invitation.
    pub(crate) id: ClaimId,
    pub(crate) proof: Proof,
    pub(crate) binding: Binding,
    /// What the peer would like to be called.
    pub(crate) name: String,
    /// Where it calls from.
    pub(crate) address: SocketAddr,
    pub(crate) now_ms: u64,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redeemed {
    /// The peer is trusted now.
    Welcome {
        /// Its name here.
        name: String,
        /// What this machine would like to be called there.
        own_name: String,
    },
    /// There is no such invitation, or it is used, expired or void.
    Closed,
    /// The proof is wrong.
    Wrong,
}

impl Invitation {
    /// Whether it holds at this time. One from the future was made by a clock that has been set back since: how old it is nobody
    /// knows.
    fn holds(&self, now_ms: u64) -> bool {
        let slack = u64::try_from(CLOCK_SLACK.as_millis()).unwrap_or(u64::MAX);
        self.created_ms <= now_ms.saturating_add(slack) && now_ms < self.expires_ms
    }
}

impl Invitations {
    fn prune(&mut self, now_ms: u64) {
        self.0.retain(|_, invitation| invitation.holds(now_ms));
    }

    /// Those that this peer has used let it in no more.
    pub(super) fn forget(&mut self, id: &PeerId) {
        self.0.retain(|_, invitation| invitation.used_by.as_ref() != Some(id));
    }

    /// Those that a peer has used under an old key are its own under the new one.
    pub(super) fn follow(&mut self, new: PeerId, gone: &[PeerId]) {
        let used = self.0.values_mut().filter_map(|invitation| invitation.used_by.as_mut());
        used.filter(|by| gone.contains(by)).for_each(|by| *by = new);
    }

    /// The largest number of one that is there.
    pub(super) fn last_number(&self) -> u64 {
        self.0.values().map(|invitation| invitation.number).max().unwrap_or(0)
    }

    pub(super) fn decode(tables: &[InvitationTable]) -> Result<Self, Mistake> {
        let mut all = Self::default();
        for table in tables {
            let id = data_encoding::HEXLOWER.decode(table.id.get_ref().as_bytes()).ok();
            let id = id.and_then(|id| id.try_into().ok()).map(ClaimId);
            let id = id.ok_or_else(|| Mistake::new(&table.id, "not the name of an invitation"))?;
            let key = ClaimKey::from_hex(table.key.get_ref());
            let invitation = Invitation {
                number: table.number,
                key: key.ok_or_else(|| Mistake::new(&table.key, "not the hash of a secret"))?,
                rights: Right::rights(&table.allow),
                name: table.name.clone(),
                created_ms: table.created_ms,
                expires_ms: table.expires_ms,
                wrong: table.wrong,
                used_by: table.used_by.as_ref().map(peer_id).transpose()?,
            };
            if all.0.insert(id, invitation).is_some() {
                return Err(Mistake::new(&table.id, "this invitation is in the file twice"));
            }
        }
        Ok(all)
    }

    pub(super) fn encode(&self) -> Vec<InvitationTable> {
        let text = |text: String| Spanned::new(0..0, text);
        let table = |(id, invitation): (&ClaimId, &Invitation)| InvitationTable {
            number: invitation.number,
            id: text(id.to_string()),
            key: text(invitation.key.to_hex()),
            allow: Right::list(invitation.rights),
            name: invitation.name.clone(),
            created_ms: invitation.created_ms,
            expires_ms: invitation.expires_ms,
            wrong: invitation.wrong,
            used_by: invitation.used_by.map(|id| text(id.to_string())),
        };
        self.0.iter().map(table).collect()
    }
}

/// An invitation in the trust file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InvitationTable {
    number: u64,
    id: Spanned<String>,
    key: Spanned<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow: Vec<Right>,
    name: String,
    created_ms: u64,
    expires_ms: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    wrong: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used_by: Option<Spanned<String>>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Book {
    /// Trusts a peer that joins, or that was joined. Its name and what else it may do stay where it has them.
    fn welcome(&mut self, id: PeerId, wish: &str, rights: Rights) -> (&mut Entry, String) {
        let known = self.peers.get(&id).and_then(|entry| entry.name.clone());
        let name = known.unwrap_or_else(|| self.name_for(&id, wish));
        let entry = self.peers.entry(id).or_default();
        let Rights { send, fetch } = entry.rights;
        entry.rights = Rights { send: send || rights.send, fetch: fetch || rights.fetch };
        entry.name = Some(name.clone());
        (entry, name)
    }

    fn redeem(&mut self, claim: &Claim) -> Redeemed {
        self.invitations.prune(claim.now_ms);
        let peer = claim.binding.holder;
        let Some(invitation) = self.invitations.0.get_mut(&claim.id) else { return Redeemed::Closed };
        if !invitation.key.accepts(&claim.proof, &claim.binding) {
            invitation.wrong += 1;
            if invitation.wrong >= MAX_WRONG_CLAIMS {
                self.invitations.0.remove(&claim.id);
            }
            return Redeemed::Wrong;
        }
        if invitation.used_by.is_some_and(|by| by != peer) {
            return Redeemed::Closed;
        }
        invitation.used_by = Some(peer);
        let (rights, own_name) = (invitation.rights, invitation.name.clone());
        let (entry, name) = self.welcome(peer, &claim.name, rights);
        entry.hint(Place::from(claim.address));
        Redeemed::Welcome { name, own_name }
    }
}

impl Peers {
    /// Makes an invitation of a token's: its number.
    pub(crate) fn invite(
        &self,
        token: &Token,
        rights: Rights,
        name: String,
        now_ms: u64,
        holds: Duration,
    ) -> Result<(u64, u64), PeersError> {
        if !rights.send && !rights.fetch {
            return Err(PeersError::NoRight);
        }
        let expires_ms = now_ms.saturating_add(u64::try_from(holds.as_millis()).unwrap_or(u64::MAX));
        let (id, key) = (token.id(), token.key());
        self.change(|book| {
            let all = &mut book.invitations;
            all.prune(now_ms);
            if all.0.len() >= MAX_INVITATIONS {
                return Err(PeersError::TooManyInvitations);
            }
            let number = book.last_invitation.max(all.last_number()).saturating_add(1);
            book.last_invitation = number;
            let (created_ms, wrong, used_by) = (now_ms, 0, None);
            all.0
                .insert(id, Invitation { number, key, rights, name, created_ms, expires_ms, wrong, used_by });
            Ok((number, expires_ms))
        })
    }

    /// All invitations that hold, the oldest first.
    pub(crate) fn invitations(&self, now_ms: u64) -> Vec<InvitationInfo> {
        let book = self.book();
        let known_as = |id: &PeerId| {
            book.peers.get(id).and_then(|entry| entry.name.clone()).unwrap_or_else(|| id.to_string())
        };
        let holding = book.invitations.0.values().filter(|invitation| invitation.holds(now_ms));
        let mut all: Vec<InvitationInfo> = holding
            .map(|invitation| InvitationInfo {
                number: invitation.number,
                send: invitation.rights.send,
                fetch: invitation.rights.fetch,
                created_ms: invitation.created_ms,
                expires_ms: invitation.expires_ms,
                used_by: invitation.used_by.as_ref().map(known_as),
            })
            .collect();
        all.sort_by_key(|invitation| invitation.number);
        all
    }

    /// Whether a stranger may have something to claim.
    pub(crate) fn invites_anybody(&self, now_ms: u64) -> bool {
        self.book().invitations.0.values().any(|invitation| invitation.holds(now_ms))
    }

    /// Takes an invitation back. Who has joined by it stays trusted.
    pub(crate) fn uninvite(&self, number: u64) -> Result<(), PeersError> {
        self.change(|book| {
            let before = book.invitations.0.len();
            book.invitations.0.retain(|_, invitation| invitation.number != number);
            if book.invitations.0.len() == before {
                return Err(PeersError::NoInvitation(number));
            }
            Ok(())
        })
    }

    /// Takes a claim. When this returns, what came of it is durable.
    pub(crate) fn redeem(&self, claim: &Claim) -> Result<Redeemed, PeersError> {
        self.change(|book| Ok(book.redeem(claim)))
    }

    /// Notes where a peer may be found, which makes it known and gives it no right. What was known before comes first.
    pub(crate) fn know(&self, id: PeerId, addresses: Vec<Place>) -> Result<(), PeersError> {
        self.change(|book| {
            let entry = book.peers.entry(id).or_default();
            addresses.into_iter().for_each(|place| entry.hint(place));
            Ok(())
        })
    }

    /// Trusts a machine that has let this one in: its name here. Of its addresses the first is the one that it was found at.
    pub(crate) fn befriend(
        &self,
        id: PeerId,
        wish: &str,
        rights: Rights,
        addresses: Vec<Place>,
    ) -> Result<String, PeersError> {
        self.change(|book| {
            let (entry, name) = book.welcome(id, wish, rights);
            addresses.into_iter().rev().for_each(|place| entry.prefer(place));
            Ok(name)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use p2p_protocol::token::{Grant, Secret};

    use super::*;
    use crate::{disk::System, workers::Workers};

    const OWN: PeerId = PeerId([1; 32]);
    const BOB: PeerId = PeerId([2; 32]);
    const EVE: PeerId = PeerId([3; 32]);
    const BOTH: Rights = Rights { send: true, fetch: true };
    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: u64 = 1_800_000_000_000;

    struct Home {
        folder: tempfile::TempDir,
        peers: Peers,
    }

    impl Home {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let peers = Self::load(&folder);
            Self { folder, peers }
        }

        fn load(folder: &tempfile::TempDir) -> Peers {
            Peers::load(Arc::new(System), Workers::Threads, folder.path()).unwrap()
        }

        /// As after a crash.
        fn restart(&mut self) {
            self.peers = Self::load(&self.folder);
        }

        fn invite(&self, secret: u8) -> Token {
            let token = Token::new(Grant::Join, OWN, Secret::new([secret; 16]), Vec::new());
            self.peers.invite(&token, BOTH, "alice".into(), NOW, HOUR).unwrap();
            token
        }

        fn text(&self) -> String {
            std::fs::read_to_string(self.folder.path().join("peers.toml")).unwrap()
        }
    }

    /// What an honest holder says.
    fn claim(token: &Token, holder: PeerId, now_ms: u64) -> Claim {
        let binding = Binding { exporter: [9; 32], holder, giver: OWN };
        let address = "192.0.2.1:5".parse().unwrap();
        Claim {
            id: token.id(),
            proof: token.key().prove(&binding),
            binding,
            name: "bob.example".into(),
            address,
            now_ms,
        }
    }

    fn welcome(name: &str) -> Redeemed {
        Redeemed::Welcome { name: name.into(), own_name: "alice".into() }
    }

    /// Fault 77.
    #[test]
    fn an_invitation_lets_one_peer_in_and_no_other_whenever_the_daemon_is_killed() {
        let mut home = Home::new();
        let token = home.invite(5);
        home.restart();
        assert!(home.peers.invites_anybody(NOW));
        assert_eq!(home.peers.redeem(&claim(&token, BOB, NOW)).unwrap(), welcome("bob"));
        assert!(home.peers.is_trusted(&BOB));
        home.restart();
        assert!(home.peers.is_trusted(&BOB));
        // Who has not heard the answer asks again.
        assert_eq!(home.peers.redeem(&claim(&token, BOB, NOW)).unwrap(), welcome("bob"));
        assert_eq!(home.peers.redeem(&claim(&token, EVE, NOW)).unwrap(), Redeemed::Closed);
        assert!(!home.peers.is_trusted(&EVE));
        assert_eq!(home.peers.invitations(NOW)[0].used_by.as_deref(), Some("bob"));
        assert_eq!(home.peers.list()[0].addresses, ["192.0.2.1:5"]);
        // What was taken from it does not come back by the same invitation.
        home.peers.forget("bob").unwrap();
        assert_eq!(home.peers.redeem(&claim(&token, BOB, NOW)).unwrap(), Redeemed::Closed);
        assert!(!home.peers.is_trusted(&BOB));
    }

    #[test]
    fn two_at_once_are_one() {
        let home = Home::new();
        let token = home.invite(5);
        let claims: Vec<Claim> = (10..26).map(|n| claim(&token, PeerId([n; 32]), NOW)).collect();
        let let_in = std::thread::scope(|scope| {
            let tries = claims.iter().map(|claim| scope.spawn(|| home.peers.redeem(claim).unwrap()));
            let tries: Vec<_> = tries.collect();
            tries.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(let_in.iter().filter(|one| **one != Redeemed::Closed).count(), 1, "{let_in:?}");
        assert_eq!(home.peers.list().len(), 1);
    }

    /// Fault 77.
    #[test]
    fn guessing_voids_the_invitation() {
        let mut home = Home::new();
        let token = home.invite(5);
        let good = claim(&token, BOB, NOW);
        let wrong = Claim { proof: Proof([0; 32]), ..good.clone() };
        for n in 0..MAX_WRONG_CLAIMS {
            assert_eq!(home.peers.redeem(&wrong).unwrap(), Redeemed::Wrong, "{n}");
            home.restart();
        }
        assert_eq!(home.peers.redeem(&good).unwrap(), Redeemed::Closed);
        assert!(home.peers.list().is_empty() && !home.peers.invites_anybody(NOW));
    }

    #[test]
    fn time_ends_it_and_so_does_its_owner() {
        let home = Home::new();
        let hour = HOUR.as_millis() as u64;
        let closed =
            |token: &Token, at| home.peers.redeem(&claim(token, BOB, at)).unwrap() == Redeemed::Closed;
        let token = home.invite(5);
        assert!(closed(&token, NOW + hour));
        let token = home.invite(6);
        assert!(home.peers.invites_anybody(NOW + hour - 1) && !home.peers.invites_anybody(NOW + hour));
        let slack = CLOCK_SLACK.as_millis() as u64;
        assert!(home.peers.invites_anybody(NOW - slack) && !home.peers.invites_anybody(NOW - slack - 1));
        assert!(closed(&token, NOW - slack - 1), "the clock was set back");
        let token = home.invite(7);
        assert!(matches!(home.peers.uninvite(9), Err(PeersError::NoInvitation(9))));
        home.peers.uninvite(last(&home)).unwrap();
        assert!(closed(&token, NOW));
        (0..MAX_INVITATIONS).for_each(|n| drop(home.invite(10 + n as u8)));
        let one_more = Token::new(Grant::Join, OWN, Secret::new([9; 16]), Vec::new());
        let refused = home.peers.invite(&one_more, BOTH, String::new(), NOW, HOUR);
        assert!(matches!(refused, Err(PeersError::TooManyInvitations)));
        home.peers.invite(&one_more, BOTH, String::new(), NOW + hour, HOUR).unwrap();
        let nothing = home.peers.invite(&one_more, Rights::default(), String::new(), NOW + hour, HOUR);
        assert!(matches!(nothing, Err(PeersError::NoRight)));
    }

    /// Who takes back number 1 means what was number 1 then.
    #[test]
    fn a_number_is_given_once() {
        let mut home = Home::new();
        home.invite(5);
        home.invite(6);
        assert_eq!(last(&home), 2);
        home.peers.uninvite(2).unwrap();
        home.restart();
        home.invite(7);
        assert_eq!(last(&home), 3);
    }

    fn last(home: &Home) -> u64 {
        home.peers.invitations(NOW).iter().map(|invitation| invitation.number).max().unwrap()
    }

    #[test]
    fn rights_only_grow_and_names_stay() {
        let home = Home::new();
        let fetch = Rights { send: false, fetch: true };
        let places = |typed: &[&str]| typed.iter().map(|typed| Place::parse(typed).unwrap()).collect();
        assert_eq!(home.peers.befriend(BOB, "bob", fetch, places(&["a:1", "b:2"])).unwrap(), "bob");
        assert_eq!(home.peers.rights(&BOB), fetch);
        let send = Rights { send: true, fetch: false };
        assert_eq!(home.peers.befriend(BOB, "robert", send, places(&["b:2"])).unwrap(), "bob");
        assert_eq!(home.peers.rights(&BOB), BOTH);
        assert_eq!(home.peers.list()[0].addresses, ["b:2", "a:1"]);
        assert_eq!(home.peers.befriend(EVE, "bob", fetch, Vec::new()).unwrap(), "bob-2");
    }

    #[test]
    fn the_secret_is_kept_nowhere() {
        let home = Home::new();
        let token = home.invite(0x5a);
        let text = home.text();
        assert!(!text.contains(&"5a".repeat(8)) && !text.contains(&token.to_string()[9..40]), "{text}");
        assert!(text.contains(&token.key().to_hex()) && text.contains("[[invitation]]"), "{text}");
    }
}
