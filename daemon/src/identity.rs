//! Who this machine is: a private key in the home, made once and never silently made anew.
//!
//! The key is Ed25519: it is made without a choice of parameters, its signatures need no randomness that
//! could be bad, and webpki verifies them without a configuration of its own. The file holds the key alone.
//! The self-signed certificate that TLS wants around it is made from the key at every start, always the same,
//! so that key and certificate cannot disagree.

mod backup;
mod rotate;

use std::{
    ffi::OsStr,
    fmt, fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use cap_std::fs::Dir;
use p2p_protocol::{PeerId, reason::Failure, succession::Succession};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, PublicKeyData};

use crate::{
    disk::{Disk, NEW, PRIVATE_FILE, PRIVATE_FOLDER, make_folders, open_folder, write_all},
    home,
};

pub(crate) use backup::Passphrase;
pub(crate) use rotate::is_signed;

const KEY_FILE: &str = "identity.pem";
/// Files that only a home with an identity has: others know this machine by its key, or it has work under way.
const SIGNS_OF_LIFE: [&str; 2] = ["peers.toml", "catalog.sqlite"];
/// A key file is a few hundred bytes; whatever is larger is not one.
const MAX_KEY_FILE: u64 = 16 * 1024;
/// The extension of a certificate that holds what old keys have signed; below the arc for identifiers that nobody has to ask for.
const SUCCESSION_OID: [u64; 3] = [2, 25, 0x5eed_70d2_19c3_4b11];
/// The subject of every certificate. Nobody reads it: the key is the identity.
const SUBJECT: &str = "p2p";

/// Why there is no identity.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// Somebody else could have read the private key.
    #[error(
        "{path}: others can read this private key (mode {mode:03o}); run `chmod 600 {path}`, or start anew if \
         somebody may have copied it"
    )]
    Exposed { path: PathBuf, mode: u32 },
    /// Somebody else could put another key in place of this one.
    #[error("{path}: others can write to this folder (mode {mode:03o}); run `chmod 700 {path}`")]
    HomeExposed { path: PathBuf, mode: u32 },
    /// The file or the folder is somebody else's.
    #[error("{path} belongs to another user (uid {uid}); use a home of your own (--home)")]
    Foreign { path: PathBuf, uid: u32 },
    /// The file is not a private key (any longer).
    #[error(
        "{path}: damaged or not a private key ({why}); restore it from a backup. To start anew under another \
         Peer ID, remove {all}"
    )]
    Damaged { path: PathBuf, why: String, all: Files },
    /// The key is gone while what depends on it is there.
    #[error(
        "{path} is missing, although this home has been in use; restore it from a backup. To start anew under \
         another Peer ID, remove {others}"
    )]
    Missing { path: PathBuf, others: Files },
    /// The operating system said no.
    #[error("{path}: cannot {what}: {source}")]
    Io { what: &'static str, path: PathBuf, source: Arc<io::Error> },
    /// There is no identity here.
    #[error("{path}: there is no identity in this home yet")]
    None { path: PathBuf },
    /// What would be replaced is never replaced.
    #[error("{path} is there already, and is not replaced")]
    Exists { path: PathBuf },
    /// The file is not one that this program has exported, or the passphrase is another.
    #[error("{path}: not an exported identity that can be read: {why}")]
    Backup { path: PathBuf, why: String },
    /// The passphrase cannot be one.
    #[error("a passphrase has {least} to {most} bytes")]
    Passphrase { least: usize, most: u64 },
    /// No key or certificate could be made.
    #[error("cannot make a key or its certificate: {0}")]
    Crypto(String),
}

impl IdentityError {
    /// The class of failure that the command line reports.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::None { .. } => Failure::NotFound,
            Self::Exists { .. } => Failure::Conflict,
            Self::Backup { .. } => Failure::Integrity,
            Self::Passphrase { .. } => Failure::Usage,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Failure::NotFound,
            Self::Io { .. } => Failure::Storage,
            _ => Failure::Other,
        }
    }
}

/// The files to remove for a deliberate new start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files(Vec<PathBuf>);

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, path) in self.0.iter().enumerate() {
            let before = if n == 0 { "" } else { " and " };
            write!(f, "{before}{}", path.display())?;
        }
        Ok(())
    }
}

/// A private key and the certificate that carries its public half.
#[derive(Clone)]
pub(crate) struct Identity {
    peer_id: PeerId,
    certificate: Vec<u8>,
    private_key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity in this home. Home and key are made where this is plainly a new home; a key that is damaged,
    /// readable by others, or missing from a home in use is an error.
    pub(crate) fn load_or_create(disk: &dyn Disk, home: &Path) -> Result<Self, IdentityError> {
        make_folders(disk, home, PRIVATE_FOLDER).map_err(failed("make this folder", home))?;
        check_home(home)?;
        let path = home.join(KEY_FILE);
        if let Some(identity) = Self::load(&path, home)? {
            return Ok(identity);
        }
        let others = dependents(home);
        if !others.0.is_empty() {
            return Err(IdentityError::Missing { path, others });
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(crypto)?;
        if store(disk, home, &key.serialize_pem())? {
            return Self::from_key(&key, &Succession::default());
        }
        // Another process made one in the meantime; that one counts.
        match Self::load(&path, home)? {
            Some(identity) => Ok(identity),
            None => Err(IdentityError::Missing { path, others }),
        }
    }

    /// An identity that lives only as long as this process.
    #[cfg(test)]
    pub(crate) fn ephemeral() -> Self {
        Self::from_key(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), &Succession::default()).unwrap()
    }

