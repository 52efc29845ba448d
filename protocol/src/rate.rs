//! Limits on bandwidth: what they are, when they hold, and the bucket that says when the next bytes may go.

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    limits::{MIN_RATE, RATE_BURST},
    rules::unit_of,
    transfer::Now,
};

/// Bytes per second, not fewer than [`MIN_RATE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rate(NonZeroU64);

/// A rate that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no rate; write it like 500 KiB/s, 10 MiB/s or 100 Mbit/s, and not below 1 KiB/s")]
pub struct RateError(String);

impl Rate {
    /// That many bytes per second; `None` where they are too few.
    pub fn new(bytes: u64) -> Option<Self> {
        NonZeroU64::new(bytes).filter(|bytes| bytes.get() >= MIN_RATE).map(Self)
    }

    /// Bytes per second.
    pub fn bytes(self) -> u64 {
        self.0.get()
    }

    /// Bytes within so much time.
    pub fn within(self, time: Duration) -> u64 {
        (self.bytes() as f64 * time.as_secs_f64()) as u64
    }
}

impl FromStr for Rate {
    type Err = RateError;

    /// A number, which may have a fraction, and a unit: B, KiB, MiB, GiB (also k, M, G); or, a thousand times each, kB, MB, GB and,
    /// eight of them to a byte, bit, kbit, Mbit, Gbit; `/s` may follow.
    fn from_str(text: &str) -> Result<Self, RateError> {
        let wrong = || RateError(text.to_owned());
        let whole = text.trim().to_ascii_lowercase();
        let whole = whole.strip_suffix("/s").unwrap_or(&whole).trim_end();
        let unit_at = whole.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(whole.len());
        let (number, unit) = whole.split_at(unit_at);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = match unit.trim_start() {
            "" | "b" => 1.0,
            "bit" => 1.0 / 8.0,
            "kbit" => 1e3 / 8.0,
            "mbit" => 1e6 / 8.0,
            "gbit" => 1e9 / 8.0,
            // A rate in TB is more likely a mistake.
            unit => unit_of(unit).filter(|unit| *unit <= 1 << 30).ok_or_else(wrong)? as f64,
        };
        let bytes = number * unit;
        // Beyond this nothing is limited, and a float no longer counts one by one.
        if bytes > 1e15 { Err(wrong()) } else { Self::new(bytes as u64).ok_or_else(wrong) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        for (log2, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            let size = 1u64 << log2;
            if bytes.is_multiple_of(size) {
                return write!(f, "{} {unit}/s", bytes / size);
            }
        }
        write!(f, "{bytes} B/s")
    }
}

/// How fast bytes may go either way; `None` is as fast as they can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From here to peers.
    pub up: Option<Rate>,
    /// From peers to here.
    pub down: Option<Rate>,
}

/// What is to be another limit than before; the outer `None` leaves it, the inner one takes it away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// From here to peers.
    pub up: Option<Option<Rate>>,
    /// From peers to here.
    pub down: Option<Option<Rate>>,
}

impl Limits {
    /// The same with that change.
    #[must_use]
    pub fn with(self, change: Change) -> Self {
        Self { up: change.up.unwrap_or(self.up), down: change.down.unwrap_or(self.down) }
    }
}

/// Why the limits are what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The config says so.
    Config,
    /// The config says so for this hour.
    Hours,
    /// A command has set them.
    Command,
}

/// The limits that hold now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// What they are.
    pub limits: Limits,
    /// Why.
    pub source: Source,
}

/// Minutes of a day, from midnight on.
pub type Minute = u16;

/// Minutes of a day.
pub const DAY: Minute = 24 * 60;

/// Days of a week, from Monday on.
pub type Weekday = u8;

/// Some days of every week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    /// Every day.
    pub const ALL: Self = Self(0b111_1111);
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    fn covers(self, day: Weekday) -> bool {
        self.0 >> (day % 7) & 1 == 1
    }
}

impl FromStr for Days {
    type Err = String;

