//! A throwaway daemon of the demo.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use p2p_protocol::{PeerId, control::Request};
use tokio::sync::oneshot;

use crate::{
    client::{Client, Events},
    context::Context,
    error::CliError,
    start::{LOG, tail},
};

/// A daemon says where it listens within this.
const READY_DEADLINE: Duration = Duration::from_secs(20);

/// A running daemon with a home of its own; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    home: PathBuf,
    /// Where it listens, as `127.0.0.1:port`.
    pub(crate) address: String,
    pub(crate) peer: PeerId,
}

impl Node {
    /// Starts a daemon in that home; port 0 takes a free one.
    pub(crate) async fn start(ctx: &Context, home: &Path, address: &str) -> Result<Self, CliError> {
        let program = ctx.program.display();
        let failed = |error: std::io::Error| {
            CliError::daemon(format!("cannot start {program}: {error}"))
                .hint("p2pd must lie beside p2p; install both in one folder")
        };
        std::fs::create_dir_all(home).map_err(failed)?;
        let log = OpenOptions::new().create(true).append(true).open(home.join(LOG)).map_err(failed)?;
        let mut command = Command::new(&ctx.program);
        // Settings of the user's own daemon are none of this one's business.
        for name in ["P2P_HOME", "P2P_LISTEN", "P2P_INBOX", "P2P_CONFIG", "P2P_LOG"] {
            command.env_remove(name);
        }
        command.arg("--home").arg(home).args(["--listen", address]).arg("--inbox").arg(home.join("inbox"));
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let child = spawned.map_err(failed)?;
        let mut node = Self { child, home: home.to_owned(), address: String::new(), peer: PeerId([0; 32]) };
        (node.address, node.peer) = node.ready().await?;
        Ok(node)
    }

    /// Waits for the line that says where it listens.
    async fn ready(&mut self) -> Result<(String, PeerId), CliError> {
        let Some(stdout) = self.child.stdout.take() else {
            return Err(self.silent());
        };
        let (sender, receiver) = oneshot::channel();
        // A thread of its own also reads on, so that the daemon never waits for its reader.
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let _ = sender.send(lines.by_ref().find_map(|line| listening(&line)));
            lines.for_each(drop);
        });
        match tokio::time::timeout(READY_DEADLINE, receiver).await {
            Ok(Ok(Some(ready))) => Ok(ready),
            _ => Err(self.silent()),
        }
    }

    fn silent(&self) -> CliError {
        let said = tail(&self.home.join(LOG), 0).unwrap_or_default();
        CliError::daemon(format!("a daemon of the demo did not start; it says:\n{said}"))
    }

    /// Asks it something.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Events, CliError> {
        Client::connect(&self.home).await?.ask(request).await
    }

    /// Has it do something.
    pub(crate) async fn ask_ok(&self, request: &Request) -> Result<(), CliError> {
        Client::connect(&self.home).await?.ask_ok(request).await
    }

    /// The end of its log, for a demo that failed.
    pub(crate) fn log(&self) -> String {
        tail(&self.home.join(LOG), 0).unwrap_or_default()
    }

    /// `kill -9`, and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `listening on 127.0.0.1:4419 as <peer-id>`.
fn listening(line: &str) -> Option<(String, PeerId)> {
    let (address, peer) = line.strip_prefix("listening on ")?.split_once(" as ")?;
    Some((address.to_owned(), peer.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_that_of_the_contract() {
        let peer = PeerId([9; 32]);
        assert_eq!(
            listening(&format!("listening on 127.0.0.1:4419 as {peer}")),
            Some(("127.0.0.1:4419".into(), peer))
        );
        assert_eq!(listening("listening on 127.0.0.1:4419 as someone"), None);
        assert_eq!(listening("something else"), None);
    }
}
