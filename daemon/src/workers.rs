//! Where work runs that may wait for a disk or take long.

use std::{fmt, num::NonZero, sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::JoinHandle};

/// How long the next piece of work takes before it has its effect, in the run-time's own time.
pub type Pace = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Who does the work.
#[derive(Clone)]
pub enum Workers {
    /// Threads of their own, so that network tasks go on meanwhile.
    Threads,
    /// The run-time's own thread, one piece after the other and each in one go, so that a simulation does the same every
    /// time.
    Inline(Pace),
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Threads => "Threads",
            Self::Inline(_) => "Inline",
        })
    }
}

impl Workers {
    /// Begins a piece of work. It is done also where nobody waits for what comes of it.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        runtime: &Handle,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        match self {
            Self::Threads => runtime.spawn_blocking(work),
            Self::Inline(pace) => {
                let pause = pace();
                runtime.spawn(async move {
                    tokio::time::sleep(pause).await;
                    work()
                })
            }
        }
    }

    /// How many may share a piece of work that can be divided.
    pub(crate) fn at_once(&self) -> u64 {
        match self {
            Self::Threads => std::thread::available_parallelism().map_or(1, NonZero::get) as u64,
            Self::Inline(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// As a simulation has it: one thread, and a clock that goes as fast as it can.
    #[tokio::test(start_paused = true)]
    async fn work_takes_its_time_and_is_done_also_where_nobody_waits() {
        let pause = Duration::from_secs(60);
        let workers = Workers::Inline(Arc::new(move || pause));
        let begun = tokio::time::Instant::now();
        let here = std::thread::current().id();
        let there = workers.spawn(&Handle::current(), || std::thread::current().id()).await.unwrap();
        assert_eq!((here, workers.at_once()), (there, 1));
        assert!(begun.elapsed() >= pause);

        let done = Arc::new(AtomicBool::new(false));
        drop(workers.spawn(&Handle::current(), {
            let done = done.clone();
            move || done.store(true, Ordering::Relaxed)
        }));
        tokio::time::sleep(2 * pause).await;
        assert!(done.load(Ordering::Relaxed));
    }
}
