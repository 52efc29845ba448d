//! What of the config says how much is done at a time.

use p2p_protocol::limits::{MAX_RUNNING, MAX_RUNNING_PER_TARGET};
use toml::{Spanned, de::DeValue};

use super::file::{Mistake, mistake};

/// How much is done at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Transfers of this daemon's owner that run at a time.
    pub max_transfers: usize,
    /// The same, to or from one target.
    pub max_transfers_per_peer: usize,
}

impl Default for Load {
    fn default() -> Self {
        Self { max_transfers: MAX_RUNNING, max_transfers_per_peer: MAX_RUNNING_PER_TARGET }
    }
}

/// A number from one to `most`.
pub(super) fn count(key: &'static str, value: &Spanned<DeValue<'_>>, most: usize) -> Result<usize, Mistake> {
    let number = value.get_ref().as_integer().and_then(|number| number.as_str().parse().ok());
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| mistake(key, value, format!("it must be a number from 1 to {most}")))
}
