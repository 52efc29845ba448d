//! The identity in a file of its own, encrypted with a passphrase: to be kept elsewhere, or to become another home's.
//!
//! ```text
//!  base 64 of:  version: u8 │ salt: 16 bytes │ what identity.pem holds, encrypted │ tag: 16 bytes
//!                                    │
//!               passphrase ─Argon2id─┴─▶ key and nonce of ChaCha20-Poly1305, used for this file alone
//! ```

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use data_encoding::BASE64;
use p2p_protocol::PeerId;

use super::{Identity, IdentityError, KEY_FILE, MAX_KEY_FILE, check_home, failed, parse, read, store};
use crate::disk::{self, Disk, PRIVATE_FOLDER, make_folders, place_of, write_all};

const BEGIN: &str = "-----BEGIN P2P ENCRYPTED IDENTITY-----";
const END: &str = "-----END P2P ENCRYPTED IDENTITY-----";
/// Characters of a line between them.
const LINE_LEN: usize = 64;
/// The layout, and what a passphrase costs: as RFC 9106 (section 4) recommends where memory is not to be had by the gigabyte.
const VERSION: u8 = 1;
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
const SALT_LEN: usize = 16;
const KEY_LEN: usize = 32;
/// Shortest passphrase, in bytes: what is shorter is guessed whatever it costs.
const MIN_PASSPHRASE_LEN: usize = 8;
/// Longest, and so most that is read of one.
const MAX_PASSPHRASE_LEN: u64 = 1024;

/// What an identity is encrypted with.
#[derive(Clone)]
pub(crate) struct Passphrase(Vec<u8>);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Passphrase {
    /// All that there is to be read.
    ///
    /// # Errors
    /// It is too short, or longer than any.
    pub(crate) fn read(source: impl Read) -> Result<Self, IdentityError> {
        let mut bytes = Vec::new();
        let read = source.take(MAX_PASSPHRASE_LEN + 1).read_to_end(&mut bytes);
        read.map_err(failed("read the passphrase", Path::new("standard input")))?;
        if bytes.len() < MIN_PASSPHRASE_LEN || bytes.len() as u64 > MAX_PASSPHRASE_LEN {
            return Err(IdentityError::Passphrase { least: MIN_PASSPHRASE_LEN, most: MAX_PASSPHRASE_LEN });
        }
        Ok(Self(bytes))
    }

    /// The key for one file, and its nonce, which is as good as random since the salt is.
    fn key(&self, salt: &[u8; SALT_LEN]) -> Result<(LessSafeKey, Nonce), IdentityError> {
        let crypto = |error: &dyn fmt::Display| IdentityError::Crypto(error.to_string());
        let mut derived = [0; KEY_LEN + NONCE_LEN];
        let params =
            Params::new(MEMORY_KIB, PASSES, LANES, Some(derived.len())).map_err(|error| crypto(&error))?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(&self.0, salt, &mut derived)
            .map_err(|error| crypto(&error))?;
        let (key, nonce) = derived.split_at(KEY_LEN);
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|error| crypto(&error))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|error| crypto(&error))?;
        Ok((LessSafeKey::new(key), nonce))
    }
}

impl Identity {
    /// Writes the identity of this home, encrypted, into a new file.
    pub(crate) fn export(
        disk: &dyn Disk,
        home: &Path,
        to: &Path,
        passphrase: &Passphrase,
    ) -> Result<PeerId, IdentityError> {
        let path = home.join(KEY_FILE);
        let text = read(&path, home)?.ok_or_else(|| IdentityError::None { path: path.clone() })?;
        let peer_id = parse(&text, &path, home)?.peer_id();
        let armour = seal(text.as_bytes(), passphrase)?;
        let file = match disk::create(disk, to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(IdentityError::Exists { path: to.to_owned() });
            }
            made => made.map_err(failed("make", to))?,
        };
        let written = write_all(disk, &file, armour.as_bytes(), 0)
            .and_then(|()| disk.sync_all(&file))
            .and_then(|()| disk.sync_folder(&place_of(to)?.0));
        if let Err(error) = written {
            // Half a backup is none.
            let _ = disk::remove(disk, to);
            return Err(failed("write to", to)(error));
        }
        Ok(peer_id)
    }

    /// Makes an exported identity that of this home, which has none.
    pub(crate) fn import(
        disk: &dyn Disk,
        home: &Path,
        from: &Path,
        passphrase: &Passphrase,
    ) -> Result<PeerId, IdentityError> {
        let mut armour = String::new();
        let opened =
            File::open(from).and_then(|file| file.take(4 * MAX_KEY_FILE).read_to_string(&mut armour));
        match opened {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(IdentityError::Backup { path: from.to_owned(), why: "it is no text".to_owned() });
            }
            other => other.map_err(failed("read", from))?,
        };
        let not_one = |why: &str| IdentityError::Backup { path: from.to_owned(), why: why.to_owned() };
        let text = open(&armour, passphrase, not_one)?;
        let text = String::from_utf8(text).map_err(|_| not_one("what is in it is no text"))?;
        make_folders(disk, home, PRIVATE_FOLDER).map_err(failed("make this folder", home))?;
        check_home(home)?;
        let path = home.join(KEY_FILE);
        let peer_id = parse(&text, from, home)?.peer_id();
        if !store(disk, home, &text)? {
            return Err(IdentityError::Exists { path });
        }
        Ok(peer_id)
    }
}

