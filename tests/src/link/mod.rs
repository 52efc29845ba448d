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
            let device = format!("p2p-{process}-{letter}");
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
    ended: bool,
}

impl Direction {
    fn start(conditions: Conditions, from: Arc<Tun>, to: Arc<Tun>) -> Arc<Self> {
        let state = Mutex::new(State { link: Link::new(conditions), ended: false });
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
            self.state().link.offer(Instant::now(), &packet[..len]);
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
