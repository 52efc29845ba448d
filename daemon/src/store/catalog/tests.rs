use p2p_protocol::{
    FileId, PeerId,
    control::{Direction, State},
};

use super::*;
use crate::{disk::System, store::stamp::Stamp};

fn home() -> (tempfile::TempDir, Home) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    (folder, home)
}

fn row(state: State) -> JobRow {
    let ended_ms = matches!(state, State::Done).then_some(5);
    JobRow {
        number: 0,
        direction: Direction::Receive,
        state,
        spec: "spec".into(),
        summary: "summary".into(),
        created_ms: 3,
        ended_ms,
    }
}

fn set_aside_files(home: &Home) -> usize {
    let entries = std::fs::read_dir(home.root()).unwrap();
    entries
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name().to_string_lossy().into_owned();
            name.starts_with("catalog.damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .count()
}

#[test]
fn what_is_stored_is_there_after_a_restart() {
    let (_folder, home) = home();
    let (id, peer) = (FileId([1; 32]), PeerId([2; 32]));
    let share = Share {
        file_id: id,
        path: "/a/b".into(),
        audience: "all".into(),
        created_ms: 9,
        excludes: vec!["*.o".into(), "a\"b".into()],
    };
    let stamp = Stamp { dev: u64::MAX, ino: 2, size: 3, mtime_ns: -4, ctime_ns: 5 };
    let expected = {
        let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
        let first = catalog.insert_job(&row(State::Waiting)).unwrap();
        let second = catalog.insert_job(&row(State::Active)).unwrap();
        assert_eq!((first, second), (1, 2));
        let done = JobRow { number: first, ..row(State::Done) };
        catalog.update_job(&done, &[]).unwrap();
        catalog.put_share(&share).unwrap();
        for value in [Some("old"), None, Some("new")] {
            catalog.put_setting("limits", value.map(str::to_owned)).unwrap();
            assert_eq!(catalog.setting("limits").unwrap().as_deref(), value);
        }
        catalog.put_receipts(peer, vec![id], Path::new("/in/x")).unwrap();
        assert_eq!(catalog.put_hash(stamp, id).unwrap(), []);
        vec![done, JobRow { number: second, ..row(State::Active) }]
    };
    let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
    assert_eq!(catalog.setting("limits").unwrap().as_deref(), Some("new"));
    assert_eq!(catalog.jobs().unwrap(), expected);
    assert_eq!(catalog.share(id).unwrap(), Some(share));
    assert_eq!(catalog.share(FileId([9; 32])).unwrap(), None);
    assert!(catalog.has_share_for("all").unwrap() && !catalog.has_share_for("some").unwrap());
    assert_eq!(catalog.share_count().unwrap(), 1);
    assert!(catalog.remove_share(id).unwrap() && !catalog.remove_share(id).unwrap());
    assert_eq!(catalog.receipt(peer, id).unwrap(), Some("/in/x".into()));
    assert_eq!(catalog.receipt(PeerId([3; 32]), id).unwrap(), None);
    assert_eq!(catalog.hash(stamp).unwrap(), Some(id));
    assert_eq!(catalog.hash(Stamp { ctime_ns: 6, ..stamp }).unwrap(), None);
    assert_eq!(catalog.put_hash(Stamp { size: 4, ..stamp }, FileId([7; 32])).unwrap(), [id]);
    assert_eq!(catalog.hash(stamp).unwrap(), None);
}

#[test]
fn the_catalog_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, home) = home();
    let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
    catalog.insert_job(&row(State::Waiting)).unwrap();
    for ending in ["", "-wal"] {
        let mode = std::fs::metadata(with_ending(&home.catalog(), ending)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{ending}");
    }
}

/// What SQLite says of a page that the disk did not give is no damage.
///
/// Fault 25.
#[test]
fn a_page_that_cannot_be_read_is_not_a_damaged_one() {
    let said = |code| {
        schema::illness(format!(
            "*** in database main ***\nTree 9 page 9: unable to get the page. error code={code}"
        ))
    };
    assert!(!is_damage(&said(266)), "an I/O error");
    assert!(!is_damage(&said(7)), "no memory");
    assert!(is_damage(&said(11)));
    assert!(is_damage(&schema::illness("row 3 missing from index hashes_by_file".into())));
}

/// Fault 25.
#[test]
fn a_damaged_catalog_is_set_aside_at_the_start() {
    let (_folder, home) = home();
    drop(Catalog::open(&home, Arc::new(System)).unwrap().insert_job(&row(State::Done)));
    std::fs::write(home.catalog(), b"this is no database, however long it may be".repeat(100)).unwrap();
    let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
    assert_eq!(catalog.jobs().unwrap(), []);
    assert_eq!(set_aside_files(&home), 1);
}

/// Fault 25.
#[test]
fn a_catalog_without_its_tables_is_set_aside() {
    let (_folder, home) = home();
    let connection = Connection::open(home.catalog()).unwrap();
    connection.execute_batch("CREATE TABLE jobs (x); PRAGMA user_version = 1").unwrap();
    drop(connection);
    let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
    assert_eq!(catalog.insert_job(&row(State::Done)).unwrap(), 1);
    assert_eq!(set_aside_files(&home), 1);
}

