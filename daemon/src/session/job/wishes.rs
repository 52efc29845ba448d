//! What a transfer's owner wishes of it besides that it be done: that it wait, what it comes before, how fast it may go.

use p2p_protocol::{
    control::{Happening, State, TransferEvent, WaitReason, Wishes},
    queue::{Order, Priority},
    rate::Rate,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Job;
use crate::session::{error::RunError, spec::Spec};

/// What its owner wishes now. It outlives the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    /// Whether it waits until its owner says that it goes on.
    pub(crate) paused: bool,
    /// What it comes before.
    pub(crate) priority: Priority,
    /// How fast it may go.
    pub(crate) limit: Option<Rate>,
    /// Whether it yields to whatever else is on its way.
    #[serde(default)]
    pub(crate) background: bool,
}

impl Wish {
    /// What it comes before.
    pub(crate) fn order(self) -> Order {
        Order { background: self.background, priority: self.priority }
    }
}

impl Job {
    /// What its owner wishes.
    pub(crate) fn wish(&self) -> Wish {
        *self.wish.borrow()
    }

    /// The same, and what it changes to.
    pub(crate) fn wishes(&self) -> watch::Receiver<Wish> {
        self.wish.subscribe()
    }

    /// Takes what a request names.
    pub(crate) fn ask_for(&self, wishes: Wishes) {
        self.wish.send_modify(|wish| {
            wish.priority = wishes.priority.unwrap_or(wish.priority);
            wish.limit = wishes.limit.or(wish.limit);
            wish.background |= wishes.background;
        });
    }

    /// Whether it yields, as whoever started it wishes.
    pub(crate) fn set_background(&self, background: bool) {
        self.wish.send_modify(|wish| wish.background = background);
    }

    /// Whether a peer started it.
    fn is_of_peer(&self) -> bool {
        !matches!(self.spec, Spec::Send { .. } | Spec::Fetch { .. })
    }

    /// Gives it another place in the queue; false if it is over.
    pub(crate) fn prioritise(&self, priority: Priority) -> bool {
        if !self.is_over() {
            self.ask_for(Wishes { priority: Some(priority), ..Wishes::default() });
        }
        !self.is_over()
    }

    /// Lets it go no faster than that from now on; false if it is over.
    pub(crate) fn limit(&self, limit: Option<Rate>) -> bool {
        if !self.is_over() {
            self.wish.send_modify(|wish| wish.limit = limit);
        }
        !self.is_over()
    }

    /// Makes it wait from now on; false if it is over.
    pub(crate) fn pause(&self) -> bool {
        if self.is_over() {
            return false;
        }
        let paused = self.wish.send_if_modified(|wish| !std::mem::replace(&mut wish.paused, true));
        if paused {
            tracing::info!(transfer = self.number, "paused");
            self.happened(Happening::Paused);
            // The run of one that a peer started ends; that of any other sees it by itself.
            if self.is_of_peer() {
                self.lock().run.cancel();
            }
            self.wait(WaitReason::Paused);
        }
        true
    }

    /// Lets it go on; false if it is over.
    pub(crate) fn unpause(&self) -> bool {
        if self.is_over() {
            return false;
        }
        let resumed = self.wish.send_if_modified(|wish| std::mem::replace(&mut wish.paused, false));
        if resumed {
            tracing::info!(transfer = self.number, "goes on");
            self.happened(Happening::Resumed);
            let mut state = self.lock();
            if state.waiting == Some(WaitReason::Paused) {
                let reason = state.waits_for();
                state.waiting = self.is_of_peer().then_some(reason);
                if self.is_of_peer() {
                    state.tell(&TransferEvent::Waiting { transfer: self.number, reason });
                }
            }
        }
        true
    }

    /// Its run has ended because it was paused.
    pub(crate) fn held(&self) {
        let mut state = self.lock();
        if !state.is_over() {
            state.state = State::Waiting;
            state.progress.stand_still();
        }
        drop(state);
        self.wait(WaitReason::Paused);
    }

    /// Waits until it is paused. Cancel-safe.
    pub(crate) async fn is_paused(&self) {
        // The sender is this job's own, so that there is always one.
        let _ = self.wishes().wait_for(|wish| wish.paused).await;
    }

    /// Waits until it is not. Cancel-safe.
    pub(crate) async fn is_unpaused(&self) {
        let _ = self.wishes().wait_for(|wish| !wish.paused).await;
    }

    /// Why its run was stopped.
    pub(crate) fn stopped(&self) -> RunError {
        if self.wish().paused { RunError::paused() } else { RunError::stopped() }
    }
}
