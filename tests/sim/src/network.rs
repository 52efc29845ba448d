//! An internet in memory. Each direction between two hosts has weather of its own.
//!
//! ```text
//!  socket ─▶ cut? ─▶ too large? ─▶ queue for the link's rate ─▶ lost? ─▶ delay, jitter, reordering, duplicates ─▶ socket
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use p2p_daemon::Network;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use crate::{disk::SimDisk, trace::Trace};

/// Bytes that a socket holds for a program that does not read; more are lost.
const SOCKET_BUFFER: usize = 2 << 20;
/// Ports that sockets without a port of their own get.
const FIRST_FREE_PORT: u16 = 50_000;

/// What becomes of packets in one direction between two hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Weather {
    /// How long a packet takes at least.
    pub delay: Duration,
    /// How much longer it may take, without overtaking.
    pub jitter: Duration,
    /// The share of packets that are lost.
    pub loss: f64,
    /// The share of packets that come twice.
    pub twice: f64,
    /// The share of packets that take up to three times as long, and are overtaken.
    pub late: f64,
    /// Bytes a second, where that is limited.
    pub rate: Option<u64>,
    /// Bytes that wait for their turn where the rate is limited; more are lost.
    pub queue: u64,
    /// Longest payload; longer packets are lost.
    pub longest: usize,
}

impl Weather {
    /// A short and good way.
    pub fn fine() -> Self {
        Self {
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            loss: 0.0,
            twice: 0.0,
            late: 0.0,
            rate: None,
            queue: 1 << 20,
            longest: 1472,
        }
    }
}

/// Kills a host with a packet of the run.
#[derive(Debug)]
struct Trap {
    packet: u64,
    host: usize,
    disk: Arc<SimDisk>,
}

/// A packet on its way.
#[derive(Clone, Debug)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Mailbox {
    packets: VecDeque<Packet>,
    held: usize,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Way {
    weather: Weather,
    is_cut: bool,
    /// When the link has sent all that it was given, in nanoseconds.
    busy_until: u64,
    /// When the last packet arrives that did not take longer on purpose.
    last_arrival: u64,
}

#[derive(Debug)]
struct State {
    rng: StdRng,
    addresses: Vec<Ipv4Addr>,
    ways: BTreeMap<(usize, usize), Way>,
    on_the_way: BTreeMap<(u64, u64), Packet>,
    serial: u64,
    /// By host and port.
    sockets: BTreeMap<(usize, u16), Arc<Mutex<Mailbox>>>,
    packets: u64,
    /// The host that dies with this packet of the run, the first one being 0.
    trap: Option<Trap>,
    sprung: BTreeSet<usize>,
    /// Packets of the run that are lost on purpose.
    doomed: BTreeSet<u64>,
    trace: Trace,
}

/// Everything between the hosts. Clones are the same.
#[derive(Clone, Debug)]
pub struct Internet(Arc<Mutex<State>>);

