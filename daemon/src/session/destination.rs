//! Where what is fetched goes.

use std::path::{Path, PathBuf};

use p2p_protocol::{
    FileId,
    control::{FetchRequest, Output},
    policy::Permit,
    reason::{AbortReason, Failure},
};

use super::{Sessions, blocking, error::RunError, goal::Goal, run::path_of};
use crate::store::{PublishName, StoreError, Trust};

impl Sessions {
    /// The folder that a fetched file goes to and its name there; no name for standard output.
    pub(super) fn destination(
        &self,
        output: &Output,
        permit: &Permit,
    ) -> Result<(PathBuf, Option<PublishName>), RunError> {
        let folder = self.folder_of(output)?;
        match output {
            Output::Stdout => Ok((folder, None)),
            Output::Update(bytes) => match path_of(bytes).file_name() {
                Some(name) => Ok((folder, Some(PublishName::Instead(name.to_owned())))),
                None => Err(no_name(&path_of(bytes))),
            },
            Output::Path(bytes) if path_of(bytes) != folder => {
                let path = path_of(bytes);
                match path.file_name() {
                    Some(name) => Ok((folder, Some(PublishName::Exactly(name.to_owned())))),
                    None => Err(no_name(&path)),
                }
            }
            Output::Inbox | Output::Path(_) => Ok((folder, Some(PublishName::Free(permit.name().clone())))),
        }
    }

    /// The folder that a fetched file goes to, or waits in: the path itself, where it is or is to be a folder, as [`Self::settle`] has
    /// found.
    pub(super) fn folder_of(&self, output: &Output) -> Result<PathBuf, RunError> {
        match output {
            Output::Inbox => Ok(self.inbox.clone()),
            Output::Stdout => Ok(self.store.spool()),
            Output::Path(bytes) if bytes.ends_with(b"/") => Ok(path_of(bytes)),
            Output::Path(bytes) | Output::Update(bytes) => {
                let path = path_of(bytes);
                match path.parent() {
                    Some(parent) => Ok(parent.to_owned()),
                    None if matches!(output, Output::Path(_)) => Ok(path),
                    None => Err(no_name(&path)),
                }
            }
        }
    }

    /// Finds out once and for all whether a path is a folder to put something into, or what is to be there in the end. Later, and after
    /// a crash, it may well be a folder because this very fetch has put it there. One that appears there while it is fetched does not go
    /// into itself.
    pub(super) async fn settle(&self, request: FetchRequest) -> Result<FetchRequest, RunError> {
        let Output::Path(bytes) = &request.output else { return Ok(request) };
        let (store, path, id) = (self.store.clone(), path_of(bytes), request.file_id);
        let into = blocking(&self.workers, move || store.is_folder(&path) && !store.fills(&path, id)).await?;
        let mut bytes = bytes.clone();
        if into && !bytes.ends_with(b"/") {
            bytes.push(b'/');
        }
        Ok(FetchRequest { output: Output::Path(bytes), ..request })
    }

    /// Whether a name that was asked for can be given to what is fetched, before any of it moves: nothing has it, or a file, beside which
    /// it is put; or what has it is of the kind whose place it is to take.
    pub(super) async fn check_name(
        &self,
        folder: &Path,
        name: &PublishName,
        id: FileId,
        is_folder: bool,
    ) -> Result<(), RunError> {
        let (store, path) = (self.store.clone(), name.path_in(folder));
        let (asked, name) = (path.clone(), name.clone());
        let look = move || match name {
            PublishName::Free(_) => None,
            PublishName::Exactly(_) if store.is_free_or_file(&asked) || store.fills(&asked, id) => None,
            PublishName::Exactly(_) => Some("is no regular file, and is not replaced; name another"),
            PublishName::Instead(_) if is_folder && store.is_file(&asked) => {
                Some("is a file, and what is fetched is a folder; name the older copy of that")
            }
            PublishName::Instead(_) if !is_folder && store.is_folder(&asked) => {
                Some("is a folder, and what is fetched is a file; name the older copy of that")
            }
            PublishName::Instead(_) => None,
        };
        let Some(wrong) = blocking(&self.workers, look).await? else { return Ok(()) };
        let message = format!("{} {wrong}", path.display());
        Err(RunError { tell: Some(AbortReason::Storage), ..RunError::new(Failure::Usage, message) })
    }

    /// The path at which the very content that is fetched is already.
    pub(super) async fn is_there(
        &self,
        folder: &Path,
        name: &PublishName,
        goal: &Goal,
    ) -> Result<Option<PathBuf>, RunError> {
        let path = name.path_in(folder);
        // A copy that is to be mended is read, whatever is known of it.
        let trust = if name.older(folder).is_some() { Trust::Nothing } else { Trust::Cache };
        let (store, Goal { id, size, is_folder, .. }) = (self.store.clone(), goal);
        let (id, size, is_folder) = (*id, *size, *is_folder);
        Ok(blocking(&self.workers, move || {
            Ok::<_, StoreError>(store.holds(&path, id, size, is_folder, trust)?.then_some(path))
        })
        .await??)
    }
}

fn no_name(path: &Path) -> RunError {
    RunError::new(Failure::Usage, format!("{} names no file", path.display()))
}
