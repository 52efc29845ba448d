//! The receive policy: who may put what here. A pure function of what the owner allows and what a peer
//! offers, so that every rule can be read and tested in one place.

use crate::{
    Along, FileId, Geometry, ResumeKey, SafeName,
    geometry::GeometryError,
    limits::{MAX_CHUNK_LEN, MAX_MANIFEST_LEN, MAX_UNSEALED_CHUNKS},
    name::NameError,
    reason::{PeerMisbehaved, RefuseReason},
    rules::Bounds,
    shown::Bytes,
    wire::peer::{Kind, Offer},
};

/// What the owner allows a peer to do here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The peer may send files to this machine.
    pub send: bool,
    /// The peer may fetch what is shared with it.
    pub fetch: bool,
}

/// What is true of this machine at the moment of an offer.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// The rights of the peer that offers.
    pub rights: Rights,
    /// Whether this machine asked for the file itself, which needs no right.
    pub asked: Option<FileId>,
    /// Transfers that this peer has running here already.
    pub running: usize,
    /// Most transfers that one peer may have running here.
    pub max_running: usize,
    /// What the owner has settled for this peer; it does not bear on what was asked for.
    pub bounds: Bounds,
    /// What is offered along with it: what is settled holds for all of it.
    pub along: Along,
}

/// An offer that was found acceptable. Only [`admit`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    name: SafeName,
    geometry: Geometry,
    allocated: u64,
    file_id: Option<FileId>,
    resume_key: Option<ResumeKey>,
    executable: bool,
    modified_ns: Option<i64>,
    manifest_len: Option<u32>,
}

impl Permit {
    /// The name under which the file or folder may be published.
    pub fn name(&self) -> &SafeName {
        &self.name
    }
    /// Size and chunk size as offered; of a folder the sum of its files.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }
    /// Bytes that the file will occupy on disk, as the provider says; never more than its size.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }
    /// The content's identity; where it is not known yet, there is a resume key.
    pub fn file_id(&self) -> Option<FileId> {
        self.file_id
    }
    /// What stands for the source where a transfer of it began, or begins, without a File ID.
    pub fn resume_key(&self) -> Option<ResumeKey> {
        self.resume_key
    }
    /// Whether the file is executable.
    pub fn executable(&self) -> bool {
        self.executable
    }
    /// Modification time in nanoseconds since 1970 UTC.
    pub fn modified_ns(&self) -> Option<i64> {
        self.modified_ns
    }
    /// Bytes of the list of entries, for a folder.
    pub fn manifest_len(&self) -> Option<u32> {
        self.manifest_len
    }
}

