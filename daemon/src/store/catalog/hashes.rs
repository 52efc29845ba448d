//! The hash cache: which content a file had when it had this stamp.

use p2p_protocol::FileId;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Catalog, StoreError};
use crate::store::stamp::Stamp;

/// Files that are remembered; the oldest go first.
const HASHES_KEPT: i64 = 200_000;

impl Catalog {
    /// Whether a file with this content was seen on this machine, whether it is still there or not.
    pub(crate) fn knows_content(&self, id: FileId) -> Result<bool, StoreError> {
        self.ask(move |database| is_held(&database.connection, id))
    }

    /// The content of a file with this stamp, if it was hashed.
    pub(crate) fn hash(&self, stamp: Stamp) -> Result<Option<FileId>, StoreError> {
        self.ask(move |database| {
            let mut query = database.connection.prepare_cached(
                "SELECT file_id FROM hashes
                 WHERE dev = ?1 AND ino = ?2 AND size = ?3 AND mtime_ns = ?4 AND ctime_ns = ?5",
            )?;
            let key = params![
                stamp.dev.cast_signed(),
                stamp.ino.cast_signed(),
                stamp.size.cast_signed(),
                stamp.mtime_ns,
                stamp.ctime_ns
            ];
            query.query_row(key, |row| row.get(0).map(FileId)).optional()
        })
    }

    /// Remembers what a file holds, in place of what it held before. Returns contents that no file is known to
    /// hold any longer, whose lists of chaining values are of no use.
    pub(crate) fn put_hash(&self, stamp: Stamp, id: FileId) -> Result<Vec<FileId>, StoreError> {
        self.ask(move |database| {
            // Inside another transaction, where it is asked together with others.
            let transaction = database.connection.savepoint()?;
            let (dev, ino) = (stamp.dev.cast_signed(), stamp.ino.cast_signed());
            let mut dropped: Vec<FileId> = transaction
                .prepare_cached("DELETE FROM hashes WHERE dev = ?1 AND ino = ?2 RETURNING file_id")?
                .query_map([dev, ino], |row| row.get(0).map(FileId))?
                .collect::<Result<_, _>>()?;
            transaction
                .prepare_cached(
                    "INSERT INTO hashes (dev, ino, size, mtime_ns, ctime_ns, file_id)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![dev, ino, stamp.size.cast_signed(), stamp.mtime_ns, stamp.ctime_ns, id.0])?;
            let oldest =
                "DELETE FROM hashes WHERE number <= (SELECT max(number) FROM hashes) - ?1 RETURNING file_id";
            let old: Vec<FileId> = transaction
                .prepare_cached(oldest)?
                .query_map([HASHES_KEPT], |row| row.get(0).map(FileId))?
                .collect::<Result<_, _>>()?;
            dropped.extend(old);
            let mut unused = Vec::new();
            for id in dropped {
                if !is_held(&transaction, id)? {
                    unused.push(id);
                }
            }
            transaction.commit()?;
            Ok(unused)
        })
    }
}

fn is_held(connection: &Connection, id: FileId) -> rusqlite::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM hashes WHERE file_id = ?1)";
    connection.prepare_cached(query)?.query_row([id.0], |row| row.get(0))
}
