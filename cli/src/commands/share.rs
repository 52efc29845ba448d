//! `p2p share`, `p2p shares` and `p2p unshare`.

use p2p_protocol::{
    FileId,
    control::{Event, Request, ShareRequest, ShareWith, TicketInfo, TicketTerms, Ticketed, TransferEvent},
};

use super::{
    excludes,
    list::now_ms,
    qr,
    source::{Source, not_stdin},
    token,
};
use crate::{
    args::Share,
    client,
    context::Context,
    error::CliError,
    format,
    interrupt::Interrupt,
    json::{Line, Wait},
    progress::Bar,
    remarks::Remarks,
};

pub(crate) async fn run(ctx: &Context, typed: Share) -> Result<(), CliError> {
    let (by_ticket, with_qr) = (typed.ticket, typed.qr);
    let request = Request::Share(request(typed)?);
    let mut interrupt = Interrupt::listen()?;
    let client = tokio::select! {
        client = ctx.connect_or_start() => client?,
        () = interrupt.wait() => return Err(CliError::interrupted(None)),
    };
    let mut events = client.ask(&request).await?;
    let mut bar = Bar::new(&ctx.out, None);
    let mut remarks = Remarks::default();
    let shared = loop {
        let next = tokio::select! {
            next = events.next() => next?,
            () = interrupt.wait() => return Err(CliError::interrupted(None)),
        };
        match next {
            Some(Event::Transfer(TransferEvent::Waiting { transfer, reason })) => {
                if let Some(bar) = &mut bar {
                    bar.words("hashing the file");
                }
                ctx.out.json(&Line::Waiting { transfer, reason: Wait::Reason(reason) })?;
            }
            Some(Event::Transfer(TransferEvent::Progress { progress, .. })) => {
                if let Some(bar) = &mut bar {
                    bar.progress(&progress);
                }
            }
            Some(Event::Transfer(event))
                if remarks.on(&ctx.out, &event, |look, label, text| ctx.out.say_as(look, label, text))? => {}
            Some(Event::Shared { file_id, path, audience }) => break (file_id, path, audience),
            Some(Event::Error(error)) => return Err(CliError::request(error)),
            Some(_) => return Err(client::unexpected()),
            None => return Err(client::lost()),
        }
    };
    if let Some(bar) = bar {
        bar.clear();
    }
    let (file_id, path, audience) = shared;
    if !by_ticket {
        ctx.out.print(&file_id.to_string())?;
    }
    ctx.out.say(&format!("{path} can be fetched by {audience}"));
    ctx.out.json(&Line::Shared { file_id, path: &path, audience: &audience })?;
    if !by_ticket {
        return Ok(());
    }
    match events.next().await? {
        Some(Event::Ticketed(ticketed)) => show_ticket(ctx, &ticketed, with_qr),
        Some(Event::Error(error)) => Err(CliError::request(error)),
        Some(_) => Err(client::unexpected()),
        None => Err(client::lost()),
    }
}

/// The token alone is data, as a File ID is without one.
fn show_ticket(ctx: &Context, ticketed: &Ticketed, with_qr: bool) -> Result<(), CliError> {
    let Ticketed { token, ticket, addresses } = ticketed;
    ctx.out.print(&token.0)?;
    if with_qr {
        qr::show(ctx, &token.0)?;
    }
    let machines =
        ticket.uses.map_or("any number of machines".to_owned(), |uses| format::count(uses, "machine"));
    let time =
        ticket.expires_ms.map(|expires_ms| format!(", within {}", format::until(expires_ms, now_ms())));
    let number = ticket.number;
    ctx.out.say(&format!(
        "ticket {number}: whoever has it can fetch {}, {machines}{}; there: p2p fetch TICKET",
        ticket.file_id,
        time.unwrap_or_default()
    ));
    ctx.out.say(&format!("take it back with: {}", ctx.suggest(&format!("unshare --ticket {number}"))));
    token::warn_of_loopback(ctx, addresses);
    ctx.out.json(&Line::Ticketed { token: &token.0, ticket: ticket.into(), addresses })
}

