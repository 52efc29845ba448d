//! The unidirectional stream of one chunk: a header, the chunk's bytes, the end.

use std::time::Duration;

use bytes::Bytes;
use p2p_protocol::{
    limits::{CHUNK_PROGRESS_DEADLINE, FIRST_FRAME_DEADLINE, MAX_CHUNK_LEN},
    reason::{PeerMisbehaved, close},
    wire::chunk::{ChunkHeader, PREFIX_LEN},
};

use super::{
    connection::Connection,
    error::{self, TransportError},
};
use crate::buffer::Buffer;

/// Pieces taken from QUIC in one go, about as many as arrive together.
const PIECES: usize = 32;

/// A stream that will carry one chunk. Dropping it before everything was written resets it.
#[derive(Debug)]
pub(crate) struct ChunkSender(Outgoing);

/// A chunk on its way, all of it with QUIC. Dropping it before the peer has everything resets the stream.
#[derive(Debug)]
pub(crate) struct InFlight(Outgoing);

#[derive(Debug)]
struct Outgoing {
    stream: quinn::SendStream,
    connection: Connection,
    /// Nothing is left to reset.
    settled: bool,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.settled {
            let _ = self.stream.reset(close::STREAM_ABORTED.into());
        }
    }
}

impl ChunkSender {
    /// Chunks that were begun first go first, and so does what they have lost: fewer are incomplete at a time than
    /// if all took turns, and a loss holds its chunk up for one round trip.
    pub(super) fn new(connection: &Connection, stream: quinn::SendStream) -> Self {
        let order = (stream.id().index() & i32::MAX as u64) as i32;
        // Fails only on a stream that has ended, which will show itself.
        let _ = stream.set_priority(-order);
        Self(Outgoing { stream, connection: connection.clone(), settled: false })
    }

    /// Gives header and first piece of the payload to QUIC, which keeps it as it is, without a copy. Waits while the peer
    /// does not read; whether it is at fault then is for the conversation to judge, since chunks share one
    /// window and a slow link.
    pub(crate) async fn begin(&mut self, header: &ChunkHeader, piece: Bytes) -> Result<(), TransportError> {
        self.put(&mut [Bytes::from(header.encode()), piece]).await
    }

    /// The next piece.
    pub(crate) async fn go_on(&mut self, piece: Bytes) -> Result<(), TransportError> {
        self.put(&mut [piece]).await
    }

    async fn put(&mut self, parts: &mut [Bytes]) -> Result<(), TransportError> {
        let written = self.0.stream.write_all_chunks(parts).await;
        written.map_err(|error| self.0.connection.context().write(error))
    }

    /// There are no more pieces.
    pub(crate) fn end(mut self) -> InFlight {
        // Fails only where the peer has stopped the stream, which `acked` will say.
        let _ = self.0.stream.finish();
        InFlight(self.0)
    }
}

#[cfg(test)]
impl ChunkSender {
    /// Header and payload, all of it.
    pub(super) async fn write(
        mut self,
        header: &ChunkHeader,
        payload: Bytes,
    ) -> Result<InFlight, TransportError> {
        self.begin(header, payload).await?;
        Ok(self.end())
    }

    /// Begins a chunk without ending it.
    pub(super) async fn write_some(&mut self, bytes: &[u8]) {
        self.0.stream.write_all(bytes).await.unwrap();
    }
}

impl InFlight {
    /// Waits until the peer's QUIC has everything. That it is verified is another matter.
    pub(crate) async fn acked(mut self) -> Result<(), TransportError> {
        match self.0.stream.stopped().await {
            Ok(None) => {
                self.0.settled = true;
                Ok(())
            }
            Ok(Some(code)) => Err(TransportError::Stopped { code: error::code(code) }),
            Err(error) => Err(self.0.connection.context().write(error.into())),
        }
    }
}

/// Why a chunk did not come whole. Only this chunk is lost, and it will be asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkStreamError {
    /// No byte for too long.
    #[error("the chunk's stream stalled")]
    Stalled,
    /// The stream ended before the chunk was whole.
    #[error("the chunk's stream ended early")]
    Truncated,
    /// The stream went on after the chunk, or the chunk is larger than any may be.
    #[error("the chunk's stream carries too much")]
    TooLong,
    /// The peer gave the stream up, or the connection is gone.
    #[error("the chunk's stream broke")]
    Broken,
}

