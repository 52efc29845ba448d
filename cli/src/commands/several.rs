//! Several transfers in one command, shown side by side, with a line at the end that sums up: the paths of a `p2p send`, and what
//! `p2p watch` and `p2p wait` are given.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use p2p_protocol::{
    Batch, PeerId,
    control::{Event, KeyPolicy, Progress, Request, SendRequest, TransferEvent},
    name::printable,
    reason::Failure,
};
use tokio::sync::Notify;

use super::transfer::{is_trusted, new_id};
use crate::{
    client::{self, Client},
    context::{Context, Person},
    error::{CliError, Kind},
    follow::come_back,
    format,
    interrupt::Interrupt,
    json::{BatchLine, Line},
    output::Look,
    progress::Bar,
    view::{Step, View},
};

/// Transfers that have a bar of their own at a time.
const BARS: usize = 8;
/// The daemon gives all paths of a command their numbers within this, or is not waited for.
const NUMBERED_WITHIN: Duration = Duration::from_secs(10);
/// Characters of a name that stand before its bar.
const NAME_LEN: usize = 24;

/// Sends all of them to one target, and stays until each has ended. An unknown key there is asked about once.
///
/// # Errors
/// The worst of how they ended; what was said of each is printed before.
pub(crate) async fn run(ctx: &Context, mut sends: Vec<SendRequest>) -> Result<(), CliError> {
    let mut interrupt = Interrupt::listen()?;
    let mut several = Several::new(ctx, "sent", true);
    loop {
        let time = time_after(ctx, several.numbered.clone());
        let result = tokio::select! {
            result = several.send(std::mem::take(&mut sends)) => result,
            () = interrupt.wait() => several.given_up(&CliError::interrupted(None)),
            time = time => several.given_up(&CliError::timed_out(None, time)),
        };
        several.clear();
        result?;
        if several.left.is_some() {
            break;
        }
        let Some((key, strangers)) = several.strangers() else { break };
        let Some(target) = strangers.first().map(|(send, _)| send.target.clone()) else { break };
        if is_trusted(ctx, &mut interrupt, &target, &key).await? {
            let again = strangers.into_iter();
            sends = again.map(|(send, _)| SendRequest { key: KeyPolicy::Exactly(key), ..send }).collect();
        } else {
            strangers.into_iter().for_each(|(_, error)| several.failed(error));
            break;
        }
    }
    several.sum_up()
}

/// The command's time, which is not over before it is known what goes on without it.
async fn time_after(ctx: &Context, numbered: Arc<Notify>) -> Duration {
    let time = ctx.timeout.wait().await;
    let _ = tokio::time::timeout(NUMBERED_WITHIN, numbered.notified()).await;
    time
}

/// Looks at transfers that are there until each has ended, and says what is `wrong` with others; `live` shows bars where there is a terminal.
///
/// # Errors
/// The worst of how they ended; what was said of each is printed before.
pub(super) async fn watch(
    ctx: &Context,
    transfers: Vec<u64>,
    wrong: Vec<CliError>,
    live: bool,
) -> Result<(), CliError> {
    let mut interrupt = Interrupt::listen()?;
    let mut several = Several::new(ctx, "done", live);
    wrong.into_iter().for_each(|error| several.failed(error));
    let result = tokio::select! {
        result = several.watch(transfers) => result,
        () = interrupt.wait() => several.given_up(&CliError::interrupted(None)),
        time = ctx.timeout.wait() => several.given_up(&CliError::timed_out(None, time)),
    };
    several.clear();
    result?;
    several.sum_up()
}

/// How much worse an end is than others: what another try may mend is better than what needs somebody to do something.
pub(super) fn badness(error: &CliError) -> u8 {
    match error.kind {
        Kind::Failure(Failure::Integrity) => 6,
        Kind::Failure(Failure::Storage) => 5,
        Kind::Failure(Failure::Refused | Failure::UnknownKey) => 4,
        Kind::Failure(Failure::NotFound) => 3,
        Kind::Failure(Failure::Unreachable | Failure::Conflict) => 1,
        _ => 2,
    }
}

