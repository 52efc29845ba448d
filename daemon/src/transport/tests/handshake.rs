use p2p_protocol::reason::Failure;
use rustls::{
    ClientConfig, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::*;
use crate::transport::tls;

fn with_client(identity: &Identity, change: impl FnOnce(&mut ClientConfig)) -> Endpoint {
    let mut client = tls::client_config(identity).unwrap();
    change(&mut client);
    Endpoint::with_tls(
        Arc::new(SystemNetwork),
        &[loopback()],
        identity,
        Congestion::default(),
        client,
        tls::server_config(identity).unwrap(),
    )
    .unwrap()
}

fn with_server(identity: &Identity, change: impl FnOnce(&mut ServerConfig)) -> Endpoint {
    let mut server = tls::server_config(identity).unwrap();
    change(&mut server);
    Endpoint::with_tls(
        Arc::new(SystemNetwork),
        &[loopback()],
        identity,
        Congestion::default(),
        tls::client_config(identity).unwrap(),
        server,
    )
    .unwrap()
}

/// The victim's certificate, which everybody may know, with the thief's own key.
fn stolen_certificate(victim: &Identity, thief: &Identity) -> Arc<SingleCertAndKey> {
    let key = PrivatePkcs8KeyDer::from(thief.private_key_der().to_vec()).into();
    let key = tls::provider().key_provider.load_private_key(key).unwrap();
    let certificate = CertificateDer::from(victim.certificate_der().to_vec());
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key)))
}

/// What both sides end with when `client` dials `server`. In TLS 1.3 the client is through before the server has
/// looked at its certificate, so its end may come a moment later.
async fn outcomes(client: &Endpoint, server: &Endpoint) -> (TransportError, TransportError) {
    let dial = async {
        match client.connect(server.local_addrs()[0]).await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        }
    };
    let serve = async { accept(server).await.expect_err("the server took the connection") };
    tokio::join!(dial, serve)
}

#[tokio::test]
async fn both_sides_learn_whom_they_speak_to() {
    let mut listen = vec!["[::]:0".parse().unwrap(), loopback()];
    if has_ipv6() {
        listen.push("[::1]:0".parse().unwrap());
    }
    let (here, there) = (Identity::ephemeral(), Identity::ephemeral());
    let client = bind(&[loopback()], &here).unwrap();
    let server = bind(&listen, &there).unwrap();
    let bound = server.local_addrs();
    let mut targets = vec![SocketAddr::from(([127, 0, 0, 1], bound[0].port())), bound[1]];
    if has_ipv6() {
        // The client's own socket is for IPv4 only: it makes another.
        targets.push(format!("[::1]:{}", bound[0].port()).parse().unwrap());
        targets.push(bound[2]);
    }
    for target in targets {
        let (dialled, accepted) = tokio::join!(client.connect(target), accept(&server));
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!(dialled.peer_id(), there.peer_id());
        assert_eq!(accepted.peer_id(), here.peer_id());
        assert_eq!(dialled.remote_addr(), target);
        assert_eq!(accepted.remote_addr().is_ipv4(), target.is_ipv4());
        move_chunk(&dialled, &accepted, 1, payload(10_000)).await;
        move_chunk(&accepted, &dialled, 2, payload(10_000)).await;
    }
}

/// Fault 72.
#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let (here, server) = (Identity::ephemeral(), endpoint());
    let client = with_client(&here, |config| {
        #[derive(Debug)]
        struct Nothing;
        impl rustls::client::ResolvesClientCert for Nothing {
            fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
                None
            }
            fn has_certs(&self) -> bool {
                false
            }
        }
        config.client_auth_cert_resolver = Arc::new(Nothing);
    });
    let (dialled, accepted) = outcomes(&client, &server).await;
    assert!(matches!(dialled, TransportError::NotAccepted { .. }), "{dialled}");
    assert!(matches!(accepted, TransportError::Unproven { .. }), "{accepted}");
    assert_eq!(accepted.failure(), Failure::Refused);
}

