//! `p2p inbox`: offers that wait for a yes.

use p2p_protocol::control::{Direction, Event, Request, Summary, WaitReason};

use super::list::{now_ms, other};
use crate::{args::Inbox, client, context::Context, error::CliError, format, json::Line};

pub(crate) async fn run(ctx: &Context, command: Option<Inbox>) -> Result<(), CliError> {
    match command {
        None => list(ctx).await,
        Some(Inbox::Accept { number }) => {
            let client = ctx.connect_or_start().await?;
            client.ask_ok(&Request::Accept(number)).await.map_err(|error| error.about(Some(number)))?;
            let watch = ctx.suggest(&format!("watch {number}"));
            ctx.out.say(&format!("offer {number} is accepted; see it with: {watch}"));
            ctx.out.json(&Line::Accepted { transfer: number })
        }
        Some(Inbox::Reject { number }) => {
            let client = ctx.connect_or_start().await?;
            client.ask_ok(&Request::Reject(number)).await.map_err(|error| error.about(Some(number)))?;
            ctx.out.say(&format!("offer {number} is rejected"));
            ctx.out.json(&Line::Rejected { transfer: number })
        }
    }
}

/// Whether a transfer is an offer that waits for a yes here.
pub(crate) fn is_offer(summary: &Summary) -> bool {
    summary.direction == Direction::Receive && summary.waiting == Some(WaitReason::Accept)
}

async fn list(ctx: &Context) -> Result<(), CliError> {
    let answer = ctx.connect().await?.ask_all(&Request::List).await?;
    let mut rows = vec![["N", "SIZE", "FROM", "WHEN", "NAME"].map(str::to_owned).to_vec()];
    for event in answer {
        let Event::Summary(summary) = event else { return Err(client::unexpected()) };
        if !is_offer(&summary) {
            continue;
        }
        ctx.out.json(&Line::Transfer((&summary).into()))?;
        rows.push(vec![
            summary.transfer.to_string(),
            format::bytes(summary.progress.total_bytes),
            other(&summary),
            format::ago(summary.created_ms, now_ms()),
            summary.name,
        ]);
    }
    if rows.len() == 1 {
        ctx.out.say("no offer waits");
        return Ok(());
    }
    format::table(&rows).iter().try_for_each(|line| ctx.out.print(line))?;
    ctx.out.say(&format!("take one with: {}", ctx.suggest("inbox accept N")));
    Ok(())
}
