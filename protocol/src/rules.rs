//! What a machine's owner has settled for one peer, beside what it may do at all.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What holds for one peer. What is not said is as for everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// What happens to its offers.
    pub accept: Option<Acceptance>,
    /// Where what it sends lands, instead of in the inbox: an absolute path.
    pub folder: Option<String>,
    /// The largest file or folder that it may send.
    pub largest: Option<Size>,
    /// How much of what it has sent may lie here at a time.
    pub quota: Option<Size>,
    /// What happens where a name is taken.
    pub exists: Option<Exists>,
    /// Whether it may fetch back what it has sent, if it may fetch at all.
    pub seed: Option<bool>,
    /// Whether a folder that it sends appears file by file, and not first when it is whole.
    pub progressive: Option<bool>,
}

/// What is to be another in [`Rules`]. The inner `None` is back to what holds for everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesChange {
    /// Of [`Rules::accept`].
    pub accept: Option<Option<Acceptance>>,
    /// Of [`Rules::folder`].
    pub folder: Option<Option<String>>,
    /// Of [`Rules::largest`].
    pub largest: Option<Option<Size>>,
    /// Of [`Rules::quota`].
    pub quota: Option<Option<Size>>,
    /// Of [`Rules::exists`].
    pub exists: Option<Option<Exists>>,
    /// Of [`Rules::seed`].
    pub seed: Option<Option<bool>>,
    /// Of [`Rules::progressive`].
    pub progressive: Option<Option<bool>>,
}

impl Rules {
    /// The same with that change.
    #[must_use]
    pub fn with(self, change: RulesChange) -> Self {
        Self {
            accept: change.accept.unwrap_or(self.accept),
            folder: change.folder.unwrap_or(self.folder),
            largest: change.largest.unwrap_or(self.largest),
            quota: change.quota.unwrap_or(self.quota),
            exists: change.exists.unwrap_or(self.exists),
            seed: change.seed.unwrap_or(self.seed),
            progressive: change.progressive.unwrap_or(self.progressive),
        }
    }

    /// The same, and where these say nothing what others say.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            accept: self.accept.or(others.accept),
            folder: self.folder.or(others.folder),
            largest: self.largest.or(others.largest),
            quota: self.quota.or(others.quota),
            exists: self.exists.or(others.exists),
            seed: self.seed.or(others.seed),
            progressive: self.progressive.or(others.progressive),
        }
    }

    /// How an offer is bounded by them, where so many bytes of this peer lie here or are on their way.
    pub fn bounds(&self, used: u64) -> Bounds {
        Bounds {
            never: self.accept == Some(Acceptance::Never),
            largest: self.largest.map(|size| size.0),
            left: self.quota.map(|size| size.0.saturating_sub(used)),
        }
    }
}

/// How the rules bound one offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Nothing is taken.
    pub never: bool,
    /// The most bytes of one file or folder.
    pub largest: Option<u64>,
    /// The bytes that are left of what may lie here.
    pub left: Option<u64>,
}

/// What happens to a peer's offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceptance {
    /// They are taken.
    Always,
    /// They wait until the owner says yes or no.
    Ask,
    /// They are refused.
    Never,
}

/// What happens where the name of what comes is taken by something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exists {
    /// What comes gets a number.
    #[default]
    KeepBoth,
    /// What comes takes its place, in one step and once it is complete.
    Overwrite,
    /// What is there stays, and the offer is refused.
    Skip,
}

/// A number of bytes, as people write it: `4096`, `64KiB`, `10 GiB`. Units are powers of 1024, as is a letter alone; kB, MB, GB and TB
/// are powers of 1000 (IEC 80000-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Size(pub u64);

/// Not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write it like 64MiB or 1GiB")]
pub struct SizeError(String);

/// The largest first.
const UNITS: [(u64, &str); 8] = [
    (1 << 40, "TiB"),
    (1_000_000_000_000, "TB"),
    (1 << 30, "GiB"),
    (1_000_000_000, "GB"),
    (1 << 20, "MiB"),
    (1_000_000, "MB"),
    (1 << 10, "KiB"),
    (1000, "kB"),
];

