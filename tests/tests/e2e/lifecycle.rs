//! Daemons that start, are started, refuse to start, and stop.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use p2p_tests::{
    Cli, Daemon, Pair, binaries,
    daemon::{Place, terminate, wait_timeout},
    data,
    until::{PATIENCE, until},
    words,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A daemon that a command started; it is stopped when this is dropped.
struct StartedByCommand(Pid);

impl StartedByCommand {
    fn of(cli: &Cli) -> Self {
        let status = cli.json(words!["status"]).success();
        let pid = status.event("status")["pid"].as_i64().unwrap();
        Self(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap())
    }

    fn is_alive(&self) -> bool {
        test_kill_process(self.0).is_ok()
    }
}

impl Drop for StartedByCommand {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// A command line for a new place, whose daemon would listen on a free port.
fn cli_that_starts(place: &Place) -> Cli {
    let cli = place.cli().env("P2P_LISTEN", "127.0.0.1:0").env("P2P_INBOX", place.root().join("inbox"));
    cli.may_start()
}

#[test]
fn a_daemon_is_started_on_demand() {
    let place = Place::new();
    let cli = cli_that_starts(&place);
    let file = place.root().join("files/f.bin");
    data::write_random(&file, 1, 1000);
    let shared = cli.run(words!["share", file]).success();
    let daemon = StartedByCommand::of(&cli);
    assert_eq!(shared.text(), data::file_id(&file));
    assert!(daemon.is_alive());
    // The next command finds it.
    assert_eq!(StartedByCommand::of(&cli).0, daemon.0);
    kill_process(daemon.0, Signal::TERM).unwrap();
    until("the daemon has stopped", || (cli.json(words!["status"]).code == Some(3)).then_some(()));
}

#[test]
fn several_commands_at_once_start_one_daemon() {
    let place = Place::new();
    let cli = cli_that_starts(&place);
    let files: Vec<_> = (0..4).map(|n| place.root().join(format!("files/{n}.bin"))).collect();
    let running: Vec<_> = files
        .iter()
        .zip(0..)
        .map(|(file, seed)| {
            data::write_random(file, seed, 1000);
            cli.start(words!["share", file])
        })
        .collect();
    let outputs: Vec<_> = running.into_iter().map(p2p_tests::Running::finish).collect();
    let _daemon = StartedByCommand::of(&cli);
    for (output, file) in outputs.into_iter().zip(&files) {
        assert_eq!(output.success().text(), data::file_id(file));
    }
}

#[test]
fn without_a_daemon_looking_is_exit_3_with_a_hint() {
    let place = Place::new();
    for words in [
        words!["list"].to_vec(),
        words!["status"].to_vec(),
        words!["show", "1"].to_vec(),
        words!["peers"].to_vec(),
    ] {
        let looked = cli_that_starts(&place).run(words).exits(3);
        assert!(looked.stderr.contains("p2pd"), "it says how to start one\n{looked}");
        assert!(looked.stdout.is_empty(), "{looked}");
    }
    let file = place.root().join("files/f.bin");
    data::write_random(&file, 1, 1000);
    place.cli().run(words!["share", file]).exits(3);
}

#[test]
fn the_identity_needs_no_daemon_and_stays() {
    let place = Place::new();
    let id = place.cli().run(words!["id"]).success();
    assert_eq!(id.text().len(), 52, "{id}");
    assert_eq!(id.stdout, format!("{}\n", id.text()).as_bytes(), "the Peer ID, alone\n{id}");
    assert_eq!(place.cli().run(words!["id"]).success().text(), id.text());
    let daemon = Daemon::start_in("a", place);
    assert_eq!(daemon.peer(), id.text());
    assert_eq!(daemon.cli().run(words!["id"]).success().text(), id.text());
}

#[test]
fn settings_say_where_they_come_from() {
    let place = Place::new();
    let config = place.cli().env("P2P_LISTEN", "127.0.0.1:5555").run(words!["config"]).success();
    let line = config.text().lines().find(|line| line.contains("127.0.0.1:5555")).map(str::to_owned);
    let line = line.unwrap_or_else(|| panic!("the setting is not shown\n{config}"));
    assert!(line.contains("env") || line.contains("P2P_LISTEN"), "its origin is not shown\n{config}");
    assert!(config.text().contains("inbox"), "{config}");
    assert!(config.text().contains("default"), "{config}");
}

/// Fault 10.
#[test]
fn a_second_daemon_on_one_home_is_refused() {
    let mut first = Daemon::start("first");
    let (code, said) = first.place().clone().listen("127.0.0.1:0").start_refused();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    let home = first.place().home_path().display().to_string();
    assert!(said.contains(&home), "the home is not named: {said}");
    assert!(first.is_alive());
    first.status();
}

#[test]
fn a_port_that_is_taken_is_a_clear_refusal() {
    let first = Daemon::start("first");
    let (code, said) = Place::new().listen(first.address()).start_refused();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert!(said.contains(first.address()), "the address is not named: {said}");
}

/// Fault 9.
#[test]
fn what_a_killed_daemon_left_is_in_nobodys_way() {
    let mut daemon = Daemon::start("a");
    for _ in 0..3 {
        daemon.restart();
        daemon.status();
    }
    assert_eq!(daemon.sigterm().code(), Some(0));
    let status = daemon.cli().json(words!["status"]);
    assert_eq!(status.code, Some(3), "{status}");
}

#[test]
fn sigint_and_sigterm_end_it_well() {
    let mut daemon = Daemon::start("a");
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    until("the daemon has ended", || (!daemon.is_alive()).then_some(()));
    daemon.kill9();
    daemon.start_again();
    assert_eq!(daemon.sigterm().code(), Some(0));
}

#[test]
fn the_home_belongs_to_its_owner_alone() {
    let daemon = Daemon::start("a");
    let home = daemon.place().home_path();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(home), 0o700);
    assert_eq!(mode(&home.join("p2pd.sock")), 0o600);
    for path in data::files_below(home) {
        if path.to_string_lossy().contains("identity") || path.to_string_lossy().contains("peers") {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

#[test]
fn a_home_with_a_very_long_path_works() {
    let long: String = ["long"; 40].join("-");
    let place = Place::new().home(format!("{long}/{long}/home"));
    fs::create_dir_all(place.home_path().parent().unwrap()).unwrap();
    let mut daemon = Daemon::start_in("long", place);
    assert_eq!(daemon.status()["peer"], daemon.peer());
    daemon.restart();
    assert_eq!(daemon.status()["peer"], daemon.peer());
}

/// Fault 26.
#[test]
fn a_damaged_identity_is_never_replaced() {
    let mut daemon = Daemon::start("a");
    daemon.sigterm();
    let key = daemon.place().home_path().join("identity.pem");
    let whole = fs::read(&key).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"garbage"] {
        fs::write(&key, damaged).unwrap();
        let (code, said) = daemon.place().start_refused();
        assert!(code.is_some_and(|code| code != 0), "{code:?}");
        assert!(said.contains("identity.pem"), "the file is not named: {said}");
        assert_eq!(fs::read(&key).unwrap(), damaged, "left as it was");
    }
    fs::remove_file(&key).unwrap();
    let (code, _) = daemon.place().start_refused();
    assert!(
        code.is_some_and(|code| code != 0),
        "a key that is gone from a home in use is not made anew: {code:?}"
    );
    fs::write(&key, &whole).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    daemon.start_again();
}

/// Faults 26 and 76.
#[test]
fn a_damaged_trust_file_fails_closed() {
    let Pair { a: mut daemon, b: _b } = Pair::new();
    daemon.sigterm();
    let file = daemon.place().home_path().join("peers.toml");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, "[[peer]\nthis is not a trust file").unwrap();
    let (code, said) = daemon.place().start_refused();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert!(said.contains("peers.toml"), "the file is not named: {said}");
    fs::write(&file, whole).unwrap();
    daemon.start_again();
}

/// Fault 25.
#[test]
fn a_damaged_catalog_is_set_aside() {
    let Pair { mut a, b } = Pair::new();
    let file = a.new_file("f.bin", 1, 300_000);
    a.cli().json(words!["send", file, "--to", b.address()]).success();
    a.sigterm();
    let catalog = a.place().home_path().join("catalog.sqlite");
    fs::write(&catalog, data::random(1, 10_000)).unwrap();
    for more in ["catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = fs::remove_file(a.place().home_path().join(more));
    }
    a.start_again();
    a.transfers();
    let kept = fs::read_dir(a.place().home_path()).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        path != catalog && path.is_file() && fs::read(&path).unwrap() == data::random(1, 10_000)
    });
    assert!(kept, "the damaged catalog is set aside, not removed");
    let again = a.new_file("g.bin", 2, 300_000);
    a.cli().json(words!["send", again, "--to", b.address()]).success();
    data::assert_same(&again, &b.inbox().join("g.bin"));
}