    /// Days and runs of days, separated by commas: `mon-fri`, `sat, sun`, `fri-mon`.
    fn from_str(text: &str) -> Result<Self, String> {
        let day = |name: &str| Self::NAMES.iter().position(|known| known.eq_ignore_ascii_case(name.trim()));
        let mut days = 0;
        for run in text.split(',') {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let (Some(first), Some(last)) = (day(first), day(last)) else {
                return Err(format!("{:?} are no days; write them like \"mon-fri\" or \"sat, sun\"", text));
            };
            // A run may go over the end of the week.
            for n in 0..=(last + 7 - first) % 7 {
                days |= 1 << ((first + n) % 7);
            }
        }
        Ok(Self(days))
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = (0..7).filter(|day| self.covers(*day)).map(|day| Self::NAMES[usize::from(day)]);
        f.write_str(&days.collect::<Vec<_>>().join(", "))
    }
}

/// A part of some days in which other limits hold. It may go over midnight, and is then of the day on which it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// On which days.
    pub days: Days,
    /// Its first minute.
    pub from: Minute,
    /// The minute after its last; of the next day if it is not after the first.
    pub to: Minute,
    /// What is other then.
    pub change: Change,
}

impl Hours {
    fn covers(&self, day: Weekday, minute: Minute) -> bool {
        if self.from < self.to {
            return self.days.covers(day) && (self.from..self.to).contains(&minute);
        }
        let (today, yesterday) = (self.days.covers(day), self.days.covers(day + 6));
        today && minute >= self.from || yesterday && minute < self.to
    }
}

/// Limits and when others hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timetable {
    /// What holds while nothing else does.
    pub always: Limits,
    /// The first that covers a minute counts.
    pub hours: Vec<Hours>,
}

impl Timetable {
    /// What holds at a minute of a day of the week, and whether that is because of the hour.
    pub fn at(&self, day: Weekday, minute: Minute) -> (Limits, bool) {
        match self.hours.iter().find(|hours| hours.covers(day, minute)) {
            Some(hours) => (self.always.with(hours.change), true),
            None => (self.always, false),
        }
    }
}

/// A time of day as `08:30`.
pub fn parse_minute(text: &str) -> Option<Minute> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return None;
    }
    let (hour, minute): (Minute, Minute) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60 && hour < 24).then_some(hour * 60 + minute)
}

/// Bytes that went and are not paid for yet, at a rate. Time pays; whoever finds nothing owed may go on.
///
/// What it lets through in the long run is the rate, however large the pieces are that are spent at once.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Option<Rate>,
    /// Below zero is what time has paid ahead, [`RATE_BURST`] at most.
    owed: f64,
    seen: Now,
}

impl Bucket {
    /// Nothing is owed.
    pub fn new(rate: Option<Rate>, now: Now) -> Self {
        Self { rate, owed: 0.0, seen: now }
    }

    /// The rate, if it has one.
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Has another rate from now on. What is owed stays owed.
    pub fn set_rate(&mut self, rate: Option<Rate>, now: Now) {
        self.settle(now);
        self.rate = rate;
        if rate.is_none() {
            self.owed = 0.0;
        }
    }

    /// So many bytes have gone, or go now.
    pub fn spend(&mut self, bytes: u64, now: Now) {
        self.settle(now);
        if self.rate.is_some() {
            self.owed += bytes as f64;
        }
    }

    /// How long it takes until nothing is owed; `None` where nothing is.
    pub fn wait(&mut self, now: Now) -> Option<Duration> {
        self.settle(now);
        let rate = self.rate.filter(|_| self.owed > 0.0)?;
        Some(Duration::from_secs_f64(self.owed / rate.bytes() as f64))
    }

