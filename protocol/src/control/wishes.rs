//! How a transfer is to be made, where to, and with whom.

use serde::{Deserialize, Serialize};

use crate::{PeerId, queue::Priority, rate::Rate};

/// How a transfer is to be done. What is not named stays as it is where the transfer is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// What it comes before.
    pub priority: Option<Priority>,
    /// How fast it may go.
    pub limit: Option<Rate>,
    /// Whether it is to yield to whatever else is on its way, from its next connection on.
    pub background: bool,
}

/// Stands for what one command asks for. Asked again, because the daemon has died before it answered, it is the same transfer, also
/// where that has ended meanwhile. It is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestId(pub [u8; 16]);

/// Where a fetched file goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Into the inbox, under the provider's name.
    Inbox,
    /// To this absolute path: into it if it is a folder, else under this very name.
    Path(Vec<u8>),
    /// To the client, as [`Event::Data`](super::Event::Data).
    Stdout,
    /// To this absolute path, in place of the older copy that may be there, of which what is right is not moved.
    Update(Vec<u8>),
}

/// What to do about the key found at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyPolicy {
    /// It must be pinned for that target, or belong to a trusted peer.
    Known,
    /// An unknown one is pinned; a changed one is still refused.
    AcceptNew,
    /// It must be this one, which replaces the target's pin.
    Exactly(PeerId),
}
