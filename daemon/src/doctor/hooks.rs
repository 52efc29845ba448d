//! The owner's programs: whether they can be run when something happens.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::Finding;
use crate::config::Hooks;

const CHECK: &str = "hooks";

/// One finding for each program; none where there is nothing to run.
pub(super) fn programs(hooks: &Hooks) -> Vec<Finding> {
    let notify = [String::from("notify-send")];
    let own = [("offer", &hooks.offer[..]), ("done", &hooks.done), ("failed", &hooks.failed)];
    let notify = hooks.notify.then_some(("notify", &notify[..]));
    let named = own.into_iter().chain(notify).filter_map(|(key, words)| Some((key, words.first()?)));
    named.map(|(key, program)| look(key, program)).collect()
}

fn look(key: &str, program: &str) -> Finding {
    match find(program) {
        Some(path) => Finding::ok(CHECK, format!("{key}: {}", path.display())),
        None => Finding::fail(
            CHECK,
            format!("{key}: there is no program {program} that could be run"),
            format!("install it, or name another for `{key}` under [hooks] in the config"),
        ),
    }
}

/// Where a program is: as it is named, or in a folder of PATH.
fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| can_run(path));
    }
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| can_run(path))
}

fn can_run(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_found_before_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let words = |program: &str| vec![program.to_owned(), "argument".to_owned()];
        let verdict = |program: &str| {
            let found = programs(&Hooks { done: words(program), ..Hooks::default() });
            found.first().unwrap().verdict
        };
        use super::super::Verdict;
        assert_eq!(verdict("sh"), Verdict::Ok);
        assert_eq!(verdict("/bin/sh"), Verdict::Ok);
        assert_eq!(verdict("/nowhere/at/all"), Verdict::Fail);
        assert_eq!(verdict("no-such-program-anywhere"), Verdict::Fail);
        assert_eq!(verdict(plain.to_str().unwrap()), Verdict::Fail, "it cannot be run");
        assert!(programs(&Hooks::default()).is_empty());
    }
}
