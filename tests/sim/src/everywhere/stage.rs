//! One reference transfer between two hosts, with one fault in it, from both daemons' start to the end.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use p2p_protocol::{
    control::{Event, Request, TransferEvent},
    limits::IDLE_TIMEOUT,
    reason::Failure,
    rules::RulesChange,
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use rustix::io::Errno;

use crate::{
    content::{Known, id_at},
    disk::{Fault, Loss, Op, Which},
    network::Weather,
    oracle::{self, Expected},
    plan::{Aim, Way, Wish},
    requests, takeover,
    transfer::{News, State, Transfer},
    world::World,
};

/// The host that has the file.
pub(super) const FROM: usize = 0;
/// The host that is to get it.
pub(super) const TO: usize = 1;

/// When every run begins, in seconds since 1970.
const BEGAN: u64 = 1_800_000_000;
/// A transfer has ended after this, or hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// A daemon is up again after this.
const DOWN: u64 = 300_000_000;
/// A daemon that has died dies once more within so many changes to its disk, or not.
const DIES_AGAIN: u64 = 40;
/// Longest packets, so that there are not many more of them than messages and pieces of chunks.
const LONGEST: usize = 16_000;

/// What is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A send of three chunks and a tail, which is hashed first.
    Sealed,
    /// A send of more than 8 MiB, which has no File ID when it begins.
    Unsealed,
    /// A fetch of three chunks and a tail.
    Fetch,
    /// A send of a folder that has a long file and short ones.
    Folder,
    /// The same, which appears there file by file.
    Shown,
    /// A fetch of such a folder, under a name that is a folder once it is there.
    Named,
    /// The same, and it appears there file by file.
    NamedShown,
}

impl Reference {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Sealed, Self::Unsealed, Self::Fetch, Self::Folder, Self::Shown, Self::Named, Self::NamedShown];

    fn len(self) -> usize {
        match self {
            Self::Sealed | Self::Fetch => 3 * (256 << 10) + 4321,
            Self::Unsealed => (8 << 20) + 300_001,
            Self::Folder | Self::Shown | Self::Named | Self::NamedShown => 900_001,
        }
    }
}

/// A moment of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before a host makes another change to its disk, having made so many.
    Change(u64),
    /// Before this packet is sent.
    Packet(u64),
}

/// Which operations of a disk are counted, and fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ops {
    /// All of the daemon's own.
    Files,
    /// Those that may find the disk full.
    FilesThatNeedSpace,
    /// Reads and writes.
    ReadsAndWrites,
    /// All of SQLite's.
    Catalog,
    /// Those of SQLite's that may find the disk full.
    CatalogThatNeedsSpace,
}

