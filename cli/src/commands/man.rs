//! `p2p man`: manual pages, made of what the programs say of themselves.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use p2p_protocol::reason::Failure;

use super::daemon_prints;
use crate::{args::Typed, context::Context, error::CliError};

/// What the exit codes say, of every command.
const EXIT_STATUS: [(&str, &str); 11] = [
    ("0", "Done. For a transfer: verified, and durable at the receiver."),
    (
        "1",
        "Anything else, a cancelled transfer too; or the time of --timeout is over, and the transfer goes on.",
    ),
    ("2", "Usage."),
    ("3", "The daemon cannot be reached or started."),
    ("4", "The peer cannot be reached. It is worth trying again."),
    ("5", "Refused: not trusted, not allowed, key changed, offer rejected."),
    ("6", "Not found: no such path, File ID, transfer or peer."),
    ("7", "Integrity: content does not match, or the source changed while it was sent."),
    ("8", "Storage: disk full, read-only, I/O error."),
    ("9", "Conflict: busy, already running, limit reached."),
    ("130", "Ctrl-C. The transfer goes on."),
];

const ENVIRONMENT: [(&str, &str); 6] = [
    ("P2P_HOME", "The state folder, where --home is not given."),
    ("P2P_INBOX, P2P_LISTEN, P2P_CONFIG, P2P_LOG", "Passed on to a daemon that is started; see p2pd(1)."),
    ("P2P_PASSPHRASE", "The passphrase of id export and id import, where no file of it is given."),
    ("P2P_TOKEN", "The invitation of join or the ticket of fetch, where none is typed."),
    ("NO_COLOR", "If it is set and not empty, there are no colours."),
    ("XDG_STATE_HOME", "Where the state folder is looked for, on systems that have it."),
];

const FILES: [(&str, &str); 4] = [
    (
        "~/.local/state/p2p",
        "The state folder on Linux, unless it is told otherwise: identity, peers, catalog, log.",
    ),
    ("config.toml", "In the state folder: the daemon's settings. p2p config init writes one to begin with."),
    (
        "peers.toml",
        "In the state folder: who is known, what each peer may do, and the rules for what it sends.",
    ),
    (
        ".p2p",
        "In the folder where something is to land: what is not complete yet. It goes when that is, or is cancelled.",
    ),
];

/// The page of `p2p` itself.
pub(crate) async fn print(ctx: &Context) -> Result<(), CliError> {
    let failed = |error| CliError::new(Failure::Other, format!("no manual page: {error}"));
    ctx.out.data(own_page(Typed::command()).map_err(failed)?).await
}

/// All pages, for a package.
pub(crate) fn write(ctx: &Context, dir: &Path) -> Result<(), CliError> {
    let failed = |error| CliError::io("cannot write manual pages into", dir, &error);
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut own = Typed::command().disable_help_subcommand(true);
    own.build();
    for command in own.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_command(command, dir).map_err(failed)?;
    }
    std::fs::write(dir.join("p2p.1"), own_page(own).map_err(failed)?).map_err(failed)?;
    std::fs::write(dir.join("p2pd.1"), daemon_prints::manual(ctx)?).map_err(failed)
}

fn own_page(command: Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    let mut more = Roff::new();
    for (name, entries) in
        [("EXIT STATUS", &EXIT_STATUS[..]), ("ENVIRONMENT", &ENVIRONMENT), ("FILES", &FILES)]
    {
        more.control("SH", [name]);
        for (what, words) in entries {
            more.control("TP", []).text([bold(*what)]).text([roman(*words)]);
        }
    }
    more.control("SH", ["SEE ALSO"]).text([bold("p2pd"), roman("(1)")]);
    more.to_writer(&mut page)?;
    Ok(page)
}

/// The page of a command, and those of its own commands.
fn write_command(command: &Command, dir: &Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_command(below, dir)?;
    }
    let (mut page, man) = (Vec::new(), Man::new(command.clone()));
    man.render(&mut page)?;
    let mut more = Roff::new();
    more.control("SH", ["SEE ALSO"]);
    more.text([bold("p2p"), roman("(1), also for the exit status, the environment and files")]);
    more.to_writer(&mut page)?;
    std::fs::write(dir.join(man.get_filename()), page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Captured, context, global};

    #[tokio::test]
    async fn the_page_is_roff_and_names_every_command() {
        let folder = tempfile::tempdir().unwrap();
        let captured = Captured::default();
        super::print(&context(folder.path(), captured.output(&global(&[])))).await.unwrap();
        let page = captured.data();
        assert!(page.contains(".TH p2p 1"), "{page}");
        for command in ["p2p\\-send(1)", "p2p\\-service(1)"] {
            assert!(page.contains(command), "{page}");
        }
        for section in ["EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"] {
            assert!(
                page.contains(&format!(".SH \"{section}\"")) || page.contains(&format!(".SH {section}")),
                "{section}\n{page}"
            );
        }
    }

    /// Those of the documentation, which is held to the program elsewhere.
    #[test]
    fn every_exit_code_is_told() {
        let documented = include_str!("../../../docs/cli.md");
        let codes = documented.split("## Exit codes").nth(1).unwrap().split("\n## ").next().unwrap();
        let codes: Vec<&str> = codes
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split_once(" |"))
            .map(|(code, _)| code)
            .filter(|code| code.parse::<u8>().is_ok())
            .collect();
        assert_eq!(codes, EXIT_STATUS.map(|(code, _)| code));
    }

    #[test]
    fn a_command_below_another_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        let mut own = Typed::command();
        own.build();
        let service = own.find_subcommand("service").unwrap();
        write_command(service, folder.path()).unwrap();
        let page = std::fs::read_to_string(folder.path().join("p2p-service-install.1")).unwrap();
        assert!(page.contains("SEE ALSO") && folder.path().join("p2p-service.1").exists(), "{page}");
    }
}
