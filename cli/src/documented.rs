//! `docs/cli.md` says what the command line does: every verb, flag and JSON key, and none that is not there.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Command, CommandFactory};
use p2p_protocol::{
    Batch, BatchId, ChunkRange, FileId, PeerId,
    control::{
        Confinement, Direction, EntryKind, FolderEntry, Happening, LogEntry, PeerInfo, Planned, Progress,
        Standing, State, Status, Summary, TicketInfo, WaitReason, Writing,
    },
    queue::Priority,
    rate::{InForce, Limits, Source},
    rules::Rules,
    wire::peer::Shared,
};
use serde_json::{Map, Value};

use crate::{
    args::Typed,
    commands::example,
    json::{
        BatchLine, Check, FailedChunk, Line, Missing, Numbers, ServiceLine, Verdict, Wait, Written, encode,
    },
};

const TEXT: &str = include_str!("../../docs/cli.md");
const ID: FileId = FileId([2; 32]);
const PEER: PeerId = PeerId([1; 32]);

/// Words that a verb is typed with, such as `peers trust`.
fn verbs(command: &Command, before: &str, found: &mut Vec<(String, Command)>) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let words = format!("{before} {}", verb.get_name());
        verbs(verb, &words, found);
        found.push((words, verb.clone()));
    }
}

#[test]
fn every_verb_and_flag_is_documented() {
    let mut command = Typed::command();
    command.build();
    let mut found = Vec::new();
    verbs(&command, "p2p", &mut found);
    assert!(found.len() > 20);
    for (words, verb) in found {
        assert!(TEXT.contains(&format!("`{words}")), "docs/cli.md does not name {words}");
        for flag in verb.get_arguments().filter_map(|arg| arg.get_long()) {
            assert!(
                TEXT.contains(&format!("--{flag}")) || flag == "help",
                "docs/cli.md lacks --{flag} of {words}"
            );
        }
    }
}

/// The event of a line; a new one has to be added here, and then to the lines below.
fn is_shown_below(line: &Line<'_>) {
    match line {
        Line::Queued { .. } | Line::Started { .. } | Line::Waiting { .. } | Line::Progress { .. } => {}
        Line::LeftOut { .. } | Line::SameName { .. } | Line::Summary { .. } => {}
        Line::ChunkFailed { .. } | Line::Retrying { .. } | Line::Done { .. } | Line::Failed { .. } => {}
        Line::Interrupted { .. } | Line::Timeout { .. } | Line::Shared { .. } | Line::Unshared { .. } => {}
        Line::Cancelled { .. } | Line::Verified { .. } | Line::Id { .. } | Line::Trusted { .. } => {}
        Line::Accepted { .. } | Line::Rejected { .. } => {}
        Line::Invited { .. } | Line::Invitation { .. } | Line::Uninvited { .. } | Line::Joined { .. } => {}
        Line::IdExported { .. } | Line::IdImported { .. } | Line::IdRotated { .. } => {}
        Line::Ticketed { .. } | Line::Ticket(_) | Line::TicketRemoved { .. } => {}
        Line::Paused { .. }
        | Line::Resumed { .. }
        | Line::Priority { .. }
        | Line::Limit { .. }
        | Line::Limits(_) => {}
        Line::Forgotten { .. }
        | Line::Listed(_)
        | Line::FolderEntry(_)
        | Line::Planned(_)
        | Line::Transfer(_)
        | Line::Detail { .. }
        | Line::Peer(_) => {}
        Line::Service(_)
        | Line::ServicePlan { .. }
        | Line::Log { .. }
        | Line::Entry(_)
        | Line::ConfigWritten { .. }
        | Line::Check(_)
        | Line::Probe { .. } => {}
        Line::Status(_) | Line::Demo { .. } | Line::DemoDone { .. } => {}
    }
}

