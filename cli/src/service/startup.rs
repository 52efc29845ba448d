//! Windows' folder of what is started at login.

use super::{Ask, Service, Step, steps::words};

const ENTRY: &str = include_str!("../../../daemon/p2pd.cmd");

pub(super) fn text(service: &Service) -> String {
    let home = service.home.as_ref();
    let arguments = home.map(|home| format!(" --home \"{}\"", escaped(home))).unwrap_or_default();
    ENTRY
        .replace("@name@", &service.name)
        .replace("@program@", &escaped(&service.program))
        .replace("@arguments@", &arguments)
        .replace("@log@", &escaped(&service.log.to_string_lossy()))
        .replace('\n', "\r\n")
}

/// In a script a percent sign begins a variable. Quotation marks are in no path.
fn escaped(path: &str) -> String {
    path.replace('%', "%%")
}

pub(super) fn steps(service: &Service, ask: Ask) -> Vec<Step> {
    let start = || Step::Run(words(&["cmd", "/d", "/c", &service.file.to_string_lossy()]));
    // What is verified is safe from it.
    let window = format!("WINDOWTITLE eq {}*", service.name);
    let stop = || Step::Try(words(&["taskkill", "/f", "/t", "/fi", &window]));
    match ask {
        Ask::Install { changed } => {
            let write = Step::Write(service.file.clone(), text(service));
            if changed { vec![write, stop(), start()] } else { vec![write, start()] }
        }
        Ask::Uninstall => vec![stop(), Step::Remove(service.file.clone())],
        Ask::Start => vec![start()],
        Ask::Stop => vec![stop()],
        Ask::Restart => vec![stop(), start()],
    }
}

pub(super) fn logs(service: &Service, lines: u32, follow: bool) -> Vec<String> {
    let log = service.log.to_string_lossy().replace('\'', "''");
    let wait = if follow { " -Wait" } else { "" };
    let script = format!("Get-Content -LiteralPath '{log}' -Tail {lines}{wait}");
    words(&["powershell", "-NoProfile", "-Command", &script])
}
