//! Where to dial: what a person types, taken apart without asking the network.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use p2p_protocol::{PeerId, name::printable};

/// The port of a target that names none.
pub(crate) const DEFAULT_PORT: u16 = 4419;
/// Longest host name that DNS knows, and longest label in one, in bytes.
const MAX_HOST_LEN: usize = 253;
const MAX_LABEL_LEN: usize = 63;
/// Longest scope of a link-local IPv6 address, in bytes: an interface's name.
const MAX_ZONE_LEN: usize = 15;

/// A host and a port. A host is a lower-case DNS name or an IP address, without brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// Name or address.
    pub(crate) host: String,
    /// UDP port; never zero.
    pub(crate) port: u16,
}

/// What a person typed, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The text itself.
    pub(crate) typed: String,
    /// Where to dial, the most promising place first.
    pub(crate) places: Vec<Place>,
    /// The peer of that name or ID, or the one pinned at that place.
    pub(crate) expected: Option<PeerId>,
    /// Whether the text is a peer's name or Peer ID, not an address.
    pub(crate) is_name_or_id: bool,
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    /// Nothing at all.
    #[error("a target is a host, host:port, [v6]:port, a peer's name or a Peer ID, not an empty text")]
    Empty,
    /// An IPv6 address without brackets: where it ends and a port begins cannot be told.
    #[error("{typed}: an IPv6 address stands in brackets, as in {example}")]
    Unbracketed { typed: String, example: String },
    /// The text in brackets is no IPv6 address.
    #[error("{typed:?}: [{inside}] is no IPv6 address")]
    Address { typed: String, inside: String },
    /// What follows the colon is no port.
    #[error("{typed:?}: {port:?} is no port (1 to 65535)")]
    Port { typed: String, port: String },
    /// The host holds something that no DNS name and no address does.
    #[error("{typed:?} is neither a host name or address nor the name of a peer here: {why}")]
    Host { typed: String, why: HostFault },
    /// The peer is named, but not where it is.
    #[error(
        "no address is known for {typed}; give one with `p2p peers trust {id} --address host:port`, or use \
         host:port as the target"
    )]
    NoAddress { typed: String, id: PeerId },
}

impl TargetError {
    /// Whether a peer was named that is not known here, or whose address is not.
    pub(crate) fn is_unknown_peer(&self) -> bool {
        matches!(self, Self::NoAddress { .. })
    }
}

/// What is wrong with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostFault {
    /// Nothing before the port.
    #[error("the host is missing")]
    Missing,
    /// A character that is not in any host name.
    #[error("a host name has letters a-z, digits, `-`, `_` and `.`, and not {0:?}")]
    Character(char),
    /// Too long, or an empty part between dots.
    #[error("a part between its dots is empty or too long")]
    Length,
    /// Digits at the end make it an IPv4 address, which it is not.
    #[error("an IPv4 address is four numbers from 0 to 255")]
    Ipv4,
}

