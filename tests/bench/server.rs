//! Servers, and clients that run for long, of the benchmark's own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    process::{Child, Command, Stdio},
};

use p2p_tests::until::until_true;

use crate::Result;

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server(Child);

impl Server {
    /// Starts a server and waits until it is ready. `None` where it ends before that.
    pub(crate) fn start(command: &mut Command, ready: impl Fn(&Child) -> bool) -> Result<Option<Self>> {
        Self::start_writing(command, Stdio::null(), ready)
    }

    /// The same, with what it says on standard output.
    pub(crate) fn start_writing(
        command: &mut Command,
        output: impl Into<Stdio>,
        ready: impl Fn(&Child) -> bool,
    ) -> Result<Option<Self>> {
        let child = command.stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).spawn()?;
        let (mut server, mut ended) = (Self(child), false);
        until_true("a server listens", || {
            ended = !server.is_running();
            ended || ready(&server.0)
        });
        Ok((!ended).then_some(server))
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address on loopback that nobody listens on.
pub(crate) fn free_address() -> Result<SocketAddrV4> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// Whether anybody listens here, in the network namespace of this process. Connecting would have to be done from
/// inside.
pub(crate) fn is_listened_to(inside: &Child, address: SocketAddrV4) -> bool {
    // As in `proc_pid_net(5)`: the address in the machine's byte order, and the state LISTEN.
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", inside.id())).unwrap_or_default();
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(&local) && words.nth(1) == Some("0A")
    })
}
