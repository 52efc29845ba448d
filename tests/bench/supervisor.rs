//! The benchmark is done by a process of its own, so that whatever ends it, somebody is left to clean up: the process
//! that the user started ends all that runs, and removes namespaces and folders.

use std::{
    fs,
    io::Write,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use p2p_tests::link::Namespace;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::Result;

/// Tells the worker that it is one. Its value is the folder for everything temporary.
const WORKER: &str = "P2P_BENCH_ROOM";

/// Lists folders that the worker has made elsewhere.
const LIST: &str = "folders";

/// What was killed is gone within this, or hangs in the kernel.
const BURIAL: Duration = Duration::from_secs(5);

fn room() -> Option<PathBuf> {
    std::env::var_os(WORKER).map(PathBuf::from)
}

/// Whether this process is to do the work.
pub(crate) fn is_worker() -> bool {
    room().is_some()
}

/// The folder for temporary files, as the user has it.
pub(crate) fn temporary() -> PathBuf {
    let own = std::env::temp_dir();
    room().and_then(|room| room.parent().map(Path::to_owned)).unwrap_or(own)
}

/// A new folder in another one, for as long as the benchmark runs at most.
pub(crate) fn folder_in(folder: &Path) -> Result<TempDir> {
    let folder = fs::canonicalize(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let new = tempfile::Builder::new().prefix("p2p-bench-").tempdir_in(folder)?;
    if let Some(room) = room() {
        let mut list = fs::OpenOptions::new().create(true).append(true).open(room.join(LIST))?;
        list.write_all(format!("{}\n", new.path().display()).as_bytes())?;
    }
    Ok(new)
}

/// Has a worker do what this process was started for, cleans up after it, and returns its exit code.
pub(crate) fn supervise() -> Result<i32> {
    let room = tempfile::Builder::new().prefix("p2p-bench-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // From here on none of them ends this process.
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    // A group of its own: what is typed at a terminal reaches this process alone, and one signal reaches all of them.
    let mut worker = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(WORKER, room.path())
        .env("TMPDIR", room.path())
        .process_group(0)
        .spawn()?;
    let process = worker.id();
    let group = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or("a process has a number")?;
    let ended_by = Arc::new(AtomicI32::new(0));
    thread::spawn({
        let ended_by = ended_by.clone();
        move || {
            runtime.block_on(async move {
                let signal = tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                    _ = hang_up.recv() => SignalKind::hangup(),
                };
                ended_by.store(signal.as_raw_value(), Ordering::Relaxed);
                let _ = kill_process_group(group, Signal::KILL);
            });
        }
    });
    let status = worker.wait()?;
    clean_up(process, group, room.path());
    let by = match ended_by.load(Ordering::Relaxed) {
        0 => status.signal(),
        signal => Some(signal),
    };
    // As a shell has it.
    Ok(by.map_or(status.code().unwrap_or(1), |signal| 128 + signal))
}

/// Ends what the worker has left running, and removes its namespaces and the folders that are not in its room. Where
/// it has come to its end, there are none.
fn clean_up(process: u32, group: Pid, room: &Path) {
    let begun = Instant::now();
    while kill_process_group(group, Signal::KILL).is_ok()
        && test_kill_process_group(group).is_ok()
        && begun.elapsed() < BURIAL
    {
        thread::sleep(Duration::from_millis(10));
    }
    Namespace::remove_left_by(process);
    let listed = fs::read_to_string(room.join(LIST)).unwrap_or_default();
    for folder in listed.lines().map(Path::new).filter(|folder| folder.exists()) {
        if let Err(error) = fs::remove_dir_all(folder) {
            eprintln!("{} is still there: {error}", folder.display());
        }
    }
}
