//! `p2p watch` and `p2p wait`.

use std::collections::HashMap;

use p2p_protocol::control::{Event, Request};

use super::{
    several,
    together::{self, Named},
};
use crate::{
    client,
    context::Context,
    error::CliError,
    follow::{come_back, follow},
    interrupt::Interrupt,
    view::{Step, View},
};

/// Transfers until each has ended; the command ends with the exit code of the worst.
pub(crate) async fn each(ctx: &Context, named: &[Named], live: bool) -> Result<(), CliError> {
    if let [Named::One(transfer)] = named {
        return one(ctx, *transfer, live).await;
    }
    let (transfers, mut wrong) = together::known(ctx, named).await?;
    if let (true, [_]) = (transfers.is_empty(), wrong.as_slice()) {
        return Err(wrong.remove(0));
    }

    several::watch(ctx, transfers, wrong, live).await
}

async fn one(ctx: &Context, transfer: u64, live: bool) -> Result<(), CliError> {
    let client = ctx.connect().await?;
    let view = View::of(ctx, transfer, live);
    let followed = follow(ctx, view, client, Request::Watch(Some(transfer))).await;
    followed.map_err(|error| if error.transfer.is_none() { error.about(Some(transfer)) } else { error })
}

/// Every transfer, for as long as one looks.
pub(crate) async fn all(ctx: &Context) -> Result<(), CliError> {
    let mut interrupt = Interrupt::listen()?;
    tokio::select! {
        result = look(ctx) => result,
        () = interrupt.wait() => Err(CliError::interrupted(None)),
        time = ctx.timeout.wait() => Err(CliError::timed_out(None, time)),
    }
}

async fn look(ctx: &Context) -> Result<(), CliError> {
    let mut client = ctx.connect().await?;
    let mut views: HashMap<u64, View<'_>> = HashMap::new();
    ctx.out.say("watching all transfers; Ctrl-C ends the watching, not the transfers");
    loop {
        let mut events = client.ask(&Request::Watch(None)).await?;
        loop {
            let event = match events.next().await? {
                Some(Event::Transfer(event)) => event,
                Some(Event::Error(error)) => return Err(CliError::request(error)),
                Some(_) => return Err(client::unexpected()),
                None => break,
            };
            let transfer = event.transfer();
            let view = views.entry(transfer).or_insert_with(|| View::among_others(ctx, transfer));
            match view.on(event)? {
                Step::More => continue,
                Step::Done { .. } => {}
                Step::Failed(error) if ctx.out.is_json() => ctx.out.error(&error),
                Step::Failed(error) => {
                    let message = format!("transfer {transfer}: {}", error.message);
                    ctx.out.error(&CliError { message, ..error });
                }
            }
            views.remove(&transfer);
        }
        for view in views.values_mut() {
            view.clear();
        }
        ctx.out.say("the daemon is gone: waiting for it to come back");
        client = come_back(ctx).await?;
        ctx.out.say("the daemon is back");
        views.clear();
    }
}
