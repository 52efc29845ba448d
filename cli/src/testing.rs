//! What the tests of several modules need.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Parser;

use crate::{
    args::{Global, Typed},
    context::{Context, Person, Timeout},
    output::Output,
};

/// Where a test's output goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Captured {
    data: Arc<Mutex<Vec<u8>>>,
    people: Arc<Mutex<Vec<u8>>>,
}

impl Captured {
    pub(crate) fn output(&self, global: &Global) -> Output {
        Output::captured(global, self.data.clone(), self.people.clone())
    }

    pub(crate) fn data(&self) -> String {
        String::from_utf8(self.data.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn people(&self) -> String {
        String::from_utf8(self.people.lock().unwrap().clone()).unwrap()
    }
}

/// A command line, which must be well-formed.
pub(crate) fn typed(words: &[&str]) -> Typed {
    Typed::try_parse_from([&["p2p"], words].concat()).unwrap()
}

/// Global options as typed.
pub(crate) fn global(words: &[&str]) -> Global {
    typed(&[words, &["status"]].concat()).global
}

/// A context for that home, in which nobody answers questions and no program can be started.
pub(crate) fn context(home: &Path, out: Output) -> Context {
    Context {
        home: home.to_owned(),
        home_is_default: false,
        home_was_typed: false,
        program: home.join("no-such-program"),
        may_start: true,
        person: Person::Absent,
        patience: Duration::from_secs(10),
        timeout: Timeout::default(),
        out,
    }
}
