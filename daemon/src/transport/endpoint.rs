//! The sockets of a daemon: connections come in on any of them and go out from one that reaches the other side.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use p2p_protocol::{
    PeerId,
    limits::{
        CONNECTION_WINDOW, FIRST_WINDOW, HANDSHAKE_DEADLINE, IDLE_TIMEOUT, KEEP_ALIVE, MAX_BIDI_STREAMS,
        MAX_CONNECTIONS, MAX_UNI_STREAMS, SEND_WINDOW, STREAM_WINDOW,
    },
};
use quinn::{
    AsyncUdpSocket, ConnectionError, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TokioRuntime,
    TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use tokio::sync::mpsc;

use super::{
    addresses,
    congestion::{self, Class, Congestion},
    connection::Connection,
    error::{Context, TransportError},
    handshakes::{Handshakes, MAX_HANDSHAKES, Place},
    network::Network,
    reset, socket, tls,
};
use crate::identity::Identity;

/// The largest UDP payload that is tried. Loopback and jumbo frames carry it, which saves a good part of the work
/// per byte; discovery finds within a few round trips what other paths carry.
const MAX_UDP_PAYLOAD: u16 = 6500;
/// Every QUIC path carries this, so that connections start with it.
const MIN_UDP_PAYLOAD: u16 = 1200;
/// A path is tried for larger packets again this often.
const MTU_INTERVAL: Duration = Duration::from_secs(300);
/// Bytes in flight at first: 32 packets of an ordinary path. Less, and the probes for larger packets fill it, so
/// that not even the close of a connection gets out in its first round trips.
const INITIAL_WINDOW: u64 = 32 * 1452;
/// With this many handshakes under way, an address must first prove that it is not forged.
const HANDSHAKES_ON_TRUST: usize = 32;
/// Bytes kept of what arrives before a handshake has begun: the rest of a client's first flight.
const INCOMING_BUFFER: u64 = 16 * 1024;
/// TLS wants a name to dial. It is not sent, and no certificate is held against it.
const SERVER_NAME: &str = "p2p";

const _: () = {
    assert!(INITIAL_WINDOW > 4 * MAX_UDP_PAYLOAD as u64);
    assert!(HANDSHAKES_ON_TRUST < MAX_HANDSHAKES && MAX_HANDSHAKES < MAX_CONNECTIONS);
    assert!(HANDSHAKE_DEADLINE.as_millis() < IDLE_TIMEOUT.as_millis());
    assert!(STREAM_WINDOW <= CONNECTION_WINDOW && CONNECTION_WINDOW <= u32::MAX as u64);
};

/// All sockets of the daemon. Clones are the same endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    network: Arc<dyn Network>,
    listening: Vec<Listening>,
    /// A socket to dial from where none of the others reaches; made when first needed.
    dialling: Mutex<Option<quinn::Endpoint>>,
    client: quinn::ClientConfig,
    /// The same for connections that yield.
    yielding: quinn::ClientConfig,
    identity: Identity,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
}

#[derive(Debug)]
struct Listening {
    endpoint: quinn::Endpoint,
    /// The address at which it was bound, with the port that it got.
    address: SocketAddr,
}

impl Endpoint {
    /// Listens at these addresses, with the given identity on every connection. `[::]` means IPv4 too. Needs a
    /// tokio run-time to be there.
    pub(crate) fn bind(
        network: Arc<dyn Network>,
        listen: &[SocketAddr],
        identity: &Identity,
        congestion: Congestion,
    ) -> Result<Self, TransportError> {
        let setup = |error: rustls::Error| TransportError::Setup(error.to_string());
        let client = tls::client_config(identity).map_err(setup)?;
        let server = tls::server_config(identity).map_err(setup)?;
        Self::with_tls(network, listen, identity, congestion, client, server)
    }

