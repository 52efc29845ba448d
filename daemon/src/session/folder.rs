//! What a folder's conversation has besides a file's: the list of its entries, and which files are to be moved.

use std::{path::Path, sync::Arc};

use p2p_protocol::{
    Manifest,
    control::WaitReason,
    limits::{MANIFEST_PART_LEN, TRANSFER_PROGRESS_DEADLINE},
    policy::Permit,
    reason::PeerMisbehaved,
    wire::peer::{AcceptFolder, Message, PauseReason},
};
use tokio_util::sync::CancellationToken;

use super::{
    Sessions, blocking,
    error::RunError,
    job::Job,
    run::{closed_by, hear},
    say, while_wanted,
};
use crate::{store::PartialKey, transport::ControlStream};

/// Unit in which the memory for lists is counted.
pub(super) const LIST_UNIT: u64 = 1024;

/// The receiver's answer to the offer of a folder; it may want the list first. It takes as long as it takes, as for a
/// file.
pub(super) async fn answer(
    job: &Job,
    control: &mut ControlStream,
    manifest: &Manifest,
    stop: &CancellationToken,
) -> Result<AcceptFolder, RunError> {
    let mut said = false;
    loop {
        match hear(job, control, stop).await? {
            Message::NeedManifest if !std::mem::replace(&mut said, true) => {
                for part in manifest.encode().chunks(MANIFEST_PART_LEN) {
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

impl Sessions {
    /// What is in a folder that is offered: known from its partial, or asked for. `None` for a file.
    pub(super) async fn manifest(
        &self,
        job: &Job,
        control: &mut ControlStream,
        permit: &Permit,
        folder: &Path,
        key: PartialKey,
        stop: &CancellationToken,
    ) -> Result<Option<Arc<Manifest>>, RunError> {
        let Some(len) = permit.manifest_len() else { return Ok(None) };
        let (store, place) = (self.store.clone(), folder.to_owned());
        let stored = blocking(&self.workers, move || store.stored_manifest(&place, &key)).await?;
        match stored.unwrap_or_default().filter(|manifest| manifest.size() == permit.geometry().size()) {
            Some(manifest) => Ok(Some(manifest)),
            None => self.hear_manifest(job, control, permit, len, stop).await.map(Some),
        }
    }

    /// Asks for the list of a folder's entries, and checks that it is that of the folder that was offered.
    async fn hear_manifest(
        &self,
        job: &Job,
        control: &mut ControlStream,
        permit: &Permit,
        len: u32,
        stop: &CancellationToken,
    ) -> Result<Arc<Manifest>, RunError> {
        let units = u64::from(len).div_ceil(LIST_UNIT) as u32;
        let memory = while_wanted(job, stop, self.manifests.acquire_many(units)).await?;
        let _memory = memory.map_err(|_| RunError::stopped())?;
        let mut bytes = Vec::new();
        say(control, &Message::NeedManifest).await?;
        while bytes.len() < len as usize {
            let heard = tokio::time::timeout(TRANSFER_PROGRESS_DEADLINE, hear(job, control, stop)).await;
            match heard.map_err(|_| RunError::stalled())?? {
                Message::Manifest(part) if !part.is_empty() && bytes.len() + part.len() <= len as usize => {
                    bytes.extend_from_slice(&part);
                }
                Message::Manifest(_) => return Err(PeerMisbehaved::FalseManifest.into()),
                other => return Err(closed_by(other)),
            }
        }
        let manifest = Manifest::decode(&bytes).map_err(|error| {
            tracing::warn!(transfer = job.number(), %error, "a list of entries that cannot be");
            PeerMisbehaved::FalseManifest
        })?;
        if permit.file_id() != Some(manifest.id()) || permit.geometry().size() != manifest.size() {
            return Err(PeerMisbehaved::FalseManifest.into());
        }
        Ok(Arc::new(manifest))
    }
}