    fn load(path: &Path, home: &Path) -> Result<Option<Self>, IdentityError> {
        read(path, home)?.map(|text| parse(&text, path, home)).transpose()
    }

    fn from_key(key: &KeyPair, signed: &Succession) -> Result<Self, IdentityError> {
        let mut params = CertificateParams::new(Vec::new()).map_err(crypto)?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, SUBJECT);
        params.distinguished_name = name;
        if !signed.is_empty() {
            params.custom_extensions =
                vec![CustomExtension::from_oid_content(&SUCCESSION_OID, signed.encode())];
        }
        let certificate = params.self_signed(key).map_err(crypto)?;
        Ok(Self {
            peer_id: PeerId::from_spki(&key.subject_public_key_info()),
            certificate: certificate.der().to_vec(),
            private_key: key.serialize_der(),
        })
    }

    /// What others know this machine by.
    pub(crate) fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The self-signed certificate, in DER.
    pub(crate) fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// A secret of this machine for one purpose, the same after every start.
    pub(crate) fn secret_for(&self, purpose: &'static str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.private_key)
    }

    /// The private key, as PKCS #8 in DER.
    pub(crate) fn private_key_der(&self) -> &[u8] {
        &self.private_key
    }
}

/// What a key file holds, where there is one that nobody else could have read.
fn read(path: &Path, home: &Path) -> Result<Option<String>, IdentityError> {
    let file = match home::open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let metadata = file.metadata().map_err(failed("examine", path))?;
    if !metadata.is_file() {
        return Err(damaged(path, home, "not a regular file"));
    }
    check_owner(path, &metadata)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    match file.take(MAX_KEY_FILE).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(damaged(path, home, "not text")),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// The identity that such a file says.
fn parse(text: &str, path: &Path, home: &Path) -> Result<Identity, IdentityError> {
    let key = KeyPair::from_pem(text).map_err(|error| damaged(path, home, &error.to_string()))?;
    if !key.is_compatible(&rcgen::PKCS_ED25519) {
        return Err(damaged(path, home, "a key of another kind than Ed25519"));
    }
    Identity::from_key(&key, &rotate::signed_for(&key, text, path, home)?)
}

fn damaged(path: &Path, home: &Path, why: &str) -> IdentityError {
    let mut all = dependents(home);
    all.0.insert(0, path.to_owned());
    IdentityError::Damaged { path: path.to_owned(), why: why.to_owned(), all }
}

/// What is there in this home that depends on a lost key.
fn dependents(home: &Path) -> Files {
    let there = SIGNS_OF_LIFE.iter().map(|name| home.join(name));
    Files(there.filter(|path| fs::symlink_metadata(path).is_ok()).collect())
}

fn check_home(home: &Path) -> Result<(), IdentityError> {
    let metadata = fs::metadata(home).map_err(failed("examine", home))?;
    check_owner(home, &metadata)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(IdentityError::HomeExposed { path: home.to_owned(), mode });
    }
    Ok(())
}

fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), IdentityError> {
    if metadata.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(IdentityError::Foreign { path: path.to_owned(), uid: metadata.uid() })
}

/// Puts a new key file in place, durable and whole, unless there is one. False if there is.
fn store(disk: &dyn Disk, home: &Path, pem: &str) -> Result<bool, IdentityError> {
    let folder = open_folder(home).map_err(failed("open this folder", home))?;
    let new = format!(".{KEY_FILE}.{}", std::process::id());
    // A leftover of a process of the same number that was killed here.
    let _ = disk.unlink(&folder, OsStr::new(&new));
    let written = disk.open(&folder, OsStr::new(&new), NEW, PRIVATE_FILE).and_then(|file| {
        write_all(disk, &file, pem.as_bytes(), 0)?;
        disk.sync_all(&file)
    });
    let placed = written.map_err(failed("write a key", &home.join(&new))).and_then(|()| {
        let placed = put_in_place(disk, &folder, OsStr::new(&new));
        placed.map_err(failed("put a new key in place", &home.join(KEY_FILE)))
    });
    let _ = disk.unlink(&folder, OsStr::new(&new));
    let placed = placed?;
    disk.sync_folder(&folder).map_err(failed("sync this folder", home))?;
    Ok(placed)
}