struct Several<'a> {
    ctx: &'a Context,
    /// What the last line says of those that did well.
    good: &'static str,
    /// Whether there are bars, where there is a terminal.
    live: bool,
    since: Instant,
    /// Those that have not ended.
    open: BTreeMap<u64, One<'a>>,
    /// Those that met an unknown key, where there is a person to ask about it.
    unknown: Vec<(SendRequest, CliError)>,
    /// What names those that it leaves to the daemon at once.
    detached: Option<String>,
    /// Whether all of them have their numbers.
    numbered: Arc<Notify>,
    done: u64,
    failed: u64,
    bytes: u64,
    moved_bytes: u64,
    worst: Option<CliError>,
    /// Why the command ends before them.
    left: Option<CliError>,
    /// Sums up while the others go on.
    bar: Option<Bar>,
}

struct One<'a> {
    /// What this command asked for.
    send: Option<SendRequest>,
    view: View<'a>,
    has_bar: bool,
    /// How far it is, once the two sides have agreed.
    progress: Option<Progress>,
}

impl<'a> Several<'a> {
    fn new(ctx: &'a Context, good: &'static str, live: bool) -> Self {
        Self {
            ctx,
            good,
            live,
            since: Instant::now(),
            open: BTreeMap::new(),
            unknown: Vec::new(),
            detached: None,
            numbered: Arc::default(),
            done: 0,
            failed: 0,
            bytes: 0,
            moved_bytes: 0,
            worst: None,
            left: None,
            bar: None,
        }
    }

    /// Begins transfers, and shows them until each has ended.
    async fn send(&mut self, mut sends: Vec<SendRequest>) -> Result<(), CliError> {
        sends.iter_mut().for_each(|send| send.request = Some(new_id()));
        let client = self.ctx.connect_or_start().await?;
        let request = Request::SendEach(sends.clone());
        self.drive(client, request, sends.into()).await
    }

    /// Shows transfers that are there until each has ended.
    async fn watch(&mut self, transfers: Vec<u64>) -> Result<(), CliError> {
        if transfers.is_empty() {
            return Ok(());
        }
        let client = self.ctx.connect().await?;
        for &transfer in &transfers {
            let view = View::one_of(self.ctx, transfer);
            self.open.insert(transfer, One { send: None, view, has_bar: false, progress: None });
        }
        self.drive(client, Request::WatchEach(transfers), VecDeque::new()).await
    }

    /// Shows what was asked for until each has ended, over a daemon that dies and comes back. Those without a number yet are in
    /// the order of their paths.
    async fn drive(
        &mut self,
        mut client: Client,
        mut request: Request,
        mut unnumbered: VecDeque<SendRequest>,
    ) -> Result<(), CliError> {
        self.bar = self.live.then(|| Bar::new(&self.ctx.out, None)).flatten();
        loop {
            self.pump(client, &request, &mut unnumbered).await?;
            if self.open.is_empty() && unnumbered.is_empty() {
                return Ok(());
            }
            for one in self.open.values_mut() {
                one.view.daemon_gone_among_others()?;
            }
            self.ctx.out.say_as(Look::Warning, "daemon gone", ": waiting for it to come back");
            client = come_back(self.ctx).await?;
            self.ctx.out.say("the daemon is back");
            request = if unnumbered.is_empty() {
                Request::WatchEach(self.open.keys().copied().collect())
            } else {
                // Not all may have arrived. Those that did are told by their requests.
                unnumbered.extend(std::mem::take(&mut self.open).into_values().filter_map(|one| one.send));
                Request::SendEach(unnumbered.iter().cloned().collect())
            };
        }
    }

