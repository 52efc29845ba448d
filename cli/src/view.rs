//! One transfer as the person or script in front of it sees it.

use std::time::{Duration, Instant};

use p2p_protocol::{
    FileId, PeerId,
    control::{Direction, TransferEvent, WaitReason},
    reason::{ChunkFailure, Failure},
};

use crate::{
    context::Context,
    error::CliError,
    format::{self, shell_word},
    json::{BatchLine, DaemonGone, Line, Numbers, Wait, chunk_failure},
    meter::Meter,
    output::Look,
    progress::Bar,
    remarks::Remarks,
};

/// What follows from an event.
#[derive(Debug)]
pub(crate) enum Step {
    /// More will come.
    More,
    /// The content is durable at the receiver: its size, and what moved of it since this command attached.
    Done { bytes: u64, moved_bytes: u64 },
    /// The transfer ended without success.
    Failed(CliError),
}

/// A transfer that is being watched.
#[derive(Debug)]
pub(crate) struct View<'a> {
    ctx: &'a Context,
    pub(crate) transfer: Option<u64>,
    /// Whether this command asked for the transfer, rather than looks at one that is there.
    made: bool,
    /// The other side as typed, where this command knows.
    target: Option<String>,
    /// Whether the live line is one of several and the transfer's number stands before each line.
    among_others: bool,
    since: Instant,
    meter: Meter,
    started: Option<Started>,
    /// Failed chunks that a person was told of.
    chunks_told: usize,
    remarks: Remarks,
    bar: Option<Bar>,
}

/// Failed chunks that a person is told of one by one.
const CHUNKS_TOLD: usize = 8;
/// Attempts that a person is told of one by one.
const TRIES_TOLD: u32 = 8;

#[derive(Clone, Debug)]
struct Started {
    direction: Direction,
    name: String,
    peer: PeerId,
    target: String,
    resumed_bytes: u64,
}

impl<'a> View<'a> {
    /// Of a transfer that this command asks for.
    pub(crate) fn of_new(ctx: &'a Context, target: &str) -> Self {
        let mut view = Self::build(ctx, None);
        view.made = true;
        view.target = Some(target.to_owned());
        view.bar = Bar::new(&ctx.out, None);
        view.words("connecting to ", target);
        view
    }

    /// Of a transfer that is there; `live` shows a bar where there is a terminal.
    pub(crate) fn of(ctx: &'a Context, transfer: u64, live: bool) -> Self {
        let mut view = Self::build(ctx, Some(transfer));
        if live {
            view.bar = Bar::new(&ctx.out, None);
        }
        view
    }

    /// Of one transfer among others.
    pub(crate) fn among_others(ctx: &'a Context, transfer: u64) -> Self {
        let mut view = Self::one_of(ctx, transfer);
        view.show_bar(&format!("{transfer:>4}"));
        view
    }

    /// Of one of several that this command asks for; it shows no bar unless told to.
    pub(crate) fn one_of_new(ctx: &'a Context, transfer: u64, target: &str) -> Self {
        let mut view = Self::one_of(ctx, transfer);
        view.made = true;
        view.target = Some(target.to_owned());
        view
    }

    /// Of one of several that are there; it shows no bar unless told to.
    pub(crate) fn one_of(ctx: &'a Context, transfer: u64) -> Self {
        let mut view = Self::build(ctx, Some(transfer));
        view.among_others = true;
        view
    }

    /// Shows a bar from now on, where there is a terminal.
    pub(crate) fn show_bar(&mut self, label: &str) {
        self.bar = Bar::new(&self.ctx.out, Some(label));
    }

    fn build(ctx: &'a Context, transfer: Option<u64>) -> Self {
        Self {
            ctx,
            transfer,
            made: false,
            target: None,
            among_others: false,
            since: Instant::now(),
            meter: Meter::default(),
            started: None,
            chunks_told: 0,
            remarks: Remarks::default(),
            bar: None,
        }
    }

