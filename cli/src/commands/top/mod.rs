//! `p2p top`: all transfers and peers on one screen, as they change, and keys that act on them.

mod draw;
mod model;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use p2p_protocol::control::{Event, PeerInfo, Request, Status, Summary};
use ratatui::crossterm::event::{self, Event as Input, KeyEvent, KeyEventKind};
use tokio::{sync::mpsc, time::MissedTickBehavior};

use self::model::{Model, Step};
use crate::{
    client::{self, Client},
    context::Context,
    error::CliError,
    output::terminal_is_dumb,
};

/// How often the daemon is asked.
const REFRESH: Duration = Duration::from_millis(500);
/// How long the thread that reads keys waits for one before it looks whether they are still wanted.
const KEY_WAIT: Duration = Duration::from_millis(200);

pub(crate) async fn run(ctx: &Context) -> Result<(), CliError> {
    let draws = io::stdin().is_terminal() && io::stdout().is_terminal() && !terminal_is_dumb();
    if ctx.out.is_json() || !draws {
        return Err(CliError::usage("p2p top draws on a terminal, and there is none that can be drawn on")
            .hint(format!(
                "for scripts: {} or {}",
                ctx.suggest("list --json"),
                ctx.suggest("watch --json")
            )));
    }
    let mut model = Model::default();
    refresh(ctx.connect().await?, ctx, &mut model).await?;
    let terminal = ratatui::try_init().map_err(|error| terminal(&error))?;
    let result = live(ctx, terminal, model).await;
    ratatui::restore();
    result
}

fn terminal(error: &io::Error) -> CliError {
    CliError::usage(format!("the terminal cannot be drawn on: {error}"))
}

async fn live(ctx: &Context, mut screen: ratatui::DefaultTerminal, mut model: Model) -> Result<(), CliError> {
    let mut inputs = read_keys();
    let mut tick = tokio::time::interval(REFRESH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        screen.draw(|frame| draw::draw(frame, &model, ctx.out.color())).map_err(|error| terminal(&error))?;
        tokio::select! {
            input = inputs.recv() => match input {
                // Another size needs nothing but another picture.
                Some(None) => continue,
                Some(Some(key)) => match model.on(key) {
                    Step::Quit => return Ok(()),
                    Step::Stay => continue,
                    Step::Ask(request) => {
                        if let Err(error) = ask(ctx, &request).await {
                            model.trouble = Some(error.message);
                        }
                    }
                },
                None => return Ok(()),
            },
            _ = tick.tick() => {}
        }
        match Client::connect(&ctx.home).await {
            Ok(client) => {
                if let Err(error) = refresh(client, ctx, &mut model).await {
                    model.trouble = Some(error.message);
                }
            }
            Err(error) => model.trouble = Some(CliError::from(error).message),
        }
    }
}

async fn ask(ctx: &Context, request: &Request) -> Result<(), CliError> {
    ctx.connect().await?.ask_all(request).await.map(drop)
}

/// Asks the daemon how everything is.
async fn refresh(client: Client, ctx: &Context, model: &mut Model) -> Result<(), CliError> {
    let transfers: Vec<Summary> = answers(client, &Request::List, |event| match event {
        Event::Summary(summary) => Some(summary),
        _ => None,
    })
    .await?;
    let peers: Vec<PeerInfo> = answers(ctx.connect().await?, &Request::Peers, |event| match event {
        Event::Peer(peer) => Some(peer),
        _ => None,
    })
    .await?;
    let status: Vec<Status> = answers(ctx.connect().await?, &Request::Status, |event| match event {
        Event::Status(status) => Some(status),
        _ => None,
    })
    .await?;
    let status = status.into_iter().next().ok_or_else(client::unexpected)?;
    model.take(transfers, peers, status);
    Ok(())
}

async fn answers<T>(
    client: Client,
    request: &Request,
    parse: impl Fn(Event) -> Option<T>,
) -> Result<Vec<T>, CliError> {
    let events = client.ask_all(request).await?;
    events.into_iter().map(|event| parse(event).ok_or_else(client::unexpected)).collect()
}

/// Keys as they are pressed, and `None` where the terminal is another one now, from a thread that ends when nobody wants them.
fn read_keys() -> mpsc::Receiver<Option<KeyEvent>> {
    let (sender, inputs) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || {
        while !sender.is_closed() {
            let input = match event::poll(KEY_WAIT) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let told = match input {
                Ok(Input::Key(key)) if key.kind == KeyEventKind::Press => sender.blocking_send(Some(key)),
                Ok(Input::Resize(..)) => sender.blocking_send(None),
                Ok(_) => Ok(()),
                // No more keys will come, which ends it all.
                Err(_) => return,
            };
            if told.is_err() {
                return;
            }
        }
    });
    inputs
}
