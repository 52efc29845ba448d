//! `p2p show`: one transfer in full, down to the chunks that are missing and those that failed.

use p2p_protocol::{
    control::{Detail, Direction, Event, Request, State, Summary, WaitReason},
    queue::Priority,
    waits::{Shares, Stage},
};

use super::{
    list::now_ms,
    together::{self, Named, Words},
};
use crate::{
    client,
    context::Context,
    error::CliError,
    format,
    json::{FailedChunk, Line, Missing, chunk_failure, mode, priority, stage},
    map,
};

/// Characters before what a line is about.
const INDENT: u32 = 12;
/// Most ranges of missing chunks that are shown to a person; JSON has all.
const SHOWN_RANGES: usize = 20;

pub(crate) async fn run(ctx: &Context, transfer: Named) -> Result<(), CliError> {
    together::each_of(ctx, &[transfer], |_| true, async |transfer| one(ctx, transfer).await).await
}

async fn one(ctx: &Context, transfer: u64) -> Result<(), CliError> {
    let answer = ctx.connect().await?.ask_all(&Request::Show(transfer)).await;
    let answer = answer.map_err(|error| error.about(Some(transfer)))?;
    let [Event::Detail(detail)] = answer.as_slice() else {
        return Err(client::unexpected());
    };
    ctx.out.json(&Line::Detail {
        transfer: (&detail.summary).into(),
        chunk_bytes: detail.chunk_len,
        waits: detail.summary.progress.waits,
        missing: missing(detail),
        failed_chunks: detail
            .failed_chunks
            .iter()
            .map(|(chunk, reason)| FailedChunk { chunk: *chunk, reason: chunk_failure(*reason) })
            .collect(),
    })?;
    let batches = match detail.summary.batch {
        Some(_) => Words::of(&together::all(ctx).await?),
        None => Words::of(&[]),
    };
    lines(detail, batches.of_transfer(transfer), now_ms()).iter().try_for_each(|line| ctx.out.print(line))?;
    for (number, row) in map::draw(detail, ctx.out.width().saturating_sub(INDENT)).iter().enumerate() {
        let label = if number == 0 { "  map" } else { "" };
        ctx.out.paint(&format!("{label:<indent$}", indent = INDENT as usize), row)?;
    }
    if let State::Failed | State::Cancelled = detail.summary.state
        && let Direction::Send | Direction::Fetch = detail.summary.direction
    {
        ctx.out.say(&format!("go on from there with: {}", ctx.suggest(&format!("retry {transfer}"))));
    }
    if detail.summary.waiting == Some(WaitReason::Paused) {
        ctx.out.say(&format!("let it go on with: {}", ctx.suggest(&format!("resume {transfer}"))));
    }
    Ok(())
}

fn missing(detail: &Detail) -> Vec<Missing> {
    let total = detail.summary.progress.total_bytes;
    detail.missing.iter().map(|range| Missing::new(*range, detail.chunk_len, total)).collect()
}

