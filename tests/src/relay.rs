//! A network between two daemons: every datagram passes through this process, which can slow it down, hold it
//! back, bring it out of order, double it, lose it, damage it, swallow everything, or show another source address.
//!
//! Which datagrams are lost or damaged depends on a seed and their order alone.

use std::{
    collections::{HashMap, VecDeque},
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often a thread that waits for datagrams looks whether it is still needed.
const LOOK_UP: Duration = Duration::from_millis(50);
/// The longest datagram there is.
const DATAGRAM: usize = 65_536;

/// What the network is like, the same in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Bytes per second in each direction; 0 is no limit. What does not fit the queue is dropped, as a router does.
    pub rate: u64,
    /// How long each datagram takes.
    pub delay: Duration,
    /// Each datagram takes up to this much longer, so that some overtake others.
    pub jitter: Duration,
    /// Datagrams that are lost, of 1000.
    pub loss: u32,
    /// Datagrams that arrive twice, of 1000.
    pub duplicates: u32,
    /// Datagrams of which a bit is inverted, of 1000.
    pub damage: u32,
    /// The longest datagram that passes; 0 is no limit.
    pub largest: usize,
    /// Nothing passes.
    pub black_hole: bool,
    /// Nothing passes from the target to its clients.
    pub mute: bool,
}

/// Time that a datagram may wait in the queue of a link with a limited rate …
const QUEUE: Duration = Duration::from_millis(60);
/// … if that is more than it takes to send this many bytes.
const QUEUE_BYTES: f64 = 16_384.0;

/// A network between two daemons. Dial [`Relay::address`] instead of the daemon's.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    front: UdpSocket,
    target: SocketAddr,
    weather: Mutex<Weather>,
    /// One socket to the target for each client, as a home router has.
    flows: Mutex<HashMap<SocketAddr, Flow>>,
    /// Bytes that came out at either end.
    passed: AtomicU64,
    /// Whoever was told to end, ends.
    stop: AtomicBool,
}

#[derive(Clone, Debug)]
struct Flow {
    back: Arc<UdpSocket>,
    upward: Arc<Pipe>,
    downward: Arc<Pipe>,
    /// Set once another flow has taken this one's place.
    over: Arc<AtomicBool>,
}

/// One direction of a flow: a queue that lets datagrams out when their time has come.
#[derive(Debug)]
struct Pipe {
    state: Mutex<PipeState>,
    filled: Condvar,
}

#[derive(Debug)]
struct PipeState {
    queue: VecDeque<(Instant, Vec<u8>)>,
    /// When the link has sent all that was given to it.
    free_at: Instant,
    random: u64,
}

impl Relay {
    /// A network without faults, to the daemon at this address.
    pub fn to(target: &str) -> Self {
        let target: SocketAddr = target.parse().expect("a daemon's address");
        let front = socket();
        let address = front.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            front,
            target,
            weather: Mutex::default(),
            flows: Mutex::default(),
            passed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let listener = thread::spawn({
            let shared = shared.clone();
            move || shared.listen()
        });
        Self { address, shared, listener: Some(listener) }
    }

    /// The address to dial.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes the network from now on.
    pub fn set(&self, weather: Weather) {
        *lock(&self.shared.weather) = weather;
    }

    /// Limits the rate, in bytes per second in each direction; 0 is no limit.
    pub fn set_rate(&self, rate: u64) {
        lock(&self.shared.weather).rate = rate;
    }

    /// Bytes that have passed, both ways together.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Whether everything is swallowed.
    pub fn set_black_hole(&self, black_hole: bool) {
        lock(&self.shared.weather).black_hole = black_hole;
    }

    /// From now on the target sees every client at another address, as after a router's restart.
    pub fn change_address(&self) {
        for flow in lock(&self.shared.flows).drain() {
            flow.1.end();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.change_address();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn listen(self: &Arc<Self>) {
        let mut buffer = vec![0; DATAGRAM];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((len, client)) = self.front.recv_from(&mut buffer) else { continue };
            let flow = lock(&self.flows).entry(client).or_insert_with(|| self.open(client)).clone();
            flow.upward.push(&buffer[..len], &lock(&self.weather));
        }
    }

    /// A new flow: a socket that the target sees, and a thread for what comes back and for each queue's end.
    fn open(self: &Arc<Self>, client: SocketAddr) -> Flow {
        let back = socket();
        // Connected, so that nobody else's datagrams come in by this way.
        back.connect(self.target).expect("a loopback address can be connected to");
        let flow = Flow {
            back: Arc::new(back),
            upward: Arc::new(Pipe::new(1)),
            downward: Arc::new(Pipe::new(2)),
            over: Arc::new(AtomicBool::new(false)),
        };
        thread::spawn({
            let (shared, flow) = (self.clone(), flow.clone());
            move || {
                let mut buffer = vec![0; DATAGRAM];
                while !flow.over.load(Ordering::Relaxed) {
                    // A target that is down answers with an error, which a network would not pass on.
                    if let Ok(len) = flow.back.recv(&mut buffer) {
                        let mut weather = *lock(&shared.weather);
                        weather.black_hole |= weather.mute;
                        flow.downward.push(&buffer[..len], &weather);
                    }
                }
            }
        });
        thread::spawn({
            let (shared, flow) = (self.clone(), flow.clone());
            move || {
                while let Some(datagram) = flow.upward.pop(&flow.over) {
                    shared.passed.fetch_add(datagram.len() as u64, Ordering::Relaxed);
                    let _ = flow.back.send(&datagram);
                }
            }
        });
        thread::spawn({
            let (shared, flow) = (self.clone(), flow.clone());
            move || {
                while let Some(datagram) = flow.downward.pop(&flow.over) {
                    shared.passed.fetch_add(datagram.len() as u64, Ordering::Relaxed);
                    let _ = shared.front.send_to(&datagram, client);
                }
            }
        });
        flow
    }
}

impl Flow {
    fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.upward.filled.notify_all();
        self.downward.filled.notify_all();
    }
}

