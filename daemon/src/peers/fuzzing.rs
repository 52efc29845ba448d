//! Any bytes as a trust file.

#![allow(clippy::expect_used, clippy::panic, reason = "a panic is how a check fails")]

use std::{fs, path::Path, sync::Arc};

use p2p_protocol::limits::MAX_PENDING_PEERS;

use super::{PeersError, file::TrustFile};
use crate::{disk::System, fuzzing::write_private};

/// A trust file is understood as a whole, or refused with a place in it and nobody trusted. What is understood is the same
/// after it was written.
pub fn trust(bytes: &[u8], home: &Path) {
    let path = home.join("peers.toml");
    write_private(&path, bytes);
    match TrustFile::load(Arc::new(System), home) {
        Ok((mut file, book, pending)) => {
            assert!(pending.iter().count() <= MAX_PENDING_PEERS);
            assert!(book.pins.values().all(|id| book.peers.contains_key(id)), "a pin of nobody");
            assert!(pending.iter().all(|(id, _)| !book.peers.contains_key(id)), "known, and a stranger");
            file.replace(&book, &pending).expect("what was read can be written");
            let (_, again, strangers) =
                TrustFile::load(Arc::new(System), home).expect("what was written can be read");
            assert_eq!(again, book);
            assert!(strangers.iter().eq(pending.iter()));
        }
        Err(PeersError::Damaged { line, column, why, .. }) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&line) && column >= 1, "{line}:{column} of {lines} lines: {why}");
        }
        Err(PeersError::Io { .. }) => assert!(std::str::from_utf8(bytes).is_err()),
        Err(error) => panic!("{error}"),
    }
    fs::remove_file(&path).expect("it can be removed");
}
