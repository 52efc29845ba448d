//! A real daemon in a home of its own.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Cli, binaries, data,
    until::{PATIENCE, until},
};

/// A daemon says where it listens, or ends, within this.
const READY: Duration = Duration::from_secs(30);

/// A running daemon. It is killed when this is dropped, and its log is shown if the test is failing.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    place: Place,
    child: Option<Child>,
    address: String,
    peer: String,
}

/// The folders of a daemon, whether it runs or not.
#[derive(Clone, Debug)]
pub struct Place {
    root: Arc<TempDir>,
    home: PathBuf,
    inbox: PathBuf,
    listen: Vec<String>,
    more: Vec<String>,
    env: Vec<(String, OsString)>,
    filter: String,
    launcher: Vec<OsString>,
}

impl Place {
    /// New folders, with loopback and a free port to listen on.
    pub fn new() -> Self {
        Self::below(&tempfile::env::temp_dir())
    }

    /// The same, in a new folder in this one.
    pub fn below(folder: &Path) -> Self {
        let root = TempDir::with_prefix_in("p2p-", folder).expect("a temporary folder");
        let (home, inbox) = (root.path().join("home"), root.path().join("inbox"));
        for folder in ["run", "files"] {
            fs::DirBuilder::new().mode(0o700).create(root.path().join(folder)).expect("a temporary folder");
        }
        let listen = vec!["127.0.0.1:0".into()];
        Self {
            root: Arc::new(root),
            home,
            inbox,
            listen,
            more: Vec::new(),
            env: Vec::new(),
            filter: "info,p2p_daemon=debug".to_owned(),
            launcher: Vec::new(),
        }
    }

    /// Another home, inside the same root.
    pub fn home(mut self, home: impl AsRef<Path>) -> Self {
        self.home = self.root.path().join(home);
        self
    }

    /// Another inbox, which need not be inside the root.
    pub fn inbox(mut self, inbox: impl Into<PathBuf>) -> Self {
        self.inbox = inbox.into();
        self
    }