impl Internet {
    /// An internet with a host at each of these addresses, between which the weather is fine.
    pub fn new(seed: u64, addresses: Vec<Ipv4Addr>) -> Self {
        let hosts = 0..addresses.len();
        let ways = hosts
            .clone()
            .flat_map(|from| hosts.clone().map(move |to| (from, to)))
            .filter(|(from, to)| from != to);
        let fine =
            |way| (way, Way { weather: Weather::fine(), is_cut: false, busy_until: 0, last_arrival: 0 });
        Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            ways: ways.map(fine).collect(),
            addresses,
            on_the_way: BTreeMap::new(),
            serial: 0,
            sockets: BTreeMap::new(),
            packets: 0,
            trap: None,
            sprung: BTreeSet::new(),
            doomed: BTreeSet::new(),
            trace: Trace::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has happened, with every packet.
    pub fn trace<T>(&self, with: impl FnOnce(&mut Trace) -> T) -> T {
        with(&mut self.lock().trace)
    }

    /// Changes the weather from one host to another.
    pub fn set_weather(&self, from: usize, to: usize, weather: Weather) {
        if let Some(way) = self.lock().ways.get_mut(&(from, to)) {
            way.weather = weather;
        }
    }

    /// Lets nothing through from one host to another, or lets it through again.
    pub fn cut(&self, from: usize, to: usize, is_cut: bool) {
        if let Some(way) = self.lock().ways.get_mut(&(from, to)) {
            way.is_cut = is_cut;
        }
    }

    /// Gives a host another address. What is on its way to the old one is lost.
    pub fn move_to(&self, host: usize, address: Ipv4Addr) {
        self.lock().addresses[host] = address;
    }

    /// Where a host is.
    pub fn address(&self, host: usize) -> Ipv4Addr {
        self.lock().addresses[host]
    }

    /// Packets that were sent so far.
    pub fn packets(&self) -> u64 {
        self.lock().packets
    }

    /// Lets a host die when this packet of the run is about to be sent, the first one being 0.
    pub fn kill_at_packet(&self, packet: u64, host: usize, disk: Arc<SimDisk>) {
        self.lock().trap = Some(Trap { packet, host, disk });
    }

    /// Whether a host died by [`Self::kill_at_packet`] since the last call.
    pub fn has_died(&self, host: usize) -> bool {
        self.lock().sprung.remove(&host)
    }

    /// Loses this packet of the run, the first one being 0.
    pub fn lose_packet(&self, packet: u64) {
        self.lock().doomed.insert(packet);
    }

    /// Whether all packets were lost that were to be.
    pub fn has_lost_them(&self) -> bool {
        self.lock().doomed.is_empty()
    }

    /// When the next packet arrives, in nanoseconds.
    pub fn next_arrival(&self) -> Option<u64> {
        self.lock().on_the_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// The shortest time that a packet takes between any two hosts.
    pub fn shortest(&self) -> Duration {
        self.lock().ways.values().map(|way| way.weather.delay).min().unwrap_or_default()
    }

    /// Hands over what has arrived by now.
    pub fn deliver(&self, now: u64) {
        let mut woken = Vec::new();
        let mut state = self.lock();
        while let Some(entry) = state.on_the_way.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let packet = entry.remove();
            let mailbox = state
                .host_at(packet.to.ip())
                .and_then(|host| state.sockets.get(&(host, packet.to.port())).cloned());
            let Some(mailbox) = mailbox else { continue };
            let mut mailbox = mailbox.lock().unwrap_or_else(PoisonError::into_inner);
            if mailbox.held + packet.bytes.len() <= SOCKET_BUFFER {
                mailbox.held += packet.bytes.len();
                mailbox.packets.push_back(packet);
                woken.extend(mailbox.waker.take());
            }
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// A host's end, for one life of it: `born` nanoseconds after the beginning, on the running run-time's clock.
    pub fn plug(&self, host: usize, disk: Arc<SimDisk>, born: u64) -> Arc<dyn Network> {
        // What an earlier life had open is closed.
        self.lock().sockets.retain(|(owner, _), _| *owner != host);
        Arc::new(Plug { internet: self.clone(), host, disk, born, epoch: Instant::now() })
    }

    /// Closes what a host has open.
    pub fn unplug(&self, host: usize) {
        self.lock().sockets.retain(|(owner, _), _| *owner != host);
    }
}

impl State {
    fn host_at(&self, ip: IpAddr) -> Option<usize> {
        self.addresses.iter().position(|address| IpAddr::V4(*address) == ip)
    }

    fn send(&mut self, now: u64, from: (usize, u16), to: SocketAddr, bytes: &[u8]) {
        let (host, port) = from;
        let number = self.packets;
        self.packets += 1;
        let fate = match self.fate(now, host, to, bytes) {
            _ if self.doomed.remove(&number) => Fate::Lost("on purpose"),
            fate => fate,
        };
        self.trace.note(now, format_args!("packet {number} {host}:{port} -> {to} {} {fate}", bytes.len()));
        let from = SocketAddr::new(self.addresses[host].into(), port);
        if let Fate::Arrives(times) = fate {
            for at in times.into_iter().flatten() {
                let packet = Packet { from, to, bytes: bytes.to_vec() };
                self.on_the_way.insert((at, self.serial), packet);
                self.serial += 1;
            }
        }
    }

    fn fate(&mut self, now: u64, from: usize, to: SocketAddr, bytes: &[u8]) -> Fate {
        let Some(target) = self.host_at(to.ip()) else { return Fate::Lost("nobody") };
        let State { ways, rng, .. } = self;
        let Some(way) = ways.get_mut(&(from, target)) else { return Fate::Lost("nobody") };
        let weather = &way.weather;
        // Drawn always, so that one fault more does not change what becomes of everything else.
        let (lost, twice, late) =
            (rng.random_bool(weather.loss), rng.random_bool(weather.twice), rng.random_bool(weather.late));
        let (drawn, more) = (rng.random::<f64>(), rng.random::<f64>());
        if way.is_cut {
            return Fate::Lost("cut");
        }
        if bytes.len() > weather.longest {
            return Fate::Lost("too long");
        }
        let mut leaves = now;
        if let Some(rate) = weather.rate {
            let begins = now.max(way.busy_until);
            if (begins - now).saturating_mul(rate) / 1_000_000_000 > weather.queue {
                return Fate::Lost("queue full");
            }
            leaves = begins + (bytes.len() as u64 + 28) * 1_000_000_000 / rate;
            way.busy_until = leaves;
        }
        if lost {
            return Fate::Lost("lost");
        }
        let delay = weather.delay.as_nanos() as u64;
        let usual = leaves + delay + (weather.jitter.as_nanos() as f64 * drawn) as u64;
        let arrives = if late {
            usual + (2.0 * delay as f64 * more) as u64
        } else {
            way.last_arrival = usual.max(way.last_arrival);
            way.last_arrival
        };
        Fate::Arrives([Some(arrives), twice.then_some(arrives + delay / 2)])
    }
}

enum Fate {
    Lost(&'static str),
    Arrives([Option<u64>; 2]),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => f.write_str(why),
            Self::Arrives(times) => {
                times.iter().flatten().try_for_each(|at| write!(f, "@{:.6} ", *at as f64 / 1e9))
            }
        }
    }
}

/// A host's network in one of its lives.
#[derive(Debug)]
struct Plug {
    internet: Internet,
    host: usize,
    disk: Arc<SimDisk>,
    born: u64,
    epoch: Instant,
}

impl Plug {
    fn open(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let mut state = self.internet.lock();
        let port = match address.port() {
            0 => (FIRST_FREE_PORT..).find(|port| !state.sockets.contains_key(&(self.host, *port))),
            port => Some(port),
        };
        let port = port.ok_or(io::ErrorKind::AddrInUse)?;
        if state.sockets.contains_key(&(self.host, port)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let mailbox = Arc::<Mutex<Mailbox>>::default();
        state.sockets.insert((self.host, port), mailbox.clone());
        Ok(Arc::new(Socket {
            internet: self.internet.clone(),
            disk: self.disk.clone(),
            host: self.host,
            local: SocketAddr::new(address.ip(), port),
            mailbox,
            born: self.born,
            epoch: self.epoch,
        }))
    }
}

impl Network for Plug {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.open(address)
    }

    fn bind_to_dial(&self) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))
    }

    fn check_route(&self, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Socket {
    internet: Internet,
    disk: Arc<SimDisk>,
    host: usize,
    local: SocketAddr,
    mailbox: Arc<Mutex<Mailbox>>,
    born: u64,
    epoch: Instant,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut state = self.internet.lock();
        let packets = state.packets;
        if let Some(Trap { host, disk, .. }) = state.trap.take_if(|trap| packets >= trap.packet) {
            disk.freeze_after(0);
            state.sprung.insert(host);
        }
        // The dead say nothing, though they may not know that they are.
        if self.disk.is_frozen() || state.sprung.contains(&self.host) {
            return Ok(());
        }
        let now = self.born + self.epoch.elapsed().as_nanos() as u64;
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for bytes in transmit.contents.chunks(size) {
            state.send(now, (self.host, self.local.port()), transmit.destination, bytes);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some(packet) = mailbox.packets.pop_front() else { break };
            mailbox.held -= packet.bytes.len();
            let len = packet.bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&packet.bytes[..len]);
            *meta = RecvMeta { addr: packet.from, len, stride: len, ecn: None, dst_ip: None };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        mailbox.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