    /// The daemon went away; it is waited for.
    pub(crate) fn daemon_gone(&mut self) -> Result<(), CliError> {
        self.ctx.out.say_as(Look::Warning, "daemon gone", ": waiting for it to come back");
        self.daemon_gone_among_others()
    }

    /// The same, where one line says so for several.
    pub(crate) fn daemon_gone_among_others(&mut self) -> Result<(), CliError> {
        let ctx = self.ctx;
        self.meter.reattach();
        self.words("waiting for the daemon to come back", "");
        match self.transfer {
            Some(transfer) => {
                ctx.out.json(&Line::Waiting { transfer, reason: Wait::Daemon(DaemonGone::Daemon) })
            }
            None => Ok(()),
        }
    }

    /// The daemon is there again.
    pub(crate) fn daemon_back(&mut self) {
        self.ctx.out.say("the daemon is back");
        self.words("going on", "");
    }

    /// Takes the live line away, so that the last words stand alone.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.clear();
        }
    }

    fn words(&mut self, words: &str, more: &str) {
        if let Some(bar) = &mut self.bar {
            bar.words(&format!("{words}{more}"));
        }
    }

    fn say(&self, look: Look, label: &str, text: &str) {
        match self.transfer.filter(|_| self.among_others) {
            Some(n) => self.ctx.out.say_as(look, &format!("{n:>4} {label}"), text),
            None => self.ctx.out.say_as(look, label, text),
        }
    }

    /// Shows an event.
    ///
    /// # Errors
    /// It could not be printed.
    pub(crate) fn on(&mut self, event: TransferEvent) -> Result<Step, CliError> {
        let out = &self.ctx.out;
        self.transfer = Some(event.transfer());
        match event {
            TransferEvent::Started {
                transfer,
                direction,
                name,
                peer,
                total_bytes,
                resumed_bytes,
                batch,
                target,
            } => {
                let batch = BatchLine::of(batch);
                let line = Line::Started {
                    transfer,
                    direction,
                    name: &name,
                    peer,
                    total_bytes,
                    resumed_bytes,
                    batch,
                };
                out.json(&line)?;
                let started = Started { direction, name, peer, target, resumed_bytes };
                self.on_started(&started, total_bytes);
                self.started = Some(started);
            }
            TransferEvent::Waiting { transfer, reason } => {
                out.json(&Line::Waiting { transfer, reason: Wait::Reason(reason) })?;
                self.on_waiting(reason);
            }
            TransferEvent::Progress { transfer, progress } => {
                self.meter.see(progress.moved_bytes);
                // Before the two sides have agreed there is nothing to count.
                if self.started.is_some() {
                    out.json(&Line::Progress { transfer, numbers: Numbers::from(&progress) })?;
                    if let Some(bar) = &mut self.bar {
                        bar.progress(&progress);
                    }
                }
            }
            TransferEvent::ChunkFailed { transfer, chunk, peer, reason } => {
                out.json(&Line::ChunkFailed { transfer, chunk, peer, reason: chunk_failure(reason) })?;
                self.on_chunk_failed(chunk, peer, reason);
            }
            remark @ (TransferEvent::LeftOut { .. } | TransferEvent::SameName { .. }) => {
                let mut remarks = std::mem::take(&mut self.remarks);
                remarks.on(out, &remark, |look, label, text| self.say(look, label, text))?;
                self.remarks = remarks;
            }
            TransferEvent::Retrying { transfer, attempt, in_ms, reason } => {
                let in_s = in_ms as f64 / 1000.0;
                out.json(&Line::Retrying { transfer, attempt, in_s, reason: &reason })?;
                let pause = format::duration(Duration::from_millis(in_ms));
                if attempt <= TRIES_TOLD {
                    self.say(
                        Look::Warning,
                        "retrying",
                        &format!(" in {pause} (attempt {attempt}): {reason}"),
                    );
                } else if attempt == TRIES_TOLD + 1 {
                    self.say(Look::Warning, "retrying", ", now and then; further attempts are not shown");
                }
                self.words("waiting to try again", "");
            }
            TransferEvent::Done {
                transfer,
                file_id,
                path,
                bytes,
                moved_bytes,
                millis: _,
                fetch_from,
                part_of,
            } => {
                let moved_bytes = self.meter.moved(moved_bytes, self.made);
                let time = self.since.elapsed();
                let fetch =
                    fetch_from.map(|from| format!("p2p fetch {file_id} --from {}", shell_word(&from)));
                self.clear();
                out.json(&Line::Done {
                    transfer,
                    file_id,
                    path: &path,
                    bytes,
                    moved_bytes,
                    seconds: time.as_millis() as f64 / 1000.0,
                    fetch: fetch.as_deref(),
                    part_of,
                })?;
                self.on_done(&Done { file_id, path, bytes, moved_bytes, time, fetch, part_of });
                return Ok(Step::Done { bytes, moved_bytes });
            }
            TransferEvent::Failed { transfer, failure, message, key } => {
                self.clear();
                let error = CliError { key, ..CliError::new(failure, message).about(Some(transfer)) };
                return Ok(Step::Failed(self.with_way_out(error, failure, transfer)));
            }
        }
        Ok(Step::More)
    }

    fn on_started(&mut self, started: &Started, total_bytes: u64) {
        let Started { direction, name, peer, target, resumed_bytes } = started;
        let total = format::bytes(total_bytes);
        if self.started.is_none() {
            let other = self.target.clone().unwrap_or_else(|| known_as(target, peer));
            let line = match direction {
                Direction::Send => format!("sending {name} ({total}) to {other}"),
                Direction::Fetch => format!("fetching {name} ({total}) from {other}"),
                Direction::Receive => format!("receiving {name} ({total}) from {other}"),
                Direction::Serve => format!("giving {name} ({total}) to {other}"),
            };
            self.say(Look::Plain, "", &line);
            self.ctx.out.detail(&format!("peer {peer}"));
        }
        if *resumed_bytes > 0 && *resumed_bytes < total_bytes {
            let there = format::bytes(*resumed_bytes);
            self.say(Look::Good, "resuming", &format!(": {there} of {total} are verified already"));
        } else if self.started.is_some() {
            self.say(Look::Plain, "", "going on");
        }
    }

    fn on_waiting(&mut self, reason: WaitReason) {
        let words = match reason {
            WaitReason::Hashing => {
                self.words("hashing the source", "");
                return;
            }
            WaitReason::Accept => "the receiver's owner has to accept or to resume it",
            WaitReason::Space => {
                "the receiver's disk is full, or its folder is gone; it goes on when there is room again"
            }
            WaitReason::Peer => "the peer is not there",
            WaitReason::Queue => "other transfers come first",
            WaitReason::Paused => {
                let resume = self.ctx.suggest(&format!("resume {}", self.transfer.unwrap_or_default()));
                self.say(Look::Warning, "paused", &format!(" by you; let it go on with: {resume}"));
                self.words("paused by you", "");
                return;
            }
        };
        self.say(Look::Warning, "waiting", &format!(": {words}"));
        self.words("waiting: ", words);
    }

    fn on_chunk_failed(&mut self, chunk: u32, peer: PeerId, reason: ChunkFailure) {
        self.chunks_told += 1;
        let peer = peer.short();
        let line = format!(" failed (peer {peer}): {reason}; once more");
        if self.chunks_told <= CHUNKS_TOLD {
            self.say(Look::Warning, &format!("chunk {chunk}"), &line);
        } else if self.chunks_told == CHUNKS_TOLD + 1 {
            let show = self.ctx.suggest(&format!("show {}", self.transfer.unwrap_or_default()));
            self.say(Look::Warning, "more chunks", &format!(" fail; see them with: {show}"));
        }
    }

    fn on_done(&self, done: &Done) {
        let out = &self.ctx.out;
        let Done { file_id, path, bytes, moved_bytes, time, fetch, part_of } = done;
        let (label, name) = match &self.started {
            Some(Started { direction: Direction::Send, name, .. }) => ("sent", name.as_str()),
            Some(Started { direction: Direction::Fetch, name, .. }) => ("fetched", name.as_str()),
            Some(Started { direction: Direction::Receive, name, .. }) => ("received", name.as_str()),
            Some(Started { direction: Direction::Serve, name, .. }) => ("given", name.as_str()),
            None => ("done", path.as_str()),
        };
        let what = if part_of.is_some() { "a part of " } else { "" };
        let mut line = format!(" {what}{name}: {}", format::bytes(*bytes));
        if *moved_bytes > 0 {
            line.push_str(&format!(" in {}", format::duration(*time)));
            if let Some(rate) = format::mean_rate(*moved_bytes, *time) {
                line.push_str(&format!(" ({})", format::rate(rate)));
            }
        } else if self.made && *bytes > 0 {
            line.push_str(": nothing had to move");
        }
        self.say(Look::Good, label, &line);
        if *moved_bytes > 0 && moved_bytes < bytes {
            let resumed = self.started.as_ref().is_some_and(|started| started.resumed_bytes > 0);
            let how = if resumed { "resumed, so only" } else { "only" };
            self.say(Look::Plain, "", &format!("     {how} {} had to move", format::bytes(*moved_bytes)));
        }
        match self.started.as_ref().map(|started| started.direction) {
            Some(Direction::Send) => {
                let known = || self.started.as_ref().map(|started| known_as(&started.target, &started.peer));
                let other = self.target.clone().or_else(known);
                self.say(Look::Plain, "", &format!("     it is {path} at {}", other.unwrap_or_default()));
            }
            Some(Direction::Fetch | Direction::Receive) if path != "-" => {
                self.say(Look::Plain, "", &format!("     it is {path}"));
            }
            _ => {}
        }
        match fetch {
            Some(fetch) => self.say(Look::Plain, "", &format!("     fetch it again with: {fetch}")),
            None => out.detail(&format!("     File ID {file_id}")),
        }
    }

    /// Whether this machine's user started it, and it came as far as to have something to keep.
    fn can_be_retried(&self) -> bool {
        let direction = self.started.as_ref().map(|started| started.direction);
        matches!(direction, Some(Direction::Send | Direction::Fetch))
    }

    /// Adds what a person can do next.
    fn with_way_out(&self, error: CliError, failure: Failure, transfer: u64) -> CliError {
        match failure {
            Failure::UnknownKey => unknown_key_hints(error),
            Failure::Unreachable | Failure::Storage | Failure::Conflict | Failure::Other
                if self.can_be_retried() =>
            {
                let retry = self.ctx.suggest(&format!("retry {transfer}"));
                error.hint(format!("what was verified is kept; go on from there with: {retry}"))
            }
            _ => error,
        }
    }
}

/// The other side by its name, or the beginning of its Peer ID.
fn known_as(target: &str, peer: &PeerId) -> String {
    if target.is_empty() || target == peer.to_string() { peer.short() } else { target.to_owned() }
}

/// The two ways to go on where a key is not known.
pub(crate) fn unknown_key_hints(error: CliError) -> CliError {
    match error.key {
        Some(key) => error
            .hint(format!("compare the key with what `p2p id` prints there, then add: --peer {key}"))
            .hint("or take whatever key is there, this once, with: --accept-new-key"),
        None => {
            error.hint("name the key with --peer ID, or take whatever key is there with --accept-new-key")
        }
    }
}

struct Done {
    file_id: FileId,
    path: String,
    bytes: u64,
    moved_bytes: u64,
    time: Duration,
    fetch: Option<String>,
    part_of: Option<FileId>,
}
