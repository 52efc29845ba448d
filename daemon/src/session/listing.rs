//! What a peer shares with this machine, and what this machine shares with a peer: page by page, in the order of File IDs.

use std::{path::Path, sync::Arc, time::Duration};

use p2p_protocol::{
    FileId,
    limits::{LIST_PAGE, MAX_FRAME_LEN, MAX_LISTED, MAX_NAME_LEN},
    reason::{Failure, PeerMisbehaved, RefuseReason},
    wire::peer::{List, Listed, Message, Shared},
};
use tokio::time::timeout;

use super::{
    Sessions, blocking,
    error::RunError,
    links::{Link, LinkUse},
    probe::Called,
    say, shares,
};
use crate::{
    store::{Share, StoreError},
    transport::ControlStream,
};

/// Each page comes within this.
const DEADLINE: Duration = Duration::from_secs(30);

impl Sessions {
    /// Answers a peer that asks what it may fetch here.
    pub(super) async fn list(
        &self,
        link: &Link,
        control: &mut ControlStream,
        List { after }: List,
    ) -> Result<(), RunError> {
        let peer = link.peer();
        if !self.peers.is_trusted(&peer) {
            return self.turn_away(link, control, RefuseReason::NotAllowed).await;
        }
        let (store, rights, keys) = (self.store.clone(), self.peers.rights(&peer), self.peers.keys_of(&peer));
        if !rights.fetch {
            return say(control, &Message::Refuse(RefuseReason::NotAllowed)).await;
        }
        let page = blocking(&self.workers, move || {
            let (mut after, mut found) = (after, Vec::new());
            loop {
                let shares = store.catalog().shares_after(after, LIST_PAGE)?;
                let Some(last) = shares.last().map(|share| share.file_id) else { break };
                after = Some(last);
                let admitted =
                    shares.into_iter().filter_map(|share| shares::granted(Some(share), &keys, rights));
                found.extend(admitted.map(|share| entry(&share)));
                if found.len() > LIST_PAGE {
                    break;
                }
            }
            let more = found.len() > LIST_PAGE;
            found.truncate(LIST_PAGE);
            Ok::<_, StoreError>(Listed { shares: found, more })
        });
        let page = page.await??;
        say(control, &Message::Listed(page)).await
    }

    /// Asks a target, as typed, what it shares with this machine.
    pub(crate) async fn listing(self: &Arc<Self>, target: &str) -> Result<Listing, RunError> {
        let called = self.call(target).await?;
        let used = called.link.hold();
        Ok(Listing { called, after: None, more: true, heard: 0, _used: used })
    }
}

/// As the peer hears of it: of the path no more than the name.
fn entry(share: &Share) -> Shared {
    let mut name = share.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // What replaces bytes that are no text is longer than they are.
    name.truncate(name.floor_char_boundary(MAX_NAME_LEN));
    let (is_folder, size) = kind(&share.path);
    Shared { file_id: share.file_id, name, is_folder, size }
}

fn kind(path: &Path) -> (bool, Option<u64>) {
    match path.metadata() {
        Ok(found) if found.is_dir() => (true, None),
        Ok(found) => (false, Some(found.len())),
        Err(_) => (false, None),
    }
}

/// A list that comes.
pub(crate) struct Listing {
    called: Called,
    after: Option<FileId>,
    more: bool,
    heard: usize,
    _used: LinkUse,
}

impl Listing {
    /// The next page; `None` after the last one.
    pub(crate) async fn next_page(&mut self) -> Result<Option<Vec<Shared>>, RunError> {
        if !self.more {
            return Ok(None);
        }
        let page = timeout(DEADLINE, ask(&self.called.link, self.after)).await.unwrap_or_else(|_| {
            let address = self.called.link.connection().remote_addr();
            Err(RunError::new(
                Failure::Unreachable,
                format!("{address} took the connection and does not answer"),
            ))
        });
        let Listed { shares, more } = match page {
            Ok(page) => page,
            Err(error) => return Err(self.called.blame(error)),
        };
        let mut last = self.after;
        for share in &shares {
            if last.is_some_and(|last| share.file_id <= last) || share.name.len() > MAX_NAME_LEN {
                return Err(self.called.blame(PeerMisbehaved::FalseListing.into()));
            }
            last = Some(share.file_id);
        }
        if shares.len() > LIST_PAGE || (more && shares.is_empty()) {
            return Err(self.called.blame(PeerMisbehaved::FalseListing.into()));
        }
        self.heard += shares.len();
        if self.heard > MAX_LISTED {
            let message = format!("the peer lists more than {MAX_LISTED} things; the rest is not asked for");
            return Err(RunError::new(Failure::Conflict, message));
        }
        (self.after, self.more) = (last, more);
        Ok(Some(shares))
    }
}

async fn ask(link: &Link, after: Option<FileId>) -> Result<Listed, RunError> {
    let mut control = link.connection().open_control().await?;
    say(&mut control, &Message::List(List { after })).await?;
    control.sender.finish();
    match control.receiver.recv(MAX_FRAME_LEN).await? {
        Some(Message::Listed(page)) => Ok(page),
        Some(Message::Refuse(reason)) => Err(RunError::refused(reason)),
        Some(other) => Err(PeerMisbehaved::UnexpectedMessage(other.name()).into()),
        None => Err(RunError::new(Failure::Unreachable, "the peer ended the conversation without an answer")),
    }
}
