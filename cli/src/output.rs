//! Everything that is printed is printed here: data and JSON to standard output, all else to standard error.
//!
//! A line for people is shown through [`printable`], whatever it holds, so no text of foreign origin reaches
//! a terminal raw; colours are put around it afterwards.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};

use indicatif::{MultiProgress, ProgressDrawTarget};
use p2p_protocol::name::printable;

use crate::{
    args::{Global, When},
    error::{CliError, Kind},
    json::{self, Line},
};

/// A place that bytes go to.
pub(crate) type Sink = Arc<Mutex<dyn Write + Send>>;

/// Characters of a line where there is no terminal to ask.
const USUAL_WIDTH: u32 = 80;

/// How a line for people looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    Good,
    Warning,
    Bad,
    Dim,
}

impl Look {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Bad => Some("31;1"),
            Self::Dim => Some("2"),
        }
    }
}

/// Where and how a command prints.
#[derive(Clone)]
pub(crate) struct Output {
    data: Sink,
    people: Sink,
    json: bool,
    quiet: bool,
    verbose: bool,
    color: bool,
    /// Whether data is coloured too.
    paints: bool,
    width: u32,
    live: bool,
    /// Set while standard output carries a file, so that JSON goes to standard error.
    data_is_taken: bool,
    bars: MultiProgress,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { json, quiet, verbose, color, live, .. } = self;
        write!(
            f,
            "Output {{ json: {json}, quiet: {quiet}, verbose: {verbose}, color: {color}, live: {live} }}"
        )
    }
}

/// Whether the terminal can do no more than print what it gets.
pub(crate) fn terminal_is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

