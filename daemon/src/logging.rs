//! The log: one line an event, on standard error.

mod calm;

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, ParseError},
    fmt,
    util::TryInitError,
};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use calm::Calm;

/// What a filter such as `info,p2p_daemon=debug` lets through.
///
/// # Errors
/// The text is no filter.
pub(crate) fn parse_filter(text: &str) -> Result<EnvFilter, FilterError> {
    if !text.is_ascii() {
        return Err(FilterError::NotAscii);
    }
    // Alone it would stand for a part of the program, and all else would be silent.
    let is_level = |word: &&str| word.parse::<LevelFilter>().is_ok();
    let word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if let Some(wrong) = text.split(',').map(str::trim).filter(word).find(|word| !is_level(word)) {
        return Err(FilterError::NoLevel(wrong.to_owned()));
    }
    Ok(EnvFilter::builder().parse(text)?)
}

/// Why a text is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// It makes no sense.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A word alone that is no level.
    #[error(
        "{0} is none of off, error, warn, info, debug, trace; a part of the program is named with one, as {0}=debug"
    )]
    NoLevel(String),
    /// Nothing that a filter could name has such a name, and tracing-subscriber panics at some.
    #[error("it is not all ASCII")]
    NotAscii,
}

/// Begins to log for the whole process.
///
/// # Errors
/// Something logs in this process already.
pub(crate) fn start(filter: EnvFilter) -> Result<(), TryInitError> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal() && !no_color);
    tracing_subscriber::registry().with(filter).with(lines.with_filter(Calm::default())).try_init()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        for good in ["", "INFO", "info", "off", "debug,quinn=warn", "p2p_daemon::session=trace,info"] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        // The last one has made the parser panic.
        for bad in ["inffo", "info,quin", "p2p_daemon=loud", "a=b=c", "größe=info", " \t\t\u{feff}a=bG]=c+"]
        {
            assert!(parse_filter(bad).is_err(), "{bad}");
        }
    }
}
