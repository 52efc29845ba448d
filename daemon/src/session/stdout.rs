//! A fetched file on its way to a client's standard output: verified chunks only, in order, as they come.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{blocking, error::RunError};
use crate::{store::Partial, workers::Workers};

/// The client at the other end, and how much it has; outlives the runs of its transfer.
#[derive(Debug)]
pub(crate) struct StdoutClient {
    bytes: mpsc::Sender<Bytes>,
    /// The first chunk that the client does not have.
    next: AtomicU32,
}

impl StdoutClient {
    /// A client that reads from the returned end.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Bytes>) {
        let (bytes, receiver) = mpsc::channel(4);
        (Arc::new(Self { bytes, next: AtomicU32::new(0) }), receiver)
    }

    /// Ends when the client has gone.
    pub(crate) async fn gone(&self) {
        self.bytes.closed().await;
    }
}

/// The feed of one run.
pub(crate) struct StdoutFeed {
    ready: watch::Sender<u32>,
    task: Option<JoinHandle<Result<(), RunError>>>,
}

impl StdoutFeed {
    pub(crate) fn start(
        workers: Workers,
        client: Arc<StdoutClient>,
        partial: Arc<Partial>,
        bytes: Option<Range<u64>>,
    ) -> Self {
        let (ready, prefix) = watch::channel(0);
        let task = tokio::spawn(feed(workers, client, partial, bytes, prefix));
        Self { ready, task: Some(task) }
    }

    /// All chunks before this one are verified.
    pub(crate) fn advance(&self, prefix: u32) {
        self.ready.send_if_modified(|ready| std::mem::replace(ready, prefix) != prefix);
    }

    /// Ends the feed, and waits until it has let go of the partial.
    pub(crate) async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Ends when the client has everything.
    pub(crate) fn drained(&mut self) -> impl Future<Output = Result<(), RunError>> + Send + use<> {
        let task = self.task.take();
        async move {
            match task {
                Some(task) => task.await.unwrap_or_else(|_| Err(RunError::stopped())),
                None => Ok(()),
            }
        }
    }
}

impl Drop for StdoutFeed {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn feed(
    workers: Workers,
    client: Arc<StdoutClient>,
    partial: Arc<Partial>,
    bytes: Option<Range<u64>>,
    mut prefix: watch::Receiver<u32>,
) -> Result<(), RunError> {
    let geometry = partial.layout().geometry();
    let bytes = bytes.unwrap_or(0..geometry.size());
    let chunks = geometry.chunks_with(bytes.clone());
    client.next.fetch_max(chunks.start, Ordering::Relaxed);
    loop {
        let next = client.next.load(Ordering::Relaxed);
        if next >= chunks.end {
            return Ok(());
        }
        if prefix.wait_for(|ready| *ready > next).await.is_err() {
            return Err(RunError::stopped());
        }
        let source = partial.clone();
        let read = match blocking(&workers, move || source.read(next)).await? {
            Ok(read) => read,
            // Lost meanwhile, by a sync that failed: it will come again.
            Err(_) if *prefix.borrow() <= next => continue,
            Err(error) => return Err(error.into()),
        };
        let (start, end) = (geometry.offset(next), geometry.bytes_of(next).end);
        let read =
            read.slice((bytes.start.max(start) - start) as usize..(bytes.end.min(end) - start) as usize);
        if client.bytes.send(read).await.is_err() {
            return Err(RunError::client_gone());
        }
        client.next.store(next + 1, Ordering::Relaxed);
    }
}
