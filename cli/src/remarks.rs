//! What is worth a word about a folder that is sent or shared.

use p2p_protocol::control::TransferEvent;

use crate::{
    error::CliError,
    json::Line,
    output::{Look, Output},
};

/// Remarks that a person is told one by one.
const TOLD: usize = 8;

/// Says them, the first ones in words and all of them in JSON.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    told: usize,
}

impl Remarks {
    /// Whether the event is such a remark; it is said then, in words by `say`.
    ///
    /// # Errors
    /// It could not be printed.
    pub(crate) fn on(
        &mut self,
        out: &Output,
        event: &TransferEvent,
        say: impl FnOnce(Look, &str, &str),
    ) -> Result<bool, CliError> {
        let (line, label, words) = match event {
            TransferEvent::LeftOut { transfer, path, what } => (
                Line::LeftOut { transfer: *transfer, path, reason: what },
                "left out",
                format!(": {path}: {what}"),
            ),
            TransferEvent::SameName { transfer, paths } => {
                let [one, other] = paths;
                let words = format!(
                    ": {one} and {other} are one name on macOS and Windows, which cannot take this folder"
                );
                (Line::SameName { transfer: *transfer, paths }, "names", words)
            }
            _ => return Ok(false),
        };
        out.json(&line)?;
        self.told += 1;
        if self.told <= TOLD {
            say(Look::Warning, label, &words);
        } else if self.told == TOLD + 1 {
            say(Look::Warning, "more", " is to be said about this folder; --json says all of it");
        }
        Ok(true)
    }
}