/// Gives a new key its name. Two processes may start in a new home at once, and neither replaces what is there.
fn put_in_place(disk: &dyn Disk, folder: &Dir, new: &OsStr) -> io::Result<bool> {
    let key = OsStr::new(KEY_FILE);
    let placed = match disk.link(folder, new, folder, key) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // A file system without hard links.
            disk.rename_new(folder, new, folder, key)
        }
        linked => linked,
    };
    match placed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { what, path, source: Arc::new(source) }
}

fn crypto(error: rcgen::Error) -> IdentityError {
    IdentityError::Crypto(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::disk::System;

    /// A file system without hard links.
    #[derive(Debug)]
    struct NoLinks;

    impl Disk for NoLinks {
        fn link(&self, _: &Dir, _: &OsStr, _: &Dir, _: &OsStr) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_home_gets_a_private_key_that_stays() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("a/b");
        let made = Identity::load_or_create(&System, &home).unwrap();
        assert_eq!(mode(&home), 0o700);
        assert_eq!(mode(&home.join(KEY_FILE)), 0o600);
        let names: Vec<_> = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [KEY_FILE]);
        let loaded = Identity::load_or_create(&System, &home).unwrap();
        assert_eq!(loaded.peer_id(), made.peer_id());
        assert_eq!(loaded.certificate_der(), made.certificate_der());
        assert_ne!(Identity::ephemeral().peer_id(), made.peer_id());
    }

    #[test]
    fn a_key_that_others_can_read_or_replace_is_refused() {
        let home = tempfile::tempdir().unwrap();
        Identity::load_or_create(&System, home.path()).unwrap();
        let key = home.path().join(KEY_FILE);
        for open in [0o640, 0o604, 0o660, 0o602] {
            set_mode(&key, open);
            let error = Identity::load_or_create(&System, home.path()).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        set_mode(&key, 0o600);
        // Nor one that nobody may ever write to: it is not waited for.
        let aside = home.path().join("aside");
        fs::rename(&key, &aside).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &key, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = Identity::load_or_create(&System, home.path()).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
        fs::rename(&aside, &key).unwrap();
        set_mode(home.path(), 0o770);
        let error = Identity::load_or_create(&System, home.path()).unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
        set_mode(home.path(), 0o700);
        Identity::load_or_create(&System, home.path()).unwrap();
    }

    /// Fault 26.
    #[test]
    fn a_home_in_use_never_gets_another_identity() {
        for sign in SIGNS_OF_LIFE {
            let home = tempfile::tempdir().unwrap();
            fs::write(home.path().join(sign), "").unwrap();
            let error = Identity::load_or_create(&System, home.path()).unwrap_err();
            assert!(matches!(&error, IdentityError::Missing { .. }), "{error}");
            assert!(error.to_string().contains(sign), "{error}");
            assert!(!home.path().join(KEY_FILE).exists());
        }
    }

    /// Fault 26.
    #[test]
    fn no_flipped_bit_or_cut_makes_another_identity() {
        let home = tempfile::tempdir().unwrap();
        let made = Identity::load_or_create(&System, home.path()).unwrap();
        let path = home.path().join(KEY_FILE);
        let good = fs::read(&path).unwrap();
        let check = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).unwrap();
            match Identity::load_or_create(&System, home.path()) {
                Ok(identity) => assert_eq!(identity.peer_id(), made.peer_id(), "{what}"),
                Err(error @ IdentityError::Damaged { .. }) => {
                    assert!(error.to_string().contains("from a backup"), "{error}");
                }
                Err(error) => panic!("{what}: {error}"),
            }
        };
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                check(&bad, &format!("bit {bit} of byte {at}"));
            }
            check(&good[..at], &format!("cut at {at}"));
        }
        check(b"", "empty");
        check(&[0xff; 4096], "not text");
    }

    /// Its certificate would be another after every start, as ECDSA signatures are random.
    #[test]
    fn a_key_of_another_kind_is_no_identity() {
        let home = tempfile::tempdir().unwrap();
        Identity::load_or_create(&System, home.path()).unwrap();
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        fs::write(home.path().join(KEY_FILE), other.serialize_pem()).unwrap();
        let error = Identity::load_or_create(&System, home.path()).unwrap_err();
        assert!(error.to_string().contains("another kind than Ed25519"), "{error}");
    }

    #[test]
    fn two_processes_in_a_new_home_agree() {
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (
            KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
            KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
        );
        assert!(store(&System, home.path(), &first.serialize_pem()).unwrap());
        for disk in [&System as &dyn Disk, &NoLinks] {
            assert!(!store(disk, home.path(), &second.serialize_pem()).unwrap());
        }
        let loaded = Identity::load_or_create(&System, home.path()).unwrap();
        assert_eq!(loaded.peer_id(), Identity::from_key(&first, &Succession::default()).unwrap().peer_id());
    }

    #[test]
    fn the_private_key_is_not_printed() {
        let shown = format!("{:?}", Identity::ephemeral());
        assert!(!shown.contains("private_key"), "{shown}");
    }
}
