use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use p2p_protocol::{
    Cv,
    limits::{MAX_CHUNK_HEADER_LEN, MAX_FIRST_FRAME_LEN, MAX_FRAME_LEN},
    reason::{AbortReason, PeerMisbehaved, close},
    wire::{codec, peer::Message},
};

use super::*;
use crate::transport::ChunkStreamError;

/// Long enough that bytes which have been sent arrive, short enough to wait for in a test.
const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn chunks_of_all_sizes_arrive_as_they_were() {
    let pair = pair().await;
    for (index, len) in [0, 1, 1023, 1024, 1025, 100_000, 4 << 20].into_iter().enumerate() {
        move_chunk(&pair.dialled, &pair.accepted, index as u32, payload(len)).await;
        move_chunk(&pair.accepted, &pair.dialled, index as u32, payload(len)).await;
    }
}

#[tokio::test]
async fn a_chunk_of_zeros_has_no_payload() {
    let pair = pair().await;
    let sent = ChunkHeader {
        encoding: Encoding::Zeros,
        cv: Some(Cv(*blake3::hash(b"x").as_bytes())),
        ..header(3, 4 << 20)
    };
    let stream = pair.dialled.open_chunk().await.unwrap();
    let in_flight = stream.write(&sent, Bytes::new()).await.unwrap();
    let mut stream = pair.accepted.accept_chunk().await.unwrap();
    let got = stream.header().await.unwrap();
    assert_eq!(got, sent);
    assert!(stream.payload(&got, &|_| {}).await.unwrap().is_empty());
    in_flight.acked().await.unwrap();
}

#[tokio::test]
async fn arriving_bytes_are_counted() {
    let pair = pair().await;
    let bytes = payload(1 << 20);
    let stream = pair.dialled.open_chunk().await.unwrap();
    let _in_flight = stream.write(&header(0, bytes.len()), bytes.clone()).await.unwrap();
    let mut stream = pair.accepted.accept_chunk().await.unwrap();
    let header = stream.header().await.unwrap();
    let (sum, calls) = (AtomicU64::new(0), AtomicU64::new(0));
    let count = |bytes| {
        sum.fetch_add(bytes, Ordering::Relaxed);
        calls.fetch_add(1, Ordering::Relaxed);
    };
    stream.payload(&header, &count).await.unwrap();
    assert_eq!(sum.into_inner(), 1 << 20);
    assert!(calls.into_inner() > 1);
}

/// What has a deadline does not wait for ever.
async fn in_time<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the deadline is of no effect")
}

/// Faults 49 and 69.
#[tokio::test]
async fn chunks_cut_short_too_long_or_stalled_have_their_names() {
    let pair = pair().await;
    let quic = pair.dialled.quic();
    for (sent, finish, expected) in [
        (0, true, ChunkStreamError::Truncated),
        (999, true, ChunkStreamError::Truncated),
        (1001, true, ChunkStreamError::TooLong),
        (1001, false, ChunkStreamError::TooLong),
        (0, false, ChunkStreamError::Stalled),
        (999, false, ChunkStreamError::Stalled),
        // All bytes and no end: it could still become too long.
        (1000, false, ChunkStreamError::Stalled),
    ] {
        let mut raw = quic.open_uni().await.unwrap();
        raw.write_all(&header(0, 1000).encode()).await.unwrap();
        raw.write_all(&payload(sent)).await.unwrap();
        if finish {
            raw.finish().unwrap();
        }
        let mut stream = pair.accepted.accept_chunk().await.unwrap();
        let header = stream.header().await.unwrap();
        let result = in_time(stream.payload_within(&header, &|_| {}, SOON)).await;
        assert_eq!(result.unwrap_err(), expected, "{sent} bytes, finished: {finish}");
        if expected == ChunkStreamError::Stalled {
            assert_eq!(raw.stopped().await, Ok(Some(close::DEADLINE.into())));
        }
    }
    move_chunk(&pair.dialled, &pair.accepted, 9, payload(1000)).await;
}

