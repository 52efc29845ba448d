//! Transfers that were offered together, and how one word names all of them: `b7` is number 7 and all that it was offered with.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use p2p_protocol::{
    Batch, BatchId,
    control::{Direction, Event, Request, State, Summary},
    reason::Failure,
};

use super::several::badness;
use crate::{client, context::Context, error::CliError};

/// What a person names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A transfer, by its number.
    One(u64),
    /// A transfer and all that was offered together with it.
    Together(u64),
}

impl Named {
    /// The number that was typed.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::One(number) | Self::Together(number) => number,
        }
    }
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok();
        let together = text.strip_prefix('b').and_then(number).map(Self::Together);
        together.or_else(|| number(text).map(Self::One)).ok_or_else(|| {
            "a transfer is named by its number, such as 7, and all that was offered with it by b7".to_owned()
        })
    }
}

/// What tells one batch from others here.
type Key = (Direction, Option<p2p_protocol::PeerId>, BatchId);

fn key(summary: &Summary, batch: Batch) -> Key {
    // What this machine sends has no peer before the first connection, and its ID is this machine's own.
    let peer = summary.peer.filter(|_| summary.direction == Direction::Receive);
    (summary.direction, peer, batch.id)
}

/// The words for the batches of a list: each after the smallest number in it.
pub(crate) struct Words(BTreeMap<u64, String>);

impl Words {
    pub(crate) fn of(summaries: &[Summary]) -> Self {
        let mut first: Vec<(Key, u64)> = Vec::new();
        let mut words = BTreeMap::new();
        for summary in summaries {
            let Some(batch) = summary.batch else { continue };
            let key = key(summary, batch);
            let number = match first.iter().rev().find(|(known, _)| *known == key) {
                Some((_, number)) => *number,
                None => {
                    first.push((key, summary.transfer));
                    summary.transfer
                }
            };
            let place = batch.position.saturating_add(1);
            words.insert(summary.transfer, format!("b{number}, {place} of {}", batch.count));
        }
        Self(words)
    }

    /// What names the batch of a transfer, and which of it this is.
    pub(crate) fn of_transfer(&self, transfer: u64) -> Option<&str> {
        self.0.get(&transfer).map(String::as_str)
    }

    /// What names the batch of a transfer.
    pub(crate) fn word(&self, transfer: u64) -> Option<&str> {
        self.of_transfer(transfer)?.split_once(',').map(|(word, _)| word)
    }

    /// A transfer's name, and where it belongs.
    pub(crate) fn name(&self, summary: &Summary) -> String {
        match self.of_transfer(summary.transfer) {
            Some(word) => format!("{} ({word})", summary.name),
            None => summary.name.clone(),
        }
    }
}

/// All that was offered together with a transfer, itself too, in the order that its owner gave them.
pub(crate) fn members(summaries: &[Summary], number: u64) -> Option<Vec<&Summary>> {
    let of = |summary: &Summary| summary.batch.map(|batch| key(summary, batch));
    let wanted = of(summaries.iter().find(|summary| summary.transfer == number)?)?;
    let mut members: Vec<_> = summaries.iter().filter(|summary| of(summary) == Some(wanted)).collect();
    members.sort_by_key(|summary| (summary.batch.map(|batch| batch.position), summary.transfer));
    Some(members)
}

/// All transfers, as the daemon lists them.
pub(crate) async fn all(ctx: &Context) -> Result<Vec<Summary>, CliError> {
    let answer = ctx.connect().await?.ask_all(&Request::List).await?;
    let summaries = answer.into_iter().filter_map(|event| match event {
        Event::Summary(summary) => Some(Ok(summary)),
        Event::Ok => None,
        _ => Some(Err(client::unexpected())),
    });
    summaries.collect()
}

/// A transfer's number, or why what was named is none.
type Found = Result<u64, CliError>;

/// The numbers of what was named, each once; the daemon is asked only where a word stands for several. Such a word means those in
/// such a state, where there are any.
async fn found(
    ctx: &Context,
    named: &[Named],
    wanted: impl Fn(State) -> bool,
) -> Result<Vec<Found>, CliError> {
    let summaries = match named.iter().any(|named| matches!(named, Named::Together(_))) {
        true => all(ctx).await?,
        false => Vec::new(),
    };
    Ok(found_in(ctx, &summaries, named, wanted))
}

