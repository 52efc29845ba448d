//! `p2p send`.

use p2p_protocol::control::{KeyPolicy, SendRequest};

use super::{
    source::{Source, check_name, not_stdin},
    transfer::{self, Job},
};
use crate::{args::Send, context::Context, error::CliError};

pub(crate) async fn run(ctx: &Context, typed: Send) -> Result<(), CliError> {
    transfer::run(ctx, Job::Send(request(typed)?)).await
}

fn request(typed: Send) -> Result<SendRequest, CliError> {
    let Send { paths, to, name, key, detach, patience: _ } = typed;
    let [path] = paths.as_slice() else {
        return Err(CliError::usage("several paths at once are not in this version yet")
            .hint("send them one by one; with --detach they run side by side"));
    };
    not_stdin(path)?;
    name.as_deref().map(check_name).transpose()?;
    let source = Source::look(path)?;
    Ok(SendRequest {
        name: name.or_else(|| source.link_name.clone()),
        path: source.into_bytes(),
        target: to,
        key: KeyPolicy::from(&key),
        detach,
    })
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
        for words in
            [&["a", "b"][..], &["-"], &["-", "--name", "x"], &["/"], &["/dev/null"], &["x", "--name", "a/b"]]
        {
            assert_eq!(of(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert_eq!(of(&["/nowhere/at/all"]).unwrap_err().exit_code(), 6);
    }
}
