//! Peers that come back with a new key.

use super::{blocking, error::RunError, links::Links};
use crate::transport::Connection;

impl Links {
    /// Lets a peer whose old key has signed its new one take that one's place, before anything is decided about it.
    pub(super) async fn follow(&self, connection: &Connection) -> Result<(), RunError> {
        let before = connection.predecessors();
        if before.is_empty() {
            return Ok(());
        }
        let (peers, peer) = (self.peers.clone(), connection.peer_id());
        for old in blocking(&self.workers, move || peers.follow(peer, &before)).await?? {
            tracing::warn!(%peer, %old, "has a new key, which its old one has signed, and takes its place");
            self.close_peer(&old);
        }
        Ok(())
    }
}