impl Ops {
    fn which(self) -> Which {
        Which::Where(match self {
            Self::Files => |op| !op.is_catalog(),
            Self::FilesThatNeedSpace => |op| !op.is_catalog() && op.needs_space(),
            Self::ReadsAndWrites => |op| matches!(op, Op::Read | Op::Write),
            Self::Catalog => Op::is_catalog,
            Self::CatalogThatNeedsSpace => |op| op.is_catalog() && op.needs_space(),
        })
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// Nothing.
    None,
    /// A host dies, and with `Some` its power fails too; it dies once more while it recovers.
    Crash {
        /// Which host.
        host: usize,
        /// When.
        at: Moment,
        /// What is lost.
        loss: Option<Loss>,
    },
    /// An operation of a host's disk fails, once.
    Fail {
        /// Which host.
        host: usize,
        /// Of which operations.
        ops: Ops,
        /// How many of them work before.
        after: u64,
        /// What it says.
        error: Errno,
    },
    /// A packet is lost.
    Lose(u64),
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// What was wrong with it.
    pub problems: Vec<String>,
    /// Changes that each host made to its disk.
    pub changes: [u64; 2],
    /// Packets that were sent.
    pub packets: u64,
    /// Deaths of hosts.
    pub deaths: u64,
    /// Operations that failed on purpose, and packets that were lost.
    pub failed: u64,
    /// How the first attempt failed, if it did.
    pub failure: Option<Failure>,
}

struct Stage {
    world: World,
    trouble: Trouble,
    rng: StdRng,
    transfer: Transfer,
    expected: [Expected; 2],
    /// When hosts that are down start again.
    down: [Option<u64>; 2],
    armed_again: bool,
    played: Played,
}

/// Plays one run, on a thread of its own, as hash tables have their keys by thread. What is random in it follows from
/// the seed.
pub fn play(reference: Reference, trouble: Trouble, seed: u64) -> Played {
    takeover::begin(seed, BEGAN);
    takeover::set_time(Duration::ZERO);
    let playing = std::thread::Builder::new().name("world".to_owned());
    let playing = playing.spawn(move || {
        let mut stage = Stage::set_up(reference, trouble, seed);
        stage.play();
        stage.played
    });
    playing.unwrap().join().unwrap_or_else(|_| Played {
        problems: vec!["the run itself broke off".to_owned()],
        ..Played::default()
    })
}

impl Stage {
    /// Two hosts that know each other, and a file; both daemons are down.
    fn set_up(reference: Reference, trouble: Trouble, seed: u64) -> Self {
        let mut world = World::new(seed, 2);
        for (from, to) in [(FROM, TO), (TO, FROM)] {
            world.internet.set_weather(from, to, Weather { longest: LONGEST, ..Weather::fine() });
        }
        let content = |seed: u64| {
            let mut bytes = vec![0; reference.len()];
            StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
            match reference {
                Reference::Sealed | Reference::Unsealed | Reference::Fetch => Known::file(bytes),
                _ => Known::folder(bytes),
            }
        };
        // Whether it appears file by file is for a fetch a matter of the content.
        let mut contents = (reference as u64..).step_by(Reference::ALL.len()).map(content);
        let known = match reference {
            Reference::Named => contents.find(|known| !known.appears()),
            Reference::NamedShown => contents.find(Known::appears),
            _ => contents.next(),
        };
        let known = known.expect("there are numbers enough");
        let source = world.hosts[FROM].sources().join("file");
        known.write(&source, std::time::UNIX_EPOCH + Duration::from_secs(BEGAN - 1000));
        for host in [FROM, TO] {
            world.start(host).unwrap();
        }
        for (host, peer) in [(FROM, TO), (TO, FROM)] {
            let request = requests::trust(&world.hosts[peer]);
            assert_eq!(world.ask(host, request, PATIENCE), [Event::Ok]);
        }
        if reference == Reference::Shown {
            let change = RulesChange { progressive: Some(Some(true)), ..RulesChange::default() };
            let peer = world.hosts[FROM].name.clone();
            let said = world.ask(TO, Request::Rule { peer, change }, PATIENCE);
            assert!(matches!(said[..], [Event::Peer(_)]), "{said:?}");
        }
        let way = match reference {
            Reference::Fetch | Reference::Named | Reference::NamedShown => Way::Fetch,
            _ => Way::Send,
        };
        let is_named = matches!(reference, Reference::Named | Reference::NamedShown);
        let place = is_named.then(|| world.hosts[TO].inbox().join("file"));
        if way == Way::Fetch {
            let said = world.ask(FROM, requests::share(&source), PATIENCE);
            assert!(matches!(said.last(), Some(Event::Shared { file_id, .. }) if *file_id == known.id));
        }
        for host in [FROM, TO] {
            world.hosts[host].stop();
        }
        assert!(world.run_until(PATIENCE, |world| world.hosts.iter().all(|host| !host.is_up())));
        let (content, aim, name) = (0, Aim::All, "file".to_owned());
        let wish = Wish { at: Duration::ZERO, way, from: FROM, to: TO, content, aim, name };
        let transfer = Transfer {
            target: world.hosts[wish.other()].peer.unwrap().to_string(),
            wish,
            source,
            versions: vec![known.clone()],
            place,
            number: None,
            state: State::Planned,
            cancelled: false,
            tries: 0,
            next_try: 0,
        };
        let is_shown = matches!(reference, Reference::Shown | Reference::NamedShown);
        let filling = if is_shown { vec![known.clone()] } else { Vec::new() };
        let expected =
            [Expected::default(), Expected { welcome: vec![known], filling, ..Expected::default() }];
        let rng = StdRng::from_seed(
            *blake3::hash(format!("{seed} {reference:?} {trouble:?}").as_bytes()).as_bytes(),
        );
        Self {
            world,
            trouble,
            rng,
            transfer,
            expected,
            down: [Some(0), Some(0)],
            armed_again: false,
            played: Played::default(),
        }
    }

    fn problem(&mut self, what: impl Into<String>) {
        let mut what = what.into();
        for host in &self.world.hosts {
            what = what.replace(&host.disk.root().display().to_string(), &host.name);
        }
        self.played.problems.push(what);
    }

