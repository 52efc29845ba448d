//! The peers of this machine: who is known, who is trusted with what, and which key was found where. All of it
//! in one readable file, `peers.toml`, of which the daemon is the only writer while it runs.
//!
//! Knowing and allowing are two things. Dialling pins a key, which makes its peer known; only [`Peers::trust`]
//! gives rights. `target` takes apart what a person types, `book` decides, `pending` lists strangers, `file` is
//! the disk.

mod book;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod invitations;
mod pending;
mod target;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use p2p_protocol::{
    PeerId,
    control::{KeyPolicy, PeerInfo, Standing, TrustRequest},
    limits::MAX_INVITATIONS,
    policy::Rights,
    reason::Failure,
    rules::{Rules, RulesChange},
};

use tokio::{runtime::Handle, time::Instant};

use crate::{disk::Disk, workers::Workers};
use book::{Book, Entry, Verdict, parse_id};
use file::TrustFile;
use pending::Pending;

pub(crate) use book::{NameFault, check_name};
pub(crate) use invitations::{Claim, Redeemed};
pub(crate) use target::{DEFAULT_PORT, Place, Target, TargetError};

/// Why the trust file cannot be read, or not be changed as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PeersError {
    /// Others could read or write the file.
    #[error("{path}: others can read or write the trust file (mode {mode:03o}); run `chmod 600 {path}`")]
    Exposed { path: PathBuf, mode: u32 },
    /// The file is somebody else's.
    #[error("{path} belongs to another user (uid {uid})")]
    Foreign { path: PathBuf, uid: u32 },
    /// The file makes no sense. Nothing of it is believed. Lines and columns count from one.
    #[error("{path}:{line}:{column}: {why}; mend the trust file or restore it from a backup")]
    Damaged { path: PathBuf, line: usize, column: usize, why: String },
    /// Somebody edited the file while the daemon ran.
    #[error("{path} was changed by another program while the daemon runs; restart p2pd, which then reads it")]
    ChangedOutside { path: PathBuf },
    /// The operating system said no.
    #[error("{path}: cannot {what}: {source}")]
    Io { what: &'static str, path: PathBuf, source: Arc<io::Error> },
    /// The name is none.
    #[error("{name:?}: {fault}")]
    Name { name: String, fault: NameFault },
    /// The name is another peer's.
    #[error("{name} is the name of another peer: {id}")]
    NameTaken { name: String, id: PeerId },
    /// The address is none.
    #[error(transparent)]
    Address(#[from] TargetError),
    /// There is no such invitation.
    #[error("there is no invitation {0}; `p2p invites` shows all")]
    NoInvitation(u64),
    /// Too many invitations are open.
    #[error("{MAX_INVITATIONS} invitations are open, the most; take some back with `p2p uninvite N`")]
    TooManyInvitations,
    /// Trust without any right is none.
    #[error("trust needs a right: --allow send, --allow fetch, or both; `p2p peers forget` takes trust back")]
    NoRight,
}

impl PeersError {
    /// The class of failure that the command line reports.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Io { .. } | Self::Exposed { .. } | Self::Foreign { .. } | Self::Damaged { .. } => {
                Failure::Storage
            }
            Self::ChangedOutside { .. } | Self::NameTaken { .. } | Self::TooManyInvitations => {
                Failure::Conflict
            }
            Self::NoInvitation(_) => Failure::NotFound,
            Self::Name { .. } | Self::Address(_) | Self::NoRight => Failure::Usage,
        }
    }
}

/// Why the key found at a target is not taken. Nothing has been said on the connection.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// It was never seen there, and its peer is not trusted.
    #[error("the key at {target} is not known yet: {found}")]
    Unknown { target: String, found: PeerId },
    /// Another one was found there before.
    #[error(
        "THE KEY AT {target} HAS CHANGED. It was {pinned}, now it is {found}. Somebody may be in between, or that \
         machine was set up anew. Nothing was sent. If its owner confirms the new Peer ID (`p2p id` there), run \
         this again with --peer {found}"
    )]
    Changed { target: String, pinned: PeerId, found: PeerId },
    /// It is another peer's than the one that was meant.
    #[error(
        "{target} is answered by another peer: {meant} was meant, {found} was found. Nothing was sent. If the peer \
         that was meant is elsewhere now, name its address (host:port) instead"
    )]
    WrongPeer { target: String, meant: PeerId, found: PeerId },
    /// It is right, and cannot be noted.
    #[error(transparent)]
    File(#[from] PeersError),
}

/// The peers of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Peers(Arc<Inner>);

/// `file` is locked first, for as long as something changes; the others only for a look or a moment, so that
/// nobody who asks for rights waits for a disk.
#[derive(Debug)]
struct Inner {
    workers: Workers,
    file: Mutex<TrustFile>,
    book: RwLock<Book>,
    pending: Mutex<Pending>,
}

