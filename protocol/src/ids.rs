//! The two identities of the system: what is moved (File ID) and who moves it (Peer ID); and the key that stands for
//! content whose identity is not known yet.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// BLAKE3 hash of a file's content, as `b3sum` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub [u8; 32]);

/// Hash of a peer's public key: `blake3::derive_key` over the DER-encoded SubjectPublicKeyInfo,
/// so that it can never equal the File ID of a file that holds the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(pub [u8; 32]);

/// Stands for a source whose File ID its provider does not know yet, so that a transfer of it can go on. It means
/// something only together with the provider's Peer ID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResumeKey(pub [u8; 16]);

const PEER_ID_CONTEXT: &str = "p2p 2026-11-23 peer id from subject public key info";

/// Why a text is not a File ID or Peer ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 64 hexadecimal digits.
    #[error("a File ID is 64 hexadecimal digits, as b3sum prints it")]
    File,
    /// Not 52 base-32 characters.
    #[error("a Peer ID is 52 lower-case characters (a-z, 2-7), as `p2p id` prints it")]
    Peer,
}

impl PeerId {
    /// The identity behind a DER-encoded SubjectPublicKeyInfo.
    pub fn from_spki(der: &[u8]) -> Self {
        Self(blake3::derive_key(PEER_ID_CONTEXT, der))
    }

    /// The first characters, for people to tell peers apart on a screen; never enough to trust.
    pub fn short(&self) -> String {
        self.to_string().chars().take(10).collect()
    }
}

impl ResumeKey {
    /// The key of a source that is known by these bytes, which have to change when its content does. It is derived
    /// and not drawn, so that nobody has to keep it; and under a secret, so that it tells nothing of the source.
    pub fn derive(secret: &[u8; 32], source: &[u8]) -> Self {
        let mut key = Self([0; 16]);
        blake3::Hasher::new_keyed(secret).update(source).finalize_xof().fill(&mut key.0);
        key
    }
}

impl fmt::Display for ResumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResumeKey({self})")
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileId({self})")
    }
}

impl FromStr for FileId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| IdError::File)?;
        Ok(Self(bytes.try_into().map_err(|_| IdError::File)?))
    }
}

/// RFC 4648 base 32 in lower case without padding: one token, safe in a shell and in a file name.
pub(crate) fn base32() -> data_encoding::Encoding {
    let mut spec = data_encoding::Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    match spec.encoding() {
        Ok(encoding) => encoding,
        Err(_) => data_encoding::BASE32_NOPAD,
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32().encode(&self.0))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = base32().decode(text.as_bytes()).map_err(|_| IdError::Peer)?;
        Ok(Self(bytes.try_into().map_err(|_| IdError::Peer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_printing() {
        let file = FileId(*blake3::hash(b"abc").as_bytes());
        assert_eq!(file.to_string(), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        assert_eq!(file.to_string().parse(), Ok(file));
        let peer = PeerId::from_spki(b"abc");
        assert_eq!(peer.to_string().len(), 52);
        assert_eq!(peer.to_string().parse(), Ok(peer));
        assert_ne!(peer.0, file.0);
    }

    #[test]
    fn a_resume_key_follows_from_its_source_and_a_secret() {
        let key = ResumeKey::derive(&[1; 32], b"source");
        assert_eq!(key, ResumeKey::derive(&[1; 32], b"source"));
        assert_ne!(key, ResumeKey::derive(&[2; 32], b"source"));
        assert_ne!(key, ResumeKey::derive(&[1; 32], b"sourcf"));
        assert_eq!(ResumeKey([0xab; 16]).to_string(), "ab".repeat(16));
    }

    #[test]
    fn malformed_ids_are_refused() {
        assert_eq!("12".parse::<FileId>(), Err(IdError::File));
        assert_eq!("zz".repeat(32).parse::<FileId>(), Err(IdError::File));
        assert_eq!("".parse::<PeerId>(), Err(IdError::Peer));
        assert_eq!("A".repeat(52).parse::<PeerId>(), Err(IdError::Peer));
    }

    #[test]
    fn what_is_printed_for_developers_names_the_kind_too() {
        let peer = PeerId::from_spki(b"abc");
        assert_eq!(peer.short(), peer.to_string()[..10]);
        assert_eq!(format!("{peer:?}"), format!("PeerId({peer})"));
        assert_eq!(format!("{:?}", FileId([0xab; 32])), format!("FileId({})", "ab".repeat(32)));
        assert_eq!(format!("{:?}", ResumeKey([0xab; 16])), format!("ResumeKey({})", "ab".repeat(16)));
    }
}
