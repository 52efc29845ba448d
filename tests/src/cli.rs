//! The command line, as a process.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    binaries,
    daemon::{isolate, wait_timeout},
    until::PATIENCE,
};

/// `p2p` for one home.
#[derive(Clone, Debug)]
pub struct Cli {
    root: PathBuf,
    home: PathBuf,
    env: Vec<(String, OsString)>,
    may_start: bool,
    input: Option<PathBuf>,
}

/// What a command that has ended said.
#[derive(Debug)]
pub struct Output {
    command: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// The lines of standard output that are JSON objects.
    pub events: Vec<Value>,
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    lines: Receiver<Vec<u8>>,
    stdout: Vec<u8>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_reader: Option<JoinHandle<()>>,
}

impl Cli {
    /// For this home; every default folder lies below `root`. It starts no daemon.
    pub fn new(root: &Path, home: &Path) -> Self {
        Self { root: root.to_owned(), home: home.to_owned(), env: Vec::new(), may_start: false, input: None }
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Lets it start a daemon where none runs.
    pub fn may_start(mut self) -> Self {
        self.may_start = true;
        self
    }

    /// Gives it this file as its standard input; it has none otherwise.
    pub fn reading(mut self, path: impl Into<PathBuf>) -> Self {
        self.input = Some(path.into());
        self
    }

    /// Runs a command to its end.
    pub fn run(&self, words: impl IntoIterator<Item = OsString>) -> Output {
        self.start(words).finish()
    }

    /// Runs a command with `--json` to its end.
    pub fn json(&self, words: impl IntoIterator<Item = OsString>) -> Output {
        self.start_json(words).finish()
    }

    /// Starts a command with `--json`.
    pub fn start_json(&self, words: impl IntoIterator<Item = OsString>) -> Running {
        self.start(std::iter::once(OsString::from("--json")).chain(words))
    }

    /// Starts a command.
    pub fn start(&self, words: impl IntoIterator<Item = OsString>) -> Running {
        Running::start(self.command(words))
    }

    /// The process that a command is, not yet running.
    pub fn command(&self, words: impl IntoIterator<Item = OsString>) -> Command {
        let mut command = Command::new(binaries::p2p());
        command.arg("--home").arg(&self.home);
        if !self.may_start {
            command.arg("--no-start");
        }
        command.args(words);
        isolate(&mut command, &self.root);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(match &self.input {
            Some(path) => {
                File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
            }
            None => Stdio::null(),
        });
        command
    }
}

impl Running {
    fn start(mut command: Command) -> Self {
        let shown = format!("{command:?}");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        let (stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while let Ok(1..) = reader.read_until(b'\n', &mut line) {
                let _ = sender.send(std::mem::take(&mut line));
            }
        });
        let said = Arc::new(Mutex::new(Vec::new()));
        let stderr_reader = std::thread::spawn({
            let said = said.clone();
            move || {
                let mut piece = [0; 4096];
                while let Ok(n @ 1..) = stderr.read(&mut piece) {
                    said.lock().unwrap().extend_from_slice(&piece[..n]);
                }
            }
        });
        Self {
            command: shown,
            child,
            lines,
            stdout: Vec::new(),
            stderr: said,
            stderr_reader: Some(stderr_reader),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a JSON line that fits.
    ///
    /// # Panics
    /// The command ends before, or it takes too long.
    pub fn wait_for(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.stdout.extend_from_slice(&line);
                    if let Ok(event) = serde_json::from_slice::<Value>(&line)
                        && fits(&event)
                    {
                        return event;
                    }
                }
                Err(_) => panic!("waited in vain for {what}\n{}", self.shown()),
            }
        }
    }

    /// The events that come until then; it waits as long, even if the command ends before.
    pub fn events_until(&mut self, deadline: Instant) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    events.extend(serde_json::from_slice(&line).ok());
                    self.stdout.extend_from_slice(&line);
                }
                Err(RecvTimeoutError::Timeout) => return events,
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(left);
                    return events;
                }
            }
        }
    }

    /// Waits for an event of this name.
    pub fn wait_for_event(&mut self, name: &str) -> Value {
        self.wait_for(name, |event| event["event"] == name)
    }

    /// Waits until the receiver has verified at least this many bytes, and returns how many it has.
    pub fn wait_for_verified(&mut self, bytes: u64) -> u64 {
        let verified = |event: &Value| event["verified_bytes"].as_u64().unwrap_or(0);
        let event = self.wait_for(&format!("{bytes} verified bytes"), |event| {
            event["event"] == "progress" && verified(event) >= bytes
        });
        verified(&event)
    }

    /// `kill -9`.
    pub fn kill9(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
        kill_process(pid, Signal::INT).expect("a child that was not waited for can be signalled");
    }

    /// Waits for its end.
    pub fn finish(self) -> Output {
        self.finish_within(PATIENCE)
    }

    /// Waits for its end, which must come within this time.
    pub fn finish_within(self, patience: Duration) -> Output {
        self.try_finish_within(patience).unwrap_or_else(|running| panic!("does not end\n{}", running.shown()))
    }

    /// Waits for its end, and gives it back where that has not come within this time.
    pub fn try_finish_within(mut self, patience: Duration) -> Result<Output, Box<Self>> {
        let Some(status) = wait_timeout(&mut self.child, patience) else {
            return Err(Box::new(self));
        };
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.stdout.extend_from_slice(&line);
        }
        if let Some(reader) = self.stderr_reader.take() {
            let _ = reader.join();
        }
        let events = self
            .stdout
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .filter(Value::is_object)
            .collect();
        Ok(Output {
            command: self.command.clone(),
            code: status.code(),
            stdout: std::mem::take(&mut self.stdout),
            stderr: self.stderr_text(),
            events,
        })
    }

    fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    fn shown(&self) -> String {
        show(&self.command, &self.stdout, &self.stderr_text())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where it has ended and was waited for, there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    /// Fails unless the exit code is this one.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code\n{self}");
        self
    }

    /// Fails unless it succeeded.
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Standard output as text, without the line's end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// The last event of this name.
    pub fn event(&self, name: &str) -> &Value {
        self.events
            .iter()
            .rfind(|event| event["event"] == name)
            .unwrap_or_else(|| panic!("there is no event {name:?}\n{self}"))
    }

    /// A number of an event.
    pub fn number(&self, event: &str, key: &str) -> u64 {
        self.event(event)[key].as_u64().unwrap_or_else(|| panic!("{event} has no number {key:?}\n{self}"))
    }

    /// Chunk payload that crossed the network for a transfer that succeeded.
    pub fn moved(&self) -> u64 {
        self.number("done", "moved_bytes")
    }

    /// Why it failed, in its own words.
    pub fn message(&self) -> String {
        let message = self.event("failed")["message"].as_str();
        message.unwrap_or_else(|| panic!("the failure has no message\n{self}")).to_owned()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&show(&self.command, &self.stdout, &self.stderr))
    }
}

/// A command and what it said; binary or endless output is cut.
fn show(command: &str, stdout: &[u8], stderr: &str) -> String {
    const SHOWN: usize = 16 << 10;
    let tail = stdout.get(stdout.len().saturating_sub(SHOWN)..).unwrap_or_default();
    let mut text = format!("---- {command}\n");
    let _ = writeln!(text, "---- stdout ({} bytes)\n{}", stdout.len(), String::from_utf8_lossy(tail));
    let _ = writeln!(text, "---- stderr\n{stderr}----");
    text
}
