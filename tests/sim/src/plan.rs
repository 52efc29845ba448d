//! What a seed means: who is there, what moves, and what goes wrong when.

use std::time::Duration;

use p2p_protocol::{FileId, rate::Rate};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    content::Known,
    disk::{Loss, Op, Which},
    network::Weather,
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// Longer files are sent before they are hashed.
const HASHED_FIRST: u64 = 8 * MIB;

/// Which side asks for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The one that has the file.
    Send,
    /// The one that wants it.
    Fetch,
}

/// What of a content is wanted, and where. What is sent is always all of it, to the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// All of it, in the inbox.
    All,
    /// Some of a folder's entries, or some bytes of a file, in the inbox.
    Part,
    /// All of it, in the place of an older version.
    InPlace,
}

impl Aim {
    /// What is counted of transfers like this that are done.
    pub fn what(self) -> &'static str {
        match self {
            Self::All => "done",
            Self::Part => "done: a part",
            Self::InPlace => "done: in the place of an older version",
        }
    }
}

/// A transfer that is to happen.
#[derive(Clone, Debug)]
pub struct Wish {
    /// When it is asked for, after the storm has begun.
    pub at: Duration,
    /// Who asks.
    pub way: Way,
    /// Who has the file.
    pub from: usize,
    /// Who is to get it.
    pub to: usize,
    /// Which of the contents it is.
    pub content: usize,
    /// What of it, and where to.
    pub aim: Aim,
    /// The file's name at its source.
    pub name: String,
}

impl Wish {
    /// Who asks for it.
    pub fn owner(&self) -> usize {
        match self.way {
            Way::Send => self.from,
            Way::Fetch => self.to,
        }
    }

    /// What is to be there in the end of a version of its source.
    pub fn goal(&self, version: &Known) -> Known {
        if self.aim == Aim::Part { version.part() } else { version.clone() }
    }

    /// The File ID that is told at its end: with some bytes of a file, that of the file.
    pub fn told(&self, version: &Known) -> FileId {
        if version.manifest.is_none() { version.id } else { self.goal(version).id }
    }

    /// Whether it appears at its goal file by file, where that is for who asks for it to say.
    pub fn appears(&self, content: &Known) -> bool {
        self.aim != Aim::InPlace && content.appears()
    }

    /// Who is asked.
    pub fn other(&self) -> usize {
        match self.way {
            Way::Send => self.to,
            Way::Fetch => self.from,
        }
    }
}

/// A content, which one or several transfers are of.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Its size.
    pub size: u64,
    /// What it is made from.
    pub seed: u64,
    /// Whether parts of it are holes.
    pub sparse: bool,
    /// Whether it is a folder of several files.
    pub folder: bool,
    /// Which content it is a newer version of, with what is otherwise in it.
    pub newer_than: Option<usize>,
}

/// What a disk says no to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// One kind of operation.
    Kind(Op),
    /// What the catalog asks for.
    Catalog,
    /// Syncs of every kind.
    Syncs,
    /// Anything.
    Any,
}

impl Broken {
    /// The same as the disk has it.
    pub fn which(self) -> Which {
        match self {
            Self::Kind(op) => Which::Kind(op),
            Self::Catalog => Which::Where(Op::is_catalog),
            Self::Syncs => Which::Where(Op::is_sync),
            Self::Any => Which::Any,
        }
    }
}

/// Something that goes wrong.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants say what their parts are")]
pub enum Trouble {
    /// The daemon is killed, and the power may fail with it; it is started again after a while.
    Crash { host: usize, after_changes: u64, power: Option<Loss>, down: Duration },
    /// The daemon is told to stop, and is started again.
    Restart { host: usize, down: Duration },
    /// Nothing gets through, in one direction or both.
    Cut { from: usize, to: usize, both: bool, lasts: Duration },
    /// A host gets another address.
    Move { host: usize },
    /// A transfer is cancelled by who asked for it.
    Cancel { wish: usize },
    /// A source gets another content.
    Change { wish: usize },
    /// The disk is full.
    Full { host: usize, room: u64, lasts: Duration },
    /// The disk says no.
    Broken { host: usize, what: Broken, after: u64, times: u64, errno: rustix::io::Errno },
    /// The disk takes its time.
    Slow { host: usize, delay: Duration, lasts: Duration },
    /// Reads and writes stop short.
    Short { host: usize, lasts: Duration },
    /// Trust is withdrawn, and given back.
    Distrust { host: usize, peer: usize, lasts: Duration },
    /// A transfer is held back by who asked for it, and let go on.
    Pause { wish: usize, lasts: Duration },
    /// A host may send and receive only so many bytes per second.
    Limit { host: usize, rate: Rate, lasts: Duration },
}

