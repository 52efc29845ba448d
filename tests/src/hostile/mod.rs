//! A peer that means harm: it has a valid key, speaks QUIC and TLS, and says whatever a test wants. It shares the
//! wire's types with the daemon and nothing else.

mod content;
mod conversation;
mod raw;
mod scene;
pub mod tls;

pub use content::Content;
pub use conversation::{Conversation, Ended, Heard};
pub use raw::Raw;
pub use scene::Scene;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use p2p_protocol::PeerId;

use self::tls::Key;
use crate::until::PATIENCE;

/// A peer under a test's control.
#[derive(Debug)]
pub struct Hostile {
    key: Key,
    endpoint: quinn::Endpoint,
}

/// A connection of such a peer.
#[derive(Clone, Debug)]
pub struct Connection(pub quinn::Connection);

impl Hostile {
    /// A peer with a new key, listening on loopback. Must be called inside a tokio run-time.
    pub fn new() -> Self {
        Self::with(transport())
    }

    /// The same for a peer that takes only so many bytes of each stream.
    pub fn that_takes(bytes: u32) -> Self {
        let mut transport = transport();
        transport.stream_receive_window(bytes.into());
        Self::with(transport)
    }

    fn with(transport: quinn::TransportConfig) -> Self {
        let (key, transport) = (Key::generate(), Arc::new(transport));
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls::server(&key)));
        server.transport_config(transport.clone());
        let mut endpoint = quinn::Endpoint::server(server, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .expect("loopback has a free port");
        endpoint.set_default_client_config(client_config(tls::client(&key), transport));
        Self { key, endpoint }
    }

    /// Its Peer ID, as a user would type it.
    pub fn peer_id(&self) -> String {
        PeerId::from_spki(self.key.spki()).to_string()
    }

    /// Its key and certificate.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.endpoint.local_addr().expect("a bound socket has an address").to_string()
    }

    /// Dials a daemon with its own valid key.
    pub async fn dial(&self, address: &str) -> Connection {
        let address = address.parse().expect("a daemon's address");
        let connecting = self.endpoint.connect(address, "p2p").expect("loopback can be dialled");
        Connection(soon("the handshake", connecting).await.expect("a valid key completes the handshake"))
    }

    /// Dials with other settings; how the connection ends is all that comes of it.
    pub async fn dial_with(&self, address: &str, crypto: quinn::crypto::rustls::QuicClientConfig) -> Ended {
        let address = address.parse().expect("a daemon's address");
        let connecting = self
            .endpoint
            .connect_with(client_config(crypto, Arc::new(transport())), address, "p2p")
            .expect("loopback can be dialled");
        match soon("the handshake", connecting).await {
            Err(error) => Ended::from(error),
            // The client believes the handshake complete before the server has judged its certificate.
            Ok(connection) => Connection(connection).ended().await,
        }
    }

    /// Waits for a daemon that dials, however long that takes.
    pub async fn accept_any(&self) -> Connection {
        loop {
            let incoming = self.endpoint.accept().await.expect("the endpoint is open");
            if let Ok(connection) = incoming.await {
                return Connection(connection);
            }
        }
    }

    /// Waits for a daemon that dials.
    pub async fn accept(&self) -> Connection {
        let incoming =
            soon("a daemon that dials", self.endpoint.accept()).await.expect("the endpoint is open");
        Connection(soon("the handshake", incoming).await.expect("a daemon completes the handshake"))
    }
}

impl Default for Hostile {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// Opens a conversation.
    pub async fn open(&self) -> Conversation {
        let streams = soon("a stream", self.0.open_bi()).await.expect("a trusted peer may open a stream");
        Conversation::new(self.clone(), streams)
    }

    /// Waits for a conversation that the daemon opens.
    pub async fn accept(&self) -> Conversation {
        let streams = soon("a conversation", self.0.accept_bi()).await.expect("the daemon opens a stream");
        Conversation::new(self.clone(), streams)
    }

    /// Sends these bytes on a unidirectional stream of their own, and its end. What becomes of them is not waited
    /// for; a daemon that stops the stream is no failure.
    pub async fn send_stream(&self, bytes: &[u8]) {
        let Ok(mut stream) = soon("a stream", self.0.open_uni()).await else { return };
        let _ = soon("the daemon to read", stream.write_all(bytes)).await;
        let _ = stream.finish();
    }

    /// How the daemon ended the connection.
    pub async fn ended(&self) -> Ended {
        Ended::from(soon("the connection to end", self.0.closed()).await)
    }

    /// The certificate that the daemon presented.
    pub fn certificate(&self) -> Vec<u8> {
        let identity = self.0.peer_identity().expect("the daemon presents a certificate");
        let chain: Box<Vec<rustls::pki_types::CertificateDer<'static>>> =
            identity.downcast().expect("rustls certificates");
        chain.first().expect("one certificate").to_vec()
    }
}

/// Waits for something that must come.
pub(crate) async fn soon<F: Future>(
    what: &str,
    future: impl IntoFuture<IntoFuture = F, Output = F::Output>,
) -> F::Output {
    let waited = tokio::time::timeout(PATIENCE, future.into_future()).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

fn client_config(
    crypto: quinn::crypto::rustls::QuicClientConfig,
    transport: Arc<quinn::TransportConfig>,
) -> quinn::ClientConfig {
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport);
    config
}

fn transport() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_uni_streams(4096u32.into())
        .max_concurrent_bidi_streams(4096u32.into())
        .keep_alive_interval(Some(Duration::from_secs(5)));
    transport
}
