//! `--dry-run` of `p2p send` and `p2p fetch`: what would move, and nothing moves.

use p2p_protocol::{
    control::{Event, FetchRequest, Planned, Request, SendRequest},
    name::printable,
};

use crate::{client, context::Context, error::CliError, format, json::Line, remarks::Remarks};

pub(crate) async fn send(ctx: &Context, sends: Vec<SendRequest>) -> Result<(), CliError> {
    for send in sends {
        let target = send.target.clone();
        let planned = ask(ctx, Request::PlanSend(send)).await?;
        ctx.out.say(&words(&planned, &format!("to {target}")));
    }
    Ok(())
}

pub(crate) async fn fetch(ctx: &Context, fetch: FetchRequest) -> Result<(), CliError> {
    if fetch.ticket.is_some() {
        return Err(CliError::usage("a ticket tells nothing before it is used")
            .hint("leave --dry-run out to fetch what it is for"));
    }
    let planned = ask(ctx, Request::PlanFetch(fetch)).await?;
    let place = planned
        .path
        .as_deref()
        .map_or_else(|| "to standard output".into(), |path| format!("to {}", printable(path)));
    ctx.out.say(&words(&planned, &place));
    Ok(())
}

async fn ask(ctx: &Context, request: Request) -> Result<Planned, CliError> {
    let mut remarks = Remarks::default();
    for event in ctx.connect_or_start().await?.ask_all(&request).await? {
        match event {
            Event::Transfer(event) => {
                remarks.on(&ctx.out, &event, |look, label, text| ctx.out.say_as(look, label, text))?;
            }
            Event::Planned(planned) => {
                ctx.out.json(&Line::Planned((&planned).into()))?;
                return Ok(planned);
            }
            _ => break,
        }
    }
    Err(client::unexpected())
}

fn words(planned: &Planned, place: &str) -> String {
    let name = printable(&planned.name);
    let all = format::bytes(planned.bytes);
    let (some, whole) = (format::bytes(planned.bytes_to_move), planned.bytes == planned.bytes_to_move);
    let files = |n: u64| format::count(u32::try_from(n).unwrap_or(u32::MAX), "file");
    let what = if planned.is_folder {
        format!("{name}/ ({}, {all})", files(planned.files))
    } else {
        format!("{name} ({all})")
    };
    match (planned.bytes_to_move, planned.is_folder) {
        (0, _) if planned.bytes > 0 => {
            format!("dry run: {what} {place}: it is there, and nothing would move")
        }
        (_, true) => {
            format!("dry run: {what} {place}: {} of {some} would move", files(planned.files_to_move))
        }
        (_, false) if whole => format!("dry run: {what} {place}: all of it would move"),
        (_, false) => format!("dry run: {what} {place}: {some} would move"),
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::FileId;

    use super::*;

    #[test]
    fn it_is_said_what_would_move() {
        let plan = |is_folder, bytes, files_to_move, bytes_to_move| Planned {
            file_id: FileId([1; 32]),
            name: "a\n".into(),
            is_folder,
            files: if is_folder { 20 } else { 1 },
            bytes,
            files_to_move,
            bytes_to_move,
            path: None,
        };
        let said = [
            plan(false, 5 << 20, 1, 5 << 20),
            plan(false, 5 << 20, 1, 1 << 20),
            plan(false, 5 << 20, 0, 0),
            plan(true, 5 << 20, 1, 77),
            plan(true, 5 << 20, 0, 0),
            plan(true, 0, 0, 0),
        ];
        let said = said.map(|planned| words(&planned, "to bob"));
        insta::assert_snapshot!(said.join("\n"), @r"
        dry run: a\u{a} (5.0 MiB) to bob: all of it would move
        dry run: a\u{a} (5.0 MiB) to bob: 1.0 MiB would move
        dry run: a\u{a} (5.0 MiB) to bob: it is there, and nothing would move
        dry run: a\u{a}/ (20 files, 5.0 MiB) to bob: 1 file of 77 B would move
        dry run: a\u{a}/ (20 files, 5.0 MiB) to bob: it is there, and nothing would move
        dry run: a\u{a}/ (20 files, 0 B) to bob: 0 files of 0 B would move
        ");
    }
}