/// A stream that carries one chunk here. Dropping it before its end tells the peer to stop.
#[derive(Debug)]
pub(crate) struct ChunkReceiver {
    stream: quinn::RecvStream,
    connection: Connection,
}

impl Drop for ChunkReceiver {
    fn drop(&mut self) {
        // Nothing happens where everything was read.
        let _ = self.stream.stop(close::STREAM_UNWANTED.into());
    }
}

impl ChunkReceiver {
    pub(super) fn new(connection: &Connection, stream: quinn::RecvStream) -> Self {
        Self { stream, connection: connection.clone() }
    }

    /// The chunk's header. It comes first and at once, and has a deadline as a whole.
    pub(crate) async fn header(&mut self) -> Result<ChunkHeader, TransportError> {
        self.header_within(FIRST_FRAME_DEADLINE).await
    }

    pub(super) async fn header_within(&mut self, after: Duration) -> Result<ChunkHeader, TransportError> {
        if let Ok(header) = tokio::time::timeout(after, self.read_header()).await {
            return header;
        }
        let _ = self.stream.stop(close::DEADLINE.into());
        Err(self.connection.stalled("has left a chunk stream without its header", after))
    }

    async fn read_header(&mut self) -> Result<ChunkHeader, TransportError> {
        let mut prefix = [0; PREFIX_LEN];
        self.read_exact(&mut prefix).await?;
        let mut body = vec![0; ChunkHeader::body_len(prefix)?];
        self.read_exact(&mut body).await?;
        Ok(ChunkHeader::decode(&body)?)
    }

    async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), TransportError> {
        match self.stream.read_exact(buffer).await {
            Ok(()) => Ok(()),
            Err(quinn::ReadExactError::FinishedEarly(_)) => Err(PeerMisbehaved::MalformedFrame.into()),
            Err(quinn::ReadExactError::ReadError(error)) => Err(self.connection.context().read(error)),
        }
    }

    /// The bytes that the header promised, exactly those. `count` hears of them as they come. Memory for all of
    /// them is taken at the start: the caller has checked the header against what it asked for.
    pub(crate) async fn payload(
        self,
        header: &ChunkHeader,
        count: &(dyn Fn(u64) + Sync),
    ) -> Result<Bytes, ChunkStreamError> {
        self.payload_within(header, count, CHUNK_PROGRESS_DEADLINE).await
    }

    pub(super) async fn payload_within(
        mut self,
        header: &ChunkHeader,
        count: &(dyn Fn(u64) + Sync),
        after: Duration,
    ) -> Result<Bytes, ChunkStreamError> {
        let len = header.payload_len();
        if len > MAX_CHUNK_LEN {
            return Err(ChunkStreamError::TooLong);
        }
        let len = len as usize;
        let mut whole = Buffer::take(len);
        let mut filled = 0;
        let mut pieces = [const { Bytes::new() }; PIECES];
        loop {
            let read = match tokio::time::timeout(after, self.stream.read_chunks(&mut pieces)).await {
                Ok(Ok(Some(read))) => read,
                Ok(Ok(None)) if filled == len => return Ok(whole.freeze()),
                Ok(Ok(None)) => return Err(ChunkStreamError::Truncated),
                Ok(Err(_)) => return Err(ChunkStreamError::Broken),
                Err(_) => {
                    self.stop_with(close::DEADLINE);
                    return Err(ChunkStreamError::Stalled);
                }
            };
            for piece in pieces.iter_mut().take(read).map(std::mem::take) {
                let Some(place) = whole.get_mut(filled..filled + piece.len()) else {
                    return Err(ChunkStreamError::TooLong);
                };
                count(piece.len() as u64);
                place.copy_from_slice(&piece);
                filled += piece.len();
            }
        }
    }

    /// Tells the peer to send nothing more on this stream.
    pub(crate) fn stop(mut self, code: u32) {
        self.stop_with(code);
    }

    fn stop_with(&mut self, code: u32) {
        let _ = self.stream.stop(code.into());
    }
}
