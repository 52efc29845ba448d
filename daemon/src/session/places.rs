//! What one connection among many gets: how much its peer may send ahead, and whether there is a place for it.
//!
//! What was sent ahead of its reader costs memory, and a peer that has a key here may open as many connections as it likes. So what is
//! granted comes from one budget, a peer's later connections get little, and where every place is taken those who have
//! most make room.

use std::collections::HashMap;

use p2p_protocol::{
    PeerId,
    limits::{
        CONNECTION_WINDOW, FIRST_WINDOW, NARROW_CONNECTIONS_PER_PEER, NARROW_WINDOW,
        WIDE_CONNECTIONS_PER_PEER, WINDOW_BUDGET,
    },
};

/// A connection that came in, and is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guest {
    pub(super) id: u64,
    pub(super) peer: PeerId,
    /// Bytes that its peer may send ahead.
    pub(super) window: u64,
    pub(super) is_busy: bool,
}

/// How much a trusted peer may send ahead on one more connection.
pub(super) fn window(peer: &PeerId, open: &[Guest]) -> u64 {
    let granted: u64 = open.iter().map(|guest| guest.window).filter(|window| *window > FIRST_WINDOW).sum();
    let of_peer = || open.iter().filter(|guest| guest.peer == *peer);
    let wide = of_peer().filter(|guest| guest.window == CONNECTION_WINDOW).count();
    if wide < WIDE_CONNECTIONS_PER_PEER && granted + CONNECTION_WINDOW <= WINDOW_BUDGET {
        return CONNECTION_WINDOW;
    }
    match of_peer().count() {
        // Its first connection moves data at a good rate whatever others do.
        0 => NARROW_WINDOW,
        others if others < NARROW_CONNECTIONS_PER_PEER && granted + NARROW_WINDOW <= WINDOW_BUDGET => {
            NARROW_WINDOW
        }
        _ => FIRST_WINDOW,
    }
}

/// Which connection is closed for one more of this peer, where every place is taken: the youngest of the peer that has most, one that does
/// nothing if there is one. None, if the peer itself would then have as many.
pub(super) fn who_makes_room(peer: &PeerId, open: &[Guest]) -> Option<u64> {
    let mut held: HashMap<PeerId, usize> = HashMap::new();
    for guest in open {
        *held.entry(guest.peer).or_default() += 1;
    }
    let own = held.get(peer).copied().unwrap_or(0);
    // The map has no order of its own; the same run has to come out the same.
    let (greedy, most) = held.into_iter().max_by_key(|(peer, held)| (*held, *peer))?;
    if most <= own + 1 {
        return None;
    }
    let of_greedy = open.iter().filter(|guest| guest.peer == greedy);
    of_greedy.max_by_key(|guest| (!guest.is_busy, guest.id)).map(|guest| guest.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId([n; 32])
    }

    /// Connections of these peers, one after the other, each with what it gets.
    fn opened(peers: impl IntoIterator<Item = u8>) -> Vec<Guest> {
        let mut open = Vec::new();
        for (n, id) in peers.into_iter().zip(0..) {
            let window = window(&peer(n), &open);
            open.push(Guest { id, peer: peer(n), window, is_busy: false });
        }
        open
    }

    fn granted(open: &[Guest]) -> u64 {
        open.iter().map(|guest| guest.window).sum()
    }

    #[test]
    fn the_first_connections_of_a_peer_are_wide_and_the_many_after_them_get_little() {
        let open = opened([1; 1000]);
        let of = |window| open.iter().filter(|guest| guest.window == window).count();
        assert_eq!(of(CONNECTION_WINDOW), WIDE_CONNECTIONS_PER_PEER);
        assert_eq!(of(NARROW_WINDOW), NARROW_CONNECTIONS_PER_PEER - WIDE_CONNECTIONS_PER_PEER);
        assert_eq!(of(FIRST_WINDOW), 1000 - NARROW_CONNECTIONS_PER_PEER);
    }

    #[test]
    fn what_all_peers_get_together_has_a_bound() {
        let peers = 100;
        let open = opened((0..10).flat_map(|_| 0..peers));
        let most = WINDOW_BUDGET + u64::from(peers) * NARROW_WINDOW + open.len() as u64 * FIRST_WINDOW;
        assert!(granted(&open) <= most, "{} of {most}", granted(&open));
        assert!(open.iter().take(peers.into()).all(|guest| guest.window >= NARROW_WINDOW));
    }

    #[test]
    fn a_window_comes_back_with_its_connection() {
        let mut open = opened([1, 1, 1, 1, 1]);
        assert_eq!(open[4].window, NARROW_WINDOW);
        open.remove(0);
        assert_eq!(window(&peer(1), &open), CONNECTION_WINDOW);
    }

    #[test]
    fn who_has_most_connections_makes_room() {
        let mut open = opened([1, 2, 2, 2, 3]);
        assert_eq!(who_makes_room(&peer(4), &open), Some(3), "the youngest of those with most");
        open[3].is_busy = true;
        assert_eq!(who_makes_room(&peer(4), &open), Some(2), "one that does nothing");
        assert_eq!(who_makes_room(&peer(1), &open), Some(2), "to have two, as the other then");
        assert_eq!(who_makes_room(&peer(2), &open), None, "nobody has more");
        let even = opened([1, 2, 3]);
        assert_eq!(who_makes_room(&peer(4), &even), None, "nobody is left with none");
        assert_eq!(who_makes_room(&peer(4), &[]), None);
    }
}
