//! Where this machine may be found by others.

use std::net::{IpAddr, SocketAddr};

/// The addresses at which others can dial what listens at these: where that is every address, those of this machine's interfaces.
/// Those without use elsewhere are left out, but for a daemon that listens on loopback alone.
pub(super) fn dialable(listening: &[SocketAddr]) -> Vec<SocketAddr> {
    let interfaces = || match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.into_iter().map(|interface| interface.ip()).collect(),
        Err(error) => {
            tracing::warn!(%error, "the addresses of this machine cannot be found");
            Vec::new()
        }
    };
    among(listening, interfaces)
}

fn among(listening: &[SocketAddr], interfaces: impl Fn() -> Vec<IpAddr>) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in listening {
        match address.ip() {
            ip if ip.is_unspecified() => {
                let reached = interfaces().into_iter().filter(|found| ip.is_ipv6() || found.is_ipv4());
                found.extend(reached.map(|ip| SocketAddr::new(ip, address.port())));
            }
            _ => found.push(*address),
        }
    }
    let far = |address: &SocketAddr| !address.ip().is_loopback();
    if found.iter().any(far) {
        found.retain(far);
    }
    found.retain(|address| !is_link_local(address.ip()));
    // IPv4 first: where there is both, more networks carry it.
    found.sort_by_key(|address| address.is_ipv6());
    found.dedup();
    found
}

/// Such an address means nothing without the interface that it is on.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_can_dial() {
        let interfaces = || {
            ["127.0.0.1", "::1", "fe80::1", "2001:db8::1", "192.0.2.1", "169.254.0.1"]
                .map(|ip| ip.parse().unwrap())
        };
        let of = |listening: &[&str]| {
            let listening: Vec<SocketAddr> =
                listening.iter().map(|address| address.parse().unwrap()).collect();
            let found = among(&listening, || interfaces().to_vec());
            found.iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(&["[::]:5"]), ["192.0.2.1:5", "[2001:db8::1]:5"]);
        assert_eq!(of(&["0.0.0.0:5"]), ["192.0.2.1:5"]);
        assert_eq!(of(&["127.0.0.1:5"]), ["127.0.0.1:5"]);
        assert_eq!(of(&["127.0.0.1:5", "198.51.100.1:6"]), ["198.51.100.1:6"]);
        assert_eq!(of(&["[::1]:5", "127.0.0.1:5"]), ["127.0.0.1:5", "[::1]:5"]);
        assert!(!dialable(&["[::]:5".parse().unwrap()]).iter().any(|address| address.ip().is_unspecified()));
    }
}
