//! One file per verb.

mod completions;
mod daemon_prints;
mod demo;
mod doctor;
mod dry_run;

mod excludes;
mod fetch;
mod identity;
mod inbox;
mod invite;
mod limit;
mod list;
mod log;
mod ls;
mod man;
mod peers;
mod qr;
mod rule;
mod send;
mod service;
mod several;
mod share;
mod show;
mod source;
mod status;
mod stdin;
mod together;
mod token;
mod top;
mod transfer;
mod verify;
mod watch;

pub(crate) use inbox::is_offer;
#[cfg(test)]
pub(crate) use list::example;
pub(crate) use log::parse_since;
pub(crate) use together::{Named, Words};

use crate::{
    args::{Command, Config, Patience},
    context::{Context, Timeout},
    error::CliError,
};

/// Runs what was typed.
pub(crate) async fn run(ctx: &mut Context, command: Command) -> Result<(), CliError> {
    ctx.timeout = Timeout::after(patience(&command).timeout);

    match command {
        Command::Send(typed) => send::run(ctx, typed).await,
        Command::Fetch(typed) => fetch::run(ctx, typed).await,
        Command::Share(typed) => share::run(ctx, typed).await,
        Command::Ls { peer, file_id: None } => ls::run(ctx, &peer).await,
        Command::Ls { peer, file_id: Some(file_id) } => ls::folder(ctx, peer, file_id).await,
        Command::Unshare { ticket: Some(ticket), .. } => share::undo_ticket(ctx, ticket).await,
        Command::Unshare { file_id: Some(file_id), .. } => share::undo(ctx, file_id).await,
        Command::Unshare { .. } => Err(CliError::usage("nothing was named that is to be taken back")),
        Command::Shares => share::list(ctx).await,
        Command::List => list::run(ctx).await,
        Command::Show { transfer } => show::run(ctx, transfer).await,
        Command::Log { transfer, since, lines } => log::run(ctx, transfer, since, lines).await,
        Command::Top => top::run(ctx).await,
        Command::Watch { transfers, .. } if transfers.is_empty() => watch::all(ctx).await,
        Command::Watch { transfers, .. } => watch::each(ctx, &transfers, true).await,
        Command::Wait { transfers, .. } => watch::each(ctx, &transfers, false).await,
        Command::Cancel { transfers } => transfer::cancel(ctx, &transfers).await,
        Command::Retry { transfers } => transfer::retry(ctx, &transfers).await,
        Command::Pause { transfers } => transfer::pause(ctx, &transfers).await,
        Command::Resume { transfers } => transfer::resume(ctx, &transfers).await,
        Command::Priority { transfer, level } => transfer::prioritise(ctx, transfer, level.into()).await,
        Command::Limit { transfer: Some(transfer), rate: Some(rate), .. } => {
            transfer::limit(ctx, transfer, rate.0).await
        }
        Command::Limit { up, down, off, reset, .. } => limit::run(ctx, up, down, off, reset).await,
        Command::Inbox { command } => inbox::run(ctx, command).await,
        Command::Id { command: None } => daemon_prints::id(ctx),
        Command::Id { command: Some(command) } => identity::run(ctx, command),
        Command::Invite(typed) => invite::make(ctx, typed).await,
        Command::Invites => invite::list(ctx).await,
        Command::Uninvite { number } => invite::undo(ctx, number).await,
        Command::Join(typed) => invite::join(ctx, typed).await,
        Command::Peers { command } => peers::run(ctx, command).await,
        Command::Status => status::run(ctx).await,
        Command::Config { command: None } => daemon_prints::config(ctx),
        Command::Config { command: Some(Config::Init) } => daemon_prints::new_config(ctx),
        Command::Verify { path, file_id, repair: false, from: _ } => verify::run(ctx, &path, file_id),
        Command::Verify { path, file_id, repair: true, from } => {
            verify::repair(ctx, &path, file_id, from).await
        }
        Command::Doctor { peer: None } => doctor::run(ctx).await,
        Command::Doctor { peer: Some(peer) } => doctor::probe(ctx, peer).await,
        Command::Service { command } => service::run(ctx, command).await,
        Command::Demo { size } => demo::run(ctx, size).await,
        Command::Man { dir: None } => man::print(ctx).await,
        Command::Man { dir: Some(dir) } => man::write(ctx, &dir),
        Command::Completions { shell } => completions::run(ctx, shell).await,
    }
}

fn patience(command: &Command) -> Patience {
    match command {
        Command::Send(typed) => typed.patience,
        Command::Fetch(typed) => typed.patience,
        Command::Watch { patience, .. } | Command::Wait { patience, .. } => *patience,
        _ => Patience::default(),
    }
}
