//! The two machines against each other: chunks lost, doubled, reordered and corrupted, the conversation cut
//! anywhere, either side restarted from what was durable. It always completes, and no chunk counts that was
//! not verified.

mod early;
mod folder;
mod unsealed;
mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::world::{CREDIT, Fate, File, Step, World};
use super::*;
use crate::{
    ChunkRange, ChunkSet, Cv,
    limits::{
        LEAST_PROGRESS, MAX_CHUNK_FAILURES, MAX_UNASKED_CHUNKS, PAGE_CHUNKS, TRANSFER_PROGRESS_DEADLINE,
    },
    reason::{AbortReason, ChunkFailure, PeerMisbehaved},
    tree::Expected,
    wire::{
        chunk::ChunkHeader,
        peer::{Accept, ChunkFailed, Done, Message, Page, PauseReason, Want},
    },
};

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        12 => Just(Fate::Whole),
        1 => Just(Fate::Doubled),
        1 => Just(Fate::Corrupt),
        1 => Just(Fate::Lie),
        1 => Just(Fate::Short),
        1 => Just(Fate::NoSpace),
    ];
    let step = prop_oneof![
        20 => Just(Step::Control),
        12 => (any::<u8>(), fate).prop_map(|(at, fate)| Step::Chunk(at, fate)),
        3 => Just(Step::Checkpoint),
        1 => any::<bool>().prop_map(Step::SyncFails),
        1 => any::<u8>().prop_map(Step::LostThenStored),
        1 => (any::<bool>(), proptest::option::of(0u32..8)).prop_map(|(b, r)| Step::Restart(b, r)),
        2 => (1u32..20).prop_map(Step::Credit),
        2 => any::<bool>().prop_map(Step::Hold),
        2 => Just(Step::Time),
    ];
    proptest::collection::vec(step, 0..160)
}

