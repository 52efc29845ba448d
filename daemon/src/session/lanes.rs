//! What the transfers of this daemon to one target share: so many of them run at a time, one of them dials for all, and
//! what a dial came to is told to everybody who was waiting for it. Who runs next, of all targets, is for the protocol's
//! [`Queue`] to say.
//!
//! ```text
//!  asked ─▶ waits for a place ─▶ waits for the dial ─▶ connection ─▶ runs, and gives its place back
//!                  │                    │
//!                  └────────────────────┴─▶ a dial that began after it asked has failed: so has it
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use p2p_protocol::{
    control::WaitReason,
    limits::SAID_AWAY,
    queue::{Order, Queue, Rank},
};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Sessions, error::RunError, job::Job, links::Link, while_wanted};

/// All targets that somebody has to do with, and who may run.
#[derive(Debug)]
pub(crate) struct Lanes(Mutex<State>);

#[derive(Debug)]
struct State {
    lanes: HashMap<String, Arc<Lane>>,
    queue: Queue<String>,
    waiting: HashMap<u64, Waiting>,
    last_ticket: u64,
}

/// Whoever waits for a place, by its ticket.
#[derive(Debug)]
struct Waiting {
    rank: Rank,
    lane: String,
    grant: oneshot::Sender<Permit>,
}

/// One target, as typed.
#[derive(Debug)]
pub(crate) struct Lane {
    target: String,
    /// Held by whoever dials; how the last dial failed, if it did.
    dial: tokio::sync::Mutex<Option<FailedDial>>,
}

/// A dial that nobody answered.
#[derive(Debug)]
pub(crate) struct FailedDial {
    pub(crate) begun: Instant,
    pub(crate) error: RunError,
}

/// The right to run, given back when it is dropped.
#[derive(Debug)]
struct Permit {
    lanes: Arc<Lanes>,
    lane: String,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lanes.lock().queue.ended(&self.lane);
        self.lanes.admit();
    }
}

/// A place that was asked for. Dropping it takes that back.
#[derive(Debug)]
pub(crate) struct Asked {
    lanes: Arc<Lanes>,
    lane: Arc<Lane>,
    ticket: u64,
    at: Instant,
    granted: oneshot::Receiver<Permit>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut state = self.lanes.lock();
        if let Some(Waiting { rank, lane, .. }) = state.waiting.remove(&self.ticket) {
            state.queue.withdraw(&lane, &rank);
        }
    }
}

/// A transfer's place among those that run. It ends with the run.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) lane: Arc<Lane>,
    /// When it was asked for.
    pub(crate) asked: Instant,
    _permit: Option<Permit>,
}

impl Lanes {
    /// So many may run at a time in all, and so many to one target.
    pub(crate) fn new(most: usize, most_per_target: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            lanes: HashMap::new(),
            queue: Queue::new(most, most_per_target),
            waiting: HashMap::new(),
            last_ticket: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a place of a transfer.
    pub(crate) fn ask(self: &Arc<Self>, target: &str, transfer: u64, order: Order) -> Asked {
        let (grant, granted) = oneshot::channel();
        let mut state = self.lock();
        state.last_ticket += 1;
        let (ticket, lane) = (state.last_ticket, state.lane(target));
        let rank = Rank { order, transfer, ticket };
        state.waiting.insert(ticket, Waiting { rank, lane: target.to_owned(), grant });
        state.queue.ask(&lane.target, rank);
        drop(state);
        self.admit();
        Asked { lanes: self.clone(), lane, ticket, at: Instant::now(), granted }
    }

    /// What waits of a transfer has another place in the order from now on.
    pub(crate) fn reorder(&self, transfer: u64, order: Order) {
        let mut state = self.lock();
        let State { queue, waiting, .. } = &mut *state;
        for waiting in waiting.values_mut().filter(|waiting| waiting.rank.transfer == transfer) {
            let rank = Rank { order, ..waiting.rank };
            if queue.withdraw(&waiting.lane, &waiting.rank) {
                queue.ask(&waiting.lane, rank);
            }
            waiting.rank = rank;
        }
    }

    /// Lets in whoever may run.
    fn admit(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let Some((lane, rank)) = state.queue.next() else { return };
            let waiting = state.waiting.remove(&rank.ticket);
            // A permit that nobody takes is given back, which needs the lock.
            drop(state);
            let permit = Permit { lanes: self.clone(), lane };
            if let Some(waiting) = waiting {
                let _ = waiting.grant.send(permit);
            }
        }
    }
}

impl State {
    fn lane(&mut self, target: &str) -> Arc<Lane> {
        if let Some(lane) = self.lanes.get(target) {
            return lane.clone();
        }
        self.lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        let lane = Arc::new(Lane { target: target.to_owned(), dial: tokio::sync::Mutex::default() });
        self.lanes.insert(target.to_owned(), lane.clone());
        lane
    }
}

impl Asked {
    /// The place, if it was free.
    fn at_once(&mut self) -> Option<Place> {
        self.granted.try_recv().ok().map(|permit| self.with(Some(permit)))
    }

