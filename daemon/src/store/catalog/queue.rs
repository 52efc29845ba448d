//! Questions to the catalog's thread. Those that wait at the same time are answered in one transaction, so that they
//! share its sync: ten thousand transfers that end at once are a few dozen syncs.

use std::sync::mpsc;

use super::{Database, StoreError};

/// Questions that one transaction answers at most.
const MOST_AT_ONCE: usize = 256;

/// A question that waits for its answer.
pub(super) trait Question: Send {
    /// Asks inside a transaction, and keeps the answer. False if it failed, and the transaction has to be given up.
    fn ask_together(&mut self, database: &mut Database) -> bool;
    /// Asks by itself, and keeps the answer.
    fn ask_alone(&mut self, database: &mut Database);
    /// Gives the answer to whoever waits for it.
    fn deliver(self: Box<Self>);
}

/// What is asked, and who waits.
pub(super) struct Asked<T, F> {
    ask: F,
    answer: Option<Result<T, StoreError>>,
    asker: mpsc::SyncSender<Result<T, StoreError>>,
}

impl<T, F> Asked<T, F> {
    pub(super) fn new(ask: F, asker: mpsc::SyncSender<Result<T, StoreError>>) -> Self {
        Self { ask, answer: None, asker }
    }
}

impl<T: Send, F: Fn(&mut Database) -> rusqlite::Result<T> + Send> Question for Asked<T, F> {
    fn ask_together(&mut self, database: &mut Database) -> bool {
        self.answer = (self.ask)(database).ok().map(Ok);
        self.answer.is_some()
    }

    fn ask_alone(&mut self, database: &mut Database) {
        self.answer = Some(database.answer(&self.ask));
    }

    fn deliver(self: Box<Self>) {
        if let Some(answer) = self.answer {
            // Nobody waits if the asking thread is gone, and then nobody needs the answer.
            let _ = self.asker.send(answer);
        }
    }
}

/// Answers questions until nobody can ask any longer.
pub(super) fn answer_all(database: &mut Database, asked: &mpsc::Receiver<Box<dyn Question>>) {
    while let Ok(first) = asked.recv() {
        let mut questions = vec![first];
        questions.extend(asked.try_iter().take(MOST_AT_ONCE - 1));
        if questions.len() == 1 || !together(database, &mut questions) {
            for question in &mut questions {
                question.ask_alone(database);
            }
        }
        for question in questions {
            question.deliver();
        }
    }
}

/// Answers all in one transaction. False, and nothing has been done, if one of them or the transaction fails.
fn together(database: &mut Database, questions: &mut [Box<dyn Question>]) -> bool {
    if database.connection.execute_batch("BEGIN IMMEDIATE").is_err() {
        return false;
    }
    let answered = questions.iter_mut().all(|question| question.ask_together(database));
    if answered && database.connection.execute_batch("COMMIT").is_ok() {
        return true;
    }
    if !database.connection.is_autocommit()
        && let Err(error) = database.connection.execute_batch("ROLLBACK")
    {
        tracing::warn!(%error, "the catalog did not take back what was not committed");
    }
    false
}
