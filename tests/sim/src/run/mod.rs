//! A run: the plan of a seed carried out, and judged.
//!
//! ```text
//!  set up, in fine weather ─▶ storm: transfers and troubles ─▶ calm: all of it mended ─▶ every transfer ends well
//!                                        │ after each crash                                │
//!                                        ▼                                                 ▼
//!                                  what is on the disk is judged              the power fails, and again
//! ```

mod troubles;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use p2p_protocol::{
    control::{Event, Request},
    reason::Failure,
    rules::RulesChange,
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    content::{Known, id_at},
    disk::Loss,
    network::Weather,
    oracle::{self, Expected},
    plan::{Aim, Plan, Recipe, Way, Wish},
    requests, takeover,
    transfer::{News, State, Transfer},
    world::World,
};
use troubles::Later;

/// How long a transfer may take after everything was mended.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How often a transfer may have to be taken up again by then.
const TRIES: u32 = 12;

/// Panics anywhere in the process.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// How a run went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Of which seed.
    pub seed: u64,
    /// Hash of everything that happened.
    pub hash: String,
    /// What was wrong. Nothing, in a good run.
    pub problems: Vec<String>,
    /// The last things that happened.
    pub tail: Vec<String>,
    /// What was exercised, and how often.
    pub counts: BTreeMap<String, u64>,
}

/// Runs a seed. Takes the process over for good, so that it is the only run in it.
pub fn run(seed: u64, print: bool) -> Outcome {
    let plan = Plan::new(seed);
    takeover::begin(seed, plan.began);
    std::panic::set_hook(Box::new(|info| {
        let what = format!("{info} in {:?}", std::thread::current().name());
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }));
    // The first thread has drawn its keys of hash tables already.
    let ran = std::thread::Builder::new().name("world".to_owned()).spawn(move || {
        let open = descriptors();
        let mut run = Run::new(seed, plan, print);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.carry_out()));
        if ended.is_err() {
            run.problem("the run itself broke off");
        }
        let Run { world, problems, counts, .. } = &run;
        let mut outcome = world.trace(|trace| Outcome {
            seed,
            hash: trace.hash(),
            problems: problems.clone(),
            tail: trace.tail(),
            counts: counts.clone(),
        });
        drop(run);
        let left = descriptors();
        if left != open {
            outcome.problems.push(format!("{open} descriptors before the run, {left} after it"));
        }
        outcome
    });
    let mut outcome = ran.unwrap().join().unwrap();
    outcome.problems.extend(PANICS.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
    outcome
}