    fn play(&mut self) {
        let changes = [FROM, TO].map(|host| self.changes(host));
        let packets = self.world.internet.packets();
        self.arm(packets);
        let end = self.world.now() + PATIENCE.as_nanos() as u64;
        while !matches!(self.transfer.state, State::Done) && self.world.now() < end {
            self.tend();
            self.step();
        }
        if !matches!(self.transfer.state, State::Done) {
            self.problem(format!("the transfer does not end: {:?}", self.transfer.state));
        }
        // What is left to do after the answer.
        for _ in 0..40 {
            self.step();
        }
        self.played.changes = [0, 1].map(|host| self.changes(host) - changes[host]);
        self.played.packets = self.world.internet.packets() - packets;
        if matches!(self.trouble, Trouble::Lose(_)) && self.world.internet.has_lost_them() {
            self.played.failed += 1;
        }
        self.played.failed += self.world.hosts.iter().map(|host| host.disk.failed()).sum::<u64>();
        self.judge_the_end();
    }

    fn changes(&self, host: usize) -> u64 {
        self.world.hosts[host].disk.count(Op::changes)
    }

    fn arm(&mut self, packets: u64) {
        match self.trouble {
            Trouble::None => {}
            Trouble::Crash { host, at: Moment::Change(changes), .. } => {
                self.world.hosts[host].disk.freeze_after(changes);
            }
            Trouble::Crash { host, at: Moment::Packet(packet), .. } => {
                let disk = self.world.hosts[host].disk.clone();
                self.world.internet.kill_at_packet(packets + packet, host, disk);
            }
            Trouble::Fail { host, ops, after, error } => {
                self.world.hosts[host].disk.fail(Fault { which: ops.which(), after, times: 1, error });
            }
            Trouble::Lose(packet) => self.world.internet.lose_packet(packets + packet),
        }
    }

    fn step(&mut self) {
        for host in [FROM, TO] {
            if self.down[host].is_some_and(|at| at <= self.world.now()) {
                self.down[host] = None;
                self.start(host);
            }
        }
        for host in self.world.step() {
            self.bury(host);
        }
    }

    fn start(&mut self, host: usize) {
        let Err(error) = self.world.start(host) else { return };
        if self.world.hosts[host].disk.is_frozen() {
            return self.bury(host);
        }
        // A start on a disk that fails is refused; the next one is on a sound one.
        if self.world.hosts[host].disk.failed() == 0 {
            self.problem(format!("host{host} does not start: {error}"));
        }
        self.down[host] = Some(self.world.now() + DOWN);
    }

    fn bury(&mut self, host: usize) {
        self.played.deaths += 1;
        if host == self.transfer.owner() && matches!(self.transfer.state, State::Watched(_)) {
            // What it said last, it said when it was dead already.
            self.transfer.state = State::Adrift;
        }
        self.world.hosts[host].kill();
        if let Trouble::Crash { loss: Some(loss), .. } = self.trouble {
            self.world.hosts[host].disk.power_loss(loss, &mut self.rng).unwrap();
        }
        self.judge(host);
        self.leave_no_room(host);
        if matches!(self.trouble, Trouble::Crash { .. }) && !self.armed_again {
            self.armed_again = true;
            self.world.hosts[host].disk.freeze_after(self.rng.random_range(0..DIES_AGAIN));
        }
        self.down[host] = Some(self.world.now() + DOWN);
    }

    /// Where all of it has its name already, nothing of it need come again, and there is no room for that from now on.
    fn leave_no_room(&self, host: usize) {
        let known = &self.transfer.versions[0];
        let path = self.world.hosts[TO].inbox().join("file");
        if host == TO && id_at(&path).is_ok_and(|found| found == known.id) {
            self.world.hosts[TO].disk.set_room(Some(known.bytes.len() as u64 / 2));
        }
    }

