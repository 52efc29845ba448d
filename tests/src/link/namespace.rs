//! A network namespace of this process's own, made with iproute2.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// Where iproute2 keeps the names.
const NAMES: &str = "/var/run/netns";

/// A network namespace. When this is dropped, whatever still runs in it is killed, and it goes.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one, with nothing but loopback. The name must be new too.
    pub fn new(name: &str) -> io::Result<Self> {
        ip(["netns", "add", name])?;
        let namespace = Self { name: name.to_owned() };
        namespace.ip(["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name of a process's namespace at one end of its link, and of the device inside.
    pub(super) fn name_of(process: u32, letter: char) -> String {
        format!("p2p-{process}-{letter}")
    }

    /// Removes what the link of a process that was killed has left behind, with everything that runs there.
    pub fn remove_left_by(process: u32) {
        for letter in ['a', 'b'] {
            let name = Self::name_of(process, letter);
            if Path::new(NAMES).join(&name).exists() {
                drop(Self { name });
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The words that start a program inside, when its own words follow. The program takes the place of the
    /// process that these words start.
    pub fn launcher(&self) -> [OsString; 4] {
        ["ip", "netns", "exec", &self.name].map(OsString::from)
    }

    /// A program that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let [ip, words @ ..] = self.launcher();
        let mut command = Command::new(ip);
        command.args(words).arg(program);
        command
    }

    /// Runs `ip` on the namespace.
    pub fn ip<'a>(&'a self, words: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        ip(["-n", &self.name].into_iter().chain(words))
    }

    /// Sets a variable of the kernel's network, such as `ipv4/tcp_no_metrics_save`.
    pub fn set(&self, variable: &str, value: &str) -> io::Result<()> {
        let mut shell = self.command("sh");
        run(shell.args(["-c", "echo \"$1\" > \"/proc/sys/net/$0\"", variable, value]))
    }

    /// The processes inside. All were started by whoever made the namespace, or by those.
    fn processes(&self) -> Vec<Pid> {
        let Ok(output) = Command::new("ip").args(["netns", "pids", &self.name]).output() else {
            return Vec::new();
        };
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for process in self.processes() {
            // It may have ended by itself.
            let _ = kill_process(process, Signal::KILL);
        }
        if let Err(error) = ip(["netns", "delete", &self.name]) {
            eprintln!("the network namespace {} is still there: {error}", self.name);
        }
    }
}

/// Runs iproute2.
pub(super) fn ip<'a>(words: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
    run(Command::new("ip").args(words))
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