/// Steps in which no chunk can fail often enough to be given up.
fn bounded(steps: Vec<Step>) -> Vec<Step> {
    let mut faults = 0;
    let mut doubled = 0;
    steps
        .into_iter()
        .map(|step| match step {
            Step::Chunk(at, fate @ (Fate::Corrupt | Fate::Short | Fate::Lie)) => {
                faults += 1;
                let fate = if faults < MAX_CHUNK_FAILURES { fate } else { Fate::Whole };
                Step::Chunk(at, fate)
            }
            Step::Chunk(at, Fate::Doubled) => {
                doubled += 1;
                Step::Chunk(at, if doubled < 8 { Fate::Doubled } else { Fate::Whole })
            }
            other => other,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_always_completes(chunks in 0u32..40, eager in any::<bool>(), steps in steps()) {
        let mut world = if eager { World::eager(chunks) } else { World::new(chunks, ChunkSet::new()) };
        world.run(bounded(steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_completes_over_many_pages(holes in proptest::collection::vec(0u32..5, 0..40), steps in steps()) {
        // Six pages, of which chunks around the borders and the very last one are missing.
        let chunks = 5 * PAGE_CHUNKS as u32 + 3;
        let mut durable = ChunkSet::full(chunks);
        durable.remove(chunks - 1);
        for (i, hole) in holes.iter().enumerate() {
            let border = (i as u32 % 6) * PAGE_CHUNKS as u32;
            durable.remove((border + hole).saturating_sub(2).min(chunks - 1));
        }
        let mut world = World::new(chunks, durable);
        world.run(bounded(steps).into_iter().filter(|step| !matches!(step, Step::Restart(false, _))));
    }
}

#[test]
fn the_first_chunk_goes_alone_and_the_last_one_early() {
    let mut world = World::new(40, ChunkSet::new());
    world.step(&Step::Credit(16));
    let mut sent = Vec::new();
    for _ in 0..10 {
        world.step(&Step::Control);
        sent.extend(world.flying.iter().map(|f| f.chunk).filter(|c| !sent.contains(c)).collect::<Vec<_>>());
    }
    assert_eq!(sent[..2], [0, 39]);
}

/// Whatever the receiver has to say first is one flight, and the provider's answer to it carries chunks.
#[test]
fn the_first_chunks_come_one_round_trip_after_the_accept() {
    for chunks in [1, 2, 40, 3 * PAGE_CHUNKS as u32] {
        let mut world = World::new(chunks, ChunkSet::new());
        for message in std::mem::take(&mut world.to_provider) {
            if let Message::Want(want) = &message {
                assert_eq!(want.credit, CREDIT);
            }
            world.tell_provider(ProviderInput::Message(message));
        }
        assert_eq!(world.flying.len() as u32, CREDIT.min(chunks), "{chunks} chunks");
        assert_eq!(world.flying[0].chunk, 0);
        assert!(world.to_provider.is_empty());
        world.run_to_completion();
    }
}

/// The answer to an eager fetch carries chunks, and what the fetch has said is not said again.
#[test]
fn an_eager_fetch_has_its_first_chunks_with_the_offer() {
    for chunks in [0, 1, 2, 40, 3 * PAGE_CHUNKS as u32] {
        let mut world = World::eager(chunks);
        assert_eq!(world.flying.len() as u32, chunks.min(2), "{chunks} chunks");
        assert!(world.flying.iter().map(|flying| flying.chunk).eq(0..chunks.min(2)));
        for message in &world.to_provider {
            match message {
                Message::NeedPages(pages) => assert!(!pages.contains(&0)),
                Message::Want(want) => assert!(want.ranges.iter().all(|range| range.start >= 16)),
                Message::Done(_) if chunks == 0 => {}
                other => panic!("{chunks} chunks: {other:?}"),
            }
        }
        world.run_to_completion();
        let progress = world.provider.progress(world.now);
        assert_eq!((progress.chunks_verified, progress.chunks_failed), (chunks, 0));
    }
}

#[test]
fn chunks_that_overtake_their_page_are_held_and_not_sent_again() {
    let mut world = World::new(40, ChunkSet::new());
    for message in std::mem::take(&mut world.to_provider) {
        world.tell_provider(ProviderInput::Message(message));
    }
    let page = std::mem::take(&mut world.to_receiver);
    while !world.flying.is_empty() {
        world.step(&Step::Chunk(0, Fate::Whole));
    }
    assert!(world.receiver.verified().is_empty());
    assert_eq!(world.held.len() as u32, CREDIT);
    for message in page {
        world.tell_receiver(ReceiverInput::Message(message));
    }
    assert_eq!(world.receiver.verified().len(), CREDIT);
    world.run_to_completion();
    assert_eq!(world.provider.progress(world.now).chunks_failed, 0);
}

#[test]
fn before_its_page_a_chunk_is_not_taken_and_no_space_reserved() {
    let (file, mut receiver) = receiver_before_acting(9);
    let reserves = |receiver: &mut Receiver| {
        std::iter::from_fn(|| receiver.next_action())
            .any(|action| matches!(action, ReceiverAction::ReserveUpTo(_)))
    };
    assert!(!reserves(&mut receiver));
    assert_eq!(receiver.admit(&file.header(0), Now::ZERO), Ok(Admission::Hold));
    assert_eq!(receiver.admit(&file.header(0), Now::ZERO), Ok(Admission::Ignore));
    let page = Message::Page(Page { page: 0, values: file.values.clone() });
    receiver.handle(ReceiverInput::Message(page), Now::ZERO).unwrap();
    let expected = Expected::Subtree(file.values[0]);
    assert_eq!(receiver.next_action(), Some(ReceiverAction::Take { chunk: 0, expected }));
    assert!(reserves(&mut receiver));
    assert_eq!(receiver.next_action(), None);
}

#[test]
fn a_page_before_the_top_is_named() {
    let (file, mut receiver) = fresh_receiver(2 * PAGE_CHUNKS as u32);
    let values = file.values[..PAGE_CHUNKS as usize].to_vec();
    let page = ReceiverInput::Message(Message::Page(Page { page: 0, values }));
    assert_eq!(receiver.handle(page, Now::ZERO), Err(PeerMisbehaved::UnexpectedMessage("Page")));
}

#[test]
fn no_more_chunks_are_unverified_than_the_credit_allows() {
    let mut world = World::new(40, ChunkSet::new());
    world.step(&Step::Credit(3));
    for _ in 0..20 {
        world.step(&Step::Control);
        world.step(&Step::Time);
        assert!(world.flying.len() <= 3);
    }
}

#[test]
fn what_was_doubtful_is_hashed_and_not_fetched() {
    let mut world = World::new(20, ChunkSet::full(20));
    world.stored.insert(7, Cv([1; 32]));
    world.restart(false, None);
    let mut fetched = BTreeSet::new();
    for _ in 0..200 {
        world.step(&Step::Control);
        fetched.extend(world.flying.iter().map(|f| f.chunk));
        world.step(&Step::Chunk(0, Fate::Whole));
    }
    world.run_to_completion();
    assert_eq!(fetched, BTreeSet::from([7]));
}

fn receiver_before_acting(chunks: u32) -> (File, Receiver) {
    let file = File::new(chunks);
    let none = ChunkSet::new;
    let (_, receiver) = World::conversation(&file, &none(), none(), none(), Now::ZERO);
    (file, receiver)
}

fn fresh_receiver(chunks: u32) -> (File, Receiver) {
    let world = World::new(chunks, ChunkSet::new());
    (world.file, world.receiver)
}

#[test]
fn a_forged_list_is_named_before_any_chunk_is_taken() {
    let (file, mut receiver) = fresh_receiver(9);
    let mut values = file.values.clone();
    values.swap(0, 1);
    let forged = ReceiverInput::Message(Message::Page(Page { page: 0, values }));
    let error = receiver.handle(forged, Now::ZERO).unwrap_err();
    assert!(matches!(error, PeerMisbehaved::ForgedList(_)), "{error}");
    let (file, mut receiver) = fresh_receiver(2 * PAGE_CHUNKS as u32);
    let mut top = file.top.clone();
    top.swap(0, 1);
    let error = receiver.handle(ReceiverInput::Message(Message::Top(top)), Now::ZERO).unwrap_err();
    assert!(matches!(error, PeerMisbehaved::ForgedList(_)), "{error}");
}

/// Fault 48.
#[test]
fn unasked_and_misfitting_chunks_are_named() {
    let (file, mut receiver) = fresh_receiver(9);
    let header = file.header(3);
    assert_eq!(receiver.admit(&header, Now::ZERO), Ok(Admission::Hold));
    for _ in 0..MAX_UNASKED_CHUNKS {
        assert_eq!(receiver.admit(&header, Now::ZERO), Ok(Admission::Ignore));
    }
    assert_eq!(receiver.admit(&header, Now::ZERO), Err(PeerMisbehaved::UnaskedChunks));
    let odd = [
        ChunkHeader { index: 9, ..header.clone() },
        ChunkHeader { len: header.len - 1, ..header.clone() },
        ChunkHeader { proof: vec![Cv([0; 32])], ..header },
    ];
    for bad in odd {
        let (_, mut receiver) = fresh_receiver(9);
        assert_eq!(receiver.admit(&bad, Now::ZERO), Err(PeerMisbehaved::ChunkHeader(bad.index)));
    }
}

/// A failed sync takes back what is on its way again, too.
#[test]
fn what_is_wanted_is_not_wanted_twice_when_it_is_lost() {
    let (_, mut receiver) = fresh_receiver(9);
    let wanted = |receiver: &mut Receiver| {
        let actions = std::iter::from_fn(|| receiver.next_action());
        let ranges = actions.filter_map(|action| match action {
            ReceiverAction::Send(Message::Want(want)) => Some(want.ranges),
            _ => None,
        });
        ranges.flatten().collect::<Vec<_>>()
    };
    assert_eq!(wanted(&mut receiver), [], "all of it was asked for at the start");
    receiver.handle(ReceiverInput::Lost(ChunkSet::full(9)), Now::ZERO).unwrap();
    assert_eq!(wanted(&mut receiver), []);
    receiver.handle(ReceiverInput::ChunkStored { chunk: 2 }, Now::ZERO).unwrap();
    receiver.handle(ReceiverInput::Lost(ChunkSet::full(9)), Now::ZERO).unwrap();
    assert_eq!(wanted(&mut receiver), [ChunkRange { start: 2, count: 1 }]);
}

#[test]
fn a_chunk_that_never_verifies_ends_the_transfer() {
    let mut world = World::new(5, ChunkSet::new());
    let mut failures = 0;
    let error = 'run: loop {
        world.step(&Step::Control);
        while let Some(flying) = world.flying.pop() {
            if world.receiver.admit(&world.file.header(flying.chunk), world.now) == Ok(Admission::Ignore) {
                continue;
            }
            failures += 1;
            let input = ReceiverInput::ChunkFailed { chunk: flying.chunk, reason: ChunkFailure::Corrupt };
            if let Err(error) = world.receiver.handle(input, world.now) {
                break 'run error;
            }
            world.act();
        }
        assert!(failures < 100);
    };
    assert_eq!(error, PeerMisbehaved::BadChunks(MAX_CHUNK_FAILURES));
}

fn fresh_provider(chunks: u32) -> Provider {
    let file = File::new(chunks);
    let accept = Accept { chunk_log2: 18, have_count: 0, have: vec![] };
    Provider::new(file.geometry, file.id, &accept, Now::ZERO).unwrap()
}

#[test]
fn a_provider_counts_what_the_receiver_has() {
    let file = File::new(9);
    let accept = Accept { chunk_log2: 18, have_count: 3, have: vec![ChunkRange { start: 1, count: 2 }] };
    let mut provider = Provider::new(file.geometry, file.id, &accept, Now::ZERO).unwrap();
    let progress = provider.progress(Now::ZERO);
    assert_eq!((progress.chunks_verified, progress.chunks_total), (3, 9));
    assert_eq!((progress.verified_bytes, progress.total_bytes), (3 << 18, file.geometry.size()));
    assert!(!progress.parallel, "the first chunk goes alone");
    assert_eq!(provider.missing(), [ChunkRange { start: 0, count: 1 }, ChunkRange { start: 3, count: 6 }]);
    let rest = vec![ChunkRange { start: 0, count: 1 }, ChunkRange { start: 3, count: 6 }];
    provider.handle(ProviderInput::Message(Message::Verified(rest)), Now::ZERO).unwrap();
    let progress = provider.progress(Now::ZERO);
    assert_eq!((progress.chunks_verified, progress.verified_bytes), (9, file.geometry.size()));
    assert_eq!(provider.missing(), []);
}

#[test]
fn a_provider_counts_what_is_with_the_receiver_and_says_when_it_is_parallel() {
    let mut provider = fresh_provider(40);
    let want = Want { ranges: vec![ChunkRange { start: 0, count: 40 }], credit: 16 };
    provider.handle(ProviderInput::Message(Message::Want(want)), Now::ZERO).unwrap();
    let sent = |provider: &mut Provider| -> Vec<u32> {
        let actions: Vec<_> = std::iter::from_fn(|| provider.next_action()).collect();
        let chunk = |action: &ProviderAction| match action {
            ProviderAction::SendChunk(chunk) => Some(*chunk),
            _ => None,
        };
        actions.iter().filter_map(chunk).collect()
    };
    let first = sent(&mut provider);
    assert_eq!((first.len(), provider.with_peer()), (1, 0), "on its way, alone");
    let bytes = 1 << 18;
    provider.handle(ProviderInput::ChunkWritten { chunk: first[0] }, Now::ZERO).unwrap();
    provider.handle(ProviderInput::ChunkAcked { chunk: first[0], bytes }, Now::ZERO).unwrap();
    assert_eq!(provider.with_peer(), 1, "it is there, and not verified yet");
    let verified = Message::Verified(vec![ChunkRange { start: first[0], count: 1 }]);
    provider.handle(ProviderInput::Message(verified), Now::ZERO).unwrap();
    assert_eq!(provider.with_peer(), 0);
    let path = ProviderInput::Path { rtt: Now::from_millis(10), window: 1 << 20, moved: 1 };
    provider.handle(path, Now::from_millis(10)).unwrap();
    let more = sent(&mut provider);
    assert!(more.len() > 1, "{more:?}");
    for chunk in &more {
        provider.handle(ProviderInput::ChunkAcked { chunk: *chunk, bytes }, Now::from_millis(20)).unwrap();
    }
    assert!(provider.with_peer() as usize >= more.len());
    assert!(provider.progress(Now::from_millis(20)).parallel);
}

#[test]
fn a_receiver_that_breaks_the_rules_is_named() {
    let wrong =
        |message: Message| fresh_provider(9).handle(ProviderInput::Message(message), Now::ZERO).unwrap_err();
    let want =
        |start, count, credit| Message::Want(Want { ranges: vec![ChunkRange { start, count }], credit });
    assert!(matches!(wrong(want(8, 2, 1)), PeerMisbehaved::Ranges(_)));
    assert_eq!(wrong(want(0, 1, 0)), PeerMisbehaved::Credit(0));
    assert_eq!(wrong(want(0, 1, 1000)), PeerMisbehaved::Credit(1000));
    assert_eq!(wrong(Message::NeedPages(vec![1])), PeerMisbehaved::NoSuchPage(1));
    assert_eq!(wrong(Message::NeedPages(vec![0; 99])), PeerMisbehaved::TooManyPages);
    assert_eq!(wrong(Message::Top(vec![])), PeerMisbehaved::UnexpectedMessage("Top"));
    let failed = ChunkFailed { chunk: 9, reason: ChunkFailure::Corrupt };
    assert!(matches!(wrong(Message::ChunkFailed(failed)), PeerMisbehaved::Ranges(_)));
    let done = Done { file_id: File::new(9).id, name: "a".into(), fetchable: false };
    assert_eq!(wrong(Message::Done(done)), PeerMisbehaved::FalseDone);
    let all = Message::Verified(vec![ChunkRange { start: 0, count: 10 }]);
    assert!(matches!(wrong(all), PeerMisbehaved::Ranges(_)));
    let mut provider = fresh_provider(5000);
    let error = provider.handle(ProviderInput::Message(want(0, 5000, 1)), Now::ZERO);
    assert_eq!(error, Err(PeerMisbehaved::TooManyWanted));
    let file = File::new(9);
    for (have_count, have) in [
        (10, vec![]),
        (0, vec![ChunkRange { start: 0, count: 1 }]),
        (9, vec![ChunkRange { start: 9, count: 1 }]),
    ] {
        let accept = Accept { chunk_log2: 18, have_count, have };
        assert!(Provider::new(file.geometry, file.id, &accept, Now::ZERO).is_err());
    }
}

/// Fault 69.
#[test]
fn deadlines_measure_progress() {
    let mut provider = fresh_provider(9);
    let want = Want { ranges: vec![ChunkRange { start: 0, count: 9 }], credit: 4 };
    provider.handle(ProviderInput::Message(Message::Want(want)), Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::SendChunk(0)));
    let mut now = Now::ZERO;
    for moved in 1..20 {
        now += TRANSFER_PROGRESS_DEADLINE / 2;
        provider.handle(ProviderInput::Path { rtt: Now::ZERO, window: 0, moved }, now).unwrap();
        provider.handle(ProviderInput::Tick, now).unwrap();
        assert_eq!(provider.next_action(), None);
    }
    now += TRANSFER_PROGRESS_DEADLINE;
    provider.handle(ProviderInput::Tick, now).unwrap();
    assert_eq!(provider.next_action(), None);
    now += TRANSFER_PROGRESS_DEADLINE;
    provider.handle(ProviderInput::Tick, now).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::Stalled));

    let (_, mut receiver) = fresh_receiver(9);
    receiver.handle(ReceiverInput::Tick, TRANSFER_PROGRESS_DEADLINE / 2).unwrap();
    assert_eq!(receiver.next_action(), None);
    receiver.handle(ReceiverInput::ChunkBytes(LEAST_PROGRESS), TRANSFER_PROGRESS_DEADLINE).unwrap();
    receiver.handle(ReceiverInput::Tick, TRANSFER_PROGRESS_DEADLINE * 2).unwrap();
    assert_eq!(receiver.next_action(), None);
    receiver.handle(ReceiverInput::Tick, TRANSFER_PROGRESS_DEADLINE * 3).unwrap();
    assert_eq!(receiver.next_action(), Some(ReceiverAction::Stalled));

    // A byte a second is no progress, and the slowest of links is.
    let stalls_at = |rate: u64| {
        let (_, mut receiver) = fresh_receiver(9);
        (1..1000).find(|second| {
            receiver.handle(ReceiverInput::ChunkBytes(rate), Now::from_secs(*second)).unwrap();
            receiver.handle(ReceiverInput::Tick, Now::from_secs(*second)).unwrap();
            receiver.next_action() == Some(ReceiverAction::Stalled)
        })
    };
    assert_eq!(stalls_at(1), Some(TRANSFER_PROGRESS_DEADLINE.as_secs() + 1));
    assert_eq!(stalls_at(64), None);

    // What a limit holds back is owed by nobody.
    let (_, mut receiver) = fresh_receiver(9);
    receiver.handle(ReceiverInput::Hold(true), Now::ZERO).unwrap();
    receiver.handle(ReceiverInput::Tick, TRANSFER_PROGRESS_DEADLINE * 2).unwrap();
    receiver.handle(ReceiverInput::Hold(false), TRANSFER_PROGRESS_DEADLINE * 2).unwrap();
    receiver.handle(ReceiverInput::Tick, TRANSFER_PROGRESS_DEADLINE * 3).unwrap();
    assert_eq!(receiver.next_action(), None);
    receiver.handle(ReceiverInput::Tick, TRANSFER_PROGRESS_DEADLINE * 4).unwrap();
    assert_eq!(receiver.next_action(), Some(ReceiverAction::Stalled));
}

#[test]
fn while_words_are_held_no_more_comes_than_there_is_credit_for() {
    let mut world = World::new(40, ChunkSet::new());
    world.step(&Step::Hold(true));
    for _ in 0..200 {
        world.step(&Step::Control);
        world.step(&Step::Chunk(0, Fate::Whole));
    }
    assert_eq!(world.receiver.verified().len(), CREDIT);
    assert!(world.flying.is_empty() && world.completed.is_none());
    world.step(&Step::Hold(false));
    assert_eq!(world.to_provider.len(), 1, "what was held back is one word");
    world.run_to_completion();
}

/// Fault 12.
#[test]
fn a_full_disk_pauses_both_sides_for_as_long_as_it_takes() {
    let mut world = World::new(30, ChunkSet::new());
    world.step(&Step::Credit(4));
    while world.flying.is_empty() {
        world.step(&Step::Control);
    }
    world.step(&Step::Chunk(0, Fate::NoSpace));
    for _ in 0..20 {
        world.step(&Step::Control);
    }
    let before = world.flying.len();
    for _ in 0..10 {
        world.now += TRANSFER_PROGRESS_DEADLINE;
        world.tell_receiver(ReceiverInput::Tick);
        world.step(&Step::Control);
        assert!(world.flying.len() <= before);
    }
    world.run_to_completion();
}

#[test]
fn an_abort_ends_either_side() {
    let mut provider = fresh_provider(9);
    let abort = Message::Abort(AbortReason::Cancelled);
    provider.handle(ProviderInput::Message(abort.clone()), Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::Aborted(AbortReason::Cancelled)));
    let (_, mut receiver) = fresh_receiver(9);
    receiver.handle(ReceiverInput::Message(abort), Now::ZERO).unwrap();
    assert_eq!(receiver.next_action(), Some(ReceiverAction::Aborted(AbortReason::Cancelled)));
    let mut provider = fresh_provider(9);
    let paused = Message::Paused(PauseReason::Space);
    provider.handle(ProviderInput::Message(paused), Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::Paused));
}

