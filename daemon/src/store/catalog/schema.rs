//! The catalog's tables and how older ones become today's.

use rusqlite::{Connection, TransactionBehavior};

/// What each version added. The version in force is the number of steps taken; append only.
const STEPS: &[&str] = &[
    "
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        direction TEXT NOT NULL,
        state TEXT NOT NULL,
        spec TEXT NOT NULL,
        summary TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        ended_ms INTEGER
    );
    CREATE TABLE shares (
        file_id BLOB PRIMARY KEY,
        path BLOB NOT NULL,
        audience TEXT NOT NULL,
        created_ms INTEGER NOT NULL
    );
    CREATE TABLE receipts (
        number INTEGER PRIMARY KEY,
        peer BLOB NOT NULL,
        file_id BLOB NOT NULL,
        path BLOB NOT NULL,
        UNIQUE (peer, file_id)
    );
    CREATE TABLE hashes (
        number INTEGER PRIMARY KEY,
        dev INTEGER NOT NULL,
        ino INTEGER NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL,
        file_id BLOB NOT NULL,
        UNIQUE (dev, ino)
    );
    CREATE INDEX hashes_by_file ON hashes (file_id);
",
    "
    CREATE TABLE tickets (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        claim BLOB NOT NULL UNIQUE,
        key TEXT NOT NULL,
        file_id BLOB NOT NULL,
        uses INTEGER,
        wrong INTEGER NOT NULL DEFAULT 0,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER
    );
    CREATE TABLE ticket_uses (
        ticket INTEGER NOT NULL,
        peer BLOB NOT NULL,
        PRIMARY KEY (ticket, peer)
    );
",
    "
    ALTER TABLE shares ADD COLUMN excludes TEXT NOT NULL DEFAULT '[]';
",
    "
    CREATE TABLE log (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        transfer INTEGER,
        entry TEXT NOT NULL
    );
    CREATE INDEX log_by_transfer ON log (transfer);
",
    "
    CREATE TABLE settings (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    );
",
];

/// The newest schema that this program knows.
pub(super) const VERSION: u32 = STEPS.len() as u32;

/// Sets the connection up, checks the file, and brings its tables up to date in one transaction: a crash
/// leaves the old version or the new one. The inner error is the version of a catalog that is too new.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<Result<(), u32>> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let found = version(connection)?;
    if found > VERSION {
        return Ok(Err(found));
    }
    let health: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if health != "ok" {
        return Err(illness(health));
    }
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if found == VERSION {
        // Nothing is written, so that a full disk does not keep the daemon from starting.
        return Ok(Ok(()));
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in STEPS.iter().skip(version(&transaction)? as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(Ok(()))
}

/// What a check that found something says. A page that could not be read is not for that a damaged one: the disk said no, and
/// may not the next time.
pub(super) fn illness(health: String) -> rusqlite::Error {
    let code = health.rsplit_once("error code=").and_then(|(_, code)| code.trim().parse().ok());
    let code = rusqlite::ffi::Error::new(code.unwrap_or(rusqlite::ffi::SQLITE_CORRUPT));
    rusqlite::Error::SqliteFailure(code, Some(health))
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
