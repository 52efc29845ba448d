//! One conversation of a hostile peer, a message at a time.

use std::collections::VecDeque;

use p2p_protocol::{
    limits::{EAGER_BYTES, MAX_FRAME_LEN},
    reason::PeerMisbehaved,
    wire::{codec, peer::Message},
};
use quinn::{ReadExactError, RecvStream, SendStream, VarInt};

use super::{Connection, Content, soon};

/// A bidirectional stream with a daemon.
#[derive(Debug)]
pub struct Conversation {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    id: u64,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The daemon said something.
    Message(Message),
    /// The daemon ended its side of the conversation.
    End,
    /// The daemon ended the connection.
    Closed(Ended),
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The daemon closed it with this application error.
    Code(u64),
    /// In any other way.
    Otherwise(String),
}

impl From<quinn::ConnectionError> for Ended {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => Self::Code(close.error_code.into_inner()),
            other => Self::Otherwise(other.to_string()),
        }
    }
}

impl Ended {
    /// The end of a peer that did this.
    pub fn misbehaved(fault: &PeerMisbehaved) -> Self {
        Self::Code(fault.close_code().into())
    }
}

impl Conversation {
    pub(super) fn new(connection: Connection, (send, receive): (SendStream, RecvStream)) -> Self {
        let id = VarInt::from(send.id()).into_inner();
        Self { connection, send, receive, id }
    }

    /// The number by which chunk headers name this conversation.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Says something.
    pub async fn say(&mut self, message: Message) {
        let frame = codec::frame(&message, MAX_FRAME_LEN).expect("a frame fits");
        self.say_bytes(&frame).await;
    }

    /// Says these very bytes. A daemon that has closed the connection meanwhile is no failure: how it did is what
    /// the test looks at.
    pub async fn say_bytes(&mut self, bytes: &[u8]) {
        let _ = soon("the daemon to read", self.send.write_all(bytes)).await;
    }

    /// Waits for what comes next.
    pub async fn hear(&mut self) -> Heard {
        let mut prefix = [0; codec::PREFIX_LEN];
        if let Err(error) = soon("a message", self.receive.read_exact(&mut prefix)).await {
            return match error {
                ReadExactError::FinishedEarly(_) => Heard::End,
                ReadExactError::ReadError(quinn::ReadError::ConnectionLost(lost)) => {
                    Heard::Closed(lost.into())
                }
                ReadExactError::ReadError(quinn::ReadError::Reset(_)) => Heard::End,
                ReadExactError::ReadError(other) => Heard::Closed(Ended::Otherwise(other.to_string())),
            };
        }
        let len = codec::body_len(prefix, MAX_FRAME_LEN).expect("a daemon keeps to the limits");
        let mut body = vec![0; len];
        match soon("a whole message", self.receive.read_exact(&mut body)).await {
            Ok(()) => Heard::Message(codec::decode(&body).expect("a daemon speaks the protocol")),
            Err(ReadExactError::ReadError(quinn::ReadError::ConnectionLost(lost))) => {
                Heard::Closed(lost.into())
            }
            Err(error) => Heard::Closed(Ended::Otherwise(error.to_string())),
        }
    }

    /// Waits for a message.
    pub async fn expect(&mut self) -> Message {
        match self.hear().await {
            Heard::Message(message) => message,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// Waits for a message that fits, over those that do not.
    pub async fn expect_that<T>(&mut self, what: &str, fits: impl Fn(&Message) -> Option<T>) -> T {
        loop {
            match self.hear().await {
                Heard::Message(message) => {
                    if let Some(found) = fits(&message) {
                        return found;
                    }
                }
                other => panic!("expected {what}, got {other:?}"),
            }
        }
    }

    /// Waits until the daemon has ended the connection, whatever it says before.
    pub async fn expect_closed(&mut self) -> Ended {
        loop {
            match self.hear().await {
                Heard::Message(_) => {}
                Heard::End => return self.connection.ended().await,
                Heard::Closed(ended) => return ended,
            }
        }
    }

    /// Offers this content, and waits until the daemon has taken the offer.
    pub async fn offer(&mut self, content: &Content) {
        self.say(Message::Offer(content.offer())).await;
        match self.expect().await {
            Message::Accept(accept) => assert_eq!(accept.chunk_log2, content.geometry().chunk_log2()),
            other => panic!("expected Accept, got {other:?}"),
        }
    }

    /// Answers an eager fetch with the offer and what comes with it; returns the chunks that it wants.
    pub async fn offer_eagerly(&mut self, content: &Content) -> Vec<u32> {
        self.say(Message::Offer(content.offer())).await;
        let geometry = content.geometry();
        if geometry.pages() > 0 {
            self.say(Message::Page(content.page(0))).await;
        }
        (0..geometry.chunks().min((EAGER_BYTES / geometry.chunk_len()) as u32)).collect()
    }

    /// Answers the daemon's questions honestly until it wants chunks, and returns the first ones that it wants.
    pub async fn until_wanted(&mut self, content: &Content) -> Vec<u32> {
        loop {
            match self.expect().await {
                Message::NeedPages(pages) => {
                    for page in pages {
                        self.say(Message::Page(content.page(page))).await;
                    }
                }
                Message::Want(want) if !want.ranges.is_empty() => {
                    return want
                        .ranges
                        .iter()
                        .flat_map(|range| range.start..range.start + range.count)
                        .collect();
                }
                Message::Want(_) | Message::Verified(_) => {}
                other => panic!("expected NeedPages or Want, got {other:?}"),
            }
        }
    }

    /// Sends a chunk as it should be.
    pub async fn send_chunk(&self, content: &Content, chunk: u32) {
        self.connection.send_stream(&content.chunk_stream(self.id, chunk)).await;
    }

    /// Gives the daemon everything that it wants, honestly, until it says that it is done. `wanted` is what it
    /// wants already. One chunk is on its way at a time, which no credit forbids.
    pub async fn provide(&mut self, content: &Content, wanted: Vec<u32>) {
        let mut wanted = VecDeque::from(wanted);
        let mut on_its_way = false;
        loop {
            if !on_its_way && let Some(chunk) = wanted.pop_front() {
                self.send_chunk(content, chunk).await;
                on_its_way = true;
            }
            match self.expect().await {
                Message::NeedPages(pages) => {
                    for page in pages {
                        self.say(Message::Page(content.page(page))).await;
                    }
                }
                Message::Want(want) => {
                    wanted
                        .extend(want.ranges.iter().flat_map(|range| range.start..range.start + range.count));
                }
                Message::Verified(_) => on_its_way = false,
                Message::Done(done) => {
                    assert_eq!(done.file_id, content.file_id());
                    return;
                }
                other => panic!("expected Want, Verified or Done, got {other:?}"),
            }
        }
    }
}
