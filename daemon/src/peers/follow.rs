//! Peers that have a new key. The old one has signed it, so that who knew the old one knows the new one; and the old one is nobody's any
//! longer, whoever may have it.

use p2p_protocol::{PeerId, limits::MAX_SUCCEEDED, policy::Rights};

use super::{Peers, PeersError, book::Book};

impl Book {
    /// The key that has the place of this one now; most often itself.
    pub(super) fn current(&self, id: PeerId) -> PeerId {
        self.succeeded.get(&id).copied().unwrap_or(id)
    }

    /// Gives a peer the place of all that it was before, and says which those were. They are forgotten but for the fact.
    fn follow(&mut self, new: PeerId, before: &[PeerId]) -> Vec<PeerId> {
        let is_known = |old: &&PeerId| **old != new && self.peers.contains_key(old);
        let gone: Vec<PeerId> = before.iter().filter(is_known).copied().collect();
        if gone.is_empty() {
            return gone;
        }
        let mut entry = self.peers.remove(&new).unwrap_or_default();
        for old in &gone {
            let was = self.peers.remove(old).unwrap_or_default();
            let Rights { send, fetch } = entry.rights;
            entry.rights = Rights { send: send || was.rights.send, fetch: fetch || was.rights.fetch };
            entry.name = entry.name.or(was.name);
            entry.rules = entry.rules.or(was.rules);
            was.addresses.into_iter().for_each(|place| entry.hint(place));
        }
        self.peers.insert(new, entry);
        let moved = self.pins.values_mut().chain(self.succeeded.values_mut()).filter(|id| gone.contains(id));
        moved.for_each(|id| *id = new);
        self.invitations.follow(new, &gone);
        self.succeeded.extend(gone.iter().map(|old| (*old, new)));
        while self.succeeded.len() > MAX_SUCCEEDED {
            self.succeeded.pop_first();
        }
        gone
    }
}

impl Peers {
    /// Gives a peer the place of those among `before` that are known here, of which each has signed for the next and the latest for this
    /// one. Those are returned; when this returns, they are known no more.
    pub(crate) fn follow(&self, new: PeerId, before: &[PeerId]) -> Result<Vec<PeerId>, PeersError> {
        if !before.iter().any(|old| *old != new && self.book().peers.contains_key(old)) {
            return Ok(Vec::new());
        }
        self.change(|book| Ok(book.follow(new, before)))
    }

