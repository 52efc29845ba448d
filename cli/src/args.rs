//! What was typed. What will run is made of it in `commands`.

mod how;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use p2p_protocol::{
    ByteRange, FileId, PeerId,
    rules::{Acceptance, Exists, Size},
};

use crate::{
    commands::{self, Named},
    complete,
    format::{self, Bound},
    wanted::{self, Wanted},
};
pub(crate) use how::{How, Level};

/// Move files straight between two machines, verified and resumable.
#[derive(Debug, Parser)]
#[command(name = "p2p", version, arg_required_else_help = true, infer_long_args = false)]
pub(crate) struct Typed {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// State folder of the daemon to talk to
    // What the environment says is read elsewhere: here it would show in every line on usage.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// One JSON object a line on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but errors and data
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// No progress bar, not even on a terminal
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// When to use colours (NO_COLOR is respected)
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    pub(crate) color: When,
    /// Do not start a daemon where none runs
    #[arg(long, global = true)]
    pub(crate) no_start: bool,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal.
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send a file or folder to a peer, and wait until it is verified and durable there
    Send(Send),
    /// Fetch a file or folder by its File ID
    Fetch(Fetch),
    /// Make a file or folder fetchable, and print its File ID
    Share(Share),
    /// Take a share back, with the tickets for it, or one ticket alone
    Unshare {
        /// What to take back
        #[arg(required_unless_present = "ticket", add = complete::shared())]
        file_id: Option<FileId>,
        /// A ticket's number, as `p2p shares` shows it; what it is for stays shared
        #[arg(long, value_name = "N", conflicts_with = "file_id", value_parser = format::parse_number, add = complete::tickets())]
        ticket: Option<u64>,
    },
    /// List what is shared, and with whom
    Shares,
    /// List what a peer shares with this machine, or what is in a folder of that
    Ls {
        /// The peer: a host, host:port, a peer's name or its Peer ID
        #[arg(value_name = "PEER", add = complete::targets())]
        peer: String,
        /// The folder
        #[arg(value_name = "FILE_ID", add = complete::file_ids())]
        file_id: Option<FileId>,
    },
    /// List all transfers
    List,
    /// Show one transfer: its numbers, what is missing, what failed and why
    Show {
        /// The transfer's number; b and a number for all that was offered together with it
        #[arg(value_name = "N", add = complete::transfers())]
        transfer: Named,
    },
    /// Show what happened, to one transfer or to all, and to peers
    Log {
        /// The transfer's number; b and a number for all that was offered together with it
        #[arg(value_name = "N", add = complete::transfers())]
        transfer: Option<Named>,
        /// Not before this: a time ago, such as 2h, or a moment, such as 2026-01-31
        #[arg(long, value_name = "TIME", value_parser = commands::parse_since)]
        since: Option<u64>,
        /// How many lines, the newest
        #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES", value_parser = format::parse_count)]
        lines: u32,
    },
    /// Show all transfers and peers on one screen, live, with keys that pause, cancel and re-order
    Top,
    /// Watch transfers until each has ended, or all there are for as long as one looks
    Watch {
        /// The transfers' numbers; b and a number for all that was offered together with it
        #[arg(value_name = "N", add = complete::running())]
        transfers: Vec<Named>,
        #[command(flatten)]
        patience: Patience,
    },
    /// Wait for transfers to end, and end with their exit code: of several, the worst
    Wait {
        /// The transfers' numbers; b and a number for all that was offered together with it
        #[arg(required = true, value_name = "N", add = complete::transfers())]
        transfers: Vec<Named>,
        #[command(flatten)]
        patience: Patience,
    },
    /// Stop transfers
    Cancel {
        /// The transfers' numbers; b and a number for all that was offered together with it
        #[arg(required = true, value_name = "N", add = complete::running())]
        transfers: Vec<Named>,
    },
    /// Take failed or cancelled transfers up again
    Retry {
        /// The transfers' numbers; b and a number for all that was offered together with it
        #[arg(required = true, value_name = "N", add = complete::broken())]
        transfers: Vec<Named>,
    },
    /// Hold transfers back: what they have is kept, and so is their place in the queue
    Pause {
        /// The transfers' numbers; b and a number for all that was offered together with it
        #[arg(required = true, value_name = "N", add = complete::running())]
        transfers: Vec<Named>,
    },
    /// Let transfers go on that were paused
    Resume {
        /// The transfers' numbers; b and a number for all that was offered together with it
        #[arg(required = true, value_name = "N", add = complete::paused())]
        transfers: Vec<Named>,
    },
    /// Let a transfer come before or after others that wait
    Priority {
        /// The transfer's number; b and a number for all that was offered together with it
        #[arg(value_name = "N", add = complete::running())]
        transfer: Named,
        /// What it becomes
        #[arg(value_enum)]
        level: Level,
    },
    /// Show or change how fast all transfers together may go, or change it for one
    Limit {
        /// One transfer's number, instead of all; b and a number for each that was offered together with it
        #[arg(value_name = "N", requires = "rate", conflicts_with_all = ["up", "down", "off", "reset"], add = complete::running())]
        transfer: Option<Named>,
        /// How fast that one may go, like 10MiB/s, or `off`
        #[arg(value_name = "RATE", value_parser = format::parse_limit)]
        rate: Option<Bound>,
        /// From here to peers, like 10MiB/s, or `off`
        #[arg(long, value_name = "RATE", value_parser = format::parse_limit)]
        up: Option<Bound>,
        /// From peers to here, like 10MiB/s, or `off`
        #[arg(long, value_name = "RATE", value_parser = format::parse_limit)]
        down: Option<Bound>,
        /// No limit either way
        #[arg(long, conflicts_with_all = ["up", "down", "reset"])]
        off: bool,
        /// Go back to what the config says
        #[arg(long)]
        reset: bool,
    },
    /// List the offers that wait for a yes, or accept or reject some
    Inbox {
        #[command(subcommand)]
        command: Option<Inbox>,
    },
    /// Print this machine's Peer ID, or move its identity
    Id {
        #[command(subcommand)]
        command: Option<Id>,
    },
    /// Make an invitation: a token by which another machine and this one come to trust each other
    Invite(Invite),
    /// List the invitations that hold
    Invites,
    /// Take an invitation back
    Uninvite {
        /// The invitation's number
        #[arg(value_name = "N", value_parser = format::parse_number, add = complete::invitations())]
        number: u64,
    },
    /// Join the machine that made an invitation: both trust each other from then on
    Join(Join),
    /// List the peers, or trust or forget one
    Peers {
        #[command(subcommand)]
        command: Option<Peers>,
    },
    /// Show how the daemon is
    Status,
    /// Show each setting and where it came from, or write a config file to begin with
    Config {
        #[command(subcommand)]
        command: Option<Config>,
    },
    /// Check that a file or folder has a File ID
    Verify {
        /// The file or folder
        path: PathBuf,
        /// What it should be
        #[arg(add = complete::file_ids())]
        file_id: FileId,
        /// Fetch what is wrong with it; the damaged copy stays until the mended one takes its place
        #[arg(long, requires = "from")]
        repair: bool,
        /// Where from; given again, the next is tried when one fails
        #[arg(long, requires = "repair", value_name = "TARGET", add = complete::targets())]
        from: Vec<String>,
    },
    /// Look for what could go wrong here, or try the way to a peer
    Doctor {
        /// The peer: a host, host:port, a peer's name or its Peer ID
        #[arg(value_name = "PEER", add = complete::targets())]
        peer: Option<String>,
    },
    /// Run the daemon as a service of your user: at login, watched, and with a log
    Service {
        #[command(subcommand)]
        command: Service,
    },
    /// Try it all on this machine: send between two throwaway daemons, kill one, resume
    Demo {
        /// How much random data to send, like 64MiB or 1GiB
        #[arg(long, default_value = "256MiB", value_parser = format::parse_size)]
        size: u64,
    },
    /// Print the manual page, or write those of all commands
    Man {
        /// Write the pages of p2p, its commands and p2pd into this folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How long a command stays with a transfer.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Patience {
    /// Stop waiting after this time, like 30s, 5m or 1h30m; the transfer goes on
    #[arg(long, value_name = "TIME", value_parser = format::parse_time)]
    pub(crate) timeout: Option<Duration>,
}

/// What to do about a key that is not known yet.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Key {
    /// Remember an unknown key at the target instead of asking
    #[arg(long)]
    pub(crate) accept_new_key: bool,
    /// Accept this key at the target and no other
    #[arg(long, value_name = "ID", conflicts_with = "accept_new_key", add = complete::peer_ids())]
    pub(crate) peer: Option<PeerId>,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// What to send
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Where to: a host, host:port, a peer's name or its Peer ID
    #[arg(long, value_name = "TARGET", add = complete::targets())]
    pub(crate) to: String,
    /// The name it gets there, instead of its own
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) excludes: Excludes,
    /// Say what would move, and move nothing
    #[arg(long, conflicts_with = "detach")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) key: Key,
    #[command(flatten)]
    pub(crate) how: How,
    /// Print the transfer's number and return at once
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// What to fetch: a File ID, or a ticket, or - to read that from standard input (default: the ticket that P2P_TOKEN holds)
    #[arg(value_name = "FILE_ID|TICKET", conflicts_with = "token_file", add = complete::file_ids())]
    pub(crate) what: Option<String>,
    /// A file with a ticket in it
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Where from, which a ticket says itself; given again, the next is tried when one fails
    #[arg(long, value_name = "TARGET", add = complete::targets())]
    pub(crate) from: Vec<String>,
    /// Take this of a folder alone: a path in it, or a pattern as in a .gitignore; may be given again
    #[arg(long, value_name = "PATH|PATTERN", conflicts_with = "update")]
    pub(crate) only: Vec<String>,
    /// Take these bytes of a file alone: A-B with both ends, A- to the end, or -N for the last N
    #[arg(long, value_name = "A-B", allow_hyphen_values = true, requires = "output", conflicts_with_all = ["only", "update"])]
    pub(crate) range: Option<ByteRange>,
    /// Where to: a file, an existing folder, or - for standard output (default: the inbox)
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// PATH is an older or damaged copy: take its place when all is here, and move only what differs
    #[arg(long, requires = "output")]
    pub(crate) update: bool,
    /// A folder appears at once, and each file in it when that is whole, and not first when all is here
    #[arg(long, conflicts_with_all = ["update", "range"])]
    pub(crate) progressive: bool,
    /// Say what would move, and move nothing
    #[arg(long, conflicts_with = "detach")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) key: Key,
    #[command(flatten)]
    pub(crate) how: How,
    /// Print the transfer's number and return at once
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