fn lines() -> Vec<Value> {
    let batch = Some(Batch { id: BatchId([7; 16]), position: 0, count: 2, total_bytes: Some(1) });
    let summary = Summary { batch, ..example(7, State::Active) };
    let listed = Shared { file_id: ID, name: String::new(), is_folder: false, size: Some(1) };
    let folder_entry = FolderEntry {
        path: "a".into(),
        kind: EntryKind::File,
        size: Some(1),
        file_id: Some(ID),
        target: Some("a".into()),
    };
    let planned = Planned {
        file_id: ID,
        name: "a".into(),
        is_folder: true,
        files: 1,
        bytes: 1,
        files_to_move: 1,
        bytes_to_move: 1,
        path: Some("a".into()),
    };
    let info = PeerInfo {
        id: PEER,
        standing: Standing::Trusted,
        name: None,
        send: true,
        fetch: true,
        addresses: Vec::new(),
        connected: true,
        rules: Rules::default(),
    };
    let status = Status {
        version: "1".into(),
        pid: 1,
        peer: PEER,
        listen: Vec::new(),
        home: String::new(),
        inbox: String::new(),
        uptime_s: 1,
        unfinished: 1,
        connections: 1,
        shares: 1,
        confinement: Confinement {
            writing: Writing::Landlock { abi: 6, folders: Vec::new(), tcp_refused: true },
            no_new_privs: true,
            dumpable: false,
        },
        limits: InForce { limits: Limits::default(), source: Source::Config },
    };
    let ticket = TicketInfo { number: 1, file_id: ID, uses: None, used: 0, created_ms: 1, expires_ms: None };
    let (transfer, path, name, hints) = (7, "a", "a", ["b".to_owned()]);
    let entry = LogEntry::new(1, Happening::Done);
    let range = ChunkRange { start: 0, count: 1 };
    let lines = [
        Line::Queued { transfer, path: Some("a"), batch: BatchLine::of(batch) },
        Line::Started {
            transfer,
            direction: Direction::Send,
            name,
            peer: PEER,
            total_bytes: 1,
            resumed_bytes: 0,
            batch: BatchLine::of(batch),
        },
        Line::Waiting { transfer, reason: Wait::Reason(WaitReason::Peer) },
        Line::Progress { transfer, numbers: Numbers::from(&Progress::default()) },
        Line::ChunkFailed { transfer, chunk: 1, peer: PEER, reason: "corrupt" },
        Line::LeftOut { transfer, path: "run/socket", reason: "a socket" },
        Line::SameName { transfer, paths: &["Makefile".to_owned(), "makefile".to_owned()] },
        Line::Retrying { transfer, attempt: 2, in_s: 1.0, reason: "gone" },
        Line::Done {
            transfer,
            file_id: ID,
            path,
            bytes: 1,
            moved_bytes: 1,
            seconds: 1.0,
            fetch: None,
            part_of: None,
        },
        Line::Failed {
            transfer: None,
            code: "refused",
            message: "",
            exit_code: 5,
            hints: &hints,
            key: Some(PEER),
        },
        Line::Summary {
            transfers: 2,
            done: 2,
            failed: 0,
            bytes: 1,
            moved_bytes: 1,
            seconds: 1.0,
            exit_code: 0,
        },
        Line::Interrupted { transfer: None, exit_code: 130 },
        Line::Timeout { transfer: None, exit_code: 1 },
        Line::Shared { file_id: ID, path, audience: "all" },
        Line::Unshared { file_id: ID },
        Line::Cancelled { transfer, left: Some(path) },
        Line::Paused { transfer },
        Line::Resumed { transfer },
        Line::Priority { transfer, priority: Priority::High },
        Line::Limit { transfer, limit_bps: Some(1) },
        Line::Accepted { transfer },
        Line::Rejected { transfer },
        Line::Verified { path, file_id: ID, ok: true, actual: ID },
        Line::Id { peer: "a" },
        Line::IdExported { peer: "a", path },
        Line::IdImported { peer: "a" },
        Line::IdRotated { peer: "a" },
        Line::Trusted { peer: PEER },
        Line::Forgotten { peer: "a" },
        Line::Invited { token: "a", number: 1, expires_ms: 1, addresses: &hints },
        Line::Invitation { number: 1, allow: &["send"], created_ms: 1, expires_ms: 1, used_by: None },
        Line::Uninvited { number: 1 },
        Line::Ticketed { token: "a", ticket: (&ticket).into(), addresses: &hints },
        Line::Ticket((&ticket).into()),
        Line::TicketRemoved { number: 1 },
        Line::Joined { peer: PEER, name, address: "a" },
        Line::Transfer((&summary).into()),
        Line::Detail {
            transfer: (&summary).into(),
            chunk_bytes: 1,
            waits: Some(p2p_protocol::waits::Shares::default()),
            missing: vec![Missing::new(range, 1, 1)],
            failed_chunks: vec![FailedChunk { chunk: 1, reason: "corrupt" }],
        },
        Line::Listed((&listed).into()),
        Line::FolderEntry((&folder_entry).into()),
        Line::Planned((&planned).into()),
        Line::Entry((&entry).into()),
        Line::Peer((&info).into()),
        Line::Status((&status).into()),
        Line::Limits((&status.limits).into()),
        Line::Service(ServiceLine {
            manager: "systemd",
            name,
            file: path,
            installed: true,
            state: None,
            pid: None,
            version: None,
        }),
        Line::ServicePlan {
            writes: vec![Written { path: path.to_owned(), text: "" }],
            removes: Vec::new(),
            runs: Vec::new(),
        },
        Line::Log { line: "a" },
        Line::ConfigWritten { path },
        Line::Probe {
            peer: PEER,
            address: "a",
            connect_ms: None,
            round_trip_ms: 1.0,
            mtu: 1,
            protocol: "a",
            trusts: None,
            version: "a",
            peer_version: None,
            down_bps: None,
            up_bps: None,
        },
        Line::Check(&Check {
            check: "home".to_owned(),
            verdict: Verdict::Ok,
            found: String::new(),
            advice: None,
        }),
        Line::Demo { step: "a" },
        Line::DemoDone { file_id: ID, bytes: 1, kept_bytes: 1, moved_bytes: 1, seconds: 1.0, rate_bps: None },
    ];
    lines
        .iter()
        .inspect(|line| is_shown_below(line))
        .map(|line| serde_json::from_slice(&encode(line).unwrap()).unwrap())
        .collect()
}