fn request(typed: Share) -> Result<ShareRequest, CliError> {
    not_stdin(&typed.path)?;
    let excludes = excludes::patterns(&typed.excludes)?;
    let path = Source::look(&typed.path)?.into_bytes();
    excludes::need_folder(&excludes, std::slice::from_ref(&typed.path))?;
    let with = if typed.ticket {
        let expires_s = typed.expires.map(format::whole_seconds);
        ShareWith::Ticket(TicketTerms { uses: typed.uses, expires_s, addresses: typed.address })
    } else if typed.public {
        ShareWith::Public
    } else if typed.to.is_empty() {
        ShareWith::Trusted
    } else {
        ShareWith::Peers(typed.to)
    };
    Ok(ShareRequest { path, with, excludes })
}

/// `p2p shares`.
pub(crate) async fn list(ctx: &Context) -> Result<(), CliError> {
    let answer = ctx.connect().await?.ask_all(&Request::Shares).await?;
    let mut rows = vec![["FILE ID", "FOR", "PATH"].map(str::to_owned).to_vec()];
    let mut tickets = vec![["TICKET", "USED BY", "HOLDS FOR", "FILE ID"].map(str::to_owned).to_vec()];
    for event in &answer {
        match event {
            Event::Shared { file_id, path, audience } => {
                ctx.out.json(&Line::Shared { file_id: *file_id, path, audience })?;
                let gone = if is_gone(path) { "  (gone)" } else { "" };
                rows.push(vec![file_id.to_string(), audience.clone(), format!("{path}{gone}")]);
            }
            Event::Ticket(ticket) => {
                ctx.out.json(&Line::Ticket(ticket.into()))?;
                tickets.push(row(ticket));
            }
            _ => return Err(client::unexpected()),
        }
    }
    if answer.is_empty() {
        ctx.out.say("nothing is shared");
        return Ok(());
    }
    format::table(&rows).iter().try_for_each(|line| ctx.out.print(line))?;
    if tickets.len() > 1 {
        ctx.out.print("")?;
        format::table(&tickets).iter().try_for_each(|line| ctx.out.print(line))?;
    }
    Ok(())
}

/// Whether there is nothing at a path. What cannot be looked at may well be there.
fn is_gone(path: &str) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn row(ticket: &TicketInfo) -> Vec<String> {
    let of = ticket.uses.map_or(String::new(), |uses| format!(" of {uses}"));
    let holds = ticket.expires_ms.map_or("ever".to_owned(), |expires_ms| format::until(expires_ms, now_ms()));
    vec![ticket.number.to_string(), format!("{}{of}", ticket.used), holds, ticket.file_id.to_string()]
}

/// `p2p unshare --ticket`.
pub(crate) async fn undo_ticket(ctx: &Context, number: u64) -> Result<(), CliError> {
    ctx.connect_or_start().await?.ask_ok(&Request::RemoveTicket(number)).await?;
    ctx.out.say(&format!("ticket {number} lets nobody fetch any longer"));
    ctx.out.json(&Line::TicketRemoved { number })
}

pub(crate) async fn undo(ctx: &Context, file_id: FileId) -> Result<(), CliError> {
    ctx.connect_or_start().await?.ask_ok(&Request::Unshare(file_id)).await?;
    ctx.out.say(&format!("{file_id} can no longer be fetched"));
    ctx.out.json(&Line::Unshared { file_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args::Command, testing::typed};

    #[test]
    fn who_may_fetch_is_what_was_typed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let of = |words: &[&str]| match typed(&[&["share", path], words].concat()).command {
            Command::Share(share) => request(share).unwrap().with,
            other => panic!("{other:?}"),
        };
        assert_eq!(of(&[]), ShareWith::Trusted);
        assert_eq!(of(&["--public"]), ShareWith::Public);
        let terms =
            |uses, expires_s| ShareWith::Ticket(TicketTerms { uses, expires_s, addresses: Vec::new() });
        assert_eq!(of(&["--ticket"]), terms(None, None));
        assert_eq!(of(&["--ticket", "--uses", "2", "--expires", "1h"]), terms(Some(2), Some(3600)));
        assert_eq!(of(&["--to", "a", "--to", "b"]), ShareWith::Peers(vec!["a".into(), "b".into()]));
    }
}