#[test]
fn a_file_of_many_pages_that_is_all_here_completes_at_once() {
    let chunks = 2 * PAGE_CHUNKS as u32;
    for believed in [true, false] {
        let mut world = World::new(chunks, ChunkSet::full(chunks));
        world.restart(believed, None);
        world.run_to_completion();
    }
}

#[test]
fn a_loss_that_is_reported_twice_costs_one_more_fetch() {
    let mut world = World::new(300, ChunkSet::new());
    world.step(&Step::Credit(32));
    while world.receiver.verified().len() < 299 {
        if world.to_receiver.is_empty() && world.to_provider.is_empty() && world.flying.is_empty() {
            world.step(&Step::Time);
        }
        world.step(&Step::Control);
        world.step(&Step::Chunk(0, Fate::Whole));
    }
    world.step(&Step::SyncFails(true));
    world.run_to_completion();
}

#[test]
fn no_more_chunks_are_admitted_than_the_largest_credit() {
    let mut world = World::new(40, ChunkSet::new());
    world.step(&Step::Credit(3));
    for _ in 0..6 {
        world.step(&Step::Control);
    }
    let admitted = (0..40).filter(|chunk| {
        let header = world.file.header(*chunk);
        matches!(world.receiver.admit(&header, world.now), Ok(Admission::Take(_)))
    });
    assert_eq!(admitted.count(), 3);
}

