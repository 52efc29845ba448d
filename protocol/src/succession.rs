//! How a machine that has a new key is still known as the one that it was: each old key has signed the next one.
//!
//! ```text
//!  key 0 ──signs──▶ key 1 ──signs──▶ key 2: that of the connection, which its handshake has proven
//! ```
//!
//! The list travels in the machine's certificate, as bytes behind a mark. Where they lie, and what else is there, means nothing: the
//! signatures do. Keys are Ed25519 (RFC 8032); to check a signature is the caller's.

use crate::{PeerId, limits::MAX_SUCCESSIONS};

/// What the list begins with.
const MARK: &[u8] = b"p2p succession 1";
/// What is signed begins with this, so that it is no signature of anything else.
const CONTEXT: &[u8] = b"p2p 2026-11-26 this key is succeeded by that one";
/// The DER of a SubjectPublicKeyInfo up to the key itself (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const LINK_LEN: usize = 32 + 64;

/// A public key.
pub type Key = [u8; 32];

/// One key's word for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who has signed.
    pub key: Key,
    /// Over [`statement`].
    pub signature: [u8; 64],
}

/// All keys that a machine had, as far as it tells, the first one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Succession(Vec<Link>);

/// What an old key signs.
pub fn statement(old: &Key, new: &Key) -> Vec<u8> {
    [CONTEXT, old, new].concat()
}

/// The key in a SubjectPublicKeyInfo, where it is of this kind.
pub fn key_of_spki(spki: &[u8]) -> Option<Key> {
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()
}

/// Who has this key.
pub fn peer_of(key: &Key) -> PeerId {
    PeerId::from_spki(&[&SPKI_PREFIX[..], key].concat())
}

impl Succession {
    /// Whether there was one key only.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with one more link. The oldest are forgotten beyond those that may be said.
    pub fn followed_by(mut self, link: Link) -> Self {
        self.0.push(link);
        let beyond = self.0.len().saturating_sub(MAX_SUCCESSIONS);
        self.0.drain(..beyond);
        self
    }

    /// As it is said: the mark, the number of links, and each one's key and signature.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MARK.to_vec();
        // No more than may be said.
        bytes.push(self.0.len() as u8);
        for link in &self.0 {
            bytes.extend_from_slice(&link.key);
            bytes.extend_from_slice(&link.signature);
        }
        bytes
    }

    /// The list in a certificate, or any other bytes.
    pub fn find(bytes: &[u8]) -> Option<Self> {
        let at = bytes.windows(MARK.len()).position(|window| window == MARK)?;
        let (count, rest) = bytes.get(at + MARK.len()..)?.split_first()?;
        let count = usize::from(*count);
        if !(1..=MAX_SUCCESSIONS).contains(&count) {
            return None;
        }
        let (links, _) = rest.split_at_checked(count * LINK_LEN)?;
        let link = |bytes: &[u8]| {
            let (key, signature) = bytes.split_first_chunk::<32>()?;
            Some(Link { key: *key, signature: signature.try_into().ok()? })
        };
        links.chunks_exact(LINK_LEN).map(link).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Who the machine with this key was before, the latest first. `None` unless every key has signed the next one, and the last of them
    /// this key, as far as `verify(key, message, signature)` says.
    pub fn predecessors(
        &self,
        own: &Key,
        verify: impl Fn(&Key, &[u8], &[u8; 64]) -> bool,
    ) -> Option<Vec<PeerId>> {
        let mut next = own;
        let mut before = Vec::with_capacity(self.0.len());
        for link in self.0.iter().rev() {
            if !verify(&link.key, &statement(&link.key, next), &link.signature) {
                return None;
            }
            before.push(peer_of(&link.key));
            next = &link.key;
        }
        Some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A signature that anybody could make, for what is beside the point here.
    fn sign(key: &Key, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        blake3::Hasher::new_keyed(key).update(message).finalize_xof().fill(&mut signature);
        signature
    }

    fn verify(key: &Key, message: &[u8], signature: &[u8; 64]) -> bool {
        sign(key, message) == *signature
    }

    fn link(old: u8, new: u8) -> Link {
        let (old, new) = ([old; 32], [new; 32]);
        Link { key: old, signature: sign(&old, &statement(&old, &new)) }
    }

    fn chain(keys: &[u8]) -> Succession {
        keys.windows(2).fold(Succession::default(), |list, pair| list.followed_by(link(pair[0], pair[1])))
    }

    #[test]
    fn each_key_vouches_for_the_next_and_none_for_another() {
        let list = chain(&[1, 2, 3]);
        let ids = |keys: &[u8]| Some(keys.iter().map(|key| peer_of(&[*key; 32])).collect::<Vec<_>>());
        assert_eq!(list.predecessors(&[3; 32], verify), ids(&[2, 1]));
        assert_eq!(list.predecessors(&[4; 32], verify), None, "somebody else's list");
        let broken = chain(&[1, 2]).followed_by(link(4, 3));
        assert_eq!(broken.predecessors(&[3; 32], verify), None);
        let mut forged = list.clone();
        forged.0[0].signature[5] ^= 1;
        assert_eq!(forged.predecessors(&[3; 32], verify), None);
        assert_eq!(Succession::default().predecessors(&[3; 32], verify), ids(&[]));
    }

    #[test]
    fn it_is_found_in_whatever_it_lies_in() {
        let list = chain(&[1, 2, 3]);
        let bytes = [b"a certificate", &list.encode()[..], b"and its end"].concat();
        assert_eq!(Succession::find(&bytes), Some(list.clone()));
        assert_eq!(Succession::find(b"nothing"), None);
        let whole = list.encode();
        for cut in 0..whole.len() {
            assert_eq!(Succession::find(&whole[..cut]), None, "{cut}");
        }
        for count in [0, MAX_SUCCESSIONS as u8 + 1, 255] {
            let mut bad = [&whole[..], &[0; 60_000]].concat();
            bad[MARK.len()] = count;
            assert_eq!(Succession::find(&bad), None);
        }
        let keys: Vec<u8> = (0..=20).collect();
        let long = chain(&keys);
        assert_eq!(long.predecessors(&[20; 32], verify).unwrap().len(), MAX_SUCCESSIONS);
        assert_eq!(Succession::find(&long.encode()), Some(long));
    }

    #[test]
    fn a_key_is_known_by_its_spki() {
        let spki = [&SPKI_PREFIX[..], &[7; 32]].concat();
        assert_eq!(key_of_spki(&spki), Some([7; 32]));
        assert_eq!(peer_of(&[7; 32]), PeerId::from_spki(&spki));
        assert_eq!(key_of_spki(&spki[1..]), None);
        assert_eq!(key_of_spki(&spki[..43]), None);
    }
}
