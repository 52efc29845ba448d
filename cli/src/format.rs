//! Numbers as people read them.

use std::time::Duration;

use p2p_protocol::{
    rate::{Rate, RateError},
    rules::Size,
    shown::Bytes,
};

/// A number of bytes: `512 B`, `1.5 KiB`, `93 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    Bytes(n).to_string()
}

/// Bytes per second.
pub(crate) fn rate(n: u64) -> String {
    format!("{}/s", bytes(n))
}

/// The mean rate of so many bytes in that time; `None` where the time is too short to say.
pub(crate) fn mean_rate(n: u64, time: Duration) -> Option<u64> {
    let seconds = time.as_secs_f64();
    (seconds >= 0.001 && n > 0).then(|| (n as f64 / seconds) as u64)
}

/// A span of time: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`.
pub(crate) fn duration(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..10 => format!("{:.1} s", (time.as_secs_f64() * 10.0).floor() / 10.0),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86400, s % 86400 / 3600),
    }
}

/// Whole seconds, for what changes while one looks at it.
pub(crate) fn eta(seconds: u64) -> String {
    if seconds < 10 { format!("{seconds} s") } else { duration(Duration::from_secs(seconds)) }
}

/// How long ago something was, both in milliseconds since 1970.
pub(crate) fn ago(then_ms: u64, now_ms: u64) -> String {
    let s = now_ms.saturating_sub(then_ms) / 1000;
    match s {
        0..5 => "now".to_owned(),
        5..60 => format!("{s} s ago"),
        60..3600 => format!("{} min ago", s / 60),
        3600..86400 => format!("{} h ago", s / 3600),
        _ => format!("{} d ago", s / 86400),
    }
}

/// Seconds, and none lost: less than one is one.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// How long until a moment, roughly.
pub(crate) fn until(then_ms: u64, now_ms: u64) -> String {
    let s = then_ms.saturating_sub(now_ms).div_ceil(1000);
    match s {
        0..=90 => format!("{s} s"),
        91..=5400 => format!("{} min", (s + 30) / 60),
        5401..=129_600 => format!("{} h", (s + 1800) / 3600),
        _ => format!("{} days", (s + 43_200) / 86_400),
    }
}

/// So many of something: `1 chunk`, `2 chunks`.
pub(crate) fn count(n: u32, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Percent, never 100 before the end.
pub(crate) fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 || part >= whole {
        return 100;
    }
    (u128::from(part) * 100 / u128::from(whole)) as u64
}

/// Seconds until the rest has moved, rounded up; `None` where nothing moves.
pub(crate) fn eta_s(rest: u64, rate: u64) -> Option<u64> {
    if rest == 0 { Some(0) } else { (rate > 0).then(|| rest.div_ceil(rate)) }
}

/// A size as it is typed: `4096`, `64KiB`, `256MiB`, `1G`. Units are powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    text.parse::<Size>().map(|size| size.0).map_err(|error| error.to_string())
}

/// A time as it is typed: `90`, in seconds, `30s`, `5m`, `1h30m`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let parsed = text.parse().map(Duration::from_secs).ok().or_else(|| humantime::parse_duration(text).ok());
    parsed.ok_or_else(|| format!("`{text}` is not a time; write it like 30s, 5m or 1h30m"))
}

/// A number of something that has one, as it is typed.
pub(crate) fn parse_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "it must be a number, such as 7".to_owned())
}

/// How many, as it is typed.
pub(crate) fn parse_count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "it must be a number, such as 100".to_owned())
}

/// How often something may be used, as it is typed.
pub(crate) fn parse_uses(text: &str) -> Result<u32, String> {
    match parse_count(text)? {
        0 => Err("it must be 1 at least".to_owned()),
        uses => Ok(uses),
    }
}

/// A limit on bandwidth as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound(pub(crate) Option<Rate>);

/// A limit on bandwidth as it is typed: a rate, or `off`.
pub(crate) fn parse_limit(text: &str) -> Result<Bound, String> {
    match text {
        "off" => Ok(Bound(None)),
        _ => text.parse().map(|rate| Bound(Some(rate))).map_err(|error: RateError| error.to_string()),
    }
}

/// One word for a POSIX shell, quoted only where it must be.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:@%+,/=-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Rows as columns that line up, the first row being the header.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short_and_never_1024_of_a_unit() {
        for (n, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (93 << 20, "93.0 MiB"),
            (512 << 20, "512 MiB"),
            ((1 << 30) - 1, "1.0 GiB"),
            (5 << 40, "5.0 TiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(n), shown);
        }
    }

    #[test]
    fn time_is_short() {
        for (ms, shown) in [
            (0, "0.0 s"),
            (440, "0.4 s"),
            (9_999, "9.9 s"),
            (12_900, "12 s"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
            (356_400_000, "4 d 3 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), shown);
        }
        assert_eq!(ago(1_000, 500), "now");
        assert_eq!(ago(0, 190_000), "3 min ago");
        assert_eq!((until(500, 1_000), until(1_500, 1_000)), ("0 s".into(), "1 s".into()));
        assert_eq!((until(3_600_000, 0), until(7 * 86_400_000, 0)), ("60 min".into(), "7 days".into()));
        assert_eq!(eta(7), "7 s");
        assert_eq!(eta(75), "1 min 15 s");
    }

    #[test]
    fn shares_of_a_whole_do_not_overstate() {
        assert_eq!(percent(999, 1000), 99);
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(u64::MAX - 1, u64::MAX), 99);
        assert_eq!(eta_s(0, 0), Some(0));
        assert_eq!(eta_s(5, 0), None);
        assert_eq!(eta_s(11, 10), Some(2));
    }

    #[test]
    fn times_parse_as_people_type_them() {
        for (text, seconds) in [("90", 90), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("0", 0)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "s", "-1", "soon", "99999999999999999999h"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_word_survives_the_shell() {
        assert_eq!(shell_word("host:4419"), "host:4419");
        assert_eq!(shell_word("[::1]:4419"), "'[::1]:4419'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["N".into(), "NAME".into()],
            vec!["10".into(), "größe".into()],
            vec!["7".into(), "a".into()],
        ];
        assert_eq!(table(&rows), ["N   NAME", "10  größe", "7   a"]);
    }
}
