//! Everything at once, for as long as wanted: several daemons send, fetch, share, cancel, pause and retry files of all sizes and folders
//! while they are killed, restarted and cut off, the network between them has weather, sources change and a disk fills up.
//!
//!     cargo run --release -p p2p-tests --bin soak -- [--minutes M] [--seed S] [--dir DIR]
//!
//! In the end everything that is still wanted has to arrive, every file has to equal its File ID, and nothing may be left
//! over: no partial, no descriptor, no panic in a log. The seed decides what is done in which order; what comes of it
//! depends on the machine's timing too, so that a seed brings a trouble back only mostly. Without root a full disk is left
//! out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod actions;
mod node;
mod pool;
mod random;
mod verdict;
mod world;

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;

use random::Random;
use world::World;

/// What is to be done.
#[derive(Debug, Parser)]
#[command(name = "soak", about = "Real daemons under everything at once, and then a look at what is left")]
struct Options {
    /// How long to go on before the end is looked at.
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// What decides what is done. [default: the time]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Where everything lies. [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn main() {
    let options = Options::parse();
    if let Some(dir) = &options.dir {
        tempfile::env::override_temp_dir(dir).expect("nothing was made in another folder yet");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = options.seed.unwrap_or(now.as_secs());
    println!("soak  seed {seed}, {} min", options.minutes);
    let mut random = Random::new(seed);
    let mut world = World::new(&mut random);
    let (begun, length) = (Instant::now(), Duration::from_secs(60 * options.minutes));
    let mut said = 0;
    while begun.elapsed() < length {
        world.act(&mut random);
        std::thread::sleep(Duration::from_millis(random.below(200)));
        let minute = begun.elapsed().as_secs() / 60;
        if minute > said {
            said = minute;
            println!("soak  {minute} min: {}", world.counted());
        }
    }
    println!("soak  over: {}", world.counted());
    let verdict = world.settle();
    println!("{verdict}");
    println!("soak  passed, seed {seed}");
}
