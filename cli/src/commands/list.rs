//! `p2p list`.

use p2p_protocol::{
    PeerId,
    control::{State, Summary, WaitReason},
    queue::Priority,
};

use super::together::{self, Words};
use crate::{
    context::Context,
    error::CliError,
    format,
    json::{Line, priority, stage},
};

pub(crate) async fn run(ctx: &Context) -> Result<(), CliError> {
    let summaries = together::all(ctx).await?;
    summaries.iter().try_for_each(|summary| ctx.out.json(&Line::Transfer(summary.into())))?;
    if summaries.is_empty() {
        ctx.out.say("no transfers yet");
        return Ok(());
    }
    table(&summaries, now_ms()).iter().try_for_each(|line| ctx.out.print(line))
}

/// Milliseconds since 1970 UTC. A clock set before that counts as 1970.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

fn table(summaries: &[Summary], now_ms: u64) -> Vec<String> {
    let header = ["N", "WAY", "STATE", "SIZE", "PEER", "WHEN", "NAME"].map(str::to_owned).to_vec();
    let words = Words::of(summaries);
    let rows = summaries.iter().map(|summary| {
        vec![
            summary.transfer.to_string(),
            summary.direction.word().to_owned(),
            state(summary),
            size(summary),
            other(summary),
            format::ago(summary.ended_ms.unwrap_or(summary.created_ms), now_ms),
            words.name(summary),
        ]
    });
    format::table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

fn state(summary: &Summary) -> String {
    let progress = &summary.progress;
    match summary.state {
        State::Waiting => match (summary.waiting, summary.priority) {
            (Some(WaitReason::Paused), _) => "paused".to_owned(),
            (Some(WaitReason::Queue), Priority::Normal) => "queued".to_owned(),
            (Some(WaitReason::Queue), other) => format!("queued ({})", priority(other)),
            _ => "waiting".to_owned(),
        },
        State::Active if summary.waiting == Some(WaitReason::Space) => "disk waits".to_owned(),
        State::Active => {
            let percent = format::percent(progress.verified_bytes, progress.total_bytes);
            let by = progress.limited_by().map(|by| format!(" ({})", stage(by))).unwrap_or_default();
            format!("{percent}%{by}")
        }
        State::Done => "done".to_owned(),
        State::Failed => "failed".to_owned(),
        State::Cancelled => "cancelled".to_owned(),
    }
}

fn size(summary: &Summary) -> String {
    // Before the two sides have agreed, the size is not known here.
    if summary.progress.chunks_total == 0 && summary.state != State::Done {
        "-".to_owned()
    } else {
        format::bytes(summary.progress.total_bytes)
    }
}

/// The other side, short.
pub(crate) fn other(summary: &Summary) -> String {
    match (&summary.target, summary.peer) {
        (target, Some(peer)) if target.is_empty() || *target == peer.to_string() => peer.short(),
        (target, _) if target.is_empty() => "-".to_owned(),
        // Asked for by its Peer ID, as with a ticket, and not met yet.
        (target, _) => target.parse().map_or_else(|_| target.clone(), |peer: PeerId| peer.short()),
    }
}

#[cfg(test)]
pub(crate) fn example(transfer: u64, state: State) -> Summary {
    use p2p_protocol::{
        FileId, PeerId,
        control::{Direction, Progress},
    };

    Summary {
        transfer,
        direction: Direction::Send,
        state,
        name: "a.iso".into(),
        file_id: Some(FileId([2; 32])),
        peer: Some(PeerId([1; 32])),
        target: "fifi".into(),
        path: Some("/home/a/a.iso".into()),
        progress: Progress {
            verified_bytes: 412 << 20,
            total_bytes: 1 << 30,
            chunks_verified: 103,
            chunks_total: 256,
            chunks_failed: 1,
            moved_bytes: 416 << 20,
            rate: 93 << 20,
            streams: 8,
            parallel: true,
            limited: false,
            waits: None,
        },
        priority: Priority::Normal,
        limit: None,
        background: false,
        progressive: false,
        waiting: None,
        error: None,
        created_ms: 1_000_000,
        ended_ms: None,
        batch: None,
        landed: None,
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::waits::Shares;

    use super::*;

    #[test]
    fn transfers_line_up() {
        let mut waiting = example(12, State::Waiting);
        waiting.progress = Default::default();
        waiting.direction = p2p_protocol::control::Direction::Receive;
        waiting.target = String::new();
        waiting.name = "a very long name.tar.gz".into();
        let mut queued = waiting.clone();
        (queued.waiting, queued.priority) = (Some(WaitReason::Queue), Priority::High);
        let paused = Summary { waiting: Some(WaitReason::Paused), ..example(14, State::Waiting) };
        let mut active = example(7, State::Active);
        active.progress.waits = Some(Shares { path: 90, source: 10, ..Shares::default() });
        let summaries = [active, example(8, State::Failed), waiting, queued, paused];
        insta::assert_snapshot!(table(&summaries, 1_190_000).join("\n"));
    }
}