fn lines(detail: &Detail, batch: Option<&str>, now_ms: u64) -> Vec<String> {
    let summary = &detail.summary;
    let progress = &summary.progress;
    let mut lines =
        vec![format!("transfer {}: {} of {}", summary.transfer, summary.direction.word(), summary.name)];
    let mut row = |label: &str, text: String| lines.push(format!("  {label:<9} {text}"));

    row("state", state(detail, now_ms));
    if let Some(waits) = progress.waits.filter(|_| summary.state == State::Active)
        && let Some(by) = waits.largest()
    {
        row("limited", format!("by {}: {}", limited_by(by), shares(waits)));
    }
    if summary.priority != Priority::Normal {
        row("priority", priority(summary.priority).to_owned());
    }
    if summary.background {
        row("yields", "to whatever else is on the way (--background)".to_owned());
    }
    if let Some(limit) = summary.limit {
        row("limit", limit.to_string());
    }
    if let Some(error) = &summary.error {
        row(if summary.state == State::Failed { "why" } else { "trouble" }, error.clone());
    }
    match (summary.peer, summary.target.as_str()) {
        (Some(peer), "") => row("peer", peer.to_string()),
        (Some(peer), target) if target != peer.to_string() => row("peer", format!("{target} ({peer})")),
        (Some(peer), _) => row("peer", peer.to_string()),
        (None, target) => row("peer", target.to_owned()),
    }
    if let Some(file_id) = summary.file_id {
        row("file id", file_id.to_string());
    }
    if let Some(batch) = batch {
        row("together", format!("{batch} that are one offer"));
    }
    if let Some(path) = &summary.path {
        row("path", path.clone());
        if summary.progressive && summary.state != State::Done {
            row("", "in which each file is there as soon as it is whole (--progressive)".to_owned());
        }
    }
    if let Some(landed) = summary.landed.as_ref().filter(|landed| Some(*landed) != summary.path.as_ref()) {
        row("landed", format!("{landed}, at the receiver"));
    }
    if progress.chunks_total == 0 {
        return lines;
    }
    row(
        "verified",
        format!(
            "{} of {} ({}%), {} of {} chunks of {}",
            format::bytes(progress.verified_bytes),
            format::bytes(progress.total_bytes),
            format::percent(progress.verified_bytes, progress.total_bytes),
            progress.chunks_verified,
            progress.chunks_total,
            format::bytes(detail.chunk_len),
        ),
    );
    row("moved", format!("{} over the network", format::bytes(progress.moved_bytes)));
    if progress.chunks_failed > 0 || !detail.failed_chunks.is_empty() {
        row(
            "failed",
            format!("{}, dropped and asked for again", format::count(progress.chunks_failed, "chunk")),
        );
        for (chunk, reason) in &detail.failed_chunks {
            row("", format!("chunk {chunk}: {reason}"));
        }
    }
    let rest = progress.chunks_total.saturating_sub(progress.chunks_verified);
    if rest > 0 {
        let bytes = progress.total_bytes.saturating_sub(progress.verified_bytes);
        row("missing", format!("{}, {}", format::count(rest, "chunk"), format::bytes(bytes)));
        let ranges = missing(detail);
        for (range, missing) in detail.missing.iter().zip(&ranges).take(SHOWN_RANGES) {
            let last = u64::from(range.start) + u64::from(range.count.saturating_sub(1));
            let chunks = if range.count == 1 {
                format!("chunk {}", range.start)
            } else {
                format!("chunks {}-{last}", range.start)
            };
            if let Some((first, last, len)) = missing.span() {
                row("", format!("{chunks}: bytes {first}-{last} ({})", format::bytes(len)));
            }
        }
        if ranges.len() > SHOWN_RANGES {
            row("", format!("and {} more ranges (all of them with --json)", ranges.len() - SHOWN_RANGES));
        }
    }
    lines
}

/// What limits it, in words.
fn limited_by(stage: Stage) -> &'static str {
    match stage {
        Stage::Source => "reading the source's disk",
        Stage::Hashing => "hashing, which the processor does",
        Stage::Path => "the way between the two machines",
        Stage::Peer => "the peer: its disk, or what it takes and gives at a time",
        Stage::Disk => "writing to this machine's disk",
        Stage::Limit => "a limit that was set",
    }
}

/// Where the chunks' time goes, the largest share first.
fn shares(waits: Shares) -> String {
    let mut shares = waits.each().to_vec();
    shares.retain(|(_, share)| *share > 0);
    shares.sort_by_key(|(_, share)| std::cmp::Reverse(*share));
    shares.iter().map(|(of, share)| format!("{} {share}%", stage(*of))).collect::<Vec<_>>().join(", ")
}

