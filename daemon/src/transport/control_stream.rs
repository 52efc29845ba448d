//! The bidirectional stream of one transfer: whole messages, in order, ahead of all chunk data.

use bytes::{Buf, BytesMut};
use p2p_protocol::{
    limits::{MAX_FRAME_LEN, TRANSFER_PROGRESS_DEADLINE},
    reason::{PeerMisbehaved, close},
    wire::{
        codec::{self, PREFIX_LEN},
        peer::Message,
    },
};
use quinn::VarInt;

use super::{connection::Connection, error::TransportError};

/// Above that of every chunk stream.
const PRIORITY: i32 = 1;

/// Both directions of a transfer's conversation.
#[derive(Debug)]
pub(crate) struct ControlStream {
    /// The QUIC stream ID, the same on both sides; chunk headers name their transfer by it.
    pub(crate) id: u64,
    pub(crate) sender: ControlSender,
    pub(crate) receiver: ControlReceiver,
}

impl ControlStream {
    pub(super) fn new(
        connection: &Connection,
        (send, receive): (quinn::SendStream, quinn::RecvStream),
    ) -> Self {
        // Fails only on a stream that has ended, which will show itself.
        let _ = send.set_priority(PRIORITY);
        Self {
            id: VarInt::from(send.id()).into_inner(),
            sender: ControlSender { stream: send, connection: connection.clone(), mid_frame: false },
            receiver: ControlReceiver {
                stream: receive,
                connection: connection.clone(),
                frame: BytesMut::new(),
            },
        }
    }
}

/// What this side says. Dropping it ends this direction: cleanly between two messages, else with a reset.
#[derive(Debug)]
pub(crate) struct ControlSender {
    stream: quinn::SendStream,
    connection: Connection,
    /// Part of a frame has been written.
    mid_frame: bool,
}

impl ControlSender {
    /// Hands a message to QUIC, waiting while the peer does not read, though not for ever. When the future is
    /// dropped halfway the conversation is over: what follows would not be understood.
    pub(crate) async fn send(&mut self, message: &Message) -> Result<(), TransportError> {
        if self.mid_frame {
            return Err(TransportError::Reset { code: close::STREAM_ABORTED });
        }
        let frame = codec::frame(message, MAX_FRAME_LEN)?;
        let mut rest = frame.as_slice();
        self.mid_frame = true;
        while !rest.is_empty() {
            let after = TRANSFER_PROGRESS_DEADLINE;
            let written = tokio::time::timeout(after, self.stream.write(rest)).await;
            let written = match written {
                Ok(Ok(written)) => written,
                Ok(Err(error)) => {
                    // Where the peer does not listen any longer, half a message does no harm, and the next one
                    // fails for the same reason.
                    self.mid_frame = !matches!(error, quinn::WriteError::Stopped(_));
                    return Err(self.connection.context().write(error));
                }
                Err(_) => return Err(self.connection.stalled("has read no message", after)),
            };
            rest.advance(written);
        }
        self.mid_frame = false;
        Ok(())
    }

    /// Says that no message follows. What was sent is still delivered.
    pub(crate) fn finish(&mut self) {
        if !self.mid_frame {
            // Fails only where the stream has ended already.
            let _ = self.stream.finish();
        }
    }

    /// Ends what this side says, and tells whether all of it has arrived there.
    pub(crate) fn delivered(&mut self) -> impl Future<Output = bool> + Send + 'static {
        self.finish();
        let stopped = self.stream.stopped();
        async move { stopped.await.is_ok() }
    }
}

impl Drop for ControlSender {
    fn drop(&mut self) {
        if self.mid_frame {
            let _ = self.stream.reset(close::STREAM_ABORTED.into());
        }
    }
}

/// What the peer says.
#[derive(Debug)]
pub(crate) struct ControlReceiver {
    stream: quinn::RecvStream,
    connection: Connection,
    /// What has come of the next frame, never more than that one.
    frame: BytesMut,
}

