//! Programs of the owner that are run when something happens. They get the facts in their environment; no shell is between.
//!
//! No transfer waits for one. Only so many run at a time and each only so long; what happens meanwhile waits its turn.

use std::{collections::VecDeque, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use p2p_protocol::{
    BatchId, PeerId,
    control::{Direction, Summary, TransferEvent, WaitReason},
    reason::Failure,
};
use tokio::{process::Command, sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Registry, job::Job};
use crate::config::Hooks;

/// Programs that run at a time.
const AT_ONCE: usize = 4;
/// One that runs longer is killed.
const LONGEST: Duration = Duration::from_secs(60);

/// How long what is offered together may take to come, until its owner is told of what has.
const GATHERING: Duration = Duration::from_secs(1);
/// Batches of which it is remembered that one was told of.
const REMEMBERED: usize = 256;

/// What a program is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    Offer,
    Done,
    Failed,
}

impl Occasion {
    fn of(event: &TransferEvent) -> Option<Self> {
        match event {
            TransferEvent::Waiting { reason: WaitReason::Accept, .. } => Some(Self::Offer),
            TransferEvent::Done { .. } => Some(Self::Done),
            TransferEvent::Failed { failure: Failure::Cancelled, .. } => None,
            TransferEvent::Failed { .. } => Some(Self::Failed),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// Runs what is to be run until the daemon ends.
pub(super) async fn follow(
    registry: Arc<Registry>,
    hooks: Hooks,
    home: PathBuf,
    shutdown: CancellationToken,
) {
    let mut events = registry.watch_all();
    let runner = Runner { hooks, home, places: Arc::new(Semaphore::new(AT_ONCE)) };
    let mut told = Told::default();
    let mut gathering: VecDeque<(Instant, Arc<Job>)> = VecDeque::new();
    loop {
        let due = gathering.front().map(|(at, _)| *at);
        let event = tokio::select! {
            event = events.recv() => event,
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some((_, job)) = gathering.pop_front() {
                    runner.tell_of_all(&waiting_with(&registry, &job)).await;
                }
                continue;
            }
            () = shutdown.cancelled() => break,
        };
        let Some(event) = event else { break };
        let Some((occasion, job)) = Occasion::of(&event).zip(registry.get(event.transfer())) else {
            continue;
        };
        let summary = job.summary();
        let Some(batch) = summary.batch.filter(|_| occasion == Occasion::Offer) else {
            runner.tell(occasion, &summary, &facts(occasion, &summary, Some(&event))).await;
            continue;
        };
        if told.is_news(&summary) {
            gathering.push_back((Instant::now() + GATHERING, job.clone()));
        }
        let of_it = |other: &Job| Told::key(&other.summary()) == Told::key(&summary);
        let waiting = waiting_with(&registry, &job);
        if waiting.len() >= batch.count as usize && gathering.iter().any(|(_, other)| of_it(other)) {
            gathering.retain(|(_, other)| !of_it(other));
            runner.tell_of_all(&waiting).await;
        }
    }
}

/// What of an offer of several waits for its owner's word, in the order of the numbers.
fn waiting_with(registry: &Registry, job: &Arc<Job>) -> Vec<Summary> {
    let mut waiting = registry.asked_with(job);
    waiting.extend(job.asks().then(|| job.clone()));
    waiting.sort_by_key(|job| job.number());
    waiting.iter().map(|job| job.summary()).collect()
}

/// What runs programs.
struct Runner {
    hooks: Hooks,
    home: PathBuf,
    places: Arc<Semaphore>,
}

impl Runner {
    /// Tells of an offer of several. Where nothing of it waits any longer, its owner has seen it.
    async fn tell_of_all(&self, waiting: &[Summary]) {
        if let Some(first) = waiting.first() {
            self.tell(Occasion::Offer, first, &facts_of_all(first, waiting)).await;
        }
    }

    async fn tell(&self, occasion: Occasion, summary: &Summary, facts: &[(&'static str, String)]) {
        let mut facts = facts.to_vec();
        facts.push(("P2P_HOME", self.home.display().to_string()));
        for words in commands(&self.hooks, occasion, summary) {
            let Ok(place) = self.places.clone().acquire_owned().await else { return };
            let facts = facts.clone();
            tokio::spawn(async move {
                run(&words, facts).await;
                drop(place);
            });
        }
    }
}

/// The batches whose owner was told of one that waits, the last ones: all that is offered together is one offer.
#[derive(Default)]
struct Told(VecDeque<(Option<PeerId>, BatchId)>);

impl Told {
    fn key(summary: &Summary) -> Option<(Option<PeerId>, BatchId)> {
        summary.batch.map(|batch| (summary.peer, batch.id))
    }

    fn is_news(&mut self, summary: &Summary) -> bool {
        let Some(batch) = Self::key(summary) else { return true };
        if self.0.contains(&batch) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(batch);
        true
    }
}

fn commands(hooks: &Hooks, occasion: Occasion, summary: &Summary) -> Vec<Vec<String>> {
    let own = match occasion {
        Occasion::Offer => &hooks.offer,
        Occasion::Done => &hooks.done,
        Occasion::Failed => &hooks.failed,
    };
    let notice = hooks.notify.then(|| notice(occasion, summary));
    [Some(own.clone()), notice].into_iter().flatten().filter(|words| !words.is_empty()).collect()
}

/// What shows a notice on a desktop (Desktop Notifications Specification, by the program that comes with libnotify). The
/// body may be read as markup.
fn notice(occasion: Occasion, summary: &Summary) -> Vec<String> {
    let Summary { name, target, .. } = summary;
    let title = match (occasion, summary.direction) {
        (Occasion::Offer, _) => "An offer waits for your yes",
        (Occasion::Failed, _) => "A transfer failed",
        (Occasion::Done, Direction::Receive | Direction::Fetch) => "Received",
        (Occasion::Done, Direction::Send | Direction::Serve) => "Sent",
    };
    let more = match summary.batch.filter(|_| occasion == Occasion::Offer) {
        Some(batch) => format!(" and {} more", batch.count.saturating_sub(1)),
        None => String::new(),
    };
    let plain = p2p_protocol::name::printable(&format!("{name}{more} ({target})"));
    let body = plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    ["notify-send", "--app-name=p2p", "--", title, &body].map(str::to_owned).into()
}

/// The same of an offer of several: the number is that of all of it in the list of offers, the bytes are those of all of it, as far as
/// they are known, and what is so of one alone is not said.
fn facts_of_all(first: &Summary, waiting: &[Summary]) -> Vec<(&'static str, String)> {
    let mut facts = facts(Occasion::Offer, first, None);
    facts.retain(|(name, _)| !["P2P_BYTES", "P2P_FILE_ID", "P2P_PATH"].contains(name));
    let here = waiting.iter().map(|summary| summary.progress.total_bytes).fold(0, u64::saturating_add);
    let is_whole = first.batch.is_none_or(|batch| waiting.len() >= batch.count as usize);
    // Who sends may say less than there is.
    let said = first.batch.and_then(|batch| batch.total_bytes).map(|said| said.max(here));
    facts.extend(said.or(is_whole.then_some(here)).map(|bytes| ("P2P_BYTES", bytes.to_string())));
    facts
}

/// What a program is told, as environment variables.
fn facts(
    occasion: Occasion,
    summary: &Summary,
    event: Option<&TransferEvent>,
) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("P2P_EVENT", occasion.word().to_owned()),
        ("P2P_TRANSFER", summary.transfer.to_string()),
        ("P2P_DIRECTION", summary.direction.word().to_owned()),
        ("P2P_NAME", summary.name.clone()),
        ("P2P_TARGET", summary.target.clone()),
    ];
    // Of what has not begun nothing is known.
    if summary.progress.total_bytes > 0 || occasion != Occasion::Failed {
        facts.push(("P2P_BYTES", summary.progress.total_bytes.to_string()));
    }
    if let Some(batch) = summary.batch {
        facts.extend([("P2P_BATCH", batch.id.to_string()), ("P2P_COUNT", batch.count.to_string())]);
    }
    facts.extend(summary.peer.map(|peer| ("P2P_PEER", peer.to_string())));
    facts.extend(summary.file_id.map(|id| ("P2P_FILE_ID", id.to_string())));
    facts.extend(summary.path.clone().map(|path| ("P2P_PATH", path)));
    if let Some(TransferEvent::Failed { failure, message, .. }) = event {
        facts.extend([
            ("P2P_CODE", failure.code().to_owned()),
            ("P2P_EXIT_CODE", failure.exit_code().to_string()),
            ("P2P_MESSAGE", message.clone()),
        ]);
    }
    facts
}

async fn run(words: &[String], facts: Vec<(&'static str, String)>) {
    let Some((program, arguments)) = words.split_first() else { return };
    let mut command = Command::new(program);
    command.args(arguments).envs(facts).kill_on_drop(true);
    // What it says about its own troubles goes where the daemon's log goes.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = match command.spawn() {
        Ok(mut child) => tokio::time::timeout(LONGEST, child.wait()).await,
        Err(error) => Ok(Err(error)),
    };
    match status {
        Ok(Ok(status)) if status.success() => tracing::debug!(program, "a hook has run"),
        Ok(Ok(status)) => tracing::warn!(program, %status, "a hook failed"),
        Ok(Err(error)) => tracing::warn!(program, %error, "a hook could not be run"),
        Err(_) => tracing::warn!(program, longest = ?LONGEST, "a hook ran too long, and was killed"),
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::{Batch, FileId};

    use super::{super::spec::Spec, *};
    use crate::session::error::RunError;

    fn received() -> (Summary, TransferEvent) {
        let spec = Spec::Receive { peer: PeerId([2; 32]), file_id: FileId([7; 32]) };
        let job = Job::new(5, spec, "a $(b).txt".into(), "bob".into());
        job.done(FileId([7; 32]), "/in/a $(b).txt".into(), 10, None);
        (job.summary(), job.last_event().unwrap())
    }

    #[test]
    fn a_program_is_told_what_has_happened() {
        let (summary, event) = received();
        let facts = facts(Occasion::Done, &summary, Some(&event));
        let known =
            |name: &str| facts.iter().find(|(known, _)| *known == name).map(|(_, fact)| fact.as_str());
        assert_eq!((known("P2P_EVENT"), known("P2P_DIRECTION")), (Some("done"), Some("receive")));
        assert_eq!((known("P2P_NAME"), known("P2P_PATH")), (Some("a $(b).txt"), Some("/in/a $(b).txt")));
        assert_eq!((known("P2P_TARGET"), known("P2P_BYTES")), (Some("bob"), Some("10")));
        assert_eq!(known("P2P_PEER"), Some(PeerId([2; 32]).to_string().as_str()));
        assert_eq!(known("P2P_CODE"), None);
    }

    #[test]
    fn only_what_nobody_wanted_is_a_failure() {
        let spec = Spec::Serve { peer: PeerId([2; 32]), file_id: FileId([7; 32]) };
        let ends = |error: &RunError| {
            let job = Job::new(5, spec.clone(), "a".into(), "bob".into());
            job.fail(error);
            Occasion::of(&job.last_event().unwrap())
        };
        assert_eq!(ends(&RunError::cancelled()), None);
        assert_eq!(ends(&RunError::new(Failure::Storage, "full")), Some(Occasion::Failed));
        assert_eq!(Occasion::of(&received().1), Some(Occasion::Done));
        let waiting = |reason| Occasion::of(&TransferEvent::Waiting { transfer: 5, reason });
        assert_eq!((waiting(WaitReason::Accept), waiting(WaitReason::Space)), (Some(Occasion::Offer), None));
    }

    #[test]
    fn what_is_offered_together_is_told_of_once() {
        let batch = |id| Batch { id: BatchId([id; 16]), position: 1, count: 3, total_bytes: None };
        let (mut summary, _) = received();
        let mut told = Told::default();
        assert!(told.is_news(&summary) && told.is_news(&summary));
        summary.batch = Some(batch(1));
        assert!(told.is_news(&summary) && !told.is_news(&summary));
        assert_eq!(notice(Occasion::Offer, &summary).last().unwrap(), "a $(b).txt and 2 more (bob)");
        let one = |transfer| Summary { transfer, ..summary.clone() };
        let of_all = |waiting: &[Summary]| facts_of_all(&waiting[0], waiting);
        let whole = of_all(&[one(7), one(8), one(9)]);
        for fact in [("P2P_COUNT", "3"), ("P2P_TRANSFER", "7"), ("P2P_BYTES", "30")] {
            assert!(whole.contains(&(fact.0, fact.1.into())), "{fact:?} in {whole:?}");
        }
        assert!(whole.iter().all(|(name, _)| !["P2P_PATH", "P2P_FILE_ID"].contains(name)), "{whole:?}");
        assert!(of_all(&[one(7)]).iter().all(|(name, _)| *name != "P2P_BYTES"), "more is to come");
        let other = Summary { peer: Some(PeerId([9; 32])), ..summary.clone() };
        assert!(told.is_news(&other), "another peer may have chosen the same ID");
        for id in 0..=255 {
            told.is_news(&Summary { batch: Some(batch(id)), ..other.clone() });
        }
        assert!(told.0.len() <= REMEMBERED);
    }

    #[test]
    fn a_notice_is_no_markup_and_no_flag() {
        let (mut summary, _) = received();
        summary.name = "--<b>\u{202e}".to_owned();
        let words = notice(Occasion::Done, &summary);
        assert_eq!(words[2..], ["--", "Received", "--&lt;b&gt;\\u{202e} (bob)"]);
        let hooks = Hooks { done: vec!["x".into(), "y".into()], notify: true, ..Hooks::default() };
        assert_eq!(commands(&hooks, Occasion::Done, &summary)[0], ["x", "y"]);
        assert_eq!(commands(&hooks, Occasion::Failed, &summary).len(), 1);
        assert!(commands(&Hooks::default(), Occasion::Done, &summary).is_empty());
    }
}
