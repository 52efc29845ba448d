//! Offers that wait for their owner's word. The sender's conversation stays open meanwhile; where it breaks, the offer goes
//! on waiting, and what was said to it holds when the sender comes back.

use std::sync::Arc;

use p2p_protocol::{
    Answer,
    control::Summary,
    name::printable,
    policy::Permit,
    reason::{Failure, RefuseReason},
    wire::peer::{Message, Offer, PauseReason},
};
use tokio_util::sync::CancellationToken;

use super::{
    Sessions,
    error::RunError,
    job::{Job, Word, now_ms},
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
        if let Some(answer) = self.registry.answer_to(job) {
            return self.answered(job, link, control, answer).await;
        }
        // A chunk that comes along with the offer would hold memory for as long; it is stopped, and wanted again.
        link.hold_nothing(control.id);
        job.ask_owner(permit.geometry());
        self.registry.save(job);
        let (transfer, size) = (job.number(), permit.geometry().size());
        tracing::info!(transfer, peer = %link.peer(), name = %permit.name(), size, "an offer waits for a yes");
        say(control, &Message::Paused(PauseReason::Owner)).await?;
        // The word on all of it may have come before anybody could see that this waits for it.
        if let Some(answer) = self.registry.answer_to(job)
            && job.decide(Word::of(&answer))
        {
            return self.answered(job, link, control, answer).await;
        }
        let word = tokio::select! {
            word = job.owner_says() => word,
            heard = hear(job, control, stop) => return Err(closed_by(heard?)),
        };
        if word == Word::Yes {
            return Ok(());
        }
        self.turn_down(link, control, &[job.number()]).await?;
        Err(rejected())
    }

    /// Says no to a sender. It knows that of these transfers once that has arrived.
    async fn turn_down(
        &self,
        link: &Link,
        control: &mut ControlStream,
        numbers: &[u64],
    ) -> Result<(), RunError> {
        let jobs: Vec<_> = numbers.iter().filter_map(|number| self.registry.get(*number)).collect();
        jobs.iter().for_each(|job| job.telling_on(link.connection().id()));
        say(control, &Message::Refuse(RefuseReason::Rejected)).await?;
        let (delivered, registry) = (control.sender.delivered(), self.registry.clone());
        let stop = self.shutdown.clone();
        self.runs.spawn(async move {
            if stop.run_until_cancelled(delivered).await == Some(true) {
                for job in jobs {
                    job.told();
                    registry.save(&job);
                }
            }
        });
        Ok(())
    }

    /// Whether an offer is one that its owner said no to while the sender was away, who is told now.
    pub(super) async fn was_rejected(
        &self,
        link: &Link,
        offer: &Offer,
        control: &mut ControlStream,
    ) -> Result<bool, RunError> {
        let peer = link.peer();
        let untold = self.registry.untold(&peer, offer, link.connection().id());
        if untold.is_empty() {
            return Ok(false);
        }
        tracing::info!(%peer, name = %printable(&offer.name), "an offer was rejected before, and its sender is told");
        let numbers: Vec<u64> = untold.iter().map(|job| job.number()).collect();
        self.turn_down(link, control, &numbers).await?;
        Ok(true)
    }

    /// Does what its owner said of all that a transfer is offered together with.
    async fn answered(
        &self,
        job: &Job,
        link: &Link,
        control: &mut ControlStream,
        answer: Answer,
    ) -> Result<(), RunError> {
        job.answered(answer);
        self.registry.save(job);
        if answer.yes {
            return Ok(());
        }
        self.turn_down(link, control, &[job.number()]).await?;
        Err(rejected())
    }

    /// Says yes or no to an offer, and to all that was offered together with it: what has been decided.
    pub(crate) async fn decide(&self, number: u64, word: Word) -> Result<Vec<Summary>, RunError> {
        let job = self.job(number)?;
        if !job.decide(word) {
            let message = format!("transfer {number} waits for no decision; `p2p inbox` lists what does");
            return Err(RunError::new(Failure::Conflict, message));
        }
        // What comes in this moment finds the answer, or is found by it.
        let answer = job.batch().map(|batch| Answer { batch, yes: word == Word::Yes, at_ms: now_ms() });
        answer.into_iter().for_each(|answer| job.answered(answer));
        let mut decided = vec![job];
        for other in self.registry.asked_with(&decided[0]) {
            if other.decide(word) {
                answer.into_iter().for_each(|answer| other.answered(answer));
                decided.push(other);
            }
        }
        for job in &decided {
            if word == Word::No {
                // Its run tells the sender. Where there is none, nobody has to be told.
                let _running = job.running.lock().await;
                if !job.is_over() {
                    self.abandon(job, &rejected()).await;
                }
            }
            self.registry.save(job);
        }
        Ok(decided.iter().map(|job| job.summary()).collect())
    }
}

fn rejected() -> RunError {
    RunError::new(Failure::Cancelled, "rejected")
}
