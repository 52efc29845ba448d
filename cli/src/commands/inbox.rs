//! `p2p inbox`: offers that wait for a yes.

use std::collections::BTreeSet;

use p2p_protocol::control::{Direction, Event, Request, Summary, WaitReason};

use super::{
    list::{now_ms, other},
    together::{self, Named},
};
use crate::{args::Inbox, client, context::Context, error::CliError, format, json::Line};

pub(crate) async fn run(ctx: &Context, command: Option<Inbox>) -> Result<(), CliError> {
    match command {
        None => list(ctx).await,
        Some(Inbox::Accept { offers }) => {
            let accept = async |named: Named| accept(ctx, named.number()).await;
            together::each(ctx, offers, accept).await
        }
        Some(Inbox::Reject { offers }) => {
            let reject = async |named: Named| reject(ctx, named.number()).await;
            together::each(ctx, offers, reject).await
        }
    }
}

async fn accept(ctx: &Context, number: u64) -> Result<(), CliError> {
    let decided = decide(ctx, number, Request::Accept(number)).await?;
    let batch = decided.iter().find_map(|summary| summary.batch);
    let word = if batch.is_some() { format!("b{number}") } else { number.to_string() };
    let watch = ctx.suggest(&format!("watch {word}"));
    ctx.out.say(&format!("{} accepted; see it with: {watch}", offer(number, &decided)));
    decided.iter().try_for_each(|one| ctx.out.json(&Line::Accepted { transfer: one.transfer }))
}

async fn reject(ctx: &Context, number: u64) -> Result<(), CliError> {
    let decided = decide(ctx, number, Request::Reject(number)).await?;
    ctx.out.say(&format!("{} rejected", offer(number, &decided)));
    decided.iter().try_for_each(|one| ctx.out.json(&Line::Rejected { transfer: one.transfer }))
}

/// Answers an offer: what of it waited for that.
async fn decide(ctx: &Context, number: u64, request: Request) -> Result<Vec<Summary>, CliError> {
    let answer = ctx.connect_or_start().await?.ask_all(&request).await;
    let answer = answer.map_err(|error| error.about(Some(number)))?.into_iter();
    let decided = answer.map(|event| match event {
        Event::Summary(summary) => Ok(summary),
        _ => Err(client::unexpected()),
    });
    decided.collect()
}

/// An offer in a sentence; what was said of one was said of all that it came with.
fn offer(number: u64, decided: &[Summary]) -> String {
    match decided.iter().find_map(|summary| summary.batch) {
        Some(batch) if decided.len() == batch.count as usize => {
            format!("offer {number}, all {} of it, is", batch.count)
        }
        Some(batch) => format!("offer {number}, what waits of it ({} of {}), is", decided.len(), batch.count),
        None => format!("offer {number} is"),
    }
}

/// Whether a transfer is an offer that waits for a yes here.
pub(crate) fn is_offer(summary: &Summary) -> bool {
    summary.direction == Direction::Receive && summary.waiting == Some(WaitReason::Accept)
}

async fn list(ctx: &Context) -> Result<(), CliError> {
    let mut offers = together::all(ctx).await?;
    offers.retain(is_offer);
    offers.iter().try_for_each(|summary| ctx.out.json(&Line::Transfer(summary.into())))?;
    if offers.is_empty() {
        ctx.out.say("no offer waits");
        return Ok(());
    }
    table(&offers, now_ms()).iter().try_for_each(|line| ctx.out.print(line))?;
    ctx.out.say(&format!("take one with: {}", ctx.suggest("inbox accept N")));
    Ok(())
}

/// A row for each offer, and below it one for each thing that is offered together.
fn table(offers: &[Summary], now_ms: u64) -> Vec<String> {
    let mut rows = vec![["N", "SIZE", "FROM", "WHEN", "NAME"].map(str::to_owned).to_vec()];
    let mut shown = BTreeSet::new();
    for summary in offers {
        if shown.contains(&summary.transfer) {
            continue;
        }
        let members = together::members(offers, summary.transfer).unwrap_or_else(|| vec![summary]);
        shown.extend(members.iter().map(|member| member.transfer));
        let bytes = members.iter().map(|member| member.progress.total_bytes).fold(0, u64::saturating_add);
        // Who sends may say less than there is.
        let total = summary.batch.and_then(|batch| batch.total_bytes).map_or(bytes, |total| total.max(bytes));
        let name = match summary.batch {
            Some(batch) => format!("{} together:", batch.count),
            None => summary.name.clone(),
        };
        let when = format::ago(summary.created_ms, now_ms);
        rows.push(vec![summary.transfer.to_string(), format::bytes(total), other(summary), when, name]);
        let Some(batch) = summary.batch else { continue };
        let below =
            |size: String, name: String| vec![String::new(), size, String::new(), String::new(), name];
        for member in &members {
            rows.push(below(format::bytes(member.progress.total_bytes), format!("  {}", member.name)));
        }
        let to_come = batch.count.saturating_sub(members.len() as u32);
        if to_come > 0 {
            rows.push(below(String::new(), format!("  and {to_come} of which nothing waits here")));
        }
    }
    format::table(&rows)
}

#[cfg(test)]
mod tests {
    use p2p_protocol::{Batch, BatchId, control::State};

    use super::*;
    use crate::commands::example;

    #[test]
    fn what_is_offered_together_is_one_offer() {
        let received = |transfer, name: &str, position: Option<u32>| {
            let batch =
                |position| Batch { id: BatchId([1; 16]), position, count: 4, total_bytes: Some(5 << 30) };
            Summary {
                name: name.to_owned(),
                direction: Direction::Receive,
                waiting: Some(WaitReason::Accept),
                batch: position.map(batch),
                ..example(transfer, State::Waiting)
            }
        };
        let offers = [
            received(6, "alone", None),
            received(7, "second", Some(1)),
            received(8, "other", None),
            received(9, "first", Some(0)),
        ];
        insta::assert_snapshot!(table(&offers, 1_190_000).join("\n"));
    }
}
