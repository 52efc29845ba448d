//! Jobs and their history.

use p2p_protocol::control::{Direction, State};
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{
    Catalog, StoreError,
    log::{self, LogRow},
};

/// Ended jobs that are kept; the oldest go first.
pub(super) const ENDED_JOBS_KEPT: i64 = 10_000;
/// So many more may be there before they do: finding the oldest means looking at all.
const ENDED_BEFORE_PRUNING: u32 = 256;

/// One job as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobRow {
    /// Its number; given by [`Catalog::insert_job`], which does not look at it.
    pub(crate) number: u64,
    /// Which way.
    pub(crate) direction: Direction,
    /// Where it is in its life.
    pub(crate) state: State,
    /// What it is about, in the session's own form.
    pub(crate) spec: String,
    /// What its owner sees of it, in the session's own form.
    pub(crate) summary: String,
    /// When it was made, in milliseconds since 1970 UTC.
    pub(crate) created_ms: u64,
    /// When it ended.
    pub(crate) ended_ms: Option<u64>,
}

impl Catalog {
    /// All jobs, by number. One that this version cannot read is left out.
    pub(crate) fn jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.ask(|database| {
            let mut query = database.connection.prepare("SELECT * FROM jobs ORDER BY number")?;
            let rows = query.query_map([], |row| Ok(parse(row)))?;
            let mut jobs = Vec::new();
            for row in rows {
                match row? {
                    Ok(job) => jobs.push(job),
                    Err(error) => tracing::warn!(%error, "a job in the catalog is not readable, left out"),
                }
            }
            Ok(jobs)
        })
    }

    /// Adds a job and gives it a number that no job had before.
    pub(crate) fn insert_job(&self, row: &JobRow) -> Result<u64, StoreError> {
        let row = row.clone();
        self.ask(move |database| {
            let number = database.highest_job + 1;
            write(&database.connection, &JobRow { number, ..row.clone() })?;
            database.highest_job = number;
            Ok(number)
        })
    }

    /// Stores a job's new state, and what happened to it; also one that is not there (any longer).
    pub(crate) fn update_job(&self, row: &JobRow, happened: &[LogRow]) -> Result<(), StoreError> {
        let (row, happened) = (row.clone(), happened.to_vec());
        self.ask(move |database| {
            write(&database.connection, &row)?;
            log::write(database, &happened)?;
            database.highest_job = database.highest_job.max(row.number);
            if row.ended_ms.is_some() {
                database.ended += 1;
            }
            if database.ended >= ENDED_BEFORE_PRUNING {
                prune(&database.connection)?;
                database.ended = 0;
            }
            Ok(())
        })
    }
}

/// The highest job number ever given in this catalog.
pub(super) fn highest(connection: &Connection) -> rusqlite::Result<u64> {
    let query = "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'";
    Ok(connection.query_row(query, [], |row| row.get(0)).optional()?.unwrap_or(0i64).cast_unsigned())
}

/// Drops the oldest ended jobs beyond those that are kept.
pub(super) fn prune(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM jobs WHERE ended_ms IS NOT NULL AND number <= (
            SELECT number FROM jobs WHERE ended_ms IS NOT NULL ORDER BY number DESC LIMIT 1 OFFSET ?1)",
        [ENDED_JOBS_KEPT],
    )?;
    Ok(())
}

fn write(connection: &Connection, row: &JobRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO jobs (number, direction, state, spec, summary, created_ms, ended_ms)
         VALUES (:number, :direction, :state, :spec, :summary, :created, :ended)
         ON CONFLICT (number) DO UPDATE SET direction = :direction, state = :state, spec = :spec,
            summary = :summary, created_ms = :created, ended_ms = :ended",
    )?;
    statement.execute(named_params! {
        ":number": row.number.cast_signed(),
        ":direction": row.direction.word(),
        ":state": state_name(row.state),
        ":spec": row.spec,
        ":summary": row.summary,
        ":created": row.created_ms.cast_signed(),
        ":ended": row.ended_ms.map(u64::cast_signed),
    })?;
    Ok(())
}

fn parse(row: &Row<'_>) -> Result<JobRow, String> {
    let text = |column| row.get::<_, String>(column).map_err(|error| error.to_string());
    let number = |column| {
        let found = row.get::<_, Option<i64>>(column).map_err(|error| error.to_string());
        found.map(|number| number.map(i64::cast_unsigned))
    };
    let (direction, state) = (text("direction")?, text("state")?);
    Ok(JobRow {
        number: number("number")?.ok_or("no number")?,
        direction: direction_of(&direction).ok_or_else(|| format!("direction {direction:?}"))?,
        state: state_of(&state).ok_or_else(|| format!("state {state:?}"))?,
        spec: text("spec")?,
        summary: text("summary")?,
        created_ms: number("created_ms")?.unwrap_or(0),
        ended_ms: number("ended_ms")?,
    })
}

const DIRECTIONS: [Direction; 4] = [Direction::Send, Direction::Fetch, Direction::Receive, Direction::Serve];
const STATES: [State; 5] = [State::Waiting, State::Active, State::Done, State::Failed, State::Cancelled];

fn direction_of(name: &str) -> Option<Direction> {
    DIRECTIONS.into_iter().find(|direction| direction.word() == name)
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Active => "active",
        State::Done => "done",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    }
}

fn state_of(name: &str) -> Option<State> {
    STATES.into_iter().find(|state| state_name(*state) == name)
}
