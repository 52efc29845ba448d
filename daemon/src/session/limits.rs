//! Limits as their owner changes them: of all transfers together, and of one. Both outlive the daemon.

use p2p_protocol::{
    rate::{Change, InForce, Limits, Rate},
    reason::Failure,
};

use super::{Sessions, blocking, error::RunError};
use crate::store::{Store, StoreError};

/// The name under which the catalog keeps what a command has set.
const SETTING: &str = "limits";

/// What a command set in this daemon or an earlier one.
pub(super) fn kept(store: &Store) -> Result<Option<Limits>, StoreError> {
    let kept = store.catalog().setting(SETTING)?;
    let read = kept.map(|text| serde_json::from_str(&text)).transpose();
    // Written by another version.
    Ok(read
        .inspect_err(|error| tracing::warn!(%error, "limits that were set are not readable"))
        .unwrap_or_default())
}

impl Sessions {
    /// Has other limits hold, also after a restart. They hold even if that cannot be noted down.
    pub(crate) async fn change_limits(&self, change: Change, reset: bool) -> Result<InForce, RunError> {
        let now = self.limiter.change(change, reset);
        if change == Change::default() && !reset {
            return Ok(now);
        }
        let text = self.limiter.command().map(|limits| serde_json::to_string(&limits)).transpose();
        let text = text.map_err(|error| RunError::new(Failure::Other, error.to_string()))?;
        let store = self.store.clone();
        let noted = blocking(&self.workers, move || store.catalog().put_setting(SETTING, text)).await?;
        noted.map_err(|error| {
            let error = RunError::from(error);
            RunError { message: format!("it holds until the daemon ends: {}", error.message), ..error }
        })?;
        Ok(now)
    }

    /// Has one transfer go no faster than that, or as fast as it can, at once and after a restart.
    pub(crate) fn limit(&self, number: u64, limit: Option<Rate>) -> Result<(), RunError> {
        let job = self.job(number)?;
        self.changed(&job, job.limit(limit))
    }
}