/// Why an offer is not taken: the answer that the peer gets, and for the log what was wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer has no right to send here.
    #[error("the peer may not send here")]
    NotAllowed,
    /// The owner takes nothing of this peer.
    #[error("nothing is taken of this peer")]
    Never,
    /// It is larger than the owner takes of this peer.
    #[error("larger than the {} that are taken of this peer", Bytes(*limit))]
    TooLarge {
        /// The most bytes.
        limit: u64,
    },
    /// With it more would lie here of this peer than the owner wants.
    #[error("only {} are left of this peer's quota", Bytes(*left))]
    Quota {
        /// The bytes that are left.
        left: u64,
    },
    /// Another file than the one that was asked for.
    #[error("the peer offered another file than was asked for")]
    WrongFile,
    /// The name is unsafe.
    #[error("unsafe name: {0}")]
    Name(#[from] NameError),
    /// The sizes are impossible.
    #[error("impossible size: {0}")]
    Size(#[from] GeometryError),
    /// The list of a folder's entries is too long.
    #[error("a folder with a list of entries of more than {MAX_MANIFEST_LEN} bytes")]
    Manifest,
    /// Too many transfers of this peer are running.
    #[error("the peer has too many transfers running")]
    Busy,
    /// The offer has no File ID where one must be: in the answer to a request, without a resume key, for content that
    /// has no list, or one that is too long.
    #[error("an offer without File ID")]
    Unsealed,
}

impl Refusal {
    /// The answer on the wire.
    pub fn reason(self) -> RefuseReason {
        match self {
            Self::NotAllowed => RefuseReason::NotAllowed,
            Self::WrongFile | Self::Unsealed => RefuseReason::Unsupported,
            Self::Name(_) => RefuseReason::Name,
            Self::Size(_) | Self::Manifest => RefuseReason::Size,
            Self::Busy => RefuseReason::Busy,
            Self::Never => RefuseReason::Rejected,
            Self::TooLarge { limit } => RefuseReason::TooLarge { limit },
            Self::Quota { left } => RefuseReason::Quota { left },
        }
    }

    /// The misbehaviour behind a refusal, where only a broken or hostile peer gets there.
    pub fn misbehaviour(self) -> Option<PeerMisbehaved> {
        match self {
            Self::WrongFile => Some(PeerMisbehaved::WrongFile),
            Self::Name(error) => Some(PeerMisbehaved::Name(error)),
            Self::Size(error) => Some(PeerMisbehaved::Geometry(error)),
            Self::NotAllowed | Self::Busy | Self::Unsealed | Self::Manifest => None,
            Self::Never | Self::TooLarge { .. } | Self::Quota { .. } => None,
        }
    }
}

/// Decides on an offer.
pub fn admit(situation: Situation, offer: &Offer) -> Result<Permit, Refusal> {
    match (situation.asked, offer.file_id) {
        (None, _) if !situation.rights.send => return Err(Refusal::NotAllowed),
        (Some(asked), Some(offered)) if asked != offered => return Err(Refusal::WrongFile),
        (Some(_), None) => return Err(Refusal::Unsealed),
        _ => {}
    }
    // Longer than any chunk, so that it has a list at every chunk size; and it can be found again.
    if offer.file_id.is_none() && (offer.resume_key.is_none() || offer.size <= MAX_CHUNK_LEN) {
        return Err(Refusal::Unsealed);
    }
    let manifest_len = match offer.kind {
        Kind::File => None,
        Kind::Folder { manifest_len } if manifest_len as usize > MAX_MANIFEST_LEN => {
            return Err(Refusal::Manifest);
        }
        Kind::Folder { .. } if offer.file_id.is_none() => return Err(Refusal::Unsealed),
        Kind::Folder { manifest_len } => Some(manifest_len),
    };
    let name = SafeName::parse(&offer.name)?;
    let geometry = Geometry::new(offer.size, offer.chunk_log2)?;
    if offer.file_id.is_none() && u64::from(geometry.chunks()) > MAX_UNSEALED_CHUNKS {
        return Err(Refusal::Unsealed);
    }
    if situation.asked.is_none() {
        within(situation.bounds, offer.size, situation.along)?;
    }
    if situation.running >= situation.max_running {
        return Err(Refusal::Busy);
    }
    Ok(Permit {
        name,
        geometry,
        allocated: offer.allocated.min(offer.size),
        file_id: offer.file_id,
        resume_key: offer.resume_key,
        executable: offer.executable,
        modified_ns: offer.modified_ns,
        manifest_len,
    })
}

fn within(bounds: Bounds, size: u64, along: Along) -> Result<(), Refusal> {
    match bounds {
        Bounds { never: true, .. } => Err(Refusal::Never),
        Bounds { largest: Some(limit), .. } if along.whole(size) > limit => Err(Refusal::TooLarge { limit }),
        Bounds { left: Some(left), .. } if along.rest(size) > left => Err(Refusal::Quota { left }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        Offer {
            name: "a.iso".into(),
            kind: Kind::File,
            size: 10,
            allocated: 10,
            chunk_log2: 18,
            file_id: Some(FileId([1; 32])),
            resume_key: None,
            executable: false,
            modified_ns: None,
        }
    }

    const TRUSTED: Situation = Situation {
        rights: Rights { send: true, fetch: true },
        asked: None,
        running: 0,
        max_running: 2,
        bounds: Bounds { never: false, largest: None, left: None },
        along: Along { here: 0, total: None },
    };

    #[test]
    fn what_is_offered_together_is_bounded_together() {
        let within = |largest, left, along| {
            let bounds = Bounds { largest, left, never: false };
            admit(Situation { bounds, along, ..TRUSTED }, &offer()).map(|_| ())
        };
        // The offer has 10 bytes.
        let claimed = |total| Along { here: 0, total: Some(total) };
        assert_eq!(within(Some(30), None, claimed(30)), Ok(()));
        assert_eq!(within(Some(29), None, claimed(30)), Err(Refusal::TooLarge { limit: 29 }));
        assert_eq!(within(None, Some(29), claimed(30)), Err(Refusal::Quota { left: 29 }));
        // What has come counts, whatever was claimed; it is off the quota already.
        let here = Along { here: 25, total: Some(1) };
        assert_eq!(within(Some(35), Some(10), here), Ok(()));
        assert_eq!(within(Some(34), None, here), Err(Refusal::TooLarge { limit: 34 }));
        assert_eq!(within(None, Some(9), here), Err(Refusal::Quota { left: 9 }));
        let most = Along { here: u64::MAX, total: Some(u64::MAX) };
        assert_eq!(within(Some(1), None, most), Err(Refusal::TooLarge { limit: 1 }));
    }

    #[test]
    fn what_the_owner_settled_bounds_what_is_offered_and_not_what_was_asked_for() {
        let within = |bounds| admit(Situation { bounds, ..TRUSTED }, &offer()).map(|_| ());
        assert_eq!(within(Bounds { largest: Some(10), left: Some(10), never: false }), Ok(()));
        assert_eq!(
            within(Bounds { largest: Some(9), ..Bounds::default() }),
            Err(Refusal::TooLarge { limit: 9 })
        );
        assert_eq!(within(Bounds { left: Some(9), ..Bounds::default() }), Err(Refusal::Quota { left: 9 }));
        let never = Bounds { never: true, largest: Some(0), left: Some(0) };
        assert_eq!(within(never), Err(Refusal::Never));
        let asked = Situation { asked: Some(FileId([1; 32])), bounds: never, ..TRUSTED };
        assert!(admit(asked, &offer()).is_ok());
    }

    #[test]
    fn a_trusted_peer_may_send() {
        assert_eq!(admit(TRUSTED, &offer()).unwrap().name().as_str(), "a.iso");
        let stranger = Situation { rights: Rights::default(), ..TRUSTED };
        assert_eq!(admit(stranger, &offer()), Err(Refusal::NotAllowed));
        let fetch_only = Situation { rights: Rights { send: false, fetch: true }, ..TRUSTED };
        assert_eq!(admit(fetch_only, &offer()), Err(Refusal::NotAllowed));
    }

    #[test]
    fn an_answer_to_a_request_needs_no_right_but_the_right_file() {
        let asked = Situation { rights: Rights::default(), asked: Some(FileId([1; 32])), ..TRUSTED };
        assert!(admit(asked, &offer()).is_ok());
        let other = Situation { asked: Some(FileId([2; 32])), ..asked };
        assert_eq!(admit(other, &offer()), Err(Refusal::WrongFile));
    }

    #[test]
    fn content_without_identity_comes_from_a_sender_with_a_key_and_has_a_list() {
        let key = ResumeKey([3; 16]);
        let unsealed = Offer {
            file_id: None,
            resume_key: Some(key),
            size: MAX_CHUNK_LEN + 1,
            chunk_log2: 22,
            ..offer()
        };
        let permit = admit(TRUSTED, &unsealed).unwrap();
        assert_eq!((permit.file_id(), permit.resume_key()), (None, Some(key)));
        let refused = |situation, offer: Offer| admit(situation, &offer).unwrap_err();
        assert_eq!(refused(TRUSTED, Offer { resume_key: None, ..unsealed.clone() }), Refusal::Unsealed);
        assert_eq!(refused(TRUSTED, Offer { size: MAX_CHUNK_LEN, ..unsealed.clone() }), Refusal::Unsealed);
        let most =
            |more| Offer { size: (MAX_UNSEALED_CHUNKS << 18) + more, chunk_log2: 18, ..unsealed.clone() };
        assert!(admit(TRUSTED, &most(0)).is_ok());
        assert_eq!(refused(TRUSTED, most(1)), Refusal::Unsealed);
        assert!(admit(TRUSTED, &Offer { file_id: Some(FileId([1; 32])), ..most(1) }).is_ok());
        let asked = Situation { asked: Some(FileId([1; 32])), ..TRUSTED };
        assert_eq!(refused(asked, unsealed.clone()), Refusal::Unsealed);
        let stranger = Situation { rights: Rights::default(), ..TRUSTED };
        assert_eq!(refused(stranger, unsealed), Refusal::NotAllowed);
        assert_eq!(Refusal::Unsealed.reason(), RefuseReason::Unsupported);
    }

    #[test]
    fn bad_offers_are_named() {
        let refuse = |change: &dyn Fn(&mut Offer)| {
            let mut offer = offer();
            change(&mut offer);
            admit(TRUSTED, &offer).unwrap_err()
        };
        assert!(matches!(refuse(&|o| o.name = "../x".into()), Refusal::Name(_)));
        assert!(matches!(refuse(&|o| o.size = u64::MAX), Refusal::Size(_)));
        assert!(matches!(refuse(&|o| o.chunk_log2 = 0), Refusal::Size(_)));
        assert_eq!(refuse(&|o| o.file_id = None), Refusal::Unsealed);
        assert_eq!(refuse(&|o| o.kind = Kind::Folder { manifest_len: u32::MAX }), Refusal::Manifest);
        let busy = Situation { running: 2, ..TRUSTED };
        assert_eq!(admit(busy, &offer()), Err(Refusal::Busy));
    }

    #[test]
    fn a_permit_says_what_was_offered_and_no_more() {
        let offered = Offer {
            kind: Kind::Folder { manifest_len: MAX_MANIFEST_LEN as u32 },
            allocated: 11,
            resume_key: Some(ResumeKey([3; 16])),
            executable: true,
            modified_ns: Some(-5),
            ..offer()
        };
        let permit = admit(TRUSTED, &offered).unwrap();
        assert_eq!((permit.geometry().size(), permit.allocated()), (10, 10));
        assert_eq!((permit.file_id(), permit.resume_key()), (offered.file_id, offered.resume_key));
        assert_eq!((permit.executable(), permit.modified_ns()), (true, Some(-5)));
        assert_eq!(permit.manifest_len(), Some(MAX_MANIFEST_LEN as u32));
        let plain = admit(TRUSTED, &Offer { allocated: 3, ..offer() }).unwrap();
        assert_eq!((plain.allocated(), plain.executable()), (3, false));
        assert_eq!((plain.modified_ns(), plain.manifest_len()), (None, None));
    }

    #[test]
    fn a_folder_without_identity_is_refused() {
        let folder = Offer {
            kind: Kind::Folder { manifest_len: 100 },
            file_id: None,
            resume_key: Some(ResumeKey([3; 16])),
            size: MAX_CHUNK_LEN + 1,
            chunk_log2: 22,
            ..offer()
        };
        assert_eq!(admit(TRUSTED, &folder), Err(Refusal::Unsealed));
    }

    #[test]
    fn only_what_no_honest_peer_does_is_misbehaviour() {
        assert_eq!(Refusal::WrongFile.misbehaviour(), Some(PeerMisbehaved::WrongFile));
        let name = NameError::TooLong;
        assert_eq!(Refusal::Name(name).misbehaviour(), Some(PeerMisbehaved::Name(name)));
        let size = GeometryError::ChunkSize(0);
        assert_eq!(Refusal::Size(size).misbehaviour(), Some(PeerMisbehaved::Geometry(size)));
        let bounded = [Refusal::Never, Refusal::TooLarge { limit: 1 }, Refusal::Quota { left: 1 }];
        let others = [Refusal::NotAllowed, Refusal::Busy, Refusal::Unsealed, Refusal::Manifest];
        for honest in bounded.into_iter().chain(others) {
            assert_eq!(honest.misbehaviour(), None, "{honest}");
        }
    }
}