    /// Asks for the transfer, or after it, and reads what comes of it.
    fn tend(&mut self) {
        let owner = &self.world.hosts[self.transfer.owner()];
        if owner.is_up() && self.transfer.next_try <= self.world.now() {
            let next = self.world.now() + 200_000_000;
            match &self.transfer.state {
                State::Planned | State::Adrift => {
                    self.transfer.next_try = next;
                    self.transfer.attach(owner);
                }
                State::Failed(..) => {
                    self.transfer.next_try = next;
                    self.transfer.retry(owner);
                }
                State::Watched(_) | State::Done => {}
            }
        }
        for news in self.transfer.poll(|_| {}) {
            self.hear(news);
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Resumed => {}
            News::Done(path, id) => {
                let path = self.world.hosts[TO].inbox().join(PathBuf::from(path));
                self.expected[TO].promised.insert(path, id);
                self.judge(TO);
            }
            News::Failed(failure, message) => {
                self.played.failure.get_or_insert(failure);
                let fits = match self.trouble {
                    // A command outlives lost packets, and crashes too, but for one before the peer has answered.
                    Trouble::None | Trouble::Lose(_) => false,
                    Trouble::Crash { .. } => failure == Failure::Unreachable,
                    Trouble::Fail { error: Errno::INTR, .. } => false,
                    // Who fetches learns no more of a file that cannot be read than that it cannot be had.
                    Trouble::Fail { host: FROM, .. } if self.transfer.owner() == TO => {
                        matches!(failure, Failure::Storage | Failure::NotFound)
                    }
                    Trouble::Fail { .. } => failure == Failure::Storage,
                };
                if !fits || self.transfer.tries > 2 {
                    self.problem(format!("failed, try {}: {failure:?}: {message}", self.transfer.tries));
                }
            }
            News::Forgotten => self.problem("was queued, and is forgotten"),
        }
    }

    /// Looks at what is on a host's disk.
    fn judge(&mut self, host: usize) {
        for wrong in oracle::complaints(self.world.hosts[host].disk.root(), &self.expected[host]) {
            self.problem(format!("host{host}: {wrong}"));
        }
    }

    fn judge_the_end(&mut self) {
        let inbox = self.world.hosts[TO].inbox();
        let mut wanted = BTreeSet::from(["file".to_owned()]);
        if files(&inbox) != wanted {
            // When the power fails, a file may be there again that was removed; it goes when the folder is next used.
            self.send_another();
            wanted.insert("another".to_owned());
        }
        let found = files(&inbox);
        if found != wanted {
            self.problem(format!("in the inbox in the end: {found:?}"));
        }
        self.judge_the_lists();
        for host in [FROM, TO] {
            self.world.hosts[host].kill();
            self.world.hosts[host].disk.power_loss(Loss::Everything, &mut self.rng).unwrap();
            self.judge(host);
        }
    }
}

impl Stage {
    /// From now on there is no trouble.
    fn calm_down(&mut self) {
        while self.down.iter().any(Option::is_some) {
            self.step();
        }
        for host in &self.world.hosts {
            host.disk.thaw();
        }
    }

    /// Whatever is over is over in the lists of both.
    fn judge_the_lists(&mut self) {
        self.calm_down();
        // A connection to a daemon that was killed is over when nothing has come for so long.
        let later = self.world.now() + 2 * IDLE_TIMEOUT.as_nanos() as u64;
        while self.world.now() < later {
            self.step();
        }
        for host in [FROM, TO] {
            let said = self.world.ask(host, Request::List, PATIENCE);
            let open = said.iter().find_map(|event| match event {
                Event::Summary(summary) if summary.ended_ms.is_none() => Some(summary.clone()),
                _ => None,
            });
            if let Some(open) = open {
                self.problem(format!("host{host} lists as {:?} what is done: {open:?}", open.state));
            }
        }
    }

    /// Sends one more file, without trouble.
    fn send_another(&mut self) {
        self.calm_down();
        let bytes = vec![7; 1000];
        let path = self.world.hosts[FROM].sources().join("another");
        fs::write(&path, &bytes).unwrap();
        self.expected[TO].welcome.push(Known::file(bytes));
        let request = requests::send(&path, self.world.hosts[TO].peer.unwrap().to_string());
        let said = self.world.ask(FROM, request, PATIENCE);
        if !matches!(said.last(), Some(Event::Transfer(TransferEvent::Done { .. }))) {
            self.problem(format!("another file is not sent: {said:?}"));
        }
    }
}

/// Everything in an inbox: what is complete by its name, and each file of what is not.
fn files(inbox: &std::path::Path) -> BTreeSet<String> {
    let inside = |path: PathBuf| path.strip_prefix(inbox).unwrap().display().to_string();
    let names = p2p_tests::data::files_below(inbox).into_iter().map(inside);
    names
        .map(|path| match path.split_once('/') {
            Some((name, _)) if name != ".p2p" => name.to_owned(),
            _ => path,
        })
        .collect()
}