/// Fault 46.
#[tokio::test]
async fn no_header_makes_anybody_reserve_more_than_a_chunk() {
    let pair = pair().await;
    let stream = pair.dialled.open_chunk().await.unwrap();
    let huge = ChunkHeader { len: u32::MAX, ..header(0, 0) };
    let in_flight = stream.write(&huge, payload(10)).await.unwrap();
    let mut stream = pair.accepted.accept_chunk().await.unwrap();
    let header = stream.header().await.unwrap();
    assert_eq!(stream.payload(&header, &|_| {}).await.unwrap_err(), ChunkStreamError::TooLong);
    // All of it had arrived before it was refused, or had not: either is fine.
    let _ = in_flight.acked().await;
}

#[tokio::test]
async fn bad_chunk_headers_are_misbehaviour() {
    let pair = pair().await;
    let mut trailing = header(1, 1).encode();
    trailing[0] += 1;
    trailing.push(0);
    let cases: [(Vec<u8>, PeerMisbehaved); 5] = [
        (vec![0xff, 0xff, 0], PeerMisbehaved::FrameTooLong(0xffff)),
        (
            (MAX_CHUNK_HEADER_LEN as u16 + 1).to_le_bytes().to_vec(),
            PeerMisbehaved::FrameTooLong(MAX_CHUNK_HEADER_LEN as u64 + 1),
        ),
        (vec![3, 0, 1, 2, 3], PeerMisbehaved::MalformedFrame),
        (vec![3, 0, 1], PeerMisbehaved::MalformedFrame),
        (trailing, PeerMisbehaved::MalformedFrame),
    ];
    for (bytes, expected) in cases {
        let mut raw = pair.dialled.quic().open_uni().await.unwrap();
        raw.write_all(&bytes).await.unwrap();
        raw.finish().unwrap();
        let mut stream = pair.accepted.accept_chunk().await.unwrap();
        match stream.header().await {
            Err(TransportError::Misbehaved(fault)) => assert_eq!(fault, expected, "{bytes:?}"),
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
}

/// Fault 68.
#[tokio::test]
async fn a_chunk_stream_left_idle_is_reaped() {
    let pair = pair().await;
    let mut raw = pair.dialled.quic().open_uni().await.unwrap();
    raw.write_all(&[5]).await.unwrap();
    let mut stream = pair.accepted.accept_chunk().await.unwrap();
    let error = in_time(stream.header_within(SOON)).await.unwrap_err();
    assert!(matches!(error, TransportError::Stalled { .. }), "{error}");
    assert_eq!(raw.stopped().await, Ok(Some(close::DEADLINE.into())));
}

#[tokio::test]
async fn an_unwanted_chunk_is_stopped_and_its_sender_hears_why() {
    let pair = pair().await;
    let stream = pair.dialled.open_chunk().await.unwrap();
    // Larger than what QUIC sends at once, so that it cannot have arrived whole.
    let header = header(0, 4 << 20);
    let write = stream.write(&header, payload(4 << 20));
    let stop = async { pair.accepted.accept_chunk().await.unwrap().stop(close::STREAM_UNWANTED) };
    let (written, ()) = tokio::join!(write, stop);
    let error = match written {
        Ok(in_flight) => in_flight.acked().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, TransportError::Stopped { code: close::STREAM_UNWANTED }), "{error:?}");
    move_chunk(&pair.dialled, &pair.accepted, 1, payload(1000)).await;
}

#[tokio::test]
async fn dropping_a_chunk_on_its_way_resets_its_stream() {
    let pair = pair().await;
    let mut aborted = pair.dialled.open_chunk().await.unwrap();
    aborted.write_some(b"\x05").await;
    drop(aborted);
    let mut stream = pair.accepted.accept_chunk().await.unwrap();
    let error = stream.header().await.unwrap_err();
    assert!(matches!(error, TransportError::Reset { code: close::STREAM_ABORTED }), "{error:?}");

    let stream = pair.dialled.open_chunk().await.unwrap();
    let in_flight = stream.write(&header(0, 4 << 20), payload(4 << 20)).await.unwrap();
    let mut stream = pair.accepted.accept_chunk().await.unwrap();
    let header = stream.header().await.unwrap();
    drop(in_flight);
    assert_eq!(stream.payload(&header, &|_| {}).await.unwrap_err(), ChunkStreamError::Broken);
}

#[tokio::test]
async fn conversations_carry_whole_messages_both_ways() {
    let pair = pair().await;
    let mut ids = Vec::new();
    for n in 0..3u8 {
        let mut here = pair.dialled.open_control().await.unwrap();
        let big = Message::Top(vec![Cv([n; 32]); 4096]);
        let small = Message::NeedPages(vec![u32::from(n)]);
        here.sender.send(&small).await.unwrap();
        here.sender.send(&big).await.unwrap();
        here.sender.finish();
        let mut there = pair.accepted.accept_control().await.unwrap();
        assert_eq!(here.id, there.id);
        ids.push(here.id);
        assert_eq!(there.receiver.recv(MAX_FIRST_FRAME_LEN).await.unwrap(), Some(small));
        assert_eq!(there.receiver.recv(MAX_FRAME_LEN).await.unwrap(), Some(big.clone()));
        assert_eq!(there.receiver.recv(MAX_FRAME_LEN).await.unwrap(), None);
        there.sender.send(&big).await.unwrap();
        drop(there);
        assert_eq!(here.receiver.recv(MAX_FRAME_LEN).await.unwrap(), Some(big));
        assert_eq!(here.receiver.recv(MAX_FRAME_LEN).await.unwrap(), None);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

/// Fault 50.
#[tokio::test]
async fn bad_frames_are_misbehaviour() {
    let pair = pair().await;
    let good = codec::frame(&Message::Abort(AbortReason::Stalled), MAX_FRAME_LEN).unwrap();
    let mut trailing = good.clone();
    trailing[0] += 1;
    trailing.push(0);
    let too_long = |len: u32| (len.to_le_bytes().to_vec(), PeerMisbehaved::FrameTooLong(u64::from(len)));
    let cases = [
        too_long(MAX_FRAME_LEN as u32 + 1),
        too_long(u32::MAX),
        (vec![0, 0, 0, 0], PeerMisbehaved::MalformedFrame),
        (vec![4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], PeerMisbehaved::MalformedFrame),
        (trailing, PeerMisbehaved::MalformedFrame),
        (good[..good.len() - 1].to_vec(), PeerMisbehaved::MalformedFrame),
        (good[..2].to_vec(), PeerMisbehaved::MalformedFrame),
    ];
    for (bytes, expected) in cases {
        let (mut raw, _) = pair.dialled.quic().open_bi().await.unwrap();
        raw.write_all(&bytes).await.unwrap();
        raw.finish().unwrap();
        let mut there = pair.accepted.accept_control().await.unwrap();
        match there.receiver.recv(MAX_FRAME_LEN).await {
            Err(TransportError::Misbehaved(fault)) => assert_eq!(fault, expected, "{bytes:?}"),
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn control_messages_overtake_chunk_data() {
    let pair = pair().await;
    let mut here = pair.dialled.open_control().await.unwrap();
    here.sender.send(&Message::NeedPages(vec![])).await.unwrap();
    let mut there = pair.accepted.accept_control().await.unwrap();
    assert!(there.receiver.recv(MAX_FRAME_LEN).await.unwrap().is_some());
    // As much as the peer takes without reading, less a message.
    let mut in_flight = Vec::new();
    for index in 0..4 {
        let stream = pair.dialled.open_chunk().await.unwrap();
        in_flight.push(stream.write(&header(index, 4 << 20), payload(4 << 20)).await.unwrap());
    }
    here.sender.send(&Message::NeedPages(vec![1])).await.unwrap();
    assert_eq!(there.receiver.recv(MAX_FRAME_LEN).await.unwrap(), Some(Message::NeedPages(vec![1])));
    // Sixteen MiB are not through yet when a message behind them is, unless it overtook.
    let mut stream = pair.accepted.accept_chunk().await.unwrap();
    let header = stream.header().await.unwrap();
    assert_eq!(stream.payload(&header, &|_| {}).await.unwrap().len(), 4 << 20);
}
