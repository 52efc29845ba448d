//! The handshakes under way: so many at a time, and whoever begins many and ends none is in their own way first.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// With this many under way, one has to make room for the next: the oldest of the address that has most.
pub(super) const MAX_HANDSHAKES: usize = 256;
/// What was given up costs memory until QUIC forgets it, which it does after about this long …
const CLOSING: Duration = Duration::from_secs(3);
/// … so that an address that has most of the handshakes makes room for itself so many times in that time, and is refused
/// then, which costs nothing.
const MAX_GIVEN_UP: usize = 512;

/// The handshakes under way.
#[derive(Debug, Default)]
pub(super) struct Handshakes(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    /// Whose each is, and what ends it early; the oldest first.
    taken: BTreeMap<u64, (IpAddr, CancellationToken)>,
    next: u64,
    /// When addresses made room for themselves lately.
    given_up: VecDeque<Instant>,
}

/// One of the handshakes under way.
#[derive(Debug)]
pub(super) struct Place {
    handshakes: Arc<Handshakes>,
    number: u64,
    given_up: CancellationToken,
}

impl Handshakes {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lock().taken.len()
    }

    /// A place for one more, from this address, if there is any.
    pub(super) fn begin(this: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let given_up = CancellationToken::new();
        let mut places = this.lock();
        if places.taken.len() >= MAX_HANDSHAKES && !places.make_room(from) {
            return None;
        }
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, (from, given_up.clone()));
        drop(places);
        Some(Place { handshakes: this.clone(), number, given_up })
    }
}

impl Places {
    fn make_room(&mut self, from: IpAddr) -> bool {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for (address, _) in self.taken.values() {
            *counts.entry(*address).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or(0);
        let own = counts.get(&from).copied().unwrap_or(0);
        if own == most {
            let now = Instant::now();
            while self.given_up.front().is_some_and(|at| now.duration_since(*at) > CLOSING) {
                self.given_up.pop_front();
            }
            if self.given_up.len() >= MAX_GIVEN_UP {
                return false;
            }
            self.given_up.push_back(now);
        }
        let oldest = self.taken.iter().find(|(_, (address, _))| counts.get(address) == Some(&most));
        let Some(number) = oldest.map(|(number, _)| *number) else { return false };
        if let Some((_, given_up)) = self.taken.remove(&number) {
            given_up.cancel();
        }
        true
    }
}

impl Place {
    /// Ends when the handshake has to make room for another.
    pub(super) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshakes.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    /// Fault 67.
    #[tokio::test]
    async fn who_has_most_makes_room() {
        let all = Arc::new(Handshakes::default());
        let early = Handshakes::begin(&all, address(2)).unwrap();
        let mut flood: Vec<_> =
            (1..MAX_HANDSHAKES).map(|_| Handshakes::begin(&all, address(1)).unwrap()).collect();
        let friend = Handshakes::begin(&all, address(3)).unwrap();
        flood[0].given_up().await;
        assert_eq!(all.count(), MAX_HANDSHAKES);
        // However many more there are, only those of the same address go, and not for ever.
        let more: Vec<_> =
            (0..2 * MAX_GIVEN_UP).filter_map(|_| Handshakes::begin(&all, address(1))).collect();
        assert_eq!(more.len(), MAX_GIVEN_UP);
        assert!(!friend.given_up.is_cancelled() && !early.given_up.is_cancelled());
        assert!(Handshakes::begin(&all, address(1)).is_none());
        assert!(Handshakes::begin(&all, address(4)).is_some(), "others still get in");
        flood.clear();
        drop(more);
        assert_eq!(all.count(), 2, "places come back");
        assert!(Handshakes::begin(&all, address(1)).is_some());
    }
}