    /// The same with TLS settings of the caller's.
    pub(super) fn with_tls(
        network: Arc<dyn Network>,
        listen: &[SocketAddr],
        identity: &Identity,
        congestion: Congestion,
        client: rustls::ClientConfig,
        server: rustls::ServerConfig,
    ) -> Result<Self, TransportError> {
        let setup = |error: &dyn std::fmt::Display| TransportError::Setup(error.to_string());
        let dials = |client, background| {
            let client = QuicClientConfig::try_from(client).map_err(|error| setup(&error))?;
            let mut client = quinn::ClientConfig::new(Arc::new(client));
            client.transport_config(Arc::new(transport_config(congestion, Class::new(background))));
            Ok::<_, TransportError>(client)
        };
        let yielding = dials(tls::yielding(&client), true)?;
        let client = dials(client, false)?;
        let server = QuicServerConfig::try_from(server).map_err(|error| setup(&error))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
        server
            .transport_config(Arc::new(transport_config(congestion, Class::default())))
            .migration(true)
            .max_incoming(MAX_HANDSHAKES)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFER * MAX_HANDSHAKES as u64);

        let (sender, incoming) = mpsc::channel(HANDSHAKES_ON_TRUST);
        let handshakes = Arc::new(Handshakes::default());
        let mut listening = Vec::with_capacity(listen.len());
        for &address in listen {
            let failed = |source: io::Error| TransportError::Bind { address, source: Arc::new(source) };
            let socket = network.bind(address).map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?;
            let config = with_payload(reset::endpoint_config(identity, address))?;
            let endpoint = over(socket, config, Some(server.clone())).map_err(failed)?;
            let gate = Gate {
                own: identity.peer_id(),
                handshakes: handshakes.clone(),
                server: server.clone(),
                congestion,
            };
            tokio::spawn(gate.watch(endpoint.clone(), sender.clone()));
            listening.push(Listening { endpoint, address });
        }
        Ok(Self(Arc::new(Inner {
            network,
            listening,
            dialling: Mutex::default(),
            client,
            yielding,
            identity: identity.clone(),
            incoming: tokio::sync::Mutex::new(incoming),
        })))
    }

    /// Where this endpoint listens, in the order in which it was asked for.
    pub(crate) fn local_addrs(&self) -> Vec<SocketAddr> {
        self.0.listening.iter().map(|listening| listening.address).collect()
    }

    /// Where others can dial this endpoint, as far as it can be told here.
    pub(crate) fn own_addresses(&self) -> Vec<SocketAddr> {
        addresses::dialable(&self.local_addrs())
    }

    /// What others know this side by.
    pub(crate) fn peer_id(&self) -> PeerId {
        self.0.identity.peer_id()
    }

    /// Dials an address. Ends within the handshake's deadline, and who answered is for the caller to look at.
    pub(crate) async fn connect(&self, address: SocketAddr) -> Result<Connection, TransportError> {
        self.connect_as(address, false).await
    }

    /// The same, for a connection on which both sides yield to whatever else is on its way, if `background`. A peer that does not know
    /// of it takes the connection too, and yields with nothing.
    pub(crate) async fn connect_as(
        &self,
        address: SocketAddr,
        background: bool,
    ) -> Result<Connection, TransportError> {
        let remote = socket::canonical(address);
        if remote.port() == 0 || remote.ip().is_unspecified() || remote.ip().is_multicast() {
            return Err(TransportError::BadAddress(remote));
        }
        let no_route = |source: io::Error| TransportError::NoRoute { remote, source: Arc::new(source) };
        self.0.network.check_route(remote).map_err(no_route)?;
        let own = self.0.identity.peer_id();
        let context = Context { remote, own, closed_here: None };
        let config = if background { &self.0.yielding } else { &self.0.client };
        let connecting = self
            .socket_for(remote)?
            .connect_with(config.clone(), remote, SERVER_NAME)
            .map_err(|error| context.connect(error))?;
        match tokio::time::timeout(HANDSHAKE_DEADLINE, connecting).await {
            Ok(Ok(connection)) => {
                let class = Class::new(background);
                Connection::new(connection, own, class).inspect(|dialled| dialled.widen(CONNECTION_WINDOW))
            }
            // Before there is a connection, silence means that nobody is there.
            Ok(Err(ConnectionError::TimedOut)) | Err(_) => {
                Err(TransportError::NoAnswer { remote, after: HANDSHAKE_DEADLINE })
            }
            Ok(Err(error)) => Err(context.connection(error)),
        }
    }

    /// The next connection that somebody wants, on any socket. `None` once the endpoint is closed. Dropping the
    /// future loses nothing.
    pub(crate) async fn accept(&self) -> Option<Incoming> {
        self.0.incoming.lock().await.recv().await
    }

    /// Closes every connection and takes no new ones. The peers are told while [`wait_idle`](Self::wait_idle)
    /// runs.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        for endpoint in self.all() {
            endpoint.close(code.into(), reason.as_bytes());
        }
    }

    /// Ends when every connection is gone and its peer has had the time to hear of it.
    pub(crate) async fn wait_idle(&self) {
        for endpoint in self.all() {
            endpoint.wait_idle().await;
        }
    }

    fn all(&self) -> Vec<quinn::Endpoint> {
        let dialling = self.0.dialling.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.listening.iter().map(|listening| listening.endpoint.clone()).chain(dialling).collect()
    }

    /// A socket from which packets get to `remote`. Dialling from a listening socket tells the peer an address at
    /// which this side can be dialled, and lets both sides' packets open the same way through a NAT.
    fn socket_for(&self, remote: SocketAddr) -> Result<quinn::Endpoint, TransportError> {
        let listening = self.0.listening.iter().find(|listening| socket::reaches(listening.address, remote));
        if let Some(listening) = listening {
            return Ok(listening.endpoint.clone());
        }
        let mut dialling = self.0.dialling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = &*dialling {
            return Ok(endpoint.clone());
        }
        let no_socket = |source: io::Error| TransportError::NoRoute { remote, source: Arc::new(source) };
        let socket = self.0.network.bind_to_dial().map_err(no_socket)?;
        let config = with_payload(reset::throwaway_config(&self.0.identity))?;
        Ok(dialling.insert(over(socket, config, None).map_err(no_socket)?).clone())
    }

    /// Moves the first listening socket to another port, as a change of networks would.
    #[cfg(test)]
    pub(super) fn move_to(&self, address: SocketAddr) -> SocketAddr {
        let socket = socket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        self.0.listening[0].endpoint.rebind(socket).unwrap();
        address
    }
}

