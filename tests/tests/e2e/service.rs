//! The daemon as a service, with a stand-in for systemd that starts and stops what a unit says.

#![cfg(target_os = "linux")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use p2p_tests::{Cli, Output, daemon::Place, data, until::until_true, words};
use rustix::process::{Pid, Signal, kill_process};

/// The part of systemctl that is needed here.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> "$STAND_IN/asked"
for unit; do :; done
alive() { kill -0 "$1" 2>/dev/null && ! grep -q '^State:.*Z' "/proc/$1/status"; }
end() {
    pid=$(cat "$STAND_IN/pid" 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null
    while alive "$pid"; do sleep 0.02; done
    rm "$STAND_IN/pid"
}
begin() {
    line=$(sed -n 's/^ExecStart=//p' "$HOME/.config/systemd/user/$unit")
    sh -c "exec $line" >> "$STAND_IN/log" 2>&1 < /dev/null &
    echo $! > "$STAND_IN/pid"
}
case "$2" in
    start) alive "$(cat "$STAND_IN/pid" 2>/dev/null)" || begin ;;
    stop) end ;;
    restart) end; begin ;;
    disable) end ;;
    show) if [ -e "$STAND_IN/pid" ]; then echo ActiveState=active; else echo ActiveState=inactive; fi ;;
esac
"#;

/// What systemctl says where the user has no systemd.
const NOBODY: &str = "#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2\nexit 1\n";
const JOURNALCTL: &str = "#!/bin/sh\nprintf 'asked %s\\nan escape \\033[2J\\n' \"$*\"\n";

/// A user with a stand-in, whose daemon ends with this.
struct User {
    place: Place,
}

