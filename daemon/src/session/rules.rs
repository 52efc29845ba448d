//! What the owner has settled for one peer, as it bears on what that peer offers.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use p2p_protocol::{
    Along, PeerId, SafeName,
    control::PeerInfo,
    policy::{Permit, Situation},
    reason::Failure,
    rules::{Acceptance, Exists, RulesChange},
    wire::peer::Offer,
};

use super::{RunError, Sessions, blocking};
use crate::store::{PartialKey, PublishName, Show};

impl Sessions {
    /// What is true of this machine as a peer offers something.
    pub(super) async fn situation(
        &self,
        peer: &PeerId,
        offer: &Offer,
        along: Along,
    ) -> Result<Situation, RunError> {
        let rules = self.peers.rules(peer);
        let (running, max_running) = self.registry.room_for(peer, offer);
        let used = match rules.quota {
            Some(_) => self.lies_here(*peer).await?.saturating_add(self.registry.coming_from(peer, offer)),
            None => 0,
        };
        let rights = self.peers.rights(peer);
        Ok(Situation { rights, asked: None, running, max_running, bounds: rules.bounds(used), along })
    }

    /// Bytes of what a peer has sent and what is still where it landed.
    async fn lies_here(&self, peer: PeerId) -> Result<u64, RunError> {
        let (store, keys) = (self.store.clone(), self.peers.keys_of(&peer));
        let sum = blocking(&self.workers, move || {
            let mut paths = BTreeSet::new();
            for key in keys {
                paths.extend(store.catalog().receipts(key)?);
            }
            Ok::<u64, RunError>(paths.iter().map(|path| bytes_at(path)).fold(0, u64::saturating_add))
        });
        sum.await?
    }

    /// Where what a peer sends lands.
    pub(super) fn inbox_of(&self, peer: &PeerId) -> PathBuf {
        self.peers.rules(peer).folder.map_or_else(|| self.inbox.clone(), PathBuf::from)
    }

    /// Where a folder appears that a peer sends. What takes the place of another is not there before it is whole.
    pub(super) fn shows(&self, peer: &PeerId, name: &PublishName, key: PartialKey) -> Option<Show> {
        let replaces = matches!(name, PublishName::Instead(_));
        let wanted = !replaces && self.peers.rules(peer).progressive.unwrap_or(false);
        Some(Show { name: name.clone(), asked: key.stand_in(), wanted })
    }

    /// Whether the owner is asked about a peer's offers.
    pub(super) fn asks_about(&self, peer: &PeerId) -> bool {
        match self.peers.rules(peer).accept {
            Some(acceptance) => acceptance == Acceptance::Ask,
            None => self.asks_owner,
        }
    }

    /// Whether a peer may fetch back what it sends.
    pub(super) fn may_fetch_back(&self, peer: &PeerId) -> bool {
        self.peers.rights(peer).fetch && self.peers.rules(peer).seed != Some(false)
    }

    /// The name under which something is published in a folder; `None` where what is there is to stay, and alone.
    pub(super) async fn name_in(
        &self,
        peer: &PeerId,
        folder: &Path,
        permit: &Permit,
        key: PartialKey,
    ) -> Result<Option<PublishName>, RunError> {
        let (store, destination) = (self.store.clone(), folder.to_owned());
        // One that appears while it is filled has its name already.
        let filled = blocking(&self.workers, move || store.filled_as(&destination, &key)).await?;
        if let Some(name) = filled {
            return Ok(Some(PublishName::Exactly(name)));
        }
        let free = |name: &SafeName| PublishName::Free(name.clone());
        let exists = self.peers.rules(peer).exists.unwrap_or_default();
        if exists == Exists::KeepBoth {
            return Ok(Some(free(permit.name())));
        }
        let path = folder.join(permit.name().as_str());
        let found = blocking(&self.workers, move || path.symlink_metadata()).await?;
        let is_folder = permit.manifest_len().is_some();
        Ok(match (exists, found) {
            (Exists::Skip, Ok(_)) => None,
            // Only a file takes a file's place, and a folder a folder's; something else keeps its name.
            (Exists::Overwrite, Ok(found)) if found.is_dir() == is_folder && !found.is_symlink() => {
                Some(PublishName::Instead(permit.name().as_str().into()))
            }
            _ => Some(free(permit.name())),
        })
    }

    /// Settles something for a peer: how it stands then.
    pub(crate) async fn rule(&self, who: &str, change: RulesChange) -> Result<PeerInfo, RunError> {
        let not_known = || {
            let message = format!("{who} is no peer known here; `p2p peers` lists them");
            RunError::new(Failure::NotFound, message)
        };
        let id = self.peers.find(who).ok_or_else(not_known)?;
        if let Some(Some(folder)) = change.folder.clone() {
            blocking(&self.workers, move || check_folder(&folder)).await??;
        }
        let peers = self.peers.clone();
        if !blocking(&self.workers, move || peers.rule(&id, change)).await?? {
            return Err(not_known());
        }
        tracing::info!(peer = %id, rules = ?self.peers.rules(&id), "rules changed");
        self.peers().into_iter().find(|peer| peer.id == id).ok_or_else(not_known)
    }
}

/// A folder that is not there is a mistake in typing rather than a wish.
fn check_folder(folder: &str) -> Result<(), RunError> {
    let path = Path::new(folder);
    let (failure, what) = match path.metadata() {
        _ if path.is_relative() => (Failure::Usage, "is no absolute path of a folder"),
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => (Failure::Usage, "is no folder"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (Failure::NotFound, "is not there; make it first")
        }
        Err(_) => (Failure::Storage, "cannot be looked at"),
    };
    Err(RunError::new(failure, format!("{folder} {what}")))
}

/// Bytes of the file or of the files in the folder that lies at a path; none where nothing does, or it cannot be looked at.
fn bytes_at(path: &Path) -> u64 {
    let below = |path: &Path| -> io::Result<u64> {
        let entries = fs::read_dir(path)?;
        Ok(entries.flatten().map(|entry| bytes_at(&entry.path())).fold(0, u64::saturating_add))
    };
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => below(path).unwrap_or(0),
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_a_folder_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let failure = |path: &Path| check_folder(path.to_str().unwrap()).map_err(|error| error.failure);
        assert_eq!(failure(folder.path()).ok(), Some(()));
        assert_eq!(failure(&file), Err(Failure::Usage));
        assert_eq!(failure(&folder.path().join("none")), Err(Failure::NotFound));
        assert_eq!(failure(Path::new("relative")), Err(Failure::Usage));
    }

    #[test]
    fn what_lies_at_a_path_is_counted_to_its_last_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/one"), [0; 5]).unwrap();
        fs::write(folder.path().join("a/b/two"), [0; 7]).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("a/link")).unwrap();
        assert_eq!(bytes_at(&folder.path().join("a")), 12);
        assert_eq!(bytes_at(&folder.path().join("a/one")), 5);
        assert_eq!((bytes_at(&folder.path().join("none")), bytes_at(&folder.path().join("a/link"))), (0, 0));
    }
}