impl Peers {
    /// Reads the trust file of a home whose lock is held. Where there is none, nobody is known.
    ///
    /// # Errors
    /// The file is damaged, or others could have changed it: then nobody is trusted, and the daemon must not start.
    pub(crate) fn load(disk: Arc<dyn Disk>, workers: Workers, home: &Path) -> Result<Self, PeersError> {
        let (file, book, pending) = TrustFile::load(disk, home)?;
        let (file, book, pending) = (Mutex::new(file), RwLock::new(book), Mutex::new(pending));
        Ok(Self(Arc::new(Inner { workers, file, book, pending })))
    }

    fn book(&self) -> RwLockReadGuard<'_, Book> {
        self.0.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the book on disk and then in memory; if the disk says no, it did not happen.
    fn change<T, E: From<PeersError>>(&self, work: impl FnOnce(&mut Book) -> Result<T, E>) -> Result<T, E> {
        let mut file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut book = self.book().clone();
        let result = work(&mut book)?;
        let mut pending = self.pending().clone();
        let known: Vec<PeerId> =
            pending.iter().map(|(id, _)| *id).filter(|id| book.peers.contains_key(id)).collect();
        known.iter().for_each(|id| pending.remove(id));
        if book == *self.book() && !pending.is_unsaved() {
            return Ok(result);
        }
        file.replace(&book, &pending)?;
        *self.0.book.write().unwrap_or_else(PoisonError::into_inner) = book;
        {
            let mut now = self.pending();
            known.iter().for_each(|id| now.remove(id));
            now.saved_as(&pending);
        }
        file.sync()?;
        Ok(result)
    }

    /// Does what may wait for a disk, off the network tasks. What comes of it is only logged.
    fn in_background(
        &self,
        what: &'static str,
        work: impl FnOnce(&Self) -> Result<(), PeersError> + Send + 'static,
    ) {
        let peers = self.clone();
        let work = move || {
            if let Err(error) = work(&peers) {
                tracing::warn!(%error, "cannot {what}");
            }
        };
        match Handle::try_current() {
            Ok(runtime) => drop(self.0.workers.spawn(&runtime, work)),
            Err(_) => work(),
        }
    }

    /// Writes what was noted and not yet written.
    pub(crate) fn flush(&self) -> Result<(), PeersError> {
        self.change(|_| Ok(()))
    }

    /// Understands a target as typed: a peer's name, a Peer ID whose address is known, or an address.
    pub(crate) fn parse_target(&self, typed: &str) -> Result<Target, TargetError> {
        let book = self.book();
        let id = parse_id(typed);
        let Some(id) = id.or_else(|| book.named(typed)) else {
            let place = Place::parse(typed)?;
            let expected = book.pins.get(&place).copied();
            return Ok(Target {
                typed: typed.to_owned(),
                places: vec![place],
                expected,
                is_name_or_id: false,
            });
        };
        let mut places = book.peers.get(&id).map(|entry| entry.addresses.clone()).unwrap_or_default();
        if places.is_empty() {
            places.extend(self.pending().address(&id).map(Place::from));
        }
        if places.is_empty() {
            return Err(TargetError::NoAddress { typed: typed.to_owned(), id });
        }
        Ok(Target { typed: typed.to_owned(), places, expected: Some(id), is_name_or_id: true })
    }

    /// Decides whether the key found at a target is the right one, and pins it where that is due.
    pub(crate) fn check_key(
        &self,
        target: &Target,
        found: PeerId,
        policy: KeyPolicy,
    ) -> Result<(), KeyError> {
        if self.book().judge(target, found, policy)? == Verdict::Fine {
            return Ok(());
        }
        self.change(|book| {
            let verdict = book.judge(target, found, policy)?;
            book.apply(verdict, target, found);
            Ok(())
        })
    }

    /// Notes that a peer, its key proven and taken, was reached at a target. What is remembered is what was
    /// typed: a host name outlives the `address` it stands for today. A peer dialled by name or ID was reached
    /// at an address known already, which moves to the front if it can be told which one it was.
    pub(crate) fn remember_address(&self, peer: &PeerId, target: &Target, address: SocketAddr) {
        let place = match target.places.as_slice() {
            [place] => place.clone(),
            places => match places.iter().find(|place| **place == Place::from(address)) {
                Some(place) => place.clone(),
                None => return,
            },
        };
        let peer = *peer;
        let news = self.book().peers.get(&peer).is_some_and(|entry| entry.addresses.first() != Some(&place));
        if news {
            self.in_background("remember a peer's address", move |peers| {
                peers.change(|book| {
                    if let Some(entry) = book.peers.get_mut(&peer) {
                        entry.prefer(place);
                    }
                    Ok(())
                })
            });
        }
    }

