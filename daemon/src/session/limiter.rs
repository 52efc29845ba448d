//! Limits on bandwidth: what holds now, for all transfers and for one, and who waits because of it. A sender holds its bytes
//! back before they go; a receiver holds back the words that would give its sender credit for more.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use p2p_protocol::{
    limits::{MIN_RATE, PIECE_LEN},
    rate::{Bucket, Change, InForce, Limits, Minute, Rate, Source, Timetable, Weekday},
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    budget::Allowance,
    job::{Job, Wish},
    links::Link,
};

/// The clock is looked at this often, where limits depend on the hour.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(5);
/// A transfer counts as held back by a limit for this long after it was.
const FELT: Duration = Duration::from_secs(1);

/// The limits of the whole daemon.
#[derive(Debug)]
pub(crate) struct Limiter {
    timetable: Timetable,
    /// What a command set, over what the config says. It outlives the daemon.
    command: Mutex<Option<Limits>>,
    in_force: Mutex<InForce>,
    up: Arc<Valve>,
    down: Arc<Valve>,
}

impl Limiter {
    /// What a command has set holds, or else what the config says.
    pub(crate) fn new(timetable: Timetable, command: Option<Limits>) -> Arc<Self> {
        let in_force = InForce { limits: timetable.always, source: Source::Config };
        let (up, down) = (Arc::new(Valve::new(None)), Arc::new(Valve::new(None)));
        let limiter =
            Self { timetable, command: Mutex::new(command), in_force: Mutex::new(in_force), up, down };
        limiter.refresh();
        Arc::new(limiter)
    }

    /// Bytes from here to peers.
    pub(crate) fn up(&self) -> &Arc<Valve> {
        &self.up
    }

    /// Bytes from peers to here.
    pub(crate) fn down(&self) -> &Arc<Valve> {
        &self.down
    }

    /// What holds now.
    pub(crate) fn in_force(&self) -> InForce {
        *lock(&self.in_force)
    }

    /// What a command has set.
    pub(crate) fn command(&self) -> Option<Limits> {
        *lock(&self.command)
    }

    /// Other limits from now on, until the next change; `reset` goes back to the config first.
    pub(crate) fn change(&self, change: Change, reset: bool) -> InForce {
        {
            let mut command = lock(&self.command);
            if reset {
                *command = None;
            }
            if change != Change::default() {
                let before = if reset { self.by_clock().limits } else { self.in_force().limits };
                *command = Some(before.with(change));
            }
        }
        self.refresh();
        self.in_force()
    }

    fn by_clock(&self) -> InForce {
        let (day, minute) = if self.timetable.hours.is_empty() { (0, 0) } else { day_and_minute() };
        let (limits, by_hour) = self.timetable.at(day, minute);
        InForce { limits, source: if by_hour { Source::Hours } else { Source::Config } }
    }

    /// Has what is to hold now hold.
    fn refresh(&self) {
        let command = *lock(&self.command);
        let now = match command {
            Some(limits) => InForce { limits, source: Source::Command },
            None => self.by_clock(),
        };
        let before = std::mem::replace(&mut *lock(&self.in_force), now);
        if before != now {
            tracing::info!(limits = ?now.limits, source = ?now.source, "limits on bandwidth");
        }
        self.up.set(now.limits.up);
        self.down.set(now.limits.down);
    }

    /// Follows the clock, where limits depend on it.
    pub(crate) async fn follow_clock(self: Arc<Self>, stop: CancellationToken) {
        while !self.timetable.hours.is_empty() && !stop.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AT_CLOCK) => self.refresh(),
                () = stop.cancelled() => {}
            }
        }
    }
}

