//! One simulated machine: a disk that stays, and now and then a daemon that runs on it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use p2p_daemon::{Accept, Congestion, Hooks, Load, Node, Options, Pace, Surroundings, Workers};
use p2p_protocol::{
    PeerId,
    control::{Event, Request},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::JoinHandle,
    time::Instant,
};

use crate::{disk::SimDisk, network::Internet};

/// Where every daemon listens.
pub const PORT: u16 = 4419;
/// An Ed25519 key in PKCS #8, up to the key itself.
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A machine.
#[derive(Debug)]
pub struct Host {
    /// Its place among all of them.
    pub number: usize,
    /// What others call it.
    pub name: String,
    /// Its disk.
    pub disk: Arc<SimDisk>,
    internet: Internet,
    pace: Arc<Mutex<StdRng>>,
    alive: Option<Life>,
    /// Who it is, once it has run.
    pub peer: Option<PeerId>,
}

#[derive(Debug)]
struct Life {
    // Dropped first: tasks of a daemon that was killed end before the daemon itself is let go of.
    runtime: Runtime,
    node: Arc<Node>,
    stopping: Option<JoinHandle<()>>,
    epoch: Instant,
    /// When it began, in nanoseconds of the world's time.
    born: u64,
}

impl Host {
    /// A machine that was just set up, with a key that follows from the seed.
    pub fn new(number: usize, seed: u64, internet: Internet) -> Self {
        let disk = Arc::new(SimDisk::new(seed));
        let mut rng = StdRng::seed_from_u64(seed);
        let host = Self {
            number,
            name: format!("host{number}"),
            disk,
            internet,
            pace: Arc::new(Mutex::new(StdRng::seed_from_u64(rng.random()))),
            alive: None,
            peer: None,
        };
        let key: [u8; 32] = rng.random();
        for folder in [host.home(), host.inbox(), host.sources()] {
            std::fs::create_dir(&folder).unwrap();
            set_mode(&folder, 0o700);
        }
        let file = host.home().join("identity.pem");
        let text = data_encoding::BASE64.encode(&[&PKCS8[..], &key].concat());
        std::fs::write(&file, format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
            .unwrap();
        set_mode(&file, 0o600);
        host
    }

    /// The daemon's state folder.
    pub fn home(&self) -> PathBuf {
        self.disk.root().join("home")
    }

    /// Where received files land.
    pub fn inbox(&self) -> PathBuf {
        self.disk.root().join("inbox")
    }

    /// Where the files lie that are sent and shared.
    pub fn sources(&self) -> PathBuf {
        self.disk.root().join("sources")
    }

    /// Where others reach it.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.internet.address(self.number).into(), PORT)
    }

    /// Whether a daemon runs.
    pub fn is_up(&self) -> bool {
        self.alive.is_some()
    }

    /// Starts a daemon at this time.
    ///
    /// # Errors
    /// It did not start, in words.
    pub fn start(&mut self, now: u64) -> Result<(), String> {
        assert!(self.alive.is_none(), "{} runs already", self.name);
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let around = || Surroundings {
            disk: self.disk.clone(),
            network: self.internet.plug(self.number, self.disk.clone(), now),
            workers: Workers::Inline(self.pace()),
        };
        let options = Options {
            home: self.home(),
            listen: vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT)],
            inbox: self.inbox(),
            congestion: Congestion::default(),
            accept: Accept::default(),
            load: Load::default(),
            hooks: Hooks::default(),
        };
        let (started, epoch) = runtime.block_on(async { (Node::start(&options, around()), Instant::now()) });
        match started {
            Ok(node) => {
                self.peer = Some(node.peer_id());
                self.alive = Some(Life { runtime, node: Arc::new(node), stopping: None, epoch, born: now });
                Ok(())
            }
            Err(error) => {
                self.internet.unplug(self.number);
                Err(error.to_string())
            }
        }
    }

    /// How long work takes: what the disk says, and a moment that is drawn, so that things happen in another order with
    /// another seed.
    fn pace(&self) -> Pace {
        let (rng, disk) = (self.pace.clone(), self.disk.clone());
        Arc::new(move || {
            let mut rng = rng.lock().unwrap_or_else(PoisonError::into_inner);
            let pause = if rng.random_bool(0.2) { rng.random_range(0..4) } else { 0 };
            disk.take_delay() + Duration::from_millis(pause)
        })
    }

    /// Lets the daemon run until this time. False if it has died on the way.
    pub fn run_until(&mut self, now: u64) -> bool {
        let Some(life) = &self.alive else { return true };
        let until = life.epoch + Duration::from_nanos(now - life.born);
        life.runtime.block_on(async { tokio::time::sleep_until(until).await });
        if self.disk.is_frozen() || self.internet.has_died(self.number) {
            return false;
        }
        if life.stopping.as_ref().is_some_and(JoinHandle::is_finished) {
            self.internet.unplug(self.number);
            self.alive = None;
        }
        true
    }

    /// Asks the daemon for something. `None` if none runs.
    pub fn ask(&self, request: Request) -> Option<mpsc::Receiver<Event>> {
        let life = self.alive.as_ref()?;
        let _within = life.runtime.enter();
        Some(life.node.ask(request))
    }

    /// Tells the daemon to stop. It has when it is no longer up.
    pub fn stop(&mut self) {
        let Some(life) = &mut self.alive else { return };
        if life.stopping.is_none() {
            let node = life.node.clone();
            life.stopping = Some(life.runtime.spawn(async move { node.stop().await }));
        }
    }

    /// Kills the daemon: nothing that it does from here on has an effect. What the disk has cached stays.
    pub fn kill(&mut self) {
        if self.alive.is_some() {
            self.disk.freeze_after(0);
            self.internet.unplug(self.number);
            self.alive = None;
        }
        self.internet.has_died(self.number);
        self.disk.thaw();
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