/// What in a folder is left out.
#[derive(Debug, Default, Args)]
pub(crate) struct Excludes {
    /// Leave out what this matches in a folder, as in a .gitignore; may be given again
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// A file of such patterns, one a line; may be given again
    #[arg(long, value_name = "FILE")]
    pub(crate) exclude_from: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Share {
    /// The file or folder
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) excludes: Excludes,
    /// Only for this peer, by name or Peer ID; may be given again (default: every trusted peer)
    #[arg(long, value_name = "PEER", add = complete::peer_names())]
    pub(crate) to: Vec<String>,
    /// For anyone who can reach this machine's port
    #[arg(long, conflicts_with = "to")]
    pub(crate) public: bool,
    /// For whoever has the ticket that this makes and prints
    #[arg(long, conflicts_with_all = ["to", "public"])]
    pub(crate) ticket: bool,
    /// How many machines may fetch by the ticket (default: any number)
    #[arg(long, requires = "ticket", value_name = "N", value_parser = format::parse_uses)]
    pub(crate) uses: Option<u32>,
    /// How long the ticket holds, like 1h or 7d (default: until it is taken back)
    #[arg(long, requires = "ticket", value_name = "TIME", value_parser = format::parse_time)]
    pub(crate) expires: Option<Duration>,
    /// Where this machine can be reached; may be given again (default: its own addresses)
    #[arg(long, requires = "ticket", value_name = "HOST:PORT")]
    pub(crate) address: Vec<String>,
    /// Show the ticket as a QR code, too
    #[arg(long, requires = "ticket")]
    pub(crate) qr: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Inbox {
    /// Take offers
    Accept {
        /// The offers' numbers
        #[arg(required = true, value_name = "N", add = complete::offers())]
        offers: Vec<Named>,
    },
    /// Refuse offers
    Reject {
        /// The offers' numbers
        #[arg(required = true, value_name = "N", add = complete::offers())]
        offers: Vec<Named>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Id {
    /// Write this machine's identity to a new file, encrypted with a passphrase
    Export {
        /// The file
        file: PathBuf,
        /// A file with the passphrase in its first line (default: what P2P_PASSPHRASE holds, or it is asked for)
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Take an exported identity into a state folder that has none
    Import {
        /// The file
        file: PathBuf,
        /// A file with the passphrase in its first line (default: what P2P_PASSPHRASE holds, or it is asked for)
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Make a new key in the place of the old one, which signs it, so that peers follow; no daemon may run
    Rotate,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Write a config file with every setting, what it is for, and its default
    Init,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Make the daemon a service that starts at login, and start it
    Install {
        /// Only show what would be written and run
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop the service and undo its installation
    Uninstall {
        /// Only show what would be removed and run
        #[arg(long)]
        dry_run: bool,
    },
    /// Start the service
    Start,
    /// Stop the service; transfers go on when it starts again
    Stop,
    /// Stop the service and start it, as after an upgrade
    Restart,
    /// Show how the service is
    Status,
    /// Show what the service said last
    Logs {
        /// How many lines
        #[arg(short = 'n', long, default_value_t = 100, value_name = "N", value_parser = format::parse_count)]
        lines: u32,
        /// Go on with what it says from now on
        #[arg(short, long)]
        follow: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Peers {
    /// Allow a peer to send files here and to fetch what is shared
    Trust(Trust),
    /// Show or change the rules for what a peer sends
    Rule(Rule),
    /// Forget a peer and end its connections
    Forget {
        /// Its Peer ID or name
        #[arg(add = complete::peer_names())]
        peer: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Trust {
    /// Its Peer ID, as `p2p id` prints it there
    #[arg(add = complete::peer_ids())]
    pub(crate) id: PeerId,
    /// A name for it
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// An address where it can be reached
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// What it may do here
    #[arg(long, value_enum, value_delimiter = ',', default_value = "send,fetch", value_name = "RIGHTS")]
    pub(crate) allow: Vec<Right>,
}

/// Rules for what a peer sends. What is not named stays as it is; `default` is what holds for everybody.
#[derive(Debug, Args)]
pub(crate) struct Rule {
    /// Its Peer ID or name
    #[arg(add = complete::peer_names())]
    pub(crate) peer: String,
    /// What happens to its offers
    #[arg(long, value_name = wanted::ACCEPT, value_parser = wanted::accept, add = complete::words(wanted::ACCEPT))]
    pub(crate) accept: Option<Wanted<Acceptance>>,
    /// Where what it sends lands: a folder, or default for the inbox
    #[arg(long, value_name = "DIR|default", value_parser = wanted::folder)]
    pub(crate) folder: Option<Wanted<String>>,
    /// The largest file or folder that it may send
    #[arg(long, value_name = "SIZE|default", value_parser = wanted::size)]
    pub(crate) largest: Option<Wanted<Size>>,
    /// How much of what it has sent may lie here at a time
    #[arg(long, value_name = "SIZE|default", value_parser = wanted::size)]
    pub(crate) quota: Option<Wanted<Size>>,
    /// What happens where a name is taken
    #[arg(long, value_name = wanted::EXISTS, value_parser = wanted::exists, add = complete::words(wanted::EXISTS))]
    pub(crate) exists: Option<Wanted<Exists>>,
    /// Whether it may fetch back what it has sent
    #[arg(long, value_name = wanted::YES_OR_NO, value_parser = wanted::yes_or_no, add = complete::words(wanted::YES_OR_NO))]
    pub(crate) seed: Option<Wanted<bool>>,
    /// Whether a folder that it sends appears file by file, and not first when it is whole
    #[arg(long, value_name = wanted::YES_OR_NO, value_parser = wanted::yes_or_no, add = complete::words(wanted::YES_OR_NO))]
    pub(crate) progressive: Option<Wanted<bool>>,
}

/// What a peer may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Right {
    /// Send files here.
    Send,
    /// Fetch what is shared with it.
    Fetch,
}

#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// What this machine is to be called there (default: its host name)
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What who joins may do here
    #[arg(long, value_enum, value_delimiter = ',', default_value = "send,fetch", value_name = "RIGHTS")]
    pub(crate) allow: Vec<Right>,
    /// How long it holds, like 30m, 1h or 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = format::parse_time)]
    pub(crate) expires: Duration,
    /// Where this machine can be reached; may be given again (default: its own addresses)
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Vec<String>,
    /// Show the token as a QR code, too
    #[arg(long)]
    pub(crate) qr: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The token, or - to read it from standard input (default: what P2P_TOKEN holds)
    #[arg(value_name = "TOKEN", conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// A file with the token in it
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// What this machine is to be called there (default: its host name)
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What the machine that is joined may do here
    #[arg(long, value_enum, value_delimiter = ',', default_value = "send,fetch", value_name = "RIGHTS")]
    pub(crate) allow: Vec<Right>,
}
