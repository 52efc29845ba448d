//! `p2p send`.

use std::{os::unix::ffi::OsStrExt, path::Path};

use p2p_protocol::control::{KeyPolicy, SendRequest};

use super::{
    source::{Source, check_name},
    stdin::Spooled,
    transfer::{self, Job},
};
use crate::{args::Send, context::Context, error::CliError};

pub(crate) async fn run(ctx: &Context, typed: Send) -> Result<(), CliError> {
    if !is_stdin(&typed) {
        return transfer::run(ctx, Job::Send(request(typed)?)).await;
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

fn request(typed: Send) -> Result<SendRequest, CliError> {
    let path = typed.paths.first().cloned().unwrap_or_default();
    let mut request = plain(typed)?;
    let source = Source::look(&path)?;
    request.name = request.name.or_else(|| source.link_name.clone());
    request.path = source.into_bytes();
    Ok(request)
}

/// What was typed, apart from the source.
fn plain(typed: Send) -> Result<SendRequest, CliError> {
    let Send { paths, to, name, key, detach, patience: _ } = typed;
    if paths.len() > 1 {
        return Err(CliError::usage("several paths at once are not in this version yet")
            .hint("send them one by one; with --detach they run side by side"));
    }
    name.as_deref().map(check_name).transpose()?;
    let key = KeyPolicy::from(&key);
    Ok(SendRequest { path: Vec::new(), target: to, name, spooled: false, key, detach })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args::Command, testing::typed};

    fn of(words: &[&str]) -> Result<SendRequest, CliError> {
        match typed(&[&["send", "--to", "host"], words].concat()).command {
            Command::Send(send) => request(send),
            other => panic!("{other:?}"),
        }
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
            key: KeyPolicy::Known,
            detach: false,
        };
        assert_eq!(of(&[path]), Ok(plain.clone()));
        assert_eq!(
            of(&[path, "--name", "b.iso", "--accept-new-key", "--detach"]),
            Ok(SendRequest {
                name: Some("b.iso".into()),
                key: KeyPolicy::AcceptNew,
                detach: true,
                ..plain.clone()
            })
        );
        let peer = p2p_protocol::PeerId([7; 32]);
        assert_eq!(
            of(&[path, "--peer", &peer.to_string()]),
            Ok(SendRequest { key: KeyPolicy::Exactly(peer), ..plain })
        );
    }

    #[test]
    fn what_is_not_there_yet_is_said() {
        for words in [&["a", "b"][..], &["/"], &["/dev/null"], &["x", "--name", "a/b"]] {
            assert_eq!(of(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert_eq!(of(&["/nowhere/at/all"]).unwrap_err().exit_code(), 6);
    }
}