fn seal(text: &[u8], passphrase: &Passphrase) -> Result<String, IdentityError> {
    let salt: [u8; SALT_LEN] = rand::random();
    let (key, nonce) = passphrase.key(&salt)?;
    let header = [&[VERSION][..], &salt].concat();
    let mut sealed = text.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(&header), &mut sealed)
        .map_err(|error| IdentityError::Crypto(error.to_string()))?;
    let encoded = BASE64.encode(&[header, sealed].concat());
    let mut armour = format!("{BEGIN}\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(LINE_LEN.min(rest.len()));
        armour.push_str(line);
        armour.push('\n');
        rest = more;
    }
    armour.push_str(END);
    armour.push('\n');
    Ok(armour)
}

fn open(
    armour: &str,
    passphrase: &Passphrase,
    not_one: impl Fn(&str) -> IdentityError,
) -> Result<Vec<u8>, IdentityError> {
    let inside = armour.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let inside: String =
        inside.ok_or_else(|| not_one("it does not begin and end as one"))?.split_whitespace().collect();
    let bytes = BASE64.decode(inside.as_bytes()).map_err(|_| not_one("it is damaged"))?;
    match bytes.first() {
        Some(&VERSION) => {}
        Some(other) => {
            return Err(not_one(&format!("it is of version {other}, which this p2pd does not read")));
        }
        None => return Err(not_one("it is empty")),
    }
    let (header, sealed) = bytes.split_at_checked(1 + SALT_LEN).ok_or_else(|| not_one("it is cut short"))?;
    let salt = header[1..].try_into().map_err(|_| not_one("it is cut short"))?;
    let (key, nonce) = passphrase.key(&salt)?;
    let mut sealed = sealed.to_vec();
    let text = key
        .open_in_place(nonce, Aad::from(header), &mut sealed)
        .map_err(|_| not_one("the passphrase is another, or the file is damaged"))?;
    Ok(text.to_vec())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;
    use crate::disk::System;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_identity_moves_to_a_new_home_and_over_none() {
        let root = tempfile::tempdir().unwrap();
        let (old, new, file) = (root.path().join("old"), root.path().join("new"), root.path().join("backup"));
        let words = passphrase("correct horse");
        let none = Identity::export(&System, &old, &file, &words).unwrap_err();
        assert!(matches!(none, IdentityError::None { .. }) && !old.exists(), "{none}");
        let made = Identity::load_or_create(&System, &old).unwrap().peer_id();
        assert_eq!(Identity::export(&System, &old, &file, &words).unwrap(), made);
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        let armour = fs::read_to_string(&file).unwrap();
        let key = fs::read_to_string(old.join(KEY_FILE)).unwrap();
        assert!(armour.lines().all(|line| line.len() <= LINE_LEN && !key.contains(line)), "{armour}");
        let again = Identity::export(&System, &old, &file, &words).unwrap_err();
        assert!(matches!(again, IdentityError::Exists { .. }), "{again}");

        let wrong = Identity::import(&System, &new, &file, &passphrase("battery staple")).unwrap_err();
        assert!(matches!(&wrong, IdentityError::Backup { .. }) && !new.exists(), "{wrong}");
        assert_eq!(Identity::import(&System, &new, &file, &words).unwrap(), made);
        assert_eq!(fs::read_to_string(new.join(KEY_FILE)).unwrap(), key);
        assert_eq!(new.join(KEY_FILE).metadata().unwrap().mode() & 0o777, 0o600);
        let other = root.path().join("other");
        let kept = Identity::load_or_create(&System, &other).unwrap().peer_id();
        let refused = Identity::import(&System, &other, &file, &words).unwrap_err();
        assert!(matches!(refused, IdentityError::Exists { .. }), "{refused}");
        assert_eq!(Identity::load_or_create(&System, &other).unwrap().peer_id(), kept);
    }

    /// Whenever the power fails, there is the whole key under its name, or none: who has half a key has none, and is nobody that
    /// others know.
    #[test]
    fn a_key_is_durable_before_it_has_its_name_and_the_name_before_it_is_used() {
        let root = tempfile::tempdir().unwrap();
        let (home, other, file) =
            (root.path().join("home"), root.path().join("other"), root.path().join("f"));
        let (disk, words) = (crate::disk::Noting::default(), passphrase("correct horse"));
        for folder in [&home, &other] {
            make_folders(&disk, folder, PRIVATE_FOLDER).unwrap();
        }
        disk.noted();
        let in_order = ["written", "synced", "named", "folder synced"];
        Identity::load_or_create(&disk, &home).unwrap();
        assert_eq!(disk.noted(), in_order);
        Identity::rotate(&disk, &home).unwrap();
        assert_eq!(disk.noted(), in_order);
        Identity::export(&disk, &home, &file, &words).unwrap();
        assert_eq!(disk.noted(), ["written", "synced", "folder synced"]);
        Identity::import(&disk, &other, &file, &words).unwrap();
        assert_eq!(disk.noted(), in_order);
        // Half a backup is none.
        disk.fails.store(true, std::sync::atomic::Ordering::Relaxed);
        let half = root.path().join("half");
        let failed = Identity::export(&disk, &home, &half, &words).unwrap_err();
        assert!(matches!(failed, IdentityError::Io { .. }) && !half.exists(), "{failed}");
    }

    #[test]
    fn an_identity_goes_into_no_home_that_others_can_write_to() {
        let root = tempfile::tempdir().unwrap();
        let (old, open, file) = (root.path().join("old"), root.path().join("open"), root.path().join("f"));
        let words = passphrase("correct horse");
        Identity::load_or_create(&System, &old).unwrap();
        Identity::export(&System, &old, &file, &words).unwrap();
        fs::create_dir(&open).unwrap();
        for mode in [0o770, 0o702] {
            fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let refused = Identity::import(&System, &open, &file, &words).unwrap_err();
            assert!(matches!(refused, IdentityError::HomeExposed { .. }), "{refused}");
            assert!(!open.join(KEY_FILE).exists());
        }
    }

    #[test]
    fn a_backup_is_whole_or_nothing() {
        let words = passphrase("correct horse");
        let armour = seal(b"an identity", &words).unwrap();
        let not_one = |why: &str| IdentityError::Backup { path: "f".into(), why: why.to_owned() };
        let opened = |text: &str| open(text, &words, not_one);
        assert_eq!(opened(&armour).unwrap(), b"an identity");
        assert_eq!(opened(&armour.replace('\n', "\r\n  ")).unwrap(), b"an identity");
        assert_ne!(armour, seal(b"an identity", &words).unwrap(), "every file has a salt of its own");
        let inside = BEGIN.len() + 1;
        for at in [inside, inside + 3, inside + 20, inside + 40] {
            let mut bad = armour.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let error = opened(std::str::from_utf8(&bad).unwrap()).unwrap_err();
            assert!(matches!(error, IdentityError::Backup { .. }), "{error}");
        }
        for text in ["", BEGIN, &format!("{BEGIN}\n{END}"), &format!("{BEGIN}\nAQ==\n{END}"), &armour[..80]] {
            assert!(matches!(opened(text), Err(IdentityError::Backup { .. })), "{text}");
        }
    }

    #[test]
    fn a_passphrase_is_neither_short_nor_shown() {
        for bad in ["", "1234567", &"x".repeat(1025)] {
            assert!(
                matches!(Passphrase::read(bad.as_bytes()), Err(IdentityError::Passphrase { .. })),
                "{bad}"
            );
        }
        assert_eq!(format!("{:?}", passphrase("correct horse")), "Passphrase(…)");
    }
}
