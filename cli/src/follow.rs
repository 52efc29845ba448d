//! Asking the daemon for a transfer, and staying with it until it ends: over a daemon that dies and comes
//! back, and until Ctrl-C.

use std::time::Duration;

use p2p_protocol::{
    control::{Event, Output, Request},
    reason::Failure,
};
use tokio::time::Instant;

use crate::{
    client::{self, Client, ConnectError, Events},
    context::Context,
    error::{CliError, Kind},
    interrupt::Interrupt,
    json::{BatchLine, Line},
    view::{Step, View, unknown_key_hints},
};

/// How often a daemon that went away is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What the end of a connection means.
enum Ended {
    /// All that was asked for has happened.
    Done,
    /// The daemon went away.
    Lost,
}

/// What is asked for, and how much of it this command has.
#[derive(Debug)]
struct Asked {
    request: Request,
    /// Whether the command only wants the transfer's number.
    detach: bool,
    /// Bytes of the file that went to standard output.
    written: u64,
    /// Bytes that come once more, because another daemon starts at the beginning.
    skip: u64,
}

/// Asks for a transfer, or to watch one, and shows it until it ends.
///
/// # Errors
/// How it failed, or that Ctrl-C ended the command while the transfer goes on.
pub(crate) async fn follow(
    ctx: &Context,
    mut view: View<'_>,
    client: Client,
    request: Request,
) -> Result<(), CliError> {
    let detach = match &request {
        Request::Send(send) => send.detach,
        Request::Fetch(fetch) => fetch.detach,
        _ => false,
    };
    let to_stdout = is_to_stdout(&request);
    let asked = Asked { request, detach, written: 0, skip: 0 };
    let mut interrupt = Interrupt::listen()?;
    let result = tokio::select! {
        result = drive(ctx, &mut view, client, asked) => result,
        () = interrupt.wait() => Err(left(ctx, CliError::interrupted(view.transfer), to_stdout)),
        time = ctx.timeout.wait() => Err(left(ctx, CliError::timed_out(view.transfer, time), to_stdout)),
    };
    view.clear();
    result
}

/// What becomes of a transfer that its command leaves.
fn left(ctx: &Context, error: CliError, to_stdout: bool) -> CliError {
    match error.transfer {
        Some(_) if to_stdout => {
            let message = format!("{}: the file on standard output is not whole", error.message);
            CliError { message, ..error }
        }
        Some(transfer) => {
            let message = match error.kind {
                Kind::Interrupted => format!("transfer {transfer} goes on"),
                _ => format!("{}; transfer {transfer} goes on", error.message),
            };
            CliError { message, ..error }
                .hint(format!("see it with:  {}", ctx.suggest(&format!("watch {transfer}"))))
                .hint(format!("stop it with: {}", ctx.suggest(&format!("cancel {transfer}"))))
        }
        None => error,
    }
}

fn is_to_stdout(request: &Request) -> bool {
    matches!(request, Request::Fetch(fetch) if fetch.output == Output::Stdout)
}

async fn drive(
    ctx: &Context,
    view: &mut View<'_>,
    mut client: Client,
    mut asked: Asked,
) -> Result<(), CliError> {
    loop {
        let events = client.ask(&asked.request).await?;
        match pump(ctx, view, events, &mut asked).await? {
            Ended::Done => return Ok(()),
            Ended::Lost => {}
        }
        view.daemon_gone()?;
        client = come_back(ctx).await.map_err(|error| error.about(view.transfer))?;
        view.daemon_back();
        match view.transfer {
            // What goes to standard output has its reader here and nowhere else, so it is asked for again.
            _ if is_to_stdout(&asked.request) => asked.skip = asked.written,
            Some(transfer) => asked.request = Request::Watch(Some(transfer)),
            // The request may not have arrived. Where it did, it is told that it is the same.
            None => {}
        }
    }
}

/// Shows what comes over one connection.
async fn pump(
    ctx: &Context,
    view: &mut View<'_>,
    mut events: Events,
    asked: &mut Asked,
) -> Result<Ended, CliError> {
    loop {
        let Some(event) = events.next().await? else {
            return Ok(Ended::Lost);
        };
        match event {
            Event::Queued { transfer, batch } => {
                view.transfer = Some(transfer);
                if asked.detach {
                    ctx.out.print(&transfer.to_string())?;
                    ctx.out.json(&Line::Queued { transfer, path: None, batch: BatchLine::of(batch) })?;
                    ctx.out.say(&format!("see it with: {}", ctx.suggest(&format!("watch {transfer}"))));
                    return Ok(Ended::Done);
                }
            }
            Event::Transfer(event) => match view.on(event)? {
                Step::More => {}
                Step::Done { .. } => return Ok(Ended::Done),
                Step::Failed(error) if is_to_stdout(&asked.request) => {
                    let unknown = error.is(Failure::UnknownKey);
                    return Err(if unknown { error } else { CliError { hints: Vec::new(), ..error } });
                }
                Step::Failed(error) => return Err(error),
            },
            Event::Data(mut bytes) => {
                let known = asked.skip.min(bytes.len() as u64);
                asked.skip -= known;
                bytes.drain(..known as usize);
                asked.written += bytes.len() as u64;
                ctx.out.data(bytes).await?;
            }
            Event::Error(error) => {
                let error = CliError::request(error).about(view.transfer);
                let unknown = error.is(Failure::UnknownKey);
                return Err(if unknown { unknown_key_hints(error) } else { error });
            }
            _ => return Err(client::unexpected()),
        }
    }
}

/// Waits for a daemon that went away.
///
/// # Errors
/// It does not come back in time, or is another one now.
pub(crate) async fn come_back(ctx: &Context) -> Result<Client, CliError> {
    let deadline = Instant::now() + ctx.patience;
    loop {
        match Client::connect(&ctx.home).await {
            Ok(client) => return Ok(client),
            Err(ConnectError::NotRunning) if Instant::now() < deadline => {
                tokio::time::sleep(LOOK_AGAIN).await
            }
            Err(ConnectError::NotRunning) => {
                return Err(CliError::daemon("the daemon went away and did not come back")
                    .hint("what was verified is kept; the daemon takes it up again when it starts: p2pd")
                    .hint(format!(
                        "its log, if it was started on demand: {}",
                        ctx.home.join("p2pd.log").display()
                    )));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