impl ControlReceiver {
    /// The next message, whose body may have at most `max_body` bytes. `None` when the peer has finished.
    /// Dropping the future loses nothing: a frame that has come in part is kept. How long to wait is for the
    /// caller, who knows whether anything is due.
    pub(crate) async fn recv(&mut self, max_body: usize) -> Result<Option<Message>, TransportError> {
        loop {
            let missing = match self.frame.first_chunk::<PREFIX_LEN>() {
                None => PREFIX_LEN - self.frame.len(),
                Some(prefix) => {
                    let whole = PREFIX_LEN + codec::body_len(*prefix, max_body)?;
                    if self.frame.len() == whole {
                        let message = codec::decode(&self.frame[PREFIX_LEN..])?;
                        self.frame = BytesMut::new();
                        return Ok(Some(message));
                    }
                    whole - self.frame.len()
                }
            };
            match self.stream.read_chunk(missing, true).await {
                Ok(Some(part)) => self.frame.extend_from_slice(&part.bytes),
                Ok(None) if self.frame.is_empty() => return Ok(None),
                Ok(None) => return Err(PeerMisbehaved::MalformedFrame.into()),
                Err(error) => return Err(self.connection.context().read(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p_protocol::reason::AbortReason;

    use super::*;
    use crate::transport::tests::pair;

    /// Polls for a message again and again, giving up each time, until `have` bytes of its frame are kept.
    async fn take_in(receiver: &mut ControlReceiver, have: usize) {
        while receiver.frame.len() < have {
            tokio::select! {
                biased;
                early = receiver.recv(MAX_FRAME_LEN) => panic!("{early:?} before its frame was whole"),
                () = tokio::task::yield_now() => {}
            }
        }
    }

    #[tokio::test]
    async fn giving_up_on_a_message_halfway_loses_nothing() {
        let pair = pair().await;
        let message = Message::Abort(AbortReason::Integrity);
        let frame = codec::frame(&message, MAX_FRAME_LEN).unwrap();
        for cut in 1..frame.len() {
            let (mut raw, _) = pair.dialled.quic().open_bi().await.unwrap();
            raw.write_all(&frame[..cut]).await.unwrap();
            let mut there = pair.accepted.accept_control().await.unwrap();
            take_in(&mut there.receiver, cut).await;
            raw.write_all(&frame[cut..]).await.unwrap();
            raw.write_all(&frame).await.unwrap();
            raw.finish().unwrap();
            for _ in 0..2 {
                assert_eq!(there.receiver.recv(MAX_FRAME_LEN).await.unwrap(), Some(message.clone()));
            }
            assert_eq!(there.receiver.recv(MAX_FRAME_LEN).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_peer_that_listens_no_longer_is_known_as_such_every_time() {
        let pair = pair().await;
        let mut here = pair.dialled.open_control().await.unwrap();
        let message = Message::Abort(AbortReason::Integrity);
        here.sender.send(&message).await.unwrap();
        let mut there = pair.accepted.accept_control().await.unwrap();
        assert_eq!(there.receiver.recv(MAX_FRAME_LEN).await.unwrap(), Some(message.clone()));
        drop(there.receiver);
        here.sender.stream.stopped().await.unwrap();
        for _ in 0..3 {
            let error = here.sender.send(&message).await.unwrap_err();
            assert!(matches!(error, TransportError::Stopped { .. }), "{error:?}");
        }
        // What the peer says last is still heard.
        there.sender.send(&message).await.unwrap();
        assert_eq!(here.receiver.recv(MAX_FRAME_LEN).await.unwrap(), Some(message));
    }

    #[tokio::test]
    async fn a_message_left_halfway_ends_the_conversation() {
        let pair = pair().await;
        let mut here = pair.dialled.open_control().await.unwrap();
        here.sender.stream.write_all(&[200, 0]).await.unwrap();
        here.sender.mid_frame = true;
        let mut there = pair.accepted.accept_control().await.unwrap();
        take_in(&mut there.receiver, 2).await;
        assert!(here.sender.send(&Message::NeedPages(vec![])).await.is_err());
        drop(here.sender);
        let error = there.receiver.recv(MAX_FRAME_LEN).await.unwrap_err();
        assert!(matches!(error, TransportError::Reset { code: close::STREAM_ABORTED }), "{error:?}");
    }
}