/// Whether folders that a peer sends appear file by file at a host.
fn shows_what_comes(host: usize, from: usize) -> bool {
    (host + from) % 2 == 1
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

struct Run {
    plan: Plan,
    world: World,
    rng: StdRng,
    transfers: Vec<Transfer>,
    /// By time and, within that, in the order of their making.
    later: BTreeMap<(u64, u64), Later>,
    serial: u64,
    /// What becomes of a host that dies, and for how long it is down.
    dying: BTreeMap<usize, (Option<Loss>, Duration)>,
    /// Hosts that were told to stop, and how long they are down then.
    stopping: BTreeMap<usize, Duration>,
    /// Hosts whose disk has failed.
    ill: Vec<bool>,
    expected: Vec<Expected>,
    /// Answers that nobody waits for.
    errands: Vec<mpsc::Receiver<Event>>,
    is_calm: bool,
    problems: Vec<String>,
    counts: BTreeMap<String, u64>,
}

impl Run {
    fn new(seed: u64, plan: Plan, print: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
        let world = World::new(rng.random(), plan.hosts);
        if print {
            world.trace(crate::trace::Trace::print);
        }
        world.note(format_args!("{plan:?}"));
        world.note_disks();
        let expected = vec![Expected::default(); plan.hosts];
        Self {
            ill: vec![false; plan.hosts],
            plan,
            world,
            rng,
            transfers: Vec::new(),
            later: BTreeMap::new(),
            serial: 0,
            dying: BTreeMap::new(),
            stopping: BTreeMap::new(),
            expected,
            errands: Vec::new(),
            is_calm: false,
            problems: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    fn problem(&mut self, what: &str) {
        self.world.note(format_args!("PROBLEM {what}"));
        self.problems.push(what.to_owned());
    }

    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    fn later(&mut self, after: Duration, what: Later) {
        self.serial += 1;
        self.later.insert((self.world.now() + after.as_nanos() as u64, self.serial), what);
    }

    fn carry_out(&mut self) {
        self.set_up();
        self.storm();
        self.calm_down();
        self.see_it_through();
        self.look_for_leftovers();
        self.pull_the_plug();
    }

    /// This may turn up where it is wished for, which was first another content.
    fn expect(&mut self, wish: &Wish, first: &Known, known: &Known) {
        let expected = &mut self.expected[wish.to];
        let goal = wish.goal(known);
        let appears = match wish.way {
            Way::Send => shows_what_comes(wish.to, wish.from),
            Way::Fetch => wish.appears(first),
        };
        if appears {
            expected.filling.push(goal.clone());
        }
        expected.welcome.push(goal);
        if wish.aim == Aim::Part {
            expected.parts_of.push(known.clone());
        }
    }

    /// Puts an older version where a transfer is to put the newer one, and says where.
    fn write_older(&mut self, number: usize, wish: &Wish, newer: &Known) -> PathBuf {
        let path = self.world.hosts[wish.to].inbox().join(format!("older{number}"));
        let older =
            make(&Recipe { seed: number as u64, ..self.plan.contents[wish.content].clone() }, Some(newer));
        self.write_source(&path, &older);
        let expected = &mut self.expected[wish.to];
        expected.kept.insert(path.clone(), vec![older.id, newer.id]);
        expected.welcome.push(older);
        path
    }

    /// Asks a host for something, and waits for the whole answer.
    fn request(&mut self, host: usize, request: Request) -> Vec<Event> {
        let Some(mut events) = self.world.hosts[host].ask(request) else { return Vec::new() };
        let mut all = Vec::new();
        for _ in 0..10_000 {
            loop {
                match events.try_recv() {
                    Ok(event) => all.push(event),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return all,
                }
            }
            self.step();
        }
        self.problem("a request was never answered");
        all
    }

    fn set_up(&mut self) {
        let hosts = self.plan.hosts;
        for host in 0..hosts {
            self.world.start(host).unwrap();
        }
        for (host, peer) in pairs(hosts) {
            let request = requests::trust(&self.world.hosts[peer]);
            assert_eq!(self.request(host, request), [Event::Ok]);
            let progressive = Some(Some(shows_what_comes(host, peer)));
            let change = RulesChange { progressive, ..RulesChange::default() };
            let rule = Request::Rule { peer: self.world.hosts[peer].name.clone(), change };
            let said = self.request(host, rule);
            assert!(matches!(said[..], [Event::Peer(_)]), "{said:?}");
        }
        let mut contents: Vec<Known> = Vec::new();
        for recipe in &self.plan.contents {
            let older = recipe.newer_than.map(|older| &contents[older]);
            contents.push(make(recipe, older));
        }
        for (number, wish) in self.plan.wishes.clone().into_iter().enumerate() {
            let folder = self.world.hosts[wish.from].sources().join(number.to_string());
            fs::create_dir(&folder).unwrap();
            let source = folder.join(&wish.name);
            let known = contents[wish.content].clone();
            self.write_source(&source, &known);
            self.expect(&wish, &known, &known);
            if wish.way == Way::Fetch {
                let said = self.request(wish.from, requests::share(&source));
                let Some(Event::Shared { file_id, .. }) = said.last() else { panic!("not shared: {said:?}") };
                assert_eq!(*file_id, known.id);
            }
            let place = match wish.aim {
                Aim::InPlace => Some(self.write_older(number, &wish, &known)),
                Aim::Part if known.manifest.is_none() => {
                    Some(self.world.hosts[wish.to].inbox().join(format!("part{number}")))
                }
                _ => None,
            };
            self.transfers.push(Transfer {
                place,
                target: self.world.hosts[wish.other()].peer.unwrap().to_string(),
                wish,
                source,
                versions: vec![known],
                number: None,
                state: State::Planned,
                cancelled: false,
                tries: 0,
                next_try: 0,
            });
        }
        for (from, to, weather) in self.plan.weather.clone() {
            self.world.internet.set_weather(from, to, weather);
        }
        for (at, trouble) in self.plan.troubles.clone() {
            self.later(at, Later::Trouble(trouble));
        }
        for transfer in &mut self.transfers {
            transfer.next_try = self.world.now() + transfer.wish.at.as_nanos() as u64;
        }
        self.world.note(format_args!("the storm begins"));
    }

    /// Writes what is to be sent, with a time that no other has.
    fn write_source(&self, path: &std::path::Path, content: &Known) {
        let since = Duration::from_secs(self.plan.began) + self.world.time();
        content.write(path, std::time::UNIX_EPOCH + since);
    }

    fn storm(&mut self) {
        let end = self.world.now() + self.plan.storm.as_nanos() as u64;
        while self.world.now() < end {
            self.tend_transfers();
            self.step();
        }
    }

    /// A step of the world, and what follows from it.
    fn step(&mut self) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > self.world.now() {
                break;
            }
            let what = entry.remove();
            self.act(what);
        }
        let most = self.later.first_key_value().map_or(u64::MAX, |((at, _), _)| at - self.world.now());
        for host in self.world.step_at_most(most.clamp(1, 50_000_000)) {
            self.bury(host);
        }
        let stopped: Vec<(usize, Duration)> = (self.stopping.iter())
            .filter(|(host, _)| !self.world.hosts[**host].is_up())
            .map(|(host, down)| (*host, *down))
            .collect();
        for (host, down) in stopped {
            self.stopping.remove(&host);
            if self.dying.remove(&host).is_some() {
                // It was to die, and has stopped before.
                self.world.hosts[host].disk.thaw();
            }
            self.world.note(format_args!("host{host} has stopped"));
            self.judge(host);
            self.later(down, Later::Start(host));
        }
        self.errands.retain_mut(|events| {
            while events.try_recv().is_ok() {}
            !events.is_closed()
        });
        self.read_news();
    }

    fn tend_transfers(&mut self) {
        for transfer in &mut self.transfers {
            let owner = &self.world.hosts[transfer.owner()];
            if !owner.is_up() || transfer.next_try > self.world.now() || transfer.is_settled() {
                continue;
            }
            match &transfer.state {
                State::Planned | State::Adrift => {
                    transfer.next_try = self.world.now() + 200_000_000;
                    transfer.attach(owner);
                }
                State::Failed(..) if transfer.tries < TRIES => transfer.retry(owner),
                _ => {}
            }
        }
    }

    fn read_news(&mut self) {
        for number in 0..self.transfers.len() {
            let mut said = Vec::new();
            let news = self.transfers[number].poll(|event| said.push(format!("{event:?}")));
            for event in said {
                self.world.note(format_args!("transfer {number}: {}", self.without_roots(&event)));
            }
            for news in news {
                self.hear(number, news);
            }
        }
    }

    fn hear(&mut self, number: usize, news: News) {
        match news {
            News::Resumed => self.count("resumed"),
            News::Done(path, id) => {
                self.count("done");
                let transfer = &self.transfers[number];
                let to = transfer.wish.to;
                let Some(version) = transfer.versions.iter().find(|known| transfer.wish.told(known) == id)
                else {
                    return self.problem(&format!("transfer {number} is done as what its source never was"));
                };
                let id = transfer.wish.goal(version).id;
                self.count(transfer.wish.aim.what());
                let path = self.world.hosts[to].inbox().join(PathBuf::from(path));
                self.expected[to].promised.insert(path.clone(), id);
                match id_at(&path) {
                    Ok(found) if found == id => {}
                    Ok(_) => self.problem(&format!("transfer {number} is done, and its file is another")),
                    Err(error) => self.problem(&format!("transfer {number} is done, and its file: {error}")),
                }
            }
            News::Failed(failure, message) => {
                self.count(&format!("failed: {failure:?}"));
                let shown = self.without_roots(&message);
                let transfer = &mut self.transfers[number];
                transfer.next_try = self.world.now() + self.rng.random_range(500_000_000..5_000_000_000);
                let wish = &transfer.wish;
                let excused = transfer.versions.len() > 1 || self.ill[wish.from] || self.ill[wish.to];
                if failure == Failure::Other || (failure == Failure::Integrity && !excused) {
                    self.problem(&format!("transfer {number} failed of itself: {failure:?}: {shown}"));
                }
            }
            News::Forgotten => {
                let owner = self.transfers[number].owner();
                self.world.note(format_args!("transfer {number} is not known any longer"));
                if !self.ill[owner] {
                    self.problem(&format!("transfer {number} was queued, and is forgotten"));
                }
            }
        }
    }

    /// Disks have another root in each run.
    fn without_roots(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for host in &self.world.hosts {
            text = text.replace(&host.disk.root().display().to_string(), &host.name);
        }
        text
    }

    /// Looks at what is on a host's disk.
    fn judge(&mut self, host: usize) {
        for wrong in oracle::complaints(self.world.hosts[host].disk.root(), &self.expected[host]) {
            let wrong = self.without_roots(&wrong);
            self.problem(&format!("host{host}: {wrong}"));
        }
    }

    /// Everything is mended, and every host runs.
    fn calm_down(&mut self) {
        self.world.note(format_args!("calm"));
        self.is_calm = true;
        self.later.retain(|_, what| matches!(what, Later::Start(_)));
        for (from, to) in pairs(self.plan.hosts) {
            self.world.internet.set_weather(from, to, Weather::fine());
            self.world.internet.cut(from, to, false);
        }
        for host in &self.world.hosts {
            host.disk.heal();
            host.disk.set_room(None);
            host.disk.set_delay(Duration::ZERO);
            host.disk.set_short(false);
        }
        for host in std::mem::take(&mut self.dying).into_keys() {
            if self.world.hosts[host].is_up() {
                self.bury(host);
            }
        }
        let mut all_up = false;
        for _ in 0..2000 {
            all_up = self.world.hosts.iter().all(|host| host.is_up()) && self.stopping.is_empty();
            // A request that was made before may be carried out after a later one, where its disk was slow.
            if all_up && self.errands.is_empty() {
                break;
            }
            self.step();
        }
        if !all_up {
            self.problem("not every host came up again");
        }
        for host in 0..self.plan.hosts {
            self.request(host, troubles::unlimited());
        }
        for number in 0..self.transfers.len() {
            if let Some(known) = self.transfers[number].number {
                self.request(self.transfers[number].owner(), Request::Resume(known));
            }
        }
        for (host, peer) in pairs(self.plan.hosts) {
            let request = requests::trust(&self.world.hosts[peer]);
            let said = self.request(host, request);
            if said != [Event::Ok] {
                let said = self.without_roots(&format!("{said:?}"));
                self.problem(&format!("host{host} does not trust host{peer} again: {said}"));
            }
        }
    }

    /// Every transfer ends, and all but those that were cancelled end well.
    fn see_it_through(&mut self) {
        let end = self.world.now() + PATIENCE.as_nanos() as u64;
        for transfer in &mut self.transfers {
            transfer.tries = 0;
            transfer.next_try = 0;
        }
        while self.world.now() < end && !self.transfers.iter().all(Transfer::is_settled) {
            self.tend_transfers();
            self.step();
        }
        for number in 0..self.transfers.len() {
            let transfer = &self.transfers[number];
            if !transfer.is_settled() {
                let what = match &transfer.state {
                    State::Failed(failure, message) => format!("{failure:?}: {message}"),
                    State::Watched(_) => "still under way".to_owned(),
                    other => format!("{other:?}"),
                };
                let what = self.without_roots(&what);
                self.problem(&format!("transfer {number} does not come to a good end: {what}"));
            }
        }
    }

    /// Where all that was to come has come, nothing is left of its coming. What was cancelled may be, at a peer that was not
    /// there to hear of it, and so may the beginning of a content that its source has not any more. Of what a part was fetched of, and of
    /// what took the place of an older copy in the moment in which the host died, the partial itself may stay.
    fn look_for_leftovers(&mut self) {
        for host in 0..self.plan.hosts {
            let mut coming = self.transfers.iter().filter(|transfer| transfer.wish.to == host);
            let whole = |transfer: &Transfer| {
                matches!(transfer.state, State::Done) && !transfer.cancelled && transfer.versions.len() == 1
            };
            let excused: Vec<String> = (coming.clone())
                .filter(|transfer| transfer.wish.aim != Aim::All)
                .map(|transfer| oracle::partial_of(transfer.wish.told(&transfer.versions[0])))
                .collect();
            let mut left = oracle::leftovers(self.world.hosts[host].disk.root());
            left.retain(|name| !excused.contains(name));
            if coming.all(whole) && !left.is_empty() {
                self.problem(&format!("host{host}: left behind: {left:?}"));
            }
        }
    }

    /// What was said to be there for good is, also after the power has failed everywhere.
    fn pull_the_plug(&mut self) {
        for host in 0..self.plan.hosts {
            self.world.hosts[host].kill();
            let mut rng = StdRng::seed_from_u64(self.rng.next_u64());
            self.world.hosts[host].disk.power_loss(Loss::Everything, &mut rng).unwrap();
            self.judge(host);
            self.start(host);
        }
        for _ in 0..20 {
            self.step();
        }
        for host in 0..self.plan.hosts {
            self.world.hosts[host].kill();
            self.judge(host);
        }
    }
}

fn pairs(hosts: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..hosts)
        .flat_map(move |one| (0..hosts).filter(move |other| *other != one).map(move |other| (one, other)))
}

/// A content as a recipe has it.
fn make(recipe: &Recipe, older: Option<&Known>) -> Known {
    let mut rng = StdRng::seed_from_u64(recipe.seed);
    if let Some(older) = older {
        let mut bytes = older.bytes.to_vec();
        for _ in 0..rng.random_range(0..3) {
            let at = rng.random_range(0..=bytes.len());
            bytes.splice(at..bytes.len().min(at + 1), std::iter::once(rng.random()));
        }
        return older.with(bytes);
    }
    let mut bytes = vec![0; recipe.size as usize];
    rng.fill_bytes(&mut bytes);
    if recipe.sparse {
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..=bytes.len());
            let end = bytes.len().min(at + rng.random_range(0..1 << 21));
            bytes[at..end].fill(0);
        }
    }
    if recipe.folder { Known::folder(bytes) } else { Known::file(bytes) }
}