    /// A peer under this and every key that it had before.
    pub(crate) fn keys_of(&self, id: &PeerId) -> Vec<PeerId> {
        let book = self.book();
        let before = book.succeeded.iter().filter(|(_, now)| *now == id).map(|(old, _)| *old);
        std::iter::once(*id).chain(before).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use p2p_protocol::{
        control::{KeyPolicy, TrustRequest},
        rules::{Acceptance, RulesChange},
        token::{Binding, Grant, Secret, Token},
    };

    use super::*;
    use crate::{
        disk::System,
        peers::{Claim, Redeemed},
        workers::Workers,
    };

    const OLD: PeerId = PeerId([1; 32]);
    const NEW: PeerId = PeerId([2; 32]);
    const THIEF: PeerId = PeerId([3; 32]);

    fn load(folder: &tempfile::TempDir) -> Peers {
        Peers::load(Arc::new(System), Workers::Threads, folder.path()).unwrap()
    }

    fn trust(peers: &Peers, id: PeerId, name: &str) {
        let (name, address) = (Some(name.to_owned()), Some("bob.example".to_owned()));
        peers.trust(TrustRequest { id, name, address, send: true, fetch: false }).unwrap();
    }

    #[test]
    fn a_new_key_takes_the_place_of_the_old_one_once() {
        let folder = tempfile::tempdir().unwrap();
        let peers = load(&folder);
        trust(&peers, OLD, "bob");
        let target = peers.parse_target("pinned.example:7").unwrap();
        peers.check_key(&target, OLD, KeyPolicy::Exactly(OLD)).unwrap();
        let ask = RulesChange { accept: Some(Some(Acceptance::Ask)), ..RulesChange::default() };
        assert!(peers.rule(&OLD, ask).unwrap());
        assert_eq!(peers.follow(NEW, &[PeerId([8; 32])]).unwrap(), []);
        assert_eq!(peers.follow(NEW, &[OLD]).unwrap(), [OLD]);
        drop(peers);
        let peers = load(&folder);
        assert!(peers.is_trusted(&NEW) && !peers.is_trusted(&OLD));
        assert_eq!((peers.find("bob"), peers.rights(&NEW).fetch), (Some(NEW), false));
        let meant = |typed: &str| peers.parse_target(typed).unwrap().expected;
        assert_eq!((meant("bob"), meant("pinned.example:7")), (Some(NEW), Some(NEW)));
        assert_eq!(meant(&OLD.to_string()), Some(NEW), "what was noted by the old key goes on");
        assert_eq!(peers.keys_of(&NEW), [NEW, OLD]);
        assert_eq!(peers.rules(&NEW).accept, Some(Acceptance::Ask), "a new key is no way out of the rules");
        // The old key, whoever has it now, vouches for nobody any longer.
        assert_eq!(peers.follow(THIEF, &[OLD]).unwrap(), []);
        assert!(!peers.is_trusted(&THIEF) && peers.find("bob") == Some(NEW));
        // Once more, and what was the oldest is found too.
        let third = PeerId([4; 32]);
        assert_eq!(peers.follow(third, &[NEW, OLD]).unwrap(), [NEW]);
        assert_eq!((peers.find(&OLD.to_string()), peers.keys_of(&third).len()), (Some(third), 3));
        peers.forget("bob").unwrap();
        assert_eq!((peers.find(&OLD.to_string()), peers.is_trusted(&third)), (None, false));
        // What was shared with the old keys was forgotten with them.
        trust(&peers, third, "bob");
        assert_eq!((peers.keys_of(&third), peers.find(&OLD.to_string())), (vec![third], None));
    }

    /// Neither who has the old key nor who was forgotten under the new one gets in by it once more.
    #[test]
    fn an_invitation_stays_used_when_the_key_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (peers, own) = (load(&folder), PeerId([9; 32]));
        let token = Token::new(Grant::Join, own, Secret::new([5; 16]), Vec::new());
        let rights = Rights { send: true, fetch: false };
        peers.invite(&token, rights, "alice".into(), 1000, Duration::from_secs(60)).unwrap();
        let comes = |holder| {
            let binding = Binding { exporter: [7; 32], holder, giver: own };
            let (id, proof, name) = (token.id(), token.key().prove(&binding), "bob".to_owned());
            let claim =
                Claim { id, proof, binding, name, address: "192.0.2.1:5".parse().unwrap(), now_ms: 1000 };
            matches!(peers.redeem(&claim).unwrap(), Redeemed::Welcome { .. })
        };
        assert!(comes(OLD));
        assert_eq!(peers.follow(NEW, &[OLD]).unwrap(), [OLD]);
        assert!(comes(NEW), "it may not have heard the answer");
        assert!(!comes(OLD) && !peers.is_trusted(&OLD));
        peers.forget("bob").unwrap();
        assert!(!comes(NEW) && !peers.is_trusted(&NEW));
    }

    #[test]
    fn nothing_of_any_of_its_keys_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let peers = load(&folder);
        let oldest = PeerId([9; 32]);
        trust(&peers, oldest, "bob");
        let target = peers.parse_target("other.example").unwrap();
        peers.check_key(&target, OLD, KeyPolicy::AcceptNew).unwrap();
        assert_eq!(peers.follow(NEW, &[OLD, oldest]).unwrap(), [OLD, oldest]);
        assert!(peers.is_trusted(&NEW) && !peers.is_trusted(&oldest));
        assert_eq!(peers.list().len(), 1);
        // Its owner may trust the old one again, by name.
        trust(&peers, OLD, "old");
        assert_eq!(peers.find(&OLD.to_string()), Some(OLD));
    }
}