    /// Another address to listen on.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = vec![address.into()];
        self
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.more.push(arg.into());
        self
    }

    /// Another filter of its log.
    pub fn log_filter(mut self, filter: &str) -> Self {
        filter.clone_into(&mut self.filter);
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// What its config file says.
    pub fn config(self, text: &str) -> Self {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.home).expect("a home");
        fs::write(self.home.join("config.toml"), text).expect("a config file");
        self
    }

    /// Words that the daemon's own follow, such as those that start it in a network namespace. The command line
    /// needs none: it reaches its daemon through a file.
    pub fn launched_by(mut self, launcher: impl IntoIterator<Item = OsString>) -> Self {
        self.launcher = launcher.into_iter().collect();
        self
    }

    /// The folder that everything of this daemon lies in.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The state folder.
    pub fn home_path(&self) -> &Path {
        &self.home
    }

    /// Where received files land.
    pub fn inbox_path(&self) -> &Path {
        &self.inbox
    }

    /// The command line for this home.
    pub fn cli(&self) -> Cli {
        Cli::new(self.root.path(), &self.home)
    }

    /// The log, which goes on over restarts.
    pub fn log_path(&self) -> PathBuf {
        self.root.path().join("p2pd.stderr")
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The daemon's command, not yet running.
    pub fn command(&self) -> Command {
        let mut words = self.launcher.iter().cloned().chain([binaries::p2pd().into()]);
        let mut command = Command::new(words.next().expect("at least the daemon's own word"));
        command.args(words);
        command.arg("--home").arg(&self.home).arg("--inbox").arg(&self.inbox);
        for address in &self.listen {
            command.args(["--listen", address]);
        }
        command.args(["--log", &self.filter]).args(&self.more);
        isolate(&mut command, self.root.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a daemon that is to refuse, and returns its exit code and what it said.
    pub fn start_refused(&self) -> (Option<i32>, String) {
        let before = self.log().len();
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.open_log())
            .spawn()
            .expect("p2pd can be started");
        match wait_timeout(&mut child, READY) {
            Some(status) => (status.code(), self.log().get(before..).unwrap_or_default().to_owned()),
            None => {
                // Started after all: it must not outlive the test.
                let _ = child.kill();
                let _ = child.wait();
                panic!("a daemon that was to refuse its start runs; log:\n{}", self.log());
            }
        }
    }

    fn open_log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file")
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes away every setting that the tester's own environment makes, and puts all default folders below `root`.
pub(crate) fn isolate(command: &mut Command, root: &Path) {
    for name in
        ["P2P_HOME", "P2P_LISTEN", "P2P_INBOX", "P2P_CONFIG", "P2P_LOG", "P2P_TOKEN", "P2P_PASSPHRASE"]
    {
        command.env_remove(name);
    }
    for name in ["XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_DOWNLOAD_DIR"] {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG");
    // Those of a service manager that runs the tests.
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    // Who runs the tests may look at descriptors and memory, without being root.
    command.env("P2P_DEBUGGABLE", "1");
    command.env("HOME", root).env("XDG_RUNTIME_DIR", root.join("run")).env("NO_COLOR", "1");
}

impl Daemon {
    /// A daemon in a new place.
    pub fn start(name: &str) -> Self {
        Self::start_in(name, Place::new())
    }

    /// A daemon in this place.
    pub fn start_in(name: &str, place: Place) -> Self {
        let mut daemon =
            Self { name: name.to_owned(), place, child: None, address: String::new(), peer: String::new() };
        daemon.spawn();
        daemon
    }

    fn spawn(&mut self) {
        let mut child = self.child();
        let stdout = child.stdout.take().expect("it is piped");
        self.child = Some(child);
        let (sender, lines) = mpsc::channel();
        // On a thread of its own, which also reads on, so that the daemon never waits for its reader.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let line = lines.recv_timeout(READY).unwrap_or_else(|_| {
            panic!("daemon {} did not say that it is ready; log:\n{}", self.name, self.log())
        });
        let parsed = line.strip_prefix("listening on ").and_then(|rest| rest.split_once(" as "));
        let (address, peer) =
            parsed.unwrap_or_else(|| panic!("not the ready line of the contract: {line:?}"));
        (self.address, self.peer) = (address.to_owned(), peer.to_owned());
    }

    fn child(&self) -> Child {
        self.place
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.place.open_log())
            .spawn()
            .expect("p2pd can be started")
    }

    /// Where it listens, as `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address has a port")
    }

    /// Its Peer ID.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Its folders.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its inbox.
    pub fn inbox(&self) -> &Path {
        &self.place.inbox
    }

    /// A path for a file of this daemon's user.
    pub fn file(&self, name: &str) -> PathBuf {
        self.place.root.path().join("files").join(name)
    }

    /// A new file of random content.
    pub fn new_file(&self, name: &str, seed: u64, len: u64) -> PathBuf {
        let path = self.file(name);
        data::write_random(&path, seed, len);
        path
    }

    /// The command line for this daemon.
    pub fn cli(&self) -> Cli {
        self.place.cli()
    }

    /// What it has logged, over all restarts.
    pub fn log(&self) -> String {
        self.place.log()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("the daemon runs")
    }

    /// The most memory that it has had since its start, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that it has now, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Descriptors that it has open.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        fs::read_dir(folder).expect("who runs the tests may look at the daemon's descriptors").count()
    }

    fn memory(&self, field: &str) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process has a status");
        let line =
            status.lines().find_map(|line| line.strip_prefix(field)).expect("the kernel counts memory");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        kib << 10
    }

    /// Limits it from now on, as `setrlimit(2)` does; `None` takes the limit away. What the limit was at the start it
    /// is allowed to be again.
    pub fn limit(&self, what: Resource, at_most: Option<u64>) {
        let pid = self.process();
        let maximum = getrlimit(what).maximum;
        let current = at_most.or(maximum);
        // Only the limit that a process may raise again by itself.
        prlimit(Some(pid), what, Rlimit { current, maximum }).expect("a child can be limited");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).expect("a child that was not waited for can be signalled");
    }

    fn process(&self) -> Pid {
        i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process has a number")
    }

    /// Whether its process is there.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Trusts another daemon here, under its name.
    pub fn trust(&self, other: &Self) {
        self.cli().run(crate::words!["peers", "trust", other.peer(), "--name", other.name]).success();
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits until it is gone.
    pub fn sigterm(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon runs");
        terminate(&child);
        wait_timeout(&mut child, PATIENCE).unwrap_or_else(|| {
            let _ = child.kill();
            let _ = child.wait();
            panic!("daemon {} did not end after SIGTERM; log:\n{}", self.name, self.log())
        })
    }

    /// Starts it again, on the same home and port.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "daemon {} runs already", self.name);
        self.place.listen = vec![self.address.clone()];
        let peer = self.peer.clone();
        self.spawn();
        assert_eq!(self.peer, peer, "the identity survives a restart");
    }

    /// A new start, and `kill -9` this much later, wherever in its start it is then.
    pub fn start_and_kill9(&mut self, after: Duration) {
        assert!(self.child.is_none(), "daemon {} runs already", self.name);
        self.place.listen = vec![self.address.clone()];
        self.child = Some(self.child());
        std::thread::sleep(after);
        self.kill9();
    }

    /// Starts it again on the same home, at another port.
    pub fn start_elsewhere(&mut self) {
        let before = self.address.clone();
        self.address = "127.0.0.1:0".to_owned();
        self.start_again();
        assert_ne!(self.address, before);
    }

    /// `kill -9` and a new start.
    pub fn restart(&mut self) {
        self.kill9();
        self.start_again();
    }

    /// The transfers, as `p2p list --json` shows them.
    pub fn transfers(&self) -> Vec<Value> {
        self.cli().json(crate::words!["list"]).success().events
    }

    /// The peers, as `p2p peers --json` shows them.
    pub fn peers(&self) -> Vec<Value> {
        self.cli().json(crate::words!["peers"]).success().events
    }

    /// What this peer is here: `known`, `trusted` or `pending`, if anything.
    pub fn standing_of(&self, peer: &str) -> Option<String> {
        let peers = self.peers();
        let found = peers.iter().find(|line| line["peer"] == peer)?;
        found["standing"].as_str().map(str::to_owned)
    }

    /// The daemon's state, as `p2p status --json` shows it.
    pub fn status(&self) -> Value {
        self.cli().json(crate::words!["status"]).success().events.first().cloned().expect("status has a line")
    }

    /// Waits until no transfer is unfinished here, and returns them all.
    pub fn settled(&self) -> Vec<Value> {
        until("no transfer is unfinished", || {
            let transfers = self.transfers();
            let open = |line: &Value| matches!(line["state"].as_str(), Some("waiting" | "active"));
            (!transfers.iter().any(open)).then_some(transfers)
        })
    }

    /// Waits until the log says this.
    pub fn wait_for_log(&self, words: &str) {
        until(&format!("daemon {} logs {words:?}", self.name), || self.log().contains(words).then_some(()));
    }

    /// Files that were received and published.
    pub fn received(&self) -> Vec<PathBuf> {
        let partials = self.inbox().join(".p2p");
        data::files_below(self.inbox()).into_iter().filter(|path| !path.starts_with(&partials)).collect()
    }

    /// Files of transfers that are not finished.
    pub fn partials(&self) -> Vec<PathBuf> {
        data::files_below(&self.inbox().join(".p2p"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("---- log of daemon {} ({})\n{}----", self.name, self.peer, self.log());
        }
    }
}

/// Sends SIGTERM to a child.
pub fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
    kill_process(pid, Signal::TERM).expect("a child that was not waited for can be signalled");
}

/// Waits for a child to end; `None` when it has not after this long.
pub fn wait_timeout(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if begun.elapsed() > patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
