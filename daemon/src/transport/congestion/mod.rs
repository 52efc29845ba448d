//! Congestion control: how much may be on its way, by what the path was seen to carry.
//!
//! # How pacing is realised
//!
//! quinn asks a controller for a window and nothing else: it lets bytes go while fewer than that are in flight, and
//! spreads five quarters of a window over each round trip. So the pacing rate goes into the window: every
//! acknowledgement grants an allowance of *rate × time since the last grant*, every packet that leaves uses it up, and
//! the window is what is in flight plus that allowance, no more than the congestion window of the draft. While data
//! flows, acknowledgements come many times a millisecond to a few milliseconds apart; the gap between two of them is spread by quinn's
//! own pacer. After an idle time no acknowledgement comes for a round trip, so that one round trip is granted ahead.
//!
//! # Where it differs from draft-ietf-ccwg-bbr
//!
//! - Loss that a path has without a queue is learned while cruising and not held against the flow: only what goes beyond it (two
//!   per cent and twice the chance deviation) bounds what is in flight. The draft stops at two per cent whatever the cause, which no
//!   radio link keeps. The pacing rate makes up for that loss.
//! - Startup ends after two rounds without growth if the round trip shows a queue, instead of three.
//! - A round trip within a thirty-second of the shortest counts as seen again, so that a flow that builds no queue need not stop for ProbeRTT.
//!   Nor need one that begins again after a rest: nothing of its own was queued then. (The draft waits for the first acknowledgement alone.)
//! - The rate of a path whose round trip is shorter than a timer's tick (1 ms) is not paced; the window bounds it alone.
//! - Offload budgets and the estimate of aggregated acknowledgements are replaced by two milliseconds of the rate, and ten packets.
//! - A round that overflows and brings less than two fifths of the rate has seen another path, or the same one grown poor: the model begins
//!   anew with what that round brought. The draft lets the old rate go with its cycle, in seconds in which the rest is lost.
//! - The rate is believed as a maximum, and hosts that wake a few times a millisecond make that more than the path carries, so that
//!   cruising builds a queue. Once there is one, what arrives over ten milliseconds is the flow's part of the path: if that is nearly what was
//!   believed, the flow takes it for its rate and sends a twentieth less for three rounds, or as long as that queue takes to go. Where the round trip is no
//!   longer than those ten milliseconds, what arrived was a moment's, and may be too little: the rate then grows by a hundredth every ten milliseconds
//!   until a queue shows again, and is measured anew.
//! - quinn reports losses without their packets' state; they are judged a round at a time.
//!
//! Five more make flows that begin at different times come to equal shares, which the draft's gains alone, being multiples of what a
//! flow has, do slowly or not at all:
//!
//! - Up ends when it has made the round trip longer by a quarter of the shortest, instead of at a quarter more in flight or at a loss
//!   alone: every flow adds the same to the queue, whatever its share.
//! - While a round of Up brings a seventeenth more, the next one tries twice as much, up to Startup's pace.
//! - Down sends three quarters of the rate instead of nine tenths, so that flows which believe in too much together still let the queue go.
//! - A queue that stays while the flow has let its own go is others': a round of Cruise that shows it, or of a Down that has taken more than
//!   four, leaves four fifths of the rate for the rest of the cycle. All flows see the same queue and give way by the same part.
//! - What was given up while cruising, for that or for loss, is not taken back with Refill: only Up finds it again.
//!
//! Simulated, the smaller one of two flows has 48 per cent in the median from 15 to 30 seconds after the second began, in nine of ten runs 39 or
//! more, and 22 in the worst of 72 (100 Mbit/s at 40 ms and 200 Mbit/s at 100 ms; queues of half, one and three bandwidth-delay products;
//! half a second to five seconds between the two). A flow that begins within another's Startup on a long path is the slowest.
//!
//! # Connections of the background
//!
//! They have a controller of their own ([`ledbat`]), whatever the config says of the others. Where it differs from
//! draft-irtf-iccrg-ledbat-plus-plus:
//!
//! - The target is a tenth of the shortest round trip, two milliseconds at least and sixty at most, instead of always sixty: it has to be less
//!   than what makes BBR give way, and than what a short queue holds. After a loss it is half of what the queue held then, if that is less.
//! - A queue beyond the target is answered once a round trip, when the answer before it has been heard. The first takes away what would be the
//!   flow's own queue and a tenth more; if the queue stays, it is others', and the window is cut as the draft has it, by half at most.
//! - After three round trips without a queue growth doubles with each further one, up to a seventh of the window, so that what others leave is
//!   found in seconds on a long path too. Below that it is a packet a round trip.
//! - Delay is the least of the last four batches of acknowledgements, as their packets' round trips say; the least window is four packets.
//!
//! A loss halves the window, as in the draft: of a path that loses packets by itself it takes little (a third of 100 Mbit/s at 40 ms
//! with a thousandth lost).
//! Simulated at 20 and 100 Mbit/s, 5 to 100 ms, with queues of one and four bandwidth-delay products: alone it has 77 to 93 per cent; beside a Cubic
//! flow 5 or less (at 5 ms up to 18), beside BBR 3 to 23; two have between 32 and 57 each.

