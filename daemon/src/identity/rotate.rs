//! A new key in the place of the old one, which signs it first: one file holds the new key and all that was signed, and is replaced as
//! a whole, so that a crash leaves the one identity or the other.

use std::path::Path;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use data_encoding::BASE64;
use p2p_protocol::{
    PeerId,
    succession::{Key, Link, Succession, key_of_spki, statement},
};
use rcgen::{KeyPair, PublicKeyData, SigningKey};

use super::{Identity, IdentityError, KEY_FILE, crypto, damaged, failed, parse, read};
use crate::disk::{self, Disk, open_folder, write_all};

const NEW_FILE: &str = "identity.pem.new";
const BEGIN: &str = "-----BEGIN P2P SUCCESSION-----";
const END: &str = "-----END P2P SUCCESSION-----";

/// What old keys have signed, behind the key in its file. It leads to that key, or the file is damaged.
pub(super) fn signed_for(
    key: &KeyPair,
    text: &str,
    path: &Path,
    home: &Path,
) -> Result<Succession, IdentityError> {
    let Some((_, rest)) = text.split_once(BEGIN) else { return Ok(Succession::default()) };
    let wrong = || damaged(path, home, "what its old keys have signed does not lead to this key");
    let (inside, _) = rest.split_once(END).ok_or_else(wrong)?;
    let inside: String = inside.split_whitespace().collect();
    let bytes = BASE64.decode(inside.as_bytes()).map_err(|_| wrong())?;
    let signed = Succession::find(&bytes).ok_or_else(wrong)?;
    let own = key_of_spki(&key.subject_public_key_info()).ok_or_else(wrong)?;
    signed.predecessors(&own, is_signed).ok_or_else(wrong)?;
    Ok(signed)
}

/// Whether a key has signed this.
pub(crate) fn is_signed(key: &Key, message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

impl Identity {
    /// Gives this home another key: the new identity. The caller has the home's lock.
    pub(crate) fn rotate(disk: &dyn Disk, home: &Path) -> Result<PeerId, IdentityError> {
        let path = home.join(KEY_FILE);
        let text = read(&path, home)?.ok_or_else(|| IdentityError::None { path: path.clone() })?;
        // Nothing is signed by what is damaged.
        parse(&text, &path, home)?;
        let old = KeyPair::from_pem(&text).map_err(crypto)?;
        let signed = signed_for(&old, &text, &path, home)?;
        let new = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(crypto)?;
        let key = |pair: &KeyPair| {
            let key = key_of_spki(&pair.subject_public_key_info());
            key.ok_or_else(|| IdentityError::Crypto("a key that is not Ed25519".to_owned()))
        };
        let (from, to) = (key(&old)?, key(&new)?);
        let signature = old.sign(&statement(&from, &to)).map_err(crypto)?;
        let signature =
            signature.try_into().map_err(|_| IdentityError::Crypto("an odd signature".to_owned()))?;
        let signed = signed.followed_by(Link { key: from, signature });
        let text = format!("{}{BEGIN}\n{}\n{END}\n", new.serialize_pem(), BASE64.encode(&signed.encode()));
        let rotated = parse(&text, &path, home)?.peer_id();

        let fresh = home.join(NEW_FILE);
        // A leftover of a rotation that was killed.
        let _ = disk::remove(disk, &fresh);
        let file = disk::create(disk, &fresh).map_err(failed("make", &fresh))?;
        write_all(disk, &file, text.as_bytes(), 0)
            .and_then(|()| disk.sync_all(&file))
            .map_err(failed("write a key", &fresh))?;
        disk::rename(disk, &fresh, &path).map_err(failed("replace", &path))?;
        open_folder(home)
            .and_then(|folder| disk.sync_folder(&folder))
            .map_err(failed("sync this folder", home))?;
        Ok(rotated)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;
    use crate::disk::System;

    /// Who a machine says that it was, to whoever sees its certificate.
    fn said(identity: &Identity, own: &Key) -> Option<Vec<PeerId>> {
        Succession::find(identity.certificate_der())?.predecessors(own, is_signed)
    }

    fn own_key(home: &Path) -> Key {
        let pair = KeyPair::from_pem(&fs::read_to_string(home.join(KEY_FILE)).unwrap()).unwrap();
        key_of_spki(&pair.subject_public_key_info()).unwrap()
    }

    #[test]
    fn a_new_key_carries_the_word_of_all_before_it() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(Identity::rotate(&System, home.path()), Err(IdentityError::None { .. })));
        let mut before = vec![Identity::load_or_create(&System, home.path()).unwrap().peer_id()];
        for _ in 0..3 {
            fs::write(home.path().join(NEW_FILE), "half a key").unwrap();
            let rotated = Identity::rotate(&System, home.path()).unwrap();
            let loaded = Identity::load_or_create(&System, home.path()).unwrap();
            assert_eq!(loaded.peer_id(), rotated);
            assert_eq!(said(&loaded, &own_key(home.path())), Some(before.clone()));
            assert_eq!(said(&loaded, &[1; 32]), None, "nobody else's");
            let again = Identity::load_or_create(&System, home.path()).unwrap();
            assert_eq!(again.certificate_der(), loaded.certificate_der());
            before.insert(0, rotated);
        }
        let file = home.path().join(KEY_FILE);
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(!home.path().join(NEW_FILE).exists());
    }

    /// Fault 26.
    #[test]
    fn what_was_signed_is_whole_or_the_file_is_damaged() {
        let home = tempfile::tempdir().unwrap();
        Identity::load_or_create(&System, home.path()).unwrap();
        let rotated = Identity::rotate(&System, home.path()).unwrap();
        let path = home.path().join(KEY_FILE);
        let good = fs::read_to_string(&path).unwrap();
        let start = good.find(BEGIN).unwrap();
        for at in start + BEGIN.len() + 2..good.len() - END.len() - 4 {
            let mut bad = good.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            fs::write(&path, bad).unwrap();
            match Identity::load_or_create(&System, home.path()) {
                // The last digits of base 64 may stand for nothing.
                Ok(identity) => assert_eq!(identity.peer_id(), rotated, "{at}"),
                Err(error) => assert!(matches!(error, IdentityError::Damaged { .. }), "{at}: {error}"),
            }
            assert!(
                Identity::rotate(&System, home.path()).is_err() || at > good.len() - END.len() - 8,
                "{at}"
            );
            fs::write(&path, &good).unwrap();
        }
        // Another's word does not become one's own.
        let other = tempfile::tempdir().unwrap();
        Identity::load_or_create(&System, other.path()).unwrap();
        let stolen = fs::read_to_string(other.path().join(KEY_FILE)).unwrap() + &good[start..];
        fs::write(other.path().join(KEY_FILE), stolen).unwrap();
        let error = Identity::load_or_create(&System, other.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
    }
}
