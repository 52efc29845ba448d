//! What the service manager that started this daemon is told, where one did: that it is ready, that it is alive, that it
//! ends (sd_notify). Without a manager nothing happens.

use std::{net::SocketAddr, path::Path, time::Duration};

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::control;

/// So many times the manager hears that the daemon is alive before it would take it for hung.
const PER_DEADLINE: u32 = 3;

/// The daemon listens, and takes commands.
pub(crate) fn ready(addresses: &[SocketAddr]) {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {}", addresses.join(", ")))]);
}

/// The daemon was told to end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("keeping what was received")]);
}

/// Proves to the manager, for as long as it is let run, that the daemon takes and answers commands. Its disks are not asked: a
/// daemon that is started anew finds them no quicker.
pub(crate) async fn prove_life(home: &Path) {
    if let Some(deadline) = sd_notify::watchdog_enabled() {
        prove_life_within(home, deadline).await;
    }
}

async fn prove_life_within(home: &Path, deadline: Duration) {
    // An interval of nothing is none.
    let period = (deadline / PER_DEADLINE).max(Duration::from_millis(1));
    let mut next = interval(period);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        next.tick().await;
        match timeout(period, control::ping(home)).await {
            Ok(Ok(())) => tell(&[NotifyState::Watchdog]),
            Ok(Err(error)) => tracing::error!(%error, "this daemon does not answer itself"),
            Err(_) => tracing::error!(after = ?period, "this daemon does not answer itself in time"),
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told how this daemon is");
    }
}
