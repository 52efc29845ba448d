//! `p2p completions`: the script that has a shell ask `p2p` itself what could be typed next.

use std::io;

use clap_complete::{Shell, env::Shells};
use p2p_protocol::reason::Failure;

use crate::{COMPLETE_VAR, context::Context, error::CliError};

/// How clap's script for bash asks for its completions to be taken.
const BASH_OPTIONS: &str = "complete -o nospace";
const BASH_OPTIONS_FOR_FILES: &str = "complete -o filenames -o nospace";

pub(crate) async fn run(ctx: &Context, shell: Shell) -> Result<(), CliError> {
    let script = script(shell).map_err(|error| {
        CliError::new(Failure::Other, format!("no completion script for {shell}: {error}"))
    })?;
    ctx.out.data(script).await
}

fn script(shell: Shell) -> io::Result<Vec<u8>> {
    let shells = Shells::builtins();
    let writer = shells.completer(&shell.to_string()).ok_or(io::ErrorKind::Unsupported)?;
    let mut script = Vec::new();
    writer.write_registration(COMPLETE_VAR, "p2p", "p2p", "p2p", &mut script)?;
    if shell != Shell::Bash {
        return Ok(script);
    }
    // Bash puts a backslash before the blanks of what it takes for names of files, and of nothing else.
    let script = String::from_utf8(script).map_err(io::Error::other)?;
    Ok(script.replace(BASH_OPTIONS, BASH_OPTIONS_FOR_FILES).into_bytes())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_has_a_script() {
        for &shell in Shell::value_variants() {
            let script = String::from_utf8(script(shell).unwrap()).unwrap();
            assert!(script.contains("p2p") && script.contains(COMPLETE_VAR), "{shell}: {script}");
            let is_bash = shell == Shell::Bash;
            assert_eq!(script.contains(BASH_OPTIONS_FOR_FILES), is_bash, "{shell}: {script}");
        }
    }
}
