//! Keeps warnings from filling a disk: a peer can make the daemon warn as often as it likes, and of each place in the program that
//! warns so much is heard at once, and then a little at a time.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use tracing::{Event, Level, Metadata, callsite::Identifier};
use tracing_subscriber::layer::{Context, Filter};

/// Warnings of one place that are heard at once.
const AT_ONCE: f64 = 200.0;
/// How many a second come to that again.
const A_SECOND: f64 = 5.0;

/// Lets warnings through as long as they are few.
#[derive(Debug, Default)]
pub(super) struct Calm(Mutex<HashMap<Identifier, Bucket>>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
    left_out: u64,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { tokens: AT_ONCE, filled: now, left_out: 0 }
    }

    /// Whether one more is heard, and how many were not since the last one that was.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + since * A_SECOND).min(AT_ONCE);
        self.filled = now;
        if self.tokens < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.tokens -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl<S> Filter<S> for Calm {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        if *event.metadata().level() != Level::WARN {
            return true;
        }
        let now = Instant::now();
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = places.entry(event.metadata().callsite()).or_insert_with(|| Bucket::new(now));
        let heard = bucket.take(now);
        drop(places);
        if let Some(left_out @ 1..) = heard {
            // Nobody to tell is no reason to end.
            let _ = writeln!(io::stderr(), "{left_out} warnings like the next one were left out");
        }
        heard.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn many_at_once_are_heard_and_then_a_few_a_second_with_the_number_of_the_others() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(begun);
        let heard = (0..1000).filter(|_| bucket.take(begun) == Some(0)).count();
        assert_eq!(heard, AT_ONCE as usize);
        let later = begun + Duration::from_secs(1);
        assert_eq!(bucket.take(later), Some(1000 - AT_ONCE as u64));
        assert_eq!((1..1000).filter(|_| bucket.take(later).is_some()).count(), A_SECOND as usize - 1);
        let rested = later + Duration::from_secs(3600);
        assert_eq!(bucket.take(rested), Some(999 - (A_SECOND as u64 - 1)));
        assert_eq!((1..1000).filter(|_| bucket.take(rested).is_some()).count(), AT_ONCE as usize - 1);
    }
}