fn found_in(
    ctx: &Context,
    summaries: &[Summary],
    named: &[Named],
    wanted: impl Fn(State) -> bool,
) -> Vec<Found> {
    let (mut numbers, mut known) = (Vec::new(), BTreeSet::new());
    for named in named {
        let found = match *named {
            Named::One(number) => vec![number],
            Named::Together(number) => match members(summaries, number) {
                Some(members) => {
                    let of = |members: &[&Summary]| members.iter().map(|summary| summary.transfer).collect();
                    let some: Vec<_> =
                        members.iter().copied().filter(|member| wanted(member.state)).collect();
                    if some.is_empty() { of(&members) } else { of(&some) }
                }
                None => {
                    numbers.push(Err(not_together(ctx, number)));
                    continue;
                }
            },
        };
        numbers.extend(found.into_iter().filter(|number| known.insert(*number)).map(Ok));
    }
    numbers
}

fn not_together(ctx: &Context, number: u64) -> CliError {
    let message = format!("transfer {number} was not offered together with others");
    CliError::new(Failure::NotFound, message).hint(format!("see what there is with: {}", ctx.suggest("list")))
}

/// All numbers of what was named, each once.
pub(crate) async fn numbers(ctx: &Context, named: &[Named]) -> Result<Vec<u64>, CliError> {
    found(ctx, named, |_| true).await?.into_iter().collect()
}

/// The numbers of those that are there, and what is wrong with the others.
pub(crate) async fn known(ctx: &Context, named: &[Named]) -> Result<(Vec<u64>, Vec<CliError>), CliError> {
    let summaries = all(ctx).await?;
    let there: BTreeSet<u64> = summaries.iter().map(|summary| summary.transfer).collect();
    let (mut numbers, mut wrong) = (Vec::new(), Vec::new());
    for found in found_in(ctx, &summaries, named, |_| true) {
        match found {
            Ok(number) if there.contains(&number) => numbers.push(number),
            Ok(number) => wrong.push(CliError::new(
                Failure::NotFound,
                format!("there is no transfer {number}; see what there is with: {}", ctx.suggest("list")),
            )),
            Err(error) => wrong.push(error),
        }
    }
    Ok((numbers, wrong))
}

/// Does something to each that was named, whatever becomes of the others. A word that stands for several means those in such a state,
/// where there are any.
pub(crate) async fn each_of(
    ctx: &Context,
    named: &[Named],
    wanted: impl Fn(State) -> bool,
    mut work: impl AsyncFnMut(u64) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let found = found(ctx, named, wanted).await?;
    each(ctx, found, async |found: Found| work(found?).await).await
}

/// Does something to each, whatever becomes of the others.
///
/// # Errors
/// The worst of them; of several, each was said before.
pub(crate) async fn each<T>(
    ctx: &Context,
    things: Vec<T>,
    mut work: impl AsyncFnMut(T) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let (mut worst, alone): (Option<CliError>, _) = (None, things.len() == 1);
    for thing in things {
        let Err(error) = work(thing).await else { continue };
        if alone {
            return Err(error);
        }
        ctx.out.error(&error);
        if worst.as_ref().is_none_or(|worst| badness(&error) > badness(worst)) {
            worst = Some(error);
        }
    }
    worst.map_or(Ok(()), |worst| Err(CliError::said(worst.exit_code(), worst.message)))
}

#[cfg(test)]
mod tests {
    use p2p_protocol::control::State;

    use super::*;
    use crate::commands::example;

    fn member(transfer: u64, id: u8, position: u32) -> Summary {
        let batch = Batch { id: BatchId([id; 16]), position, count: 2, total_bytes: None };
        Summary { batch: Some(batch), ..example(transfer, State::Active) }
    }

    #[test]
    fn a_word_names_one_or_all() {
        assert_eq!("7".parse(), Ok(Named::One(7)));
        assert_eq!("b7".parse(), Ok(Named::Together(7)));
        for wrong in ["", "b", "-7", "7b", "bb7", "c7", "b-7"] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn those_that_were_offered_together_are_found_by_any_of_them() {
        let list = [member(4, 1, 1), member(5, 1, 0), example(6, State::Done), member(7, 2, 0)];
        let numbers = |number| members(&list, number).map(|all| all.iter().map(|one| one.transfer).collect());
        assert_eq!(numbers(4), Some(vec![5, 4]));
        assert_eq!(numbers(5), Some(vec![5, 4]));
        assert_eq!(numbers(7), Some(vec![7]));
        assert_eq!((numbers(6), numbers(9)), (None, None));
        let words = Words::of(&list);
        assert_eq!(words.name(&list[1]), "a.iso (b4, 1 of 2)");
        assert_eq!(words.name(&list[2]), "a.iso");
    }

    /// Two peers may choose one ID.
    #[test]
    fn what_two_peers_offer_is_never_one_batch() {
        let received = |summary: Summary, peer| Summary {
            direction: Direction::Receive,
            peer: Some(p2p_protocol::PeerId([peer; 32])),
            ..summary
        };
        let list = [received(member(4, 1, 0), 1), received(member(5, 1, 1), 2)];
        assert_eq!(members(&list, 4).unwrap().len(), 1);
    }
}
