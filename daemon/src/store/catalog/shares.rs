//! What can be fetched from here, and what peers have put here.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use p2p_protocol::{FileId, PeerId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Catalog, StoreError, tickets};

/// Receipts that are kept; the oldest go first.
const RECEIPTS_KEPT: i64 = 100_000;

/// A file that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Its content.
    pub(crate) file_id: FileId,
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Who can fetch it, in the session's own form.
    pub(crate) audience: String,
    /// Since when, in milliseconds since 1970 UTC.
    pub(crate) created_ms: u64,
    /// Patterns of what in it is left out.
    pub(crate) excludes: Vec<String>,
}

impl Catalog {
    /// Adds a share, in place of an earlier one of the same content.
    pub(crate) fn put_share(&self, share: &Share) -> Result<(), StoreError> {
        let Share { file_id, path, audience, created_ms, excludes } = share.clone();
        let excludes = serde_json::Value::from(excludes).to_string();
        self.ask(move |database| {
            let mut statement = database.connection.prepare_cached(
                "INSERT OR REPLACE INTO shares (file_id, path, audience, created_ms, excludes) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            statement.execute(params![
                file_id.0,
                path.as_os_str().as_bytes(),
                audience,
                created_ms.cast_signed(),
                excludes
            ])?;
            Ok(())
        })
    }

    /// Takes a share back, with the tickets for it; false if there was none.
    pub(crate) fn remove_share(&self, id: FileId) -> Result<bool, StoreError> {
        self.ask(move |database| {
            tickets::forget_file(&database.connection, id)?;
            Ok(database.connection.execute("DELETE FROM shares WHERE file_id = ?1", [id.0])? > 0)
        })
    }

    /// The share of this content.
    pub(crate) fn share(&self, id: FileId) -> Result<Option<Share>, StoreError> {
        self.ask(move |database| {
            let mut query = database.connection.prepare_cached(
                "SELECT file_id, path, audience, created_ms, excludes FROM shares WHERE file_id = ?1",
            )?;
            query.query_row([id.0], listed).optional()
        })
    }

    /// All shares, oldest first.
    pub(crate) fn shares(&self) -> Result<Vec<Share>, StoreError> {
        self.ask(|database| {
            let mut query = database.connection.prepare_cached(
                "SELECT file_id, path, audience, created_ms, excludes FROM shares ORDER BY created_ms, file_id",
            )?;
            query.query_map([], listed)?.collect()
        })
    }

    /// The first shares after one, in the order of File IDs.
    pub(crate) fn shares_after(&self, after: Option<FileId>, most: usize) -> Result<Vec<Share>, StoreError> {
        self.ask(move |database| {
            let mut query = database.connection.prepare_cached(
                "SELECT file_id, path, audience, created_ms, excludes FROM shares WHERE file_id > ?1
                 ORDER BY file_id LIMIT ?2",
            )?;
            // Every File ID is greater than no bytes.
            let after = after.map_or_else(Vec::new, |id| id.0.to_vec());
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            query.query_map(params![after, most], listed)?.collect()
        })
    }

    /// Whether anything is shared with exactly this audience.
    pub(crate) fn has_share_for(&self, audience: &str) -> Result<bool, StoreError> {
        let audience = audience.to_owned();
        self.ask(move |database| {
            let query = "SELECT EXISTS (SELECT 1 FROM shares WHERE audience = ?1)";
            database.connection.query_row(query, [&audience], |row| row.get(0))
        })
    }

    /// Number of shares.
    pub(crate) fn share_count(&self) -> Result<u64, StoreError> {
        self.ask(|database| {
            database
                .connection
                .query_row("SELECT count(*) FROM shares", [], |row| row.get(0).map(i64::cast_unsigned))
        })
    }

    /// Where this peer put this content.
    pub(crate) fn receipt(&self, peer: PeerId, id: FileId) -> Result<Option<PathBuf>, StoreError> {
        self.ask(move |database| {
            let mut query = database
                .connection
                .prepare_cached("SELECT path FROM receipts WHERE peer = ?1 AND file_id = ?2")?;
            query.query_row([peer.0, id.0], |row| row.get(0)).optional().map(|found| found.map(path_of))
        })
    }

    /// Every place where this peer put something.
    pub(crate) fn receipts(&self, peer: PeerId) -> Result<Vec<PathBuf>, StoreError> {
        self.ask(move |database| {
            let query = "SELECT DISTINCT path FROM receipts WHERE peer = ?1";
            let mut query = database.connection.prepare_cached(query)?;
            let paths = query.query_map([peer.0], |row| row.get(0).map(path_of))?;
            paths.collect()
        })
    }

    /// Notes where a peer put what; outlives a `Done` that did not reach it.
    pub(crate) fn put_receipts(&self, peer: PeerId, ids: Vec<FileId>, path: &Path) -> Result<(), StoreError> {
        let path = path.to_owned();
        self.ask(move |database| {
            let mut statement = database.connection.prepare_cached(
                "INSERT OR REPLACE INTO receipts (peer, file_id, path) VALUES (?1, ?2, ?3)",
            )?;
            for id in &ids {
                statement.execute(params![peer.0, id.0, path.as_os_str().as_bytes()])?;
            }
            Ok(())
        })
    }
}

/// Drops the oldest receipts beyond those that are kept.
pub(super) fn prune(connection: &Connection) -> rusqlite::Result<()> {
    let oldest = "DELETE FROM receipts WHERE number <= (SELECT max(number) FROM receipts) - ?1";
    connection.execute(oldest, [RECEIPTS_KEPT])?;
    Ok(())
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Share> {
    Ok(Share {
        file_id: FileId(row.get(0)?),
        path: path_of(row.get(1)?),
        audience: row.get(2)?,
        created_ms: row.get(3).map(i64::cast_unsigned)?,
        excludes: patterns_of(row.get(4)?),
    })
}

/// Where they cannot be read nothing is left out, and the folder is another one than was shared.
fn patterns_of(text: String) -> Vec<String> {
    serde_json::from_str(&text).unwrap_or_default()
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}
