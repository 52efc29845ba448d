//! A flow that yields: it takes what others leave of a path, and makes room as soon as its packets meet a queue, long before anything is
//! lost. After LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus) and RFC 6817.
//!
//! ```text
//!            a queue, or a loss               its time has come
//!  Start ─────────────────────────▶ Steady ────────────────────▶ Rest
//!                                      ▲                           │ two round trips
//!                                      └────────── Ramp ◀──────────┘
//!                       as much as before, a queue, or a loss
//! ```

use std::{collections::VecDeque, time::Duration};

use super::Time;

/// The most and the least delay in queues that is aimed at.
const MOST_TARGET: Duration = Duration::from_millis(60);
const LEAST_TARGET: Duration = Duration::from_millis(2);
/// The target as a part of the shortest round trip.
const TARGET_PART: u32 = 10;
/// Packets that are always allowed, so that what comes back still says something.
const LEAST_PACKETS: f64 = 4.0;
/// Packets by which the window grows in a round trip below the target.
const GAIN: f64 = 1.0;
/// A round trip takes away no more than this part of the window.
const MOST_CUT: f64 = 0.5;
/// What the flow's own queue costs it, besides the queue: flows of unequal windows come nearer to each other.
const OWN_CUT: f64 = 0.9;
/// A queue has gone when no more than this part of the target is left.
const CLEAR: f64 = 0.5;
/// A round trip adds no more than this part, but in a slow start.
const MOST_HASTE: f64 = 0.15;
/// Slow start ends at this part of the target.
const ENOUGH: f64 = 0.75;
/// Rounds without a queue after which growth doubles with every further one.
const QUIET_ROUNDS: u32 = 3;
/// The pause that lets the queue go lasts so many round trips, and its repetitions take this part of the time.
const REST_ROUNDS: u32 = 2;
const REST_PART: u32 = 10;
/// The delay now is the least of so many batches of acknowledgements.
const RECENT: usize = 4;
/// The shortest round trip is looked for in so many spans of this length.
const SPANS: usize = 10;
const SPAN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Steady { rests: Option<Time> },
    Rest { since: Time },
    Ramp { since: Time },
}

/// A flow that yields.
#[derive(Clone, Debug)]
pub(super) struct Ledbat {
    state: State,
    mtu: f64,
    /// Bytes.
    window: f64,
    /// What it was before the pause.
    before: f64,
    /// The shortest round trips of the last spans, the latest first, and when the latest span began.
    bases: VecDeque<Duration>,
    span: Time,
    recent: VecDeque<Duration>,
    /// Of the acknowledgements that come in one batch: bytes, the shortest round trip, and when the last packet left.
    acked: u64,
    shortest: Duration,
    last_sent: Time,
    round: Time,
    /// The largest delay of this round and of the one before.
    peaks: [Duration; 2],
    quiet: u32,
    /// Half of what a queue held when it overflowed.
    shallow: Duration,
    /// What was sent before has been answered for.
    recovers: Time,
    /// When a queue has last cut the window.
    cut: Time,
    /// Whether there was one, and it has not been seen to go since.
    crowded: bool,
}

