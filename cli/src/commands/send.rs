//! `p2p send`.

use std::{os::unix::ffi::OsStrExt, path::Path};

use p2p_protocol::control::{KeyPolicy, SendRequest};

use super::{
    dry_run, excludes, several,
    source::{Source, check_name},
    stdin::Spooled,
    transfer::{self, Job},
};
use crate::{args::Send, context::Context, error::CliError};

pub(crate) async fn run(ctx: &Context, typed: Send) -> Result<(), CliError> {
    if !is_stdin(&typed) {
        let dry_run = typed.dry_run;
        let mut requests = requests(typed)?;
        if dry_run {
            return dry_run::send(ctx, requests).await;
        }
        return match (requests.pop(), requests.as_slice()) {
            (Some(request), []) => transfer::run(ctx, Job::Send(request)).await,
            (last, _) => {
                requests.extend(last);
                several::run(ctx, requests).await
            }
        };
    }
    if typed.paths.len() > 1 {
        return Err(CliError::usage("standard input is sent alone").hint("a file called - is named ./-"));
    }
    if typed.dry_run {
        return Err(CliError::usage(
            "what is in standard input is known when it has been read, which a dry run does not do",
        ));
    }
    if typed.name.is_none() {
        return Err(CliError::usage("standard input has no name; give it one with --name")
            .hint("a file called - is named ./-"));
    }
    let mut request = plain(typed)?;
    let spooled = Spooled::read(ctx).await?;
    request.path = spooled.path.as_os_str().as_bytes().to_vec();
    request.spooled = true;
    let sent = transfer::run(ctx, Job::Send(request)).await;
    // With a number the daemon has it, whatever became of it.
    if sent.as_ref().map_or_else(|error| error.transfer.is_some(), |()| true) {
        spooled.keep();
    }
    sent
}

fn is_stdin(typed: &Send) -> bool {
    typed.paths.iter().any(|path| path == Path::new("-"))
}

/// One request for each path. All are looked at before any is sent.
fn requests(mut typed: Send) -> Result<Vec<SendRequest>, CliError> {
    let paths = std::mem::take(&mut typed.paths);
    if paths.len() > 1 && typed.name.is_some() {
        return Err(CliError::usage("--name is for one path; several keep their own names"));
    }
    let plain = plain(typed)?;
    let requests = paths.iter().map(|path| {
        let source = Source::look(path)?;
        let name = plain.name.clone().or_else(|| source.link_name.clone());
        Ok(SendRequest { name, path: source.into_bytes(), ..plain.clone() })
    });
    let requests: Result<Vec<_>, CliError> = requests.collect();
    if requests.is_ok() {
        excludes::need_folder(&plain.excludes, &paths)?;
    }
    requests.map_err(|error| if paths.len() > 1 { error.hint("nothing was sent") } else { error })
}

/// What was typed, apart from the source.
fn plain(typed: Send) -> Result<SendRequest, CliError> {
    let Send { paths: _, to, name, excludes, dry_run: _, key, how, detach, patience: _ } = typed;
    let excludes = excludes::patterns(&excludes)?;
    name.as_deref().map(check_name).transpose()?;
    let key = KeyPolicy::from(&key);
    Ok(SendRequest {
        path: Vec::new(),
        target: to,
        name,
        spooled: false,
        excludes,
        key,
        wishes: how.into(),
        detach,
        request: None,
    })
}

#[cfg(test)]
mod tests {
    use p2p_protocol::{control::Wishes, queue::Priority};

    use super::*;
    use crate::{args::Command, testing::typed};

    fn all_of(words: &[&str]) -> Result<Vec<SendRequest>, CliError> {
        match typed(&[&["send", "--to", "host"], words].concat()).command {
            Command::Send(send) => requests(send),
            other => panic!("{other:?}"),
        }
    }

    fn of(words: &[&str]) -> Result<SendRequest, CliError> {
        all_of(words).map(|mut requests| requests.remove(0))
    }

    #[test]
    fn what_was_typed_becomes_a_request() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.iso");
        std::fs::write(&file, "x").unwrap();
        let path = file.to_str().unwrap();
        let plain = SendRequest {
            path: path.into(),
            target: "host".into(),
            name: None,
            spooled: false,
            excludes: Vec::new(),
            key: KeyPolicy::Known,
            wishes: Wishes::default(),
            detach: false,
            request: None,
        };
        assert_eq!(of(&[path]), Ok(plain.clone()));
        assert_eq!(
            of(&[path, "--name", "b.iso", "--accept-new-key", "--detach"]),
            Ok(SendRequest {
                name: Some("b.iso".into()),
                key: KeyPolicy::AcceptNew,
                detach: true,
                request: None,
                ..plain.clone()
            })
        );
        let peer = p2p_protocol::PeerId([7; 32]);
        let high = Wishes { priority: Some(Priority::High), ..Wishes::default() };
        let behind = Wishes { background: true, ..Wishes::default() };
        assert_eq!(of(&[path, "--background"]), Ok(SendRequest { wishes: behind, ..plain.clone() }));
        assert_eq!(of(&[path, "--priority", "high"]), Ok(SendRequest { wishes: high, ..plain.clone() }));
        assert_eq!(
            of(&[path, "--peer", &peer.to_string()]),
            Ok(SendRequest { key: KeyPolicy::Exactly(peer), ..plain })
        );
    }

    #[test]
    fn several_paths_are_all_looked_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            std::fs::write(folder.path().join(name), name).unwrap();
            folder.path().join(name).to_str().unwrap().to_owned()
        };
        let (a, b) = (path("a"), path("b"));
        let requests = all_of(&[&a, &b, "--detach"]).unwrap();
        let paths: Vec<_> =
            requests.iter().map(|send| String::from_utf8(send.path.clone()).unwrap()).collect();
        assert_eq!(paths, [a.clone(), b.clone()]);
        assert!(requests.iter().all(|send| send.detach && send.name.is_none()));
        assert_eq!(all_of(&[&a, &b, "--name", "c"]).unwrap_err().exit_code(), 2);
        let missing = all_of(&[&a, "/nowhere/at/all"]).unwrap_err();
        assert_eq!(
            (missing.exit_code(), missing.hints.as_slice()),
            (6, &["nothing was sent".to_owned()][..])
        );
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        for words in [&["/"][..], &["/dev/null"], &["x", "--name", "a/b"]] {
            assert_eq!(of(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert_eq!(of(&["/nowhere/at/all"]).unwrap_err().exit_code(), 6);
    }
}