impl User {
    fn new(systemctl: &str) -> Self {
        let user = Self { place: Place::new() };
        for (name, script) in [("systemctl", systemctl), ("journalctl", JOURNALCTL)] {
            let path = user.stand_in().join(name);
            fs::create_dir_all(user.stand_in()).unwrap();
            fs::write(&path, script).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        user
    }

    fn stand_in(&self) -> PathBuf {
        self.place.root().join("stand-in")
    }

    fn cli(&self) -> Cli {
        let path = format!("{}:{}", self.stand_in().display(), std::env::var("PATH").unwrap());
        let cli = self.place.cli().env("PATH", path).env("STAND_IN", self.stand_in());
        cli.env("P2P_LISTEN", "127.0.0.1:0").env("P2P_INBOX", self.place.inbox_path()).may_start()
    }

    fn service(&self, verb: &str) -> Output {
        self.cli().json(words!["service", verb])
    }

    /// What the manager was asked.
    fn asked(&self) -> String {
        fs::read_to_string(self.stand_in().join("asked")).unwrap_or_default()
    }

    /// The unit's files, of which there is one or none.
    fn units(&self) -> Vec<PathBuf> {
        data::files_below(&self.place.root().join(".config"))
    }

    fn pid(&self) -> u64 {
        self.cli().json(words!["status"]).success().event("status")["pid"].as_u64().unwrap()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let status = self.cli().json(words!["status"]);
        let pid = status.events.first().and_then(|line| line["pid"].as_i64());
        if let Some(pid) = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn starts(asked: &str) -> usize {
    asked.lines().filter(|line| line.contains(" start ")).count()
}

#[test]
fn a_service_is_installed_used_and_taken_away() {
    let user = User::new(SYSTEMCTL);
    let file = user.place.root().join("files/f.bin");
    data::write_random(&file, 1, 1000);
    user.cli().run(words!["share", file]).success();
    let by_command = user.pid();

    // What ran without it makes way, and what it had is there.
    let installed = user.cli().run(words!["service", "install"]).success();
    assert!(installed.stderr.contains(&format!("(process {by_command}) has ended")), "{installed}");
    assert!(installed.stderr.contains("service uninstall"), "{installed}");
    let [unit] = user.units().try_into().unwrap();
    assert!(installed.stderr.contains(&format!("wrote {}", unit.display())), "{installed}");
    assert!(installed.stderr.contains("note: P2P_LISTEN is set here"), "{installed}");
    let by_manager = user.pid();
    assert_ne!(by_manager, by_command);
    assert_eq!(user.cli().json(words!["shares"]).success().events.len(), 1);

    // Again changes nothing.
    let again = user.cli().run(words!["service", "install"]).success();
    assert!(again.stderr.contains("is as it should be"), "{again}");
    assert_eq!(user.pid(), by_manager);
    let status = user.service("status").success();
    let line = status.event("service");
    assert_eq!((&line["installed"], &line["state"]), (&true.into(), &"active".into()));
    assert_eq!((&line["pid"], &line["file"]), (&by_manager.into(), &unit.to_str().into()));

    // A unit that differs is mended, and takes effect.
    fs::write(&unit, "[Service]\nExecStart=/bin/false\n").unwrap();
    let mended = user.cli().run(words!["service", "install"]).success();
    assert!(mended.stderr.contains("replaced"), "{mended}");
    let mended = user.pid();
    assert_ne!(mended, by_manager);

    user.service("restart").success();
    assert_ne!(user.pid(), mended);
    user.service("stop").success();
    user.service("status").exits(3);
    // Whatever needs the daemon has the manager start it.
    let before = starts(&user.asked());
    user.cli().run(words!["unshare", data::file_id(&file)]).success();
    assert_eq!(starts(&user.asked()), before + 1);
    user.service("status").success();

    let gone = user.cli().run(words!["service", "uninstall"]).success();
    assert!(gone.stderr.contains("removed"), "{gone}");
    assert!(user.units().is_empty());
    user.cli().json(words!["status"]).exits(3);
    let again = user.cli().run(words!["service", "uninstall"]).success();
    assert!(again.stderr.contains("not installed"), "{again}");
    for verb in ["status", "start", "stop", "restart", "logs"] {
        user.service(verb).exits(6);
    }
}

#[test]
fn a_dry_run_does_nothing() {
    let user = User::new(SYSTEMCTL);
    let plan = user.cli().json(words!["service", "install", "--dry-run"]).success();
    let plan = plan.event("service_plan");
    assert!(plan["writes"][0]["text"].as_str().unwrap().contains("Type=notify"), "{plan}");
    assert!(plan["runs"].as_array().unwrap().contains(&"systemctl --user daemon-reload".into()), "{plan}");
    let plan = user.cli().run(words!["service", "uninstall", "--dry-run"]).success();
    assert!(plan.text().contains("would remove "), "{plan}");
    assert_eq!((user.asked().as_str(), user.units().len()), ("", 0));
    assert!(!Path::new(&user.place.home_path().join("p2pd.sock")).exists());
}

#[test]
fn without_a_manager_nothing_is_written_and_commands_start_the_daemon() {
    let user = User::new(NOBODY);
    let refused = user.cli().run(words!["service", "install"]).exits(3);
    assert!(refused.stderr.contains("no service manager runs here"), "{refused}");
    assert!(user.units().is_empty());
    for verb in ["status", "start", "stop", "restart", "logs", "uninstall"] {
        let refused = user.service(verb).exits(3);
        let message = refused.event("failed")["message"].as_str().unwrap().to_owned();
        assert!(message.contains("no service manager runs here"), "{verb}: {refused}");
    }
    // A unit from other days is no hindrance.
    let text = user.cli().json(words!["service", "install", "--dry-run"]).success();
    let path = PathBuf::from(text.event("service_plan")["writes"][0]["path"].as_str().unwrap());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "").unwrap();
    let file = user.place.root().join("files/f.bin");
    data::write_random(&file, 1, 1000);
    user.cli().run(words!["share", file]).success();
    until_true("a daemon runs", || user.cli().json(words!["status"]).code == Some(0));
}

#[test]
fn the_log_is_shown_and_cannot_move_the_cursor() {
    let user = User::new(SYSTEMCTL);
    user.service("install").success();
    let logs = user.cli().run(words!["service", "logs", "-n", "7", "--follow"]).success();
    assert!(
        logs.text().contains("--lines=7 --user-unit=p2pd-") && logs.text().contains(" --follow"),
        "{logs}"
    );
    assert!(logs.text().contains("an escape \\u{1b}[2J"), "{logs}");
    let logs = user.cli().json(words!["service", "logs"]).success();
    assert_eq!(logs.events[1]["line"], "an escape \u{1b}[2J");
}
