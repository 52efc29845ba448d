//! Numbers as people read them.

use std::fmt;

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// A number of bytes: `512 B`, `1.5 KiB`, `93 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut units = UNITS.iter();
        let mut unit = units.next().unwrap_or(&"B");
        let mut is_whole = true;
        // What would be rounded to 1024 of one unit is shown as 1.0 of the next.
        while value >= 1023.95
            && let Some(next) = units.next()
        {
            (value, unit, is_whole) = (value / 1024.0, next, false);
        }
        let digits = usize::from(!is_whole && value < 99.95);
        write!(f, "{value:.digits$} {unit}")
    }
}
