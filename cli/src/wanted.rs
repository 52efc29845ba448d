//! Values of rules as they are typed.

use std::path::PathBuf;

use p2p_protocol::rules::{Acceptance, Exists, Size, SizeError};

/// The words of each, as they are shown and completed.
pub(crate) const ACCEPT: &str = "always|ask|never|default";
pub(crate) const EXISTS: &str = "keep-both|overwrite|skip|default";
pub(crate) const YES_OR_NO: &str = "yes|no|default";

/// A value as it is typed, or what holds for everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted<T>(pub(crate) Option<T>);

fn wanted<T>(text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Wanted<T>, String> {
    if text == "default" { Ok(Wanted(None)) } else { read(text).map(|value| Wanted(Some(value))) }
}

fn one_of<T>(found: Option<T>, words: &str) -> Result<T, String> {
    found.ok_or_else(|| format!("it must be {words}, or default"))
}

pub(crate) fn accept(text: &str) -> Result<Wanted<Acceptance>, String> {
    wanted(text, |word| one_of(Acceptance::from_word(word), "always, ask, never"))
}

pub(crate) fn exists(text: &str) -> Result<Wanted<Exists>, String> {
    wanted(text, |word| one_of(Exists::from_word(word), "keep-both, overwrite, skip"))
}

pub(crate) fn size(text: &str) -> Result<Wanted<Size>, String> {
    wanted(text, |text| match text.parse() {
        Ok(Size(0)) => Err("with 0 nothing would be taken: say so with --accept never".to_owned()),
        size => size.map_err(|error: SizeError| error.to_string()),
    })
}

pub(crate) fn yes_or_no(text: &str) -> Result<Wanted<bool>, String> {
    wanted(text, |word| match word {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => one_of(None, "yes, no"),
    })
}

/// The daemon may run elsewhere: a path that is relative is so to where it was typed.
pub(crate) fn folder(text: &str) -> Result<Wanted<String>, String> {
    wanted(text, |text| {
        let path = std::path::absolute(PathBuf::from(text)).map_err(|error| error.to_string())?;
        path.into_os_string().into_string().map_err(|_| "a rule's folder has a name in UTF-8".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_typed_as_words_and_default_takes_them_back() {
        assert_eq!(accept("never"), Ok(Wanted(Some(Acceptance::Never))));
        assert_eq!((accept("default"), exists("default")), (Ok(Wanted(None)), Ok(Wanted(None))));
        assert_eq!(exists("keep-both"), Ok(Wanted(Some(Exists::KeepBoth))));
        assert!(size("0").is_err() && size("0 MiB").is_err(), "a bound of nothing is a mistake");
        assert_eq!(size("10 GiB"), Ok(Wanted(Some(Size(10 << 30)))));
        assert_eq!((yes_or_no("yes"), yes_or_no("no")), (Ok(Wanted(Some(true))), Ok(Wanted(Some(false)))));
        assert_eq!(folder("/srv/bob"), Ok(Wanted(Some("/srv/bob".to_owned()))));
        assert!(
            matches!(folder("bob"), Ok(Wanted(Some(path))) if path.starts_with('/') && path.ends_with("/bob"))
        );
        for wrong in [accept("no").err(), exists("both").err(), yes_or_no("1").err(), size("x").err()] {
            assert!(wrong.is_some());
        }
    }
}