/// Fault 25.
#[test]
fn a_catalog_damaged_while_it_is_open_is_replaced_and_numbers_go_on() {
    let (_folder, home) = home();
    let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
    assert_eq!(catalog.insert_job(&row(State::Active)).unwrap(), 1);
    catalog.ask(|database| database.connection.execute_batch("DROP TABLE jobs")).unwrap();
    assert_eq!(catalog.insert_job(&row(State::Active)).unwrap(), 2);
    assert_eq!(catalog.jobs().unwrap().len(), 1);
    assert_eq!(set_aside_files(&home), 1);
    let first = JobRow { number: 1, ..row(State::Done) };
    catalog.update_job(&first, &[]).unwrap();
    assert_eq!(catalog.jobs().unwrap().len(), 2, "a job that still runs writes itself down again");
}

/// What a crash leaves in the middle of the first schema's making, with all that SQLite had written by then.
///
/// Fault 7.
#[test]
fn a_crash_while_the_tables_are_made_leaves_nothing_in_the_way() {
    let (_crashed, before) = home();
    let mut connection = Connection::open(before.catalog()).unwrap();
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
    // So that pages go to the log before there is a commit.
    connection.pragma_update(None, "cache_size", 1).unwrap();
    let half = connection.transaction().unwrap();
    half.execute_batch("CREATE TABLE jobs (half); CREATE TABLE filler (bytes BLOB)").unwrap();
    for _ in 0..50 {
        half.execute("INSERT INTO filler VALUES (randomblob(9000))", []).unwrap();
    }
    let (_folder, after) = home();
    for ending in ["", "-wal"] {
        let bytes = std::fs::read(with_ending(&before.catalog(), ending)).unwrap();
        assert!(ending.is_empty() || bytes.len() > 9000, "nothing was written yet");
        std::fs::write(with_ending(&after.catalog(), ending), bytes).unwrap();
    }
    drop(half);
    let catalog = Catalog::open(&after, Arc::new(System)).unwrap();
    assert_eq!(catalog.insert_job(&row(State::Done)).unwrap(), 1);
    assert_eq!(set_aside_files(&after), 0, "what was half done is undone, and nothing lost");
}

/// Fault 7.
#[test]
fn a_newer_catalog_is_refused_and_left_alone() {
    let (_folder, home) = home();
    let connection = Connection::open(home.catalog()).unwrap();
    connection.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    drop(connection);
    let error = Catalog::open(&home, Arc::new(System)).unwrap_err();
    assert!(matches!(error, StoreError::CatalogNewer { found, .. } if found == schema::VERSION + 1));
    assert_eq!(set_aside_files(&home), 0);
}

#[test]
fn old_history_is_dropped_but_nothing_unfinished() {
    let (_folder, home) = home();
    let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
    let unfinished = catalog.insert_job(&row(State::Waiting)).unwrap();
    let extra = 5;
    catalog
        .ask(move |database| {
            let transaction = database.connection.transaction()?;
            for number in 0..jobs::ENDED_JOBS_KEPT + extra {
                transaction.execute(
                    "INSERT INTO jobs (number, direction, state, spec, summary, created_ms, ended_ms)
                     VALUES (?1, 'send', 'done', '', '', 0, 1)",
                    [number + 2],
                )?;
            }
            transaction.commit()
        })
        .unwrap();
    drop(catalog);
    let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
    let numbers: Vec<u64> = catalog.jobs().unwrap().iter().map(|job| job.number).collect();
    assert_eq!(numbers.len() as i64, jobs::ENDED_JOBS_KEPT + 1);
    assert_eq!(numbers[0], unfinished);
    assert_eq!(numbers[1], (2 + extra).cast_unsigned());
    let last = catalog.insert_job(&row(State::Done)).unwrap();
    assert_eq!(last.cast_signed(), jobs::ENDED_JOBS_KEPT + extra + 2);
}

#[test]
fn what_happened_is_kept_in_its_order_and_the_oldest_is_forgotten() {
    let (_folder, home) = home();
    let entry = |n: u64, transfer: Option<u64>| LogRow { at_ms: n, transfer, entry: n.to_string() };
    let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
    let number = catalog.insert_job(&row(State::Active)).unwrap();
    let done = JobRow { number, ..row(State::Done) };
    catalog.update_job(&done, &[entry(1, Some(number)), entry(2, Some(number))]).unwrap();
    catalog.note(&[entry(3, None), entry(4, Some(9))]).unwrap();
    drop(catalog);
    let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
    let log = |transfer, since, most| catalog.log(transfer, since, most).unwrap();
    assert_eq!(log(None, 0, 100), ["1", "2", "3", "4"]);
    assert_eq!(log(None, 0, 2), ["3", "4"]);
    assert_eq!(log(None, 4, 100), ["4"]);
    assert_eq!(log(Some(number), 2, 100), ["2"]);
    assert!(log(None, u64::MAX, 100).is_empty());
    let many: Vec<LogRow> = (0..u64::from(log::ENTRIES_KEPT) + 512).map(|n| entry(10 + n, None)).collect();
    catalog.note(&many).unwrap();
    let kept = log(None, 0, u32::MAX);
    assert!(
        (log::ENTRIES_KEPT as usize..log::ENTRIES_KEPT as usize + 256).contains(&kept.len()),
        "{}",
        kept.len()
    );
    assert_eq!(kept.last(), many.last().map(|row| &row.entry));
}