    /// The place, once there is one.
    pub(crate) async fn place(mut self) -> Place {
        // Fails only where whoever gives places is gone.
        let permit = (&mut self.granted).await.ok();
        self.with(permit)
    }

    fn with(&self, permit: Option<Permit>) -> Place {
        Place { lane: self.lane.clone(), asked: self.at, _permit: permit }
    }
}

impl Place {
    /// The right to dial, once nobody else does.
    ///
    /// # Errors
    /// A dial has failed that began after this place was asked for: there is no need for another.
    pub(crate) async fn dial(&self) -> Result<tokio::sync::MutexGuard<'_, Option<FailedDial>>, RunError> {
        let dial = self.lane.dial.lock().await;
        match &*dial {
            Some(failed) if failed.begun >= self.asked => Err(failed.error.clone()),
            _ => Ok(dial),
        }
    }
}

impl Sessions {
    /// A connection to a target, with its own conversations attended to, and a place there for as long as the run lasts.
    /// Ends early when the job does.
    pub(super) async fn reach(
        self: &Arc<Self>,
        job: &Job,
        target: &str,
        stop: &CancellationToken,
    ) -> Result<(Arc<Link>, bool, Place), RunError> {
        let mut asked = self.links.lanes().ask(target, job.number(), job.wish().order());
        let place = match asked.at_once() {
            Some(place) => place,
            None => {
                job.wait(WaitReason::Queue);
                let place = while_wanted(job, stop, asked.place()).await?;
                job.resume();
                place
            }
        };
        // What many wait before has no room of its own in them.
        let dial = Box::pin(self.links.dial(target, job.spec().key_policy(), &place, job.wish().background));
        let (link, fresh) = while_wanted(job, stop, with_a_word(job, dial)).await??;
        if fresh {
            tokio::spawn(self.clone().attend(link.clone()));
        }
        Ok((link, fresh, place))
    }
}

/// Waits for a dial. Where that takes long, the owner is told that the peer is not there.
async fn with_a_word<T>(job: &Job, dial: impl Future<Output = T>) -> T {
    tokio::pin!(dial);
    match tokio::time::timeout(SAID_AWAY, &mut dial).await {
        Ok(dialled) => dialled,
        Err(_) => {
            job.wait(WaitReason::Peer);
            let dialled = dial.await;
            job.resume();
            dialled
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::{limits::MAX_RUNNING, queue::Priority, reason::Failure};

    use super::*;

    fn place(lanes: &Arc<Lanes>, target: &str, transfer: u64) -> Option<Place> {
        lanes.ask(target, transfer, Priority::Normal.into()).at_once()
    }

    async fn fail(place: &Place) {
        let mut dial = place.dial().await.unwrap();
        let error = RunError { passing: true, ..RunError::new(Failure::Unreachable, "nobody is there") };
        *dial = Some(FailedDial { begun: Instant::now(), error });
    }

    #[tokio::test]
    async fn those_who_waited_share_what_a_dial_came_to() {
        let lanes = Lanes::new(MAX_RUNNING, 8);
        let (first, second) = (place(&lanes, "b", 1).unwrap(), place(&lanes, "b", 2).unwrap());
        fail(&first).await;
        let error = second.dial().await.unwrap_err();
        assert_eq!((error.failure, error.passing), (Failure::Unreachable, true));
        // Whoever asks afterwards finds out anew, and so do transfers to others.
        assert!(place(&lanes, "b", 3).unwrap().dial().await.is_ok());
        assert!(place(&lanes, "c", 4).unwrap().dial().await.is_ok());
    }

    #[tokio::test]
    async fn what_waits_for_a_place_has_asked_before_it_gets_it() {
        let lanes = Lanes::new(MAX_RUNNING, 2);
        let running = [place(&lanes, "b", 1).unwrap(), place(&lanes, "b", 2).unwrap()];
        let mut asked = lanes.ask("b", 3, Priority::Normal.into());
        assert!(asked.at_once().is_none(), "there is no place left");
        fail(&running[0]).await;
        drop(running);
        assert!(asked.place().await.dial().await.is_err());
        assert!(place(&lanes, "b", 4).unwrap().dial().await.is_ok());
    }

    #[tokio::test]
    async fn places_go_by_priority_and_then_by_age_and_nobody_who_left_gets_one() {
        let lanes = Lanes::new(1, 1);
        let running = place(&lanes, "a", 9).unwrap();
        let mut asked: Vec<_> = [5, 4, 3, 2].map(|n| lanes.ask("b", n, Priority::Normal.into())).into();
        let mut late = lanes.ask("c", 7, Priority::Normal.into());
        lanes.reorder(7, Priority::High.into());
        drop(asked.pop());
        drop(running);
        let first = late.at_once().unwrap();
        assert!(asked.iter_mut().all(|asked| asked.at_once().is_none()));
        drop(first);
        let second = asked[2].at_once();
        assert!(second.is_some() && asked[1].at_once().is_none());
        // One that was let in and did not come for it gives its place back.
        drop(second);
        drop(asked.remove(1));
        assert!(asked[0].at_once().is_some());
        let state = lanes.lock();
        assert_eq!((state.queue.counts(), state.waiting.len()), ((0, 0), 0));
    }
}
