//! A long link in user space: two network namespaces, a TUN device in each, and threads that carry packets from one
//! to the other as slowly and as unreliably as asked for. It needs root and nothing of the kernel but TUN.
//!
//! ```text
//!   namespace a                       this process                       namespace b
//!   10.99.0.1 ── TUN ──▶ reader ──▶ Link (forward)  ──▶ writer ──▶ TUN ── 10.99.0.2
//!                 └──◀ writer ◀── Link (backward) ◀── reader ◀──────┘
//! ```

mod model;
mod namespace;
mod tun;

use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

pub use model::{Conditions, Counters, Link, Tally};
pub use namespace::Namespace;
pub use tun::Tun;

/// The largest IP packet, as on nearly every long path.
pub const MTU: u32 = 1500;

/// Packets that the kernel holds until a reader comes to them. Far more than come while one is not running, as the
/// only queue is to be the modelled one.
const BACKLOG: u32 = 10_000;

/// A writer that has slept sleeps at least this long, so that it wakes for several packets at once.
const GRAIN: Duration = Duration::from_micros(200);

/// The addresses of `a` and `b`.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2)];

/// How a direction is at a moment.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// Bytes sent so far, whether they arrive or not.
    pub sent: u64,
    /// How long a packet would have to wait before it is sent.
    pub wait: Duration,
    /// The counters, which go on.
    pub counters: Counters,
    /// Bytes accepted so far, by the port that they come from.
    pub by_port: BTreeMap<u16, u64>,
}

/// Two namespaces with a link between them. All of it goes when this is dropped.
#[derive(Debug)]
pub struct LongLink {
    /// One end.
    pub a: Namespace,
    /// The other.
    pub b: Namespace,
    forward: Arc<Direction>,
    backward: Arc<Direction>,
}

impl LongLink {
    /// Why there can be no such link here, if so.
    pub fn obstacle() -> Option<&'static str> {
        if !rustix::process::geteuid().is_root() {
            Some("it needs root, for network namespaces")
        } else if !Tun::is_supported() {
            Some("there is no /dev/net/tun")
        } else if namespace::ip(["netns", "list"]).is_err() {
            Some("it needs iproute2, for network namespaces")
        } else {
            None
        }
    }

    /// A new link, whose namespaces are named after this process.
    pub fn new(forward: Conditions, backward: Conditions) -> io::Result<Self> {
        let process = std::process::id();
        let end = |letter: char, own: Ipv4Addr, other: Ipv4Addr| -> io::Result<(Namespace, Arc<Tun>)> {
            // The device is called as its namespace is, since it begins outside.
            let device = Namespace::name_of(process, letter);
            let namespace = Namespace::new(&device)?;
            // Its file stays with this process when the device moves.
            let tun = Tun::new(&device)?;
            namespace::ip(["link", "set", &device, "netns", namespace.name()])?;
            let (own, other, backlog, mtu) =
                (own.to_string(), other.to_string(), BACKLOG.to_string(), MTU.to_string());
            namespace.ip(["address", "add", &own, "peer", &other, "dev", &device])?;
            namespace.ip(["link", "set", &device, "mtu", &mtu, "txqueuelen", &backlog, "up"])?;
            Ok((namespace, Arc::new(tun)))
        };
        let ((a, tun_a), (b, tun_b)) =
            (end('a', ADDRESSES[0], ADDRESSES[1])?, end('b', ADDRESSES[1], ADDRESSES[0])?);
        Ok(Self {
            a,
            b,
            forward: Direction::start(forward, tun_a.clone(), tun_b.clone()),
            backward: Direction::start(backward, tun_b, tun_a),
        })
    }

    /// Sets the congestion control of TCP over the link. By way of the route, since a namespace's default may only be
    /// one that the whole machine allows to everybody.
    pub fn set_congestion_control(&self, name: &str) -> io::Result<()> {
        for (end, own, other) in
            [(&self.a, self.address_a(), self.address_b()), (&self.b, self.address_b(), self.address_a())]
        {
            let (own, other) = (own.to_string(), other.to_string());
            end.ip(["route", "replace", &other, "dev", end.name(), "src", &own, "congctl", name])?;
        }
        Ok(())
    }

    /// The address of `a`.
    pub fn address_a(&self) -> Ipv4Addr {
        ADDRESSES[0]
    }

    /// The address of `b`.
    pub fn address_b(&self) -> Ipv4Addr {
        ADDRESSES[1]
    }

    /// What happened from `a` to `b`, and from `b` to `a`, since this was last asked.
    pub fn take_counters(&self) -> (Counters, Counters) {
        (self.forward.state().link.take_counters(), self.backward.state().link.take_counters())
    }

    /// How the way from `a` to `b` is now. Nothing of it is right once the counters were taken.
    pub fn forward_now(&self) -> Moment {
        let state = self.forward.state();
        let (now, counters) = (Instant::now(), state.link.counters());
        Moment {
            sent: counters.carried.bytes.saturating_sub(state.link.bytes_waiting(now)),
            wait: state.link.wait(now),
            counters,
            by_port: state.by_port.clone(),
        }
    }

    /// Makes it another link from now on; see [`Link::change`].
    pub fn change(&self, forward: Conditions, backward: Conditions) {
        self.forward.state().link.change(Instant::now(), forward);
        self.backward.state().link.change(Instant::now(), backward);
    }

    /// Waits until nothing has been offered to the link for this long, or not much longer than that.
    pub fn wait_until_quiet(&self, quiet: Duration) {
        const TRIES: u32 = 20;
        let carried =
            || [&self.forward, &self.backward].map(|direction| direction.state().link.counters().carried);
        for _ in 0..TRIES {
            let before = carried();
            thread::sleep(quiet);
            if carried() == before {
                return;
            }
        }
    }
}

