//! TLS 1.3 with self-signed certificates on both sides. The certificate is only an envelope for a public key:
//! its names, dates and own signature mean nothing, the signature over the handshake means everything.

use std::sync::Arc;

use p2p_protocol::{
    PeerId,
    succession::{Succession, key_of_spki},
    wire::{ALPN, ALPN_BACKGROUND},
};
use quinn::crypto::rustls::HandshakeData;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage, ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::identity::{Identity, is_signed};

/// The cryptography in use. Key exchange is hybrid where the peer knows how, so that what is recorded today stays
/// secret from a quantum computer later. Ciphers, too, are those of aws-lc-rs: protecting and opening packets it
/// is level with ring's at worst, and for large packets up to 1.8 times as fast (`examples/cipher_bench.rs`).
pub(super) fn provider() -> CryptoProvider {
    use aws_lc_rs::{cipher_suite, kx_group};
    let mut cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if !has_aes_instructions() {
        cipher_suites.rotate_right(1);
    }
    CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        cipher_suites,
        ..aws_lc_rs::default_provider()
    }
}

/// Without them AES is several times slower than ChaCha20.
fn has_aes_instructions() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// How this side dials.
pub(super) fn client_config(identity: &Identity) -> Result<rustls::ClientConfig, Error> {
    let provider = Arc::new(provider());
    let verifier = verifier(&provider);
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain(identity), key(identity))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = false;
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// How this side is dialled.
pub(super) fn server_config(identity: &Identity) -> Result<rustls::ServerConfig, Error> {
    let provider = Arc::new(provider());
    let verifier = verifier(&provider);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(identity), key(identity))?;
    config.alpn_protocols = vec![ALPN_BACKGROUND.to_vec(), ALPN.to_vec()];
    // The side for which AES is slow decides.
    config.ignore_client_order = !has_aes_instructions();
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The same settings for a connection on which both sides yield. A peer that does not know of that takes the other name.
pub(super) fn yielding(client: &rustls::ClientConfig) -> rustls::ClientConfig {
    let mut config = client.clone();
    config.alpn_protocols.insert(0, ALPN_BACKGROUND.to_vec());
    config
}

/// Whether who has dialled wants it to be such a connection.
pub(super) fn is_to_yield(connection: &quinn::Connection) -> bool {
    let agreed = connection.handshake_data().and_then(|any| any.downcast::<HandshakeData>().ok());
    agreed.is_some_and(|agreed| agreed.protocol.as_deref() == Some(ALPN_BACKGROUND))
}

/// Who a completed handshake was with. The argument is what quinn calls the peer's identity.
pub(super) fn peer_id(certificates: &[CertificateDer<'_>]) -> Option<PeerId> {
    let certificate = ParsedCertificate::try_from(certificates.first()?).ok()?;
    Some(PeerId::from_spki(&certificate.subject_public_key_info()))
}

/// Who the peer of a completed handshake was before, the latest first, as far as its old keys have signed for it.
pub(super) fn predecessors(certificates: &[CertificateDer<'_>]) -> Vec<PeerId> {
    let known = || {
        let certificate = certificates.first()?;
        let signed = Succession::find(certificate)?;
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        signed.predecessors(&key_of_spki(&parsed.subject_public_key_info())?, is_signed)
    };
    known().unwrap_or_default()
}

fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from(identity.certificate_der().to_vec())]
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(identity.private_key_der().to_vec()).into()
}

/// What decides whether a handshake is sound. Tests build other settings around it.
pub(super) fn verifier(provider: &CryptoProvider) -> Arc<AnyKey> {
    Arc::new(AnyKey(provider.signature_verification_algorithms))
}

/// Takes any well-formed certificate, and always checks that its key has signed this handshake. Who the peer is
/// and what it may do is decided afterwards, on the completed connection: a certificate is seen here before its
/// owner has proved anything.
#[derive(Debug)]
pub(super) struct AnyKey(WebPkiSupportedAlgorithms);

impl AnyKey {
    fn is_well_formed(certificate: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !more.is_empty() {
            return Err(Error::General("more than one certificate".to_owned()));
        }
        ParsedCertificate::try_from(certificate).map(|_| ())
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }
}

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::is_well_formed(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

impl ClientCertVerifier for AnyKey {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::is_well_formed(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
