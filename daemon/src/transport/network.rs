//! Where packets go: through the operating system's sockets, or through those of a simulated network.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};

use super::socket;

/// What the daemon asks of a network.
pub trait Network: fmt::Debug + Send + Sync {
    /// A socket that is bound to this address, or, where that is the wildcard of a family which the machine does
    /// not have, to that of the other one. Port 0 takes a free one.
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// A socket to dial from, with a port that the system chooses, for either family where possible.
    fn bind_to_dial(&self) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Fails at once where the system knows no way to an address. No packet is sent.
    fn check_route(&self, remote: SocketAddr) -> io::Result<()>;
}

/// The operating system's. Needs a tokio run-time to be there.
#[derive(Debug)]
pub(crate) struct SystemNetwork;

impl Network for SystemNetwork {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket::bind(address)?)
    }

    fn bind_to_dial(&self) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket::bind_to_dial()?)
    }

    fn check_route(&self, remote: SocketAddr) -> io::Result<()> {
        socket::check_route(remote)
    }
}