/// QUIC over a socket, on the running run-time, whose clock it goes by.
fn over(
    socket: Arc<dyn AsyncUdpSocket>,
    config: EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> io::Result<quinn::Endpoint> {
    quinn::Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
}

fn with_payload(mut config: EndpointConfig) -> Result<EndpointConfig, TransportError> {
    config.max_udp_payload_size(MAX_UDP_PAYLOAD).map_err(|error| TransportError::Setup(error.to_string()))?;
    Ok(config)
}

fn transport_config(congestion: Congestion, class: Class) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_UDP_PAYLOAD).interval(MTU_INTERVAL);
    let mut config = TransportConfig::default();
    config
        .congestion_controller_factory(congestion::factory(congestion, class, INITIAL_WINDOW))
        .max_concurrent_bidi_streams(MAX_BIDI_STREAMS.into())
        .max_concurrent_uni_streams(MAX_UNI_STREAMS.into())
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW as u32))
        .receive_window(VarInt::from_u32(FIRST_WINDOW as u32))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32))))
        .initial_mtu(MIN_UDP_PAYLOAD)
        .mtu_discovery_config(Some(mtu));
    config
}

/// Lets handshakes begin, as many as there is room for.
struct Gate {
    own: PeerId,
    handshakes: Arc<Handshakes>,
    server: quinn::ServerConfig,
    congestion: Congestion,
}

impl Gate {
    /// Passes on what comes in at one socket until the socket is closed or nobody listens any longer.
    async fn watch(self, endpoint: quinn::Endpoint, out: mpsc::Sender<Incoming>) {
        loop {
            let incoming = tokio::select! {
                () = out.closed() => return,
                next = endpoint.accept() => match next {
                    Some(incoming) => incoming,
                    None => return,
                },
            };
            let Some(incoming) = self.admit(incoming) else { continue };
            if out.send(incoming).await.is_err() {
                return;
            }
        }
    }

