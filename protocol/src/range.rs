//! Which bytes of a file are wanted, as in HTTP (RFC 9110, section 14): `A-B` with both ends, `A-` to the end, `-N` the last N.

use std::{fmt, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

/// Some of a file's bytes, before its size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ByteRange {
    /// From the first of these bytes to the second, or to the end.
    From(u64, Option<u64>),
    /// The last so many.
    Last(u64),
}

/// A text that is no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a range of bytes is A-B with both ends, A- to the end, or -N for the last N")]
pub struct NoRange;

impl ByteRange {
    /// The bytes of a file of this size; `None` where it has none of them. What goes beyond its end is left out.
    pub fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(size, |last| last.saturating_add(1)).min(size),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        Some(range).filter(|range| !range.is_empty())
    }
}

impl FromStr for ByteRange {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or(NoRange)
        };
        match text.split_once('-').ok_or(NoRange)? {
            ("", count) => Ok(Self::Last(number(count)?)),
            (first, "") => Ok(Self::From(number(first)?, None)),
            (first, last) => match (number(first)?, number(last)?) {
                (first, last) if first <= last => Ok(Self::From(first, Some(last))),
                _ => Err(NoRange),
            },
        }
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(first, Some(last)) => write!(f, "{first}-{last}"),
            Self::From(first, None) => write!(f, "{first}-"),
            Self::Last(count) => write!(f, "-{count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_mean_what_they_mean_in_http() {
        let within = |text: &str, size| text.parse::<ByteRange>().unwrap().within(size);
        assert_eq!(within("0-0", 10), Some(0..1));
        assert_eq!(within("2-5", 10), Some(2..6));
        assert_eq!(within("2-", 10), Some(2..10));
        assert_eq!(within("2-99", 10), Some(2..10));
        assert_eq!(within("-3", 10), Some(7..10));
        assert_eq!(within("-30", 10), Some(0..10));
        assert_eq!(within("0-18446744073709551615", 10), Some(0..10));
        for (text, size) in [("10-", 10), ("11-12", 10), ("-0", 10), ("0-", 0), ("-1", 0)] {
            assert_eq!(within(text, size), None, "{text} of {size}");
        }
    }

    #[test]
    fn what_is_typed_is_what_is_shown() {
        for text in ["0-0", "7-", "-12"] {
            assert_eq!(text.parse::<ByteRange>().unwrap().to_string(), text);
        }
        for text in ["", "-", "5", "5-4", "+1-2", "1-+2", "a-b", "1-2-3", " 1-2", "99999999999999999999-"] {
            assert_eq!(text.parse::<ByteRange>(), Err(NoRange), "{text}");
        }
    }
}
