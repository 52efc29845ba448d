//! Offers without a File ID: hashed while they are sent, sealed at the end.

use super::*;
use crate::{
    FileId,
    wire::peer::{Hashing, Seal},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_always_completes_without_a_file_id(chunks in 2u32..40, steps in steps()) {
        let mut world = World::unsealed(chunks);
        world.run(bounded(steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_completes_over_many_pages_without_a_file_id(steps in steps()) {
        let chunks = 5 * PAGE_CHUNKS as u32 + 3;
        let mut world = World::unsealed(chunks);
        for chunk in (0..chunks - 9).filter(|chunk| chunk % 1000 > 2) {
            world.durable.insert(chunk);
            world.stored.insert(chunk, world.file.values[chunk as usize]);
            world.unsealed.as_mut().unwrap().values.insert(chunk, world.file.values[chunk as usize]);
        }
        world.restart(true, None);
        world.run(bounded(steps).into_iter().filter(|step| !matches!(step, Step::Restart(false, _))));
    }
}

fn unsealed_receiver(chunks: u32) -> (File, Receiver) {
    let mut world = World::unsealed(chunks);
    while world.receiver.next_action().is_some() {}
    (world.file, world.receiver)
}

fn seal_of(file: &File) -> Seal {
    Seal { file_id: file.id, size: file.geometry.size(), chunks: file.geometry.chunks() }
}

/// What the receiver makes of a message, before the seal or after it.
fn tell(receiver: &mut Receiver, message: Message) -> Result<(), PeerMisbehaved> {
    receiver.handle(ReceiverInput::Message(message), Now::ZERO)
}

fn with_value(file: &File, chunk: u32) -> ChunkHeader {
    ChunkHeader { cv: Some(file.values[chunk as usize]), ..file.header(chunk) }
}

#[test]
fn the_source_is_read_once_and_its_first_chunk_waits_for_no_hash() {
    let mut world = World::unsealed(100);
    for message in std::mem::take(&mut world.to_provider) {
        assert!(matches!(message, Message::Want(_)), "{message:?}");
        world.tell_provider(ProviderInput::Message(message));
    }
    assert_eq!(world.flying.len() as u32, CREDIT);
    world.run_to_completion();
    let unsealed = world.unsealed.as_ref().unwrap();
    assert!((0..100).all(|chunk| unsealed.reads[&chunk] == 1), "{:?}", unsealed.reads);
    assert!(unsealed.hashing.is_empty());
}

/// Delivers everything in order, without loss, until the receiver has this many chunks.
fn run_until(world: &mut World, chunks: u32) {
    while world.receiver.verified().len() < chunks {
        if world.to_receiver.is_empty() && world.to_provider.is_empty() && world.flying.is_empty() {
            world.pass_time();
        }
        world.step(&Step::Control);
        world.step(&Step::Chunk(0, Fate::Whole));
    }
}

#[test]
fn what_is_there_after_a_break_is_hashed_by_the_provider_and_not_sent_again() {
    for (believe, kept) in [(true, true), (true, false), (false, false)] {
        let mut world = World::unsealed(100);
        run_until(&mut world, 60);
        world.checkpoint();
        let unsealed = world.unsealed.as_mut().unwrap();
        unsealed.reads.clear();
        if !kept {
            unsealed.hashed = ChunkSet::new();
        }
        let there = world.durable.clone();
        world.restart(believe, None);
        let mut sent = BTreeSet::new();
        while world.completed.is_none() {
            sent.extend(world.flying.iter().map(|flying| flying.chunk));
            if world.to_receiver.is_empty() && world.to_provider.is_empty() && world.flying.is_empty() {
                world.pass_time();
            }
            world.step(&Step::Control);
            sent.extend(world.flying.iter().map(|flying| flying.chunk));
            world.step(&Step::Chunk(0, Fate::Whole));
        }
        assert!(sent.iter().all(|chunk| !there.contains(*chunk)), "{believe} {kept}: {sent:?}");
        let reads = &world.unsealed.as_ref().unwrap().reads;
        assert!(reads.values().all(|times| *times == 1), "{reads:?}");
        assert_eq!(reads.len(), if kept { 40 } else { 100 }, "{reads:?}");
    }
}

#[test]
fn a_lie_is_found_out_at_the_seal_and_fetched_again() {
    let mut world = World::unsealed(20);
    run_until(&mut world, 3);
    while world.flying.is_empty() {
        world.step(&Step::Control);
    }
    let lie = world.flying[0].chunk;
    world.step(&Step::Chunk(0, Fate::Lie));
    assert!(world.receiver.verified().contains(lie), "nothing tells it from the truth yet");
    world.run_to_completion();
    assert_eq!(world.unsealed.as_ref().unwrap().reads[&lie], 2);
}

#[test]
fn before_the_seal_a_chunk_comes_with_its_value() {
    let (file, mut receiver) = unsealed_receiver(9);
    let taken = receiver.admit(&with_value(&file, 0), Now::ZERO);
    assert_eq!(taken, Ok(Admission::Take(Expected::Subtree(file.values[0]))));
    assert_eq!(receiver.admit(&file.header(1), Now::ZERO), Err(PeerMisbehaved::ChunkHeader(1)));
}

#[test]
fn lists_and_words_come_in_their_order() {
    let many = 2 * PAGE_CHUNKS as u32;
    let (file, mut receiver) = unsealed_receiver(many);
    let top = || Message::Top(file.top.clone());
    assert_eq!(tell(&mut receiver, top()), Err(PeerMisbehaved::UnexpectedMessage("Top")));
    let (file, mut receiver) = unsealed_receiver(9);
    let page = || Message::Page(Page { page: 0, values: file.values.clone() });
    assert_eq!(tell(&mut receiver, page()), Err(PeerMisbehaved::UnexpectedMessage("Page")));
    let (_, mut receiver) = unsealed_receiver(9);
    tell(&mut receiver, Message::Seal(seal_of(&file))).unwrap();
    assert_eq!(receiver.next_action(), Some(ReceiverAction::Sealed(file.id)));
    assert_eq!(receiver.next_action(), Some(ReceiverAction::Send(Message::NeedPages(vec![0]))));
    tell(&mut receiver, page()).unwrap();
    let again = tell(&mut receiver.clone(), Message::Seal(seal_of(&file)));
    assert_eq!(again, Err(PeerMisbehaved::UnexpectedMessage("Seal")));
    let (_, mut hashing) = unsealed_receiver(9);
    assert_eq!(tell(&mut hashing, Message::Hashing(Hashing { left: 9 })), Ok(()));
    let more_than_all = tell(&mut hashing, Message::Hashing(Hashing { left: 10 }));
    assert_eq!(more_than_all, Err(PeerMisbehaved::UnexpectedMessage("Hashing")));
    let word = tell(&mut receiver, Message::Hashing(Hashing { left: 1 }));
    assert_eq!(word, Err(PeerMisbehaved::UnexpectedMessage("Hashing")));
    let (_, mut sealed) = fresh_receiver(9);
    let seal = tell(&mut sealed, Message::Seal(seal_of(&file)));
    assert_eq!(seal, Err(PeerMisbehaved::UnexpectedMessage("Seal")));
}

#[test]
fn a_seal_of_something_else_is_named() {
    let (file, receiver) = unsealed_receiver(9);
    let seal = seal_of(&file);
    for bad in [Seal { size: seal.size + 1, ..seal }, Seal { chunks: 8, ..seal }] {
        assert_eq!(tell(&mut receiver.clone(), Message::Seal(bad)), Err(PeerMisbehaved::FalseSeal));
    }
    let mut receiver = receiver;
    let other = FileId([9; 32]);
    tell(&mut receiver, Message::Seal(Seal { file_id: other, ..seal })).unwrap();
    let error = tell(&mut receiver, Message::Page(Page { page: 0, values: file.values.clone() }));
    assert!(matches!(error, Err(PeerMisbehaved::ForgedList(_))), "{error:?}");
}

#[test]
fn nothing_is_published_before_the_seal() {
    let (file, mut receiver) = unsealed_receiver(2);
    for chunk in 0..2 {
        receiver.admit(&with_value(&file, chunk), Now::ZERO).unwrap();
        receiver.handle(ReceiverInput::ChunkStored { chunk }, Now::ZERO).unwrap();
    }
    let publishes = |receiver: &mut Receiver| {
        std::iter::from_fn(|| receiver.next_action()).any(|action| action == ReceiverAction::Publish)
    };
    assert!(receiver.verified().len() == 2 && !publishes(&mut receiver));
    tell(&mut receiver, Message::Seal(seal_of(&file))).unwrap();
    assert!(!publishes(&mut receiver), "what came is not proven yet");
    tell(&mut receiver, Message::Page(Page { page: 0, values: file.values.clone() })).unwrap();
    assert!(publishes(&mut receiver));
}

#[test]
fn a_receiver_may_not_ask_for_lists_or_be_done_before_the_seal() {
    let file = File::new(9);
    let all = vec![ChunkRange { start: 0, count: 9 }];
    let accept = Accept { chunk_log2: 18, have_count: 9, have: all };
    let provider = || Provider::unsealed(file.geometry, &ChunkSet::new(), &accept, Now::ZERO).unwrap();
    let wrong = |message| provider().handle(ProviderInput::Message(message), Now::ZERO).unwrap_err();
    let unexpected = PeerMisbehaved::UnexpectedMessage("NeedPages");
    assert_eq!(wrong(Message::NeedPages(vec![0])), unexpected);
    let done = Done { file_id: file.id, name: "a".into(), fetchable: false };
    assert_eq!(wrong(Message::Done(done.clone())), PeerMisbehaved::FalseDone);
    let seal = PeerMisbehaved::UnexpectedMessage("Seal");
    assert_eq!(wrong(Message::Seal(seal_of(&file))), seal);
    let mut provider = provider();
    provider.handle(ProviderInput::Sealed(file.id), Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::SendSeal(seal_of(&file))));
    provider.handle(ProviderInput::Message(Message::NeedPages(vec![0])), Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::SendPage(0)));
    provider.handle(ProviderInput::Message(Message::Done(done)), Now::ZERO).unwrap();
}

#[test]
fn a_provider_that_knows_its_chunks_already_seals_at_once() {
    let many = 2 * PAGE_CHUNKS as u32;
    let file = File::new(many);
    let accept = Accept { chunk_log2: 18, have_count: 0, have: vec![] };
    let mut provider = Provider::unsealed(file.geometry, &ChunkSet::full(many), &accept, Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::Finish));
    provider.handle(ProviderInput::Sealed(file.id), Now::ZERO).unwrap();
    provider.handle(ProviderInput::Sealed(file.id), Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::SendSeal(seal_of(&file))));
    assert_eq!(provider.next_action(), Some(ProviderAction::SendTop));
    assert_eq!(provider.next_action(), None);
}