/// An object's keys, with those of the objects in it.
fn keys(object: &Map<String, Value>) -> BTreeSet<String> {
    let below = |(key, value): (&String, &Value)| match value {
        Value::Array(values) => {
            let inner = values
                .iter()
                .filter_map(Value::as_object)
                .flat_map(keys)
                .map(|inner| format!("{key}.{inner}"));
            inner.chain([key.clone()]).collect::<Vec<_>>()
        }
        Value::Object(inner) => keys(inner).into_iter().map(|inner| format!("{key}.{inner}")).collect(),
        _ => vec![key.clone()],
    };
    object.iter().flat_map(below).collect()
}

fn by_event(lines: impl Iterator<Item = Value>) -> BTreeMap<String, BTreeSet<String>> {
    let keyed =
        lines.map(|line| (line["event"].as_str().unwrap().to_owned(), keys(line.as_object().unwrap())));
    keyed.collect()
}

#[test]
fn every_key_of_the_json_is_documented_and_no_other() {
    let shown = TEXT.lines().filter(|line| line.starts_with("{\"event\""));
    let shown = by_event(
        shown.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))),
    );
    assert_eq!(shown, by_event(lines().into_iter()));
}

#[test]
fn packages_are_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    for (text, place) in [
        (include_str!("../../docs/packaging/PKGBUILD"), format!("pkgver={version}\n")),
        (include_str!("../../docs/packaging/p2p.rb"), format!("/v{version}.tar.gz")),
        (include_str!("../../docs/packaging/flake.nix"), format!("version = \"{version}\";")),
    ] {
        assert!(text.contains(&place), "{text}");
    }
}