/// All that a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many hosts there are.
    pub hosts: usize,
    /// Seconds since 1970 when it begins. The files' own times are those of the machine that simulates, so that the daemons'
    /// clocks are years ahead of them or behind.
    pub began: u64,
    /// The weather between hosts.
    pub weather: Vec<(usize, usize, Weather)>,
    /// What is moved.
    pub contents: Vec<Recipe>,
    /// From where to where.
    pub wishes: Vec<Wish>,
    /// What goes wrong, and when.
    pub troubles: Vec<(Duration, Trouble)>,
    /// How long things go wrong.
    pub storm: Duration,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let rng = &mut rng;
        let hosts = if rng.random_bool(0.5) { 2 } else { rng.random_range(3..=4) };
        let began = if rng.random_bool(0.5) { 4_000_000_000 } else { 1_000_000_000 };
        let storm = Duration::from_millis(rng.random_range(3_000..40_000));
        let mut weather = Vec::new();
        for from in 0..hosts {
            for to in from + 1..hosts {
                let there = weather_of(rng);
                let back = if rng.random_bool(0.7) { there.clone() } else { weather_of(rng) };
                weather.extend([(from, to, there), (to, from, back)]);
            }
        }
        let (contents, mut wishes) = wishes_of(rng, hosts, storm);
        aim(seed, &contents, &mut wishes);
        let count = if rng.random_bool(0.1) { 0 } else { rng.random_range(1..=9) };
        let mut troubles: Vec<(Duration, Trouble)> = (0..count)
            .map(|_| (moment_of(rng, &wishes, storm), trouble_of(rng, hosts, wishes.len())))
            .collect();
        troubles.sort_by_key(|(at, _)| *at);
        Self { hosts, began, weather, contents, wishes, troubles, storm }
    }
}

fn within(rng: &mut StdRng, from: Duration, to: Duration) -> Duration {
    Duration::from_millis(rng.random_range(from.as_millis() as u64..=to.as_millis() as u64))
}

/// When something goes wrong: mostly while something is under way.
fn moment_of(rng: &mut StdRng, wishes: &[Wish], storm: Duration) -> Duration {
    if rng.random_bool(0.2) {
        return within(rng, Duration::ZERO, storm);
    }
    let begun = wishes[rng.random_range(0..wishes.len())].at;
    let longest = if rng.random_bool(0.4) { 500 } else { 8000 };
    (begun + millis(rng, 0, longest)).min(storm)
}

fn millis(rng: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..=to))
}

fn weather_of(rng: &mut StdRng) -> Weather {
    let fine = Weather { delay: millis(rng, 2, 60), ..Weather::fine() };
    match rng.random_range(0..10) {
        0..=1 => fine,
        2 => Weather {
            jitter: millis(rng, 0, 20),
            loss: rng.random_range(0.0..0.02),
            twice: 0.01,
            late: 0.01,
            ..fine
        },
        3 => Weather {
            delay: millis(rng, 10, 150),
            jitter: millis(rng, 0, 80),
            loss: rng.random_range(0.02..0.3),
            twice: 0.05,
            late: 0.1,
            ..fine
        },
        // Slow enough for checkpoints on the way.
        4..=5 => Weather {
            rate: Some(rng.random_range(30_000..300_000)),
            queue: rng.random_range(16 * KIB..256 * KIB),
            ..fine
        },
        6..=8 => Weather {
            rate: Some(rng.random_range(300_000..2_000_000)),
            queue: rng.random_range(32 * KIB..512 * KIB),
            loss: rng.random_range(0.0..0.01),
            ..fine
        },
        _ => Weather { longest: rng.random_range(1200..9000), late: 0.3, ..fine },
    }
}

fn size_of(rng: &mut StdRng) -> u64 {
    let chunk = 256 * KIB;
    match rng.random_range(0..20) {
        0 => 0,
        1 => rng.random_range(1..=1025),
        2 => rng.random_range(1..4) * chunk + rng.random_range(0..3) - 1,
        3..=6 => rng.random_range(1..=chunk),
        7..=17 => rng.random_range(chunk..3 * MIB),
        _ => rng.random_range(HASHED_FIRST + 1..11 * MIB),
    }
}

