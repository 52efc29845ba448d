//! What happened, the newest of it.

use rusqlite::{Connection, params};

use super::{Catalog, Database, StoreError};

/// Entries that are kept; the oldest go first.
pub(super) const ENTRIES_KEPT: u32 = 10_000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogRow {
    /// When, in milliseconds since 1970 UTC.
    pub(crate) at_ms: u64,
    /// To which transfer.
    pub(crate) transfer: Option<u64>,
    /// What, in the session's own form.
    pub(crate) entry: String,
}

impl Catalog {
    /// Notes down what happened that is not about a transfer, or whose transfer is not written just now.
    pub(crate) fn note(&self, rows: &[LogRow]) -> Result<(), StoreError> {
        let rows = rows.to_vec();
        self.ask(move |database| write(database, &rows))
    }

    /// The newest entries, of all or of one transfer, the oldest first.
    pub(crate) fn log(
        &self,
        transfer: Option<u64>,
        since_ms: u64,
        most: u32,
    ) -> Result<Vec<String>, StoreError> {
        self.ask(move |database| {
            let mut query = database.connection.prepare_cached(
                "SELECT entry FROM log WHERE at_ms >= ?1 AND (?2 IS NULL OR transfer = ?2)
                 ORDER BY number DESC LIMIT ?3",
            )?;
            let (since, transfer) =
                (since_ms.min(i64::MAX as u64).cast_signed(), transfer.map(u64::cast_signed));
            let rows = query.query_map(params![since, transfer, most], |row| row.get(0))?;
            let mut entries: Vec<String> = rows.collect::<rusqlite::Result<_>>()?;
            entries.reverse();
            Ok(entries)
        })
    }
}

/// Adds entries, and drops the oldest now and then.
pub(super) fn write(database: &Database, rows: &[LogRow]) -> rusqlite::Result<()> {
    let insert = "INSERT INTO log (at_ms, transfer, entry) VALUES (?1, ?2, ?3)";
    let mut statement = database.connection.prepare_cached(insert)?;
    for LogRow { at_ms, transfer, entry } in rows {
        statement.execute(params![at_ms.cast_signed(), transfer.map(u64::cast_signed), entry])?;
        if database.connection.last_insert_rowid() % 256 == 0 {
            prune(&database.connection)?;
        }
    }
    Ok(())
}

/// Drops the oldest entries beyond those that are kept.
pub(super) fn prune(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .execute("DELETE FROM log WHERE number <= (SELECT max(number) FROM log) - ?1", [ENTRIES_KEPT])?;
    Ok(())
}
