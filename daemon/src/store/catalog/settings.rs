//! What a command has set and the config does not say.

use rusqlite::OptionalExtension;

use super::{Catalog, StoreError};

impl Catalog {
    /// What was set under this name, in the session's own form.
    pub(crate) fn setting(&self, name: &'static str) -> Result<Option<String>, StoreError> {
        self.ask(move |database| {
            let query = "SELECT value FROM settings WHERE name = ?1";
            database.connection.query_row(query, [name], |row| row.get(0)).optional()
        })
    }

    /// Sets it, or takes it back.
    pub(crate) fn put_setting(&self, name: &'static str, value: Option<String>) -> Result<(), StoreError> {
        self.ask(move |database| {
            let connection = &database.connection;
            match &value {
                Some(value) => {
                    connection.execute("INSERT OR REPLACE INTO settings VALUES (?1, ?2)", [name, value])?
                }
                None => connection.execute("DELETE FROM settings WHERE name = ?1", [name])?,
            };
            Ok(())
        })
    }
}
