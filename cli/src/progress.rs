//! The live line of a transfer, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use p2p_protocol::{control::Progress, name::printable};

use crate::{format, json, output::Output};

/// How often the spinner turns while no numbers come.
const TICK: Duration = Duration::from_millis(120);

/// The live line: a spinner with a few words until there are numbers, then a bar with them.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    color: bool,
    /// What stands in front, where there are several lines.
    label: String,
    counting: bool,
}

impl Bar {
    /// A new line below the others; `None` where there is no terminal for it.
    pub(crate) fn new(out: &Output, label: Option<&str>) -> Option<Self> {
        let bar = out.bars()?.add(ProgressBar::new(0));
        let label = label.map(|label| format!("{} ", printable(label))).unwrap_or_default();
        bar.set_style(style("{prefix}{spinner} {wide_msg}"));
        bar.set_prefix(label.clone());
        bar.enable_steady_tick(TICK);
        Some(Self { bar, color: out.color(), label, counting: false })
    }

    /// Nothing moves, for this reason.
    pub(crate) fn words(&mut self, words: &str) {
        if self.counting {
            self.counting = false;
            self.bar.set_style(style("{prefix}{spinner} {wide_msg}"));
            self.bar.enable_steady_tick(TICK);
        }
        self.bar.set_message(printable(words));
    }

    /// Bytes of so many bytes, with something behind them.
    pub(crate) fn numbers(&mut self, done: u64, total: u64, behind: String) {
        if !self.counting {
            self.counting = true;
            self.bar.disable_steady_tick();
            let template = if self.color {
                "{prefix}{bar:24.cyan/dim} {percent:>3}%  {wide_msg}"
            } else {
                "{prefix}{bar:24} {percent:>3}%  {wide_msg}"
            };
            self.bar.set_style(style(template).progress_chars("━╸─"));
            self.bar.set_prefix(self.label.clone());
        }
        self.bar.set_length(total);
        self.bar.set_message(behind);
        self.bar.set_position(done);
    }

    /// How far a transfer is.
    pub(crate) fn progress(&mut self, progress: &Progress) {
        let columns = terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| width.0);
        let room = usize::from(columns).saturating_sub(IN_FRONT + self.label.chars().count());
        self.numbers(progress.verified_bytes, progress.total_bytes, behind(progress, room));
    }

    /// Takes the line away.
    pub(crate) fn clear(self) {
        self.bar.finish_and_clear();
    }
}

/// Columns of a bar and of the share that is done.
const IN_FRONT: usize = 24 + 7;

/// The numbers behind a bar: `412 MiB of 1.0 GiB  93.0 MiB/s  7 s left  8 streams (parallel)  limited by path`. Where there is no
/// room for all of it, what limits it comes before how it is done.
fn behind(progress: &Progress, room: usize) -> String {
    let Progress { verified_bytes, total_bytes, rate, streams, parallel, .. } = *progress;
    let mut parts = vec![format!("{} of {}", format::bytes(verified_bytes), format::bytes(total_bytes))];
    if rate > 0 {
        parts.push(format::rate(rate));
    }
    if let Some(seconds @ 1..) = format::eta_s(total_bytes.saturating_sub(verified_bytes), rate) {
        parts.push(format!("{} left", format::eta(seconds)));
    }
    let limit = match progress.limited_by() {
        Some(stage) => Some(format!("limited by {}", json::stage(stage))),
        None => progress.limited.then(|| "limited".to_owned()),
    };
    let how =
        (streams > 0).then(|| format!("{} ({})", format::count(streams, "stream"), json::mode(parallel)));
    let with = |more: &[&Option<String>]| {
        let more = more.iter().filter_map(|part| part.as_ref());
        parts.iter().chain(more).map(String::as_str).collect::<Vec<_>>().join("  ")
    };
    let all = [with(&[&how, &limit]), with(&[&limit]), with(&[])];
    let fits = all.iter().find(|text| text.chars().count() <= room);
    fits.unwrap_or(&all[2]).clone()
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are fixed; the plain bar is for a misprint in one of them.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use p2p_protocol::waits::Shares;

    use super::*;

    #[test]
    fn the_numbers_say_rate_time_streams_and_mode() {
        let progress = Progress {
            verified_bytes: 412 << 20,
            total_bytes: 1 << 30,
            rate: 93 << 20,
            streams: 8,
            parallel: true,
            ..Progress::default()
        };
        let behind = |progress: &Progress| super::behind(progress, 100);
        assert_eq!(behind(&progress), "412 MiB of 1.0 GiB  93.0 MiB/s  7 s left  8 streams (parallel)");
        let waits = Some(Shares { source: 30, path: 70, ..Shares::default() });
        assert!(behind(&Progress { waits, ..progress }).ends_with("8 streams (parallel)  limited by path"));
        assert_eq!(behind(&Progress { total_bytes: 5, ..Progress::default() }), "0 B of 5 B");
        let narrow = |room| super::behind(&Progress { waits, ..progress }, room);
        assert_eq!(narrow(60), "412 MiB of 1.0 GiB  93.0 MiB/s  7 s left  limited by path");
        for room in [0, 49] {
            assert_eq!(narrow(room), "412 MiB of 1.0 GiB  93.0 MiB/s  7 s left");
        }
    }
}