    fn settle(&mut self, now: Now) {
        let passed = now.saturating_sub(self.seen).as_secs_f64();
        self.seen = self.seen.max(now);
        if let Some(rate) = self.rate {
            let rate = rate.bytes() as f64;
            self.owed = (self.owed - rate * passed).max(-rate * RATE_BURST.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("10 MiB/s", 10 * MIB),
            ("10MiB", 10 * MIB),
            ("10 MB/s", 10_000_000),
            ("64kB", 64_000),
            ("1.5gb/s", 1_500_000_000),
            (" 1.5 m/s ", MIB + MIB / 2),
            ("500 KiB/s", 500 << 10),
            ("2g", 2 << 30),
            ("4096", 4096),
            ("100 Mbit/s", 12_500_000),
            ("64kbit/s", 8000),
            ("16004 bit/s", 2000),
            ("1 Gbit/s", 125_000_000),
            ("1000000000000000", 1_000_000_000_000_000),
        ] {
            assert_eq!(rate(text).bytes(), bytes, "{text}");
        }
        for wrong in
            ["", "MiB", "0", "1023", "-1 MiB/s", "1..5M", "10 MiB/h", "10 xB", "1e9", "9999999999999 GiB"]
        {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_says_what_goes_within_a_time() {
        assert_eq!(rate("3 MiB/s").within(Duration::from_secs(2)), 6 * MIB);
        assert_eq!(rate("3 MiB/s").within(Duration::from_millis(500)), 3 * MIB / 2);
    }

    #[test]
    fn rates_are_written_as_they_are_read() {
        for text in ["10 MiB/s", "500 KiB/s", "2 GiB/s", "12500000 B/s"] {
            assert_eq!(rate(text).to_string(), text);
        }
        assert_eq!(rate("1.5 MiB/s").to_string(), "1536 KiB/s");
    }

    #[test]
    fn times_of_day_have_two_digits_each() {
        assert_eq!(parse_minute("00:00"), Some(0));
        assert_eq!(parse_minute("08:30"), Some(510));
        assert_eq!(parse_minute("23:59"), Some(DAY - 1));
        for wrong in ["", "8:30", "24:00", "12:60", "12", "12:3", "+1:00", "12:30:00"] {
            assert_eq!(parse_minute(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_first_hours_that_cover_a_minute_count_and_change_only_what_they_name() {
        let always = Limits { up: Some(rate("5M")), down: None };
        let hours = |from: &str, to: &str, change| Hours {
            days: Days::ALL,
            from: parse_minute(from).unwrap(),
            to: parse_minute(to).unwrap(),
            change,
        };
        let slow = Change { up: Some(Some(rate("1M"))), down: None };
        let night = Change { up: Some(None), down: Some(Some(rate("9M"))) };
        let table =
            Timetable { always, hours: vec![hours("08:00", "18:00", slow), hours("17:00", "06:00", night)] };
        let at = |text: &str| table.at(3, parse_minute(text).unwrap());
        assert_eq!(at("07:59"), (always, false));
        assert_eq!(at("08:00"), (Limits { up: Some(rate("1M")), down: None }, true));
        assert_eq!(at("17:59"), at("08:00"));
        let at_night = (Limits { up: None, down: Some(rate("9M")) }, true);
        assert_eq!([at("18:00"), at("23:59"), at("00:00"), at("05:59")], [at_night; 4]);
        assert_eq!(at("06:00"), (always, false));
        let all_day = Timetable { always, hours: vec![hours("08:00", "08:00", slow)] };
        assert!([0, 479, 480, 481, DAY - 1].iter().all(|minute| all_day.at(6, *minute).1));
    }

    #[test]
    fn days_are_read_and_written_as_people_do() {
        for (text, days) in [
            ("mon", "mon"),
            ("mon-fri", "mon, tue, wed, thu, fri"),
            ("Sat,sun", "sat, sun"),
            (" fri - mon ", "mon, fri, sat, sun"),
            ("tue-tue, sun", "tue, sun"),
            ("sun-sat", "mon, tue, wed, thu, fri, sat, sun"),
        ] {
            let read: Days = text.parse().unwrap();
            assert_eq!((read.to_string().as_str(), days.parse()), (days, Ok(read)), "{text}");
        }
        for wrong in ["", "mon-", "monday", "mon;tue", "mon-tue-wed", "mon,,tue"] {
            assert!(wrong.parse::<Days>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hours_over_midnight_are_of_the_day_on_which_they_begin() {
        let change = Change { up: Some(Some(rate("1M"))), down: None };
        let holds = |days: &str, [from, to]: [&str; 2], day: Weekday, at: &str| {
            let [from, to, at] = [from, to, at].map(|text| parse_minute(text).unwrap());
            let hours = vec![Hours { days: days.parse().unwrap(), from, to, change }];
            Timetable { always: Limits::default(), hours }.at(day, at).1
        };
        let office = ["08:00", "18:00"];
        assert!(!holds("mon-fri", office, 0, "07:59") && holds("mon-fri", office, 0, "08:00"));
        assert!(holds("mon-fri", office, 4, "17:59") && !holds("mon-fri", office, 4, "18:00"));
        assert!(!holds("mon-fri", office, 5, "12:00") && !holds("mon-fri", office, 6, "12:00"));
        // Sunday's night goes on into Monday, and Saturday's is another.
        let night = ["22:00", "06:00"];
        assert!(holds("sun", night, 6, "22:00") && holds("sun", night, 0, "05:59"));
        assert!(!holds("sun", night, 0, "06:00") && !holds("sun", night, 0, "22:00"));
        assert!(!holds("sun", night, 6, "05:59") && !holds("sun", night, 6, "21:59"));
        // The whole of a weekend, from midnight to midnight.
        let whole = ["00:00", "00:00"];
        assert!(holds("sat-sun", whole, 5, "00:00") && holds("sat-sun", whole, 6, "23:59"));
        assert!(!holds("sat-sun", whole, 0, "00:00") && !holds("sat-sun", whole, 4, "23:59"));
    }

    /// Time until `total` bytes have gone in pieces, when everybody waits as told.
    fn time_for(bucket: &mut Bucket, total: u64, piece: u64, now: &mut Now) -> Duration {
        let begun = *now;
        for _ in 0..total / piece {
            while let Some(wait) = bucket.wait(*now) {
                *now += wait.max(Duration::from_millis(1));
            }
            bucket.spend(piece, *now);
        }
        while let Some(wait) = bucket.wait(*now) {
            *now += wait;
        }
        *now - begun
    }

    #[test]
    fn in_the_long_run_it_is_the_rate_whatever_the_pieces_are() {
        for piece in [1 << 10, 16 << 10, MIB, 4 * MIB] {
            let mut now = Now::from_secs(7);
            let mut bucket = Bucket::new(Some(rate("1 MiB/s")), now);
            let took = time_for(&mut bucket, 16 * MIB, piece, &mut now);
            assert!((15.8..=16.1).contains(&took.as_secs_f64()), "{piece}: {took:?}");
        }
    }

    #[test]
    fn what_was_not_used_is_saved_for_a_moment_only() {
        let mut now = Now::ZERO;
        let mut bucket = Bucket::new(Some(rate("1 MiB/s")), now);
        now += Duration::from_secs(3600);
        let took = time_for(&mut bucket, 4 * MIB, 4 << 10, &mut now);
        assert!((3.8..=4.1).contains(&took.as_secs_f64()), "{took:?}");
    }

    #[test]
    fn another_rate_counts_at_once_for_what_is_owed() {
        let mut bucket = Bucket::new(Some(rate("1 MiB/s")), Now::ZERO);
        bucket.spend(4 * MIB, Now::ZERO);
        assert_eq!(bucket.wait(Now::ZERO), Some(Duration::from_secs(4)));
        bucket.set_rate(Some(rate("3 MiB/s")), Now::from_secs(1));
        assert_eq!(bucket.rate(), Some(rate("3 MiB/s")));
        assert_eq!(bucket.wait(Now::from_secs(1)), Some(Duration::from_secs(1)));
        bucket.set_rate(None, Now::from_secs(1));
        bucket.spend(u64::MAX, Now::from_secs(1));
        assert_eq!(bucket.wait(Now::from_secs(1)), None);
        // A clock that steps back is no reason to wait.
        bucket.set_rate(Some(rate("1 MiB/s")), Now::ZERO);
        assert_eq!(bucket.wait(Now::ZERO), None);
    }
}
