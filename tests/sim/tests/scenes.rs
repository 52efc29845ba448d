//! Single things that take long, or a disk that does as it is told: daemons in a simulated world, and no chance in it.
//!
//! The process's clock is the world's: how long a test is said to take means nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use p2p_protocol::{
    FileId,
    control::{Event, FetchRequest, KeyPolicy, Output, Request, State, TransferEvent, Wishes},
    limits::{MAX_FAILED_SYNCS, POOL_IDLE},
    reason::Failure,
};
use p2p_sim::{
    disk::{Fault, Op, Which},
    network::Weather,
    requests, takeover,
    world::World,
};
use p2p_tests::data;
use rustix::io::Errno;

const FROM: usize = 0;
const TO: usize = 1;
const MIB: u64 = 1 << 20;
/// Everything has ended after this.
const PATIENCE: Duration = Duration::from_secs(1000);

/// Two daemons that trust each other. There is one such world at a time.
fn scene(play: impl FnOnce(&mut World) + Send) {
    static ONE: Mutex<()> = Mutex::new(());
    let _only = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    takeover::begin(1, 1_800_000_000);
    takeover::set_time(Duration::ZERO);
    let mut world = World::new(1, 2);
    for (host, peer) in [(FROM, TO), (TO, FROM)] {
        world.internet.set_weather(host, peer, Weather::fine());
        world.start(host).unwrap();
    }
    for (host, peer) in [(FROM, TO), (TO, FROM)] {
        let request = requests::trust(&world.hosts[peer]);
        assert_eq!(ask(&mut world, host, request), [Event::Ok]);
    }
    play(&mut world);
}

fn ask(world: &mut World, host: usize, request: Request) -> Vec<Event> {
    world.ask(host, request, PATIENCE)
}

fn connections(world: &mut World, host: usize) -> u64 {
    match &ask(world, host, Request::Status)[..] {
        [Event::Status(status)] => status.connections,
        other => panic!("{other:?}"),
    }
}

fn source(world: &World, name: &str, len: u64) -> PathBuf {
    let path = world.hosts[FROM].sources().join(name);
    data::write_random(&path, len, len);
    path
}

/// Sends a file, and says how that ended.
fn send(world: &mut World, path: &std::path::Path) -> Event {
    let request = requests::send(path, world.hosts[TO].peer.unwrap().to_string());
    ask(world, FROM, request).pop().unwrap()
}

fn is_done(event: &Event) -> bool {
    matches!(event, Event::Transfer(TransferEvent::Done { .. }))
}

#[test]
fn a_connection_that_carries_nothing_is_closed_after_a_while() {
    scene(|world| {
        let path = source(world, "file", MIB);
        let sent = send(world, &path);
        assert!(is_done(&sent), "{sent:?}");
        world.run_until(POOL_IDLE / 2, |_| false);
        assert_eq!([connections(world, FROM), connections(world, TO)], [1, 1], "it may be of use again");
        world.run_until(2 * POOL_IDLE, |_| false);
        assert_eq!([connections(world, FROM), connections(world, TO)], [0, 0]);
    });
}

/// Syncs of data that fail in the receiver, after so many that worked and so many times.
fn fail_syncs(world: &World, after: u64, times: u64) {
    let which = Which::Where(|op| op.is_sync() && op != Op::DbSync);
    world.hosts[TO].disk.fail(Fault { which, after, times, error: Errno::IO });
}

/// Slow enough for a checkpoint every now and then.
fn slowly(world: &World) {
    let slow = Weather { rate: Some(400_000), queue: 100_000, ..Weather::fine() };
    world.internet.set_weather(FROM, TO, slow);
}

/// Fault 16.
#[test]
fn syncs_that_fail_now_and_then_do_not_add_up() {
    scene(|world| {
        slowly(world);
        let path = source(world, "file", 24 * MIB);
        for round in 1..=u64::from(MAX_FAILED_SYNCS) + 4 {
            fail_syncs(world, 6 * round, 1);
        }
        let sent = send(world, &path);
        assert!(is_done(&sent), "{sent:?}");
        assert!(world.hosts[TO].disk.failed() > MAX_FAILED_SYNCS.into(), "{}", world.hosts[TO].disk.failed());
        data::assert_same(&path, &world.hosts[TO].inbox().join("file"));
    });
}