impl Pipe {
    fn new(seed: u64) -> Self {
        let state = PipeState { queue: VecDeque::new(), free_at: Instant::now(), random: seed };
        Self { state: Mutex::new(state), filled: Condvar::new() }
    }

    /// Takes a datagram in, or loses it.
    fn push(&self, datagram: &[u8], weather: &Weather) {
        if weather.black_hole || (weather.largest > 0 && datagram.len() > weather.largest) {
            return;
        }
        let mut state = lock(&self.state);
        let now = Instant::now();
        if state.chance(weather.loss) {
            return;
        }
        let mut datagram = datagram.to_vec();
        if state.chance(weather.damage) {
            let bit = state.next() as usize % (datagram.len() * 8).max(1);
            if let Some(byte) = datagram.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        let mut leaves = now;
        if weather.rate > 0 {
            let start = state.free_at.max(now);
            let takes = |bytes: f64| Duration::from_secs_f64(bytes / weather.rate as f64);
            if start - now > QUEUE.max(takes(QUEUE_BYTES)) {
                return;
            }
            leaves = start + takes(datagram.len() as f64);
            state.free_at = leaves;
        }
        let copies = 1 + usize::from(state.chance(weather.duplicates));
        for _ in 0..copies {
            let late = weather.jitter.mul_f64(state.next() as u32 as f64 / f64::from(u32::MAX));
            state.enqueue(leaves + weather.delay + late, datagram.clone());
        }
        drop(state);
        self.filled.notify_one();
    }

    /// The next datagram, once its time has come. `None` when the flow is over.
    fn pop(&self, over: &AtomicBool) -> Option<Vec<u8>> {
        let mut state = lock(&self.state);
        loop {
            if over.load(Ordering::Relaxed) {
                return None;
            }
            let now = Instant::now();
            let wait = match state.queue.front() {
                Some((due, _)) if *due <= now => {
                    return state.queue.pop_front().map(|(_, datagram)| datagram);
                }
                Some((due, _)) => *due - now,
                None => LOOK_UP,
            };
            let waited = self.filled.wait_timeout(state, wait.min(LOOK_UP));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl PipeState {
    /// Behind all that is due by then, which mostly is everything.
    fn enqueue(&mut self, due: Instant, datagram: Vec<u8>) {
        let later = self.queue.iter().rev().take_while(|(other, _)| *other > due).count();
        self.queue.insert(self.queue.len() - later, (due, datagram));
    }

    fn chance(&mut self, of_1000: u32) -> bool {
        of_1000 > 0 && self.next() % 1000 < u64::from(of_1000)
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    socket.set_read_timeout(Some(LOOK_UP)).expect("a timeout can be set");
    // So that bursts are dropped where the weather says so and nowhere else.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20);
    socket
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_comes_first() {
        let (pipe, now) = (Pipe::new(1), Instant::now());
        let mut state = lock(&pipe.state);
        for late in [2, 0, 3, 0, 1] {
            state.enqueue(now + Duration::from_secs(late), vec![late as u8]);
        }
        let order: Vec<u8> = state.queue.iter().map(|(_, datagram)| datagram[0]).collect();
        assert_eq!(order, [0, 0, 1, 2, 3]);
    }

    fn echo() -> (String, JoinHandle<SocketAddr>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let last = thread::spawn(move || {
            let mut buffer = [0; 100];
            loop {
                let (len, from) = socket.recv_from(&mut buffer).unwrap();
                if &buffer[..len] == b"end" {
                    return from;
                }
                socket.send_to(&buffer[..len], from).unwrap();
            }
        });
        (address, last)
    }

    #[test]
    fn datagrams_pass_both_ways_and_faults_are_faults() {
        let (address, last) = echo();
        let relay = Relay::to(&address);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(relay.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let hear = || {
            let mut buffer = [0; 100];
            client.recv(&mut buffer).map(|len| buffer[..len].to_vec()).ok()
        };
        let ask = |word: &[u8]| {
            client.send(word).unwrap();
            hear()
        };
        assert_eq!(ask(b"hello").as_deref(), Some(&b"hello"[..]));
        relay.set(Weather { damage: 1000, ..Weather::default() });
        let damaged = ask(b"hello").unwrap();
        assert_ne!(damaged, b"hello");
        assert_eq!(damaged.len(), 5);
        relay.set(Weather { rate: 1000, delay: Duration::from_millis(5), ..Weather::default() });
        let begun = Instant::now();
        assert_eq!(ask(b"0123456789").as_deref(), Some(&b"0123456789"[..]));
        assert!(
            begun.elapsed() >= Duration::from_millis(30),
            "twice 10 bytes at 1000 a second, and two delays"
        );
        relay.set(Weather { largest: 4, ..Weather::default() });
        client.send(b"too long").unwrap();
        assert_eq!(ask(b"fits").as_deref(), Some(&b"fits"[..]));
        relay.set(Weather { duplicates: 1000, ..Weather::default() });
        assert_eq!(ask(b"twice").as_deref(), Some(&b"twice"[..]));
        // Doubled on either way: three more are there already, or on their way.
        assert_eq!([(); 3].map(|()| hear()), [(); 3].map(|()| Some(b"twice".to_vec())));
        relay.set(Weather::default());
        relay.change_address();
        assert_eq!(ask(b"again").as_deref(), Some(&b"again"[..]));
        client.send(b"end").unwrap();
        assert_ne!(last.join().unwrap(), client.local_addr().unwrap());
    }
}
