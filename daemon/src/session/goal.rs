//! What a fetch is of, as this machine will have it: all that was asked for, or a part of a folder, which is a folder of its own here.

use std::{ops::Range, path::Path};

use p2p_protocol::{
    ByteRange, ChunkRange, ChunkSet, FileId, Part, SafeName,
    control::Output,
    limits::{MAX_CHUNK_LEN, MAX_RANGES},
    policy::Permit,
    reason::{AbortReason, Failure},
};
use tokio_util::sync::CancellationToken;

use super::{
    Sessions, blocking, budget::Allowance, error::RunError, folder::Listed, job::Job, links::Link,
    run::path_of, spec::Spec,
};
use crate::{
    store::{OnlyError, PartialKey, PublishName, StoreError, part_of},
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
    /// Which bytes of the file it is.
    pub(super) bytes: Option<Range<u64>>,
}

impl Goal {
    /// What its partial is found by.
    pub(super) fn key(&self) -> PartialKey {
        PartialKey::Fetched(self.id)
    }

    /// The most bytes that it takes on the disk, and those of the chunks that it comes from.
    pub(super) fn room(&self) -> u64 {
        match self.bytes {
            Some(_) => self.size.saturating_mul(2).saturating_add(2 * MAX_CHUNK_LEN),
            None => self.size,
        }
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
        let whole =
            Goal { id, size: permit.geometry().size(), is_folder, listed: None, part: None, bytes: None };
        if job.spec().is_progressive() && !is_folder {
            return Err(ended(
                Failure::Usage,
                format!("{} is a file; leave --progressive out", permit.name()),
            ));
        }
        let only = match job.spec() {
            Spec::Fetch { range: Some(range), .. } => return some_bytes(whole, *range, permit),
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
        Ok(Goal { id: own, size, is_folder, listed, part, bytes: None })
    }

    /// Room for an eager fetch, where nothing is here that the provider would have to know of.
    pub(super) async fn take_eager(
        &self,
        job: &Job,
        link: &Link,
        id: FileId,
        output: &Output,
    ) -> Result<Option<Allowance>, RunError> {
        let (store, key, folder) = (self.store.clone(), PartialKey::Fetched(id), self.folder_of(output)?);
        if job.spec().is_choosy() {
            return Ok(None);
        }
        let there = match output {
            Output::Update(bytes) => Some(path_of(bytes)),
            Output::Path(bytes) if path_of(bytes) != folder => Some(path_of(bytes)),
            _ => None,
        };
        let nothing = blocking(&self.workers, move || {
            Ok::<_, StoreError>(
                !store.has_partial(&folder, &key)?
                    && !store.catalog().knows_content(id)?
                    && there.is_none_or(|path| path.symlink_metadata().is_err()),
            )
        });
        Ok(if nothing.await?? { Allowance::try_take_eager(link.pool(), &self.pool) } else { None })
    }
}

fn some_bytes(whole: Goal, range: ByteRange, permit: &Permit) -> Result<Goal, RunError> {
    let name = permit.name();
    if whole.is_folder {
        return Err(ended(Failure::Usage, format!("{name} is a folder; take a part of it with --only")));
    }
    let bytes = range.within(whole.size).ok_or_else(|| {
        ended(Failure::Usage, format!("{name} has {} bytes, and none of them in {range}", whole.size))
    })?;
    Ok(Goal { size: bytes.end - bytes.start, bytes: Some(bytes), ..whole })
}

/// Some bytes of a file do not get the name of the whole, unless their owner gave it to them.
pub(super) fn named_as_part(name: Option<PublishName>, bytes: Option<&Range<u64>>) -> Option<PublishName> {
    match (name, bytes) {
        (Some(PublishName::Free(name)), Some(bytes)) => {
            let own = format!("{name}.{}-{}", bytes.start, bytes.end.saturating_sub(1));
            Some(PublishName::Free(SafeName::parse(&own).unwrap_or(name)))
        }
        (name, _) => name,
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
            Self::NothingToTakeOutOf(_) | Self::Pattern(_) | Self::Part(_) => Failure::Usage,
        }
    }
}

fn ended(failure: Failure, message: String) -> RunError {
    RunError { tell: Some(AbortReason::Cancelled), ..RunError::new(failure, message) }
}
