//! The ways that a file can go.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command},
    rc::Rc,
};

use p2p_tests::{Daemon, Pair, daemon::Place, data, words};

use super::Turn;
use crate::{
    Result, done,
    https::{ARIA2, Https},
    installed_at, is_installed,
    sendme::{self, Sendme},
    server::free_address,
    ssh::Sshd,
};

/// Those of p2p.
pub(super) const NAMES: [&str; 2] = ["p2p fetch", "p2p send"];

type Run = dyn Fn(&Path) -> Result<()>;

/// One way to move the file.
pub(super) struct Way {
    pub(super) name: &'static str,
    /// Before the clock runs.
    pub(super) prepare: Box<dyn Fn() -> Result<()>>,
    /// Leaves the copy at the path given.
    pub(super) run: Box<Run>,
    /// The processes that take part and stay.
    pub(super) servers: Vec<u32>,
    /// That of them which has children of its own.
    pub(super) forks: Option<u32>,
    pub(super) pair: Option<Rc<Pair>>,
    pub(super) turns: Vec<Turn>,
    pub(super) broken: bool,
}

impl Way {
    fn new(name: &'static str, run: impl Fn(&Path) -> Result<()> + 'static) -> Self {
        Self {
            name,
            prepare: Box::new(|| Ok(())),
            run: Box::new(run),
            servers: Vec::new(),
            forks: None,
            pair: None,
            turns: Vec::new(),
            broken: false,
        }
    }
}

/// Those that are possible here, p2p first, and the names of those that are not.
pub(super) struct Ways {
    pub(super) ways: Vec<Way>,
    pub(super) absent: Vec<&'static str>,
}

/// Starts all servers.
pub(super) fn all(room: &Path, source: &Path) -> Result<Ways> {
    let mut absent = Vec::new();
    let mut ways = Vec::from(p2p(room, source)?);
    ways.push(copy(source));
    let (over_https, not_installed) = over_https(room, source)?;
    ways.extend(over_https);
    absent.extend(not_installed);
    let (over_ssh, not_installed) = over_ssh(room, source)?;
    ways.extend(over_ssh);
    absent.extend(not_installed);
    match by_sendme(room, source)? {
        Some(sendme) => ways.push(sendme),
        None => absent.push(sendme::PROGRAM),
    }
    Ok(Ways { ways, absent })
}

/// By daemons that know the file and are connected, which a small file sees to before each turn.
fn p2p(room: &Path, source: &Path) -> Result<[Way; 2]> {
    let inbox = room.join("inbox");
    let b = Daemon::start_in("b", Place::new().inbox(&inbox));
    let pair = Rc::new(Pair::of(Daemon::start("a"), b));
    let small = room.join("small.bin");
    data::write_random(&small, 2, 1024);
    let share = |path: &Path| pair.a.cli().run(words!["share", path]).success().text();
    let (id, small_id) = (share(source), share(&small));
    let fetch = {
        let pair = pair.clone();
        move |id: &str, to: &Path| {
            done(&mut pair.b.cli().command(words!["fetch", id, "--from", pair.a.address(), "-o", to]))
        }
    };
    let send = {
        let pair = pair.clone();
        move |path: &Path, to: &Path| {
            done(&mut pair.a.cli().command(words!["send", path, "--to", pair.b.address()]))?;
            // What is known to be there is not moved again.
            Ok(fs::rename(inbox.join(path.file_name().ok_or("a file has a name")?), to)?)
        }
    };
    let warm_up = room.join("small-copy");
    let (prepare_fetch, prepare_send) = {
        let (fetch, send, again) = (fetch.clone(), send.clone(), warm_up.clone());
        let prepare_fetch = move || {
            fetch(&small_id, &warm_up)?;
            Ok(fs::remove_file(&warm_up)?)
        };
        let prepare_send = move || {
            send(&small, &again)?;
            Ok(fs::remove_file(&again)?)
        };
        (prepare_fetch, prepare_send)
    };
    let source = source.to_owned();
    let fetch = Way { prepare: Box::new(prepare_fetch), ..Way::new(NAMES[0], move |to| fetch(&id, to)) };
    let send = Way { prepare: Box::new(prepare_send), ..Way::new(NAMES[1], move |to| send(&source, to)) };
    let servers = vec![pair.a.pid(), pair.b.pid()];
    Ok([fetch, send].map(|way| Way { servers: servers.clone(), pair: Some(pair.clone()), ..way }))
}

