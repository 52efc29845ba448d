//! The `p2p` command line. What was typed (`args`) becomes what will run (`commands`), which talks to the
//! local daemon (`client`, `start`) and shows what comes back (`view`, `output`).
//!
//! It holds nothing of a transfer: every command may be killed at any moment and the daemon goes on.

mod args;
mod client;
mod commands;
mod complete;
mod context;
mod error;
mod follow;
mod format;
mod interrupt;
mod json;
mod map;
mod meter;
mod output;
mod progress;
mod remarks;
mod service;
mod start;
mod view;
mod wanted;

#[cfg(test)]
mod documented;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;
use p2p_protocol::reason::Failure;

use crate::{
    args::{Global, Typed, When},
    context::Context,
    error::CliError,
    output::Output,
};

/// Set by a shell's completion script, to the shell's name.
const COMPLETE_VAR: &str = "P2P_COMPLETE";

/// Runs the command line of this process and returns its exit code.
pub fn main() -> u8 {
    let words: Vec<OsString> = std::env::args_os().collect();
    // A shell that asks what could be typed next is answered, and that is all.
    CompleteEnv::with_factory(Typed::command).var(COMPLETE_VAR).complete();
    let typed = match Typed::try_parse_from(&words) {
        Ok(typed) => typed,
        Err(error) => return not_understood(&words, &error),
    };
    let out = Output::standard(&typed.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return ended(
                &out,
                Err(CliError::new(Failure::Other, format!("the system gives no threads: {error}"))),
            );
        }
    };
    let code = match Context::new(&typed.global, out.clone()) {
        Ok(mut ctx) => {
            let result = runtime.block_on(commands::run(&mut ctx, typed.command));
            ended(&ctx.out, result)
        }
        Err(error) => ended(&out, Err(error)),
    };
    // A thread that still waits for a terminal or a pipe holds nothing that matters.
    runtime.shutdown_background();
    code
}

fn ended(out: &Output, result: Result<(), CliError>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            out.error(&error);
            error.exit_code()
        }
    }
}

/// Help, the version, or what is wrong with the words typed.
fn not_understood(words: &[OsString], error: &clap::Error) -> u8 {
    // Nobody to tell is no reason for another exit code.
    let _ = error.print();
    let code = error.exit_code() as u8;
    if error.use_stderr() && words.iter().any(|word| word == "--json") {
        let global = Global {
            home: None,
            json: true,
            quiet: true,
            verbose: false,
            no_progress: true,
            color: When::Never,
            no_start: true,
        };
        Output::standard(&global).error(&CliError::usage(first_words(&error.to_string())));
    }
    code
}

/// What is wrong, in one line: what clap says before it goes on to tips and usage.
fn first_words(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).take_while(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let named: Vec<&str> = lines.collect();
    if named.is_empty() { first } else { format!("{first} {}", named.join(", ")) }
}
