use super::*;

const MANAGERS: [Manager; 3] = [Manager::Systemd, Manager::Launchd, Manager::Startup];

fn service(manager: Manager, program: &str, home: Option<&str>) -> Service {
    let folders = Folders { config: "/home/a/.config".into(), home: "/home/a".into() };
    let usual = "/home/a/.local/state/p2p";
    let named = home.map(Path::new);
    Service::new(manager, &folders, Path::new(program), named.unwrap_or(Path::new(usual)), named).unwrap()
}

fn shown(steps: &[Step]) -> String {
    let line = |step: &Step| match step {
        Step::Write(path, _) => format!("write {}\n", path.display()),
        Step::Remove(path) => format!("remove {}\n", path.display()),
        Step::Run(words) => format!("run {}\n", words.join(" ")),
        Step::Try(words) => format!("try {}\n", words.join(" ")),
    };
    steps.iter().map(line).collect()
}

#[test]
fn what_managers_read() {
    for manager in MANAGERS {
        let usual = service(manager, "/home/a/.cargo/bin/p2pd", None);
        insta::assert_snapshot!(format!("{}_file", manager.word()), usual.text());
        // What has a meaning in a unit, a list of properties or a script is none in a path.
        let other = service(manager, "/opt/p 2p/100%/p2pd", Some("/srv/R&D <$HOME> 50%"));
        assert_ne!(other.name, usual.name);
        let text = other.text();
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| line.contains("srv") || line.contains("opt")).collect();
        insta::assert_snapshot!(format!("{}_other_home", manager.word()), lines.join("\n"));
    }
}

#[test]
fn what_managers_are_told() {
    for manager in MANAGERS {
        let service = service(manager, "/home/a/.cargo/bin/p2pd", None);
        let asks = [
            Ask::Install { changed: true },
            Ask::Install { changed: false },
            Ask::Uninstall,
            Ask::Start,
            Ask::Stop,
            Ask::Restart,
        ];
        let steps = |ask| match manager {
            Manager::Launchd => launchd::steps(&service, ask, 501),
            _ => service.steps(ask),
        };
        let all = asks.map(|ask| format!("{ask:?}\n{}", shown(&steps(ask)))).join("\n");
        let logs = [(100, false), (7, true)].map(|(lines, follow)| service.logs(lines, follow).join(" "));
        insta::assert_snapshot!(
            format!("{}_told", manager.word()),
            format!("{all}\nlogs\n{}\n", logs.join("\n"))
        );
    }
}

#[test]
fn a_state_folder_has_one_service_and_always_the_same() {
    let of = |home| service(Manager::Systemd, "/usr/local/bin/p2pd", home).name;
    assert_eq!(of(None), "p2pd.service");
    assert_eq!(of(Some("/srv/a")), of(Some("/srv/a")));
    assert_ne!(of(Some("/srv/a")), of(Some("/srv/b")));
}

#[test]
fn a_path_that_no_file_can_name_is_refused() {
    let folders = Folders { config: "/c".into(), home: "/h".into() };
    for path in ["/a\nExecStartPre=/bin/false", "/a\u{1b}"] {
        let error =
            Service::new(Manager::Systemd, &folders, Path::new(path), Path::new("/h"), None).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        let home = Some(Path::new(path));
        assert!(Service::new(Manager::Systemd, &folders, Path::new("/p2pd"), Path::new(path), home).is_err());
    }
}

#[test]
fn a_program_is_called_by_the_name_that_outlives_it() {
    let folder = tempfile::tempdir().unwrap();
    let versioned = folder.path().join("p2pd");
    std::fs::write(&versioned, "").unwrap();
    // Not on the PATH, which is not this test's to change.
    assert_eq!(stable(&versioned), versioned);
    assert_eq!(stable(Path::new("/nowhere/p2pd")), Path::new("/nowhere/p2pd"));
}
