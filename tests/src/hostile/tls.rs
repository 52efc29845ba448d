//! Keys and TLS settings, sound and unsound.

use std::sync::Arc;

use p2p_protocol::wire::ALPN;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::CertifiedKey,
};

/// A key and a self-signed certificate for it.
#[derive(Debug)]
pub struct Key {
    pair: KeyPair,
    certificate: CertificateDer<'static>,
    spki: Vec<u8>,
}

impl Key {
    /// A new one.
    pub fn generate() -> Self {
        let pair = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new(vec!["hostile".to_owned()]).expect("a plain name");
        let certificate = params.self_signed(&pair).expect("a key can sign").der().clone();
        let spki = pair.subject_public_key_info();
        Self { pair, certificate, spki }
    }

    /// The DER-encoded SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The DER-encoded certificate.
    pub fn certificate(&self) -> Vec<u8> {
        self.certificate.to_vec()
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pair.serialize_der()).into()
    }
}

/// A client as it should be.
pub fn client(key: &Key) -> QuicClientConfig {
    client_with_alpn(key, ALPN)
}

/// A client that speaks another protocol.
pub fn client_with_alpn(key: &Key, alpn: &[u8]) -> QuicClientConfig {
    let config = client_builder().with_client_auth_cert(vec![key.certificate.clone()], key.private());
    quic(config.expect("key and certificate fit"), alpn)
}

/// A client that presents no certificate.
pub fn client_without_certificate() -> QuicClientConfig {
    quic(client_builder().with_no_client_auth(), ALPN)
}

/// A client that presents somebody's certificate, whose key it does not have, and signs with its own.
pub fn client_with_stolen_certificate(key: &Key, certificate: Vec<u8>) -> QuicClientConfig {
    let signer =
        aws_lc_rs::sign::any_supported_type(&key.private()).expect("aws-lc-rs knows this kind of key");
    let stolen = CertifiedKey::new(vec![CertificateDer::from(certificate)], signer);
    quic(client_builder().with_client_cert_resolver(Arc::new(Always(Arc::new(stolen)))), ALPN)
}

/// A server as it should be.
pub fn server(key: &Key) -> QuicServerConfig {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("aws-lc-rs knows TLS 1.3")
        .with_client_cert_verifier(Arc::new(Anyone))
        .with_single_cert(vec![key.certificate.clone()], key.private())
        .expect("key and certificate fit");
    config.alpn_protocols = vec![ALPN.to_vec()];
    QuicServerConfig::try_from(config).expect("TLS 1.3 has an initial cipher suite")
}

fn client_builder() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("aws-lc-rs knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
}

fn quic(mut config: rustls::ClientConfig, alpn: &[u8]) -> QuicClientConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_sni = false;
    QuicClientConfig::try_from(config).expect("TLS 1.3 has an initial cipher suite")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Shows the same certificate to everyone.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes everything: whom it talks to is of no interest here.
#[derive(Debug)]
struct Anyone;

impl Anyone {
    fn schemes() -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}