#[test]
fn a_seal_is_waited_for_as_long_as_the_provider_gets_on() {
    let (_, receiver) = unsealed_receiver(9);
    let half = TRANSFER_PROGRESS_DEADLINE / 2;
    let stalled_after = |words: &[u32]| {
        let (mut receiver, mut now) = (receiver.clone(), Now::ZERO);
        for left in words {
            now += half;
            let word = Message::Hashing(Hashing { left: *left });
            receiver.handle(ReceiverInput::Message(word), now).unwrap();
        }
        receiver.handle(ReceiverInput::Tick, now + half + Now::from_secs(1)).unwrap();
        std::iter::from_fn(|| receiver.next_action()).any(|action| action == ReceiverAction::Stalled)
    };
    assert!(!stalled_after(&[9, 8, 7, 6, 5]));
    assert!(stalled_after(&[9, 8, 8]), "a word that says nothing new");
    assert!(stalled_after(&[9, 8, 9]), "nor this");
}

#[test]
fn a_provider_says_how_far_its_hashing_is() {
    let file = File::new(9);
    let accept = Accept { chunk_log2: 18, have_count: 9, have: vec![ChunkRange { start: 0, count: 9 }] };
    let mut provider = Provider::unsealed(file.geometry, &ChunkSet::new(), &accept, Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), None, "it waits for what the receiver wants");
    let nothing = Message::Want(Want { ranges: vec![], credit: 1 });
    provider.handle(ProviderInput::Message(nothing), Now::ZERO).unwrap();
    for chunk in 0..4 {
        assert_eq!(provider.next_action(), Some(ProviderAction::HashChunk(chunk)));
    }
    assert_eq!(provider.next_action(), None);
    provider.handle(ProviderInput::ChunkHashed { chunk: 2 }, Now::ZERO).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::HashChunk(4)));
    provider.handle(ProviderInput::Tick, TRANSFER_PROGRESS_DEADLINE / 4).unwrap();
    assert_eq!(provider.next_action(), Some(ProviderAction::SendHashing(Hashing { left: 8 })));
}
