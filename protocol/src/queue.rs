//! Which of the transfers that wait may run: so many at a time in all, so many in each lane, which is a target; first by
//! priority, then by age.
//!
//! ```text
//!  ask ─▶ waits ─▶ next ─▶ runs ─▶ ended
//!           │
//!           └─▶ withdraw
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

use serde::{Deserialize, Serialize};

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    High,
    /// As most.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

/// What comes first, of all that may be said of it: whatever is in the background comes after all that is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// Decides first.
    pub background: bool,
    /// Decides among those of the background, and among all others.
    pub priority: Priority,
}

impl From<Priority> for Order {
    fn from(priority: Priority) -> Self {
        Self { background: false, priority }
    }
}

/// A place in the order. The smaller comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// Decides first.
    pub order: Order,
    /// A number that grows with every transfer.
    pub transfer: u64,
    /// Tells apart what one transfer asks for at several times.
    pub ticket: u64,
}

/// Those that wait and the number of those that run.
#[derive(Clone, Debug)]
pub struct Queue<L> {
    most: usize,
    most_per_lane: usize,
    running: usize,
    lanes: HashMap<L, Lane>,
    /// The first of each lane that has room.
    ready: BTreeMap<Rank, L>,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    running: usize,
    waiting: BTreeSet<Rank>,
    /// Which of them stands for it among the ready ones.
    ready: Option<Rank>,
}

impl<L: Clone + Eq + Hash> Queue<L> {
    /// Nothing waits and nothing runs.
    pub fn new(most: usize, most_per_lane: usize) -> Self {
        Self { most, most_per_lane, running: 0, lanes: HashMap::new(), ready: BTreeMap::new() }
    }

    /// Wants to run.
    pub fn ask(&mut self, lane: &L, rank: Rank) {
        self.lanes.entry(lane.clone()).or_default().waiting.insert(rank);
        self.refresh(lane);
    }

    /// Waits no longer; false if it did not.
    pub fn withdraw(&mut self, lane: &L, rank: &Rank) -> bool {
        let waited = self.lanes.get_mut(lane).is_some_and(|lane| lane.waiting.remove(rank));
        self.refresh(lane);
        waited
    }

    /// Whoever may run now, and counts as running from here on.
    #[expect(clippy::should_implement_trait, reason = "what is next changes with what is asked and ended")]
    pub fn next(&mut self) -> Option<(L, Rank)> {
        if self.running >= self.most {
            return None;
        }
        let (rank, lane) = self.ready.first_key_value().map(|(rank, lane)| (*rank, lane.clone()))?;
        let found = self.lanes.get_mut(&lane)?;
        found.waiting.remove(&rank);
        found.running += 1;
        self.running += 1;
        self.refresh(&lane);
        Some((lane, rank))
    }

    /// One that ran in this lane runs no longer.
    pub fn ended(&mut self, lane: &L) {
        if let Some(found) = self.lanes.get_mut(lane).filter(|lane| lane.running > 0) {
            found.running -= 1;
            self.running -= 1;
        }
        self.refresh(lane);
    }

