//! What a folder's conversation has besides a file's: the list of its entries, and which files are to be moved.

use std::{path::Path, sync::Arc, time::Duration};

use p2p_protocol::{
    Manifest,
    control::WaitReason,
    limits::{MANIFEST_PART_LEN, TRANSFER_PROGRESS_DEADLINE},
    policy::Permit,
    reason::PeerMisbehaved,
    wire::peer::{AcceptFolder, Message, PauseReason},
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{
    Sessions, blocking,
    error::RunError,
    job::Job,
    run::{closed_by, hear},
    say, while_wanted,
};
use crate::{
    store::{PartialKey, StoreError},
    transport::ControlStream,
    workers::Workers,
};

/// Whoever waits longer than this for memory is told that it waits.
const SOON: Duration = Duration::from_millis(100);
/// Unit in which the memory for lists is counted.
pub(super) const LIST_UNIT: u64 = 1024;

/// The receiver's answer to the offer of a folder; it may want the list first. It takes as long as it takes, as for a
/// file.
pub(super) async fn answer(
    job: &Job,
    control: &mut ControlStream,
    workers: &Workers,
    manifest: &Arc<Manifest>,
    stop: &CancellationToken,
) -> Result<AcceptFolder, RunError> {
    let mut said = false;
    loop {
        match hear(job, control, stop).await? {
            Message::NeedManifest if !std::mem::replace(&mut said, true) => {
                let manifest = manifest.clone();
                let list = blocking(workers, move || manifest.encode()).await?;
                for part in list.chunks(MANIFEST_PART_LEN) {
                    let part = Message::Manifest(part.to_vec());
                    while_wanted(job, stop, say(control, &part)).await??;
                }
            }
            Message::AcceptFolder(accept) => {
                job.resume();
                return Ok(accept);
            }
            Message::Paused(PauseReason::Owner) => job.wait(WaitReason::Accept),
            other => return Err(closed_by(other)),
        }
    }
}

/// A folder's entries, and the memory that is counted for them for as long as they are held.
pub(super) struct Listed {
    pub(super) manifest: Arc<Manifest>,
    _memory: OwnedSemaphorePermit,
}

impl Sessions {
    /// What is in a folder that is offered: known from its partial, or asked for. `None` for a file.
    pub(super) async fn listed(
        &self,
        job: &Job,
        control: &mut ControlStream,
        permit: &Permit,
        folder: &Path,
        key: PartialKey,
        stop: &CancellationToken,
    ) -> Result<Option<Listed>, RunError> {
        let Some(len) = permit.manifest_len() else { return Ok(None) };
        let (store, place) = (self.store.clone(), folder.to_owned());
        let stored = blocking(&self.workers, move || {
            let known = store.stored_manifest(&place, &key)?;
            Ok::<_, StoreError>(known.map(|manifest| (manifest.encode().len(), manifest)))
        });
        let stored = stored.await?.unwrap_or_default();
        let known = stored.filter(|(_, manifest)| manifest.size() == permit.geometry().size());
        let bytes = known.as_ref().map_or(len as usize, |(len, _)| *len) as u64;
        let units = self.manifests.clone().acquire_many_owned(bytes.div_ceil(LIST_UNIT) as u32);
        tokio::pin!(units);
        let memory = match tokio::time::timeout(SOON, &mut units).await {
            Ok(memory) => memory,
            Err(_) => {
                job.wait(WaitReason::Queue);
                while_wanted(job, stop, units).await?
            }
        };
        let memory = memory.map_err(|_| RunError::stopped())?;
        let manifest = match known {
            Some((_, manifest)) => manifest,
            None => self.hear_manifest(job, control, permit, len as usize, stop).await?,
        };
        Ok(Some(Listed { manifest, _memory: memory }))
    }

    /// Asks for the list of a folder's entries, and checks that it is that of the folder that was offered.
    async fn hear_manifest(
        &self,
        job: &Job,
        control: &mut ControlStream,
        permit: &Permit,
        len: usize,
        stop: &CancellationToken,
    ) -> Result<Arc<Manifest>, RunError> {
        let mut bytes = Vec::new();
        say(control, &Message::NeedManifest).await?;
        while bytes.len() < len {
            let heard = tokio::time::timeout(TRANSFER_PROGRESS_DEADLINE, hear(job, control, stop)).await;
            match heard.map_err(|_| RunError::stalled())?? {
                Message::Manifest(part) if !part.is_empty() && bytes.len() + part.len() <= len => {
                    bytes.extend_from_slice(&part);
                }
                Message::Manifest(_) => return Err(PeerMisbehaved::FalseManifest.into()),
                other => return Err(closed_by(other)),
            }
        }
        let manifest = blocking(&self.workers, move || Manifest::decode(&bytes)).await?;
        let manifest = manifest.map_err(|error| {
            tracing::warn!(transfer = job.number(), %error, "a list of entries that cannot be");
            PeerMisbehaved::FalseManifest
        })?;
        if permit.file_id() != Some(manifest.id()) || permit.geometry().size() != manifest.size() {
            return Err(PeerMisbehaved::FalseManifest.into());
        }
        Ok(Arc::new(manifest))
    }
}
