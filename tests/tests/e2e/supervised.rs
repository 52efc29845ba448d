//! What a daemon tells the service manager that started it. The manager is a socket of the test's own.

use std::{fs, os::unix::net::UnixDatagram, path::Path};

use p2p_tests::{Daemon, daemon::Place, until::PATIENCE};

/// The end of systemd that listens.
struct Manager(UnixDatagram);

impl Manager {
    /// Listens for the daemon of a place, which is to say that it is alive this often, in microseconds.
    fn of(place: Place, watchdog_usec: u64) -> (Self, Place) {
        let path = place.root().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let usec = watchdog_usec.to_string();
        (Self(socket), place.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", usec))
    }

    /// The next thing that it is told.
    fn hears(&self) -> String {
        let mut text = [0; 4096];
        let len = self.0.recv(&mut text).expect("the daemon has something to say");
        String::from_utf8(text[..len].to_vec()).unwrap()
    }

    /// Takes what it has been told so far.
    fn forget(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 4096]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }

    fn hears_that_it_is_ready(&self, daemon: &Daemon) {
        assert_eq!(self.hears(), format!("READY=1\nSTATUS=listening on {}\n", daemon.address()));
    }
}

const STOPPING: &str = "STOPPING=1\nSTATUS=keeping what was received\n";

#[test]
fn a_daemon_says_that_it_is_ready_and_alive_and_that_it_ends() {
    // Confined, which must not come between the two.
    let (manager, place) = Manager::of(Place::new().config("write_only_in = []\n"), 300_000);
    let mut daemon = Daemon::start_in("a", place);
    manager.hears_that_it_is_ready(&daemon);
    for _ in 0..3 {
        assert_eq!(manager.hears(), "WATCHDOG=1\n");
    }
    assert!(daemon.sigterm().success());
    let said = std::iter::repeat_with(|| manager.hears()).find(|said| said != "WATCHDOG=1\n");
    assert_eq!(said.as_deref(), Some(STOPPING));
}

#[test]
fn a_daemon_that_cannot_be_talked_to_does_not_say_that_it_is_alive() {
    let (manager, place) = Manager::of(Place::new(), 300_000);
    let mut daemon = Daemon::start_in("a", place);
    manager.hears_that_it_is_ready(&daemon);
    fs::remove_file(daemon.place().home_path().join("p2pd.sock")).unwrap();
    daemon.wait_for_log("does not answer itself");
    // What was said before that has come already; nothing comes after it but the end.
    manager.forget();
    assert!(daemon.sigterm().success());
    assert_eq!(manager.hears(), STOPPING);
}

#[test]
fn a_watchdog_that_is_another_process_s_is_not_fed() {
    let (manager, place) = Manager::of(Place::new(), 300_000);
    let mut daemon = Daemon::start_in("a", place.env("WATCHDOG_PID", "1"));
    manager.hears_that_it_is_ready(&daemon);
    assert!(daemon.sigterm().success());
    assert_eq!(manager.hears(), STOPPING);
}

#[test]
fn a_manager_that_does_not_listen_is_no_reason_not_to_run() {
    let daemon = Daemon::start_in("a", Place::new().env("NOTIFY_SOCKET", "/nowhere/notify"));
    daemon.wait_for_log("cannot be told");
    assert!(daemon.status()["pid"].is_u64());
    assert!(!Path::new("/nowhere").exists());
}