mod background;
mod bbr;
mod delivery;
mod ledbat;
#[cfg(test)]
mod simulation;

use std::{
    any::Any,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

use self::{background::Switched, bbr::Bbr};

pub(super) use self::background::Class;

/// Time since the controller was made.
type Time = Duration;

/// What decides how much may be on its way to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// What the path was seen to deliver: this crate's own, after BBRv3.
    #[default]
    Bbr,
    /// Loss: quinn's Cubic, after RFC 9438.
    Cubic,
}

impl Congestion {
    /// Every choice there is.
    pub const ALL: [Self; 2] = [Self::Bbr, Self::Cubic];

    /// The word for it in a config file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bbr => "bbr",
            Self::Cubic => "cubic",
        }
    }
}

/// What makes a controller for every path of a connection of that class.
pub(super) fn factory(
    congestion: Congestion,
    class: Class,
    initial_window: u64,
) -> Arc<dyn ControllerFactory + Send + Sync> {
    let foreground: Arc<dyn ControllerFactory + Send + Sync> = match congestion {
        Congestion::Bbr => Arc::new(BbrConfig { initial_window }),
        Congestion::Cubic => {
            let mut cubic = CubicConfig::default();
            cubic.initial_window(initial_window);
            Arc::new(cubic)
        }
    };
    Arc::new(Switched { foreground, class, initial_window })
}

#[derive(Debug)]
struct BbrConfig {
    initial_window: u64,
}

impl ControllerFactory for BbrConfig {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let seed = RandomState::new().hash_one(());
        let bbr = Bbr::new(Time::ZERO, mtu, self.initial_window, seed);
        Box::new(Flow { bbr, begun: now, initial_window: self.initial_window })
    }
}

/// Speaks to quinn.
#[derive(Clone, Debug)]
struct Flow {
    bbr: Bbr,
    begun: Instant,
    initial_window: u64,
}

impl Flow {
    fn time(&self, at: Instant) -> Time {
        at.saturating_duration_since(self.begun)
    }
}

impl Controller for Flow {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.bbr.on_sent(self.time(now), bytes);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, rtt: &RttEstimator) {
        self.bbr.on_ack(self.time(now), self.time(sent), bytes, rtt.get());
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest: Option<u64>) {
        self.bbr.on_end_acks(self.time(now), in_flight, app_limited);
    }

    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, persistent: bool, lost_bytes: u64) {
        self.bbr.on_loss(lost_bytes, persistent);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.bbr.on_mtu(mtu);
    }

    fn window(&self) -> u64 {
        self.bbr.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.bbr.window();
        metrics.pacing_rate = Some(self.bbr.pacing_rate());
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_makes_the_controller_that_it_names() {
        let build = |congestion, class| factory(congestion, class, 14_520).build(Instant::now(), 1452);
        for congestion in Congestion::ALL {
            let controller = build(congestion, Class::default());
            assert_eq!(controller.initial_window(), 14_520);
            let any = controller.into_any();
            assert_eq!(any.is::<Flow>(), congestion == Congestion::Bbr);
            assert_eq!(any.is::<quinn::congestion::Cubic>(), congestion == Congestion::Cubic);
        }
    }
}
