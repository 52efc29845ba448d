use rusqlite::{Connection, OpenFlags};

use super::*;

fn open(bed: &Bed) -> rusqlite::Result<Connection> {
    let path = bed.disk.root().join("db");
    let connection =
        Connection::open_with_flags_and_vfs(path, OpenFlags::default(), bed.disk.catalog_vfs().unwrap())?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, x BLOB)")?;
    Ok(connection)
}

fn insert(connection: &Connection, n: u32) -> rusqlite::Result<()> {
    connection.execute("INSERT INTO t VALUES (?1, ?2)", (n, vec![n as u8; 3000])).map(|_| ())
}

fn sound(connection: &Connection) -> bool {
    connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap() == "ok"
}

fn numbers(connection: &Connection) -> Vec<u32> {
    let mut statement = connection.prepare("SELECT n FROM t ORDER BY n").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Commits until the program is killed; what was committed.
fn run(bed: &Bed, from: u32) -> Vec<u32> {
    let mut committed = Vec::new();
    let Ok(connection) = open(bed) else { return committed };
    for n in from..from + 400 {
        if insert(&connection, n).is_err() {
            break;
        }
        committed.push(n);
    }
    committed
}

#[test]
fn what_was_committed_survives_any_power_cut() {
    let mut kept = 0;
    for seed in 0..24 {
        let mut bed = Bed::new(seed);
        let mut committed = Vec::new();
        for life in 0..4 {
            bed.disk.freeze_after(seed * 17 % 97 + u64::from(life) * 613);
            let more = run(&bed, life * 1000);
            committed.extend(more);
            let loss = [Loss::Everything, Loss::AnySubset, Loss::Journal][(seed % 3) as usize];
            bed.power_loss(loss);
            let connection = open(&bed).unwrap();
            assert!(sound(&connection), "seed {seed}, life {life}");
            let found = numbers(&connection);
            assert!(committed.iter().all(|n| found.contains(n)), "seed {seed}, life {life}");
            // The last one may be there without having been acknowledged.
            committed = found;
        }
        kept += committed.len();
    }
    assert!(kept > 400, "{kept}");
}

#[test]
fn a_disk_that_lies_about_syncs_loses_commits() {
    let mut lost = 0;
    for seed in 0..10 {
        let mut bed = Bed::new(seed);
        drop(open(&bed).unwrap());
        bed.disk.sync_folder(&bed.root).unwrap();
        bed.disk.set_lies(true);
        bed.disk.freeze_after(100 + seed * 10);
        let committed = run(&bed, 0);
        assert!(!committed.is_empty());
        bed.disk.set_lies(false);
        bed.power_loss(Loss::Everything);
        lost += committed.len() - numbers(&open(&bed).unwrap()).len();
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn a_kill_keeps_the_page_cache() {
    let bed = Bed::new(1);
    bed.disk.set_lies(true);
    bed.disk.freeze_after(150);
    let committed = run(&bed, 0);
    assert!(bed.disk.root().join("db-wal").exists(), "a killed program does not tidy up");
    bed.disk.thaw();
    assert!(committed.len() > 10);
    assert!(numbers(&open(&bed).unwrap()).len() >= committed.len());
}

#[test]
fn a_full_disk_and_a_broken_one_are_told_apart() {
    let bed = Bed::new(1);
    let connection = open(&bed).unwrap();
    insert(&connection, 1).unwrap();
    for (error, code) in [
        (rustix::io::Errno::NOSPC, rusqlite::ErrorCode::DiskFull),
        (rustix::io::Errno::IO, rusqlite::ErrorCode::SystemIoFailure),
    ] {
        bed.disk.fail(Fault { which: Which::Kind(Op::DbWrite), after: 0, times: 1, error });
        let said = insert(&connection, 2).unwrap_err();
        assert_eq!(said.sqlite_error_code(), Some(code));
        assert_eq!(numbers(&connection), [1]);
    }
    bed.disk.fail(Fault { which: Which::Kind(Op::DbSync), after: 0, times: 1, error: rustix::io::Errno::IO });
    insert(&connection, 3).unwrap_err();
    insert(&connection, 4).unwrap();
    assert!(sound(&connection));
}

#[test]
fn a_connection_may_outlive_its_disk() {
    let bed = Bed::new(1);
    let connection = open(&bed).unwrap();
    insert(&connection, 1).unwrap();
    drop(bed);
    // Its files have no names any more, but are open.
    insert(&connection, 2).unwrap();
    assert_eq!(numbers(&connection), [1, 2]);
}