    /// Whether a peer has any right here.
    pub(crate) fn is_trusted(&self, peer: &PeerId) -> bool {
        self.book().is_trusted(peer)
    }

    /// What a peer may do here: nothing, unless its owner said otherwise.
    pub(crate) fn rights(&self, peer: &PeerId) -> Rights {
        self.book().peers.get(peer).map(|entry| entry.rights).unwrap_or_default()
    }

    /// What the owner has settled for a peer.
    pub(crate) fn rules(&self, peer: &PeerId) -> Rules {
        self.book().peers.get(peer).map(|entry| entry.rules.clone()).unwrap_or_default()
    }

    /// Settles something for a peer; false if it is a stranger.
    pub(crate) fn rule(&self, peer: &PeerId, change: RulesChange) -> Result<bool, PeersError> {
        self.change(|book| {
            let Some(entry) = book.peers.get_mut(peer) else { return Ok(false) };
            entry.rules = std::mem::take(&mut entry.rules).with(change);
            Ok(true)
        })
    }

    /// A peer's name, where it has one.
    pub(crate) fn name_of(&self, peer: &PeerId) -> Option<String> {
        self.book().peers.get(peer)?.name.clone()
    }

    /// A peer of this machine, by name or Peer ID.
    pub(crate) fn find(&self, peer: &str) -> Option<PeerId> {
        let known = self.book().find(peer);
        known.or_else(|| parse_id(peer).filter(|id| self.pending().address(id).is_some()))
    }

    /// All peers: trusted ones, known ones, then strangers, the latest first. Whether they are connected is not
    /// known here.
    pub(crate) fn list(&self) -> Vec<PeerInfo> {
        let book = self.book();
        let known = book.peers.iter().map(|(id, entry)| PeerInfo {
            id: *id,
            standing: if entry.is_trusted() { Standing::Trusted } else { Standing::Known },
            name: entry.name.clone(),
            send: entry.rights.send,
            fetch: entry.rights.fetch,
            addresses: entry.addresses.iter().map(Place::to_string).collect(),
            connected: false,
            rules: entry.rules.clone(),
        });
        let mut all: Vec<PeerInfo> = known.collect();
        all.sort_by_key(|peer| (peer.standing != Standing::Trusted, peer.name.is_none(), peer.name.clone()));
        let pending = self.pending().clone();
        let mut strangers: Vec<PeerInfo> = pending
            .iter()
            .filter(|(id, _)| !book.peers.contains_key(id))
            .map(|(id, address)| PeerInfo {
                id: *id,
                standing: Standing::Pending,
                name: None,
                send: false,
                fetch: false,
                addresses: vec![address.to_string()],
                connected: false,
                rules: Rules::default(),
            })
            .collect();
        strangers.reverse();
        all.extend(strangers);
        all
    }

    /// Gives a peer exactly these rights. Its name and addresses stay where the request names none; a stranger
    /// is taken to be where it called from until something better is known.
    pub(crate) fn trust(&self, request: TrustRequest) -> Result<(), PeersError> {
        let TrustRequest { id, name, address, send, fetch } = request;
        if !send && !fetch {
            return Err(PeersError::NoRight);
        }
        if let Some(name) = &name {
            check_name(name).map_err(|fault| PeersError::Name { name: name.clone(), fault })?;
        }
        let place = address.as_deref().map(Place::parse).transpose()?;
        let hint = self.pending().address(&id).map(Place::from);
        self.change(|book| {
            if let Some(name) = &name
                && let Some(other) = book.named(name).filter(|other| *other != id)
            {
                return Err(PeersError::NameTaken { name: name.clone(), id: other });
            }
            let entry = book.peers.entry(id).or_insert_with(Entry::default);
            entry.rights = Rights { send, fetch };
            entry.name = name.or(entry.name.take());
            if let Some(place) = place {
                entry.prefer(place);
            }
            if let Some(hint) = hint {
                entry.hint(hint);
            }
            Ok(())
        })
    }

    /// Forgets a peer, by name or Peer ID: its rights, its name, its addresses and every pin of its key. `None`
    /// if there is no such peer.
    pub(crate) fn forget(&self, peer: &str) -> Result<Option<PeerId>, PeersError> {
        let Some(id) = self.find(peer) else { return Ok(None) };
        self.pending().remove(&id);
        self.change(|book| {
            book.forget(&id);
            Ok(Some(id))
        })
    }

    /// Notes that a stranger tried. Peers that are known are listed anyway.
    pub(crate) fn note_pending(&self, peer: &PeerId, address: SocketAddr) {
        if self.book().peers.contains_key(peer) {
            return;
        }
        let due = {
            let mut pending = self.pending();
            pending.note(*peer, address);
            pending.is_due(Instant::now())
        };
        if due {
            self.in_background("note a stranger in the trust file", |peers| peers.flush());
        }
    }
}

#[cfg(test)]
mod tests;
