//! A hundred thousand shared files.

use std::{fs, time::Instant};

use p2p_protocol::control::Event;
use p2p_tests::{Pair, control, data, words};
use serde_json::{Value, json};

use super::{Moment, Options, no_descriptor_is_left, seconds};
use crate::{Result, supervisor};

pub(super) fn measure(options: &Options) -> Result<Value> {
    let mut pair = Pair::new();
    let before = Moment::of("nothing shared", &pair.a);
    let folder = supervisor::folder_in(&supervisor::temporary())?;
    let path = |n: u64| folder.path().join((n / 1000).to_string()).join(format!("{n}.txt"));
    for n in 0..options.shares {
        let path = path(n);
        if n.is_multiple_of(1000) {
            fs::create_dir(folder.path().join((n / 1000).to_string()))?;
        }
        fs::write(path, format!("this is file {n}\n"))?;
    }
    let begun = Instant::now();
    let home = pair.a.place().home_path();
    let answers = control::ask_many(home, options.shares, &|n| control::share(&path(n)));
    let shared = seconds(begun);
    let is_shared = |events: &Vec<Event>| matches!(events.last(), Some(Event::Shared { .. }));
    if let Some(other) = answers.iter().find(|events| !is_shared(events)) {
        return Err(format!("not shared: {other:?}").into());
    }
    drop(answers);
    println!("    shared in {shared:.1} s");
    let all = Moment::of(format!("{} shared files", options.shares), &pair.a);
    if pair.a.status()["shares"] != options.shares {
        return Err("not all of them are shared".into());
    }

    let last = path(options.shares - 1);
    let begun = Instant::now();
    let to = pair.b.file("copy");
    pair.b
        .cli()
        .run(words!["fetch", data::file_id(&last), "--from", pair.a.address(), "--accept-new-key", "-o", to])
        .success();
    println!("    one of them fetched in {:.0} ms", seconds(begun) * 1000.0);

    let begun = Instant::now();
    pair.a.restart();
    let started = seconds(begun);
    println!("    killed, and ready again after {started:.2} s");
    let restarted = Moment::of("the same after kill -9 and a new start", &pair.a);
    no_descriptor_is_left(&pair.a, before.descriptors);
    let moments = [before, all, restarted].map(|moment| moment.json());
    Ok(json!({ "moments": moments, "shared_seconds": shared, "restart_seconds": started }))
}
