//! Which of two controllers a connection has: that of all others, or the one that yields.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use super::{Time, ledbat::Ledbat};

/// Whether a connection yields to whatever else is on its way. Clones are of the same connection. One that was dialled knows from the
/// start; for one that came in it is known when the handshake is complete, and counts from then on.
#[derive(Clone, Debug, Default)]
pub(in crate::transport) struct Class(Arc<AtomicBool>);

impl Class {
    pub(in crate::transport) fn new(background: bool) -> Self {
        Self(Arc::new(AtomicBool::new(background)))
    }

    pub(in crate::transport) fn set_background(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(in crate::transport) fn is_background(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes a path's controller, which follows the class of its connection.
pub(super) struct Switched {
    pub(super) foreground: Arc<dyn ControllerFactory + Send + Sync>,
    pub(super) class: Class,
    pub(super) initial_window: u64,
}

impl ControllerFactory for Switched {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let ledbat = Ledbat::new(Time::ZERO, mtu, self.initial_window);
        let yielding = Flow { ledbat, begun: now, initial_window: self.initial_window };
        if self.class.is_background() {
            return Box::new(yielding);
        }
        let foreground = self.foreground.clone().build(now, mtu);
        Box::new(Switch { class: self.class.clone(), foreground, yielding })
    }
}

/// A controller that hands over to the one that yields once it is known that its connection is to.
struct Switch {
    class: Class,
    foreground: Box<dyn Controller>,
    yielding: Flow,
}

impl Switch {
    fn current(&self) -> &dyn Controller {
        if self.class.is_background() { &self.yielding } else { &*self.foreground }
    }

    fn current_mut(&mut self) -> &mut dyn Controller {
        if self.class.is_background() { &mut self.yielding } else { &mut *self.foreground }
    }
}

impl Controller for Switch {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.current_mut().on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.current_mut().on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.current_mut().on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.current_mut().on_congestion_event(now, sent, persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.foreground.on_mtu_update(mtu);
        self.yielding.on_mtu_update(mtu);
    }

    fn window(&self) -> u64 {
        self.current().window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.current().metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            class: self.class.clone(),
            foreground: self.foreground.clone_box(),
            yielding: self.yielding.clone(),
        })
    }

    fn initial_window(&self) -> u64 {
        self.current().initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        if self.class.is_background() { Box::new(self.yielding) } else { self.foreground.into_any() }
    }
}

/// The one that yields, as quinn speaks to it.
#[derive(Clone)]
struct Flow {
    ledbat: Ledbat,
    begun: Instant,
    initial_window: u64,
}

impl Flow {
    fn time(&self, at: Instant) -> Time {
        at.saturating_duration_since(self.begun)
    }
}

impl Controller for Flow {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.ledbat.on_ack(self.time(now), self.time(sent), bytes);
    }

    fn on_end_acks(&mut self, now: Instant, _in_flight: u64, app_limited: bool, _largest: Option<u64>) {
        self.ledbat.on_end_acks(self.time(now), app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, _lost_bytes: u64) {
        self.ledbat.on_loss(self.time(now), self.time(sent), persistent);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.ledbat.on_mtu(mtu);
    }

    fn window(&self) -> u64 {
        self.ledbat.window()
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
    use crate::transport::congestion::{Congestion, factory};

    use super::*;

    #[test]
    fn a_connection_yields_from_when_it_is_known_that_it_is_to() {
        let (class, now) = (Class::default(), Instant::now());
        let build = |class: &Class| factory(Congestion::Bbr, class.clone(), 64 << 10).build(now, 1452);
        let mut before = build(&class);
        class.set_background();
        before.on_congestion_event(now, now, true, 1452);
        assert_eq!(before.window(), 4 * 1452, "what was built before follows too");
        assert!(before.clone_box().into_any().is::<Flow>());
        assert!(build(&class).into_any().is::<Flow>() && build(&Class::new(true)).into_any().is::<Flow>());
        assert!(!build(&Class::default()).into_any().is::<Flow>());
    }
}
