//! Strangers that tried: a short list, so that their owner can be told and let them in.

use std::{collections::VecDeque, net::SocketAddr};

use p2p_protocol::{
    PeerId,
    limits::{MAX_PENDING_PEERS, PENDING_SAVE_INTERVAL},
};
use tokio::time::Instant;

/// The strangers that tried last, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    list: VecDeque<(PeerId, SocketAddr)>,
    /// Whether the list on disk is another.
    unsaved: bool,
    /// When it was last written because of a stranger.
    saved: Option<Instant>,
}

impl Pending {
    /// Notes a stranger and where it called from.
    pub(super) fn note(&mut self, id: PeerId, address: SocketAddr) {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let before = self.list.iter().position(|(known, _)| *known == id);
        if let Some(old) = before.and_then(|at| self.list.remove(at)) {
            self.unsaved |= old.1 != address;
        } else {
            self.unsaved = true;
        }
        self.list.push_back((id, address));
        while self.list.len() > MAX_PENDING_PEERS {
            self.list.pop_front();
        }
    }

    /// Whether it is time to write the list. Strangers decide how often they come, and shall not decide how
    /// often this machine writes.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.saved.is_none_or(|saved| now.duration_since(saved) >= PENDING_SAVE_INTERVAL);
        let due = due && self.unsaved;
        if due {
            self.saved = Some(now);
        }
        due
    }

    pub(super) fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// The list has been written as it was in `written`.
    pub(super) fn saved_as(&mut self, written: &Self) {
        self.unsaved = self.list != written.list;
    }

    pub(super) fn remove(&mut self, id: &PeerId) {
        let before = self.list.len();
        self.list.retain(|(known, _)| known != id);
        self.unsaved |= self.list.len() != before;
    }

    pub(super) fn address(&self, id: &PeerId) -> Option<SocketAddr> {
        self.iter().find(|(known, _)| known == id).map(|(_, address)| *address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(PeerId, SocketAddr)> {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> PeerId {
        PeerId::from_spki(&n.to_le_bytes())
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut pending = Pending::default();
        let address: SocketAddr = "[::ffff:192.0.2.1]:5".parse().unwrap();
        let many = MAX_PENDING_PEERS as u32;
        (0..many).for_each(|n| pending.note(peer(n), address));
        pending.note(peer(0), address);
        pending.note(peer(many), address);
        assert_eq!(pending.iter().count(), MAX_PENDING_PEERS);
        assert_eq!(pending.address(&peer(0)), Some("192.0.2.1:5".parse().unwrap()));
        assert_eq!(pending.address(&peer(1)), None);
        assert_eq!(pending.list.back().unwrap().0, peer(many));
    }

    #[test]
    fn strangers_do_not_decide_how_often_is_written() {
        let (mut pending, start) = (Pending::default(), Instant::now());
        let address = "192.0.2.1:5".parse().unwrap();
        assert!(!pending.is_due(start));
        pending.note(peer(1), address);
        assert!(pending.is_due(start));
        let written = pending.clone();
        pending.note(peer(2), address);
        pending.saved_as(&written);
        assert!(pending.is_unsaved() && !pending.is_due(start));
        assert!(pending.is_due(start + PENDING_SAVE_INTERVAL));
        pending.saved_as(&pending.clone());
        assert!(!pending.is_unsaved());
        pending.note(peer(2), address);
        assert!(!pending.is_unsaved(), "the same from the same place is nothing new");
    }
}
