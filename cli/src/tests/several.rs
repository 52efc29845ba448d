//! Several paths in one command.

use super::*;

/// `send PATH`, with a second file beside it.
async fn send_two(words: &[&str], script: Vec<Turn>, person: Person) -> Ran {
    let other = tempfile::NamedTempFile::new().unwrap();
    let words = [&["send", "PATH", other.path().to_str().unwrap(), "--to", "fifi"], words].concat();
    run_with(&words, script, |ctx, _| ctx.person = person).await
}

fn of(transfer: u64, event: Event) -> Event {
    let Event::Transfer(mut event) = event else { return Event::Queued { transfer, batch: None } };
    match &mut event {
        TransferEvent::Started { transfer: number, .. }
        | TransferEvent::Done { transfer: number, .. }
        | TransferEvent::Failed { transfer: number, .. } => *number = transfer,
        other => panic!("{other:?}"),
    }
    Event::Transfer(event)
}

fn sent(transfer: u64) -> [Event; 2] {
    [of(transfer, started(Direction::Send, 0)), of(transfer, done(1000))]
}

#[tokio::test]
async fn each_is_shown_and_a_line_sums_up() {
    let script = || [QUEUED, of(8, QUEUED)].into_iter().chain(sent(8)).chain(sent(7));
    let ran = send_two(&[], vec![turn(script())], Person::Absent).await;
    assert_eq!((ran.code, ran.data.as_str()), (0, ""), "{}", ran.people);
    assert!(ran.people.contains("   8 sent a.iso: 1000 B"), "{}", ran.people);
    assert!(
        ran.people.lines().last().unwrap().starts_with("sent: 2 of 2, 2.0 KiB in 0.0 s"),
        "{}",
        ran.people
    );
    match ran.asked.as_slice() {
        [Request::SendEach(sends)] => assert_eq!(sends.len(), 2),
        other => panic!("{other:?}"),
    }
    let ran = send_two(&["--json"], vec![turn(script())], Person::Absent).await;
    let lines = ran.json();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["queued", "queued", "started", "done", "started", "done", "summary"]);
    assert!(lines[0]["path"].as_str().unwrap().ends_with("/a.iso"));
    let last = &lines[6];
    assert_eq!((&last["done"], &last["bytes"], &last["exit_code"]), (&2.into(), &2000.into(), &0.into()));
}

#[tokio::test]
async fn the_worst_end_is_the_commands() {
    let script = |failures: [Failure; 2]| {
        let [first, second] = failures.map(|failure| failed(failure, None));
        vec![turn([QUEUED, of(8, QUEUED), first, of(8, second)])]
    };
    for (failures, code) in [
        ([Failure::Unreachable, Failure::Refused], 5),
        ([Failure::Integrity, Failure::Refused], 7),
        ([Failure::NotFound, Failure::Conflict], 6),
    ] {
        let ran = send_two(&["--json"], script(failures), Person::Absent).await;
        assert_eq!(ran.code, code);
        let lines = ran.json();
        assert_eq!(lines.iter().filter(|line| line["event"] == "failed").count(), 2);
        assert_eq!(lines.last().unwrap()["exit_code"], code);
        let ran = send_two(&[], script(failures), Person::Absent).await;
        assert_eq!(ran.people.matches("error: transfer ").count(), 2, "{}", ran.people);
    }
}

#[tokio::test]
async fn an_unknown_key_is_asked_about_once() {
    let unknown = || failed(Failure::UnknownKey, Some(PEER));
    let refused = turn([QUEUED, of(8, QUEUED), unknown(), of(8, unknown())]);
    let again = [9, 10]
        .map(|transfer| Event::Queued { transfer, batch: None })
        .into_iter()
        .chain(sent(9))
        .chain(sent(10));
    let ran = send_two(&[], vec![refused.clone(), turn(again)], Person::Says("y")).await;
    assert_eq!((ran.code, ran.people.matches("[y/N]").count()), (0, 1), "{}", ran.people);
    match ran.asked.as_slice() {
        [Request::SendEach(_), Request::SendEach(again)] => {
            assert!(again.len() == 2 && again.iter().all(|send| send.key == KeyPolicy::Exactly(PEER)));
        }
        other => panic!("{other:?}"),
    }
    let ran = send_two(&[], vec![refused], Person::Says("n")).await;
    assert_eq!((ran.code, ran.asked.len()), (5, 1), "{}", ran.people);
}

#[tokio::test]
async fn those_that_are_open_are_watched_on_when_the_daemon_comes_back() {
    let first = [QUEUED, of(8, QUEUED)].into_iter().chain(sent(8));
    let ran = send_two(&[], vec![turn(first), turn(sent(7))], Person::Absent).await;
    assert_eq!(ran.code, 0, "{}", ran.people);
    assert_eq!(ran.asked[1], Request::WatchEach(vec![7]));
    assert!(ran.people.contains("sent: 2 of 2"), "{}", ran.people);
}

#[tokio::test]
async fn a_command_whose_time_is_over_sums_up_too() {
    let script = || vec![turn([QUEUED, of(8, QUEUED)].into_iter().chain(sent(8)))];
    let patient = |ctx: &mut Context, _: &Path| ctx.patience = Duration::from_secs(1000);
    let other = tempfile::NamedTempFile::new().unwrap();
    let words = ["send", "PATH", other.path().to_str().unwrap(), "--to", "fifi", "--timeout", "1s"];
    let ran = run_with(&[&words[..], &["--json"]].concat(), script(), patient).await;
    let lines = ran.json();
    let [.., timeout, summary] = lines.as_slice() else { panic!("{}", ran.data) };
    assert_eq!((&timeout["event"], &timeout["transfer"]), (&"timeout".into(), &7.into()));
    assert_eq!((&summary["transfers"], &summary["done"]), (&2.into(), &1.into()));
    assert_eq!((ran.code, &summary["exit_code"]), (1, &1.into()));
    let ran = run_with(&words, script(), patient).await;
    assert!(
        ran.people.contains("sent: 1 of 2") && ran.people.contains("1 transfer goes on"),
        "{}",
        ran.people
    );
}

#[tokio::test]
async fn detached_prints_the_numbers_in_the_order_of_the_paths() {
    let script = || vec![turn([of(9, QUEUED), of(8, QUEUED)])];
    let ran = send_two(&["--detach"], script(), Person::Absent).await;
    assert_eq!((ran.code, ran.data.as_str()), (0, "9\n8\n"));
    let ran = send_two(&["--detach", "--json"], script(), Person::Absent).await;
    let lines = ran.json();
    assert_eq!(lines.len(), 2, "{}", ran.data);
    assert_eq!((&lines[0]["transfer"], &lines[0]["event"]), (&9.into(), &"queued".into()));
}
