//! `p2p fetch`.

use std::{
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use p2p_protocol::{
    FileId, PeerId,
    control::{FetchRequest, KeyPolicy, Output, TokenText},
    token::{Grant, looks_like_token},
};

use super::{
    dry_run, token,
    transfer::{self, Job},
};
use crate::{args::Fetch, context::Context, error::CliError};

pub(crate) async fn run(ctx: &mut Context, mut typed: Fetch) -> Result<(), CliError> {
    let what = What::read(ctx, typed.what.take(), typed.token_file.take()).await?;
    let dry_run = typed.dry_run;
    let request = request(typed, what)?;
    if dry_run {
        return dry_run::fetch(ctx, request).await;
    }
    if request.output == Output::Stdout {
        ctx.out.give_data_away();
    }
    transfer::run(ctx, Job::Fetch(request)).await
}

/// What is asked for.
enum What {
    File(FileId),
    Ticket(FileId, PeerId, TokenText),
}

impl What {
    /// A File ID has no secret in it and is always typed; a ticket may come as any token does.
    async fn read(ctx: &Context, typed: Option<String>, file: Option<PathBuf>) -> Result<Self, CliError> {
        if typed.is_none() && file.is_none() && !token::is_in_environment() {
            return Err(CliError::usage("what to fetch was not said").hint("give a File ID, or a ticket"));
        }
        if let Some(typed) = typed.as_deref().filter(|typed| *typed != "-" && !looks_like_token(typed)) {
            let id = typed.parse().map_err(|error| CliError::usage(format!("{typed}: {error}")));
            return Ok(Self::File(id?));
        }
        let text = token::read(ctx, typed, file).await?;
        match text.parse().map(|token| (token.grant, token.peer)) {
            Ok((Grant::Fetch(file_id), peer)) => Ok(Self::Ticket(file_id, peer, text)),
            _ => {
                Err(CliError::usage("this token is an invitation, and no ticket")
                    .hint("use it with p2p join"))
            }
        }
    }
}

fn request(typed: Fetch, what: What) -> Result<FetchRequest, CliError> {
    let Fetch {
        what: _,
        token_file: _,
        from,
        only,
        range,
        output,
        update,
        progressive,
        dry_run,
        key,
        how,
        detach,
        patience: _,
    } = typed;
    let (file_id, from, ticket) = match what {
        What::File(_) if from.is_empty() => {
            return Err(
                CliError::usage("a File ID does not say where it is").hint("name a peer with --from TARGET")
            );
        }
        What::Ticket(..) if !from.is_empty() || key.peer.is_some() || key.accept_new_key => {
            return Err(CliError::usage("a ticket says itself where from, and which key that machine has"));
        }
        What::File(file_id) => (file_id, from, None),
        What::Ticket(file_id, peer, text) => (file_id, vec![peer.to_string()], Some(text)),
    };
    let output = match output {
        Some(path) if update => older(path)?,
        Some(path) => place(path, !dry_run)?,
        None => Output::Inbox,
    };
    if output == Output::Stdout && progressive {
        return Err(CliError::usage(
            "a folder appears file by file in a folder, and not on standard output; leave --progressive or -o - out",
        ));
    }
    if output == Output::Stdout && detach {
        return Err(CliError::usage(
            "-o - writes to this command's standard output, so it cannot be detached",
        ));
    }
    let key = KeyPolicy::from(&key);
    Ok(FetchRequest {
        file_id,
        from,
        ticket,
        output,
        key,
        only,
        range,
        progressive,
        wishes: how.into(),
        detach,
        request: None,
    })
}

/// The copy whose place is to be taken. What is there must be it, or nothing.
pub(super) fn older(path: PathBuf) -> Result<Output, CliError> {
    let cannot = |error: std::io::Error| CliError::io("cannot write to", &path, &error);
    let mut absolute = std::path::absolute(&path).map_err(cannot)?;
    if absolute.is_symlink() || absolute.file_name().is_none() {
        // A link stays, and what it leads to is what is mended.
        absolute = absolute.canonicalize().map_err(cannot)?;
    }
    if path.as_os_str() == "-" || absolute.file_name().is_none() {
        return Err(CliError::usage(format!("{} is no copy that could be updated", path.display())));
    }
    Ok(Output::Update(absolute.components().collect::<PathBuf>().into_os_string().into_vec()))
}

/// Where `-o` says. A path that ends in a slash means a folder, which is made if it is missing and something is to go there.
fn place(path: PathBuf, make: bool) -> Result<Output, CliError> {
    if path.as_os_str() == "-" {
        return Ok(Output::Stdout);
    }
    let cannot = |error: std::io::Error| CliError::io("cannot write to", &path, &error);
    let absolute = std::path::absolute(&path).map_err(cannot)?;
    if make && path.as_os_str().as_bytes().ends_with(b"/") {
        std::fs::create_dir_all(&absolute).map_err(cannot)?;
    }
    Ok(Output::Path(absolute.into_os_string().into_vec()))
}

#[cfg(test)]
mod tests {
    use p2p_protocol::control::Wishes;

    use super::*;
    use crate::{args::Command, testing::typed};

    fn of(words: &[&str]) -> Result<FetchRequest, CliError> {
        let id = FileId([3; 32]).to_string();
        match typed(&[&["fetch", &id, "--from", "host"], words].concat()).command {
            Command::Fetch(fetch) => request(fetch, What::File(FileId([3; 32]))),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_typed_becomes_a_request() {
        let plain = FetchRequest {
            file_id: FileId([3; 32]),
            from: vec!["host".into()],
            ticket: None,
            output: Output::Inbox,
            key: KeyPolicy::Known,
            only: Vec::new(),
            range: None,
            progressive: false,
            wishes: Wishes::default(),
            detach: false,
            request: None,
        };
        assert_eq!(of(&[]), Ok(plain.clone()));
        assert_eq!(
            of(&["--from", "other:1", "-o", "/x/y", "--detach"]),
            Ok(FetchRequest {
                from: vec!["host".into(), "other:1".into()],
                output: Output::Path(b"/x/y".to_vec()),
                detach: true,
                request: None,
                ..plain.clone()
            })
        );
        let update = Output::Update(b"/x/y".to_vec());
        assert_eq!(of(&["--update", "-o", "/x/y/"]), Ok(FetchRequest { output: update, ..plain.clone() }));
        assert_eq!(of(&["-o", "-", "--update"]).unwrap_err().exit_code(), 2);
        assert_eq!(of(&["-o", "-"]), Ok(FetchRequest { output: Output::Stdout, ..plain.clone() }));
        assert_eq!(of(&["-o", "-", "--detach"]).unwrap_err().exit_code(), 2);
        let bit_by_bit = FetchRequest { progressive: true, ..plain };
        assert_eq!(of(&["--progressive"]), Ok(bit_by_bit));
        assert_eq!(of(&["-o", "-", "--progressive"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_ticket_says_what_and_where_from() {
        let (id, text) = (FileId([4; 32]), TokenText("p2pticket".into()));
        let with = |words: &[&str]| match typed(&[&["fetch", "p2pticket"], words].concat()).command {
            Command::Fetch(fetch) => request(fetch, What::Ticket(id, PeerId([5; 32]), text.clone())),
            other => panic!("{other:?}"),
        };
        let request = with(&["-o", "/x"]).unwrap();
        assert_eq!(
            (request.file_id, request.ticket, request.from),
            (id, Some(text.clone()), vec![PeerId([5; 32]).to_string()])
        );
        assert_eq!(with(&["--from", "host"]).unwrap_err().exit_code(), 2);
        assert_eq!(with(&["--accept-new-key"]).unwrap_err().exit_code(), 2);
        let Command::Fetch(nowhere) = typed(&["fetch", &id.to_string()]).command else { panic!() };
        assert_eq!(super::request(nowhere, What::File(id)).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_slash_at_the_end_means_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("new/folder");
        let typed = format!("{}/", folder.display());
        assert!(matches!(of(&["-o", &typed, "--dry-run"]).unwrap().output, Output::Path(_)));
        assert!(!folder.exists());
        assert!(matches!(of(&["-o", &typed]).unwrap().output, Output::Path(_)));
        assert!(folder.is_dir());
        std::fs::write(root.path().join("file"), "").unwrap();
        let error = of(&["-o", &format!("{}/file/", root.path().display())]).unwrap_err();
        assert_eq!(error.exit_code(), 8);
    }
}
