//! Where what is fetched goes.

use std::path::{Path, PathBuf};

use p2p_protocol::{
    FileId,
    control::Output,
    policy::Permit,
    reason::{AbortReason, Failure},
};

use super::{Sessions, blocking, error::RunError, goal::Goal, run::path_of};
use crate::store::{PublishName, StoreError, Trust};

impl Sessions {
    /// The folder that a fetched file goes to and its name there; no name for standard output.
    pub(super) async fn destination(
        &self,
        output: &Output,
        permit: &Permit,
        id: FileId,
    ) -> Result<(PathBuf, Option<PublishName>), RunError> {
        let folder = self.folder_of(output, id).await?;
        match output {
            Output::Stdout => Ok((folder, None)),
            Output::Update(bytes) => match path_of(bytes).file_name() {
                Some(name) => Ok((folder, Some(PublishName::Instead(name.to_owned())))),
                None => Err(no_name(&path_of(bytes))),
            },
            Output::Path(bytes) if path_of(bytes) != folder => {
                let path = path_of(bytes);
                let (store, asked) = (self.store.clone(), path.clone());
                let fits = move || store.is_free_or_file(&asked) || store.fills(&asked, id);
                if !blocking(&self.workers, fits).await? {
                    let message =
                        format!("{} is no regular file, and is not replaced; name another", path.display());
                    return Err(RunError {
                        tell: Some(AbortReason::Storage),
                        ..RunError::new(Failure::Usage, message)
                    });
                }
                match path.file_name() {
                    Some(name) => Ok((folder, Some(PublishName::Exactly(name.to_owned())))),
                    None => Err(no_name(&path)),
                }
            }
            Output::Inbox | Output::Path(_) => Ok((folder, Some(PublishName::Free(permit.name().clone())))),
        }
    }

    /// The folder that a fetched file goes to, or waits in: the path itself, where it is or is to be a folder. One that appears there
    /// while it is fetched does not go into itself.
    pub(super) async fn folder_of(&self, output: &Output, id: FileId) -> Result<PathBuf, RunError> {
        match output {
            Output::Inbox => Ok(self.inbox.clone()),
            Output::Stdout => Ok(self.store.spool()),
            Output::Update(bytes) => {
                let path = path_of(bytes);
                path.parent().map(Path::to_owned).ok_or_else(|| no_name(&path))
            }
            Output::Path(bytes) => {
                let path = path_of(bytes);
                let (store, asked) = (self.store.clone(), path.clone());
                let is_other_folder = move || store.is_folder(&asked) && !store.fills(&asked, id);
                let is_folder = bytes.ends_with(b"/") || blocking(&self.workers, is_other_folder).await?;
                match path.parent() {
                    Some(parent) if !is_folder => Ok(parent.to_owned()),
                    _ => Ok(path),
                }
            }
        }
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