fn state(detail: &Detail, now_ms: u64) -> String {
    let summary = &detail.summary;
    let progress = &summary.progress;
    let when = summary.ended_ms.map(|at| format!(" {}", format::ago(at, now_ms))).unwrap_or_default();
    match (summary.state, summary.waiting) {
        (State::Waiting | State::Active, Some(reason)) => waiting(summary, reason).to_owned(),
        (State::Waiting, None) => "waiting".to_owned(),
        (State::Active, None) => {
            let rest = progress.total_bytes.saturating_sub(progress.verified_bytes);
            let left = format::eta_s(rest, progress.rate)
                .map(|s| format!(", {} left", format::eta(s)))
                .unwrap_or_default();
            let (rate, streams) = (format::rate(progress.rate), format::count(progress.streams, "stream"));

            let how = mode(progress.parallel);
            let limited = if progress.limited { ", held back by a limit" } else { "" };
            format!("moving at {rate}, {how}, {streams}{left}{limited}")
        }
        (State::Done, _) => format!("done{when}"),
        (State::Failed, _) => format!("failed{when}"),
        (State::Cancelled, _) => format!("cancelled{when}"),
    }
}

fn waiting(summary: &Summary, reason: WaitReason) -> &'static str {
    let is_received = matches!(summary.direction, Direction::Receive | Direction::Fetch);
    match reason {
        WaitReason::Hashing => "hashing the source",
        WaitReason::Accept if is_received => "waiting until you accept it",
        WaitReason::Accept => "waiting until the receiver's owner accepts or resumes it",
        WaitReason::Space if is_received => {
            "waiting for this machine's disk: for space, or for the folder to be back; it goes on by itself"
        }
        WaitReason::Space => {
            "waiting for the receiver's disk: for space, or for the folder to be back; it goes on by itself"
        }
        WaitReason::Peer => "waiting for the peer",
        WaitReason::Queue => "waiting for other transfers",
        WaitReason::Paused => "paused by you",
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::{ChunkRange, reason::ChunkFailure};

    use super::*;
    use crate::commands::list::example;

    #[test]
    fn what_is_missing_and_what_failed_is_named() {
        let mut summary = example(8, State::Failed);
        summary.error = Some("the peer's disk has not enough free space".into());
        summary.ended_ms = Some(1_000_000);
        let missing = [(103, 152), (255, 1)].map(|(start, count)| ChunkRange { start, count }).to_vec();
        let detail =
            Detail { summary, chunk_len: 4 << 20, missing, failed_chunks: vec![(12, ChunkFailure::Corrupt)] };
        insta::assert_snapshot!(lines(&detail, None, 1_190_000).join("\n"));
    }

    #[test]
    fn a_running_transfer_says_how_fast() {
        let detail = Detail {
            summary: example(7, State::Active),
            chunk_len: 4 << 20,
            missing: (0..30).map(|n| ChunkRange { start: 103 + 2 * n, count: 1 }).collect(),
            failed_chunks: Vec::new(),
        };
        let mut limited = detail.clone();
        limited.summary.progress.limited = true;
        limited.summary.limit = "94 MiB/s".parse().ok();
        let together = lines(&detail, Some("b3, 2 of 4"), 1_190_000).join("\n");
        assert!(together.contains("together  b3, 2 of 4 that are one offer"), "{together}");
        let shown = lines(&limited, None, 1_190_000).join("\n");
        assert!(shown.contains("7 s left, held back by a limit\n  limit     94 MiB/s"), "{shown}");
        let shown = lines(&detail, None, 1_190_000).join("\n");
        assert!(shown.contains("moving at 93.0 MiB/s, parallel, 8 streams, 7 s left"), "{shown}");
        assert!(shown.contains("and 10 more ranges"), "{shown}");
        let mut full = detail.clone();
        full.summary.waiting = Some(WaitReason::Space);
        let shown = lines(&full, None, 1_190_000).join("\n");
        assert!(shown.contains("disk: for space, or") && !shown.contains("moving"), "{shown}");
        let mut waits = detail;

        waits.summary.progress.waits = Some(Shares { source: 20, hashing: 5, path: 75, ..Shares::default() });
        let shown = lines(&waits, None, 1_190_000).join("\n");
        let line = "  limited   by the way between the two machines: path 75%, source 20%, hashing 5%";
        assert!(shown.contains(line), "{shown}");
    }
}
