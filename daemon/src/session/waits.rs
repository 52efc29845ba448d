//! Where the chunks of a run are now: what the pure count of that is told by the tasks that carry them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use p2p_protocol::{
    transfer::Now,
    waits::{self, Place, Shares, Stage},
};
use tokio::time::Instant;

/// The count of one run.
#[derive(Debug)]
pub(super) struct Waits {
    begun: Instant,
    count: Mutex<waits::Waits>,
}

impl Waits {
    /// Of a run that works with this disk: [`Stage::Source`] or [`Stage::Disk`].
    pub(super) fn new(disk: Stage) -> Arc<Self> {
        let count = Mutex::new(waits::Waits::new(disk, Now::ZERO));
        Arc::new(Self { begun: Instant::now(), count })
    }

    /// The count and the time, which is looked at while it is held so that it never goes back.
    fn now(&self) -> (MutexGuard<'_, waits::Waits>, Now) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.begun.elapsed();
        (count, now)
    }

    /// A chunk is there until what this returns is dropped.
    pub(super) fn at(self: &Arc<Self>, place: Place) -> Stay {
        let (mut count, now) = self.now();
        count.enter(place, now);
        Stay { waits: self.clone(), place }
    }

    /// The same, where a disk or the processor is to be had.
    pub(super) fn in_line(self: &Arc<Self>) -> Stay {
        self.at(Place::Line)
    }

    /// So many chunks are there, where they are known as a number.
    pub(super) fn set(&self, stage: Stage, chunks: u32) {
        let (mut count, now) = self.now();
        count.set(Place::At(stage), chunks, now);
    }

    /// How the time of the last seconds is spread.
    pub(super) fn shares(&self) -> Option<Shares> {
        let (mut count, now) = self.now();
        count.shares(now)
    }
}

/// A chunk in a place.
#[derive(Debug)]
pub(super) struct Stay {
    waits: Arc<Waits>,
    place: Place,
}

impl Stay {
    /// It goes on to another one.
    pub(super) fn go_on(&mut self, stage: Stage) {
        let (mut count, now) = self.waits.now();
        count.leave(self.place, now);
        self.place = Place::At(stage);
        count.enter(self.place, now);
    }

    /// It goes on to the disk of its side.
    pub(super) fn go_on_to_disk(&mut self) {
        let disk = self.waits.now().0.disk();
        self.go_on(disk);
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let (mut count, now) = self.waits.now();
        count.leave(self.place, now);
    }
}
