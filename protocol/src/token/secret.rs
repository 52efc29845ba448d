//! How the holder of a token proves to have its secret, without saying it.
//!
//! ```text
//!  secret ─┬─▶ id    said aloud, so that the other side knows which secret is meant
//!          └─▶ key   what the giver keeps instead of the secret
//!                │
//!  this very connection and both its keys ─▶ proof
//! ```
//!
//! A proof is a MAC over what is true of one connection alone. Whoever sees it, be it the peer at the other end, can do nothing
//! with it: on any other connection, and between any other two peers, it proves nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Grant;
use crate::PeerId;

/// Bytes of a secret: as many as nobody guesses.
pub const SECRET_LEN: usize = 16;
const ID_CONTEXT: &str = "p2p 2026-11-26 what a token's secret is called";
const FETCH_CONTEXT: &str = "p2p 2026-11-26 proof of a ticket's secret";
const JOIN_CONTEXT: &str = "p2p 2026-11-26 proof of an invitation's secret";

/// What only those have who were given a token. It never crosses the network.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_LEN]);

/// What a secret is called. It can be said to anybody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClaimId(pub [u8; 8]);

/// What the giver of a token keeps of its secret: enough to check a proof, and to make one, so it is kept where the giver's own
/// key is.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimKey([u8; 32]);

/// The word of a secret's holder for one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof(pub [u8; 32]);

/// What is true of one connection alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What both ends of the TLS connection, and nobody else, derive from its handshake (RFC 8446, 7.5).
    pub exporter: [u8; 32],
    /// Who has the secret and proves it.
    pub holder: PeerId,
    /// Who gave it.
    pub giver: PeerId,
}

impl Secret {
    /// These bytes, which have to be random.
    pub fn new(random: [u8; SECRET_LEN]) -> Self {
        Self(random)
    }

    pub(super) fn bytes(&self) -> &[u8; SECRET_LEN] {
        &self.0
    }

    /// What it is called.
    pub fn id(&self) -> ClaimId {
        let mut id = ClaimId([0; 8]);
        blake3::Hasher::new_derive_key(ID_CONTEXT).update(&self.0).finalize_xof().fill(&mut id.0);
        id
    }

    /// What is kept of it, for one purpose.
    pub fn key(&self, grant: Grant) -> ClaimKey {
        match grant {
            Grant::Join => ClaimKey(blake3::derive_key(JOIN_CONTEXT, &self.0)),
            Grant::Fetch(_) => ClaimKey(blake3::derive_key(FETCH_CONTEXT, &self.0)),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimId({self})")
    }
}

impl ClaimKey {
    /// For a file that only its owner can read.
    pub fn to_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// From such a file.
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }

    fn mac(&self, binding: &Binding) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&binding.exporter).update(&binding.holder.0).update(&binding.giver.0);
        hasher.finalize()
    }

    /// Proves on this connection that its secret is known here.
    pub fn prove(&self, binding: &Binding) -> Proof {
        Proof(*self.mac(binding).as_bytes())
    }

    /// Whether the other side has proven on this connection that it knows the secret.
    pub fn accepts(&self, proof: &Proof, binding: &Binding) -> bool {
        // Hashes compare in constant time.
        self.mac(binding) == proof.0
    }
}

impl fmt::Debug for ClaimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Binding = Binding { exporter: [1; 32], holder: PeerId([2; 32]), giver: PeerId([3; 32]) };

    #[test]
    fn a_proof_holds_on_its_own_connection_alone() {
        let key = Secret::new([7; SECRET_LEN]).key(Grant::Join);
        let proof = key.prove(&HERE);
        assert!(key.accepts(&proof, &HERE));
        for elsewhere in [
            Binding { exporter: [9; 32], ..HERE },
            Binding { holder: PeerId([9; 32]), ..HERE },
            Binding { giver: PeerId([9; 32]), ..HERE },
            Binding { holder: HERE.giver, giver: HERE.holder, ..HERE },
        ] {
            assert!(!key.accepts(&proof, &elsewhere), "{elsewhere:?}");
        }
        let other = Secret::new([8; SECRET_LEN]).key(Grant::Join);
        assert!(!other.accepts(&proof, &HERE));
        for byte in 0..32 {
            let mut wrong = proof;
            wrong.0[byte] ^= 1;
            assert!(!key.accepts(&wrong, &HERE));
        }
    }

    #[test]
    fn nothing_shows_a_secret_by_accident() {
        let secret = Secret::new([7; SECRET_LEN]);
        let key = secret.key(Grant::Join);
        assert_eq!(format!("{secret:?} {key:?}"), "Secret(…) ClaimKey(…)");
        assert_eq!(ClaimKey::from_hex(&key.to_hex()), Some(key.clone()));
        assert!(
            ClaimKey::from_hex("ab").is_none() && ClaimKey::from_hex(&key.to_hex().to_uppercase()).is_none()
        );
        assert_ne!(secret.id().0, key.0[..8]);
        assert_ne!(secret.id(), Secret::new([8; SECRET_LEN]).id());
    }
}
