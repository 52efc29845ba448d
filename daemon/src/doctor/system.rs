//! What the machine gives: buffers, ports, descriptors, the time, a kernel that confines.

use std::{
    io::ErrorKind,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use p2p_protocol::limits::SOCKET_BUFFER;
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::{
    config::{Settings, WriteOnlyIn},
    confine,
    control::ControlSocket,
    transport,
};

/// With fewer descriptors than this a daemon with many peers runs short.
const DESCRIPTORS: u64 = 4096;
/// No clock that goes right shows less, in seconds since 1970: this was written later.
const WRITTEN: u64 = 1_767_225_600;
/// A program that is newer than now by more than this was written under another time.
const AHEAD: Duration = Duration::from_secs(120);

/// That there are settings at all is known by now.
pub(super) fn config(settings: &Settings) -> Finding {
    let path = settings.config.value.display();
    let found = match settings.config.value.exists() {
        true => format!("{path} makes sense"),
        false => format!("{path} is not there; the defaults hold"),
    };
    Finding::ok("config", found)
}

/// What the system grants of the buffers that the daemon asks for.
pub(super) fn buffers() -> Finding {
    const CHECK: &str = "udp_buffers";
    match transport::granted_buffers() {
        Ok([receive, send]) => {
            let found = format!("{} KiB to receive, {} KiB to send", receive >> 10, send >> 10);
            if receive.min(send) >= SOCKET_BUFFER {
                return Finding::ok(CHECK, found);
            }
            let found =
                format!("{found}, of {} KiB wanted; fast transfers are slowed down", SOCKET_BUFFER >> 10);
            Finding::warn(CHECK, found, transport::how_to_raise_buffers())
        }
        Err(error) => Finding::fail(
            CHECK,
            format!("no UDP socket: {error}"),
            "see what keeps this user from the network",
        ),
    }
}

/// Whether the daemon can listen where it is to.
pub(super) fn ports(settings: &Settings) -> Vec<Finding> {
    const CHECK: &str = "port";
    let is_served = ControlSocket::is_served(&settings.home.value);
    let one = |address: &std::net::SocketAddr| match transport::can_bind(*address) {
        Ok(()) => Finding::ok(CHECK, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_served => {
            Finding::ok(CHECK, format!("{address} is in use, as the daemon of this home runs"))
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => Finding::fail(
            CHECK,
            format!("{address} is taken by another program"),
            format!("end that, or set another `listen` in {}", settings.config.value.display()),
        ),
        Err(error) => Finding::fail(
            CHECK,
            format!("{address}: {error}"),
            format!("set another `listen` in {}", settings.config.value.display()),
        ),
    };
    settings.listen.value.iter().map(one).collect()
}

pub(super) fn descriptors() -> Finding {
    const CHECK: &str = "descriptors";
    match getrlimit(Resource::Nofile).maximum {
        Some(most) if most < DESCRIPTORS => Finding::warn(
            CHECK,
            format!("at most {most} files may be open at once"),
            "many transfers at once will wait for each other; raise the hard limit (ulimit -Hn, LimitNOFILE=)",
        ),
        Some(most) => Finding::ok(CHECK, format!("up to {most}")),
        None => Finding::ok(CHECK, "no limit"),
    }
}

pub(super) fn clock() -> Finding {
    judge_clock(SystemTime::now())
}

fn judge_clock(now: SystemTime) -> Finding {
    const CHECK: &str = "clock";
    const ADVICE: &str =
        "set it, best by NTP; transfers work, but times of files and of the history are wrong";
    let built = std::env::current_exe().and_then(|path| path.metadata()?.modified()).unwrap_or(UNIX_EPOCH);
    let is_early = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) < WRITTEN;
    if is_early || built.duration_since(now).is_ok_and(|ahead| ahead > AHEAD) {
        return Finding::warn(
            CHECK,
            "this machine's clock is behind: this program is newer than its time",
            ADVICE,
        );
    }
    Finding::ok(CHECK, "it makes sense")
}

/// Whether the kernel can do what the config file asks for.
pub(super) fn confinement(settings: &Settings) -> Finding {
    const CHECK: &str = "confinement";
    let can = confine::is_supported();
    match (&settings.write_only_in.value, can) {
        (WriteOnlyIn::Anywhere, true) => {
            Finding::ok(CHECK, "not asked for; this kernel could (`write_only_in` in config.toml)")
        }
        (WriteOnlyIn::Anywhere, false) => Finding::ok(CHECK, "not asked for; this kernel has no Landlock"),
        (WriteOnlyIn::Folders(folders), true) => match folders.iter().find(|folder| !folder.is_dir()) {
            Some(missing) => Finding::fail(
                CHECK,
                format!("{} of `write_only_in` is not there", missing.display()),
                "make the folder, or take it out of the setting",
            ),
            None => Finding::ok(CHECK, "asked for, and this kernel can"),
        },
        (WriteOnlyIn::Folders(_), false) => Finding::warn(
            CHECK,
            "asked for, and this kernel cannot: it is older than 5.19, or without Landlock",
            "the daemon runs unconfined; daemon/p2pd-confined.conf does it with mounts, where there is systemd",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_clock_from_before_this_was_written_is_wrong() {
        assert_eq!(judge_clock(UNIX_EPOCH).verdict, Verdict::Warn);
        assert_eq!(judge_clock(UNIX_EPOCH - Duration::from_secs(1)).verdict, Verdict::Warn);
        let later = UNIX_EPOCH + Duration::from_secs(100 * 365 * 86_400);
        assert_eq!(judge_clock(later).verdict, Verdict::Ok);
    }
}
