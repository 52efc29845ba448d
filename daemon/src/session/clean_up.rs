//! What a transfer leaves on this machine besides its result, and its end.

use std::{path::PathBuf, sync::Arc, time::Duration};

use p2p_protocol::control::{Output, State};

use super::{RunError, Sessions, blocking, job::Job, run::path_of, spec::Spec};
use crate::store::{PartialKey, StoreError, Trust};

/// How long a command may take to come back after the daemon was restarted under it.
const SPOOL_KEPT: Duration = Duration::from_secs(30);

impl Sessions {
    /// Ends a transfer that is given up. Of a folder that appeared file by file the files that had appeared stay, as they are whole; all
    /// else is removed.
    pub(super) async fn abandon(&self, job: &Job, error: &RunError) {
        let mut left = None;
        if let Some((folder, keys)) = self.partials_of(job).await {
            let store = self.store.clone();
            let leave = move || keys.iter().find_map(|key| store.leave_shown(&folder, key));
            left = blocking(&self.workers, leave).await.unwrap_or_default();
        }
        self.clean_up(job).await;
        job.leaves(left.as_deref());
        let mut error = error.clone();
        if let Some(path) = left {
            error.message.push_str(&format!("; what had arrived whole stays in {}", path.display()));
        }
        job.fail(&error);
    }

    /// Where the partials of a transfer may be.
    async fn partials_of(&self, job: &Job) -> Option<(PathBuf, Vec<PartialKey>)> {
        Some(match job.spec() {
            Spec::Receive { peer, file_id } => (self.inbox_of(peer), vec![PartialKey::Sent(*file_id, *peer)]),
            Spec::ReceiveUnsealed { peer, key } => {
                let named = job.file_id().map(|id| PartialKey::Sent(id, *peer));
                let keys = named.into_iter().chain([PartialKey::Unsealed(*key, *peer)]);
                (self.inbox_of(peer), keys.collect())
            }
            Spec::Fetch { file_id, output, only, .. } => match self.folder_of(output) {
                // Of a part of a folder there is none before it is known what that is.
                Ok(folder) if !only.is_empty() => {
                    (folder, job.file_id().map(PartialKey::Fetched).into_iter().collect())
                }
                Ok(folder) => (folder, vec![PartialKey::Fetched(*file_id)]),
                Err(error) => {
                    tracing::warn!(transfer = job.number(), %error, "a partial could not be looked for");
                    return None;
                }
            },
            Spec::Send { .. } | Spec::Serve { .. } => return None,
        })
    }

    /// Ends a transfer that was complete when the daemon was killed, and of which only that was not noted yet: its sender knows, and does
    /// not come back. Nothing is left of it then but what has its name.
    pub(super) async fn end_if_complete(self: Arc<Self>, job: Arc<Job>) {
        if let Err(error) = self.look_whether_complete(&job).await {
            tracing::debug!(transfer = job.number(), %error, "whether it is complete is not known");
        }
    }

    async fn look_whether_complete(&self, job: &Job) -> Result<(), RunError> {
        let (Some(peer), Some(id)) = (job.spec().begun_by().map(|(peer, _)| peer), job.file_id()) else {
            return Ok(());
        };
        let Some((folder, keys)) = self.partials_of(job).await else { return Ok(()) };
        // Whoever offers it now finds that out as well.
        let Ok(_running) = job.running.try_lock() else { return Ok(()) };
        let (store, size) = (self.store.clone(), job.total_bytes());
        let found = blocking(&self.workers, move || {
            for key in &keys {
                if store.has_partial(&folder, key)? {
                    return Ok(None);
                }
            }
            let Some(path) = store.catalog().receipt(peer, id)? else { return Ok(None) };
            let is_there = store.holds(&path, id, size, store.is_folder(&path), Trust::Cache)?;
            Ok::<_, StoreError>(is_there.then_some(path))
        });
        if let Some(path) = found.await?? {
            job.done(id, path.display().to_string(), size, None);
            self.registry.save(job);
        }
        Ok(())
    }

    /// Removes what a transfer that is over left on this machine besides its result.
    pub(super) async fn clean_up(&self, job: &Job) {
        self.drop_spooled(job).await;
        let Some((folder, keys)) = self.partials_of(job).await else { return };
        for key in keys {
            let (store, folder) = (self.store.clone(), folder.clone());
            match blocking(&self.workers, move || store.discard_partial(&folder, &key)).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => {
                    tracing::warn!(transfer = job.number(), %error, "a partial could not be removed")
                }
            }
        }
    }

    /// Removes the standard input that a send was of. One that failed keeps it, to be taken up again.
    pub(super) async fn drop_spooled(&self, job: &Job) {
        let Spec::Send { path, spooled: true, .. } = job.spec() else { return };
        let (store, path) = (self.store.clone(), path_of(path));
        if let Ok(Err(error)) = blocking(&self.workers, move || store.remove_spooled(&path)).await {
            tracing::warn!(transfer = job.number(), %error, "spooled standard input could not be removed");
        }
    }

    /// Removes standard input that was spooled and that no transfer can still send.
    pub(super) fn sweep_spool(&self) -> Result<(), RunError> {
        let jobs = self.registry.all();
        let wanted = jobs.iter().filter(|job| !matches!(job.state(), State::Done | State::Cancelled));
        let paths = wanted.filter_map(|job| match job.spec() {
            Spec::Send { path, spooled: true, .. } => Some(path_of(path)),
            _ => None,
        });
        Ok(self.store.sweep_spooled(&paths.collect())?)
    }

    /// Removes what was spooled for a command that does not come back.
    pub(super) async fn forget_spool(self: Arc<Self>, job: Arc<Job>) {
        tokio::time::sleep(SPOOL_KEPT).await;
        let wanted = |other: &Arc<Job>| {
            let to_stdout = matches!(other.spec(), Spec::Fetch { output: Output::Stdout, .. });
            to_stdout && !other.is_over() && other.file_id() == job.file_id()
        };
        if !self.registry.all().iter().any(wanted) {
            self.clean_up(&job).await;
        }
    }
}
