//! More to do than can be done at once: what waits costs little, fails no sooner for waiting, and leaves nothing behind.

use std::{collections::HashSet, net::UdpSocket, sync::mpsc, thread, time::Duration};

use p2p_protocol::{
    control::{Event, Request, State, Summary, WaitReason},
    limits::MAX_RUNNING_PER_TARGET,
};
use p2p_tests::{
    Daemon, Pair, control,
    hostile::Hostile,
    until::{until, until_true},
    words,
};

fn queue(daemon: &Daemon, to: &str, count: u64) {
    let file = daemon.new_file("queued.bin", 1, 300_000);
    let home = daemon.place().home_path();
    let answers = control::ask_many(home, count, &|n| control::send(&file, to, &format!("{n}.bin")));
    for events in answers {
        assert!(matches!(events.as_slice(), [Event::Queued { .. }]), "{events:?}");
    }
}

fn transfers(daemon: &Daemon) -> Vec<Summary> {
    let listed = control::ask(daemon.place().home_path(), &Request::List).unwrap();
    let summary = |event| match event {
        Event::Summary(summary) => summary,
        other => panic!("{other:?}"),
    };
    listed.into_iter().map(summary).collect()
}

/// The connection ID that a client makes up for its first packets, which tells one dial from another (RFC 9000, 17.2).
fn dialled_as(datagram: &[u8]) -> Option<Vec<u8>> {
    let is_initial = datagram.first()? & 0xf0 == 0xc0;
    let len = usize::from(*datagram.get(5)?);
    is_initial.then(|| datagram.get(6..6 + len).map(<[u8]>::to_vec)).flatten()
}

#[test]
fn many_jobs_for_a_peer_that_is_not_there_share_a_dial() {
    let daemon = Daemon::start("queue");
    let absent = UdpSocket::bind("127.0.0.1:0").unwrap();
    absent.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let address = absent.local_addr().unwrap().to_string();
    let (over, is_over) = mpsc::channel::<()>();
    let dials = thread::scope(|scope| {
        let listening = scope.spawn(move || {
            let (mut seen, mut buffer) = (HashSet::new(), [0; 2048]);
            while is_over.try_recv() == Err(mpsc::TryRecvError::Empty) {
                if let Ok(len) = absent.recv(&mut buffer) {
                    seen.extend(dialled_as(&buffer[..len]));
                }
            }
            seen.len()
        });
        queue(&daemon, &address, 300);
        until_true("all have failed", || transfers(&daemon).iter().all(|line| line.state == State::Failed));
        drop(over);
        listening.join().unwrap()
    });
    // One for whoever came first, one for all who came while that was under way, and one more for those who came late.
    assert!((1..=3).contains(&dials), "{dials} dials for 300 jobs");
    assert!(transfers(&daemon).iter().all(|line| line.error.as_ref().unwrap().contains("did not answer")));
}

#[test]
fn a_queue_that_is_too_long_for_its_peer_waits() {
    const MORE: usize = 12;
    let mut daemon = Daemon::start("queue");
    let before = daemon.descriptors();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (address, holding) = runtime.block_on(async {
        let peer = Hostile::new();
        let address = peer.address();
        // It takes every connection and conversation, and never says a word.
        let holding = tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                let connection = peer.accept_any().await;
                let streams = connection.0.clone();
                let taking = tokio::spawn(async move {
                    let mut open = Vec::new();
                    while let Ok(stream) = streams.accept_bi().await {
                        open.push(stream);
                    }
                });
                held.push((connection, taking));
            }
        });
        (address, holding)
    });
    let count = MAX_RUNNING_PER_TARGET + MORE;
    queue(&daemon, &address, count as u64);
    let is_queued = |line: &Summary| line.waiting == Some(WaitReason::Queue);
    until_true("the last ones wait for the others", || {
        transfers(&daemon).iter().filter(|line| is_queued(line)).count() == MORE
    });
    let running = daemon.descriptors();
    assert!(running <= before + 3 * MAX_RUNNING_PER_TARGET, "{running} descriptors for {count} jobs");

    // The same after a restart, and nothing is lost.
    daemon.restart();
    until_true("the last ones wait again", || {
        transfers(&daemon).iter().filter(|line| is_queued(line)).count() == MORE
    });
    assert_eq!(daemon.status()["unfinished"], count);

    // Whoever has a place and is cancelled gives it to one that waits.
    let numbers: Vec<_> = transfers(&daemon).iter().map(|line| line.transfer).collect();
    let first = transfers(&daemon).into_iter().find(|line| !is_queued(line)).unwrap().transfer;
    let home = daemon.place().home_path();
    assert_eq!(control::ask(home, &Request::Cancel(first)).unwrap(), [Event::Ok]);
    until_true("one more runs", || {
        transfers(&daemon).iter().filter(|line| is_queued(line)).count() == MORE - 1
    });
    let rest: Vec<_> = numbers.into_iter().filter(|number| *number != first).collect();
    control::ask_many(home, rest.len() as u64, &|n| Request::Cancel(rest[n as usize]));
    until_true("nothing is unfinished", || daemon.status()["unfinished"] == 0);
    holding.abort();
    drop(runtime);
    until("all descriptors are closed", || (daemon.descriptors() <= before).then_some(()));
}

#[test]
fn connections_and_transfers_leave_no_descriptor_and_little_memory() {
    const FILES: u64 = 40;
    let pair = Pair::new();
    // Once, so that what is opened at first use is open.
    let send = |n: u64| {
        let file = pair.a.new_file(&format!("{n}.bin"), n, 700_000);
        pair.a.cli().run(words!["send", file, "--to", pair.b.address(), "--detach"]).success();
    };
    send(FILES);
    pair.a.settled();
    pair.b.settled();
    let before = [pair.a.descriptors(), pair.b.descriptors()];
    (0..FILES).for_each(send);
    pair.a.settled();
    assert!(pair.b.settled().iter().all(|line| line["state"] == "done"));
    assert_eq!(pair.b.received().len() as u64, FILES + 1);
    for (daemon, before) in [&pair.a, &pair.b].into_iter().zip(before) {
        until_true("all descriptors are closed", || daemon.descriptors() <= before);
        // What the budgets allow to be in memory at once, and as much again for all else.
        let most = 2 * (p2p_protocol::limits::UNVERIFIED_BUDGET + p2p_protocol::limits::OUTGOING_BUDGET);
        assert!(daemon.peak_memory() < most, "{} bytes", daemon.peak_memory());
    }
}