fn copy(source: &Path) -> Way {
    let source = source.to_owned();
    let run = move |to: &Path| {
        done(Command::new("cp").arg("--reflink=never").arg(&source).arg(to))?;
        Ok(fs::File::open(to)?.sync_all()?)
    };
    Way::new("cp and sync", run)
}

/// curl and aria2, and the names of those that are not possible.
fn over_https(room: &Path, source: &Path) -> Result<(Vec<Way>, Vec<&'static str>)> {
    const NAMES: [&str; 2] = ["https", "aria2"];
    let address = free_address()?;
    let ready = |_: &Child| TcpStream::connect(address).is_ok();
    let Some(https) = Https::start(room, address, room, |program| Command::new(program), ready)? else {
        return Ok((Vec::new(), NAMES.into()));
    };
    let https = Rc::new(https);
    let name = source.file_name().ok_or("a file has a name")?.to_string_lossy().into_owned();
    let way = |name, run: Box<Run>| Way { servers: vec![https.pid()], ..Way::new(name, run) };
    let (alive, words) = (https.clone(), https.curl(&name));
    let curl = move |to: &Path| {
        let _alive = &alive;
        done(Command::new("curl").args(&words).arg(to))
    };
    let mut ways = vec![way(NAMES[0], Box::new(curl))];
    if !is_installed(ARIA2) {
        return Ok((ways, vec![NAMES[1]]));
    }
    let alive = https.clone();
    let aria2 = move |to: &Path| done(Command::new(ARIA2).args(alive.aria2(&name, to)?));
    ways.push(way(NAMES[1], Box::new(aria2)));
    Ok((ways, Vec::new()))
}

/// scp, rsync and qcp, and the names of those that are not possible.
fn over_ssh(room: &Path, source: &Path) -> Result<(Vec<Way>, Vec<&'static str>)> {
    const NAMES: [&str; 3] = ["scp", "rsync", "qcp"];
    let address = free_address()?;
    let ready = |_: &Child| TcpStream::connect(address).is_ok();
    let Some(sshd) = Sshd::start(room, address, |program| Command::new(program), ready)? else {
        return Ok((Vec::new(), NAMES.into()));
    };
    let sshd = Rc::new(sshd);
    let way = |name, run: Box<Run>| {
        let server = sshd.pid();
        Way { servers: vec![server], forks: Some(server), ..Way::new(name, run) }
    };
    let (alive, words) = (sshd.clone(), sshd.scp(source));
    let scp = move |to: &Path| {
        let _alive = &alive;
        done(Command::new("scp").args(&words).arg(to))
    };
    let (mut ways, mut absent) = (vec![way(NAMES[0], Box::new(scp))], Vec::new());
    if is_installed("rsync") {
        let (alive, shell, from) = (sshd.clone(), sshd.shell(), sshd.remote(source));
        let rsync = move |to: &Path| {
            let _alive = &alive;
            done(Command::new("rsync").args(["--whole-file", "-e", &shell, &from]).arg(to))
        };
        ways.push(way(NAMES[1], Box::new(rsync)));
    } else {
        absent.push(NAMES[1]);
    }
    // Its other half is started over ssh, where it is not looked for in the same folders.
    if let Some(program) = installed_at(NAMES[2]) {
        let (alive, words) = (sshd.clone(), sshd.qcp(&program, source));
        let qcp = move |to: &Path| {
            let _alive = &alive;
            done(Command::new(&program).args(&words).arg(to))
        };
        ways.push(way(NAMES[2], Box::new(qcp)));
    } else {
        absent.push(NAMES[2]);
    }
    Ok((ways, absent))
}

/// sendme, if it is possible.
fn by_sendme(room: &Path, source: &Path) -> Result<Option<Way>> {
    if !is_installed(sendme::PROGRAM) {
        return Ok(None);
    }
    let Some(provider) = Sendme::start(room, source)? else { return Ok(None) };
    let name = source.file_name().ok_or("a file has a name")?.to_owned();
    let folder = room.join("by-sendme");
    fs::create_dir(&folder)?;
    let servers = vec![provider.pid()];
    let run = move |to: &Path| {
        done(&mut provider.receive(&folder))?;
        Ok(fs::rename(folder.join(&name), to)?)
    };
    Ok(Some(Way { servers, ..Way::new(sendme::PROGRAM, run) }))
}
