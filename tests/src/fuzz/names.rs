//! Names, identities and other text of foreign origin.

use std::path::{Component, Path};

use p2p_protocol::{FileId, PeerId, SafeName, limits::MAX_NAME_LEN, name::printable};

/// A name that passes is one component on every platform, shows as what it is, stays what it is when it is parsed again,
/// and stays safe when it gets a number. An identity has one spelling.
pub fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    shown(&text);
    if let Ok(id) = text.parse::<FileId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(id) = text.parse::<PeerId>() {
        assert_eq!(id.to_string(), text);
    }
    let Ok(name) = SafeName::parse(&text) else { return };
    assert_eq!(name.as_str(), text, "a name is taken as it is or not at all");
    safe(&name);
    for n in [1, 2, 10_000, u32::MAX] {
        let numbered = name.numbered(n);
        safe(&numbered);
        assert!(numbered.as_str().contains(&format!(" ({n})")), "{numbered}");
    }
}

/// The same of a name that was taken as part of something else.
pub(super) fn is_safe(name: &str) {
    match SafeName::parse(name) {
        Ok(name) => safe(&name),
        Err(error) => panic!("{name:?} was taken: {error}"),
    }
}

/// Said in other words than the parser's own.
fn safe(name: &SafeName) {
    let text = name.as_str();
    assert!(!text.is_empty() && text.len() <= MAX_NAME_LEN, "{text:?}");
    let mut components = Path::new(text).components();
    assert!(
        matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none(),
        "{text:?}"
    );
    assert!(!text.chars().any(|c| c.is_control() || "/\\:*?\"<>|".contains(c)), "{text:?}");
    assert_eq!(printable(text), text);
    assert!(!text.ends_with('.') && !text.ends_with(' '), "{text:?}");
    assert!(!text.eq_ignore_ascii_case(".p2p"), "{text:?}");
    let stem = text.split('.').next().unwrap().trim_end_matches(' ').to_ascii_uppercase();
    assert!(!["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str()), "{text:?}");
    for device in ["COM", "LPT"] {
        let number = stem.strip_prefix(device).unwrap_or_default();
        assert!(number.chars().count() != 1 || !"0123456789¹²³".contains(number), "{text:?}");
    }
    assert_eq!(SafeName::parse(text).as_ref(), Ok(name));
}

fn shown(text: &str) {
    let shown = printable(text);
    let moves = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!shown.chars().any(moves), "{shown:?}");
    assert_eq!(printable(&shown), shown);
}
