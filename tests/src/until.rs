//! Waiting for something to become true, with an end.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take before a test is given up. Far more than it should: it only ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Looks again and again until there is something.
///
/// # Panics
/// There is nothing for too long; `what` was waited for.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The same for a condition.
pub fn until_true(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(()));
}