    /// Shows what comes over one connection.
    async fn pump(
        &mut self,
        client: Client,
        request: &Request,
        unnumbered: &mut VecDeque<SendRequest>,
    ) -> Result<(), CliError> {
        let mut events = client.ask(request).await?;
        while let Some(event) = events.next().await? {
            match event {
                Event::Queued { transfer, batch } => {
                    let send = unnumbered.pop_front().ok_or_else(client::unexpected)?;
                    self.queued(transfer, batch, send)?;
                    if unnumbered.is_empty() {
                        self.numbered.notify_one();
                    }
                }
                Event::Transfer(event) => self.on(event)?,
                Event::Error(error) => return Err(self.left(CliError::request(error))),
                _ => return Err(client::unexpected()),
            }
            if self.open.is_empty() && unnumbered.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn queued(&mut self, transfer: u64, batch: Option<Batch>, send: SendRequest) -> Result<(), CliError> {
        let path = String::from_utf8_lossy(&send.path);
        self.ctx.out.json(&Line::Queued { transfer, path: Some(&path), batch: BatchLine::of(batch) })?;
        if send.detach {
            let word = || batch.map_or_else(String::new, |_| format!(" b{transfer}"));
            self.detached.get_or_insert_with(word);

            return self.ctx.out.print(&transfer.to_string());
        }
        // The same path twice is one transfer.
        let view = View::one_of_new(self.ctx, transfer, &send.target);
        let one = One { send: Some(send), view, has_bar: false, progress: None };
        self.open.entry(transfer).or_insert(one);
        Ok(())
    }

    fn on(&mut self, event: TransferEvent) -> Result<(), CliError> {
        let transfer = event.transfer();
        let bars = self.open.values().filter(|one| one.has_bar).count();
        // One that has ended may say so twice, after the daemon came back.
        let Some(one) = self.open.get_mut(&transfer) else { return Ok(()) };
        if let TransferEvent::Started { name, .. } = &event
            && self.live
            && !one.has_bar
            && bars < BARS
        {
            let name: String = printable(name).chars().take(NAME_LEN).collect();
            one.view.show_bar(&format!("{transfer:>4} {name:NAME_LEN$}"));
            one.has_bar = true;
        }
        match &event {
            TransferEvent::Started { total_bytes, .. } if one.progress.is_none() => {
                one.progress = Some(Progress { total_bytes: *total_bytes, ..Progress::default() });
            }
            TransferEvent::Progress { progress, .. } if one.progress.is_some() => {
                one.progress = Some(*progress)
            }
            _ => {}
        }
        match one.view.on(event)? {
            Step::More => {}
            Step::Done { bytes, moved_bytes } => {
                self.open.remove(&transfer);
                self.done += 1;
                self.bytes += bytes;
                self.moved_bytes += moved_bytes;
            }
            Step::Failed(error) => {
                let Some(mut one) = self.open.remove(&transfer) else { return Ok(()) };
                one.view.clear();
                let asks = error.is(Failure::UnknownKey) && error.key.is_some();
                match one.send.filter(|_| asks && self.ctx.person != Person::Absent) {
                    Some(send) => self.unknown.push((send, error)),
                    None => self.failed(error),
                }
            }
        }
        self.show_total();
        Ok(())
    }

    /// The line for all of them together: a bar as soon as it is known how much all of it is.
    fn show_total(&mut self) {
        let Some(bar) = &mut self.bar else { return };
        let (done, all) = (self.done, self.done + self.failed + self.open.len() as u64);
        let running = || self.open.values().filter_map(|one| one.progress);
        let verified = self.bytes + running().map(|progress| progress.verified_bytes).sum::<u64>();
        let total = self.bytes + running().map(|progress| progress.total_bytes).sum::<u64>();
        let rate = running().map(|progress| progress.rate).sum::<u64>();
        let mut words = format!("{done} of {all} done, {}", format::bytes(verified));
        if rate > 0 {
            words.push_str(&format!("  {}", format::rate(rate)));
        }
        if running().count() == self.open.len() && total > 0 {
            if let Some(seconds @ 1..) = format::eta_s(total.saturating_sub(verified), rate) {
                words.push_str(&format!("  {} left", format::eta(seconds)));
            }
            bar.numbers(verified, total, words);
        } else {
            bar.words(&words);
        }
    }

    fn failed(&mut self, error: CliError) {
        self.failed += 1;
        let error = match error.transfer {
            Some(transfer) if !self.ctx.out.is_json() => {
                CliError { message: format!("transfer {transfer}: {}", error.message), ..error }
            }
            _ => error,
        };
        self.ctx.out.error(&error);
        if self.worst.as_ref().is_none_or(|worst| badness(&error) > badness(worst)) {
            self.worst = Some(error);
        }
    }

    /// Those that met an unknown key, and that key, where it is one.
    fn strangers(&mut self) -> Option<(PeerId, Vec<(SendRequest, CliError)>)> {
        let unknown = std::mem::take(&mut self.unknown);
        let key = unknown.first()?.1.key?;
        let (same, other): (Vec<_>, Vec<_>) =
            unknown.into_iter().partition(|(_, error)| error.key == Some(key));
        other.into_iter().for_each(|(_, error)| self.failed(error));
        Some((key, same))
    }

    /// What becomes of the transfers when their command ends before them.
    fn left(&self, error: CliError) -> CliError {
        let open = self.open.len() as u32;
        if open == 0 {
            return error;
        }
        let go_on =
            format!("{} {} on", format::count(open, "transfer"), if open == 1 { "goes" } else { "go" });
        let message = match error.kind {
            Kind::Interrupted => go_on,
            _ => format!("{}; {go_on}", error.message),
        };
        CliError { message, ..error }
            .hint(format!("see them with: {}", self.ctx.suggest("list")))
            .hint(format!("stop one with: {}", self.ctx.suggest("cancel N")))
    }

    /// The command ends, and what has not ended goes on.
    fn given_up(&mut self, error: &CliError) -> Result<(), CliError> {
        if self.ctx.out.is_json() {
            self.open.keys().for_each(|transfer| self.ctx.out.error(&error.clone().about(Some(*transfer))));
        }
        self.left = Some(self.left(error.clone()));
        Ok(())
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.clear();
        }
        self.open.values_mut().for_each(|one| one.view.clear());
    }

    fn sum_up(self) -> Result<(), CliError> {
        let Self { ctx, good, open, done, failed, bytes, moved_bytes, worst, left, detached, .. } = self;
        if let Some(word) = detached {
            ctx.out.say(&format!("see them with: {}", ctx.suggest(&format!("watch{word}"))));
            return Ok(());
        }
        let (all, time) = (done + failed + open.len() as u64, self.since.elapsed());
        let exit_code = left.as_ref().or(worst.as_ref()).map_or(0, CliError::exit_code);
        let seconds = time.as_millis() as f64 / 1000.0;
        ctx.out.json(&Line::Summary {
            transfers: all,
            done,
            failed,
            bytes,
            moved_bytes,
            seconds,
            exit_code,
        })?;
        let mut line = format!(": {done} of {all}, {} in {}", format::bytes(bytes), format::duration(time));
        if let Some(rate) = format::mean_rate(moved_bytes, time) {
            line.push_str(&format!(" ({})", format::rate(rate)));
        }
        ctx.out.say_as(if done == all { Look::Good } else { Look::Warning }, good, &line);
        match (left, worst) {
            (None, None) => Ok(()),
            // Each line of JSON was said, and the sum is the last.
            (Some(left), _) if ctx.out.is_json() => Err(CliError::said(exit_code, left.message)),
            (Some(left), _) => Err(left),
            (None, Some(_)) => Err(CliError::said(exit_code, format!("{failed} of {all} failed"))),
        }
    }
}
