//! Taking transfers up again that failed or were cancelled.

use std::{collections::BTreeMap, sync::Arc};

use p2p_protocol::{
    Batch, BatchId,
    control::{Output, State},
    reason::Failure,
};

use super::{RunError, Sessions, Spec, job::Job};

impl Sessions {
    /// Takes failed or cancelled transfers up again, in this order. Of several those are passed over that have not ended so; and
    /// what was refused together is offered together once more.
    pub(crate) fn retry(self: &Arc<Self>, numbers: &[u64]) -> Result<Vec<Arc<Job>>, RunError> {
        let (mut revived, mut refused) = (Vec::new(), None);
        let mut apart: BTreeMap<BatchId, (Batch, Vec<Arc<Job>>)> = BTreeMap::new();
        // That one is not there is found out before any is begun.
        let jobs = numbers.iter().map(|number| self.job(*number)).collect::<Result<Vec<_>, _>>()?;
        for job in jobs {
            let before = job.batch();
            match revive(&job) {
                Ok(()) => revived.push(job.clone()),
                Err(error) => {
                    refused.get_or_insert(error);
                    continue;
                }
            }
            if let Some(batch) = before.filter(|_| job.batch().is_none()) {
                apart.entry(batch.id).or_insert((batch, Vec::new())).1.push(job);
            }
        }
        if let (true, Some(error)) = (revived.is_empty(), refused) {
            return Err(error);
        }
        for (batch, jobs) in apart.into_values() {
            let is_whole = jobs.len() == batch.count as usize;
            self.offer_together(jobs.iter(), batch.total_bytes.filter(|_| is_whole));
        }
        for job in &revived {
            self.registry.save(job);
            self.spawn_in_order(job.clone());
        }
        Ok(revived)
    }
}

/// Makes one wait again.
fn revive(job: &Job) -> Result<(), RunError> {
    let number = job.number();
    let refused = |why: &str| Err(RunError::new(Failure::Conflict, format!("transfer {number} {why}")));
    match job.spec() {
        Spec::Receive { .. } | Spec::ReceiveUnsealed { .. } | Spec::Serve { .. } => {
            return refused("was started by the peer, and goes on when the peer starts it again");
        }
        Spec::Fetch { output: Output::Stdout, .. } => {
            return refused("wrote to a command that has gone; run that command again");
        }
        Spec::Send { .. } | Spec::Fetch { .. } => {}
    }
    if job.revive() {
        return Ok(());
    }
    refused(match job.state() {
        State::Done => "is done",
        _ if job.wish().paused => "is paused; let it go on with `p2p resume`",
        _ => "is running",
    })
}
