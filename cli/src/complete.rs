//! What a shell offers after Tab: peers, transfers and File IDs come from the daemon, if one runs.
//!
//! A shell waits for the answer with every key pressed, so that whatever is slow or wrong is just not offered.

use std::{collections::BTreeMap, ffi::OsStr, path::PathBuf, time::Duration};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use p2p_protocol::{
    control::{Event, Request, State, Summary, WaitReason},
    name::printable,
};

use crate::{
    client::Client,
    commands::{Words, is_offer},
    context::{default_home, home_from_env},
};

/// Longest wait for the daemon.
const PATIENCE: Duration = Duration::from_millis(500);

/// Peers: by name, else by Peer ID, and the addresses that are known of them.
pub(crate) fn targets() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| offer(typed, peers(true)))
}

/// Peers by name, else by Peer ID.
pub(crate) fn peer_names() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| offer(typed, peers(false)))
}

/// Peers by Peer ID.
pub(crate) fn peer_ids() -> ArgValueCompleter {
    told(Request::Peers, |event| match event {
        Event::Peer(peer) => Some((peer.id.to_string(), peer.name.unwrap_or_default())),
        _ => None,
    })
}

/// All transfers.
pub(crate) fn transfers() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| offer(typed, numbers(|_| true)))
}

/// Offers that wait for a yes.
pub(crate) fn offers() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| offer(typed, named(&summaries(), is_offer)))
}

/// Transfers that have not ended.
pub(crate) fn running() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        offer(typed, numbers(|state| matches!(state, State::Waiting | State::Active)))
    })
}

/// Transfers that are held back.
pub(crate) fn paused() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        offer(typed, named(&summaries(), |one| one.waiting == Some(WaitReason::Paused)))
    })
}

/// Transfers that can be taken up again.
pub(crate) fn broken() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        offer(typed, numbers(|state| matches!(state, State::Failed | State::Cancelled)))
    })
}

/// File IDs of transfers.
pub(crate) fn file_ids() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let ids =
            summaries().into_iter().filter_map(|summary| Some((summary.file_id?.to_string(), summary.name)));
        offer(typed, ids.collect())
    })
}

/// File IDs of what is shared.
pub(crate) fn shared() -> ArgValueCompleter {
    told(Request::Shares, |event| match event {
        Event::Shared { file_id, path, .. } => Some((file_id.to_string(), path)),
        _ => None,
    })
}

/// Tickets that hold.
pub(crate) fn tickets() -> ArgValueCompleter {
    told(Request::Shares, |event| match event {
        Event::Ticket(ticket) => Some((ticket.number.to_string(), ticket.file_id.to_string())),
        _ => None,
    })
}

/// Invitations that hold.
pub(crate) fn invitations() -> ArgValueCompleter {
    told(Request::Invites, |event| match event {
        Event::Invitation(one) => Some((one.number.to_string(), one.used_by.unwrap_or_default())),
        _ => None,
    })
}

/// Words that are always the same.
pub(crate) fn words(words: &'static str) -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        offer(typed, words.split('|').map(|word| (word.to_owned(), String::new())).collect())
    })
}

/// What the daemon answers, each with a word on what it is.
fn told(request: Request, pick: fn(Event) -> Option<(String, String)>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        offer(typed, ask(request.clone()).into_iter().filter_map(pick).collect())
    })
}

fn peers(with_addresses: bool) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for event in ask(Request::Peers) {
        let Event::Peer(peer) = event else { continue };
        let id = peer.id.to_string();
        let addresses = peer.addresses.join(", ");
        match peer.name {
            Some(name) => found.push((name, addresses.clone())),
            None => found.push((id.clone(), addresses.clone())),
        }
        if with_addresses {
            found.extend(peer.addresses.into_iter().map(|address| (address, id.clone())));
        }
    }
    found
}

fn numbers(wanted: impl Fn(State) -> bool) -> Vec<(String, String)> {
    named(&summaries(), |summary| wanted(summary.state))
}

/// Numbers of transfers, and the words for those that were offered together.
fn named(all: &[Summary], wanted: impl Fn(&Summary) -> bool) -> Vec<(String, String)> {
    let words = Words::of(all);
    let (mut numbers, mut batches) = (Vec::new(), BTreeMap::new());
    for summary in all.iter().filter(|summary| wanted(summary)) {
        numbers.push((summary.transfer.to_string(), summary.name.clone()));
        if let Some(word) = words.word(summary.transfer) {
            batches.entry(word.to_owned()).or_insert_with(Vec::new).push(summary.name.as_str());
        }
    }
    numbers.extend(batches.into_iter().map(|(word, names)| (word, names.join(", "))));
    numbers
}

fn summaries() -> Vec<Summary> {
    let events = ask(Request::List).into_iter();
    events
        .filter_map(|event| if let Event::Summary(summary) = event { Some(summary) } else { None })
        .collect()
}

/// Values that begin with what was typed, each with a word on what it is. Values are typed back as they are, so that
/// none with a blank or worse in it is offered.
fn offer(typed: &OsStr, values: Vec<(String, String)>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let plain = |value: &str| value.chars().all(|c| c.is_alphanumeric() || "-_.:[]@%".contains(c));
    let fitting = values.into_iter().filter(|(value, _)| value.starts_with(&*typed) && plain(value));
    fitting
        .map(|(value, what)| CompletionCandidate::new(value).help(Some(printable(&what).to_string().into())))
        .collect()
}

fn ask(request: Request) -> Vec<Event> {
    let Some(home) = home() else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let answer = async { Client::connect(&home).await.ok()?.ask_all(&request).await.ok() };
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, answer).await.ok().flatten() })
        .unwrap_or_default()
}

/// The home that the command line so far names.
fn home() -> Option<PathBuf> {
    let words: Vec<_> = std::env::args_os().skip_while(|word| word != "--").collect();
    let typed =
        words.iter().enumerate().find_map(|(at, word)| match word.to_str()?.strip_prefix("--home")? {
            "" => words.get(at + 1).map(PathBuf::from),
            given => given.strip_prefix('=').map(PathBuf::from),
        });
    typed.filter(|home| !home.as_os_str().is_empty()).or_else(home_from_env).or_else(default_home)
}

#[cfg(test)]
mod tests {
    use p2p_protocol::{Batch, BatchId};

    use super::*;
    use crate::commands::example;

    #[test]
    fn what_was_offered_together_has_a_word_too() {
        let member = |transfer, position| {
            let batch = Batch { id: BatchId([1; 16]), position, count: 3, total_bytes: None };
            Summary { batch: Some(batch), name: format!("f{transfer}"), ..example(transfer, State::Active) }
        };
        let all = [member(7, 0), example(8, State::Active), member(9, 1), member(10, 2)];
        let offered = named(&all, |summary| summary.transfer != 7);
        let words: Vec<&str> = offered.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words, ["8", "9", "10", "b7"]);
        assert_eq!(offered[3].1, "f9, f10");
    }

    #[test]
    fn what_was_typed_narrows_and_what_a_shell_would_split_is_left_out() {
        let values = ["bob", "boris", "carl", "bo b", "bo;b", "bo$b"];
        let values = values.map(|value| (value.to_owned(), "a\x1b[2Jb".to_owned())).to_vec();
        let offered = offer(OsStr::new("bo"), values);
        let names: Vec<_> = offered.iter().map(|candidate| candidate.get_value().to_str().unwrap()).collect();
        assert_eq!(names, ["bob", "boris"]);
        assert!(!offered[0].get_help().unwrap().to_string().contains('\x1b'));
    }
}
