//! What is shared, and with whom.

use std::collections::BTreeSet;

use p2p_protocol::{
    FileId, PeerId,
    control::{ShareRequest, ShareWith},
    policy::Rights,
    reason::Failure,
};
use serde::{Deserialize, Serialize};

use super::error::RunError;
use crate::{peers::Peers, store::Share};

/// Who may fetch a shared file, as the catalog keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Audience {
    /// Every trusted peer with the right to fetch.
    Trusted,
    /// These, if they are trusted with the right to fetch.
    Peers(Vec<PeerId>),
    /// Anyone.
    Public,
}

impl Audience {
    /// The audience that a request names; `None` for that which there was before.
    pub(crate) fn of(request: &ShareRequest, peers: &Peers) -> Result<Option<Self>, RunError> {
        match &request.with {
            ShareWith::Ticket(_) => Ok(None),
            ShareWith::Trusted => Ok(Some(Self::Trusted)),
            ShareWith::Public => Ok(Some(Self::Public)),
            ShareWith::Peers(names) => names
                .iter()
                .map(|name| {
                    peers.find(name).ok_or_else(|| {
                        RunError::new(
                            Failure::NotFound,
                            format!("{name} is no peer known here; `p2p peers` lists those that are"),
                        )
                    })
                })
                .collect::<Result<_, _>>()
                .map(|peers| Some(Self::Peers(peers))),
        }
    }

    /// Whether a peer with these rights may fetch, which has and had these keys.
    pub(crate) fn admits(&self, peer: &[PeerId], rights: Rights) -> bool {
        match self {
            Self::Public => true,
            Self::Trusted => rights.fetch,
            Self::Peers(named) => rights.fetch && named.iter().any(|id| peer.contains(id)),
        }
    }

    /// The audience together with those who could fetch before.
    pub(crate) fn with(self, peer: PeerId) -> Self {
        match self {
            Self::Peers(mut named) => {
                if !named.contains(&peer) {
                    named.push(peer);
                }
                Self::Peers(named)
            }
            wider => wider,
        }
    }

    /// In words, for the one who shares.
    pub(crate) fn words(&self, peers: &Peers) -> String {
        match self {
            Self::Trusted => "every trusted peer that may fetch".into(),
            Self::Public => "anyone who can reach this machine's port".into(),
            Self::Peers(named) if named.is_empty() => "nobody without a ticket".into(),
            Self::Peers(named) => {
                // By the keys that they have now; two may have become one.
                let named: BTreeSet<PeerId> =
                    named.iter().map(|id| peers.find(&id.to_string()).unwrap_or(*id)).collect();
                let names: Vec<String> = named
                    .iter()
                    .map(|id| {
                        let name = peers.name_of(id).unwrap_or_else(|| id.to_string());
                        if peers.rights(id).fetch { name } else { format!("{name} (once it is trusted)") }
                    })
                    .collect();
                names.join(", ")
            }
        }
    }

    /// As the catalog keeps it.
    pub(crate) fn stored(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What the catalog kept. What cannot be read admits nobody.
    pub(crate) fn of_share(share: &Share) -> Self {
        serde_json::from_str(&share.audience).unwrap_or_else(|error| {
            tracing::warn!(file_id = %share.file_id, %error, "who may fetch this is not readable, so nobody may");
            Self::Peers(Vec::new())
        })
    }
}

/// Who may fetch something whose owner says no more than that there is a ticket for it: who could before.
pub(crate) fn kept(existing: Option<Share>) -> String {
    existing.map_or_else(|| Audience::Peers(Vec::new()).stored(), |share| share.audience)
}

/// Whether a peer may fetch a file; one answer for what is absent and what is not granted.
pub(crate) fn granted(share: Option<Share>, peer: &[PeerId], rights: Rights) -> Option<Share> {
    share.filter(|share| Audience::of_share(share).admits(peer, rights))
}

/// Lets the peer that sent a file fetch it back.
pub(crate) fn share_back(
    existing: Option<Share>,
    id: FileId,
    path: std::path::PathBuf,
    peer: PeerId,
    now_ms: u64,
) -> Share {
    match existing {
        Some(share) => {
            let audience = Audience::of_share(&share).with(peer).stored();
            Share { audience, ..share }
        }
        None => {
            let audience = Audience::Peers(vec![peer]).stored();
            Share { file_id: id, path, audience, created_ms: now_ms, excludes: Vec::new() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerId = PeerId([1; 32]);
    const B: PeerId = PeerId([2; 32]);
    const FETCH: Rights = Rights { send: false, fetch: true };
    const NONE: Rights = Rights { send: true, fetch: false };

    #[test]
    fn an_audience_needs_the_right_unless_it_is_public() {
        assert!(Audience::Public.admits(&[A], NONE));
        assert!(Audience::Trusted.admits(&[A], FETCH) && !Audience::Trusted.admits(&[A], NONE));
        let named = Audience::Peers(vec![A]);
        assert!(named.admits(&[A], FETCH) && !named.admits(&[A], NONE) && !named.admits(&[B], FETCH));
        assert!(named.admits(&[B, A], FETCH), "by an old key");
    }

    /// Fault 76.
    #[test]
    fn an_unreadable_audience_admits_nobody() {
        let share = Share {
            file_id: FileId([0; 32]),
            path: "/a".into(),
            audience: "?".into(),
            created_ms: 0,
            excludes: Vec::new(),
        };
        assert!(granted(Some(share.clone()), &[A], FETCH).is_none());
        let back = share_back(Some(share), FileId([0; 32]), "/a".into(), A, 0);
        assert!(granted(Some(back.clone()), &[A], FETCH).is_some());
        assert!(granted(Some(back), &[B], FETCH).is_none());
    }
}
