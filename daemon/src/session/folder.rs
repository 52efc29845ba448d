//! What a folder's conversation has besides a file's: the list of its entries, which files are to be moved, and what of older
//! versions of them is still right.

use std::{path::Path, sync::Arc, time::Duration};

use p2p_protocol::{
    ChunkRange, ChunkSet, Cv, Manifest, Part,
    control::WaitReason,
    limits::{
        CV_LEN, GROUP_LEN, LEAST_PROGRESS, MANIFEST_PART_LEN, MAX_RANGES, MAX_VALUES_ASKED, PAGE_CHUNKS,
        TRANSFER_PROGRESS_DEADLINE,
    },
    policy::Permit,
    reason::PeerMisbehaved,
    tree::TreeError,
    wire::peer::{AcceptFolder, Message, PauseReason},
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Sessions, blocking,
    error::RunError,
    goal::as_provider_counts,
    job::Job,
    run::{closed_by, hear},
    say, while_wanted,
};
use crate::{
    store::{Older, Partial, PartialKey, Source, StoreError},
    transport::ControlStream,
    workers::Workers,
};

/// Whoever waits longer than this for memory is told that it waits.
const SOON: Duration = Duration::from_millis(100);
/// Unit in which the memory for lists is counted.
pub(super) const LIST_UNIT: u64 = 1024;

