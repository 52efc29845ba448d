//! What limits a transfer. Each side works on a bounded number of chunks at once, so that they gather where the pipeline is
//! slowest: the place in which chunks spend the most time is what a person should look at who wants more speed.
//!
//! Time is an argument; what is counted is the time of every chunk in every place, over the last few seconds.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::transfer::Now;

/// How far back the shares look.
const WINDOW: Duration = Duration::from_secs(4);
/// Shortest time between two samples, so that their number is bounded.
const STEP: Duration = Duration::from_millis(100);
/// Number of places.
const PLACES: usize = 7;

/// What may limit a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Reading the source's disk.
    Source,
    /// Hashing: the processor.
    Hashing,
    /// The way between the two machines.
    Path,
    /// The other machine: what it has to say, to read or to write.
    Peer,
    /// Writing to this machine's disk.
    Disk,
    /// A limit on bandwidth that was set.
    Limit,
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With what may be the limit.
    At(Stage),
    /// In line for this machine's disk and processor, whichever of them it is that others wait for.
    Line,
}

impl Place {
    fn index(self) -> usize {
        match self {
            Self::At(Stage::Source) => 0,
            Self::At(Stage::Hashing) => 1,
            Self::At(Stage::Path) => 2,
            Self::At(Stage::Peer) => 3,
            Self::At(Stage::Disk) => 4,
            Self::At(Stage::Limit) => 5,
            Self::Line => 6,
        }
    }
}

/// Nanoseconds that chunks spent in each place, from the beginning until a moment.
type Times = [u64; PLACES];

/// How the time of a transfer's chunks is spread, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// Reading the source's disk.
    pub source: u8,
    /// Hashing.
    pub hashing: u8,
    /// The way between the two machines.
    pub path: u8,
    /// The other machine.
    pub peer: u8,
    /// This machine's disk.
    pub disk: u8,
    /// A limit that was set.
    pub limit: u8,
}

impl Shares {
    /// Each of them, and what it is of.
    pub fn each(&self) -> [(Stage, u8); PLACES - 1] {
        [
            (Stage::Source, self.source),
            (Stage::Hashing, self.hashing),
            (Stage::Path, self.path),
            (Stage::Peer, self.peer),
            (Stage::Disk, self.disk),
            (Stage::Limit, self.limit),
        ]
    }

    /// What has the largest share.
    pub fn largest(&self) -> Option<Stage> {
        self.each()
            .into_iter()
            .rev()
            .filter(|(_, share)| *share > 0)
            .max_by_key(|(_, share)| *share)
            .map(|(of, _)| of)
    }
}

/// Where the chunks of one side of a transfer are now, and were.
#[derive(Clone, Debug)]
pub struct Waits {
    /// The disk of this side: the source's, or that of the destination.
    disk: Stage,
    now: Now,
    chunks: [u32; PLACES],
    times: Times,
    samples: VecDeque<(Now, Times)>,
}

impl Waits {
    /// Of a side that works with this disk: [`Stage::Source`] or [`Stage::Disk`].
    pub fn new(disk: Stage, now: Now) -> Self {
        Self {
            disk,
            now,
            chunks: [0; PLACES],
            times: [0; PLACES],
            samples: VecDeque::from([(now, [0; PLACES])]),
        }
    }

    /// The disk of this side.
    pub fn disk(&self) -> Stage {
        self.disk
    }

    /// A chunk comes to a place.
    pub fn enter(&mut self, place: Place, now: Now) {
        self.pass(now);
        let chunks = &mut self.chunks[place.index()];
        *chunks = chunks.saturating_add(1);
    }

    /// A chunk leaves a place.
    pub fn leave(&mut self, place: Place, now: Now) {
        self.pass(now);
        let chunks = &mut self.chunks[place.index()];
        *chunks = chunks.saturating_sub(1);
    }

    /// So many chunks are in a place, where that is known as a number.
    pub fn set(&mut self, place: Place, chunks: u32, now: Now) {
        self.pass(now);
        self.chunks[place.index()] = chunks;
    }

