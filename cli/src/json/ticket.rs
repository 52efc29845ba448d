//! A ticket as a line.

use p2p_protocol::{FileId, control::TicketInfo};
use serde::Serialize;

use super::text;

/// A ticket.
#[derive(Debug, Serialize)]
pub(crate) struct TicketLine {
    number: u64,
    #[serde(serialize_with = "text")]
    file_id: FileId,
    uses: Option<u32>,
    used: u32,
    created_ms: u64,
    expires_ms: Option<u64>,
}

impl From<&TicketInfo> for TicketLine {
    fn from(ticket: &TicketInfo) -> Self {
        let TicketInfo { number, file_id, uses, used, created_ms, expires_ms } = *ticket;
        Self { number, file_id, uses, used, created_ms, expires_ms }
    }
}