/// The receiver's answer to the offer of a folder; it may want the list first, and values of files of which it has older versions.
/// It takes as long as it takes, as for a file.
pub(super) async fn answer(
    job: &Job,
    control: &mut ControlStream,
    workers: &Workers,
    source: &Arc<Source>,
    manifest: &Arc<Manifest>,
    stop: &CancellationToken,
) -> Result<AcceptFolder, RunError> {
    let (mut said, mut valued) = (false, false);
    loop {
        match hear(job, control, stop).await? {
            Message::NeedManifest if !std::mem::replace(&mut said, true) => {
                say_manifest(job, control, workers, manifest, stop).await?;
            }
            Message::NeedValues(files) if !std::mem::replace(&mut valued, true) => {
                for entry in entries_with_values(manifest, &files)? {
                    let source = source.clone();
                    let values =
                        blocking(workers, move || source.values_of(entry)).await??.unwrap_or_default();
                    let parts = values.chunks(PAGE_CHUNKS as usize).map(<[Cv]>::to_vec);
                    let none = values.is_empty().then(Vec::new);
                    for part in parts.chain(none) {
                        while_wanted(job, stop, say(control, &Message::Values(part))).await??;
                    }
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

/// Says what is in a folder, part by part.
pub(super) async fn say_manifest(
    job: &Job,
    control: &mut ControlStream,
    workers: &Workers,
    manifest: &Arc<Manifest>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let manifest = manifest.clone();
    let list = blocking(workers, move || manifest.encode()).await?;
    for part in list.chunks(MANIFEST_PART_LEN) {
        let part = Message::Manifest(part.to_vec());
        while_wanted(job, stop, say(control, &part)).await??;
    }
    Ok(())
}

/// The entries of the files whose values a receiver asks for, each of which must have some.
fn entries_with_values(manifest: &Manifest, files: &[ChunkRange]) -> Result<Vec<u32>, PeerMisbehaved> {
    let asked = ChunkSet::from_wire(files, manifest.files().len() as u32).map_err(PeerMisbehaved::Ranges)?;
    let (mut entries, mut groups) = (Vec::new(), 0);
    for number in asked.iter() {
        let entry = manifest.files().get(number as usize).copied().unwrap_or(u32::MAX);
        match manifest.file(entry) {
            Some((size, _)) if size > GROUP_LEN => groups += size.div_ceil(GROUP_LEN),
            _ => return Err(PeerMisbehaved::NoSuchPage(number)),
        }
        if groups > MAX_VALUES_ASKED {
            return Err(PeerMisbehaved::TooManyPages);
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// A folder's entries, and the memory that is counted for them for as long as they are held.
pub(super) struct Listed {
    pub(super) manifest: Arc<Manifest>,
    pub(super) _memory: OwnedSemaphorePermit,
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

    /// Where there are older versions of files that are to be moved: asks for their values, and takes over what has them.
    pub(super) async fn take_over(
        &self,
        job: &Job,
        control: &mut ControlStream,
        partial: &Arc<Partial>,
        part: Option<&Part>,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let found = partial.clone();
        let mut older = blocking(&self.workers, move || found.older_versions()).await?;
        // As many ranges as one message holds, even if no two are next to each other.
        older.truncate(MAX_RANGES);
        if older.is_empty() {
            return Ok(());
        }
        job.wait(WaitReason::Hashing);
        let asked: ChunkSet = older.iter().map(Older::number).collect();
        say(control, &Message::NeedValues(as_provider_counts(&asked, part)?)).await?;
        for older in older {
            let (mut values, mut due) = (Vec::new(), Due::new());
            while (values.len() as u64) < older.groups() {
                let heard = tokio::time::timeout_at(due.at, hear(job, control, stop)).await;
                match heard.map_err(|_| RunError::stalled())?? {
                    Message::Values(part) if part.is_empty() && values.is_empty() => break,
                    Message::Values(part) if !part.is_empty() => {
                        due.got(part.len() * CV_LEN);
                        values.extend(part);
                    }
                    Message::Values(_) => return Err(PeerMisbehaved::ForgedList(TreeError::Mismatch).into()),
                    other => return Err(closed_by(other)),
                }
            }
            if values.is_empty() {
                continue;
            }
            let (partial, stop) = (partial.clone(), stop.clone());
            let taken = move || partial.take_over(&older, &values, &|| !stop.is_cancelled());
            blocking(&self.workers, taken).await?.map_err(PeerMisbehaved::ForgedList)?;
        }
        job.resume();
        Ok(())
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
        let (mut bytes, mut due) = (Vec::new(), Due::new());
        say(control, &Message::NeedManifest).await?;
        while bytes.len() < len {
            let heard = tokio::time::timeout_at(due.at, hear(job, control, stop)).await;
            match heard.map_err(|_| RunError::stalled())?? {
                Message::Manifest(part) if !part.is_empty() && bytes.len() + part.len() <= len => {
                    due.got(part.len());
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

/// When a list that comes in parts is given up.
struct Due {
    at: Instant,
    /// Bytes that have come since it was put off, too few to count.
    crumbs: u64,
}

impl Due {
    fn new() -> Self {
        Self { at: Instant::now() + TRANSFER_PROGRESS_DEADLINE, crumbs: 0 }
    }

    fn got(&mut self, bytes: usize) {
        self.crumbs = self.crumbs.saturating_add(bytes as u64);
        if self.crumbs >= LEAST_PROGRESS {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::{
        FileId,
        manifest::{Entry, Node},
    };

    use super::*;

    /// Fault 69.
    #[tokio::test(start_paused = true)]
    async fn a_list_that_comes_a_byte_at_a_time_is_given_up() {
        let mut due = Due::new();
        let first = due.at;
        for _ in 1..LEAST_PROGRESS {
            tokio::time::advance(Duration::from_millis(1)).await;
            due.got(1);
            assert_eq!(due.at, first);
        }
        due.got(1);
        assert!(due.at > first && due.crumbs == 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        let before = due.at;
        due.got(MANIFEST_PART_LEN);
        assert!(due.at > before);
    }

    #[test]
    fn values_are_said_of_so_much_and_of_long_files_alone() {
        let whole = MAX_VALUES_ASKED * GROUP_LEN;
        let entry = |(path, size): (&str, u64)| {
            let node = Node::File { size, file_id: FileId([1; 32]), executable: false };
            Entry { path: path.to_owned(), modified_ns: None, node }
        };
        let entries = [("a", whole), ("b", GROUP_LEN), ("c", GROUP_LEN + 1), ("d", whole + 1)].map(entry);
        let manifest = Manifest::new(entries.into()).unwrap();
        let asked = |start, count| entries_with_values(&manifest, &[ChunkRange { start, count }]);
        assert_eq!((asked(0, 1).unwrap(), asked(2, 1).unwrap()), (vec![0], vec![2]));
        assert_eq!(asked(1, 1).unwrap_err(), PeerMisbehaved::NoSuchPage(1));
        assert_eq!(asked(3, 1).unwrap_err(), PeerMisbehaved::TooManyPages);
        assert_eq!(asked(2, 2).unwrap_err(), PeerMisbehaved::TooManyPages);
        assert!(matches!(asked(3, 2), Err(PeerMisbehaved::Ranges(_))));
    }
}
