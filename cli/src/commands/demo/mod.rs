//! `p2p demo`: the whole thing on one machine. Two throwaway daemons, a file of random data, a `kill -9` in
//! the middle, a resume, and the proof that what arrived is what was sent.

mod node;
mod run;

use std::path::Path;

use p2p_protocol::{FileId, reason::Failure};
use tokio::signal::unix::{SignalKind, signal};

use self::run::{Outcome, Report, Room};
use crate::{context::Context, error::CliError, format, interrupt::Interrupt, json::Line, output::Look};

/// Smallest file that leaves time for a kill in the middle, in bytes.
const MIN_SIZE: u64 = 1 << 20;
/// How often the demo is tried, where the kill came too early or too late.
const TRIES: u32 = 4;
/// So many times the data of the try before.
const MORE: u64 = 4;

/// Runs the demo and cleans up after it, however it ends.
pub(crate) async fn run(ctx: &Context, size: u64) -> Result<(), CliError> {
    if size < MIN_SIZE {
        return Err(CliError::usage(format!("a demo needs at least {} of data", format::bytes(MIN_SIZE))));
    }
    let cannot =
        |error: std::io::Error| CliError::new(Failure::Other, format!("cannot wait for signals: {error}"));
    let mut interrupt = Interrupt::listen()?;
    let mut terminated = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(cannot)?;
    // Whichever ends first, dropping the other kills the daemons and removes the folder.
    let report = tokio::select! {
        report = attempts(ctx, size) => report?,
        () = interrupt.wait() => return Err(CliError::interrupted(None)),
        _ = terminated.recv() => return Err(CliError::interrupted(None)),
        _ = hung_up.recv() => return Err(CliError::interrupted(None)),
    };
    show(ctx, &report)
}

async fn attempts(ctx: &Context, mut size: u64) -> Result<Report, CliError> {
    let mut last = "";
    for attempt in 1..=TRIES {
        let folder = tempfile::Builder::new().prefix("p2p-demo-").tempdir().map_err(|error| {
            CliError::new(Failure::Storage, format!("cannot make a temporary folder: {error}"))
        })?;
        check_room(folder.path(), size)?;
        let room = Room::new(ctx, folder.path(), size);
        let why = match room.run().await? {
            Outcome::Shown(report) => return Ok(report),
            Outcome::TooFast => "the transfer was over before the kill",
            Outcome::NothingKept => "nothing was on stable storage yet when the kill came",
        };
        if attempt < TRIES {
            size = size.saturating_mul(MORE);
            say(ctx, &format!("{why}: once more, with {}", format::bytes(size)))?;
        } else {
            last = why;
        }
    }
    Err(CliError::new(
        Failure::Other,
        format!("no resume could be shown in {TRIES} tries; the last time {last}"),
    )
    .hint("give it more to do, with --size"))
}

/// The file lies there twice, at the sender and at the receiver.
fn check_room(folder: &Path, size: u64) -> Result<(), CliError> {
    let Ok(stat) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let need = size.saturating_mul(2);
    if free < need {
        return Err(CliError::new(
            Failure::Storage,
            format!(
                "the demo needs {} in {}, where {} are free",
                format::bytes(need),
                folder.display(),
                format::bytes(free)
            ),
        )
        .hint("name a smaller --size, or another folder in the environment variable TMPDIR"));
    }
    Ok(())
}

/// A step of the demo, as it begins.
fn say(ctx: &Context, step: &str) -> Result<(), CliError> {
    ctx.out.say_as(Look::Dim, "demo  ", step);
    ctx.out.json(&Line::Demo { step })
}

fn show(ctx: &Context, report: &Report) -> Result<(), CliError> {
    let Report { file_id, bytes, kept_bytes, moved_bytes, before, after, down } = report;
    let rate = format::mean_rate(*moved_bytes, *before + *after);
    let again = moved_bytes.saturating_sub(*bytes);
    ctx.out.json(&Line::DemoDone {
        file_id: *file_id,
        bytes: *bytes,
        kept_bytes: *kept_bytes,
        moved_bytes: *moved_bytes,
        seconds: (*before + *after + *down).as_millis() as f64 / 1000.0,
        rate_bps: rate,
    })?;
    let out = &ctx.out;
    out.say("");
    out.say_as(Look::Good, "it works: ", &format!("{} arrived whole over a kill -9", format::bytes(*bytes)));
    out.say(&format!("  sent in      {} while both were up", format::duration(*before + *after)));
    if let Some(rate) = rate {
        out.say(&format!("  rate         {}", format::rate(rate)));
    }
    out.say(&format!("  down for     {} (receiver killed, restarted, found again)", format::duration(*down)));
    out.say(&format!("  kept         {} from before the kill", format::bytes(*kept_bytes)));
    out.say(&format!(
        "  moved        {} in all, so {} went twice",
        format::bytes(*moved_bytes),
        format::bytes(again)
    ));
    out.say(&format!("  File ID      {file_id}, computed anew from what arrived"));
    out.say("  the two daemons and all their data are removed again");
    Ok(())
}

/// The File ID of a file, computed from its bytes.
fn file_id(path: &Path) -> Result<FileId, CliError> {
    let cannot = |error: std::io::Error| CliError::io("cannot read", path, &error);
    super::verify::hash(std::fs::File::open(path).map_err(cannot)?, |_| {}).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Captured, context, global};

    #[tokio::test]
    async fn a_size_that_leaves_no_time_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ctx = context(folder.path(), Captured::default().output(&global(&[])));
        assert_eq!(run(&ctx, 1000).await.unwrap_err().exit_code(), 2);
        assert_eq!(check_room(folder.path(), u64::MAX).unwrap_err().exit_code(), 8);
        assert!(check_room(folder.path(), 1).is_ok());
    }
}
