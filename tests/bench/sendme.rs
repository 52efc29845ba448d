//! sendme, without relays: a provider of one file, and the client that fetches it.

use std::{fs, fs::File, path::Path, process::Command};

use crate::{Result, server::Server};

/// The program, which is both.
pub(crate) const PROGRAM: &str = "sendme";

/// Without anybody else's servers.
const ALONE: [&str; 3] = ["--no-progress", "--relay", "disabled"];

/// A sendme that provides one file.
#[derive(Debug)]
pub(crate) struct Sendme {
    server: Server,
    ticket: String,
}

impl Sendme {
    /// Starts it, and waits until the file is imported. `None`, with a word on why, where it ends before that.
    pub(crate) fn start(room: &Path, source: &Path) -> Result<Option<Self>> {
        let said = room.join("sendme.txt");
        let mut command = Command::new(PROGRAM);
        // Its own store lies where it is started.
        command.current_dir(room).arg("send").args(ALONE).args(["--ticket-type", "addresses"]);
        command.args(["--magic-ipv4-addr", "127.0.0.1:0"]).arg(source);
        let ticket = || ticket(&fs::read_to_string(&said).unwrap_or_default());
        let server = Server::start_writing(&mut command, File::create(&said)?, |_| ticket().is_some())?;
        let (Some(server), Some(ticket)) = (server, ticket()) else {
            println!("sendme does not start");
            return Ok(None);
        };
        Ok(Some(Self { server, ticket }))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The command that fetches the file into a folder, under its own name.
    pub(crate) fn receive(&self, folder: &Path) -> Command {
        let mut command = Command::new(PROGRAM);
        command.current_dir(folder).arg("receive").args(ALONE).arg(&self.ticket);
        command
    }
}

/// What follows `sendme receive` in what it says.
fn ticket(said: &str) -> Option<String> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix("sendme receive "))?;
    Some(line.to_owned())
}
