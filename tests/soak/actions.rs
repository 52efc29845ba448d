//! What happens: what users do, and what happens to them.

use std::time::Duration;

use p2p_protocol::{
    FileId,
    control::{Direction, Event, FetchRequest, KeyPolicy, Output, Request, State, Wishes},
};
use p2p_tests::{control, relay::Weather};

use crate::{node::Node, random::Random, world::World};

/// Most unfinished transfers of one daemon, so that the end comes in time.
const MOST_OPEN: usize = 24;

impl World {
    /// Does one thing.
    pub(crate) fn act(&mut self, random: &mut Random) {
        let node = random.index(self.nodes.len());
        let what = match random.below(100) {
            0..33 => self.send(node, random),
            33..56 => self.fetch(node, random),
            56..63 => self.cancel(node, random),
            63..71 => self.retry(node, random),
            71..74 => self.pause(node, random),
            74..76 => self.resume(node),
            76..80 => self.kill(node),
            80..82 => self.stop(node),
            82..89 => self.weather(node, random),
            89..91 => self.move_house(node),
            91..94 => self.change_source(node, random),
            94..97 => self.fill_or_free(),
            _ => {
                self.verify(node);
                "verified"
            }
        };
        self.count(what);
    }

    fn other(&self, node: usize, random: &mut Random) -> usize {
        (node + 1 + random.index(self.nodes.len() - 1)) % self.nodes.len()
    }

    fn send(&mut self, node: usize, random: &mut Random) -> &'static str {
        let to = self.nodes[self.other(node, random)].relay.address();
        let from = &self.nodes[node];
        if from.unfinished().len() >= MOST_OPEN {
            return "left out";
        }
        let (name, path) = from.pool.pick(random);
        from.ask(&control::send(&path, &to, &name)).expect("a daemon that runs takes a send");
        "sent"
    }

    fn fetch(&mut self, node: usize, random: &mut Random) -> &'static str {
        let from = &self.nodes[self.other(node, random)];
        let (_, path) = from.pool.pick(random);
        let Some(file_id) = share(from, &path) else { return "not shared" };
        let address = from.relay.address();
        let to = &self.nodes[node];
        if to.unfinished().len() >= MOST_OPEN {
            return "left out";
        }
        let output = match random.percent(50) {
            true => Output::Inbox,
            false => Output::Path(to.out.as_os_str().as_encoded_bytes().to_vec()),
        };
        let fetch = FetchRequest {
            ticket: None,
            file_id,
            from: vec![address],
            output,
            key: KeyPolicy::AcceptNew,
            only: Vec::new(),
            range: None,
            progressive: false,
            wishes: Wishes::default(),
            detach: true,
            request: None,
        };
        to.ask(&Request::Fetch(fetch)).expect("a daemon that runs takes a fetch");
        "fetched"
    }

    fn cancel(&mut self, node: usize, random: &mut Random) -> &'static str {
        let node = &self.nodes[node];
        let open = node.unfinished();
        if open.is_empty() {
            return "left out";
        }
        let number = open[random.index(open.len())].transfer;
        node.ask(&Request::Cancel(number)).expect("a daemon that runs cancels");
        "cancelled"
    }

    fn retry(&mut self, node: usize, random: &mut Random) -> &'static str {
        let node = &self.nodes[node];
        let mut ended = node.transfers();
        ended.retain(|line| {
            matches!(line.state, State::Failed | State::Cancelled)
                && matches!(line.direction, Direction::Send | Direction::Fetch)
        });
        if ended.is_empty() {
            return "left out";
        }
        let number = ended[random.index(ended.len())].transfer;
        node.ask(&Request::Retry(vec![number])).expect("a daemon that runs retries");
        "retried"
    }

    fn pause(&mut self, node: usize, random: &mut Random) -> &'static str {
        let node = &self.nodes[node];
        let open = node.unfinished();
        if open.is_empty() {
            return "left out";
        }
        let number = open[random.index(open.len())].transfer;
        node.ask(&Request::Pause(number)).expect("a daemon that runs answers");
        "paused"
    }

    fn resume(&mut self, node: usize) -> &'static str {
        self.nodes[node].resume_all();
        "resumed"
    }

    fn kill(&mut self, node: usize) -> &'static str {
        self.nodes[node].daemon.restart();
        "killed"
    }

    fn stop(&mut self, node: usize) -> &'static str {
        let status = self.nodes[node].daemon.sigterm();
        assert!(status.success(), "a daemon that is told to end does so: {status}");
        self.nodes[node].daemon.start_again();
        "stopped"
    }

    /// Rain, fog, a partition, or sunshine.
    fn weather(&mut self, node: usize, random: &mut Random) -> &'static str {
        let (name, weather) = match random.below(5) {
            0 => ("cut off", Weather { black_hole: true, ..Weather::default() }),
            1 => ("lossy", Weather { loss: 20 + random.below(100) as u32, ..Weather::default() }),
            2 => ("damaged", Weather { damage: 20, delay: Duration::from_millis(5), ..Weather::default() }),
            3 => {
                let rate = 200_000 + random.below(4_000_000);
                (
                    "slow",
                    Weather { rate, delay: Duration::from_millis(random.below(60)), ..Weather::default() },
                )
            }
            _ => ("fair", Weather::default()),
        };
        self.nodes[node].relay.set(weather);
        name
    }

    fn move_house(&mut self, node: usize) -> &'static str {
        self.nodes[node].relay.change_address();
        "address changed"
    }

    fn change_source(&mut self, node: usize, random: &mut Random) -> &'static str {
        self.nodes[node].pool.change(random);
        "source changed"
    }

    fn fill_or_free(&mut self) -> &'static str {
        match self.nodes.iter_mut().map(Node::fill_or_free).filter(|done| *done).count() {
            0 => "left out",
            _ => "disk filled or freed",
        }
    }
}

/// Shares a file with everybody trusted. `None` where it changed meanwhile.
fn share(node: &Node, path: &std::path::Path) -> Option<FileId> {
    let answers = node.ask(&control::share(path)).expect("a daemon that runs answers a share");
    answers.into_iter().find_map(|event| match event {
        Event::Shared { file_id, .. } => Some(file_id),
        _ => None,
    })
}
