//! Commands that name several transfers.

use p2p_protocol::{
    Batch, BatchId,
    control::{RequestError, Summary},
};

use super::*;

fn error(failure: Failure) -> Turn {
    turn([Event::Error(RequestError { failure, message: "not so".into(), key: None })])
}

#[tokio::test]
async fn each_is_done_whatever_becomes_of_the_others() {
    for verb in ["pause", "resume", "cancel"] {
        let script = vec![error(Failure::Conflict), turn([Event::Ok]), error(Failure::NotFound)];
        let ran = run(&[verb, "7", "8", "9", "--json"], script).await;
        assert_eq!((ran.code, ran.asked.len()), (6, 3), "{verb}: {}", ran.people);
        let lines = ran.json();
        let of = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
        assert_eq!((of("failed"), lines.len()), (2, 3), "{verb}: {}", ran.data);
        assert_eq!((&lines[0]["transfer"], &lines[1]["transfer"]), (&7.into(), &8.into()));
        // One alone says what was wrong, once.
        let ran = run(&[verb, "7"], vec![error(Failure::Conflict)]).await;
        assert_eq!((ran.code, ran.people.as_str()), (9, "error: not so\n"), "{verb}");
    }
}

#[tokio::test]
async fn a_word_names_all_that_were_offered_together() {
    let member = |transfer, position| {
        let batch = Batch { id: BatchId([1; 16]), position, count: 2, total_bytes: None };
        Event::Summary(Summary { batch: Some(batch), ..commands::example(transfer, State::Active) })
    };
    let list = || turn([member(7, 0), Event::Summary(commands::example(8, State::Active)), member(9, 1)]);
    let ran = run(&["cancel", "b9"], vec![list(), turn([Event::Ok]), turn([Event::Ok])]).await;
    assert_eq!(ran.code, 0, "{}", ran.people);
    assert_eq!(ran.asked, [Request::List, Request::Cancel(7), Request::Cancel(9)]);
    let ran = run(&["pause", "b8"], vec![list()]).await;
    assert_eq!(ran.code, 6, "{}", ran.people);
    let ran = run(&["list"], vec![list()]).await;
    assert!(ran.data.contains("a.iso (b7, 1 of 2)") && ran.data.contains("(b7, 2 of 2)"), "{}", ran.data);
}

#[tokio::test]
async fn one_word_takes_all_that_were_offered_together() {
    let member = |transfer, position| {
        let batch = Batch { id: BatchId([1; 16]), position, count: 2, total_bytes: None };
        Event::Summary(Summary { batch: Some(batch), ..commands::example(transfer, State::Waiting) })
    };
    let script = || vec![turn([member(7, 0), member(9, 1)])];
    let ran = run(&["inbox", "accept", "7"], script()).await;
    assert_eq!(ran.people, "offer 7, all 2 of it, is accepted; see it with: p2p watch b7\n");
    let ran = run(&["inbox", "reject", "9", "--json"], script()).await;
    assert_eq!(
        ran.data,
        "{\"event\":\"rejected\",\"transfer\":7}\n{\"event\":\"rejected\",\"transfer\":9}\n"
    );
}

#[tokio::test]
async fn a_word_that_names_nothing_stops_none_of_the_others() {
    let list = || turn([Event::Summary(commands::example(8, State::Active))]);
    let ran = run(&["cancel", "b2", "8"], vec![list(), turn([Event::Ok])]).await;
    assert_eq!((ran.code, ran.asked.last()), (6, Some(&Request::Cancel(8))), "{}", ran.people);
    let ended =
        TransferEvent::Failed { transfer: 8, failure: Failure::Storage, message: "full".into(), key: None };
    let script = || vec![list(), turn([Event::Transfer(ended.clone())])];
    let ran = run(&["wait", "99", "b2", "8"], script()).await;
    assert_eq!((ran.code, ran.asked.last()), (8, Some(&Request::WatchEach(vec![8]))), "{}", ran.people);
    for words in ["there is no transfer 99", "transfer 2 was not offered", "transfer 8: full"] {
        assert!(ran.people.contains(words), "{words}: {}", ran.people);
    }
    let ran = run(&["wait", "b2"], vec![list()]).await;
    assert_eq!((ran.code, ran.people.lines().count()), (6, 2), "{}", ran.people);
}
