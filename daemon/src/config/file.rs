//! The config file: TOML, every key known, every mistake with its line.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
};

use p2p_protocol::{
    limits::{MAX_RUNNING, MAX_RUNNING_PER_TARGET},
    rate::Timetable,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Accept, ConfigError, ENV_CONFIG, ENV_HOME, FileProblem, Hooks, Origin, Setting, WriteOnlyIn,
    check_filter, hooks, load, parse_listen,
};
use crate::{Congestion, text::line_and_column};

/// A config file has a few lines; whatever is larger, in bytes, is none.
const MAX_LEN: u64 = 1 << 20;

/// Takes a value in.
type Read = fn(&mut Values, &Spanned<DeValue<'_>>, Option<&Path>) -> Result<(), Mistake>;

/// A setting of the config file.
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// What it is for, in lines for people.
    pub(super) means: &'static [&'static str],
    /// Reads its value; the path is what `~/` stands for.
    read: Read,
}

/// Every setting that a config file may have, as they are shown.
pub(super) const KEYS: [Key; 11] = [
    Key {
        name: "listen",
        means: &[
            "Where to listen: addresses with UDP ports. [::] is IPv4 too; port 0 takes a free one.",
            "--listen and P2P_LISTEN go before it.",
        ],
        read: |values, value, _| set(&mut values.listen, listen(value)),
    },
    Key {
        name: "inbox",
        means: &[
            "Where received files land: an absolute path, or one that begins with ~/.",
            "--inbox and P2P_INBOX go before it.",
        ],
        read: |values, value, user| set(&mut values.inbox, folder("inbox", value, user)),
    },
    Key {
        name: "log",
        means: &[
            "What to log: error, warn, info, debug, trace, or more closely, as \"info,p2p_daemon=debug\".",
            "--log and P2P_LOG go before it.",
        ],
        read: |values, value, _| set(&mut values.log, log(value)),
    },
    Key {
        name: "accept",
        means: &[
            "What a trusted peer offers is taken (\"always\"), or waits in `p2p inbox` for a yes (\"ask\").",
        ],
        read: |values, value, _| set(&mut values.accept, accept(value)),
    },
    Key {
        name: "congestion",
        means: &[
            "What decides how much may be on its way to a peer: \"bbr\", which loss on a long link does not slow",
            "down, or \"cubic\".",
        ],
        read: |values, value, _| set(&mut values.congestion, congestion(value)),
    },
    Key {
        name: "write_only_in",
        means: &[
            "\"anywhere\", or a list of folders: beside home and inbox the daemon may write in these alone, and",
            "speaks no TCP (Linux's Landlock). [] is home and inbox and nothing else.",
        ],
        read: |values, value, user| set(&mut values.write_only_in, write_only_in(value, user)),
    },
    Key {
        name: "debuggable",
        means: &[
            "Whether other processes of this user may look into the daemon's memory, where its key is.",
            "P2P_DEBUGGABLE goes before it.",
        ],
        read: |values, value, _| set(&mut values.debuggable, truth("debuggable", value)),
    },
    Key {
        name: "max_transfers",
        means: &["How many of your sends and fetches run at a time; the others wait."],
        read: |values, value, _| {
            set(&mut values.max_transfers, load::count("max_transfers", value, MAX_RUNNING))
        },
    },
    Key {
        name: "max_transfers_per_peer",
        means: &["The same to or from one target."],
        read: |values, value, _| {
            let count = load::count("max_transfers_per_peer", value, MAX_RUNNING_PER_TARGET);
            set(&mut values.max_transfers_per_peer, count)
        },
    },
    Key {
        name: "limit",
        means: &[
            "How fast all transfers together may go: \"off\", a rate such as \"10 MiB/s\" for both ways, or a table with",
            "up and down, and with others at some hours: when = [{ days = \"mon-fri\", from = \"08:00\", to = \"18:00\",",
            "up = \"1 MiB/s\" }].",
        ],
        read: |values, value, _| set(&mut values.limit, load::limit(value)),
    },
    Key {
        name: "hooks",
        means: &[
            "Programs to run when an offer waits, and when a transfer is done or has failed, each with its arguments:",
            "{ offer = [\"/path/to/program\"], done = [\"program\", \"argument\"], failed = […], notify = true }. What has",
            "happened is in their environment (P2P_EVENT, P2P_NAME, P2P_PATH, …). notify shows it on the desktop.",
        ],
        read: |values, value, _| set(&mut values.hooks, hooks::hooks(value)),
    },
];

fn set<T>(place: &mut Option<T>, value: Result<T, Mistake>) -> Result<(), Mistake> {
    *place = Some(value?);
    Ok(())
}

/// What a config file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Values {
    pub(super) listen: Option<Vec<SocketAddr>>,
    pub(super) inbox: Option<PathBuf>,
    pub(super) log: Option<String>,
    pub(super) accept: Option<Accept>,
    pub(super) congestion: Option<Congestion>,
    pub(super) write_only_in: Option<WriteOnlyIn>,
    pub(super) debuggable: Option<bool>,
    pub(super) limit: Option<Timetable>,
    pub(super) hooks: Option<Hooks>,
    pub(super) max_transfers: Option<usize>,
    pub(super) max_transfers_per_peer: Option<usize>,
}

