//! `p2p id export`, `p2p id import` and `p2p id rotate`: the daemon's program does it, and this asks for the passphrase.

use std::path::{Path, PathBuf};

use p2p_protocol::reason::Failure;

use super::daemon_prints::printed;
use crate::{
    args::Id,
    context::{Context, Person},
    error::CliError,
    json::Line,
};

/// The variable that may hold a passphrase.
const VARIABLE: &str = "P2P_PASSPHRASE";

pub(crate) fn run(ctx: &Context, command: Id) -> Result<(), CliError> {
    match command {
        Id::Rotate => {
            let peer = printed(ctx, "rotate-id", None, None).map_err(|error| {
                if !error.is(Failure::Conflict) {
                    return error;
                }
                error.hint("a daemon goes on with the key that it has: end it first (`p2p service stop`, or SIGTERM), and start it again afterwards")
            })?;
            ctx.out.print(peer.trim())?;
            ctx.out.say(
                "peers that know the old key follow when they next meet this machine; the old key is gone",
            );
            ctx.out.json(&Line::IdRotated { peer: peer.trim() })
        }
        Id::Export { file, passphrase_file } => {
            // Elsewhere it is standard output, and whoever writes it means that: a key belongs into no terminal and no pipe.
            if file.as_os_str() == "-" {
                return Err(CliError::usage("an identity is exported to a file, not to standard output")
                    .hint("name a file; one that is called `-` is named ./-"));
            }
            let passphrase = passphrase(ctx, passphrase_file, true)?;
            let peer = printed(ctx, "export-id", Some(&file), Some(passphrase.as_bytes()))?;
            let shown = file.display().to_string();
            ctx.out.say(&format!("the identity {} is in {shown}, encrypted", peer.trim()));
            ctx.out.say("whoever has it and the passphrase is this machine, for everybody who trusts it");
            ctx.out.json(&Line::IdExported { peer: peer.trim(), path: &shown })
        }
        Id::Import { file, passphrase_file } => {
            let passphrase = passphrase(ctx, passphrase_file, false)?;
            let peer = printed(ctx, "import-id", Some(&file), Some(passphrase.as_bytes()))?;
            ctx.out.print(peer.trim())?;
            ctx.out.say(
                "two machines with one identity get in each other's way: stop the daemon of the other one",
            );
            ctx.out.json(&Line::IdImported { peer: peer.trim() })
        }
    }
}

/// From a file, the environment, or a person, who has to say a new one twice. What is typed is not shown.
fn passphrase(ctx: &Context, file: Option<PathBuf>, is_new: bool) -> Result<String, CliError> {
    if let Some(path) = file {
        return first_line(&path);
    }
    if let Ok(passphrase) = std::env::var(VARIABLE) {
        return Ok(passphrase);
    }
    if ctx.person == Person::Absent {
        return Err(CliError::usage("a passphrase is needed, and there is no terminal to ask on")
            .hint(format!("give it with --passphrase-file FILE, or in {VARIABLE}")));
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .map_err(|error| CliError::new(Failure::Other, format!("the terminal cannot be asked: {error}")))
    };
    let passphrase = ask("passphrase: ")?;
    if is_new && ask("again: ")? != passphrase {
        return Err(CliError::usage("the two passphrases differ"));
    }
    Ok(passphrase)
}

fn first_line(path: &Path) -> Result<String, CliError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::io("cannot read the passphrase in", path, &error))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
