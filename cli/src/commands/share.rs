//! `p2p share`, `p2p shares` and `p2p unshare`.

use p2p_protocol::{
    FileId,
    control::{Event, Request, ShareRequest, ShareWith, TransferEvent},
};

use super::source::{Source, not_stdin};
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
    ctx.out.print(&file_id.to_string())?;
    ctx.out.say(&format!("{path} can be fetched by {audience}"));
    ctx.out.json(&Line::Shared { file_id, path: &path, audience: &audience })
}

fn request(typed: Share) -> Result<ShareRequest, CliError> {
    not_stdin(&typed.path)?;
    let path = Source::look(&typed.path)?.into_bytes();
    let with = match (typed.public, typed.to) {
        (true, _) => ShareWith::Public,
        (false, peers) if peers.is_empty() => ShareWith::Trusted,
        (false, peers) => ShareWith::Peers(peers),
    };
    Ok(ShareRequest { path, with })
}

/// `p2p shares`.
pub(crate) async fn list(ctx: &Context) -> Result<(), CliError> {
    let answer = ctx.connect().await?.ask_all(&Request::Shares).await?;
    let mut rows = vec![["FILE ID", "FOR", "PATH"].map(str::to_owned).to_vec()];
    for event in &answer {
        let Event::Shared { file_id, path, audience } = event else { return Err(client::unexpected()) };
        ctx.out.json(&Line::Shared { file_id: *file_id, path, audience })?;
        rows.push(vec![file_id.to_string(), audience.clone(), path.clone()]);
    }
    if answer.is_empty() {
        ctx.out.say("nothing is shared");
        return Ok(());
    }
    format::table(&rows).iter().try_for_each(|line| ctx.out.print(line))
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
        assert_eq!(of(&["--to", "a", "--to", "b"]), ShareWith::Peers(vec!["a".into(), "b".into()]));
    }
}