/// How many bytes a unit stands for, which may be the first letter of a power of 1024.
pub(crate) fn unit_of(word: &str) -> Option<u64> {
    let is_it = |known: &str| {
        let letter = known.strip_suffix("iB");
        known.eq_ignore_ascii_case(word) || letter.is_some_and(|letter| letter.eq_ignore_ascii_case(word))
    };
    UNITS.iter().find(|(_, known)| is_it(known)).map(|(size, _)| *size)
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let wrong = || SizeError(text.to_owned());
        let whole = text.trim();
        let unit_at = whole.find(|c: char| !c.is_ascii_digit()).unwrap_or(whole.len());
        let (number, unit) = whole.split_at(unit_at);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = match unit.trim() {
            "" | "B" | "b" => 1,
            unit => unit_of(unit).ok_or_else(wrong)?,
        };
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    /// In the largest unit that leaves nothing over.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (size, unit) in UNITS {
            if self.0 > 0 && self.0.is_multiple_of(size) {
                return write!(f, "{} {unit}", self.0 / size);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Words of the command line and the trust file.
macro_rules! words {
    ($type:ty, $($variant:ident => $word:literal),+) => {
        impl $type {
            /// As it is typed and shown.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What is typed so.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(Acceptance, Always => "always", Ask => "ask", Never => "never");
words!(Exists, KeepBoth => "keep-both", Overwrite => "overwrite", Skip => "skip");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them_and_written_so() {
        for (text, bytes, shown) in [
            ("4096", 4096, "4 KiB"),
            ("64MiB", 64 << 20, "64 MiB"),
            ("1g", 1 << 30, "1 GiB"),
            (" 2 TiB", 2 << 40, "2 TiB"),
            ("1025", 1025, "1025 B"),
            ("3MB", 3_000_000, "3 MB"),
            ("512 kB", 512_000, "500 KiB"),
            ("1gb", 1_000_000_000, "1 GB"),
            ("1 TB", 1_000_000_000_000, "1 TB"),
            ("0", 0, "0 B"),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
            assert_eq!(Size(bytes).to_string(), shown);
            assert_eq!(shown.parse(), Ok(Size(bytes)));
        }
        for wrong in ["", "MiB", "-1", "1.5G", "3x", "99999999999T"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_change_touches_what_it_names() {
        let rules = Rules { accept: Some(Acceptance::Ask), quota: Some(Size(9)), ..Rules::default() };
        let change = RulesChange {
            accept: Some(None),
            largest: Some(Some(Size(5))),
            exists: Some(Some(Exists::Skip)),
            ..RulesChange::default()
        };
        let expected = Rules {
            largest: Some(Size(5)),
            quota: Some(Size(9)),
            exists: Some(Exists::Skip),
            ..Rules::default()
        };
        assert_eq!(rules.with(change), expected);
    }

    #[test]
    fn bounds_follow_from_rules_and_what_lies_here() {
        let rules = Rules {
            accept: Some(Acceptance::Never),
            largest: Some(Size(5)),
            quota: Some(Size(9)),
            ..Rules::default()
        };
        assert_eq!(rules.bounds(4), Bounds { never: true, largest: Some(5), left: Some(5) });
        assert_eq!(rules.bounds(10).left, Some(0));
        assert_eq!(Rules::default().bounds(u64::MAX), Bounds::default());
    }

    #[test]
    fn words_are_those_of_the_command_line() {
        for acceptance in [Acceptance::Always, Acceptance::Ask, Acceptance::Never] {
            assert_eq!(Acceptance::from_word(acceptance.word()), Some(acceptance));
        }
        for exists in [Exists::KeepBoth, Exists::Overwrite, Exists::Skip] {
            assert_eq!(Exists::from_word(exists.word()), Some(exists));
        }
        assert_eq!((Acceptance::from_word("Ask"), Exists::from_word("")), (None, None));
    }
}
