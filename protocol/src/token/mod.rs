//! A token: what one machine's owner gives to another's, by whatever way there is, so that their daemons find and believe each
//! other. It says who gave it, where that machine can be dialled, and a secret of its own.
//!
//! In text it is one word: a prefix that says what it is for, and in base 32 a version, the Peer ID, the secret, what is granted,
//! the addresses, and a checksum. Case, blanks and line ends in it mean nothing, so that it can be read out, wrapped and typed.

mod secret;

use std::{fmt, str::FromStr};

pub use secret::{Binding, ClaimId, ClaimKey, Proof, SECRET_LEN, Secret};

use crate::{
    FileId, PeerId,
    ids::base32,
    limits::{MAX_TOKEN_ADDRESSES, MAX_TOKEN_TEXT_LEN},
};

/// The layout of the bytes behind the prefix.
const VERSION: u8 = 1;
const INVITATION: &str = "p2pinvite";
const TICKET: &str = "p2pticket";
const CHECKSUM_CONTEXT: &str = "p2p 2026-11-26 checksum of a token";
const CHECKSUM_LEN: usize = 4;
/// Longest host name that DNS knows, in bytes.
const MAX_HOST_LEN: usize = 253;

/// What one machine's owner gives to another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is for.
    pub grant: Grant,
    /// Whose it is: the machine that is to be dialled.
    pub peer: PeerId,
    /// What only those have who were given the token.
    pub secret: Secret,
    /// Where that machine may be found, the most promising place first.
    pub addresses: Vec<Address>,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// To become a peer that is trusted.
    Join,
    /// To fetch this, and nothing else.
    Fetch(FileId),
}

/// Where a machine may be found: a host and a UDP port, which is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IPv4 address.
    V4([u8; 4], u16),
    /// An IPv6 address without a scope.
    V6([u8; 16], u16),
    /// A host name in lower case.
    Name(String, u16),
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as one does.
    #[error("a token begins with {INVITATION} or {TICKET}")]
    Prefix,
    /// Characters are missing, too many, or others than were meant.
    #[error("the token is incomplete or mistyped; copy all of it, to its last character")]
    Mistyped,
    /// It was made by a program that knows more.
    #[error("the token is of version {0}, and this p2p reads version {VERSION}; update it")]
    Version(u8),
    /// Whoever made it did not keep to the rules.
    #[error("the token makes no sense, although nothing in it is mistyped; ask for another one")]
    Malformed,
}

impl Grant {
    fn prefix(self) -> &'static str {
        match self {
            Self::Join => INVITATION,
            Self::Fetch(_) => TICKET,
        }
    }
}

/// Whether a text is meant to be a token, and not a File ID: it begins like one.
pub fn looks_like_token(text: &str) -> bool {
    [INVITATION, TICKET].iter().any(|prefix| {
        text.trim_start().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    })
}

impl Token {
    /// A token; addresses beyond those that fit, or that no token can hold, are left out.
    pub fn new(grant: Grant, peer: PeerId, secret: Secret, mut addresses: Vec<Address>) -> Self {
        addresses.retain(Address::is_sound);
        addresses.truncate(MAX_TOKEN_ADDRESSES);
        Self { grant, peer, secret, addresses }
    }

    /// How its holder is known, before anything is proven.
    pub fn id(&self) -> ClaimId {
        self.secret.id()
    }

