//! What a process used, as Linux counts it.

use std::{fs, time::Duration};

use p2p_tests::{Daemon, until::until_true};

/// What `/proc` counts time in: a hundredth of a second, wherever Linux runs.
const TICK: Duration = Duration::from_millis(10);

/// Processor time, user and system, of a process and of the children that it has waited for. Nothing of one that is
/// gone or of a system without `/proc`.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // As in `proc_pid_stat(5)`; the second field may hold spaces, and ends with the last bracket.
    let Some((_, fields)) = stat.rsplit_once(')') else { return Duration::ZERO };
    let ticks: u32 =
        fields.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// The same of several, and of this process, whose own children are the programs that come and go.
pub(crate) fn cpu_with(servers: &[u32]) -> Duration {
    servers.iter().chain([&std::process::id()]).map(|pid| cpu(*pid)).sum()
}

/// Waits until a server that forks has waited for its children, whose time is counted only then.
pub(crate) fn wait_for_children_of(server: u32) {
    until_true("the server's children have ended", || {
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
        children.is_ok_and(|children| children.trim().is_empty())
    });
}

/// Makes `Daemon::peak_memory` begin anew.
pub(crate) fn forget_peak(daemon: &Daemon) {
    // See `proc_pid_clear_refs(5)`. Where that is not to be had, the peak is that since the start.
    let _ = fs::write(format!("/proc/{}/clear_refs", daemon.pid()), "5");
}

/// Bytes that a process has read from files, whether they came from the disk or from memory. Nothing where that is not
/// to be had.
pub(crate) fn read(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    // As in `proc_pid_io(5)`; what comes from sockets is not in it.
    let bytes = io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok());
    bytes.unwrap_or(0)
}