    /// How the time is spread; `None` before any has passed.
    pub fn shares(&mut self, now: Now) -> Option<Shares> {
        self.pass(now);
        if self.samples.back().is_none_or(|(at, _)| now >= *at + STEP) {
            self.samples.push_back((now, self.times));
        }
        while self.samples.len() > 2 && self.samples.get(1).is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.samples.pop_front();
        }
        let (_, before) = self.samples.front()?;
        let mut times = self.times;
        times.iter_mut().zip(before).for_each(|(time, before)| *time -= before);
        shares(times, self.disk)
    }

    /// Time goes by. While nothing of this side has a chunk, the other one has them all, or nothing to do.
    fn pass(&mut self, now: Now) {
        let passed = now.saturating_sub(self.now).as_nanos() as u64;
        self.now = self.now.max(now);
        if self.chunks.iter().all(|chunks| *chunks == 0) {
            self.times[Place::At(Stage::Peer).index()] += passed;
        }
        for (time, chunks) in self.times.iter_mut().zip(self.chunks) {
            *time += passed.saturating_mul(chunks.into());
        }
    }
}

/// What waits in line is counted with what it waits for, as much with each as that takes itself.
fn shares(times: Times, disk: Stage) -> Option<Shares> {
    let mut times = times.map(u128::from);
    let (line, disk, hashing) =
        (Place::Line.index(), Place::At(disk).index(), Place::At(Stage::Hashing).index());
    let waited = std::mem::take(&mut times[line]);
    let of_hashing = (waited * times[hashing]).checked_div(times[hashing] + times[disk]).unwrap_or(0);
    times[hashing] += of_hashing;
    times[disk] += waited - of_hashing;
    let all: u128 = times.iter().sum();
    if all == 0 {
        return None;
    }
    let [source, hashing, path, peer, disk, limit, _] =
        times.map(|time| ((time * 100 + all / 2) / all) as u8);
    Some(Shares { source, hashing, path, peer, disk, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Now {
        Duration::from_millis(millis)
    }

    fn of(waits: &mut Waits, at: u64) -> Shares {
        waits.shares(ms(at)).unwrap()
    }

    #[test]
    fn chunks_gather_where_it_is_slowest() {
        let mut waits = Waits::new(Stage::Source, ms(0));
        assert_eq!(waits.shares(ms(0)), None);
        // Three on the path all the time, and now and then one is read.
        (0..3).for_each(|_| waits.enter(Place::At(Stage::Path), ms(0)));
        for at in [100, 200, 300] {
            waits.enter(Place::At(Stage::Source), ms(at));
            waits.leave(Place::At(Stage::Source), ms(at + 10));
        }
        let shares = of(&mut waits, 400);
        assert_eq!(shares, Shares { source: 2, path: 98, ..Shares::default() });
        assert_eq!(shares.largest(), Some(Stage::Path));
    }

    #[test]
    fn what_stands_in_line_counts_with_what_it_stands_in_line_for() {
        let mut waits = Waits::new(Stage::Disk, ms(0));
        (0..8).for_each(|_| waits.enter(Place::Line, ms(0)));
        assert_eq!(of(&mut waits, 10).largest(), Some(Stage::Disk), "nothing is known of either yet");
        waits.enter(Place::At(Stage::Hashing), ms(10));
        waits.leave(Place::At(Stage::Hashing), ms(40));
        waits.enter(Place::At(Stage::Disk), ms(40));
        waits.leave(Place::At(Stage::Disk), ms(50));
        assert_eq!(of(&mut waits, 50), Shares { hashing: 75, disk: 25, ..Shares::default() });
    }

    #[test]
    fn with_nothing_to_do_here_it_is_the_peers_turn() {
        let mut waits = Waits::new(Stage::Disk, ms(0));
        assert_eq!(of(&mut waits, 90), Shares { peer: 100, ..Shares::default() });
        waits.set(Place::At(Stage::Limit), 1, ms(100));
        assert_eq!(of(&mut waits, 400), Shares { peer: 25, limit: 75, ..Shares::default() });
    }

    #[test]
    fn what_was_long_ago_is_forgotten_and_the_clock_may_stand_still() {
        let mut waits = Waits::new(Stage::Source, ms(0));
        waits.enter(Place::At(Stage::Path), ms(0));
        for at in 0..100_000 {
            waits.shares(ms(at));
        }
        assert!(waits.samples.len() < 50);
        waits.leave(Place::At(Stage::Path), ms(100_000));
        waits.leave(Place::At(Stage::Path), ms(99_000));
        waits.enter(Place::At(Stage::Source), ms(100_000));
        for at in 1000..1100 {
            waits.shares(ms(at * 100));
        }
        assert_eq!(of(&mut waits, 110_000), Shares { source: 100, ..Shares::default() });
        assert_eq!(Shares::default().largest(), None);
    }
}
