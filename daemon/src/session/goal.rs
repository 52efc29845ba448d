//! What a fetch is of, as this machine will have it: all that was asked for, or a part of a folder, which is a folder of its own here.

use std::path::Path;

use p2p_protocol::{
    ChunkRange, ChunkSet, FileId, Part,
    limits::MAX_RANGES,
    policy::Permit,
    reason::{AbortReason, Failure},
};
use tokio_util::sync::CancellationToken;

use super::{Sessions, blocking, error::RunError, folder::Listed, job::Job, spec::Spec};
use crate::{
    store::{OnlyError, PartialKey, part_of},
    transport::ControlStream,
};

/// What is to be here in the end.
pub(super) struct Goal {
    pub(super) id: FileId,
    pub(super) size: u64,
    pub(super) is_folder: bool,
    /// What is in it, where that had to be known to say what it is.
    pub(super) listed: Option<Listed>,
    /// Of which folder it is a part, and how.
    pub(super) part: Option<Part>,
}

impl Goal {
    /// What its partial is found by.
    pub(super) fn key(&self) -> PartialKey {
        PartialKey::Fetched(self.id)
    }

    /// The folder that it is a part of.
    pub(super) fn part_of(&self) -> Option<FileId> {
        self.part.as_ref().map(Part::whole)
    }
}

impl Sessions {
    /// What is to be here of an offer. To know a part, the list of the whole has to come first.
    pub(super) async fn goal(
        &self,
        job: &Job,
        control: &mut ControlStream,
        permit: &Permit,
        folder: &Path,
        id: FileId,
        stop: &CancellationToken,
    ) -> Result<Goal, RunError> {
        let is_folder = permit.manifest_len().is_some();
        let whole = Goal { id, size: permit.geometry().size(), is_folder, listed: None, part: None };
        let only = match job.spec() {
            Spec::Fetch { only, .. } if !only.is_empty() => only.clone(),
            _ => return Ok(whole),
        };
        let listed = self.listed(job, control, permit, folder, whole.key(), stop).await?;
        let Some(listed) = listed else {
            return Err(ended(Failure::Usage, format!("{} is a file; leave --only out", permit.name())));
        };
        let manifest = listed.manifest.clone();
        let part = match blocking(&self.workers, move || part_of(&manifest, &only)).await? {
            Ok(part) => part,
            Err(error) => return Err(ended(error.failure(), error.to_string())),
        };
        let manifest = part.manifest().clone();
        let (own, size) = (manifest.id(), manifest.size());
        let listed = Some(Listed { manifest, ..listed });
        let part = Some(part).filter(|_| own != id);
        Ok(Goal { id: own, size, is_folder, listed, part })
    }
}

/// The numbers at the provider of a folder's files that are to be moved.
pub(super) fn as_provider_counts(files: &ChunkSet, part: Option<&Part>) -> Result<Vec<ChunkRange>, RunError> {
    let ranges = part.map_or_else(|| files.ranges(), |part| part.in_whole(files).ranges());
    if ranges.len() > MAX_RANGES {
        let message = format!(
            "the files lie in {} places of the list of the folder, and {MAX_RANGES} are the most; take fewer of them at a time, or whole folders",
            ranges.len()
        );
        return Err(ended(Failure::Usage, message));
    }
    Ok(ranges)
}

impl OnlyError {
    fn failure(&self) -> Failure {
        match self {
            Self::Nothing(_) => Failure::NotFound,
            Self::Pattern(_) | Self::Part(_) => Failure::Usage,
        }
    }
}

fn ended(failure: Failure, message: String) -> RunError {
    RunError { tell: Some(AbortReason::Cancelled), ..RunError::new(failure, message) }
}
