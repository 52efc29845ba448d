//! Offers that wait for their owner's word. The sender's conversation stays open meanwhile; where it breaks, the offer goes
//! on waiting, and what was said to it holds when the sender comes back.

use std::sync::Arc;

use p2p_protocol::{
    policy::Permit,
    reason::{Failure, RefuseReason},
    wire::peer::{Message, PauseReason},
};
use tokio_util::sync::CancellationToken;

use super::{
    Sessions,
    error::RunError,
    job::{Job, Word},
    links::Link,
    run::{closed_by, hear},
    say,
};
use crate::transport::ControlStream;

impl Sessions {
    /// Waits, where the owner wants to be asked, until there is a yes.
    pub(super) async fn ask_owner(
        &self,
        job: &Job,
        link: &Arc<Link>,
        control: &mut ControlStream,
        permit: &Permit,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        if !self.asks_about(&link.peer()) || job.word() == Word::Yes {
            return Ok(());
        }
        // A chunk that comes along with the offer would hold memory for as long; it is stopped, and wanted again.
        link.hold_nothing(control.id);
        job.ask_owner(permit.geometry());
        self.registry.save(job);
        let (transfer, size) = (job.number(), permit.geometry().size());
        tracing::info!(transfer, peer = %link.peer(), name = %permit.name(), size, "an offer waits for a yes");
        say(control, &Message::Paused(PauseReason::Owner)).await?;
        let word = tokio::select! {
            word = job.owner_says() => word,
            heard = hear(job, control, stop) => return Err(closed_by(heard?)),
        };
        if word == Word::Yes {
            return Ok(());
        }
        say(control, &Message::Refuse(RefuseReason::Rejected)).await?;
        Err(rejected())
    }

    /// Says yes or no to an offer.
    pub(crate) async fn decide(&self, number: u64, word: Word) -> Result<(), RunError> {
        let job = self.job(number)?;
        if !job.decide(word) {
            let message = format!("transfer {number} waits for no decision; `p2p inbox` lists what does");
            return Err(RunError::new(Failure::Conflict, message));
        }
        if word == Word::No {
            // Its run tells the sender. Where there is none, nobody has to be told.
            let _running = job.running.lock().await;
            if !job.is_over() {
                self.clean_up(&job).await;
                job.fail(&rejected());
            }
        }
        self.registry.save(&job);
        Ok(())
    }
}

fn rejected() -> RunError {
    RunError::new(Failure::Cancelled, "rejected")
}
