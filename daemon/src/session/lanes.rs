//! What the transfers of this daemon to one target share: so many of them run at a time, one of them dials for all, and
//! what a dial came to is told to everybody who was waiting for it.
//!
//! ```text
//!  asked ─▶ waits for a place ─▶ waits for the dial ─▶ connection ─▶ runs, and gives its place back
//!                  │                    │
//!                  └────────────────────┴─▶ a dial that began after it asked has failed: so has it
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use p2p_protocol::{control::WaitReason, limits::MAX_RUNNING_PER_TARGET};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Sessions, error::RunError, job::Job, links::Link, while_wanted};

/// All targets that somebody has to do with.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<HashMap<String, Arc<Lane>>>);

/// One target, as typed.
#[derive(Debug)]
pub(crate) struct Lane {
    places: Arc<Semaphore>,
    /// Held by whoever dials; how the last dial failed, if it did.
    dial: tokio::sync::Mutex<Option<FailedDial>>,
}

/// A dial that nobody answered.
#[derive(Debug)]
pub(crate) struct FailedDial {
    pub(crate) begun: Instant,
    pub(crate) error: RunError,
}

/// A transfer's place among those that run. It ends with the run.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) lane: Arc<Lane>,
    /// When it was asked for.
    pub(crate) asked: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    /// The lane of a target.
    pub(crate) fn of(&self, target: &str) -> Arc<Lane> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(target) {
            return lane.clone();
        }
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        let lane = Arc::new(Lane {
            places: Arc::new(Semaphore::new(MAX_RUNNING_PER_TARGET)),
            dial: tokio::sync::Mutex::default(),
        });
        lanes.insert(target.to_owned(), lane.clone());
        lane
    }
}

impl Lane {
    /// A place, if one is free.
    pub(crate) fn try_place(self: &Arc<Self>) -> Option<Place> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        Some(Place { lane: self.clone(), asked: Instant::now(), _permit: Some(permit) })
    }

    /// A place, once one is free; in the order of asking.
    pub(crate) async fn place(self: Arc<Self>) -> Place {
        let asked = Instant::now();
        // Fails only where the semaphore is closed, which nobody does.
        let permit = self.places.clone().acquire_owned().await.ok();
        Place { lane: self, asked, _permit: permit }
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
        let lane = self.links.lane(target);
        let place = match lane.try_place() {
            Some(place) => place,
            None => {
                job.wait(WaitReason::Queue);
                let place = while_wanted(job, stop, lane.place()).await?;
                job.resume();
                place
            }
        };
        let dial = self.links.dial(target, job.spec().key_policy(), &place);
        let (link, fresh) = while_wanted(job, stop, dial).await??;
        if fresh {
            tokio::spawn(self.clone().attend(link.clone()));
        }
        Ok((link, fresh, place))
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::reason::Failure;

    use super::*;

    async fn fail(place: &Place) {
        let mut dial = place.dial().await.unwrap();
        let error = RunError { passing: true, ..RunError::new(Failure::Unreachable, "nobody is there") };
        *dial = Some(FailedDial { begun: Instant::now(), error });
    }

    #[tokio::test]
    async fn those_who_waited_share_what_a_dial_came_to() {
        let lanes = Lanes::default();
        let (first, second) = (lanes.of("b").try_place().unwrap(), lanes.of("b").try_place().unwrap());
        fail(&first).await;
        let error = second.dial().await.unwrap_err();
        assert_eq!((error.failure, error.passing), (Failure::Unreachable, true));
        // Whoever asks afterwards finds out anew, and so do transfers to others.
        assert!(lanes.of("b").try_place().unwrap().dial().await.is_ok());
        assert!(lanes.of("c").try_place().unwrap().dial().await.is_ok());
    }

    #[tokio::test]
    async fn what_waits_for_a_place_has_asked_before_it_gets_it() {
        let lanes = Lanes::default();
        let lane = lanes.of("b");
        let running: Vec<_> = std::iter::from_fn(|| lane.try_place()).collect();
        assert_eq!(running.len(), MAX_RUNNING_PER_TARGET);
        let mut waiting = Box::pin(lane.clone().place());
        assert!(poll_once(&mut waiting).is_none(), "there is no place left");
        fail(&running[0]).await;
        drop(running);
        assert!(waiting.await.dial().await.is_err());
        assert!(lane.try_place().unwrap().dial().await.is_ok());
    }

    /// Polls once.
    fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        }
    }
}