/// Fault 51.
#[tokio::test]
async fn another_protocol_is_refused_in_clear_words() {
    for alpn in [vec![], vec![b"h3".to_vec()], vec![b"p2p/2".to_vec()]] {
        let here = Identity::ephemeral();
        let client = with_client(&here, |config| config.alpn_protocols = alpn.clone());
        let (dialled, accepted) = outcomes(&client, &endpoint()).await;
        assert!(matches!(dialled, TransportError::OtherVersion { .. }), "{alpn:?}: {dialled:?}");
        assert!(matches!(accepted, TransportError::OtherVersion { .. }), "{alpn:?}: {accepted:?}");
        assert!(dialled.to_string().contains("p2p/1"), "{dialled}");

        let server = with_server(&here, |config| config.alpn_protocols = alpn.clone());
        let (dialled, accepted) =
            tokio::join!(async { endpoint().connect(server.local_addrs()[0]).await.err() }, async {
                accept(&server).await.err()
            });
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        assert!(matches!(dialled, TransportError::OtherVersion { .. }), "{alpn:?}: {dialled:?}");
        assert!(matches!(accepted, TransportError::OtherVersion { .. }), "{alpn:?}: {accepted:?}");
    }
}

/// Fault 72.
#[tokio::test]
async fn a_client_with_somebody_elses_certificate_is_refused() {
    let (victim, thief) = (Identity::ephemeral(), Identity::ephemeral());
    let stolen = stolen_certificate(&victim, &thief);
    let client = with_client(&thief, |config| config.client_auth_cert_resolver = stolen);
    let (dialled, accepted) = outcomes(&client, &endpoint()).await;
    assert!(matches!(dialled, TransportError::NotAccepted { .. }), "{dialled}");
    assert!(matches!(accepted, TransportError::Unproven { .. }), "{accepted}");
}

/// Fault 73.
#[tokio::test]
async fn a_server_with_somebody_elses_certificate_is_refused() {
    let (victim, thief) = (Identity::ephemeral(), Identity::ephemeral());
    let stolen = stolen_certificate(&victim, &thief);
    let server = with_server(&thief, |config| config.cert_resolver = stolen);
    let (dialled, accepted) = outcomes(&endpoint(), &server).await;
    assert!(matches!(dialled, TransportError::Unproven { .. }), "{dialled}");
    assert_eq!(dialled.failure(), Failure::Refused);
    assert!(matches!(accepted, TransportError::NotAccepted { .. }), "{accepted}");
}

#[tokio::test]
async fn several_or_malformed_certificates_are_refused() {
    let (victim, thief) = (Identity::ephemeral(), Identity::ephemeral());
    let key = || {
        let key = PrivatePkcs8KeyDer::from(thief.private_key_der().to_vec()).into();
        tls::provider().key_provider.load_private_key(key).unwrap()
    };
    let own = || CertificateDer::from(thief.certificate_der().to_vec());
    let other = CertificateDer::from(victim.certificate_der().to_vec());
    let garbage = CertificateDer::from(b"not a certificate".to_vec());
    for chain in [vec![own(), other.clone()], vec![other, own()], vec![garbage]] {
        let shown = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key())));
        let client = with_client(&thief, |config| config.client_auth_cert_resolver = shown.clone());
        let (_, accepted) = outcomes(&client, &endpoint()).await;
        assert!(matches!(accepted, TransportError::Unproven { .. }), "{accepted}");
        let server = with_server(&thief, |config| config.cert_resolver = shown);
        let (dialled, _) = outcomes(&endpoint(), &server).await;
        assert!(matches!(dialled, TransportError::Unproven { .. }), "{dialled}");
    }
}

/// Runs a handshake without a network, and returns both ends.
fn shake_hands(
    client: ClientConfig,
    server: ServerConfig,
) -> (rustls::quic::ClientConnection, rustls::quic::ServerConnection) {
    use rustls::quic::{ClientConnection, ServerConnection, Version};
    let name = "p2p".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), Version::V1, name, Vec::new()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server), Version::V1, Vec::new()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        // Each side wants what was sent under one key apart from what was sent under the next.
        let mut flight = Vec::new();
        while client.write_hs(&mut flight).is_some() || !flight.is_empty() {
            server.read_hs(&std::mem::take(&mut flight)).unwrap();
        }
        while server.write_hs(&mut flight).is_some() || !flight.is_empty() {
            client.read_hs(&std::mem::take(&mut flight)).unwrap();
        }
    }
    (client, server)
}

