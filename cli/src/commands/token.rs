//! Where a token comes from. It is a secret, and what is typed on a command line everybody on the machine can see: so it may also come
//! from standard input, a file or the environment.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use p2p_protocol::{control::TokenText, limits::MAX_TOKEN_TEXT_LEN};

use crate::{context::Context, error::CliError};

/// The variable that may hold a token.
const VARIABLE: &str = "P2P_TOKEN";

/// A token: typed, `-` for standard input, in a file, or else in the environment.
pub(super) async fn read(
    ctx: &Context,
    typed: Option<String>,
    file: Option<PathBuf>,
) -> Result<TokenText, CliError> {
    let text = match (typed, file) {
        (Some(typed), None) if typed == "-" => from_stdin(ctx).await?,
        (Some(typed), None) => typed,
        (None, Some(path)) => from_file(&path)?,
        (None, None) => from_environment().ok_or_else(|| {
            CliError::usage("no token was given").hint(format!(
                "type it, give it with --token-file, in {VARIABLE}, or on standard input with -"
            ))
        })?,
        (Some(_), Some(_)) => return Err(CliError::usage("a token was given twice")),
    };
    let token = TokenText(text.trim().to_owned());
    token.parse().map_err(|error| CliError::usage(error.to_string()))?;
    Ok(token)
}

/// Says so where nobody elsewhere could use a token.
pub(super) fn warn_of_loopback(ctx: &Context, addresses: &[String]) {
    if addresses.iter().all(|address| address.starts_with("127.") || address.starts_with("[::1]")) {
        ctx.out
            .say("it is of use on this machine alone: the daemon listens on loopback, or --address says so");
    }
}

/// Whether there is one in the environment.
pub(super) fn is_in_environment() -> bool {
    from_environment().is_some()
}

/// The token in the environment, where there is one.
fn from_environment() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|token| !token.trim().is_empty())
}

async fn from_stdin(ctx: &Context) -> Result<String, CliError> {
    if ctx.person == crate::context::Person::AtTerminal {
        ctx.out.say("paste the token, and press Enter:");
        return Ok(ctx.person.answer().await);
    }
    let read = tokio::task::spawn_blocking(|| text_of(std::io::stdin().lock()));
    let cannot = |error: &std::io::Error| CliError::io("cannot read", Path::new("standard input"), error);
    read.await.map_err(|error| cannot(&std::io::Error::other(error)))?.map_err(|error| cannot(&error))
}

fn from_file(path: &Path) -> Result<String, CliError> {
    let text = std::fs::File::open(path).and_then(text_of);
    text.map_err(|error| CliError::io("cannot read the token in", path, &error))
}

/// As much as a token can have, and a little more, which makes it none.
fn text_of(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(MAX_TOKEN_TEXT_LEN as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
