//! Does the suite catch mistakes? Applies deliberate ones, one at a time, in a copy of the tree, and shows which test
//! goes red.
//!
//!     cargo run -p p2p-tests --bin mutants -- [--only NAME]... [--list] [--report FILE]
//!
//! It ends with an error if a mistake goes unnoticed, does not compile, or does not fit the code any longer. The copy and
//! what is built of it are in `target/mutants`, so that a second run builds little.

mod list;
mod suite;
mod tree;

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use clap::Parser;

use list::Mistake;
use suite::{Outcome, Suite};
use tree::Tree;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Applies deliberate mistakes, one at a time, and shows which test notices.
#[derive(Debug, Parser)]
#[command(name = "mutants")]
struct Options {
    /// Only this mistake; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Shows the mistakes and changes nothing.
    #[arg(long)]
    list: bool,
    /// Writes the results to this file too, as a table.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let mut mistakes = list::read()?;
    if let Some(unknown) = options.only.iter().find(|name| mistakes.iter().all(|known| known.name != **name))
    {
        return Err(format!("there is no mistake {unknown}; --list shows those that there are").into());
    }
    mistakes.retain(|mistake| options.only.is_empty() || options.only.contains(&mistake.name));
    if options.list {
        mistakes.iter().for_each(|mistake| println!("{:<40} {}", mistake.name, mistake.file.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let tree = Tree::copy()?;
    // What does not fit is known before anything is built.
    for mistake in &mistakes {
        tree.mistaken(mistake)?;
    }
    for suite in suites(&mistakes) {
        println!("as it is: {suite}");
        match suite.run(&tree)? {
            Outcome::Green => {}
            other => return Err(format!("without any mistake: {other}").into()),
        }
    }
    let mut report = String::from("| mistake | in | red |\n|---|---|---|\n");
    let mut unnoticed = Vec::new();
    for mistake in &mistakes {
        let begun = Instant::now();
        let outcome = tree.with(mistake, || mistake.suite.run(&tree))?;
        println!("{:<40} {:>4} s  {outcome}", mistake.name, begun.elapsed().as_secs());
        report.push_str(&format!("| {} | `{}` | {outcome} |\n", mistake.name, mistake.file.display()));
        if !outcome.is_red() {
            unnoticed.push(&mistake.name);
        }
        if let Some(path) = &options.report {
            fs::write(path, &report)?;
        }
    }
    println!("{} mistakes, {} noticed", mistakes.len(), mistakes.len() - unnoticed.len());
    if unnoticed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("not noticed: {unnoticed:?}");
    Ok(ExitCode::FAILURE)
}

/// All the tests that are named, each program once.
fn suites(mistakes: &[Mistake]) -> Vec<Suite> {
    let mut suites: Vec<Suite> = Vec::new();
    for named in mistakes.iter().map(|mistake| &mistake.suite) {
        match suites.iter_mut().find(|suite| suite.is_of_same_program(named)) {
            Some(suite) => suite.add(named),
            None => suites.push(named.clone()),
        }
    }
    suites
}
