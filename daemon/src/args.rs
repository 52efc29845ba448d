//! What was typed behind `p2pd`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{CommandFactory, Parser, ValueEnum};

/// The daemon's command line. Every value is optional here: `config` settles what holds.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "p2pd", version, about = "Moves files straight between this machine and its peers")]
pub(crate) struct Args {
    /// The state folder.
    #[arg(
        long,
        value_name = "DIR",
        help = "State folder: identity, trust, catalog, socket [default: the platform's state folder] [env: P2P_HOME]"
    )]
    pub(crate) home: Option<PathBuf>,
    /// Where to listen; empty if nothing was said.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        value_parser = parse_listen,
        help = "Address and UDP port to listen on; can be repeated [default: [::]:4419] [env: P2P_LISTEN]"
    )]
    pub(crate) listen: Vec<SocketAddr>,
    /// The inbox.
    #[arg(
        long,
        value_name = "DIR",
        help = "Where received files land [default: <Downloads>/p2p] [env: P2P_INBOX]"
    )]
    pub(crate) inbox: Option<PathBuf>,
    /// The config file.
    #[arg(
        long,
        value_name = "FILE",
        help = "Config file [default: config.toml in the state folder] [env: P2P_CONFIG]"
    )]
    pub(crate) config: Option<PathBuf>,
    /// The log filter.
    #[arg(
        long,
        value_name = "FILTER",
        help = "What to log, such as `debug` or `info,p2p_daemon=trace` [default: info] [env: P2P_LOG]"
    )]
    pub(crate) log: Option<String>,
    /// Print one thing and exit, for `p2p id`, `p2p config` and `p2p verify`
    #[arg(long, value_name = "WHAT", hide = true)]
    pub(crate) print: Option<Print>,
    /// The folder that `--print folder-id` is about, or the file of an exported identity
    #[arg(long, value_name = "PATH", hide = true)]
    pub(crate) of: Option<PathBuf>,
}

/// What the daemon's program can print without running as a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Print {
    /// The Peer ID, made now if this is a new home.
    Id,
    /// The Peer ID of the identity, which is written to a file, encrypted with the passphrase on standard input.
    ExportId,
    /// The same of one that is taken from such a file into a home without.
    ImportId,
    /// Each setting and where it came from, for people.
    Config,
    /// The same as one JSON object.
    ConfigJson,
    /// The File ID of a folder, with every file read.
    FolderId,
    /// Where the config file is, which is made now, with every setting and its default.
    NewConfig,
    /// What could keep a daemon from working well, a JSON object a line.
    Doctor,
    /// The manual page, as roff.
    Man,
}

/// The manual page of `p2pd`.
///
/// # Errors
/// It cannot be written into memory.
pub(crate) fn manual() -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Args::command()).render(&mut page)?;
    Ok(page)
}

/// An address to listen on, wherever it was given.
///
/// # Errors
/// In words, with an example of what is meant.
pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no address and port, such as 0.0.0.0:4419, [::]:4419 or 127.0.0.1:0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_s_line_parses() {
        Args::command().debug_assert();
        let line = "p2pd --home /h --listen 127.0.0.1:0 --listen [::1]:9 --inbox in --config c --log debug";
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(args.home, Some("/h".into()));
        assert_eq!(args.listen, ["127.0.0.1:0".parse().unwrap(), "[::1]:9".parse().unwrap()]);
        assert_eq!((args.inbox, args.config), (Some("in".into()), Some("c".into())));
        assert_eq!((args.log.as_deref(), args.print), (Some("debug"), None));
        assert!(Args::try_parse_from(["p2pd"]).unwrap().listen.is_empty());
    }

    #[test]
    fn what_to_print_is_for_programs_and_hidden() {
        for (word, meant) in [
            ("id", Print::Id),
            ("export-id", Print::ExportId),
            ("import-id", Print::ImportId),
            ("config", Print::Config),
            ("config-json", Print::ConfigJson),
            ("folder-id", Print::FolderId),
            ("new-config", Print::NewConfig),
            ("doctor", Print::Doctor),
            ("man", Print::Man),
        ] {
            let args = Args::try_parse_from(["p2pd", "--print", word]).unwrap();
            assert_eq!(args.print, Some(meant));
        }
        assert!(!Args::command().render_long_help().to_string().contains("--print"));
    }

    #[test]
    fn the_manual_has_what_people_type() {
        let page = String::from_utf8(manual().unwrap()).unwrap();
        assert!(page.contains(".TH p2pd 1") && page.contains("inbox"), "{page}");
        assert!(!page.contains("print"), "{page}");
    }

    #[test]
    fn a_listen_address_needs_numbers() {
        for text in ["localhost:4419", "4419", "::1:4419", "0.0.0.0", "0.0.0.0:65536", ""] {
            let error = Args::try_parse_from(["p2pd", "--listen", text]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("[::]:4419"), "{error}");
        }
    }
}