impl Output {
    /// The process's own standard output and error.
    pub(crate) fn standard(global: &Global) -> Self {
        let terminal = io::stderr().is_terminal();
        let dumb = terminal_is_dumb();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match global.color {
            When::Auto => terminal && !dumb && !no_color,
            When::Always => true,
            When::Never => false,
        };
        let live = terminal && !dumb && !global.json && !global.quiet && !global.no_progress;
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            data: Arc::new(Mutex::new(io::stdout())),
            people: Arc::new(Mutex::new(io::stderr())),
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            color,
            paints: color && (global.color == When::Always || io::stdout().is_terminal()),
            width: terminal_size::terminal_size_of(io::stdout())
                .map_or(USUAL_WIDTH, |(width, _)| width.0.into()),
            live,
            data_is_taken: false,
            bars: MultiProgress::with_draw_target(target),
        }
    }

    /// Prints into the given places, without colours or bars.
    #[cfg(test)]
    pub(crate) fn captured(global: &Global, data: Sink, people: Sink) -> Self {
        Self {
            data,
            people,
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            color: false,
            paints: false,
            width: USUAL_WIDTH,
            live: false,
            data_is_taken: false,
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn color(&self) -> bool {
        self.color
    }

    /// The live bars, where there is a terminal for them.
    pub(crate) fn bars(&self) -> Option<&MultiProgress> {
        self.live.then_some(&self.bars)
    }

    /// From now on standard output carries a file and nothing else.
    pub(crate) fn give_data_away(&mut self) {
        self.data_is_taken = true;
    }

    fn write(&self, sink: &Sink, bytes: &[u8]) -> io::Result<()> {
        self.bars.suspend(|| {
            let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
            sink.write_all(bytes)?;
            sink.flush()
        })
    }

    /// One JSON line, where JSON is wanted.
    pub(crate) fn json(&self, line: &Line<'_>) -> Result<(), CliError> {
        if !self.json {
            return Ok(());
        }
        let bytes = json::encode(line).map_err(|error| CliError::stdout(&error.into()))?;
        let sink = if self.data_is_taken { &self.people } else { &self.data };
        self.write(sink, &bytes).map_err(|error| CliError::stdout(&error))
    }

    /// A line of data: what the command was asked to print. Not with JSON, which has a line of its own for it.
    pub(crate) fn print(&self, text: &str) -> Result<(), CliError> {
        if self.json { Ok(()) } else { self.print_always(text) }
    }

    /// A line of data in pieces that look different, where standard output is a terminal that shows it.
    pub(crate) fn paint(&self, label: &str, pieces: &[(Look, String)]) -> Result<(), CliError> {
        if self.json {
            return Ok(());
        }
        let mut line = printable(label);
        for (look, text) in pieces {
            let text = printable(text);
            match look.code().filter(|_| self.paints) {
                Some(code) => line.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
                None => line.push_str(&text),
            }
        }
        line.push('\n');
        self.write(&self.data, line.as_bytes()).map_err(|error| CliError::stdout(&error))
    }

    /// Characters of a line of the terminal that standard output is, or of a usual one.
    pub(crate) fn width(&self) -> u32 {
        self.width
    }

    /// A line of data that is JSON itself where JSON is wanted.
    pub(crate) fn print_always(&self, text: &str) -> Result<(), CliError> {
        self.write(&self.data, format!("{}\n", printable(text)).as_bytes())
            .map_err(|error| CliError::stdout(&error))
    }

    /// Bytes of data as they are. A reader that is slow holds up nothing but this.
    pub(crate) async fn data(&self, bytes: Vec<u8>) -> Result<(), CliError> {
        let sink = self.data.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
            sink.write_all(&bytes)?;
            sink.flush()
        });
        written
            .await
            .map_err(io::Error::other)
            .and_then(|written| written)
            .map_err(|error| CliError::stdout(&error))
    }

    fn people(&self, look: Look, label: &str, text: &str) {
        let text = printable(text);
        let line = match look.code().filter(|_| self.color) {
            // Only the label of a longer line is coloured: it is what the eye looks for.
            Some(code) if !label.is_empty() => format!("\x1b[{code}m{label}\x1b[0m{text}\n"),
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m\n"),
            None => format!("{label}{text}\n"),
        };
        // Nobody to tell is no reason to stop what was asked for.
        let _ = self.write(&self.people, line.as_bytes());
    }

    /// A line for people.
    pub(crate) fn say(&self, text: &str) {
        self.say_as(Look::Plain, "", text);
    }

    /// A line for people, its label in colour.
    pub(crate) fn say_as(&self, look: Look, label: &str, text: &str) {
        if !self.json && !self.quiet {
            self.people(look, label, text);
        }
    }

    /// A line for people who want to know more.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            self.say_as(Look::Dim, "", text);
        }
    }

    /// What another program wrote for people.
    pub(crate) fn pass_on(&self, text: &str) {
        if !self.json {
            for line in text.lines() {
                self.people(Look::Plain, "", line);
            }
        }
    }

    /// Why the command did not succeed, and what to do.
    pub(crate) fn error(&self, error: &CliError) {
        let (transfer, exit_code) = (error.transfer, error.exit_code());
        let line = match error.kind {
            Kind::NobodyReads | Kind::Said(_) => return,
            Kind::Interrupted => Line::Interrupted { transfer, exit_code },
            Kind::TimedOut => Line::Timeout { transfer, exit_code },
            Kind::Failure(_) => Line::Failed {
                transfer,
                code: error.code(),
                message: &error.message,
                exit_code,
                hints: &error.hints,
                key: error.key,
            },
        };
        if self.json {
            // If nobody reads it, the exit code still says it.
            let _ = self.json(&line);
            return;
        }
        match error.kind {
            Kind::Failure(_) | Kind::TimedOut => {
                let mut lines = error.message.lines();
                self.people(Look::Bad, "error: ", lines.next().unwrap_or_default());
                for line in lines {
                    self.people(Look::Plain, "", &format!("       {line}"));
                }
            }
            Kind::Interrupted if !self.quiet => self.people(Look::Plain, "", &error.message),
            _ => {}
        }
        if !(self.quiet && error.kind == Kind::Interrupted) {
            for hint in &error.hints {
                self.people(Look::Dim, "", &format!("       {hint}"));
            }
        }
    }

    /// A question to a person, on the line that the answer is typed on.
    pub(crate) fn ask(&self, text: &str) {
        let _ = self.write(&self.people, format!("{} ", printable(text)).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Captured, global};

    #[test]
    fn data_and_words_go_their_own_ways() {
        let captured = Captured::default();
        let out = captured.output(&global(&[]));
        out.print("data").unwrap();
        out.say("hello \u{1b}[2J");
        out.json(&Line::Queued { transfer: 1, path: None, batch: None }).unwrap();
        out.error(&CliError::usage("one\ntwo").hint("three"));
        assert_eq!(captured.data(), "data\n");
        assert_eq!(captured.people(), "hello \\u{1b}[2J\nerror: one\n       two\n       three\n");
    }

    #[test]
    fn json_leaves_nothing_else() {
        let captured = Captured::default();
        let mut out = captured.output(&global(&["--json"]));
        out.print("data").unwrap();
        out.say("hello");
        out.json(&Line::Queued { transfer: 1, path: None, batch: None }).unwrap();
        assert_eq!(captured.data(), "{\"event\":\"queued\",\"transfer\":1}\n");
        assert_eq!(captured.people(), "");
        out.give_data_away();
        out.json(&Line::Queued { transfer: 2, path: None, batch: None }).unwrap();
        assert_eq!(captured.people(), "{\"event\":\"queued\",\"transfer\":2}\n");
    }

    #[test]
    fn quiet_still_says_what_went_wrong() {
        let captured = Captured::default();
        let out = captured.output(&global(&["-q"]));
        out.say("hello");
        out.error(&CliError::usage("wrong"));
        assert_eq!(captured.people(), "error: wrong\n");
    }
}