/// One direction, between its threads. They end with the device that is read from.
#[derive(Debug)]
struct Direction {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    link: Link,
    /// Bytes accepted, by the port that they come from.
    by_port: BTreeMap<u16, u64>,
    ended: bool,
}

impl State {
    fn offer(&mut self, packet: &[u8]) {
        if self.link.offer(Instant::now(), packet)
            && let Some(port) = source_port(packet)
        {
            *self.by_port.entry(port).or_default() += packet.len() as u64;
        }
    }
}

/// The port that a packet comes from, if it is one of TCP or UDP over IPv4.
fn source_port(packet: &[u8]) -> Option<u16> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let (first, protocol) = (packet.first()?, packet.get(9)?);
    if first >> 4 != 4 || ![TCP, UDP].contains(protocol) {
        return None;
    }
    // The length of the header, in words of four bytes.
    let begin = usize::from(first & 0x0f) * 4;
    Some(u16::from_be_bytes([*packet.get(begin)?, *packet.get(begin + 1)?]))
}

impl Direction {
    fn start(conditions: Conditions, from: Arc<Tun>, to: Arc<Tun>) -> Arc<Self> {
        let state = Mutex::new(State { link: Link::new(conditions), by_port: BTreeMap::new(), ended: false });
        let direction = Arc::new(Self { state, changed: Condvar::new() });
        let (reading, writing) = (direction.clone(), direction.clone());
        thread::spawn(move || {
            hurry();
            reading.read(&from);
        });
        thread::spawn(move || {
            hurry();
            writing.write(&to);
        });
        direction
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of a link panics")
    }

    fn read(&self, from: &Tun) {
        let mut packet = vec![0; MTU as usize];
        while let Ok(len) = from.read(&mut packet) {
            self.state().offer(&packet[..len]);
            self.changed.notify_one();
        }
        self.state().ended = true;
        self.changed.notify_one();
    }

    fn write(&self, to: &Tun) {
        while let Some(due) = self.wait_for_packet() {
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                // What is offered meanwhile arrives later than this.
                thread::sleep(left.max(GRAIN));
            }
            let arrived: Vec<_> = self.state().link.take_due(Instant::now()).collect();
            for packet in arrived {
                // A device that takes no packet is going away, and so are its readers.
                let _ = to.write(&packet);
            }
        }
    }

    /// When the next packet arrives; it is waited for where none is under way. `None` at the end.
    fn wait_for_packet(&self) -> Option<Instant> {
        let idle = |state: &mut State| !state.ended && state.link.next_due().is_none();
        let state = self.changed.wait_while(self.state(), idle).expect("no thread of a link panics");
        if state.ended { None } else { state.link.next_due() }
    }
}

/// Puts this thread before the programs that are measured, which keep the processors busy: a late packet would look
/// like a longer link.
fn hurry() {
    // On Linux, this sets the priority of the calling thread alone. It is not vital.
    let _ = rustix::process::setpriority_process(None, -20);
}

#[cfg(test)]
mod tests {
    use super::source_port;

    #[test]
    fn a_packet_tells_the_port_that_it_comes_from() {
        let mut packet = vec![0; 28];
        (packet[0], packet[9]) = (0x45, 17);
        packet[20..24].copy_from_slice(&[0x11, 0x43, 0, 80]);
        assert_eq!(source_port(&packet), Some(4419));
        packet[9] = 6;
        assert_eq!(source_port(&packet), Some(4419));
        // ICMP has none.
        packet[9] = 1;
        assert_eq!(source_port(&packet), None);
        // Options come before it.
        (packet[0], packet[9]) = (0x46, 17);
        packet[24..26].copy_from_slice(&[0, 53]);
        assert_eq!(source_port(&packet), Some(53));
        assert_eq!(source_port(&packet[..24]), None);
        assert_eq!(source_port(&[]), None);
        // IPv6.
        packet[0] = 0x60;
        assert_eq!(source_port(&packet), None);
    }
}
