//! What of the config says which programs are run when something happens.

use std::path::Path;

use toml::{Spanned, Table, de::DeValue};

use super::{
    FileProblem,
    file::{Mistake, mistake},
};

/// Programs that are run when something happens, each with its arguments; nothing where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// A peer's offer waits for a yes.
    pub offer: Vec<String>,
    /// A transfer is complete.
    pub done: Vec<String>,
    /// A transfer has ended otherwise, and nobody cancelled it.
    pub failed: Vec<String>,
    /// All of that is shown on the desktop as well.
    pub notify: bool,
}

impl Hooks {
    /// Whether nothing is to be run, ever.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A table of programs, by what they are run for.
pub(super) fn hooks(value: &Spanned<DeValue<'_>>) -> Result<Hooks, Mistake> {
    let wants = "a table: [hooks]";
    let table =
        value.get_ref().as_table().ok_or((value.span(), FileProblem::Type { key: "hooks", wants }))?;
    let mut hooks = Hooks::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "offer" => hooks.offer = program("hooks.offer", value)?,
            "done" => hooks.done = program("hooks.done", value)?,
            "failed" => hooks.failed = program("hooks.failed", value)?,
            "notify" => {
                let wants = "true or false";
                let notify = value.get_ref().as_bool();
                hooks.notify =
                    notify.ok_or((value.span(), FileProblem::Type { key: "hooks.notify", wants }))?;
            }
            other => {
                let why = format!("there is no `{other}` in it, only offer, done, failed and notify");
                return Err((key.span(), FileProblem::Value { key: "hooks", why }));
            }
        }
    }
    Ok(hooks)
}

/// A program, found by its whole path or its name alone, and its arguments.
fn program(key: &'static str, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Mistake> {
    let wants = "an array of strings: a program and its arguments";
    let wrong = || (value.span(), FileProblem::Type { key, wants });
    let words = value.get_ref().as_array().ok_or_else(wrong)?;
    let words: Option<Vec<String>> =
        words.iter().map(|word| word.get_ref().as_str().map(str::to_owned)).collect();
    let words = words.ok_or_else(wrong)?;
    if words.iter().any(|word| word.contains('\0')) {
        return Err(mistake(key, value, "a word of a command has no zero byte".to_owned()));
    }
    let Some(program) = words.first() else { return Ok(words) };
    if program.is_empty() || (program.contains('/') && Path::new(program).is_relative()) {
        let why = format!("{program:?} is neither an absolute path nor a name that is found in PATH");
        return Err(mistake(key, value, why));
    }
    Ok(words)
}

/// The hooks as they would stand in the file.
pub(super) fn shown(hooks: &Hooks) -> toml::Value {
    let Hooks { offer, done, failed, notify } = hooks;
    let mut table = Table::new();
    for (key, words) in [("offer", offer), ("done", done), ("failed", failed)] {
        if !words.is_empty() {
            table.insert(key.to_owned(), words.clone().into());
        }
    }
    if *notify {
        table.insert("notify".to_owned(), true.into());
    }
    table.into()
}