impl Place {
    /// A host, with a port or without one.
    pub(crate) fn parse(typed: &str) -> Result<Self, TargetError> {
        let owned = || typed.to_owned();
        if typed.is_empty() {
            return Err(TargetError::Empty);
        }
        if let Some(rest) = typed.strip_prefix('[') {
            let (inside, after) = rest
                .split_once(']')
                .ok_or_else(|| TargetError::Address { typed: owned(), inside: printable(rest) })?;
            let host = parse_ipv6(inside)
                .ok_or_else(|| TargetError::Address { typed: owned(), inside: printable(inside) })?;
            let port = match after.strip_prefix(':') {
                Some(port) => parse_port(typed, port)?,
                None if after.is_empty() => DEFAULT_PORT,
                None => return Err(TargetError::Port { typed: owned(), port: after.into() }),
            };
            return Ok(Self { host, port });
        }
        let (host, port) = match typed.split_once(':') {
            Some((_, rest)) if rest.contains(':') => return Err(unbracketed(typed)),
            Some((host, port)) => (host, parse_port(typed, port)?),
            None => (typed, DEFAULT_PORT),
        };
        check_host(host).map_err(|why| TargetError::Host { typed: owned(), why })?;
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        let host = match (address.ip().to_canonical(), address) {
            (ip, SocketAddr::V6(v6)) if v6.scope_id() != 0 => format!("{ip}%{}", v6.scope_id()),
            (ip, _) => ip.to_string(),
        };
        Self { host, port: address.port() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An IPv6 address in its shortest form, with the interface it is on where it says so.
fn parse_ipv6(text: &str) -> Option<String> {
    match text.split_once('%') {
        None => Some(text.parse::<Ipv6Addr>().ok()?.to_string()),
        Some((address, zone)) => {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            let zone_is_good = (1..=MAX_ZONE_LEN).contains(&zone.len()) && zone.chars().all(good);
            zone_is_good.then_some(format!("{}%{zone}", address.parse::<Ipv6Addr>().ok()?))
        }
    }
}

fn parse_port(typed: &str, port: &str) -> Result<u16, TargetError> {
    let error = || TargetError::Port { typed: typed.to_owned(), port: port.to_owned() };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err(error());
    }
    port.parse().ok().filter(|port| *port != 0).ok_or_else(error)
}

/// The error for an address with several colons, with an example made of it where that can be.
fn unbracketed(typed: &str) -> TargetError {
    let with_port = typed.rsplit_once(':').and_then(|(address, port)| {
        let address = parse_ipv6(address)?;
        parse_port(typed, port).ok().map(|port| format!("[{address}]:{port}"))
    });
    let whole = || parse_ipv6(typed).map(|address| format!("[{address}]:{DEFAULT_PORT}"));
    let example = with_port.or_else(whole).unwrap_or_else(|| format!("[2001:db8::1]:{DEFAULT_PORT}"));
    TargetError::Unbracketed { typed: printable(typed), example }
}

fn check_host(host: &str) -> Result<(), HostFault> {
    if host.is_empty() {
        return Err(HostFault::Missing);
    }
    let foreign = |c: &char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.');
    if let Some(c) = host.chars().find(foreign) {
        return Err(HostFault::Character(c));
    }
    // A dot at the end says that the name is complete.
    let name = host.strip_suffix('.').unwrap_or(host);
    let mut labels = name.split('.');
    if name.len() > MAX_HOST_LEN || labels.clone().any(|label| !(1..=MAX_LABEL_LEN).contains(&label.len())) {
        return Err(HostFault::Length);
    }
    let numeric = labels.next_back().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(HostFault::Ipv4);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(typed: &str) -> String {
        Place::parse(typed).unwrap().to_string()
    }

    fn error(typed: &str) -> String {
        Place::parse(typed).unwrap_err().to_string()
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(shown("Example.ORG"), "example.org:4419");
        assert_eq!(shown("example.org.:1"), "example.org.:1");
        assert_eq!(shown("my_nas-2:65535"), "my_nas-2:65535");
        assert_eq!(shown("192.0.2.1"), "192.0.2.1:4419");
        assert_eq!(shown("192.0.2.1:5"), "192.0.2.1:5");
        assert_eq!(shown("[2001:DB8:0::1]"), "[2001:db8::1]:4419");
        assert_eq!(shown("[::1]:5"), "[::1]:5");
        assert_eq!(shown("[fe80::1%eth0]:5"), "[fe80::1%eth0]:5");
        assert_eq!(shown("4419.example"), "4419.example:4419");
    }

    #[test]
    fn ipv6_without_brackets_is_told_how() {
        assert_eq!(error("::1:4419"), "::1:4419: an IPv6 address stands in brackets, as in [::1]:4419");
        assert_eq!(
            error("2001:db8::1"),
            "2001:db8::1: an IPv6 address stands in brackets, as in [2001:db8::1]:4419"
        );
        assert!(error("2001:db8::abcd").ends_with("as in [2001:db8::abcd]:4419"));
        assert!(error("fe80::1:2:5").ends_with("as in [fe80::1:2]:5"));
        assert!(error("::").ends_with("as in [::]:4419"));
        assert!(error("a:b:c").ends_with("as in [2001:db8::1]:4419"));
        assert!(!error("a:\u{1b}[2J:c").contains('\u{1b}'));
    }

    #[test]
    fn ports_are_numbers_that_can_be_dialled() {
        for typed in ["a:0", "a:65536", "a:", "a:+1", "a:1x", "a: 1", "[::1]:0", "[::1]4419", "[::1]:"] {
            assert!(matches!(Place::parse(typed), Err(TargetError::Port { .. })), "{typed}");
        }
    }

    #[test]
    fn what_is_in_brackets_is_an_address() {
        for typed in ["[", "[]", "[::1", "[a]", "[1.2.3.4]:5", "[::1%]", "[::1%a/b]", "[::1%a%b]", "[[::1]]"]
        {
            assert!(matches!(Place::parse(typed), Err(TargetError::Address { .. })), "{typed}");
        }
        assert!(!error("[\u{1b}[2J]:5").contains('\u{1b}') && !error("[\u{1b}").contains('\u{1b}'));
    }

    #[test]
    fn hosts_hold_nothing_strange() {
        let fault = |typed: &str| match Place::parse(typed) {
            Err(TargetError::Host { why, .. }) => why,
            other => panic!("{typed}: {other:?}"),
        };
        assert_eq!(fault(":5"), HostFault::Missing);
        for (typed, c) in [
            ("a b", ' '),
            ("bücher.example", 'ü'),
            ("а.example", 'а'),
            ("a\0", '\0'),
            ("a\u{1b}[2J", '\u{1b}'),
            ("a/b", '/'),
            ("user@host", '@'),
            ("a%eth0", '%'),
            ("a]", ']'),
        ] {
            assert_eq!(fault(typed), HostFault::Character(c));
        }
        for typed in ["a..b", ".", ".a", &"a".repeat(64), &"a.".repeat(150)] {
            assert_eq!(fault(typed), HostFault::Length, "{typed}");
        }
        for typed in ["1.2.3", "256.1.1.1", "4419", "1.2.3.4.5", "01.2.3.4", "1.2.3.4."] {
            assert_eq!(fault(typed), HostFault::Ipv4, "{typed}");
        }
        assert_eq!(Place::parse(""), Err(TargetError::Empty));
        assert!(!error("a\u{1b}[2J").contains('\u{1b}'));
    }
}
