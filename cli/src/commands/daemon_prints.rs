//! `p2p id`, `p2p config` and a folder's File ID: what the daemon's program knows without running as a daemon.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use p2p_protocol::{FileId, reason::Failure};

use crate::{context::Context, error::CliError, json::Line};

/// `p2p id`.
pub(crate) fn id(ctx: &Context) -> Result<(), CliError> {
    let id = own_id(ctx)?;
    ctx.out.print(&id)?;
    ctx.out.json(&Line::Id { peer: &id })
}

/// This machine's Peer ID.
pub(super) fn own_id(ctx: &Context) -> Result<String, CliError> {
    Ok(printed(ctx, "id", None, None)?.trim().to_owned())
}

/// `p2p config`.
pub(crate) fn config(ctx: &Context) -> Result<(), CliError> {
    let what = if ctx.out.is_json() { "config-json" } else { "config" };
    printed(ctx, what, None, None)?.lines().try_for_each(|line| ctx.out.print_always(line))
}

/// `p2p config init`.
pub(crate) fn new_config(ctx: &Context) -> Result<(), CliError> {
    let path = printed(ctx, "new-config", None, None)?;
    ctx.out.print(path.trim_end())?;
    ctx.out
        .say("every setting is there with its default; what you change holds from the daemon's next start");
    ctx.out.json(&Line::ConfigWritten { path: path.trim_end() })
}

/// What the daemon's program finds about this machine.
pub(super) fn findings(ctx: &Context) -> Result<String, CliError> {
    printed(ctx, "doctor", None, None)
}

/// The manual page of the daemon's program.
pub(super) fn manual(ctx: &Context) -> Result<String, CliError> {
    printed(ctx, "man", None, None)
}

/// The File ID of a folder.
pub(super) fn folder_id(ctx: &Context, path: &Path) -> Result<FileId, CliError> {
    let said = printed(ctx, "folder-id", Some(path), None)?;
    said.trim().parse().map_err(|_| CliError::daemon(format!("{} says {said:?}", ctx.program.display())))
}

/// What `p2pd --print` says, to which this input is given.
pub(super) fn printed(
    ctx: &Context,
    what: &str,
    of: Option<&Path>,
    input: Option<&[u8]>,
) -> Result<String, CliError> {
    let program = &ctx.program;
    let mut command = Command::new(program);
    command.args(["--print", what]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    if let Some(path) = of {
        command.arg("--of").arg(path);
    }
    // A home from the environment is the daemon's program to find, so that it can say where it came from.
    if ctx.home_was_typed {
        command.arg("--home").arg(&ctx.home);
    }
    let mut run = || {
        let mut child = command.spawn()?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A program that ends before it has read all says why.
            let _ = stdin.write_all(input);
        }
        child.wait_with_output()
    };
    let output = run().map_err(|error| {
        CliError::daemon(format!("cannot run {}: {error}", program.display()))
            .hint("p2pd must lie beside p2p; install both in one folder")
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        ctx.out.pass_on(&said);
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let (before, error) = error_in(&said);
    ctx.out.pass_on(before);
    let code = output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Err(CliError::new(Failure::of_exit_code(code), error))
}

/// What the program says of its failure, and what it said before.
fn error_in(said: &str) -> (&str, &str) {
    const NAME: &str = "p2pd: ";
    let begins = |at: &usize| *at == 0 || said[..*at].ends_with('\n');
    match said.match_indices(NAME).map(|(at, _)| at).filter(begins).last() {
        Some(at) => (&said[..at], said[at + NAME.len()..].trim_end()),
        None => ("", said.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_the_error() {
        assert_eq!(error_in("p2pd: no\n"), ("", "no"));
        assert_eq!(
            error_in("a warning\np2pd: no\nfor two reasons\n"),
            ("a warning\n", "no\nfor two reasons")
        );
        assert_eq!(error_in("it says p2pd: in between\n"), ("", "it says p2pd: in between"));
    }
}