    fn admit(&self, incoming: quinn::Incoming) -> Option<Incoming> {
        let remote = socket::canonical(incoming.remote_address());
        if self.handshakes.count() >= HANDSHAKES_ON_TRUST && !incoming.remote_address_validated() {
            // The answer is smaller than the question, and nothing is remembered.
            let _ = incoming.retry();
            return None;
        }
        let Some(place) = Handshakes::begin(&self.handshakes, remote.ip()) else {
            tracing::debug!(%remote, "too many handshakes, refused");
            incoming.refuse();
            return None;
        };
        let (class, mut server) = (Class::default(), self.server.clone());
        server.transport_config(Arc::new(transport_config(self.congestion, class.clone())));
        Some(Incoming { incoming, own: self.own, place, server, class })
    }
}

/// Somebody who wants a connection and has proved nothing yet. Dropping it refuses.
#[derive(Debug)]
pub(crate) struct Incoming {
    incoming: quinn::Incoming,
    own: PeerId,
    place: Place,
    server: quinn::ServerConfig,
    class: Class,
}

impl Incoming {
    /// Where the wish came from. Nobody has proved that it did.
    pub(crate) fn remote_addr(&self) -> SocketAddr {
        socket::canonical(self.incoming.remote_address())
    }

    /// Shakes hands, within the deadline. To be called in a task of its own: a peer that is slow must not keep
    /// the next one waiting.
    pub(crate) async fn finish(self) -> Result<Connection, TransportError> {
        let remote = self.remote_addr();
        let Self { incoming, own, place, server, class } = self;
        let context = Context { remote, own, closed_here: None };
        let connecting = incoming.accept_with(Arc::new(server)).map_err(|error| context.connection(error))?;
        let ended = tokio::select! {
            ended = tokio::time::timeout(HANDSHAKE_DEADLINE, connecting) => ended,
            () = place.given_up() => return Err(TransportError::Crowded { remote }),
        };
        match ended {
            Ok(Ok(connection)) => {
                if tls::is_to_yield(&connection) {
                    class.set_background();
                }
                Connection::new(connection, own, class)
            }
            Ok(Err(ConnectionError::TimedOut)) | Err(_) => {
                Err(TransportError::NoAnswer { remote, after: HANDSHAKE_DEADLINE })
            }
            Ok(Err(error)) => Err(context.connection(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::reason::Failure;

    use super::*;
    use crate::transport::tests::{bind, loopback};

    /// Faults 66 and 67.
    #[tokio::test]
    async fn under_load_an_address_must_prove_itself_and_others_still_get_in() {
        let identity = Identity::ephemeral();
        let server = bind(&[loopback()], &identity).unwrap();
        let client = bind(&[loopback()], &Identity::ephemeral()).unwrap();
        let address = server.local_addrs()[0];
        let dial = || {
            let client = client.clone();
            tokio::spawn(async move { client.connect(address).await })
        };
        let dials: Vec<_> = (0..HANDSHAKES_ON_TRUST).map(|_| dial()).collect();
        let mut slow = Vec::new();
        for _ in 0..HANDSHAKES_ON_TRUST {
            let incoming = server.accept().await.unwrap();
            assert!(!incoming.incoming.remote_address_validated());
            slow.push(incoming);
        }
        let late = dial();
        let incoming = server.accept().await.unwrap();
        assert!(incoming.incoming.remote_address_validated());
        incoming.finish().await.unwrap();
        assert_eq!(late.await.unwrap().unwrap().peer_id(), identity.peer_id());
        // Those that are given up are told so at once.
        drop(slow);
        for dial in dials {
            let error = dial.await.unwrap().unwrap_err();
            assert!(matches!(error, TransportError::Busy { .. }), "{error:?}");
            assert_eq!(error.failure(), Failure::Unreachable);
        }
    }
}
