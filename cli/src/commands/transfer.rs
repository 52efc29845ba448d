//! What `send` and `fetch` have in common, and what can be done to a transfer that is there.

use p2p_protocol::{
    PeerId,
    control::{Event, FetchRequest, KeyPolicy, Output, Request, RequestId, SendRequest, State},
    name::printable,
    queue::Priority,
    rate::Rate,
    reason::Failure,
};

use super::together::{self, Named};
use crate::{
    args::Key,
    client,
    context::{Context, Person},
    error::CliError,
    follow::follow,
    interrupt::Interrupt,
    json::{self, BatchLine, Line},
    view::View,
};

/// A transfer to be made.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Send(SendRequest),
    Fetch(FetchRequest),
}

impl Job {
    /// A new one. What goes to standard output begins anew with each.
    fn request(&self) -> Request {
        let request = Some(new_id());
        match self {
            Self::Send(send) => Request::Send(SendRequest { request, ..send.clone() }),
            Self::Fetch(fetch) if fetch.output == Output::Stdout => Request::Fetch(fetch.clone()),
            Self::Fetch(fetch) => Request::Fetch(FetchRequest { request, ..fetch.clone() }),
        }
    }

    /// The other side as typed; several where the next is tried when one fails.
    fn targets(&self) -> Vec<&str> {
        match self {
            Self::Send(send) => vec![&send.target],
            Self::Fetch(fetch) => fetch.from.iter().map(String::as_str).collect(),
        }
    }

    fn key(&mut self) -> &mut KeyPolicy {
        match self {
            Self::Send(send) => &mut send.key,
            Self::Fetch(fetch) => &mut fetch.key,
        }
    }
}

impl From<&Key> for KeyPolicy {
    fn from(key: &Key) -> Self {
        match (key.peer, key.accept_new_key) {
            (Some(peer), _) => Self::Exactly(peer),
            (None, true) => Self::AcceptNew,
            (None, false) => Self::Known,
        }
    }
}

/// What tells a request from all others.
pub(super) fn new_id() -> RequestId {
    RequestId(rand::random())
}

