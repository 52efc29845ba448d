//! Who guesses, waits: so many wrong words from one place, and no more of its words are listened to for a while.

use std::{collections::BTreeMap, time::Duration};

use crate::limits::{CLAIM_LOCKOUT, MAX_THROTTLED, MAX_WRONG_CLAIMS};

/// The places from which wrong words came lately. Time is since any fixed moment.
#[derive(Clone, Debug)]
pub struct Throttle<P> {
    wrong: BTreeMap<P, Wrong>,
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    count: u32,
    last: Duration,
}

impl<P> Default for Throttle<P> {
    fn default() -> Self {
        Self { wrong: BTreeMap::new() }
    }
}

impl<P: Ord + Clone> Throttle<P> {
    /// Whether nothing from this place is to be listened to now.
    pub fn is_locked(&self, place: &P, now: Duration) -> bool {
        self.wrong.get(place).is_some_and(|wrong| {
            wrong.count >= MAX_WRONG_CLAIMS && now.saturating_sub(wrong.last) < CLAIM_LOCKOUT
        })
    }

    /// A wrong word came from there.
    pub fn was_wrong(&mut self, place: P, now: Duration) {
        self.wrong.retain(|_, wrong| now.saturating_sub(wrong.last) < CLAIM_LOCKOUT);
        if !self.wrong.contains_key(&place) && self.wrong.len() >= MAX_THROTTLED {
            // The one of which least is known.
            let least = self.wrong.iter().min_by_key(|(_, wrong)| (wrong.count, wrong.last));
            if let Some(place) = least.map(|(place, _)| place.clone()) {
                self.wrong.remove(&place);
            }
        }
        let wrong = self.wrong.entry(place).or_insert(Wrong { count: 0, last: now });
        *wrong = Wrong { count: wrong.count.saturating_add(1), last: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    /// Fault 77.
    #[test]
    fn who_guesses_is_locked_out_for_a_while() {
        let mut throttle = Throttle::default();
        for n in 0..MAX_WRONG_CLAIMS {
            assert!(!throttle.is_locked(&1, START), "after {n}");
            throttle.was_wrong(1, START);
        }
        assert!(throttle.is_locked(&1, START) && !throttle.is_locked(&2, START));
        assert!(throttle.is_locked(&1, START + CLAIM_LOCKOUT - Duration::from_millis(1)));
        assert!(!throttle.is_locked(&1, START + CLAIM_LOCKOUT));
        throttle.was_wrong(1, START + CLAIM_LOCKOUT);
        assert!(!throttle.is_locked(&1, START + CLAIM_LOCKOUT), "what was long ago is forgotten");
        // A clock that goes backwards lets nobody in.
        throttle = Throttle::default();
        (0..MAX_WRONG_CLAIMS).for_each(|_| throttle.was_wrong(1, START));
        assert!(throttle.is_locked(&1, Duration::ZERO));
    }

    #[test]
    fn many_places_take_no_more_memory_and_free_nobody() {
        let mut throttle = Throttle::default();
        (0..MAX_WRONG_CLAIMS).for_each(|_| throttle.was_wrong(0, START));
        for place in 1..3 * MAX_THROTTLED {
            throttle.was_wrong(place, START);
        }
        assert_eq!(throttle.wrong.len(), MAX_THROTTLED);
        assert!(throttle.is_locked(&0, START));
    }
}