    /// What its holder proves to have.
    pub fn key(&self) -> ClaimKey {
        self.secret.key(self.grant)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.peer.0);
        bytes.extend_from_slice(self.secret.bytes());
        if let Grant::Fetch(file_id) = self.grant {
            bytes.extend_from_slice(&file_id.0);
        }
        for address in &self.addresses {
            address.encode(&mut bytes);
        }
        let checksum = checksum(self.grant.prefix(), &bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    fn decode(prefix: &'static str, bytes: &[u8]) -> Result<Self, TokenError> {
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(TokenError::Mistyped)?;
        if checksum(prefix, body) != *sum {
            return Err(TokenError::Mistyped);
        }
        let mut rest = Reader(body);
        match rest.take::<1>()? {
            [VERSION] => {}
            [other] => return Err(TokenError::Version(other)),
        }
        let peer = PeerId(rest.take()?);
        let secret = Secret::new(rest.take()?);
        let grant = if prefix == TICKET { Grant::Fetch(FileId(rest.take()?)) } else { Grant::Join };
        let mut addresses = Vec::new();
        while !rest.0.is_empty() {
            if addresses.len() == MAX_TOKEN_ADDRESSES {
                return Err(TokenError::Malformed);
            }
            addresses.push(Address::decode(&mut rest)?);
        }
        Ok(Self { grant, peer, secret, addresses })
    }
}

fn checksum(prefix: &str, body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut sum = [0; CHECKSUM_LEN];
    let mut hasher = blake3::Hasher::new_derive_key(CHECKSUM_CONTEXT);
    hasher.update(prefix.as_bytes()).update(body).finalize_xof().fill(&mut sum);
    sum
}

/// The whole of it, secret included: for the one who is to have it.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.grant.prefix(), base32().encode(&self.encode()))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN_TEXT_LEN {
            return Err(TokenError::Mistyped);
        }
        let word: String =
            text.chars().filter(|c| !c.is_ascii_whitespace()).map(|c| c.to_ascii_lowercase()).collect();
        let prefix = [INVITATION, TICKET].into_iter().find(|prefix| word.starts_with(prefix));
        let prefix = prefix.ok_or(TokenError::Prefix)?;
        let rest = word.strip_prefix(prefix).unwrap_or_default();
        let bytes = base32().decode(rest.as_bytes()).map_err(|_| TokenError::Mistyped)?;
        Self::decode(prefix, &bytes)
    }
}

impl Address {
    /// Whether it is one that can be dialled, as far as that shows.
    fn is_sound(&self) -> bool {
        match self {
            Self::V4(_, port) | Self::V6(_, port) => *port != 0,
            Self::Name(name, port) => {
                let foreign = |byte: u8| {
                    !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
                };
                *port != 0 && (1..=MAX_HOST_LEN).contains(&name.len()) && !name.bytes().any(foreign)
            }
        }
    }

    /// A byte that says of which kind it is, or how long the name; the host; the port, its high byte first.
    fn encode(&self, bytes: &mut Vec<u8>) {
        let port = match self {
            Self::V4(host, port) => {
                bytes.push(254);
                bytes.extend_from_slice(host);
                port
            }
            Self::V6(host, port) => {
                bytes.push(255);
                bytes.extend_from_slice(host);
                port
            }
            Self::Name(host, port) => {
                // A sound one is no longer than 253.
                bytes.push(host.len() as u8);
                bytes.extend_from_slice(host.as_bytes());
                port
            }
        };
        bytes.extend_from_slice(&port.to_be_bytes());
    }