/// Fault 44.
#[test]
fn complaints_about_chunks_are_bounded() {
    let mut provider = fresh_provider(9);
    let failed = |chunk, reason| ProviderInput::Message(Message::ChunkFailed(ChunkFailed { chunk, reason }));
    for _ in 0..MAX_UNASKED_CHUNKS {
        assert_eq!(provider.handle(failed(3, ChunkFailure::NotStored), Now::ZERO), Ok(()));
    }
    let error = provider.handle(failed(3, ChunkFailure::NotStored), Now::ZERO);
    assert_eq!(error, Err(PeerMisbehaved::UnexpectedMessage("ChunkFailed")));
    let mut provider = fresh_provider(9);
    for _ in 0..MAX_CHUNK_FAILURES {
        assert_eq!(provider.handle(failed(3, ChunkFailure::Corrupt), Now::ZERO), Ok(()));
    }
    let error = provider.handle(failed(3, ChunkFailure::Corrupt), Now::ZERO);
    assert_eq!(error, Err(PeerMisbehaved::BadChunks(MAX_CHUNK_FAILURES + 1)));
}

/// Fault 55.
#[test]
fn a_name_as_long_as_a_book_is_no_name() {
    let file = File::new(9);
    let all = vec![ChunkRange { start: 0, count: 9 }];
    let accept = Accept { chunk_log2: 18, have_count: 9, have: all };
    let mut provider = Provider::new(file.geometry, file.id, &accept, Now::ZERO).unwrap();
    let done = Done { file_id: file.id, name: "n".repeat(100_000), fetchable: false };
    let error = provider.handle(ProviderInput::Message(Message::Done(done)), Now::ZERO).unwrap_err();
    assert!(matches!(error, PeerMisbehaved::Name(_)), "{error}");
}
