//! Names that a peer supplies, and the one parser that makes them safe.

use std::fmt;

use serde::Serialize;

use crate::limits::MAX_NAME_LEN;

/// The folder, beside the destination, that holds partial files. No received name may equal it.
pub const PARTIALS_FOLDER: &str = ".p2p";

/// One path component that is safe on every platform: no separator, drive, device, stream, control
/// character or directional mark, not hidden from anyone by a trailing dot or space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SafeName(String);

/// Why a name is not safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, `.` or `..`.
    #[error("the name is empty or a dot entry")]
    Dots,
    /// Longer than file systems take.
    #[error("the name is longer than {MAX_NAME_LEN} bytes")]
    TooLong,
    /// Holds a character that means something to a file system or a terminal.
    #[error("the name holds the character {0:?}")]
    Character(char),
    /// Ends in a dot or space, which some platforms drop.
    #[error("the name ends in a dot or a space")]
    Trailing,
    /// Is a device on some platform.
    #[error("the name is reserved for a device")]
    Device,
    /// Looks like this program's own folder of partial files.
    #[error("the name is reserved for partial files")]
    Reserved,
}

impl SafeName {
    /// Parses a name as it came from a peer or a command line.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if matches!(name, "" | "." | "..") {
            return Err(NameError::Dots);
        }
        if name.len() > MAX_NAME_LEN {
            return Err(NameError::TooLong);
        }
        if let Some(c) = name.chars().find(|c| forbidden(*c)) {
            return Err(NameError::Character(c));
        }
        if name.ends_with(['.', ' ']) {
            return Err(NameError::Trailing);
        }
        if is_device(name) {
            return Err(NameError::Device);
        }
        if name.to_lowercase() == PARTIALS_FOLDER {
            return Err(NameError::Reserved);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `name (n).ext`, cut at a character boundary so that it still fits.
    pub fn numbered(&self, n: u32) -> Self {
        let (stem, extension) = match self.0.rfind('.') {
            Some(dot) if dot > 0 => self.0.split_at(dot),
            _ => (self.0.as_str(), ""),
        };
        let mark = format!(" ({n})");
        // A very long extension is dropped rather than the mark.
        let extension = if extension.len() + mark.len() < MAX_NAME_LEN / 2 { extension } else { "" };
        let room = MAX_NAME_LEN - mark.len() - extension.len();
        let cut = stem.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room).last();
        Self(format!("{}{mark}{extension}", &stem[..cut.unwrap_or(0)]))
    }
}

impl fmt::Display for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn forbidden(c: char) -> bool {
    matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|') || c.is_control() || is_invisible(c)
}

/// Marks that change how the rest of a line is shown (Unicode bidirectional controls, line and
/// paragraph separators, zero-width characters), so that a name would not look like what it is.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Device names of Windows: reserved with any extension, in any case, with digits in superscript too.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ').to_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") {
        return true;
    }
    let numbered = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    numbered.is_some_and(|rest| {
        let mut chars = rest.chars();
        matches!((chars.next(), chars.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    })
}

/// Text from a peer as it may be shown in a terminal, a log or JSON: whatever could move the cursor,
/// reorder or hide the line is escaped. All text of foreign origin is printed through this.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in
            ["a", "a.iso", ".bashrc", "Größe 1.txt", "COM10", "console", "日本語", "a (1).tar.gz", "..a"]
        {
            assert_eq!(SafeName::parse(name).unwrap().as_str(), name);
        }
    }

    /// Faults 52, 53, 55 and 57.
    #[test]
    fn dangerous_names_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "/a",
            "..\\a",
            "C:",
            "C:x",
            "a:stream",
            "\\\\host\\share",
            "a\0b",
            "a\nb",
            "a\u{1b}[2J",
            "a.",
            "a ",
            "CON",
            "con.txt",
            "nul .txt",
            "COM1",
            "com¹.log",
            "LPT³",
            "AUX.h",
            ".p2p",
            ".P2P",
            "a\u{202e}txt.exe",
            "a\u{200b}",
            "a*",
            "a?",
            "a|b",
            "a<b",
            "a\"b",
            "a\u{7f}",
        ] {
            assert!(SafeName::parse(name).is_err(), "{name:?}");
        }
        assert_eq!(SafeName::parse(&"é".repeat(128)), Err(NameError::TooLong));
        assert!(SafeName::parse(&"a".repeat(255)).is_ok());
    }

    #[test]
    fn numbering_keeps_the_extension_and_the_limit() {
        let numbered = |name: &str| SafeName::parse(name).unwrap().numbered(2).0;
        assert_eq!(numbered("a.iso"), "a (2).iso");
        assert_eq!(numbered(".bashrc"), ".bashrc (2)");
        assert_eq!(numbered("noext"), "noext (2)");
        for name in ["é".repeat(127), format!("{}.iso", "é".repeat(125)), format!("a.{}", "b".repeat(250))]
        {
            let numbered = numbered(&name);
            assert!(numbered.len() <= MAX_NAME_LEN && SafeName::parse(&numbered).is_ok(), "{numbered}");
        }
    }

    /// Fault 54.
    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{202e}c"), "a\\u{1b}[2Jb\\u{a}\\u{202e}c");
        assert_eq!(printable("Größe"), "Größe");
    }

    #[test]
    fn a_long_extension_goes_rather_than_the_number() {
        let numbered = |name: &str| SafeName::parse(name).unwrap().numbered(2).to_string();
        let (kept, dropped) = ("b".repeat(121), "b".repeat(122));
        assert_eq!(numbered(&format!("a.{kept}")), format!("a (2).{kept}"));
        assert_eq!(numbered(&format!("a.{dropped}")), "a (2)");
        assert_eq!(numbered(&"c".repeat(255)), format!("{} (2)", "c".repeat(251)));
        assert_eq!(numbered(&format!("{}.iso", "c".repeat(251))), format!("{} (2).iso", "c".repeat(247)));
        assert_eq!(numbered(&"é".repeat(127)), format!("{} (2)", "é".repeat(125)));
    }
}
