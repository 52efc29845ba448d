//! `p2p log`: what happened, the oldest first.

use std::time::Duration;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use p2p_protocol::control::{Direction, Event, Happening, LogEntry, LogRequest, Request};

use super::{
    list::now_ms,
    together::{self, Named},
};
use crate::{
    client,
    context::Context,
    error::CliError,
    format::{self, parse_time},
    json::Line,
};

pub(crate) async fn run(
    ctx: &Context,
    named: Option<Named>,
    since: Option<u64>,
    entries: u32,
) -> Result<(), CliError> {
    let of = match named {
        Some(named) => together::numbers(ctx, &[named]).await?.into_iter().map(Some).collect(),
        None => vec![None],
    };
    let mut found: Vec<LogEntry> = Vec::new();
    for transfer in of {
        let request = Request::Log(LogRequest { transfer, since_ms: since.unwrap_or(0), entries });
        let answer = ctx.connect().await?.ask_all(&request).await;
        for event in answer.map_err(|error| error.about(transfer))? {
            let Event::Log(entry) = event else { return Err(client::unexpected()) };
            found.push(entry);
        }
    }
    // What happened to several at one time stays in the order of their numbers.
    found.sort_by_key(|entry| entry.at_ms);
    let newest = found.split_off(found.len().saturating_sub(entries as usize));
    for entry in &newest {
        ctx.out.json(&Line::Entry(entry.into()))?;
        ctx.out.print(&line(entry, &TimeZone::system()))?;
    }
    if newest.is_empty() {
        ctx.out.say("nothing of that is remembered");
    }
    Ok(())
}

/// The moment that `--since` means: a time ago (`2h`), a day or a moment of this machine's clock, or one with an offset. In
/// milliseconds since 1970 UTC.
pub(crate) fn parse_since(text: &str) -> Result<u64, String> {
    since(text, now_ms(), &TimeZone::system())
}

fn since(text: &str, now_ms: u64, zone: &TimeZone) -> Result<u64, String> {
    if let Ok(ago) = parse_time(text) {
        return Ok(now_ms.saturating_sub(ago.as_millis() as u64));
    }
    let local = || text.parse::<DateTime>().ok().and_then(|time| zone.to_timestamp(time).ok());
    let moment = text.parse::<Timestamp>().ok().or_else(local);
    moment.map(|moment| moment.as_millisecond().max(0).cast_unsigned()).ok_or_else(|| {
        "neither a time ago, such as 2h, nor a moment, such as 2026-01-31 or 2026-01-31T18:00".to_owned()
    })
}

fn line(entry: &LogEntry, zone: &TimeZone) -> String {
    let at = Timestamp::from_millisecond(entry.at_ms.min(i64::MAX as u64).cast_signed()).unwrap_or_default();
    let at = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let transfer = entry.transfer.map(|transfer| transfer.to_string()).unwrap_or_default();
    format!("{at}  {transfer:>4}  {}", words(entry))
}

fn words(entry: &LogEntry) -> String {
    let name = &entry.name;
    let peer = match entry.peer {
        Some(peer) if entry.target.is_empty() || entry.target == peer.to_string() => peer.short(),
        None if entry.target.is_empty() => "a peer".to_owned(),
        _ => entry.target.clone(),
    };
    let (doing, did, way) = match entry.direction {
        Some(Direction::Send) | None => ("send", "sent", "to"),
        Some(Direction::Fetch) => ("fetch", "fetched", "from"),
        Some(Direction::Receive) => ("receive", "received", "from"),
        Some(Direction::Serve) => ("give", "gave", "to"),
    };
    let size = entry.bytes.map(|bytes| format!(" ({})", format::bytes(bytes))).unwrap_or_default();
    let detail = entry.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    match entry.what {
        Happening::Queued => format!("queued: {doing} {name} {way} {peer}"),
        Happening::Started => {
            let there = entry.moved_bytes.filter(|bytes| *bytes > 0);
            let there = there.map(|bytes| format!(", {} there already", format::bytes(bytes)));
            format!("started: {doing} {name}{size} {way} {peer}{}", there.unwrap_or_default())
        }
        Happening::Retrying => format!("broke, try {} follows{detail}", entry.attempt.unwrap_or_default()),
        Happening::Interrupted => format!("broke, waits for {peer}{detail}"),
        Happening::Paused => "paused".to_owned(),
        Happening::Resumed => "goes on".to_owned(),
        Happening::Done => {
            let time =
                entry.millis.map(|millis| format!(" in {}", format::duration(Duration::from_millis(millis))));
            let where_it_is = entry.detail.as_ref().map(|path| format!(", it is {path}")).unwrap_or_default();
            let moved = entry.moved_bytes.filter(|moved| Some(*moved) != entry.bytes);
            let moved = moved.map(|bytes| format!(", {} moved", format::bytes(bytes))).unwrap_or_default();
            format!("{did} {name}{size} {way} {peer}{}{moved}{where_it_is}", time.unwrap_or_default())
        }
        Happening::Failed => format!("failed: {doing} {name} {way} {peer}{detail}"),
        Happening::Cancelled => format!("cancelled: {doing} {name} {way} {peer}"),
        Happening::Trusted if name.is_empty() => format!("trusted {peer}"),
        Happening::Trusted => format!("trusted {peer} as {name}"),
        Happening::Forgotten => format!("forgot {peer}"),
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::PeerId;

    use super::*;

    fn entry(what: Happening) -> LogEntry {
        LogEntry {
            transfer: Some(7),
            direction: Some(Direction::Send),
            name: "a.iso".into(),
            peer: Some(PeerId([1; 32])),
            target: "fifi".into(),
            ..LogEntry::new(1_795_000_000_000, what)
        }
    }

    #[test]
    fn what_happened_is_said_in_words() {
        let started =
            LogEntry { bytes: Some(1 << 30), moved_bytes: Some(1 << 20), ..entry(Happening::Started) };
        let retrying =
            LogEntry { attempt: Some(2), detail: Some("it went away".into()), ..entry(Happening::Retrying) };
        let interrupted = LogEntry { target: String::new(), ..entry(Happening::Interrupted) };
        let done = LogEntry {
            bytes: Some(1 << 30),
            moved_bytes: Some(1 << 29),
            millis: Some(10_200),
            detail: Some("a (1).iso".into()),
            ..entry(Happening::Done)
        };
        let failed = LogEntry { detail: Some("no such file".into()), ..entry(Happening::Failed) };
        let trusted = LogEntry { transfer: None, name: "bob".into(), ..entry(Happening::Trusted) };
        let forgotten = LogEntry { transfer: None, ..entry(Happening::Forgotten) };
        let entries = [
            entry(Happening::Queued),
            started,
            retrying,
            interrupted,
            entry(Happening::Paused),
            entry(Happening::Resumed),
            done,
            failed,
            entry(Happening::Cancelled),
            trusted,
            forgotten,
        ];
        let lines: Vec<String> = entries.iter().map(|entry| line(entry, &TimeZone::UTC)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn since_is_a_time_ago_or_a_moment() {
        let at = |text| since(text, 1_795_000_000_000, &TimeZone::UTC);
        assert_eq!(at("2h"), Ok(1_795_000_000_000 - 7_200_000));
        assert_eq!(at("1970-01-02"), Ok(86_400_000));
        assert_eq!(at("1970-01-02T01:00"), Ok(90_000_000));
        assert_eq!(at("1970-01-02 01:00:01+01:00"), Ok(86_401_000));
        assert!(at("yesterday").is_err());
    }
}
