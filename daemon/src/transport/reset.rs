//! How a restarted daemon tells its peers that it has forgotten their connections: by QUIC's stateless resets.
//!
//! A reset proves itself with a token that only the owner of a connection ID can compute. Here its key is derived
//! from the identity and the socket's address, so that after a crash the same socket answers at once what is
//! meant for its predecessor, instead of leaving the peer to its idle timeout. Sockets must not share a key: one
//! would give away the tokens of another's live connections (RFC 9000, section 21.11).

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig,
    crypto::{CryptoError, HmacKey},
};
use rustls::crypto::SecureRandom;

use super::tls;
use crate::identity::Identity;

const RESET_CONTEXT: &str = "p2p 2026-11-23 stateless reset tokens of a socket";
/// Bytes of a connection ID, as short as chance allows: every packet carries one.
const ID_LEN: usize = 8;

/// Settings of a listening socket, whose key is the same after every restart.
pub(super) fn endpoint_config(identity: &Identity, socket: SocketAddr) -> EndpointConfig {
    let material = [identity.private_key_der(), socket.to_string().as_bytes()].concat();
    keyed(&material)
}

/// Settings of a socket that nobody dials, whose key is used once.
pub(super) fn throwaway_config(identity: &Identity) -> EndpointConfig {
    let mut salt = [0; 32];
    fill_random(&mut salt);
    keyed(&[identity.private_key_der(), &salt].concat())
}

fn keyed(material: &[u8]) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(ResetKey(blake3::derive_key(RESET_CONTEXT, material))));
    config.cid_generator(|| Box::new(RandomIds));
    config
}

/// If the system has no randomness left, connection IDs repeat and connections fail; TLS has failed by then.
fn fill_random(bytes: &mut [u8]) {
    static RANDOM: OnceLock<&'static dyn SecureRandom> = OnceLock::new();
    let random = RANDOM.get_or_init(|| tls::provider().secure_random);
    if random.fill(bytes).is_err() {
        tracing::error!("the system gives no random numbers");
    }
}

struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        blake3::Hasher::new_keyed(&self.0).update(data).finalize_xof().fill(signature_out);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let signature: [u8; blake3::OUT_LEN] = signature.try_into().map_err(|_| CryptoError)?;
        // `blake3::Hash` compares in constant time.
        if blake3::keyed_hash(&self.0, data) == signature { Ok(()) } else { Err(CryptoError) }
    }
}

/// Random connection IDs. Unlike quinn's own they carry no mark of the process that made them, so that a
/// predecessor's are answered with a reset.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LEN];
        fill_random(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