fn wishes_of(rng: &mut StdRng, hosts: usize, storm: Duration) -> (Vec<Recipe>, Vec<Wish>) {
    let (mut contents, mut wishes) = (Vec::<Recipe>::new(), Vec::<Wish>::new());
    for number in 0..rng.random_range(1..=6) {
        let way = if rng.random_bool(0.6) { Way::Send } else { Way::Fetch };
        // A newer version goes where the older one is.
        if !wishes.is_empty() && rng.random_bool(0.2) {
            let older = wishes[rng.random_range(0..wishes.len())].clone();
            let newer_than = Some(older.content);
            contents.push(Recipe { seed: rng.random(), newer_than, ..contents[older.content].clone() });
            let at = (older.at + millis(rng, 0, 8000)).min(storm);
            wishes.push(Wish { at, way, content: contents.len() - 1, ..older });
            continue;
        }
        let again = !contents.is_empty() && rng.random_bool(0.3);
        let content = if again {
            rng.random_range(0..contents.len())
        } else {
            let size = size_of(rng);
            let (seed, sparse, folder) = (rng.random(), rng.random_bool(0.2), rng.random_bool(0.3));
            contents.push(Recipe { size, seed, sparse, folder, newer_than: None });
            contents.len() - 1
        };
        let from = rng.random_range(0..hosts);
        let to = (from + rng.random_range(1..hosts)) % hosts;
        // Several are meant to have the same name at their goal.
        let name = if rng.random_bool(0.2) { "same.bin".to_owned() } else { format!("file{number}.bin") };
        let at = within(rng, Duration::ZERO, storm / 2);
        wishes.push(Wish { at, way, from, to, content, aim: Aim::All, name });
    }
    (contents, wishes)
}

/// Some fetches are of a part, or mend an older version. That is drawn by itself, so that all else of a seed stays as it is.
fn aim(seed: u64, contents: &[Recipe], wishes: &mut [Wish]) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xa1);
    for wish in wishes {
        let aim = match rng.random_range(0..10) {
            0..=3 => Aim::Part,
            4..=6 => Aim::InPlace,
            _ => Aim::All,
        };
        let has_parts = contents[wish.content].folder || contents[wish.content].size >= 3;
        if wish.way == Way::Fetch && (aim != Aim::Part || has_parts) {
            wish.aim = aim;
        }
    }
}

fn trouble_of(rng: &mut StdRng, hosts: usize, wishes: usize) -> Trouble {
    let host = rng.random_range(0..hosts);
    let other = (host + rng.random_range(1..hosts)) % hosts;
    let wish = rng.random_range(0..wishes);
    match rng.random_range(0..25) {
        0..=6 => {
            let power = match rng.random_range(0..6) {
                0 => Some(Loss::Everything),
                1..=2 => Some(Loss::AnySubset),
                3 => Some(Loss::Journal),
                _ => None,
            };
            let after_changes = if rng.random_bool(0.3) { 0 } else { rng.random_range(0..80) };
            Trouble::Crash { host, after_changes, power, down: millis(rng, 10, 15_000) }
        }
        7..=8 => Trouble::Restart { host, down: millis(rng, 10, 10_000) },
        9..=11 => {
            let lasts = millis(rng, 100, 50_000);
            Trouble::Cut { from: host, to: other, both: rng.random_bool(0.6), lasts }
        }
        12 => Trouble::Move { host },
        13 => Trouble::Cancel { wish },
        14 => Trouble::Change { wish },
        15 => Trouble::Full { host, room: rng.random_range(0..2 * MIB), lasts: millis(rng, 500, 20_000) },
        16..=18 => {
            let what = match rng.random_range(0..10) {
                0 => Broken::Kind(Op::Write),
                1 => Broken::Kind(Op::Read),
                2 => Broken::Kind(Op::SyncData),
                3 => Broken::Kind(Op::SyncAll),
                4 => Broken::Kind(Op::SyncFolder),
                5 => Broken::Kind(Op::RenameNew),
                6 => Broken::Catalog,
                9 => Broken::Kind(Op::SyncFileSystem),
                7 => Broken::Syncs,
                _ => Broken::Any,
            };
            let errno = if rng.random_bool(0.8) { rustix::io::Errno::IO } else { rustix::io::Errno::NOSPC };
            let (after, times) = (rng.random_range(0..30), rng.random_range(1..4));
            Trouble::Broken { host, what, after, times, errno }
        }
        19 => Trouble::Slow { host, delay: millis(rng, 1, 200), lasts: millis(rng, 500, 15_000) },
        20 => Trouble::Short { host, lasts: millis(rng, 500, 20_000) },
        21..=22 => Trouble::Pause { wish, lasts: millis(rng, 10, 20_000) },
        23 => {
            let rate = Rate::new(rng.random_range(20_000..500_000)).unwrap();
            Trouble::Limit { host, rate, lasts: millis(rng, 500, 20_000) }
        }
        _ => Trouble::Distrust { host, peer: other, lasts: millis(rng, 100, 15_000) },
    }
}
