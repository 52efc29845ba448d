//! What else moves files, as far as it is installed: HTTPS by nginx and curl or aria2, bare TCP by iperf3, scp, rsync.

use std::{
    fs,
    net::SocketAddrV4,
    path::Path,
    process::{Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use p2p_tests::{daemon::wait_timeout, link::Namespace};
use serde_json::Value;

use super::{LIMIT, Row, Scene};
use crate::{
    Result,
    https::{ARIA2, Https},
    is_installed,
    server::{Server, is_listened_to},
    ssh::Sshd,
};

const HTTPS: u16 = 8443;
const IPERF: u16 = 5201;
const SSH: u16 = 2222;

type Run<'a> = dyn FnMut(&Path) -> Result<Option<Duration>> + 'a;

/// Another way to move the file.
pub(super) struct Other<'a> {
    pub(super) row: Row,
    pub(super) run: Box<Run<'a>>,
}

/// Those that are installed here, with their servers running.
pub(super) fn installed<'a>(scene: &'a Scene, source: &'a Path) -> Result<Vec<Other<'a>>> {
    let mut ways = over_https(scene, source)?;
    ways.extend(iperf3(scene));
    ways.extend(over_ssh(scene, source)?);
    Ok(ways)
}

fn other<'a>(name: &'static str, run: impl FnMut(&Path) -> Result<Option<Duration>> + 'a) -> Other<'a> {
    Other { row: Row::new(name), run: Box::new(run) }
}

fn at(scene: &Scene, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(scene.link.address_a(), port)
}

fn over_https<'a>(scene: &'a Scene, source: &Path) -> Result<Vec<Other<'a>>> {
    let address = at(scene, HTTPS);
    let served = source.parent().ok_or("a file lies in a folder")?;
    let name = source.file_name().ok_or("a file has a name")?.to_string_lossy().into_owned();
    let https = Https::start(
        scene.room.path(),
        address,
        served,
        |program| scene.link.a.command(program),
        |child| is_listened_to(child, address),
    )?;
    let Some(https) = https.map(Rc::new) else { return Ok(Vec::new()) };
    let (again, words) = (https.clone(), https.curl(&name));
    let mut ways = vec![other("https (curl)", move |to| {
        let _alive = &again;
        let mut curl = scene.link.b.command("curl");
        curl.args(&words).arg(to);
        Ok(within_limit(&mut curl)?.map(|(took, _)| took))
    })];
    if !is_installed(ARIA2) {
        println!("absent: {ARIA2}");
        return Ok(ways);
    }
    ways.push(other("https (aria2 ×8)", move |to| {
        let mut aria2 = scene.link.b.command(ARIA2);
        aria2.args(https.aria2(&name, to)?);
        Ok(within_limit(&mut aria2)?.map(|(took, _)| took))
    }));
    Ok(ways)
}

/// How fast TCP is, without files or encryption. It reports the throughput that its receiver saw, which the time
/// follows from.
fn iperf3(scene: &Scene) -> Option<Other<'_>> {
    if !is_installed("iperf3") {
        println!("absent: iperf3");
        return None;
    }
    let address = at(scene, IPERF);
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    Some(other("tcp (iperf3)", move |_| {
        // A server whose client was killed takes its time to notice, so that each turn has its own.
        let mut server = scene.link.a.command("iperf3");
        server.args(["-s", "-B", &host, "-p", &port]);
        let Some(_server) = Server::start(&mut server, |child| is_listened_to(child, address))? else {
            return Err("its server does not start".into());
        };
        let mut client = scene.link.b.command("iperf3");
        client.args(["-c", &host, "-p", &port, "-R", "-C", "cubic", "-J", "-n", &scene.bytes.to_string()]);
        let Some((_, said)) = within_limit(&mut client)? else { return Ok(None) };
        let said: Value = serde_json::from_str(&said)?;
        let rate = said["end"]["sum_received"]["bits_per_second"].as_f64();
        let rate = rate.filter(|rate| *rate > 0.0).ok_or("it reports no throughput")?;
        Ok(Some(Duration::from_secs_f64(scene.bytes as f64 * 8.0 / rate)))
    }))
}

fn over_ssh<'a>(scene: &'a Scene, source: &'a Path) -> Result<Vec<Other<'a>>> {
    let (end, address): (&Namespace, _) = (&scene.link.a, at(scene, SSH));
    let sshd = Sshd::start(
        scene.room.path(),
        address,
        |program| end.command(program),
        |child| is_listened_to(child, address),
    )?;
    let Some(sshd) = sshd.map(Rc::new) else { return Ok(Vec::new()) };
    let again = sshd.clone();
    let mut ways = vec![other("scp", move |to| {
        let mut scp = scene.link.b.command("scp");
        scp.args(again.scp(source)).arg(to);
        Ok(within_limit(&mut scp)?.map(|(took, _)| took))
    })];
    if !is_installed("rsync") {
        println!("absent: rsync");
        return Ok(ways);
    }
    ways.push(other("rsync", move |to| {
        let mut rsync = scene.link.b.command("rsync");
        rsync.args(["--whole-file", "-e", &sshd.shell(), &sshd.remote(source)]).arg(to);
        Ok(within_limit(&mut rsync)?.map(|(took, _)| took))
    }));
    Ok(ways)
}

/// Runs a command that is to succeed: how long it took and what it said, or nothing where it had to be ended.
fn within_limit(command: &mut Command) -> Result<Option<(Duration, String)>> {
    // Into files, as a pipe that nobody empties would stop it.
    let (stdout, stderr) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(stdout.reopen()?).stderr(stderr.reopen()?).spawn()?;
    let Some(status) = wait_timeout(&mut child, LIMIT) else {
        child.kill()?;
        child.wait()?;
        return Ok(None);
    };
    let (took, said) = (begun.elapsed(), fs::read_to_string(stdout.path())?);
    if !status.success() {
        return Err(format!("{}{said}", fs::read_to_string(stderr.path())?).into());
    }
    Ok(Some((took, said)))
}