/// Fault 13.
#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let (_folder, home) = home();
    let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
    let number = catalog.insert_job(&row(State::Active)).unwrap();
    let limit = |catalog: &Catalog, pages: u32| {
        catalog
            .ask(move |database| {
                database.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            })
            .unwrap();
    };
    limit(&catalog, 1);
    let large = JobRow { number, summary: "x".repeat(1 << 20), ..row(State::Done) };
    let error = catalog.update_job(&large, &[]).unwrap_err();
    assert!(error.is_full() && !error.is_gone(), "{error}");
    assert_eq!(set_aside_files(&home), 0);
    assert_eq!(catalog.jobs().unwrap(), [JobRow { number, ..row(State::Active) }]);
    limit(&catalog, u32::MAX);
    catalog.update_job(&large, &[]).unwrap();
    assert_eq!(catalog.jobs().unwrap(), [large]);
}

/// Asks all of this while the thread is busy with something else, so that it finds all of it waiting.
fn at_once<T: Send + 'static>(
    home: &Home,
    ask: impl Fn(&mut Database, u64) -> rusqlite::Result<T> + Clone + Send + 'static,
) -> Vec<Result<T, StoreError>> {
    let mut database = Database::open(home, &(Arc::new(System) as Arc<dyn Disk>)).unwrap();
    let (questions, asked) = mpsc::channel::<Box<dyn Question>>();
    let answers: Vec<_> = (0..16)
        .map(|n| {
            let (answer, answered) = mpsc::sync_channel(1);
            let ask = ask.clone();
            let question = Asked::new(move |database: &mut Database| ask(database, n), answer);
            questions.send(Box::new(question)).unwrap();
            answered
        })
        .collect();
    drop(questions);
    queue::answer_all(&mut database, &asked);
    assert!(database.connection.is_autocommit(), "no transaction is left open");
    answers.iter().map(|answered| answered.recv().unwrap()).collect()
}

fn insert(database: &Database, n: u64) -> rusqlite::Result<bool> {
    let query =
        "INSERT INTO hashes (dev, ino, size, mtime_ns, ctime_ns, file_id) VALUES (0, ?1, 0, 0, 0, x'')";
    database.connection.execute(query, [n.cast_signed()])?;
    Ok(!database.connection.is_autocommit())
}

fn count(home: &Home) -> i64 {
    let other = Connection::open(home.catalog()).unwrap();
    other.query_row("SELECT count(*) FROM hashes", [], |row| row.get(0)).unwrap()
}

#[test]
fn what_waits_at_the_same_time_shares_a_transaction() {
    let (_folder, home) = home();
    let answers = at_once(&home, |database, n| insert(database, n));
    assert!(answers.into_iter().all(|answer| answer.unwrap()), "each was asked in a transaction");
    assert_eq!(count(&home), 16);
}

#[test]
fn one_that_fails_spoils_none_of_the_others() {
    let (_folder, home) = home();
    let answers = at_once(&home, |database, n| match n {
        7 => Err(rusqlite::Error::InvalidQuery),
        _ => insert(database, n),
    });
    let good: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(good.iter().filter(|good| **good).count(), 15);
    assert!(!good[7]);
    assert_eq!(count(&home), 15);
}

/// As soon as somebody has an answer the power may fail.
#[test]
fn an_answer_is_given_when_it_is_synced() {
    let (_folder, home) = home();
    let catalog = Catalog::open(&home, Arc::new(System)).unwrap();
    let how = |database: &mut Database| {
        database.connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))
    };
    assert_eq!(catalog.ask(how).unwrap(), 2, "FULL: each transaction of a write-ahead log is synced");
}

/// What was asked together fails together at the very end: no answer is given before each was asked by itself.
#[test]
fn what_cannot_be_committed_was_not_done() {
    let (_folder, home) = home();
    let answers = at_once(&home, |database, n| {
        if n == 7 && !database.connection.is_autocommit() {
            let nobodys = "CREATE TABLE owner (id INTEGER PRIMARY KEY);
                CREATE TABLE owned (owner REFERENCES owner DEFERRABLE INITIALLY DEFERRED);
                PRAGMA defer_foreign_keys = ON; INSERT INTO owned VALUES (1)";
            database.connection.execute_batch(nobodys)?;
        }
        insert(database, n)
    });
    assert!(answers.into_iter().all(|answer| !answer.unwrap()), "each was asked by itself");
    assert_eq!(count(&home), 16);
}
