//! How often a transfer that broke is tried again, and how long it waits before.

use std::time::Duration;

use p2p_protocol::{
    limits::{AWAY_RETRY_MAX, MAX_FRUITLESS_TRIES, RETRY_MAX, RETRY_MIN},
    reason::Failure,
};

use super::error::RunError;

/// What is known of a transfer when one of its tries has failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct SoFar {
    /// Whether its peer is one that was there before, or that was asked for by a name that is known.
    pub(super) is_known: bool,
    /// Whether it had begun to move.
    pub(super) has_started: bool,
    /// Whether this try has verified anything new.
    pub(super) got_on: bool,
}

/// The tries of one transfer.
#[derive(Debug, Default)]
pub(super) struct Tries {
    failed: u32,
    /// Those since the last one that got on.
    fruitless: u32,
}

impl Tries {
    /// The number of the try that comes next, the first being 1.
    pub(super) fn attempt(&self) -> u32 {
        self.failed + 1
    }

    /// The pause before the next try, now that one has failed. `None` where there is to be none.
    pub(super) fn after(&mut self, error: &RunError, so_far: SoFar) -> Option<Duration> {
        self.failed += 1;
        self.fruitless = if so_far.got_on { 1 } else { self.fruitless + 1 };
        let is_away = error.passing && error.failure == Failure::Unreachable && !error.met;
        let (patience, longest) = if is_away && so_far.is_known {
            (u32::MAX, AWAY_RETRY_MAX)
        } else if so_far.has_started || error.met || error.failure == Failure::Conflict {
            (MAX_FRUITLESS_TRIES, RETRY_MAX)
        } else {
            (1, RETRY_MAX)
        };
        (error.passing && self.fruitless < patience).then(|| pause_before(self.fruitless, longest))
    }
}

/// The pause before the next try: doubled each time, and cut by a random part so that peers that lost each
/// other at the same moment do not come back in step.
fn pause_before(fruitless: u32, longest: Duration) -> Duration {
    let longest = RETRY_MIN.saturating_mul(1 << fruitless.saturating_sub(1).min(16)).min(longest);
    longest.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: SoFar = SoFar { is_known: false, has_started: false, got_on: false };
    const STARTED: SoFar = SoFar { has_started: true, ..NEW };

    fn lost(met: bool) -> RunError {
        RunError { passing: true, met, ..RunError::new(Failure::Unreachable, "gone") }
    }

    /// The pauses until it is given up, or a hundred of them.
    fn pauses(error: &RunError, so_far: SoFar) -> Vec<Duration> {
        let mut tries = Tries::default();
        (0..100).map_while(|_| tries.after(error, so_far)).collect()
    }

    #[test]
    fn what_will_not_pass_is_not_tried_again() {
        let error = RunError::new(Failure::Storage, "broken");
        for so_far in [NEW, STARTED, SoFar { got_on: true, is_known: true, ..STARTED }] {
            assert!(pauses(&error, so_far).is_empty());
        }
    }

    #[test]
    fn a_peer_that_is_known_and_away_is_waited_for_and_one_that_nobody_ever_found_is_not() {
        assert!(pauses(&lost(false), NEW).is_empty());
        let waited = pauses(&lost(false), SoFar { is_known: true, ..NEW });
        assert_eq!(waited.len(), 100);
        assert!(waited.iter().all(|pause| *pause <= AWAY_RETRY_MAX));
        assert!(waited.last() >= Some(&(AWAY_RETRY_MAX / 2)));
    }

    #[test]
    fn what_breaks_again_and_again_without_getting_on_is_given_up() {
        let is_busy = RunError { passing: true, ..RunError::new(Failure::Conflict, "busy") };
        let known = SoFar { is_known: true, ..NEW };
        for (error, so_far) in [(lost(false), STARTED), (lost(true), known), (is_busy, NEW)] {
            let waited = pauses(&error, so_far);
            assert_eq!(waited.len() as u32, MAX_FRUITLESS_TRIES - 1, "{error:?}");
        }
    }

    #[test]
    fn the_pauses_double_up_to_a_bound_and_are_not_all_the_same() {
        for (number, pause) in pauses(&lost(true), STARTED).into_iter().enumerate() {
            let longest = (RETRY_MIN * (1 << number)).min(RETRY_MAX);
            assert!(pause <= longest && pause >= longest / 2, "{pause:?} after try {number}");
        }
        let first: Vec<Duration> = (0..20).map(|_| pauses(&lost(true), STARTED)[0]).collect();
        assert!(first.iter().any(|pause| *pause != first[0]));
        assert!(pause_before(u32::MAX, RETRY_MAX) <= RETRY_MAX);
    }

    #[test]
    fn a_try_that_gets_on_gives_patience_back() {
        let mut tries = Tries::default();
        let gets_on = SoFar { got_on: true, ..STARTED };
        for number in 1..=10 * MAX_FRUITLESS_TRIES {
            assert_eq!(tries.attempt(), number);
            let so_far = if number % (MAX_FRUITLESS_TRIES - 1) == 0 { gets_on } else { STARTED };
            assert!(tries.after(&lost(true), so_far).is_some(), "try {number}");
        }
        assert!(tries.after(&lost(true), gets_on) <= Some(RETRY_MIN), "it begins anew");
    }
}