/// Fault 79.
#[test]
fn garbage_on_the_socket_does_no_harm() {
    let mut daemon = Daemon::start("a");
    let socket = daemon.place().home_path().join("p2pd.sock");
    for seed in 0..20 {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // The daemon may hang up before it has taken everything.
        let _ = stream.write_all(&data::random(seed, 1 + seed * 997));
    }
    for garbage in
        [&b""[..], b"p2pctl\x02\x00\xff\xff\xff\xff", b"p2pctl\x02\x00\x04\x00\x00\x00\xff\xff\xff\xff"]
    {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let _ = stream.write_all(garbage);
    }
    // Clients that say nothing and stay.
    let _silent: Vec<_> = (0..10).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    daemon.status();
    assert!(daemon.is_alive() && !daemon.log().contains("panicked"), "{}", daemon.log());
}

/// Fault 81.
#[test]
fn a_command_of_another_version_is_told_so() {
    use std::io::Read;
    let daemon = Daemon::start("a");
    let mut stream = UnixStream::connect(daemon.place().home_path().join("p2pd.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"p2pctl\xff\x7f").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, b"p2pctl\x04\x00", "the daemon says its own version and hangs up");
}

/// The value of a key in a section of a systemd unit.
fn unit_value(unit: &str, section: &str, key: &str) -> Option<String> {
    let body = unit.split_once(&format!("[{section}]"))?.1;
    let body = body.split("\n[").next()?;
    let line = body.lines().find_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='))?;
    Some(line.trim().to_owned())
}

#[test]
fn the_service_starts_and_stops_it_as_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/p2pd.service");
    let unit = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let place = Place::new();
    let command_line = unit_value(&unit, "Service", "ExecStart").expect("the unit has ExecStart");
    let mut words =
        command_line.split_whitespace().map(|word| word.replace("%h", &place.root().display().to_string()));
    let program = words.next().expect("ExecStart names a program");
    assert!(program.ends_with("p2pd"), "{command_line}");
    assert_eq!(
        unit_value(&unit, "Install", "WantedBy").as_deref(),
        Some("default.target"),
        "a user's service"
    );
    assert!(unit_value(&unit, "Service", "User").is_none(), "a user's service runs as that user");
    if let Some(signal) = unit_value(&unit, "Service", "KillSignal") {
        assert_eq!(signal, "SIGTERM");
    }
    let home = place.root().join(".local/state/p2p");
    let log = fs::File::create(place.log_path()).unwrap();
    let mut command = Command::new(binaries::p2pd());
    command.args(words).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    for name in ["XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "P2P_HOME", "P2P_CONFIG", "P2P_LOG"] {
        command.env_remove(name);
    }
    command
        .env("HOME", place.root())
        .env("XDG_RUNTIME_DIR", place.root().join("run"))
        .env("P2P_LISTEN", "127.0.0.1:0")
        .env("P2P_INBOX", place.root().join("inbox"));
    let mut child = command.spawn().unwrap();
    let cli = Cli::new(place.root(), &home);
    let ready = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        cli.json(words!["status"]).code == Some(0)
    });
    terminate(&child);
    let status = wait_timeout(&mut child, PATIENCE);
    let _ = child.kill();
    assert!(ready, "the daemon did not start; log:\n{}", place.log());
    assert_eq!(status.and_then(|status| status.code()), Some(0), "log:\n{}", place.log());
}
