//! Transfers that their owner holds back: one of this side ends its run and waits, with its partial and its place in the
//! queue; one that a peer sends is held when the peer offers it again.

use std::{convert::Infallible, sync::Arc};

use p2p_protocol::{
    control::WaitReason,
    queue::Priority,
    reason::Failure,
    wire::peer::{Message, PauseReason},
};
use tokio_util::sync::CancellationToken;

use super::{
    Sessions,
    error::RunError,
    job::Job,
    links::Link,
    run::{closed_by, hear},
    say,
    spec::Spec,
};
use crate::{store::Source, transport::ControlStream};

impl Sessions {
    /// Holds a transfer back.
    pub(crate) fn pause(&self, number: u64) -> Result<(), RunError> {
        let job = self.job(number)?;
        if matches!(job.spec(), Spec::Serve { .. }) {
            let message = format!(
                "transfer {number} is a peer's fetch, which that peer can pause; here it can be cancelled"
            );
            return Err(RunError::new(Failure::Conflict, message));
        }
        self.changed(&job, job.pause())
    }

    /// Lets a transfer go on that was held back.
    pub(crate) fn unpause(&self, number: u64) -> Result<(), RunError> {
        let job = self.job(number)?;
        self.changed(&job, job.unpause())
    }

    /// Gives a transfer another place in the queue. One that runs goes on running.
    pub(crate) fn prioritise(&self, number: u64, priority: Priority) -> Result<(), RunError> {
        let job = self.job(number)?;
        let changed = job.prioritise(priority);
        self.links.lanes().reorder(number, job.wish().order());
        self.changed(&job, changed)
    }

    pub(super) fn changed(&self, job: &Job, changed: bool) -> Result<(), RunError> {
        if !changed {
            let message = format!("transfer {} is over already", job.number());
            return Err(RunError::new(Failure::Conflict, message));
        }
        self.registry.save(job);
        Ok(())
    }

    /// Waits for as long as a transfer of this side is held back.
    pub(super) async fn hold(&self, job: &Job, stop: &CancellationToken) {
        let cancelled = job.cancelled();
        if !job.wish().paused || cancelled.is_cancelled() || stop.is_cancelled() {
            return;
        }
        job.held();
        self.registry.save(job);
        tokio::select! {
            () = job.is_unpaused() => {}
            () = cancelled.cancelled() => {}
            () = stop.cancelled() => {}
        }
    }

    /// Works on a transfer until that ends by itself, or is held back.
    pub(super) async fn run_until_paused(
        self: &Arc<Self>,
        job: &Arc<Job>,
        source: &mut Option<Arc<Source>>,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let run = stop.child_token();
        // It is told to stop and comes to an end of its own: what was received is to be kept.
        let pausing = async {
            job.is_paused().await;
            run.cancel();
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            result = self.run_once(job, source, &run) => result,
            never = pausing => match never {},
        }
    }

    /// Holds a peer's offer for as long as its transfer is held back here.
    pub(super) async fn hold_offer(
        &self,
        job: &Job,
        link: &Arc<Link>,
        control: &mut ControlStream,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        if !job.wish().paused {
            return Ok(());
        }
        // A chunk that comes along with the offer would hold memory for as long; it is stopped, and wanted again.
        link.hold_nothing(control.id);
        job.wait(WaitReason::Paused);
        say(control, &Message::Paused(PauseReason::Owner)).await?;
        tokio::select! {
            () = job.is_unpaused() => Ok(()),
            heard = hear(job, control, stop) => Err(closed_by(heard?)),
        }
    }
}
