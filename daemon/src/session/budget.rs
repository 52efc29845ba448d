//! Who may have how many unverified bytes on the way, so that the daemon's memory is bounded, a connection's
//! window is never filled by one transfer, and every chunk that was granted finds room.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use p2p_protocol::limits::{
    CONNECTION_WINDOW, EAGER_BYTES, GROUP_LEN, MAX_EARLY_LEN, MAX_STREAMS_PER_TRANSFER, UNVERIFIED_BUDGET,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Full connections for which the daemon has places.
const CONNECTIONS_OF_PLACES: u64 = 8;

/// A number of bytes that receiving transfers share.
#[derive(Debug)]
pub(crate) struct Pool {
    total: u64,
    receivers: AtomicU64,
    /// Room for one chunk of every receiver, in groups. First come, first served.
    places: Arc<Semaphore>,
}

impl Pool {
    fn new(total: u64) -> Arc<Self> {
        Self::with_places(total, total)
    }

    fn with_places(total: u64, places: u64) -> Arc<Self> {
        let places = Arc::new(Semaphore::new((places / GROUP_LEN) as usize));
        Arc::new(Self { total, receivers: AtomicU64::new(0), places })
    }

    /// The pool of the whole daemon. It has places for several connections that are full of transfers which do
    /// not move, so that these keep nobody out.
    pub(crate) fn daemon() -> Arc<Self> {
        Self::with_places(UNVERIFIED_BUDGET, CONNECTIONS_OF_PLACES * CONNECTION_WINDOW)
    }

    /// The pool of one connection.
    pub(crate) fn connection() -> Arc<Self> {
        Self::new(CONNECTION_WINDOW)
    }

    fn share(&self) -> u64 {
        self.total / self.receivers.load(Ordering::Relaxed).max(1)
    }
}

#[derive(Debug)]
struct Place {
    pool: Arc<Pool>,
    groups: OwnedSemaphorePermit,
}

impl Place {
    async fn take(pool: &Arc<Pool>, chunk_len: u64) -> Option<Self> {
        let groups = chunk_len.div_ceil(GROUP_LEN) as u32;
        let groups = pool.places.clone().acquire_many_owned(groups).await.ok()?;
        Some(Self::holding(pool, groups))
    }

    fn try_take(pool: &Arc<Pool>, chunk_len: u64) -> Option<Self> {
        let groups = pool.places.clone().try_acquire_many_owned(chunk_len.div_ceil(GROUP_LEN) as u32).ok()?;
        Some(Self::holding(pool, groups))
    }

    fn holding(pool: &Arc<Pool>, groups: OwnedSemaphorePermit) -> Self {
        pool.receivers.fetch_add(1, Ordering::Relaxed);
        Self { pool: pool.clone(), groups }
    }

    fn narrow(&mut self, chunk_len: u64) {
        let excess = self.groups.num_permits().saturating_sub(chunk_len.div_ceil(GROUP_LEN) as usize);
        drop(self.groups.split(excess));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.receivers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A receiving transfer's part of both pools.
#[derive(Debug)]
pub(crate) struct Allowance {
    chunk_len: u64,
    connection: Place,
    daemon: Place,
}

impl Allowance {
    /// Waits until there is room for at least one chunk.
    pub(crate) async fn take(connection: &Arc<Pool>, daemon: &Arc<Pool>, chunk_len: u64) -> Option<Self> {
        let connection = Place::take(connection, chunk_len).await?;
        let daemon = Place::take(daemon, chunk_len).await?;
        Some(Self { chunk_len, connection, daemon })
    }

    /// Room for what an eager fetch asks for, if there is any now.
    pub(crate) fn try_take_eager(connection: &Arc<Pool>, daemon: &Arc<Pool>) -> Option<Self> {
        Self::try_take(connection, daemon, EAGER_BYTES)
    }

    /// Room for a chunk that came with its offer, if there is any now.
    pub(crate) fn try_take_early(connection: &Arc<Pool>, daemon: &Arc<Pool>) -> Option<Self> {
        Self::try_take(connection, daemon, MAX_EARLY_LEN)
    }

    fn try_take(connection: &Arc<Pool>, daemon: &Arc<Pool>, chunk_len: u64) -> Option<Self> {
        let connection = Place::try_take(connection, chunk_len)?;
        let daemon = Place::try_take(daemon, chunk_len)?;
        Some(Self { chunk_len, connection, daemon })
    }

    /// Keeps room for one chunk, now that its length is known.
    pub(crate) fn narrow(&mut self, chunk_len: u64) {
        self.chunk_len = chunk_len;
        self.connection.narrow(chunk_len);
        self.daemon.narrow(chunk_len);
    }

    /// Chunks that this transfer may have unverified now.
    pub(crate) fn credit(&self) -> u32 {
        let bytes = self.connection.pool.share().min(self.daemon.pool.share());
        ((bytes / self.chunk_len) as u32).clamp(1, MAX_STREAMS_PER_TRANSFER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn receivers_share_and_get_back_what_others_leave() {
        let (connection, daemon) = (Pool::connection(), Pool::daemon());
        let mib = 1 << 20;
        let first = Allowance::take(&connection, &daemon, mib).await.unwrap();
        assert_eq!(first.credit(), (CONNECTION_WINDOW / mib) as u32);
        let second = Allowance::take(&connection, &daemon, mib).await.unwrap();
        assert_eq!(first.credit(), (CONNECTION_WINDOW / mib / 2) as u32);
        drop(second);
        assert_eq!(first.credit(), (CONNECTION_WINDOW / mib) as u32);
    }

    #[tokio::test]
    async fn no_more_receivers_than_chunks_fit() {
        let (connection, daemon) = (Pool::connection(), Pool::daemon());
        let len = 4 << 20;
        let mut taken = Vec::new();
        for _ in 0..CONNECTION_WINDOW / len {
            taken.push(Allowance::take(&connection, &daemon, len).await.unwrap());
        }
        assert!(taken.iter().all(|allowance| allowance.credit() == 1));
        let next = Allowance::take(&connection, &daemon, len);
        tokio::pin!(next);
        assert!(futures_poll(next.as_mut()).await.is_none());
        taken.pop();
        assert!(next.await.is_some());
    }

    /// Polls once.
    async fn futures_poll<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(context) {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
