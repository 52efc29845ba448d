//! Launch agents of macOS.

use super::{
    Ask, Service, State, Step, Trouble,
    steps::{run, words},
};

const AGENT: &str = include_str!("../../../daemon/p2pd.plist");

pub(super) fn text(service: &Service) -> String {
    let mut arguments = vec![service.program.as_str()];
    if let Some(home) = &service.home {
        arguments.extend(["--home", home.as_str()]);
    }
    let lines: Vec<String> =
        arguments.iter().map(|argument| format!("\t\t<string>{}</string>", escaped(argument))).collect();
    AGENT
        .replace("@label@", &service.name)
        .replace("@arguments@", &lines.join("\n"))
        .replace("@log@", &escaped(&service.log.to_string_lossy()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

pub(super) fn steps(service: &Service, ask: Ask, uid: u32) -> Vec<Step> {
    let domain = format!("gui/{uid}");
    let target = format!("{domain}/{}", service.name);
    let file = service.file.to_string_lossy().into_owned();
    let load = words(&["launchctl", "bootstrap", &domain, &file]);
    let unload = || Step::Try(words(&["launchctl", "bootout", &target]));
    // Where it is loaded, that is said as an error.
    let start = || {
        let kick = words(&["launchctl", "kickstart", &target]);
        vec![Step::Try(load.clone()), Step::Run(kick)]
    };
    match ask {
        Ask::Install { changed } => {
            let write = Step::Write(service.file.clone(), text(service));
            let enable = Step::Run(words(&["launchctl", "enable", &target]));
            let begin = if changed { vec![unload(), Step::Run(load.clone())] } else { start() };
            [write, enable].into_iter().chain(begin).collect()
        }
        Ask::Uninstall => vec![unload(), Step::Remove(service.file.clone())],
        Ask::Start => start(),
        Ask::Stop => vec![Step::Run(words(&["launchctl", "kill", "SIGTERM", &target]))],
        Ask::Restart => {
            vec![Step::Try(load.clone()), Step::Run(words(&["launchctl", "kickstart", "-k", &target]))]
        }
    }
}

pub(super) fn state(service: &Service, uid: u32) -> Result<State, Trouble> {
    match run(&words(&["launchctl", "print", &format!("gui/{uid}/{}", service.name)])) {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let word = said.lines().find_map(|line| line.trim().strip_prefix("state = ")).map(str::to_owned);
            Ok(State { active: word.as_deref().map(|word| word == "running"), word })
        }
        // It is not loaded.
        Err(Trouble::Failed { .. }) => Ok(State { active: Some(false), word: None }),
        Err(trouble) => Err(trouble),
    }
}

pub(super) fn logs(service: &Service, lines: u32, follow: bool) -> Vec<String> {
    let (lines, log) = (lines.to_string(), service.log.to_string_lossy());
    let mut command = words(&["tail", "-n", &lines]);
    if follow {
        command.push("-F".to_owned());
    }
    command.push(log.into_owned());
    command
}