#[test]
fn key_exchange_is_hybrid_where_the_peer_knows_how() {
    let identity = Identity::ephemeral();
    let (client, server) =
        shake_hands(tls::client_config(&identity).unwrap(), tls::server_config(&identity).unwrap());
    for group in [client.negotiated_key_exchange_group(), server.negotiated_key_exchange_group()] {
        assert_eq!(group.unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
    }
}

#[test]
fn a_peer_that_knows_only_x25519_can_still_speak() {
    let identity = Identity::ephemeral();
    let mut old = tls::client_config(&identity).unwrap();
    let provider = CryptoProvider {
        kx_groups: vec![rustls::crypto::aws_lc_rs::kx_group::X25519],
        ..old.crypto_provider().as_ref().clone()
    };
    let verifier = tls::verifier(&provider);
    old = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(old.client_auth_cert_resolver.clone());
    old.alpn_protocols = vec![p2p_protocol::wire::ALPN.to_vec()];
    let (client, _) = shake_hands(old, tls::server_config(&identity).unwrap());
    assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::X25519);
}

#[test]
fn nothing_is_resumed_and_nothing_comes_early() {
    let identity = Identity::ephemeral();
    let (client, server) = (tls::client_config(&identity).unwrap(), tls::server_config(&identity).unwrap());
    assert!(!client.enable_early_data && server.max_early_data_size == 0);
    let (client, mut server) = shake_hands(client, server);
    let mut tickets = Vec::new();
    while server.write_hs(&mut tickets).is_some() {}
    assert!(tickets.is_empty(), "the server sent a ticket");
    assert!(client.zero_rtt_keys().is_none());
    assert_eq!(server.handshake_kind(), Some(rustls::HandshakeKind::Full));
    assert_eq!(client.alpn_protocol(), Some(&b"p2p/1"[..]));
}

#[test]
fn tls_1_2_is_impossible() {
    let identity = Identity::ephemeral();
    assert!(tls::provider().cipher_suites.iter().all(|suite| suite.tls13().is_some()));
    // A TLS 1.2 ClientHello: no supported_versions, ECDHE with AES-128-GCM, X25519.
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    body.extend_from_slice(&[0, 20, 0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 8, 7]);
    let mut record = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    record.extend_from_slice(&body);
    let config = Arc::new(tls::server_config(&identity).unwrap());
    let mut server = rustls::ServerConnection::new(config).unwrap();
    server.read_tls(&mut record.as_slice()).unwrap();
    let error = server.process_new_packets().unwrap_err();
    assert!(matches!(error, rustls::Error::PeerIncompatible(_)), "{error:?}");
}

#[test]
fn the_identity_is_what_its_certificate_says() {
    let identity = Identity::ephemeral();
    let certificate = CertificateDer::from(identity.certificate_der());
    assert_eq!(tls::peer_id(&[certificate]), Some(identity.peer_id()));
    assert_eq!(tls::peer_id(&[]), None);
    assert_eq!(tls::peer_id(&[CertificateDer::from(&b"0"[..])]), None);
}

#[tokio::test]
async fn both_sides_know_whether_a_connection_yields_and_one_that_never_heard_of_it_takes_it_too() {
    let (client, identity) = (endpoint(), Identity::ephemeral());
    let older = with_server(&identity, |server| {
        server.alpn_protocols = vec![p2p_protocol::wire::ALPN.to_vec()];
    });
    for (server, background, understood) in
        [(endpoint(), false, false), (endpoint(), true, true), (older, true, false)]
    {
        let address = server.local_addrs()[0];
        let (dialled, accepted) = tokio::join!(client.connect_as(address, background), accept(&server));
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!((dialled.is_background(), accepted.is_background()), (background, understood));
        move_chunk(&dialled, &accepted, 0, payload(300_000)).await;
        move_chunk(&accepted, &dialled, 0, payload(300_000)).await;
    }
}
