//! Some tests of one program, and what becomes of them.

use std::{
    fmt,
    fs::File,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::{Result, tree::Tree};

/// Tests that have not ended by then hang.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often is looked whether they have.
const POLL: Duration = Duration::from_millis(100);

/// Tests of one program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Suite {
    /// The package.
    package: String,
    /// The test program, where it is not the library's own tests.
    program: Option<String>,
    /// Their full names.
    names: Vec<String>,
}

/// What became of them.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All passed.
    Green,
    /// These failed.
    Red(Vec<String>),
    /// The program died.
    Died,
    /// It did not come to an end.
    Hung,
    /// There is no program.
    NotBuilt(String),
    /// Fewer tests than there are names.
    Missing(usize),
}

impl Outcome {
    /// Whether a mistake was noticed.
    pub(crate) fn is_red(&self) -> bool {
        matches!(self, Self::Red(_) | Self::Died | Self::Hung)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Green => f.write_str("NOT NOTICED"),
            Self::Red(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                f.write_str(&names.join(", "))
            }
            Self::Died => f.write_str("the test program died"),
            Self::Hung => f.write_str("the tests hung"),
            Self::NotBuilt(said) => write!(f, "NOT BUILT\n{said}"),
            Self::Missing(ran) => write!(f, "ONLY {ran} OF THE TESTS EXIST"),
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.as_deref().unwrap_or("the library");
        write!(f, "{} tests of {}, {program}", self.names.len(), self.package)
    }
}

impl Suite {
    /// Whether another one is of the same program.
    pub(crate) fn is_of_same_program(&self, other: &Self) -> bool {
        (&self.package, &self.program) == (&other.package, &other.program)
    }

    /// Takes another one's tests in.
    pub(crate) fn add(&mut self, other: &Self) {
        for name in &other.names {
            if !self.names.contains(name) {
                self.names.push(name.clone());
            }
        }
    }

    fn cargo(&self, tree: &Tree) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(tree.root()).env("CARGO_TARGET_DIR", tree.target());
        // Warnings are no concern of a mistake.
        command.args(["test", "--locked", "--quiet", "--package", &self.package]);
        match &self.program {
            Some(program) => command.args(["--test", program]),
            None => command.arg("--lib"),
        };
        command
    }

    /// Builds the tests and runs them.
    pub(crate) fn run(&self, tree: &Tree) -> Result<Outcome> {
        let built = self.cargo(tree).arg("--no-run").output()?;
        if !built.status.success() {
            return Ok(Outcome::NotBuilt(String::from_utf8_lossy(&built.stderr).into_owned()));
        }
        let path = tree.target().join("said");
        let said = File::create(&path)?;
        let mut command = self.cargo(tree);
        command.args(["--", "--exact", "--format", "pretty"]).args(&self.names);
        // A group of its own, so that a test that hangs takes the processes that it started along.
        command.process_group(0).stdout(said.try_clone()?).stderr(said);
        let status = wait(command.spawn()?)?;
        let said = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        let verdicts = |verdict: &str| -> Vec<String> {
            let lines = said.lines().filter_map(|line| line.strip_prefix("test "));
            let names = lines.filter_map(|line| line.split_once(" ... "));
            names.filter(|(_, rest)| rest.starts_with(verdict)).map(|(name, _)| name.to_owned()).collect()
        };
        let failed = verdicts("FAILED");
        Ok(match status {
            None => Outcome::Hung,
            Some(_) if !failed.is_empty() => Outcome::Red(failed),
            Some(status) if !status.success() => Outcome::Died,
            Some(_) if verdicts("ok").len() < self.names.len() => Outcome::Missing(verdicts("ok").len()),
            Some(_) => Outcome::Green,
        })
    }
}

/// Waits for a process; `None` if it took too long and was ended.
fn wait(mut child: Child) -> Result<Option<ExitStatus>> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(POLL);
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process_group(group, Signal::KILL)?;
    }
    child.wait()?;
    Ok(None)
}
