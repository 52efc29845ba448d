//! `p2p fetch` between daemons that have never spoken, and once more between the same.

use std::{path::PathBuf, time::Instant};

use p2p_tests::{Pair, words};

use super::{LIMIT, Scene, Turn};
use crate::{Result, route};

/// The turns of a round.
pub(super) const NAMES: [&str; 2] = ["p2p fetch, cold", "p2p fetch, warm"];

const PORT: u16 = 4419;

/// Fetches one file after the other by new daemons. Another file the second time, since the first is known then.
pub(super) fn turns(scene: &Scene, sources: &[PathBuf; 2]) -> Result<Vec<Turn>> {
    let Pair { a, b } = route::pair(&scene.link, PORT);
    let ids = sources.each_ref().map(|source| a.cli().run(words!["share", source]).success().text());
    let mut turns = Vec::new();
    for (source, id) in sources.iter().zip(ids) {
        turns.push(scene.turn(source, |to| {
            let begun = Instant::now();
            let running = b.cli().start(words!["fetch", id, "--from", a.address(), "-o", to]);
            match running.try_finish_within(LIMIT) {
                Ok(output) => {
                    output.success();
                    Ok(Some(begun.elapsed()))
                }
                Err(running) => {
                    running.kill9();
                    route::cancel_all(&b);
                    Ok(None)
                }
            }
        })?);
    }
    Ok(turns)
}
