//! The catalog: jobs and their history, what happened, shares, receipts and the hash cache, in SQLite.
//!
//! It is a cache. Nothing in it is needed to keep a file or a partial safe, so a damaged one is set aside and
//! a new one made. One connection lives on one thread; whoever calls blocks for the answer.

mod hashes;
mod jobs;
mod log;
mod queue;
mod schema;
mod settings;
mod shares;
mod tickets;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::OFlags;

use super::{error::StoreError, layout::Home};
use crate::disk::{self, Disk, PRIVATE_FILE, place_of};

pub(crate) use jobs::JobRow;
pub(crate) use log::LogRow;
use queue::{Asked, Question};
pub(crate) use shares::Share;
pub(crate) use tickets::{TicketClaim, TicketVerdict};

/// The catalog; clones share one thread and one connection.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    worker: Arc<Worker>,
}

#[derive(Debug)]
struct Worker {
    /// `None` only while dropping.
    questions: Option<mpsc::Sender<Box<dyn Question>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened; there is nothing left to do about it.
            let _ = thread.join();
        }
    }
}

/// The connection and what goes with it; lives on the catalog's thread.
struct Database {
    home: Home,
    disk: Arc<dyn Disk>,
    connection: Connection,
    /// The highest job number ever given, also by a catalog that was set aside since.
    highest_job: u64,
    /// Jobs that were written as ended since old ones were dropped.
    ended: u32,
}

impl Catalog {
    /// Opens the catalog, or makes one. A damaged one is renamed and replaced by an empty one.
    pub(crate) fn open(home: &Home, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        let mut database = Database::open(home, &disk)?;
        let (questions, asked) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("catalog".into())
            .spawn(move || queue::answer_all(&mut database, &asked))
            .map_err(StoreError::io("start the catalog's thread", &home.catalog()))?;
        Ok(Self { worker: Arc::new(Worker { questions: Some(questions), thread: Some(thread) }) })
    }

    /// Asks the thread, and waits until the answer is durable. `ask` runs again if what it was asked together with failed,
    /// or the catalog turned out to be damaged and was replaced.
    fn ask<T: Send + 'static>(
        &self,
        ask: impl Fn(&mut Database) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let questions = self.worker.questions.as_ref().ok_or(StoreError::CatalogClosed)?;
        questions.send(Box::new(Asked::new(ask, answer))).map_err(|_| StoreError::CatalogClosed)?;
        answered.recv().map_err(|_| StoreError::CatalogClosed)?
    }
}

impl Database {
    fn open(home: &Home, disk: &Arc<dyn Disk>) -> Result<Self, StoreError> {
        match Self::open_as_it_is(home, disk) {
            Err(StoreError::Catalog { source, .. }) if is_damage(&source) => {
                set_aside(home, &**disk, &source)?;
                Self::open_as_it_is(home, disk)
            }
            other => other,
        }
    }

    fn open_as_it_is(home: &Home, disk: &Arc<dyn Disk>) -> Result<Self, StoreError> {
        let path = home.catalog();
        // SQLite would make it readable to whoever the umask lets; it gives its other files the same mode.
        let made = place_of(&path)
            .and_then(|(folder, name)| disk.open(&folder, name, OFlags::RDWR | OFlags::CREATE, PRIVATE_FILE));
        drop(made.map_err(StoreError::io("open the catalog", &path))?);
        let failed = failure(&path);
        let mut connection = connect(&**disk, &path).map_err(&failed)?;
        schema::prepare(&mut connection).map_err(&failed)?.map_err(|found| StoreError::CatalogNewer {
            path: path.clone(),
            found,
            known: schema::VERSION,
        })?;
        let highest_job = jobs::highest(&connection).map_err(&failed)?;
        jobs::prune(&connection)
            .and_then(|()| shares::prune(&connection))
            .and_then(|()| log::prune(&connection))
            .map_err(&failed)?;
        Ok(Self { home: home.clone(), disk: disk.clone(), connection, highest_job, ended: 0 })
    }

    fn answer<T>(&mut self, ask: impl Fn(&mut Self) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let path = self.home.catalog();
        match ask(self) {
            Err(source) if is_damage(&source) => {
                let highest_job = self.highest_job;
                // SQLite lets go of its files before they are renamed.
                self.connection = Connection::open_in_memory().map_err(failure(&path))?;
                set_aside(&self.home, &*self.disk, &source)?;
                *self = Self::open_as_it_is(&self.home, &self.disk)?;
                self.highest_job = self.highest_job.max(highest_job);
                ask(self).map_err(failure(&path))
            }
            other => other.map_err(failure(&path)),
        }
    }
}

fn connect(disk: &dyn Disk, path: &Path) -> rusqlite::Result<Connection> {
    match disk.catalog_vfs() {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs),
        None => Connection::open(path),
    }
}

fn failure(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Catalog { path: path.clone(), source: Arc::new(source) }
}

/// Whether the file is not a sound catalog; anything else (full, read-only, locked) may pass.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    // What SQLite says when tables are not those that the schema's version promises.
    const WRONG_TABLES: [&str; 4] = ["no such table", "no such column", "has no column", "already exists"];
    let (error, said) = match error {
        Error::SqliteFailure(error, said) => (error, said.as_deref().unwrap_or_default()),
        Error::SqlInputError { error, msg, .. } => (error, msg.as_str()),
        Error::InvalidColumnType(..)
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..) => return true,
        _ => return false,
    };
    match error.code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => true,
        ErrorCode::Unknown => WRONG_TABLES.iter().any(|words| said.contains(words)),
        _ => false,
    }
}

/// Renames a damaged catalog and its companions.
fn set_aside(home: &Home, disk: &dyn Disk, why: &rusqlite::Error) -> Result<(), StoreError> {
    let from = home.catalog();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let to = (now..).map(|second| home.damaged_catalog(second)).find(|path| !path.exists());
    let to = to.unwrap_or_else(|| home.damaged_catalog(now));
    tracing::error!(
        catalog = %from.display(), kept_as = %to.display(), error = %why,
        "the catalog is damaged: it is set aside and a new one made; history and shares are lost, no file is"
    );
    for ending in ["", "-wal", "-shm"] {
        let (from, to) = (with_ending(&from, ending), with_ending(&to, ending));
        match disk::rename(disk, &from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("set the damaged catalog aside", &from)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests;