/// Fault 15.
#[test]
fn a_disk_on_which_no_sync_works_is_given_up() {
    scene(|world| {
        slowly(world);
        let path = source(world, "file", 8 * MIB);
        fail_syncs(world, 8, u64::MAX);
        let Event::Transfer(TransferEvent::Failed { failure, message, .. }) = send(world, &path) else {
            panic!("sent");
        };
        assert_eq!(failure, Failure::Storage, "{message}");
        let hit = world.hosts[TO].disk.failed();
        assert!((u64::from(MAX_FAILED_SYNCS)..100).contains(&hit), "{hit}");
    });
}

/// Fault 13.
#[test]
fn a_home_that_takes_no_more_transfers_is_no_busy_peer() {
    scene(|world| {
        let path = source(world, "file", MIB);
        let which = Which::Where(|op| op.is_catalog() && op.needs_space());
        world.hosts[TO].disk.fail(Fault { which, after: 0, times: u64::MAX, error: Errno::NOSPC });
        let Event::Transfer(TransferEvent::Failed { failure, message, .. }) = send(world, &path) else {
            panic!("sent");
        };
        assert_eq!(failure, Failure::Storage, "{message}");
        world.hosts[TO].disk.heal();
        let sent = send(world, &path);
        assert!(is_done(&sent), "{sent:?}");
    });
}

/// Each may have to hash what it is about.
#[test]
fn only_so_many_questions_are_answered_at_a_time() {
    scene(|world| {
        let path = source(world, "file", MIB);
        let shared = ask(world, FROM, requests::share(&path)).pop();
        let Some(Event::Shared { file_id, .. }) = shared else { panic!("{shared:?}") };
        world.hosts[FROM].disk.set_delay(Duration::from_secs(1));
        let answers = world.ask_all(TO, vec![plan(world, file_id); 12], PATIENCE);
        let said: Vec<Event> = answers.into_iter().filter_map(|mut said| said.pop()).collect();
        let is_busy =
            |said: &&Event| matches!(said, Event::Error(error) if error.failure == Failure::Conflict);
        let is_answer = |said: &&Event| matches!(said, Event::Planned(_));
        let (busy, answered) = (said.iter().filter(is_busy).count(), said.iter().filter(is_answer).count());
        assert!(busy >= 4 && answered >= 4 && busy + answered == 12, "{said:?}");
    });
}

fn plan(world: &World, file_id: FileId) -> Request {
    Request::PlanFetch(FetchRequest {
        ticket: None,
        file_id,
        from: vec![world.hosts[FROM].peer.unwrap().to_string()],
        output: Output::Inbox,
        key: KeyPolicy::Known,
        only: Vec::new(),
        range: None,
        progressive: false,
        wishes: Wishes::default(),
        detach: false,
        request: None,
    })
}

/// The daemon is killed when its peer has heard that all is there, and before it has noted that itself.
///
/// Fault 1.
#[test]
fn what_was_complete_when_its_daemon_was_killed_does_not_wait_for_its_peer() {
    scene(|world| {
        let path = source(world, "file", MIB);
        let sent = send(world, &path);
        assert!(is_done(&sent), "{sent:?}");
        world.hosts[TO].stop();
        assert!(world.run_until(PATIENCE, |world| !world.hosts[TO].is_up()));

        let catalog = rusqlite::Connection::open(world.hosts[TO].home().join("catalog.sqlite")).unwrap();
        let summary: String = catalog.query_row("SELECT summary FROM jobs", [], |row| row.get(0)).unwrap();
        let mut noted: serde_json::Value = serde_json::from_str(&summary).unwrap();
        noted["last"] = serde_json::Value::Null;
        noted["summary"]["state"] = "active".into();
        noted["summary"]["ended_ms"] = serde_json::Value::Null;
        let changed = catalog
            .execute("UPDATE jobs SET state = 'active', ended_ms = NULL, summary = ?", [noted.to_string()]);
        assert_eq!(changed.unwrap(), 1);
        drop(catalog);

        world.start(TO).unwrap();
        world.run_until(Duration::from_secs(10), |_| false);
        let listed = ask(world, TO, Request::List);
        assert!(
            matches!(&listed[..], [Event::Summary(summary)] if summary.state == State::Done),
            "{listed:?}"
        );
    });
}
