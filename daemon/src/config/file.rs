//! The config file: TOML, every key known, every mistake with its line.

use std::{
    io::{self, Read},
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
    Accept, ConfigError, ENV_CONFIG, ENV_HOME, FileProblem, Origin, Setting, WriteOnlyIn, check_filter, load,
    parse_listen,
};
use crate::{Congestion, text::line_and_column};

/// A config file has a few lines; whatever is larger, in bytes, is none.
const MAX_LEN: u64 = 1 << 20;
/// Every key that a config file may hold.
const KEYS: [&str; 10] = [
    "accept",
    "congestion",
    "debuggable",
    "inbox",
    "limit",
    "listen",
    "log",
    "max_transfers",
    "max_transfers_per_peer",
    "write_only_in",
];

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
        match key.get_ref().as_ref() {
            "listen" => values.listen = Some(listen(value)?),
            "inbox" => values.inbox = Some(folder("inbox", value, user)?),
            "log" => {
                let filter = string("log", value)?;
                check_filter(filter).map_err(|why| mistake("log", value, why))?;
                values.log = Some(filter.to_owned());
            }
            "accept" => values.accept = Some(accept(value)?),
            "congestion" => values.congestion = Some(congestion(value)?),
            "write_only_in" => values.write_only_in = Some(write_only_in(value, user)?),
            "debuggable" => {
                let problem = FileProblem::Type { key: "debuggable", wants: "true or false" };
                values.debuggable = Some(value.get_ref().as_bool().ok_or((value.span(), problem))?);
            }
            "limit" => values.limit = Some(load::limit(value)?),
            "max_transfers" => {
                values.max_transfers = Some(load::count("max_transfers", value, MAX_RUNNING)?);
            }
            "max_transfers_per_peer" => {
                let key = "max_transfers_per_peer";
                values.max_transfers_per_peer = Some(load::count(key, value, MAX_RUNNING_PER_TARGET)?);
            }
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
    KEYS.into_iter().min_by_key(distance).unwrap_or_default()
}
