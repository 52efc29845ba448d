//! What the fuzz targets check of the parts that no other crate can see: functions from any bytes to a panic where
//! something is not as it must be. They are in no program; this crate's tests replay the corpora through them.

#![allow(clippy::expect_used, clippy::panic, reason = "a panic is how a check fails")]

pub use crate::{config::fuzzing::config, peers::fuzzing::trust, store::fuzzing::Recovery};

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use crate::{
    disk::System,
    identity::{Identity, IdentityError},
    peers::Place,
};

/// The files of a home that a person may have edited or a disk damaged, and the targets that a person types. The first
/// byte says which; the rest is the content. `home` is a folder for scratch.
pub fn home(bytes: &[u8], home: &Path) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => config(bytes, home),
        1 => trust(bytes, home),
        2 => identity(bytes, home),
        _ => target(bytes),
    }
}

/// A key file is taken and then always the same identity, or refused as damaged; it is never replaced.
fn identity(bytes: &[u8], home: &Path) {
    let path = home.join("identity.pem");
    write_private(&path, bytes);
    match Identity::load_or_create(&System, home) {
        Ok(identity) => {
            let again = Identity::load_or_create(&System, home).expect("it was taken once");
            assert_eq!(again.peer_id(), identity.peer_id());
            assert_eq!(again.certificate_der(), identity.certificate_der());
        }
        Err(IdentityError::Damaged { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    assert_eq!(fs::read(&path).expect("it is still there"), bytes);
    fs::remove_file(&path).expect("it can be removed");
}

/// A target that is understood has a host and a port, and means the same when it is typed as it is shown.
fn target(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Place::parse(&text) {
        Ok(place) => {
            assert!(place.port != 0 && !place.host.is_empty());
            let strange = |c: char| !c.is_ascii_graphic() || "/@[]".contains(c);
            assert!(!place.host.contains(strange), "{place:?}");
            assert_eq!(Place::parse(&place.to_string()).as_ref(), Ok(&place));
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
    }
}

/// A file that only its owner can touch.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the folder for scratch takes a file");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("its mode can be set");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(target: &str, check: impl Fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for path in files {
            let bytes = fs::read(&path).unwrap();
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&bytes))).is_err();
            assert!(!failed, "{} fails, as told above", path.display());
        }
    }

    #[test]
    fn the_corpus_of_a_home_holds() {
        let scratch = tempfile::tempdir().unwrap();
        replay("home", |bytes| home(bytes, scratch.path()));
    }

    #[test]
    fn the_corpus_of_partials_holds() {
        let scratch = tempfile::tempdir().unwrap();
        let recovery = Recovery::new(scratch.path());
        replay("partial", |bytes| recovery.check(bytes));
    }
}
