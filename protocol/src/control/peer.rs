//! What the command line hears of peers.

use serde::{Deserialize, Serialize};

use crate::{PeerId, rules::Rules};

/// A peer in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its identity.
    pub id: PeerId,
    /// What it is here.
    pub standing: Standing,
    /// Its name here.
    pub name: Option<String>,
    /// It may send files here.
    pub send: bool,
    /// It may fetch what is shared with it.
    pub fetch: bool,
    /// Addresses where it was, or can be, dialled.
    pub addresses: Vec<String>,
    /// Whether a connection is open.
    pub connected: bool,
    /// What its owner here has settled for it.
    pub rules: Rules,
}

/// What a peer is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Its key is pinned; it may do nothing here.
    Known,
    /// It may do what its rights say.
    Trusted,
    /// It tried, and was refused.
    Pending,
}
