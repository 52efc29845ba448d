//! Invitations and tickets, between the command line and its daemon.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    FileId, PeerId,
    token::{Token, TokenError},
};

/// A token as text. What shows what was said shows none of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenText(pub String);

impl TokenText {
    /// What it says.
    pub fn parse(&self) -> Result<Token, TokenError> {
        Token::from_str(&self.0)
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(…)")
    }
}

/// `p2p invite`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteRequest {
    /// What this machine would like to be called by who joins, instead of its host name.
    pub name: Option<String>,
    /// Who joins may send files here.
    pub send: bool,
    /// Who joins may fetch what is shared with it.
    pub fetch: bool,
    /// How long the invitation holds, in seconds.
    pub expires_s: u64,
    /// Where this machine can be dialled, as typed, instead of what it finds itself.
    pub addresses: Vec<String>,
}

/// `p2p join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The invitation.
    pub token: TokenText,
    /// What this machine would like to be called there, instead of its host name.
    pub name: Option<String>,
    /// Who gave the invitation may send files here.
    pub send: bool,
    /// Who gave the invitation may fetch what is shared with it.
    pub fetch: bool,
}

/// A token that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// The token, for the one who is to have it.
    pub token: TokenText,
    /// The invitation's number here.
    pub number: u64,
    /// Until when it holds, in milliseconds since 1970 UTC.
    pub expires_ms: u64,
    /// The addresses that it says.
    pub addresses: Vec<String>,
}

/// An invitation in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationInfo {
    /// Its number.
    pub number: u64,
    /// Who joins by it may send files here.
    pub send: bool,
    /// Who joins by it may fetch what is shared with it.
    pub fetch: bool,
    /// When it was made, in milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// Until when it holds, in milliseconds since 1970 UTC.
    pub expires_ms: u64,
    /// Who has joined by it, by name or Peer ID.
    pub used_by: Option<String>,
}

/// A machine that this one has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedPeer {
    /// Its identity.
    pub peer: PeerId,
    /// Its name here.
    pub name: String,
    /// Where it was found.
    pub address: String,
}

/// How a file is shared by a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketTerms {
    /// How many machines may fetch by it.
    pub uses: Option<u32>,
    /// How long it holds, in seconds.
    pub expires_s: Option<u64>,
    /// Where this machine can be dialled, as typed, instead of what it finds itself.
    pub addresses: Vec<String>,
}

/// A ticket that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticketed {
    /// The token, for those who are to have it.
    pub token: TokenText,
    /// What there is to know of it.
    pub ticket: TicketInfo,
    /// The addresses that it says.
    pub addresses: Vec<String>,
}

/// A ticket in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketInfo {
    /// Its number.
    pub number: u64,
    /// What can be fetched by it.
    pub file_id: FileId,
    /// How many machines may fetch by it, where that is limited.
    pub uses: Option<u32>,
    /// How many have.
    pub used: u32,
    /// When it was made, in milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// Until when it holds, in milliseconds since 1970 UTC, where that is limited.
    pub expires_ms: Option<u64>,
}