/// Where the calendar and the clock on this machine's wall are.
fn day_and_minute() -> (Weekday, Minute) {
    let now = jiff::Zoned::now();
    let (day, time) = (now.weekday().to_monday_zero_offset(), now.time());
    let minute = i32::from(time.hour()) * 60 + i32::from(time.minute());
    (day.unsigned_abs(), Minute::try_from(minute).unwrap_or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place that bytes pass at a rate.
#[derive(Debug)]
pub(crate) struct Valve {
    bucket: Mutex<Bucket>,
    origin: Instant,
    /// Held by whoever waits at the head of the line.
    turn: tokio::sync::Mutex<()>,
    changed: Notify,
}

impl Valve {
    fn new(rate: Option<Rate>) -> Self {
        Self {
            bucket: Mutex::new(Bucket::new(rate, Duration::ZERO)),
            origin: Instant::now(),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn rate(&self) -> Option<Rate> {
        lock(&self.bucket).rate()
    }

    fn set(&self, rate: Option<Rate>) {
        let mut bucket = lock(&self.bucket);
        if bucket.rate() != rate {
            bucket.set_rate(rate, self.origin.elapsed());
            self.changed.notify_waiters();
        }
    }

    /// Lets so many bytes pass when it is their turn; true if that took a while.
    pub(super) async fn pass(&self, bytes: u64) -> bool {
        if self.rate().is_none() {
            return false;
        }
        let _turn = self.turn.lock().await;
        let mut waited = false;
        loop {
            let changed = self.changed.notified();
            let Some(wait) = self.wait_or_spend(bytes) else { return waited };
            waited = true;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
        }
    }

    fn wait_or_spend(&self, bytes: u64) -> Option<Duration> {
        let (mut bucket, now) = (lock(&self.bucket), self.origin.elapsed());
        let wait = bucket.wait(now);
        if wait.is_none() {
            bucket.spend(bytes, now);
        }
        wait
    }

    pub(super) fn spend(&self, bytes: u64) {
        lock(&self.bucket).spend(bytes, self.origin.elapsed());
    }

    fn owes(&self) -> bool {
        lock(&self.bucket).wait(self.origin.elapsed()).is_some()
    }
}

/// One transfer's bytes, which pass its own limit and that of the daemon.
#[derive(Debug)]
pub(crate) struct Flow {
    wish: watch::Receiver<Wish>,
    own: Valve,
    shared: Arc<Valve>,
    /// Held by the chunk that is written, so that as few as possible are incomplete at a time.
    chunk: tokio::sync::Mutex<()>,
    felt: Mutex<Option<Instant>>,
}

impl Flow {
    pub(crate) fn new(job: &Job, shared: &Arc<Valve>) -> Arc<Self> {
        let wish = job.wishes();
        let own = Valve::new(wish.borrow().limit);
        Arc::new(Self {
            wish,
            own,
            shared: shared.clone(),
            chunk: tokio::sync::Mutex::default(),
            felt: Mutex::default(),
        })
    }

    /// The smaller of its limits.
    pub(crate) fn rate(&self) -> Option<Rate> {
        self.own.set(self.wish.borrow().limit);
        [self.own.rate(), self.shared.rate()].into_iter().flatten().min()
    }

    /// Chunks that may be unverified now: no more than there is memory for, nor than a limit lets in while words take their way.
    pub(super) fn credit(
        &self,
        allowance: &Allowance,
        link: &Link,
        chunk_len: u64,
        interval: Duration,
    ) -> u32 {
        let window = self.window(link.connection().stats().rtt, interval);
        let limit = window.map_or(u64::from(u32::MAX), |window| window.div_ceil(chunk_len).max(1));
        allowance.credit().min(limit.min(u32::MAX.into()) as u32)
    }

    /// Bytes that may be in flight where there is a limit: what goes within a round trip, and in a moment more.
    pub(crate) fn window(&self, rtt: Duration, moment: Duration) -> Option<u64> {
        self.rate().map(|rate| rate.within(rtt + moment))
    }

    /// The turn of a chunk to be written, where there is a limit.
    pub(crate) async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        self.rate()?;
        let turn = self.chunk.lock().await;
        Some(turn)
    }

    /// Bytes that are written at once.
    pub(crate) fn piece(&self) -> usize {
        let piece = self.rate().map(|rate| (rate.bytes() / 8).clamp(MIN_RATE, PIECE_LEN));
        piece.map_or(usize::MAX, |piece| piece as usize)
    }

    /// Lets so many bytes pass, when it is their turn.
    pub(crate) async fn pass(&self, bytes: u64) {
        let own = self.pass_own(bytes).await;
        let shared = self.shared.pass(bytes).await;
        if own || shared {
            self.feel();
        }
    }

    /// The same for its own limit alone, which may change meanwhile.
    async fn pass_own(&self, bytes: u64) -> bool {
        let mut wish = self.wish.clone();
        loop {
            let limit = wish.borrow_and_update().limit;
            self.own.set(limit);
            tokio::select! {
                biased;
                waited = self.own.pass(bytes) => return waited,
                Ok(()) = wish.changed() => {}
            }
        }
    }

    /// So many bytes have come.
    pub(crate) fn spend(&self, bytes: u64) {
        self.rate();
        self.own.spend(bytes);
        self.shared.spend(bytes);
    }

    /// Whether more has come than should have by now.
    pub(crate) fn owes(&self) -> bool {
        self.rate();
        let owes = self.own.owes() || self.shared.owes();
        if owes {
            self.feel();
        }
        owes
    }

    fn feel(&self) {
        *lock(&self.felt) = Some(Instant::now());
    }

    /// Whether a limit held it back just now.
    pub(crate) fn is_felt(&self) -> bool {
        lock(&self.felt).is_some_and(|at| at.elapsed() < FELT)
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::{FileId, PeerId};

    use super::*;
    use crate::session::spec::Spec;

    fn rate(text: &str) -> Option<Rate> {
        Some(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_pass_share_the_rate_and_a_change_counts_at_once() {
        let valve = Arc::new(Valve::new(rate("1 MiB/s")));
        let begun = Instant::now();
        let pass = |pieces: u64| {
            let valve = valve.clone();
            tokio::spawn(async move {
                for _ in 0..pieces {
                    valve.pass(64 << 10).await;
                }
            })
        };
        let (first, second) = (pass(32), pass(32));
        first.await.unwrap();
        second.await.unwrap();
        let took = begun.elapsed().as_secs_f64();
        assert!((3.7..4.1).contains(&took), "{took}");
        valve.spend(100 << 20);
        let waiting = pass(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        valve.set(None);
        waiting.await.unwrap();
        assert!(begun.elapsed().as_secs_f64() < took + 1.1);
    }

    #[tokio::test(start_paused = true)]
    async fn another_limit_of_a_transfer_counts_for_what_waits_already() {
        let spec = Spec::Serve { peer: PeerId([1; 32]), file_id: FileId([2; 32]) };
        let job = Job::new(1, spec, "f".into(), "peer".into());
        job.limit(rate("1 KiB/s"));
        let flow = Flow::new(&job, &Arc::new(Valve::new(None)));
        flow.pass(1 << 30).await;
        let waiting = tokio::spawn({
            let flow = flow.clone();
            async move { flow.pass(1 << 20).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        let begun = Instant::now();
        job.limit(rate("512 MiB/s"));
        waiting.await.unwrap();
        assert!((1..4).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        job.limit(None);
        flow.pass(u64::MAX).await;
        assert_eq!(flow.rate(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_counts_until_it_is_taken_back() {
        let always = Limits { up: rate("5M"), down: None };
        let limiter = Limiter::new(Timetable { always, hours: Vec::new() }, None);
        assert_eq!(limiter.in_force(), InForce { limits: always, source: Source::Config });
        let down = Change { up: None, down: Some(rate("2M")) };
        let both = Limits { up: rate("5M"), down: rate("2M") };
        assert_eq!(limiter.change(down, false), InForce { limits: both, source: Source::Command });
        assert_eq!((limiter.up().rate(), limiter.down().rate()), (both.up, both.down));
        let off = Change { up: Some(None), down: Some(None) };
        assert_eq!(limiter.change(off, false).limits, Limits::default());
        assert!(!limiter.up().pass(u64::MAX).await);
        assert_eq!(limiter.change(down, true), InForce { limits: both, source: Source::Command });
        let again = Limiter::new(Timetable { always, hours: Vec::new() }, limiter.command());
        assert_eq!(again.in_force(), limiter.in_force());
        let reset = limiter.change(Change::default(), true);
        assert_eq!(reset, InForce { limits: always, source: Source::Config });
    }
}
