//! By which ticket a peer fetches something here.

use p2p_protocol::token::ClaimId;

use super::Job;

impl Job {
    /// It is served because the peer has a ticket, or else because of who the peer is.
    pub(crate) fn serve_by(&self, ticket: Option<ClaimId>) {
        self.lock().ticket = ticket;
    }

    /// The ticket that it is served for.
    pub(crate) fn ticket(&self) -> Option<ClaimId> {
        self.lock().ticket
    }
}
