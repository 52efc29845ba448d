//! An ssh daemon of the benchmark's own, and clients that reach it.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddrV4,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command},
};

use crate::{Result, done, server::Server};

const PROGRAM: &str = "/usr/sbin/sshd";

/// An ssh daemon with keys of its own.
#[derive(Debug)]
pub(crate) struct Sshd {
    server: Server,
    options: Vec<String>,
    address: SocketAddrV4,
}

impl Sshd {
    /// Starts it at this address, by the command that `command` makes of the program's path. `None`, with a word on
    /// why, where there is none.
    pub(crate) fn start(
        room: &Path,
        address: SocketAddrV4,
        command: impl Fn(&str) -> Command,
        ready: impl Fn(&Child) -> bool,
    ) -> Result<Option<Self>> {
        if !Path::new(PROGRAM).exists() {
            println!("absent: sshd");
            return Ok(None);
        }
        let (host, user) = (room.join("host"), room.join("user"));
        for key in [&host, &user] {
            done(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key))?;
        }
        let allowed = room.join("allowed");
        fs::copy(user.with_extension("pub"), &allowed)?;
        fs::set_permissions(&allowed, fs::Permissions::from_mode(0o600))?;
        let setting = |name: &str, value: &str| [OsString::from("-o"), format!("{name}={value}").into()];
        let mut command = command(PROGRAM);
        command
            .args(["-D", "-f", "/dev/null", "-p", &address.port().to_string(), "-h"])
            .arg(&host)
            .args(setting("ListenAddress", &address.ip().to_string()))
            .args(setting("AuthorizedKeysFile", &allowed.to_string_lossy()))
            .args(setting("Subsystem", "sftp internal-sftp"))
            .args(setting("StrictModes", "no"))
            .args(setting("PidFile", "none"));
        let Some(server) = Server::start(&mut command, ready)? else {
            println!("sshd does not start (it may want the folder /run/sshd)");
            return Ok(None);
        };
        let options =
            ["-q", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
                .into_iter()
                // Nobody is there to answer.
                .chain(["-o", "BatchMode=yes"])
                .map(str::to_owned)
                .chain(["-i".to_owned(), user.to_string_lossy().into_owned()])
                .collect();
        Ok(Some(Self { server, options, address }))
    }

    /// The process that listens, whose children serve.
    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// What `scp` and `rsync` call the file.
    pub(crate) fn remote(&self, source: &Path) -> String {
        format!("{}:{}", self.address.ip(), source.display())
    }

    /// The arguments with which `scp` fetches the file; where to comes last.
    pub(crate) fn scp(&self, source: &Path) -> Vec<String> {
        let port = ["-P".to_owned(), self.address.port().to_string()];
        self.options.iter().cloned().chain(port).chain([self.remote(source)]).collect()
    }

    /// The arguments with which `qcp`, which lies at this path, fetches the file; where to comes last.
    pub(crate) fn qcp(&self, qcp: &Path, source: &Path) -> Vec<OsString> {
        let port = ["-p".to_owned(), self.address.port().to_string()];
        let ssh = self.options.iter().cloned().chain(port).map(|option| format!("-S={option}").into());
        let own = ["--quiet", "--ssh-config", "/dev/null", "--remote-qcp-binary"].map(OsString::from);
        own.into_iter().chain([qcp.into()]).chain(ssh).chain([self.remote(source).into()]).collect()
    }

    /// The `ssh` that reaches it, as `rsync -e` takes it.
    pub(crate) fn shell(&self) -> String {
        format!("ssh {} -p {}", self.options.join(" "), self.address.port())
    }
}
