//! What of the config says how much is done at a time: numbers of transfers, and limits on bandwidth.

use p2p_protocol::{
    limits::{MAX_RUNNING, MAX_RUNNING_PER_TARGET},
    rate::{Change, Days, Hours, Limits, Minute, Rate, RateError, Timetable, parse_minute},
};
use toml::{Spanned, Table, de::DeValue};

use super::{
    FileProblem,
    file::{Mistake, mistake, string},
};

/// How much is done at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Transfers of this daemon's owner that run at a time.
    pub max_transfers: usize,
    /// The same, to or from one target.
    pub max_transfers_per_peer: usize,
    /// Limits on bandwidth.
    pub limit: Timetable,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            max_transfers: MAX_RUNNING,
            max_transfers_per_peer: MAX_RUNNING_PER_TARGET,
            limit: Timetable::default(),
        }
    }
}

/// A number from one to `most`.
pub(super) fn count(key: &'static str, value: &Spanned<DeValue<'_>>, most: usize) -> Result<usize, Mistake> {
    let number = value.get_ref().as_integer().and_then(|number| number.as_str().parse().ok());
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| mistake(key, value, format!("it must be a number from 1 to {most}")))
}

/// One rate for both ways, or a table with `up`, `down`, and other limits at some hours.
pub(super) fn limit(value: &Spanned<DeValue<'_>>) -> Result<Timetable, Mistake> {
    let Some(table) = value.get_ref().as_table() else {
        let both = rate("limit", value)?;
        return Ok(Timetable { always: Limits { up: both, down: both }, hours: Vec::new() });
    };
    let mut timetable = Timetable::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "up" => timetable.always.up = rate("limit.up", value)?,
            "down" => timetable.always.down = rate("limit.down", value)?,
            "when" => {
                let wants = "an array of tables: [[limit.when]]";
                let all = value.get_ref().as_array();
                let all = all.ok_or((value.span(), FileProblem::Type { key: "limit.when", wants }))?;
                timetable.hours = all.iter().map(hours).collect::<Result<_, _>>()?;
            }
            other => return Err((key.span(), unknown("limit", other, "up, down and when"))),
        }
    }
    Ok(timetable)
}

fn hours(value: &Spanned<DeValue<'_>>) -> Result<Hours, Mistake> {
    let wants = "a table with days, from, to, up and down";
    let table =
        value.get_ref().as_table().ok_or((value.span(), FileProblem::Type { key: "limit.when", wants }))?;
    let (mut from, mut to, mut days, mut change) = (None, None, None, Change::default());
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "days" => days = Some(these_days(value)?),
            "from" => from = Some(minute("limit.when.from", value)?),
            "to" => to = Some(minute("limit.when.to", value)?),
            "up" => change.up = Some(rate("limit.when.up", value)?),
            "down" => change.down = Some(rate("limit.when.down", value)?),
            other => return Err((key.span(), unknown("limit.when", other, "days, from, to, up and down"))),
        }
    }
    let whole_days = days.is_some();
    let days = days.unwrap_or(Days::ALL);
    match (from, to) {
        (Some(from), Some(to)) if from != to => Ok(Hours { days, from, to, change }),
        (None, None) if whole_days => Ok(Hours { days, from: 0, to: 0, change }),
        (Some(_), Some(_)) => Err(mistake("limit.when", value, "from and to are the same".to_owned())),
        _ => {
            Err(mistake("limit.when", value, "it needs both from and to, like \"08:00\", or days".to_owned()))
        }
    }
}

fn unknown(table: &'static str, key: &str, known: &str) -> FileProblem {
    FileProblem::Value { key: table, why: format!("there is no `{key}` in it, only {known}") }
}

fn minute(key: &'static str, value: &Spanned<DeValue<'_>>) -> Result<Minute, Mistake> {
    let text = string(key, value)?;
    parse_minute(text)
        .ok_or_else(|| mistake(key, value, format!("{text:?} is no time of day; write it like \"08:30\"")))
}

fn these_days(value: &Spanned<DeValue<'_>>) -> Result<Days, Mistake> {
    let key = "limit.when.days";
    string(key, value)?.parse().map_err(|why| mistake(key, value, why))
}

/// A rate, or `off` for none.
fn rate(key: &'static str, value: &Spanned<DeValue<'_>>) -> Result<Option<Rate>, Mistake> {
    match string(key, value)? {
        "off" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|error: RateError| mistake(key, value, format!("{error}; or \"off\""))),
    }
}

/// The timetable as it would stand in the file.
pub(super) fn shown(timetable: &Timetable) -> toml::Value {
    let Timetable { always: Limits { up, down }, hours } = timetable;
    if up == down && hours.is_empty() {
        return word(*up);
    }
    let mut table = Table::new();
    table.insert("up".to_owned(), word(*up));
    table.insert("down".to_owned(), word(*down));
    if !hours.is_empty() {
        table.insert("when".to_owned(), hours.iter().map(shown_hours).collect::<Vec<_>>().into());
    }
    table.into()
}

fn shown_hours(hours: &Hours) -> toml::Value {
    let Hours { days, from, to, change: Change { up, down } } = hours;
    let time = |minute: &Minute| format!("{:02}:{:02}", minute / 60, minute % 60);
    let mut table = Table::new();
    // Only whole days begin where they end.
    let whole = from == to;
    if whole || *days != Days::ALL {
        table.insert("days".to_owned(), days.to_string().into());
    }
    if !whole {
        table.insert("from".to_owned(), time(from).into());
        table.insert("to".to_owned(), time(to).into());
    }
    for (key, rate) in [("up", up), ("down", down)] {
        if let Some(rate) = rate {
            table.insert(key.to_owned(), word(*rate));
        }
    }
    table.into()
}

fn word(rate: Option<Rate>) -> toml::Value {
    rate.map_or_else(|| "off".to_owned(), |rate| rate.to_string()).into()
}