impl Ledbat {
    pub(super) fn new(now: Time, mtu: u16, initial_window: u64) -> Self {
        Self {
            state: State::Start,
            mtu: mtu.into(),
            window: initial_window as f64,
            before: initial_window as f64,
            bases: VecDeque::new(),
            span: now,
            recent: VecDeque::new(),
            acked: 0,
            shortest: Duration::MAX,
            last_sent: now,
            round: now,
            peaks: [Duration::ZERO; 2],
            quiet: 0,
            shallow: MOST_TARGET,
            recovers: now,
            cut: now,
            crowded: false,
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.window as u64
    }

    pub(super) fn on_mtu(&mut self, mtu: u16) {
        self.mtu = mtu.into();
        self.window = self.window.max(self.least());
    }

    pub(super) fn on_ack(&mut self, now: Time, sent: Time, bytes: u64) {
        self.acked += bytes;
        self.shortest = self.shortest.min(now.saturating_sub(sent));
        self.last_sent = self.last_sent.max(sent);
    }

    /// A batch of acknowledgements is complete.
    pub(super) fn on_end_acks(&mut self, now: Time, app_limited: bool) {
        let (acked, rtt) = (std::mem::take(&mut self.acked) as f64, self.shortest);
        self.shortest = Duration::MAX;
        if acked == 0.0 {
            return;
        }
        self.measure(now, rtt);
        let delay = self.delay();
        self.peaks[0] = self.peaks[0].max(delay);
        let part = delay.as_secs_f64() / self.target().as_secs_f64();
        if self.last_sent >= self.round {
            let quiet = self.peaks[0] < self.target().mul_f64(CLEAR) && !app_limited;
            self.quiet = if quiet { self.quiet + 1 } else { 0 };
            self.round = now;
            self.peaks = [Duration::ZERO, self.peaks[0]];
        }
        match self.state {
            State::Start | State::Ramp { .. } => self.climb(now, acked, part, app_limited),
            State::Steady { rests } => {
                if rests.is_some_and(|at| now >= at) {
                    return self.rest(now);
                }
                if rests.is_none() {
                    self.state = State::Steady { rests: Some(now + self.rtt() * REST_ROUNDS) };
                }
                self.steer(now, acked, part, app_limited);
            }
            State::Rest { since } => {
                if now >= since + self.rtt() * REST_ROUNDS {
                    self.state = State::Ramp { since };
                }
            }
        }
        self.window = self.window.max(self.least());
    }

    /// Something that left at `sent` was lost. One round trip is cut once.
    pub(super) fn on_loss(&mut self, now: Time, sent: Time, persistent: bool) {
        if sent < self.recovers {
            return;
        }
        self.recovers = now;
        self.quiet = 0;
        // A queue that overflows before the target is reached would be filled for ever.
        self.shallow = (self.peaks[0].max(self.peaks[1]) / 2).clamp(LEAST_TARGET, MOST_TARGET);
        self.window = if persistent { self.least() } else { (self.window / 2.0).max(self.least()) };
        match self.state {
            State::Start => self.state = State::Steady { rests: None },
            State::Ramp { since } => self.settle(now, since),
            State::Steady { .. } | State::Rest { .. } => {}
        }
    }

    fn least(&self) -> f64 {
        LEAST_PACKETS * self.mtu
    }

    /// The delay in queues that is aimed at.
    fn target(&self) -> Duration {
        (self.base() / TARGET_PART).clamp(LEAST_TARGET, MOST_TARGET).min(self.shallow)
    }

    fn base(&self) -> Duration {
        self.bases.iter().copied().min().unwrap_or_default()
    }

    fn rtt(&self) -> Duration {
        self.recent.iter().copied().min().unwrap_or_default()
    }

    fn delay(&self) -> Duration {
        self.rtt().saturating_sub(self.base())
    }

    fn measure(&mut self, now: Time, rtt: Duration) {
        if self.bases.is_empty() || now.saturating_sub(self.span) >= SPAN {
            self.span = now;
            self.bases.push_front(rtt);
            self.bases.truncate(SPANS);
        }
        if let Some(latest) = self.bases.front_mut() {
            *latest = rtt.min(*latest);
        }
        self.recent.push_front(rtt);
        self.recent.truncate(RECENT);
    }

    /// Doubles with every round trip, until there is a queue.
    fn climb(&mut self, now: Time, acked: f64, part: f64, app_limited: bool) {
        if !app_limited {
            self.window += acked;
        }
        match self.state {
            State::Ramp { since } if part > ENOUGH || self.window >= self.before => {
                self.window = self.window.min(self.before);
                self.settle(now, since);
            }
            State::Start if part > ENOUGH => self.state = State::Steady { rests: None },
            _ => {}
        }
    }

    /// Comes near the target from below, and away from above it.
    fn steer(&mut self, now: Time, acked: f64, part: f64, app_limited: bool) {
        // What was sent before the last cut says nothing of it.
        let heard = self.last_sent >= self.cut;
        if part > 1.0 && heard {
            // The first cut takes away what would be the flow's own queue. One that is still there afterwards is others'.
            let own = OWN_CUT * self.base().as_secs_f64() / self.rtt().as_secs_f64();
            self.window *= if self.crowded { 1.0 - (part - 1.0).min(MOST_CUT) } else { own };
            self.cut = now;
            self.crowded = true;
        } else if part < CLEAR && heard {
            self.crowded = false;
        }
        if part <= 1.0 && !app_limited {
            let haste = 2f64.powi(self.quiet.saturating_sub(QUIET_ROUNDS).min(20).cast_signed());
            self.window += (haste * GAIN * self.mtu / self.window).min(MOST_HASTE) * acked;
        }
    }

    /// Lets the queue go, so that the path's own round trip is seen, by others too.
    fn rest(&mut self, now: Time) {
        self.before = self.window;
        self.window = self.least();
        self.state = State::Rest { since: now };
    }

    /// A pause is over that began then; the next one comes when its time is a small part of the whole.
    fn settle(&mut self, now: Time, since: Time) {
        let took = now.saturating_sub(since);
        self.quiet = 0;
        self.state = State::Steady { rests: Some(now + took * (REST_PART - 1)) };
    }
}
