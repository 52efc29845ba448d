//! The only chunk of a small file, which goes along with the offer.

use super::*;

/// A provider whose chunk went along, after an `Accept` that says how much was there.
fn provider(have_count: u32) -> (File, Provider) {
    let file = File::new(1);
    let have = (0..have_count).map(|start| ChunkRange { start, count: 1 }).collect();
    let accept = Accept { chunk_log2: 18, have_count, have };
    let provider = Provider::with_chunk(file.geometry, file.id, &accept, Now::ZERO).unwrap();
    (file, provider)
}

fn tell(provider: &mut Provider, input: ProviderInput) -> Option<ProviderAction> {
    provider.handle(input, Now::ZERO).unwrap();
    provider.next_action()
}

fn want() -> ProviderInput {
    ProviderInput::Message(Message::Want(Want { ranges: vec![ChunkRange { start: 0, count: 1 }], credit: 1 }))
}

fn finish(file: &File, mut provider: Provider) {
    let verified = Message::Verified(vec![ChunkRange { start: 0, count: 1 }]);
    assert_eq!(tell(&mut provider, ProviderInput::Message(verified)), None);
    let done = Done { file_id: file.id, name: "a".into(), fetchable: false };
    let completed = tell(&mut provider, ProviderInput::Message(Message::Done(done.clone())));
    assert_eq!(completed, Some(ProviderAction::Completed(done)));
}

#[test]
fn what_went_along_is_not_sent_again() {
    let (file, mut provider) = provider(0);
    assert_eq!(provider.progress(Now::ZERO).streams, 1);
    assert_eq!(tell(&mut provider, ProviderInput::ChunkWritten { chunk: 0 }), None);
    assert_eq!(tell(&mut provider, want()), None);
    assert_eq!(tell(&mut provider, ProviderInput::ChunkAcked { chunk: 0, bytes: 5 }), None);
    finish(&file, provider);
}

#[test]
fn what_there_was_no_room_for_is_sent_when_it_is_wanted() {
    let stopped = || ProviderInput::ChunkStopped { chunk: 0 };
    for stopped_first in [true, false] {
        let (file, mut provider) = provider(0);
        let (first, second) = if stopped_first { (stopped(), want()) } else { (want(), stopped()) };
        assert_eq!(tell(&mut provider, first), None);
        assert_eq!(tell(&mut provider, second), Some(ProviderAction::SendChunk(0)));
        // The second stream is an ordinary one.
        assert_eq!(tell(&mut provider, stopped()), None);
        finish(&file, provider);
    }
}

#[test]
fn what_arrived_before_there_was_room_for_it_is_no_failure_and_comes_again() {
    let missed = || {
        ProviderInput::Message(Message::ChunkFailed(ChunkFailed {
            chunk: 0,
            reason: ChunkFailure::NotStored,
        }))
    };
    let before: [&[ProviderInput]; 3] = [
        &[],
        &[ProviderInput::ChunkWritten { chunk: 0 }, ProviderInput::ChunkAcked { chunk: 0, bytes: 5 }],
        &[ProviderInput::ChunkStopped { chunk: 0 }],
    ];
    for before in before {
        let (file, mut provider) = provider(0);
        for input in before {
            assert_eq!(tell(&mut provider, input.clone()), None);
        }
        assert_eq!(tell(&mut provider, missed()), None);
        assert_eq!(tell(&mut provider, want()), Some(ProviderAction::SendChunk(0)));
        assert_eq!(provider.progress(Now::ZERO).chunks_failed, 0);
        // The next one is a failure.
        assert!(matches!(tell(&mut provider, missed()), Some(ProviderAction::ChunkFailed { .. })));
        assert_eq!(tell(&mut provider, want()), Some(ProviderAction::SendChunk(0)));
        finish(&file, provider);
    }
}

#[test]
fn what_came_damaged_is_sent_when_it_is_wanted_again() {
    let (file, mut provider) = provider(0);
    assert_eq!(tell(&mut provider, want()), None);
    let failed = ChunkFailed { chunk: 0, reason: ChunkFailure::Corrupt };
    let told = tell(&mut provider, ProviderInput::Message(Message::ChunkFailed(failed)));
    assert_eq!(told, Some(ProviderAction::ChunkFailed { chunk: 0, reason: ChunkFailure::Corrupt }));
    assert_eq!(tell(&mut provider, want()), Some(ProviderAction::SendChunk(0)));
    finish(&file, provider);
}

#[test]
fn what_is_there_is_not_waited_for() {
    let (file, mut provider) = provider(1);
    assert_eq!(provider.progress(Now::ZERO).streams, 0);
    assert_eq!(tell(&mut provider, ProviderInput::ChunkStopped { chunk: 0 }), None);
    finish(&file, provider);
}

#[test]
fn what_comes_while_something_older_is_hashed_comes_again_if_that_is_wrong() {
    for good in [false, true] {
        let (file, mut provider) = provider(0);
        for input in
            [ProviderInput::ChunkWritten { chunk: 0 }, ProviderInput::ChunkAcked { chunk: 0, bytes: 5 }]
        {
            assert_eq!(tell(&mut provider, input), None);
        }
        let start = ReceiverStart {
            wanted: None,
            layout: file.geometry.into(),
            file_id: Some(file.id),
            verified: ChunkSet::new(),
            doubtful: ChunkSet::full(1),
            claimed: ChunkSet::new(),
            values: None,
            credit: 4,
            eager: false,
        };
        let mut receiver = Receiver::new(start, Now::ZERO);
        assert!(matches!(receiver.next_action(), Some(ReceiverAction::Recheck { chunk: 0, .. })));
        assert_eq!(receiver.admit(&file.header(0), Now::ZERO), Ok(Admission::Ignore));
        receiver.handle(ReceiverInput::Rechecked { chunk: 0, good }, Now::ZERO).unwrap();
        let mut sent = None;
        while let Some(action) = receiver.next_action() {
            if let ReceiverAction::Send(message) = action {
                sent = tell(&mut provider, ProviderInput::Message(message)).or(sent);
            }
        }
        assert_eq!(sent, (!good).then_some(ProviderAction::SendChunk(0)));
        assert_eq!(provider.progress(Now::ZERO).chunks_failed, 0, "it is nobody's fault");
    }
}