/// Makes a transfer and stays with it until it ends. An unknown key at the target is asked about once, where
/// there is a person to ask.
pub(crate) async fn run(ctx: &Context, mut job: Job) -> Result<(), CliError> {
    let mut interrupt = Interrupt::listen()?;
    loop {
        let client = tokio::select! {
            client = ctx.connect_or_start() => client?,
            () = interrupt.wait() => return Err(CliError::interrupted(None)),
            time = ctx.timeout.wait() => return Err(CliError::timed_out(None, time)),
        };
        let view = View::of_new(ctx, &job.targets().join(" or "));
        let error = match follow(ctx, view, client, job.request()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match (error.key, job.targets().as_slice()) {
            (Some(key), [target])
                if error.is(Failure::UnknownKey)
                    && ctx.person != Person::Absent
                    && is_trusted(ctx, &mut interrupt, target, &key).await? =>
            {
                *job.key() = KeyPolicy::Exactly(key);
            }
            _ => return Err(error),
        }
    }
}

/// Asks whether the key found at a target is the right one.
pub(super) async fn is_trusted(
    ctx: &Context,
    interrupt: &mut Interrupt,
    target: &str,
    key: &PeerId,
) -> Result<bool, CliError> {
    ctx.out.say(&format!("The key at {target} is not known here. Its Peer ID is"));
    ctx.out.say(&format!("    {key}"));
    ctx.out.say("Compare it with what `p2p id` prints on that machine.");
    ctx.out.ask(&format!("Trust this key for {target}? [y/N]"));
    let answer = tokio::select! {
        answer = ctx.person.answer() => answer,
        () = interrupt.wait() => return Err(CliError::interrupted(None)),
    };
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn is_unfinished(state: State) -> bool {
    matches!(state, State::Waiting | State::Active)
}

/// What failed keeps what it has, until it is cancelled.
fn can_be_cancelled(state: State) -> bool {
    is_unfinished(state) || state == State::Failed
}

/// `p2p cancel`.
pub(crate) async fn cancel(ctx: &Context, transfers: &[Named]) -> Result<(), CliError> {
    let cancel = async |transfer| {
        let answer = ctx.connect_or_start().await?.ask_all(&Request::Cancel(transfer)).await;
        let left = match answer.map_err(|error| error.about(Some(transfer)))?.as_slice() {
            [Event::Ok] => None,
            [Event::Left { path }] => Some(path.clone()),
            _ => return Err(crate::client::unexpected()),
        };
        ctx.out.say(&format!("transfer {transfer} is cancelled"));
        if let Some(path) = &left {
            ctx.out.say(&format!("what had arrived whole stays in {}", printable(path)));
        }
        ctx.out.json(&Line::Cancelled { transfer, left: left.as_deref() })
    };
    together::each_of(ctx, transfers, can_be_cancelled, cancel).await
}

/// `p2p retry`.
pub(crate) async fn retry(ctx: &Context, transfers: &[Named]) -> Result<(), CliError> {
    let retry = async |named: Named| {
        let numbers = together::numbers(ctx, &[named]).await?;
        let only = if let [number] = numbers.as_slice() { Some(*number) } else { None };
        let answer = ctx.connect_or_start().await?.ask_all(&Request::Retry(numbers)).await;
        for event in answer.map_err(|error| error.about(only))? {
            let Event::Queued { transfer, batch } = event else { return Err(client::unexpected()) };
            let watch = ctx.suggest(&format!("watch {transfer}"));
            ctx.out.say(&format!("transfer {transfer} goes on; see it with: {watch}"));
            ctx.out.json(&Line::Queued { transfer, path: None, batch: BatchLine::of(batch) })?;
        }
        Ok(())
    };
    together::each(ctx, transfers.to_vec(), retry).await
}

/// `p2p pause`.
pub(crate) async fn pause(ctx: &Context, transfers: &[Named]) -> Result<(), CliError> {
    let pause = async |transfer| {
        ask(ctx, transfer, &Request::Pause(transfer)).await?;
        let resume = ctx.suggest(&format!("resume {transfer}"));
        ctx.out.say(&format!("transfer {transfer} is paused; let it go on with: {resume}"));
        ctx.out.json(&Line::Paused { transfer })
    };
    together::each_of(ctx, transfers, is_unfinished, pause).await
}

/// `p2p resume`.
pub(crate) async fn resume(ctx: &Context, transfers: &[Named]) -> Result<(), CliError> {
    let resume = async |transfer| {
        ask(ctx, transfer, &Request::Resume(transfer)).await?;
        ctx.out.say(&format!("transfer {transfer} goes on"));
        ctx.out.json(&Line::Resumed { transfer })
    };
    together::each_of(ctx, transfers, is_unfinished, resume).await
}

/// `p2p priority`.
pub(crate) async fn prioritise(ctx: &Context, transfer: Named, priority: Priority) -> Result<(), CliError> {
    let prioritise = async |transfer| {
        ask(ctx, transfer, &Request::Prioritise(transfer, priority)).await?;
        ctx.out.say(&format!("transfer {transfer} has {} priority now", json::priority(priority)));
        ctx.out.json(&Line::Priority { transfer, priority })
    };
    together::each_of(ctx, &[transfer], is_unfinished, prioritise).await
}

async fn ask(ctx: &Context, transfer: u64, request: &Request) -> Result<(), CliError> {
    let client = ctx.connect_or_start().await?;
    client.ask_ok(request).await.map_err(|error| error.about(Some(transfer)))
}

/// `p2p limit N RATE`.
pub(crate) async fn limit(ctx: &Context, transfer: Named, limit: Option<Rate>) -> Result<(), CliError> {
    let words = limit.map_or_else(
        || "has no limit of its own now".to_owned(),
        |rate| format!("goes at {rate} at most now"),
    );
    let set = async |transfer| {
        ask(ctx, transfer, &Request::LimitOne(transfer, limit)).await?;
        ctx.out.say(&format!("transfer {transfer} {words}"));
        ctx.out.json(&Line::Limit { transfer, limit_bps: limit.map(Rate::bytes) })
    };
    together::each_of(ctx, &[transfer], is_unfinished, set).await
}
