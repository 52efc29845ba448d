//! One transfer, as whoever asked for it sees it.

use std::{os::unix::ffi::OsStrExt, path::PathBuf};

use p2p_protocol::{
    FileId,
    control::{Event, FetchRequest, KeyPolicy, Output, Request, RequestId, TransferEvent, Wishes},
    reason::Failure,
};
use tokio::sync::mpsc;

use crate::{
    content::{Known, SOME_ENTRIES},
    host::Host,
    plan::{Aim, Way, Wish},
    requests,
};

/// Where it is.
#[derive(Debug)]
pub enum State {
    /// It was not asked for yet.
    Planned,
    /// Its events come.
    Watched(mpsc::Receiver<Event>),
    /// Whoever told of it has gone.
    Adrift,
    /// It is at its goal.
    Done,
    /// It ended otherwise.
    Failed(Failure, String),
}

/// A transfer.
#[derive(Debug)]
pub struct Transfer {
    /// What is wanted.
    pub wish: Wish,
    /// The Peer ID of whoever is asked. A name that is not known just then would be looked up in the real world.
    pub target: String,
    /// The file at its source.
    pub source: PathBuf,
    /// What the file was and is, the last one now.
    pub versions: Vec<Known>,
    /// Where it goes, where that is not for the inbox to say: in the place of an older version, or some bytes of a file.
    pub place: Option<PathBuf>,
    /// Its number, once its owner was told.
    pub number: Option<u64>,
    /// Where it is.
    pub state: State,
    /// Its owner has asked for its end.
    pub cancelled: bool,
    /// How often it was taken up again.
    pub tries: u32,
    /// Not before, in nanoseconds.
    pub next_try: u64,
}

/// What became of it in the last step.
#[derive(Debug)]
pub enum News {
    /// It goes on from what was there.
    Resumed,
    /// It is there: under which name or path, and what.
    Done(String, FileId),
    /// It failed, or was refused.
    Failed(Failure, String),
    /// There is no such transfer.
    Forgotten,
}

impl Transfer {
    /// Who asks for it.
    pub fn owner(&self) -> usize {
        self.wish.owner()
    }

    /// Whether nothing more is to become of it.
    pub fn is_settled(&self) -> bool {
        match &self.state {
            State::Done => true,
            State::Failed(..) => self.cancelled,
            _ => false,
        }
    }

    /// What tells its request, however often it is made.
    fn request(&self) -> RequestId {
        let hash = blake3::hash(format!("{:?}", self.wish).as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        RequestId(id)
    }

    /// Asks for it, or after it.
    pub fn attach(&mut self, owner: &Host) {
        let request = match (self.number, &self.wish.way) {
            (Some(number), _) => Request::Watch(Some(number)),
            (None, Way::Send) => requests::send(&self.source, self.target.clone()),
            (None, Way::Fetch) => Request::Fetch(FetchRequest {
                ticket: None,
                file_id: self.versions[0].id,
                from: vec![self.target.clone()],
                output: match (&self.place, self.wish.aim) {
                    (Some(path), Aim::InPlace) => Output::Update(path.as_os_str().as_bytes().to_vec()),
                    (Some(path), _) => Output::Path(path.as_os_str().as_bytes().to_vec()),
                    (None, _) => Output::Inbox,
                },
                key: KeyPolicy::Known,
                only: match (self.wish.aim, &self.versions[0].manifest) {
                    (Aim::Part, Some(_)) => SOME_ENTRIES.map(str::to_owned).into(),
                    _ => Vec::new(),
                },
                range: match (self.wish.aim, &self.versions[0].manifest) {
                    (Aim::Part, None) => Some(self.versions[0].some_bytes()),
                    _ => None,
                },
                progressive: self.wish.appears(&self.versions[0]),
                wishes: Wishes::default(),
                detach: false,
                request: Some(self.request()),
            }),
        };
        if let Some(events) = owner.ask(request) {
            self.state = State::Watched(events);
        }
    }

    /// Takes it up again after it has failed.
    pub fn retry(&mut self, owner: &Host) {
        self.tries += 1;
        let Some(number) = self.number else { return self.attach(owner) };
        if let Some(events) = owner.ask(Request::Retry(vec![number])) {
            self.state = State::Watched(events);
        }
    }

    /// Reads its events, and shows each of them.
    pub fn poll(&mut self, mut show: impl FnMut(&Event)) -> Vec<News> {
        let mut news = Vec::new();
        while let State::Watched(events) = &mut self.state {
            let event = match events.try_recv() {
                Ok(event) => event,
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.state = State::Adrift;
                    break;
                }
            };
            show(&event);
            match event {
                Event::Queued { transfer, .. } => self.number = Some(transfer),
                Event::Transfer(TransferEvent::Started { resumed_bytes: 1.., .. }) => {
                    news.push(News::Resumed)
                }
                Event::Transfer(TransferEvent::Done { path, file_id, .. }) => {
                    self.state = State::Done;
                    news.push(News::Done(path, file_id));
                }
                Event::Transfer(TransferEvent::Failed { failure, message, .. }) => {
                    self.state = State::Failed(failure, message.clone());
                    news.push(News::Failed(failure, message));
                }
                Event::Error(error) if error.failure == Failure::NotFound && self.number.is_some() => {
                    self.number = None;
                    self.state = State::Adrift;
                    news.push(News::Forgotten);
                }
                // A retry of what runs already, or is done: to be looked at.
                Event::Error(error) if error.failure == Failure::Conflict && self.number.is_some() => {
                    self.state = State::Adrift;
                }
                Event::Error(error) => {
                    self.state = State::Failed(error.failure, error.message.clone());
                    news.push(News::Failed(error.failure, error.message));
                }
                _ => {}
            }
        }
        news
    }
}