    /// Those that run, and those that wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.running, self.lanes.values().map(|lane| lane.waiting.len()).sum())
    }

    fn refresh(&mut self, name: &L) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let first = lane.waiting.first().filter(|_| lane.running < self.most_per_lane).copied();
        if first != lane.ready {
            if let Some(rank) = std::mem::replace(&mut lane.ready, first) {
                self.ready.remove(&rank);
            }
            if let Some(rank) = first {
                self.ready.insert(rank, name.clone());
            }
        }
        if lane.running == 0 && lane.waiting.is_empty() {
            self.lanes.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rank(priority: Priority, transfer: u64) -> Rank {
        Rank { order: priority.into(), transfer, ticket: 0 }
    }

    fn admitted(queue: &mut Queue<&'static str>) -> Vec<u64> {
        std::iter::from_fn(|| queue.next()).map(|(_, rank)| rank.transfer).collect()
    }

    #[test]
    fn priority_comes_before_age_and_age_before_the_order_of_asking() {
        let mut queue = Queue::new(1, 1);
        queue.ask(&"b", rank(Priority::Normal, 5));
        assert_eq!(admitted(&mut queue), [5]);
        for (priority, transfer) in [
            (Priority::Low, 1),
            (Priority::Normal, 4),
            (Priority::Normal, 3),
            (Priority::High, 9),
            (Priority::High, 8),
        ] {
            queue.ask(&"b", rank(priority, transfer));
        }
        let mut order = Vec::new();
        for _ in 0..5 {
            queue.ended(&"b");
            order.extend(admitted(&mut queue));
        }
        assert_eq!(order, [8, 9, 3, 4, 1]);
        queue.ended(&"b");
        assert_eq!((queue.counts(), queue.lanes.len()), ((0, 0), 0));
    }

    #[test]
    fn what_is_in_the_background_comes_last_whatever_its_priority() {
        let mut queue = Queue::new(1, 1);
        queue.ask(&"b", rank(Priority::Normal, 9));
        assert_eq!(admitted(&mut queue), [9]);
        let behind = |priority, transfer| Rank {
            order: Order { background: true, priority },
            ..rank(Priority::Normal, transfer)
        };
        queue.ask(&"b", behind(Priority::Normal, 1));
        queue.ask(&"b", behind(Priority::High, 2));
        queue.ask(&"b", rank(Priority::Low, 3));
        let next = |queue: &mut Queue<_>| {
            queue.ended(&"b");
            admitted(queue)
        };
        assert_eq!([next(&mut queue), next(&mut queue), next(&mut queue)], [[3], [2], [1]]);
    }

    #[test]
    fn a_full_lane_holds_up_no_other() {
        let mut queue = Queue::new(4, 2);
        (1..=5).for_each(|n| queue.ask(&"b", rank(Priority::High, n)));
        queue.ask(&"c", rank(Priority::Low, 6));
        assert_eq!(admitted(&mut queue), [1, 2, 6]);
        // In all there is room for one more, in the lane there is none.
        queue.ended(&"c");
        assert_eq!(admitted(&mut queue), Vec::<u64>::new());
        queue.ended(&"b");
        assert_eq!(admitted(&mut queue), [3]);
    }

    #[test]
    fn what_is_withdrawn_or_moved_is_where_it_should_be() {
        let mut queue = Queue::new(1, 1);
        queue.ask(&"b", rank(Priority::Normal, 1));
        assert_eq!(admitted(&mut queue), [1]);
        (2..=4).for_each(|n| queue.ask(&"b", rank(Priority::Normal, n)));
        assert!(queue.withdraw(&"b", &rank(Priority::Normal, 2)));
        assert!(!queue.withdraw(&"b", &rank(Priority::Normal, 2)));
        assert!(queue.withdraw(&"b", &rank(Priority::Normal, 4)));
        queue.ask(&"b", rank(Priority::High, 4));
        queue.ended(&"b");
        assert_eq!(admitted(&mut queue), [4]);
    }

    #[test]
    fn an_end_where_nothing_ran_is_none() {
        let mut queue = Queue::new(1, 1);
        queue.ask(&"b", rank(Priority::Normal, 1));
        queue.ask(&"c", rank(Priority::Normal, 2));
        assert_eq!(admitted(&mut queue), [1]);
        queue.ended(&"c");
        assert_eq!((admitted(&mut queue), queue.counts()), (vec![], (1, 1)));
    }

    proptest! {
        /// Whatever is asked, withdrawn and ended, the limits hold, and nobody waits while there is room for them.
        #[test]
        fn limits_hold_and_room_is_used(steps in prop::collection::vec((0_u8..4, 0_u8..3, 0_u64..40), 1..200)) {
            let (most, most_per_lane) = (5, 2);
            let mut queue = Queue::new(most, most_per_lane);
            let mut running: HashMap<u8, usize> = HashMap::new();
            let mut waiting: BTreeSet<(u8, Rank)> = BTreeSet::new();
            for (step, lane, n) in steps {
                let priority = [Priority::High, Priority::Normal, Priority::Low][(n % 3) as usize];
                let order = Order { background: n % 4 == 0, priority };
                let rank = Rank { order, transfer: n, ticket: lane.into() };
                match step {
                    0 | 1 => {
                        waiting.insert((lane, rank));
                        queue.ask(&lane, rank);
                    }
                    2 => {
                        let waited = waiting.remove(&(lane, rank));
                        prop_assert_eq!(queue.withdraw(&lane, &rank), waited);
                    }
                    _ => {
                        if let Some(count) = running.get_mut(&lane).filter(|count| **count > 0) {
                            *count -= 1;
                        }
                        queue.ended(&lane);
                    }
                }
                while let Some((lane, rank)) = queue.next() {
                    prop_assert!(waiting.remove(&(lane, rank)));
                    let has_room = |lane: &u8| running.get(lane).is_none_or(|count| *count < most_per_lane);
                    let better = waiting.iter().find(|(other, better)| *better < rank && has_room(other));
                    prop_assert_eq!(better, None);
                    *running.entry(lane).or_default() += 1;
                }
                let all: usize = running.values().sum();
                prop_assert!(all <= most && running.values().all(|count| *count <= most_per_lane));
                let has_room = |lane: &u8| running.get(lane).is_none_or(|count| *count < most_per_lane);
                prop_assert!(all == most || waiting.iter().all(|(lane, _)| !has_room(lane)));
                prop_assert_eq!(queue.counts(), (all, waiting.len()));
            }
        }
    }
}