/// Reads the config file. The default one need not exist; `user` is what `~/` stands for.
pub(super) fn read(config: &Setting<PathBuf>, user: Option<&Path>) -> Result<Values, ConfigError> {
    let path = &config.value;
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && config.origin == Origin::Default => {
            return Ok(Values::default());
        }
        Err(source) => return Err(ConfigError::Read { path: path.clone(), source }),
    };
    parse(&text, user).map_err(|(at, problem)| {
        let (line, column) = line_and_column(&text, at.start);
        ConfigError::File { path: path.clone(), line, column, problem }
    })
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let len = std::fs::File::open(path)?.take(MAX_LEN + 1).read_to_string(&mut text)?;
    if len as u64 > MAX_LEN {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large for a config file"));
    }
    Ok(text)
}

/// A mistake and where it is, in bytes.
pub(super) type Mistake = (Range<usize>, FileProblem);

fn parse(text: &str, user: Option<&Path>) -> Result<Values, Mistake> {
    let table = DeTable::parse(text)
        .map_err(|error| (error.span().unwrap_or(0..0), FileProblem::Syntax(error.message().to_owned())))?;
    let mut values = Values::default();
    for (key, value) in table.get_ref() {
        let name = key.get_ref().as_ref();
        if let Some(known) = KEYS.iter().find(|known| known.name == name) {
            (known.read)(&mut values, value, user)?;
            continue;
        }
        match name {
            "home" => return Err((key.span(), FileProblem::NotHere { key: "home", env: ENV_HOME })),
            "config" => return Err((key.span(), FileProblem::NotHere { key: "config", env: ENV_CONFIG })),
            other => {
                let problem = FileProblem::UnknownKey { key: other.to_owned(), nearest: nearest(other) };
                return Err((key.span(), problem));
            }
        }
    }
    Ok(values)
}

pub(super) fn mistake(key: &'static str, value: &Spanned<DeValue<'_>>, why: String) -> Mistake {
    (value.span(), FileProblem::Value { key, why })
}

pub(super) fn string<'a>(key: &'static str, value: &'a Spanned<DeValue<'_>>) -> Result<&'a str, Mistake> {
    let wants = "a string";
    value.get_ref().as_str().ok_or_else(|| (value.span(), FileProblem::Type { key, wants }))
}

fn truth(key: &'static str, value: &Spanned<DeValue<'_>>) -> Result<bool, Mistake> {
    let wants = "true or false";
    value.get_ref().as_bool().ok_or_else(|| (value.span(), FileProblem::Type { key, wants }))
}

fn log(value: &Spanned<DeValue<'_>>) -> Result<String, Mistake> {
    let filter = string("log", value)?;
    check_filter(filter).map_err(|why| mistake("log", value, why))?;
    Ok(filter.to_owned())
}

fn listen(value: &Spanned<DeValue<'_>>) -> Result<Vec<SocketAddr>, Mistake> {
    let wants = "an address such as \"0.0.0.0:4419\", or an array of such addresses";
    let one = |value: &Spanned<DeValue<'_>>| match value.get_ref().as_str() {
        Some(text) => parse_listen(text).map_err(|why| mistake("listen", value, why)),
        None => Err((value.span(), FileProblem::Type { key: "listen", wants })),
    };
    match value.get_ref().as_array() {
        Some(array) if array.is_empty() => Err((value.span(), FileProblem::Type { key: "listen", wants })),
        Some(array) => array.iter().map(one).collect(),
        None => Ok(vec![one(value)?]),
    }
}

/// The absolute path of a folder.
fn folder(key: &'static str, value: &Spanned<DeValue<'_>>, user: Option<&Path>) -> Result<PathBuf, Mistake> {
    let text = string(key, value)?;
    let path = match (text.strip_prefix("~/"), user) {
        (Some(below), Some(user)) => user.join(below),
        _ => PathBuf::from(text),
    };
    if path.is_relative() {
        let why = format!("{text:?} is not an absolute path, nor one that begins with ~/");
        return Err(mistake(key, value, why));
    }
    Ok(path)
}

fn write_only_in(value: &Spanned<DeValue<'_>>, user: Option<&Path>) -> Result<WriteOnlyIn, Mistake> {
    let key = "write_only_in";
    let wants = "an array of folders besides home and inbox, or \"anywhere\"";
    match (value.get_ref().as_array(), value.get_ref().as_str()) {
        (Some(array), _) => {
            let folders = array.iter().map(|value| folder(key, value, user)).collect::<Result<_, _>>()?;
            Ok(WriteOnlyIn::Folders(folders))
        }
        (None, Some("anywhere")) => Ok(WriteOnlyIn::Anywhere),
        _ => Err((value.span(), FileProblem::Type { key, wants })),
    }
}

fn accept(value: &Spanned<DeValue<'_>>) -> Result<Accept, Mistake> {
    match string("accept", value)? {
        "always" => Ok(Accept::Always),
        "ask" => Ok(Accept::Ask),
        other => Err(mistake("accept", value, format!("{other:?} is neither \"always\" nor \"ask\""))),
    }
}

fn congestion(value: &Spanned<DeValue<'_>>) -> Result<Congestion, Mistake> {
    let word = string("congestion", value)?;
    let found = Congestion::ALL.into_iter().find(|congestion| congestion.word() == word);
    found.ok_or_else(|| mistake("congestion", value, format!("{word:?} is neither \"bbr\" nor \"cubic\"")))
}

/// The key that was most likely meant.
fn nearest(key: &str) -> &'static str {
    let distance = |known: &&str| strsim::damerau_levenshtein(&key.to_lowercase(), known);
    KEYS.iter().map(|key| key.name).min_by_key(distance).unwrap_or_default()
}