    fn decode(rest: &mut Reader<'_>) -> Result<Self, TokenError> {
        let address = match rest.take::<1>()? {
            [254] => Self::V4(rest.take()?, u16::from_be_bytes(rest.take()?)),
            [255] => Self::V6(rest.take()?, u16::from_be_bytes(rest.take()?)),
            [len] => {
                let name = rest.slice(usize::from(len))?;
                let name = std::str::from_utf8(name).map_err(|_| TokenError::Malformed)?;
                Self::Name(name.to_owned(), u16::from_be_bytes(rest.take()?))
            }
        };
        if address.is_sound() { Ok(address) } else { Err(TokenError::Malformed) }
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], TokenError> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(TokenError::Malformed)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], TokenError> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(TokenError::Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Token {
        let addresses = vec![
            Address::V4([192, 0, 2, 1], 4419),
            Address::V6([0x20; 16], 5),
            Address::Name("nas.example".into(), 65535),
        ];
        Token::new(Grant::Join, PeerId([1; 32]), Secret::new([2; SECRET_LEN]), addresses)
    }

    #[test]
    fn a_token_is_one_word_that_survives_being_copied() {
        let token = sample();
        let text = token.to_string();
        assert!(
            text.starts_with("p2pinvite") && text.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{text}"
        );
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(text.to_uppercase().parse(), Ok(token.clone()));
        let wrapped: Vec<&str> =
            text.as_bytes().chunks(20).map(|part| std::str::from_utf8(part).unwrap()).collect();
        assert_eq!(format!("  {}\r\n", wrapped.join("\n  ")).parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("[2, 2"), "the secret is not shown by accident");
    }

    #[test]
    fn every_slip_is_noticed() {
        let text = sample().to_string();
        for at in 0..text.len() {
            assert!(text[..at].parse::<Token>().is_err(), "cut at {at}");
            for other in ['a', '7', '1', 'é', '-'] {
                if !text[at..].starts_with(other) {
                    let slip = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                    assert!(slip.parse::<Token>().is_err(), "{slip}");
                }
            }
            if at > 0 && text.as_bytes()[at] != text.as_bytes()[at - 1] {
                let mut swapped = text.clone().into_bytes();
                swapped.swap(at, at - 1);
                assert!(String::from_utf8(swapped).unwrap().parse::<Token>().is_err(), "swapped at {at}");
            }
        }
        assert!(format!("{text}{text}").parse::<Token>().is_err());
        assert_eq!("p2p".parse::<Token>(), Err(TokenError::Prefix));
        assert_eq!("p2pinvite".parse::<Token>(), Err(TokenError::Mistyped));
        assert_eq!(format!("p2pinvite{}", " ".repeat(10_000)).parse::<Token>(), Err(TokenError::Mistyped));
    }

    #[test]
    fn a_ticket_says_what_it_is_for() {
        let grant = Grant::Fetch(FileId([3; 32]));
        let ticket = Token { grant, ..sample() };
        let text = ticket.to_string();
        assert!(text.starts_with("p2pticket") && looks_like_token(&text) && looks_like_token(" P2PTICKETaa"));
        assert!(
            looks_like_token(&sample().to_string())
                && !looks_like_token("p2pticke")
                && !looks_like_token("é")
        );
        assert_eq!(text.parse(), Ok(ticket.clone()));
        assert_eq!(text.replacen("p2pticket", "p2pinvite", 1).parse::<Token>(), Err(TokenError::Mistyped));
        // The same secret proves nothing of another kind.
        let binding = Binding { exporter: [1; 32], holder: PeerId([2; 32]), giver: PeerId([3; 32]) };
        assert!(!sample().key().accepts(&ticket.key().prove(&binding), &binding));
    }

    /// A body of this, with the checksum that it should have.
    fn made_of(body: &[u8]) -> Result<Token, TokenError> {
        let bytes = [body, &checksum(INVITATION, body)].concat();
        format!("p2pinvite{}", base32().encode(&bytes)).parse()
    }

    #[test]
    fn what_was_made_wrong_is_refused() {
        let whole = sample().encode();
        let body = &whole[..whole.len() - CHECKSUM_LEN];
        assert_eq!(made_of(body), Ok(sample()));
        assert_eq!(made_of(&[&[2], &body[1..]].concat()), Err(TokenError::Version(2)));
        assert_eq!(made_of(&[]), Err(TokenError::Malformed));
        assert_eq!(made_of(&body[..40]), Err(TokenError::Malformed));
        let fixed = &body[..1 + 32 + SECRET_LEN];
        assert!(made_of(fixed).unwrap().addresses.is_empty());
        for tail in [
            &[254, 1, 2, 3, 4, 0, 0][..],
            &[254, 1, 2, 3, 4, 5],
            &[0, 0, 1],
            &[2, b'a'],
            &[1, b'A', 0, 1],
            &[2, b'a', b'/', 0, 1],
            &[1, 0xff, 0, 1],
        ] {
            assert_eq!(made_of(&[fixed, tail].concat()), Err(TokenError::Malformed), "{tail:?}");
        }
        let address = [1, b'a', 0, 1];
        let many = |n: usize| made_of(&[fixed, &address.repeat(n)].concat());
        assert_eq!(many(MAX_TOKEN_ADDRESSES).unwrap().addresses.len(), MAX_TOKEN_ADDRESSES);
        assert_eq!(many(MAX_TOKEN_ADDRESSES + 1), Err(TokenError::Malformed));
    }

    #[test]
    fn addresses_that_no_token_can_hold_are_left_out() {
        let name = |name: &str| Address::Name(name.into(), 1);
        let bad = [Address::V4([1; 4], 0), name(""), name("A"), name("a b"), name(&"a".repeat(254))];
        let mut addresses = bad.to_vec();
        addresses.extend((0..20).map(|n| name(&format!("h{n}"))));
        let token = Token::new(Grant::Join, PeerId([1; 32]), Secret::new([2; SECRET_LEN]), addresses);
        assert_eq!(token.addresses.len(), MAX_TOKEN_ADDRESSES);
        assert_eq!(token.addresses[0], name("h0"));
        let longest: Vec<Address> = (0..20).map(|_| name(&"a".repeat(MAX_HOST_LEN))).collect();
        let token = Token::new(Grant::Join, PeerId([1; 32]), Secret::new([2; SECRET_LEN]), longest);
        assert_eq!(token.to_string().parse(), Ok(token));
    }
}
