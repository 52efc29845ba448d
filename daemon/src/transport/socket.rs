//! UDP sockets: address families, buffers, and which socket reaches which address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Once,
};

use p2p_protocol::limits::SOCKET_BUFFER;
use socket2::{Domain, Protocol, Socket, Type};

/// A socket bound to this address, with large buffers. Where the machine has no IPv6, the wildcard address means
/// every IPv4 address instead.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    match bind_exactly(address) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && lacks_ipv6(&error) => {
            let fallback = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            tracing::info!(%error, "no IPv6 on this machine, listening on IPv4 alone");
            bind_exactly(fallback)
        }
        bound => bound,
    }
}

/// A socket to dial from, with a port that the system chooses, for either family where possible.
pub(super) fn bind_to_dial() -> io::Result<UdpSocket> {
    bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0))
}

fn bind_exactly(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    raise_buffers(&socket);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(
        rustix::io::Errno::from_io_error(error),
        Some(
            rustix::io::Errno::AFNOSUPPORT
                | rustix::io::Errno::ADDRNOTAVAIL
                | rustix::io::Errno::NOPROTOOPT
                | rustix::io::Errno::OPNOTSUPP
        )
    )
}

/// Whether this address can be listened on now.
pub(crate) fn can_bind(address: SocketAddr) -> io::Result<()> {
    bind(address).map(drop)
}

/// The buffers that the system gives the daemon's sockets, to receive and to send.
pub(crate) fn granted_buffers() -> io::Result<[usize; 2]> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    Ok(ask_for_buffers(&socket))
}

/// Asks for large buffers, and says how large they are.
fn ask_for_buffers(socket: &Socket) -> [usize; 2] {
    // What the system grants is read back: it clamps without an error.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    let granted = [socket.recv_buffer_size(), socket.send_buffer_size()].map(Result::unwrap_or_default);
    // Linux reports twice what it was asked for, the other half being its own.
    granted.map(|size| if cfg!(target_os = "linux") { size / 2 } else { size })
}

/// Small buffers lose packets whenever the daemon is not scheduled for a moment, and slow everything down.
fn raise_buffers(socket: &Socket) {
    static WARNED: Once = Once::new();
    let granted = ask_for_buffers(socket);
    if granted.iter().any(|&size| size < SOCKET_BUFFER) {
        WARNED.call_once(|| {
            let [receive, send] = granted;
            tracing::warn!(
                "the system limits UDP socket buffers to {receive} and {send} bytes, which slows fast transfers \
                 down; to raise the limits: {}",
                how_to_raise_buffers()
            );
        });
    }
}

/// What gets the daemon larger buffers.
pub(crate) fn how_to_raise_buffers() -> String {
    if cfg!(target_os = "linux") {
        format!("sudo sysctl -w net.core.rmem_max={SOCKET_BUFFER} net.core.wmem_max={SOCKET_BUFFER}")
    } else {
        format!("sudo sysctl -w kern.ipc.maxsockbuf={}", 2 * SOCKET_BUFFER)
    }
}

/// An IPv4 address as such, where a dual-stack socket shows it mapped into IPv6.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        // Kept whole: a link-local address is nothing without its scope.
        IpAddr::V6(_) => address,
    }
}

/// Whether packets to `remote` may leave from a socket that is bound to `local`.
pub(super) fn reaches(local: SocketAddr, remote: SocketAddr) -> bool {
    match (local.ip(), remote.ip()) {
        (IpAddr::V6(local), _) if local.is_unspecified() => true,
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            local.is_unspecified() || local.is_loopback() == remote.is_loopback()
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => local.is_loopback() == remote.is_loopback(),
        _ => false,
    }
}

/// Fails at once where the system knows no way to an address, so that nobody waits for an answer that cannot
/// come. No packet is sent.
pub(super) fn check_route(remote: SocketAddr) -> io::Result<()> {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind(SocketAddr::new(any, 0))?.connect(remote)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(local: &str, remote: &str) -> bool {
        reaches(local.parse().unwrap(), remote.parse().unwrap())
    }

    #[test]
    fn sockets_reach_their_own_family_and_scope() {
        assert!(reach("[::]:1", "192.0.2.1:2"));
        assert!(reach("[::]:1", "[2001:db8::1]:2"));
        assert!(reach("0.0.0.0:1", "127.0.0.1:2"));
        assert!(!reach("0.0.0.0:1", "[::1]:2"));
        assert!(reach("127.0.0.1:1", "127.0.0.2:2"));
        assert!(!reach("127.0.0.1:1", "192.0.2.1:2"));
        assert!(!reach("127.0.0.1:1", "[::1]:2"));
        assert!(!reach("[::1]:1", "127.0.0.1:2"));
        assert!(!reach("[::1]:1", "[2001:db8::1]:2"));
        assert!(!reach("192.0.2.7:1", "127.0.0.1:2"));
        assert!(reach("192.0.2.7:1", "192.0.2.1:2"));
    }

    #[test]
    fn mapped_addresses_are_shown_as_what_they_are() {
        assert_eq!(canonical("[::ffff:192.0.2.1]:7".parse().unwrap()), "192.0.2.1:7".parse().unwrap());
        let scoped = "[fe80::1%3]:7".parse().unwrap();
        assert_eq!(canonical(scoped), scoped);
    }

    #[test]
    fn the_wildcard_socket_takes_both_families() {
        let socket = bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        socket.set_nonblocking(false).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"x", ("127.0.0.1", port)).unwrap();
        let (_, from) = socket.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(canonical(from), sender.local_addr().unwrap());
    }
}
