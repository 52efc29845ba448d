//! A user's systemd.

use std::path::PathBuf;

use super::{
    Ask, Service, State, Step, Trouble,
    steps::{run, words},
};

/// The unit, as packages have it.
const UNIT: &str = include_str!("../../../daemon/p2pd.service");
/// The line of it that says which program.
const PACKAGED_START: &str = "ExecStart=/usr/bin/p2pd\n";
/// Where packages put units for users, the first one first.
const PACKAGES: [&str; 3] = ["/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user"];

pub(super) fn text(service: &Service) -> String {
    UNIT.replace(PACKAGED_START, &start_line(service))
}

fn start_line(service: &Service) -> String {
    let mut line = format!("ExecStart={}", quoted(&service.program));
    if let Some(home) = &service.home {
        // In what follows the program, a dollar sign begins a variable.
        line += &format!(" --home {}", quoted(&home.replace('$', "$$")));
    }
    line + "\n"
}

/// A word as a unit has it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@".contains(c);
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    if word.chars().all(plain) { escaped } else { format!("\"{escaped}\"") }
}

/// The file of a package that starts this very program.
pub(super) fn packaged(service: &Service) -> Option<PathBuf> {
    let line = start_line(service);
    let files = PACKAGES.into_iter().map(|folder| PathBuf::from(folder).join(&service.name));
    let mut fitting =
        files.filter(|file| std::fs::read_to_string(file).is_ok_and(|text| text.contains(&line)));
    // A file of the user's own goes before it.
    if service.file.exists() { None } else { fitting.next() }
}

pub(super) fn is_installed(service: &Service) -> bool {
    if !service.packaged {
        return service.file.exists();
    }
    // Everybody has a package's unit; who wants it has a link to it.
    let enabled = systemctl(&["is-enabled", "--quiet", &service.name]);
    run(&enabled).is_ok()
}

fn systemctl(rest: &[&str]) -> Vec<String> {
    words(&[&["systemctl", "--user"], rest].concat())
}

pub(super) fn steps(service: &Service, ask: Ask) -> Vec<Step> {
    let name = service.name.as_str();
    let reload = || Step::Run(systemctl(&["daemon-reload"]));
    match ask {
        Ask::Install { changed } => {
            let mut steps = Vec::new();
            if !service.packaged {
                steps.push(Step::Write(service.file.clone(), text(service)));
            }
            // Also for the file of a package that is new.
            steps.push(reload());
            steps.push(Step::Run(systemctl(&["enable", name])));
            steps.push(Step::Run(systemctl(&[if changed { "restart" } else { "start" }, name])));
            steps
        }
        Ask::Uninstall => {
            let mut steps = vec![Step::Try(systemctl(&["disable", "--now", name]))];
            if !service.packaged {
                steps.push(Step::Remove(service.file.clone()));
            }
            steps.push(reload());
            steps.push(Step::Try(systemctl(&["reset-failed", name])));
            steps
        }
        Ask::Start => vec![Step::Run(systemctl(&["start", name]))],
        Ask::Stop => vec![Step::Run(systemctl(&["stop", name]))],
        Ask::Restart => vec![Step::Run(systemctl(&["restart", name]))],
    }
}

/// Also the question whether there is a manager at all.
pub(super) fn state(service: &Service) -> Result<State, Trouble> {
    let output = run(&systemctl(&["show", "--property=ActiveState", &service.name]))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let word = said.lines().find_map(|line| line.strip_prefix("ActiveState=")).map(str::to_owned);
    let active = word.as_deref().map(|word| matches!(word, "active" | "activating" | "reloading"));
    Ok(State { active, word })
}

pub(super) fn logs(service: &Service, lines: u32, follow: bool) -> Vec<String> {
    let lines = format!("--lines={lines}");
    // Not `--user --unit`: where the journal is kept in memory, or the user is root, there is no journal of the user's own.
    let unit = format!("--user-unit={}", service.name);
    let mut command = words(&["journalctl", "--no-pager", "--quiet", "--output=short-iso", &lines, &unit]);
    if follow {
        command.push("--follow".to_owned());
    }
    command
}

/// A user's systemd ends with their last session, unless it is told otherwise.
pub(super) fn lingering_advice(uid: u32) -> Option<String> {
    let asked = run(&words(&["loginctl", "show-user", &uid.to_string(), "--property=Linger"]));
    let lingers = asked.is_ok_and(|output| output.stdout.starts_with(b"Linger=yes"));
    (!lingers)
        .then(|| "it ends with your last session; to keep it running: loginctl enable-linger".to_owned())
}
