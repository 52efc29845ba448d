//! The wire, pinned byte by byte: a change here is a change of the protocol, and `docs/protocol.md` and the ALPN
//! name have to follow.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::{fs, path::Path};

use data_encoding::HEXLOWER;
use p2p_protocol::{
    Batch, BatchId, ChunkRange, Cv, FileId, Manifest, PeerId, ResumeKey,
    control::Preamble,
    limits::{MAX_CHUNK_HEADER_LEN, MAX_FRAME_LEN},
    manifest::{Entry, Node},
    reason::{AbortReason, ChunkFailure, PeerMisbehaved, RefuseReason, close},
    succession::{Link, Succession, statement},
    token::{Address, Binding, ClaimId, Grant, Proof, SECRET_LEN, Secret, Token},
    wire::{
        ALPN, ALPN_BACKGROUND,
        chunk::{ChunkHeader, Encoding},
        codec,
        peer::{
            Accept, AcceptFolder, Arrived, ChunkFailed, Done, Fetch, Hashing, Join, Joined, Kind, List,
            Listed, Measure, Measured, Message, Offer, OfferTogether, Page, PauseReason, Peek, Redeem, Seal,
            Shared, Want, WouldTake,
        },
    },
};

const ID: FileId = FileId([0x11; 32]);
const ID_HEX: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const CV_HEX: &str = "2222222222222222222222222222222222222222222222222222222222222222";

/// Every message once, with its bytes after the length.
fn messages() -> Vec<(Message, String)> {
    let offer = Offer {
        name: "a".into(),
        kind: Kind::File,
        size: 0x0102,
        allocated: 3,
        chunk_log2: 18,
        file_id: Some(ID),
        resume_key: None,
        executable: true,
        modified_ns: Some(-2),
    };
    let unsealed =
        Offer { file_id: None, resume_key: Some(ResumeKey([7; 16])), modified_ns: None, ..offer.clone() };
    let folder = Offer { kind: Kind::Folder { manifest_len: 5 }, ..offer.clone() };
    let together = offer.clone();
    let ranges = vec![ChunkRange { start: 1, count: 2 }];
    let tried = offer.clone();
    let cv = Cv([0x22; 32]);
    vec![
        (
            Message::Offer(offer),
            format!(
                "00000000 0100000000000000 61 00000000 0201000000000000 0300000000000000 12 01 {ID_HEX} 00 01 01 feffffffffffffff"
            ),
        ),
        (
            Message::Offer(unsealed),
            "00000000 0100000000000000 61 00000000 0201000000000000 0300000000000000 12 00 01 07070707070707070707070707070707 01 00".into(),
        ),
        (
            Message::Offer(folder),
            format!(
                "00000000 0100000000000000 61 01000000 05000000 0201000000000000 0300000000000000 12 01 {ID_HEX} 00 01 01 feffffffffffffff"
            ),
        ),
        (Message::Fetch(Fetch { file_id: ID, eager: true }), format!("01000000 {ID_HEX} 01")),
        (
            Message::Accept(Accept { chunk_log2: 20, have_count: 2, have: ranges.clone() }),
            "02000000 14 02000000 0100000000000000 01000000 02000000".into(),
        ),
        (Message::Refuse(RefuseReason::NotFound), "03000000 01000000".into()),
        (Message::Top(vec![cv]), format!("04000000 0100000000000000 {CV_HEX}")),
        (Message::NeedPages(vec![3]), "05000000 0100000000000000 03000000".into()),
        (
            Message::Page(Page { page: 3, values: vec![cv] }),
            format!("06000000 03000000 0100000000000000 {CV_HEX}"),
        ),
        (
            Message::Want(Want { ranges: ranges.clone(), credit: 4 }),
            "07000000 0100000000000000 01000000 02000000 04000000".into(),
        ),
        (Message::Verified(ranges), "08000000 0100000000000000 01000000 02000000".into()),
        (
            Message::ChunkFailed(ChunkFailed { chunk: 5, reason: ChunkFailure::Truncated }),
            "09000000 05000000 01000000".into(),
        ),
        (Message::Paused(PauseReason::Space), "0a000000 00000000".into()),
        (Message::Paused(PauseReason::Owner), "0a000000 01000000".into()),
        (
            Message::Seal(Seal { file_id: ID, size: 9, chunks: 1 }),
            format!("0b000000 {ID_HEX} 0900000000000000 01000000"),
        ),
        (
            Message::Done(Done { file_id: ID, name: "é".into(), fetchable: false }),
            format!("0c000000 {ID_HEX} 0200000000000000 c3a9 00"),
        ),
        (Message::Abort(AbortReason::Stalled), "0d000000 06000000".into()),
        (Message::Hashing(Hashing { left: 0x0102 }), "0e000000 02010000".into()),
        (Message::NeedManifest, "0f000000".into()),
        (Message::Manifest(vec![7, 8]), "10000000 0200000000000000 0708".into()),
        (
            Message::AcceptFolder(AcceptFolder {
                files: vec![ChunkRange { start: 3, count: 4 }],
                accept: Accept { chunk_log2: 20, have_count: 0, have: Vec::new() },
            }),
            "11000000 0100000000000000 03000000 04000000 14 00000000 0000000000000000".into(),
        ),
        (
            Message::NeedValues(vec![ChunkRange { start: 3, count: 4 }]),
            "12000000 0100000000000000 03000000 04000000".into(),
        ),
        (Message::Values(vec![cv]), format!("13000000 0100000000000000 {CV_HEX}")),
        (
            Message::Join(Join { invitation: ClaimId([3; 8]), proof: Proof([0x22; 32]), name: "a".into() }),
            format!("14000000 0303030303030303 {CV_HEX} 0100000000000000 61"),
        ),
        (Message::Joined(Joined { name: "b".into() }), "15000000 0100000000000000 62".into()),
        (
            Message::Redeem(Redeem {
                ticket: ClaimId([3; 8]),
                proof: Proof([0x22; 32]),
                fetch: Fetch { file_id: ID, eager: true },
            }),
            format!("16000000 0303030303030303 {CV_HEX} {ID_HEX} 01"),
        ),
        (Message::List(List { after: Some(ID) }), format!("17000000 01 {ID_HEX}")),
        (
            Message::Listed(Listed {
                shares: vec![Shared { file_id: ID, name: "a".into(), is_folder: false, size: Some(9) }],
                more: true,
            }),
            format!("18000000 0100000000000000 {ID_HEX} 0100000000000000 61 00 01 0900000000000000 01"),
        ),
        (Message::Peek(Peek { file_id: ID }), format!("19000000 {ID_HEX}")),
        (
            Message::Try(tried),
            format!(
                "1a000000 0100000000000000 61 00000000 0201000000000000 0300000000000000 12 01 {ID_HEX} 00 01 01 feffffffffffffff"
            ),
        ),
        (Message::WouldTake(WouldTake { files: 2, bytes: 3 }), "1b000000 0200000000000000 0300000000000000".into()),
        (
            Message::OfferTogether(OfferTogether {
                batch: Batch { id: BatchId([9; 16]), position: 1, count: 3, total_bytes: Some(0x0304) },
                offer: together,
            }),
            format!(
                "1c000000 09090909090909090909090909090909 01000000 03000000 01 0403000000000000 0100000000000000 61 00000000 0201000000000000 0300000000000000 12 01 {ID_HEX} 00 01 01 feffffffffffffff"
            ),
        ),
        (Message::Measure(Measure { wants: 0x0102, brings: 3 }), "1d000000 02010000 03000000".into()),
        (
            Message::Measured(Measured { version: "0.1".into(), sends: 4, takes: 5 }),
            "1e000000 0300000000000000 302e31 04000000 05000000".into(),
        ),
        (Message::Filler(vec![0, 7]), "1f000000 0200000000000000 0007".into()),
        (Message::Arrived(Arrived { micros: 0x0203 }), "20000000 0302000000000000".into()),
    ]
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn packed(text: &str) -> String {
    text.replace(' ', "")
}

#[test]
fn every_message_has_its_bytes() {
    for (message, expected) in messages() {
        let frame = codec::frame(&message, MAX_FRAME_LEN).unwrap();
        let (prefix, body) = frame.split_at(codec::PREFIX_LEN);
        assert_eq!(hex(body), packed(&expected), "{message:?}");
        assert_eq!(prefix, (body.len() as u32).to_le_bytes(), "{message:?}");
        assert_eq!(codec::decode::<Message>(body), Ok(message));
    }
}

#[test]
fn every_message_is_pinned() {
    let mut numbers: Vec<u32> = messages()
        .iter()
        .map(|(message, _)| {
            // A new variant must be added to the list above before this compiles.
            match message {
                Message::Offer(_) => 0,
                Message::Fetch(_) => 1,
                Message::Accept(_) => 2,
                Message::Refuse(_) => 3,
                Message::Top(_) => 4,
                Message::NeedPages(_) => 5,
                Message::Page(_) => 6,
                Message::Want(_) => 7,
                Message::Verified(_) => 8,
                Message::ChunkFailed(_) => 9,
                Message::Paused(_) => 10,
                Message::Seal(_) => 11,
                Message::Done(_) => 12,
                Message::Abort(_) => 13,
                Message::Hashing(_) => 14,
                Message::NeedManifest => 15,
                Message::Manifest(_) => 16,
                Message::AcceptFolder(_) => 17,
                Message::NeedValues(_) => 18,
                Message::Values(_) => 19,
                Message::Join(_) => 20,
                Message::Joined(_) => 21,
                Message::Redeem(_) => 22,
                Message::List(_) => 23,
                Message::Listed(_) => 24,
                Message::Peek(_) => 25,
                Message::Try(_) => 26,
                Message::WouldTake(_) => 27,
                Message::OfferTogether(_) => 28,
                Message::Measure(_) => 29,
                Message::Measured(_) => 30,
                Message::Filler(_) => 31,
                Message::Arrived(_) => 32,
            }
        })
        .collect();
    numbers.dedup();
    assert_eq!(numbers, (0..33).collect::<Vec<u32>>());
    let unknown = [33, 0, 0, 0];
    assert_eq!(codec::decode::<Message>(&unknown), Err(PeerMisbehaved::MalformedFrame));
}

/// Fails unless the values have the numbers 0, 1, 2 … on the wire, and nothing comes after the last.
fn assert_numbers<T: wire_values::Wire>(values: &[T]) {
    for (number, value) in values.iter().enumerate() {
        let frame = value.frame();
        let body = &frame[codec::PREFIX_LEN..];
        assert_eq!(body[..4], (number as u32).to_le_bytes(), "{value:?}");
        assert_eq!(T::decode(body).as_ref(), Ok(value));
    }
    let after = (values.len() as u32).to_le_bytes();
    assert!(T::decode(&after).is_err(), "there is a value {} that is not pinned", values.len());
}

/// What can travel, without naming the serialisation library here.
mod wire_values {
    use super::{
        AbortReason, ChunkFailure, Encoding, Kind, MAX_FRAME_LEN, PauseReason, PeerMisbehaved, RefuseReason,
        codec,
    };

    pub(super) trait Wire: Sized + std::fmt::Debug + PartialEq {
        fn frame(&self) -> Vec<u8>;
        fn decode(body: &[u8]) -> Result<Self, PeerMisbehaved>;
    }

    macro_rules! wire {
        ($($name:ty),*) => {$(
            impl Wire for $name {
                fn frame(&self) -> Vec<u8> {
                    codec::frame(self, MAX_FRAME_LEN).unwrap()
                }
                fn decode(body: &[u8]) -> Result<Self, PeerMisbehaved> {
                    codec::decode(body)
                }
            }
        )*};
    }

    wire!(RefuseReason, AbortReason, ChunkFailure, Encoding, Kind, PauseReason);
}

#[test]
fn every_reason_has_its_number() {
    assert_numbers(&[
        RefuseReason::NotAllowed,
        RefuseReason::NotFound,
        RefuseReason::Name,
        RefuseReason::Size,
        RefuseReason::Space { need: 1, free: 2 },
        RefuseReason::Storage,
        RefuseReason::Rejected,
        RefuseReason::Busy,
        RefuseReason::Unsupported,
        RefuseReason::SourceChanged,
        RefuseReason::ShuttingDown,
        RefuseReason::NoToken,
        RefuseReason::TooLarge { limit: 1 },
        RefuseReason::Quota { left: 1 },
        RefuseReason::Exists,
        RefuseReason::Locked,
    ]);
    assert_numbers(&[
        AbortReason::Cancelled,
        AbortReason::SourceChanged,
        AbortReason::SourceUnreadable,
        AbortReason::Storage,
        AbortReason::Integrity,
        AbortReason::Protocol,
        AbortReason::Stalled,
        AbortReason::ShuttingDown,
        AbortReason::OfferAgain,
        AbortReason::Paused,
        AbortReason::Enough,
    ]);
    assert_numbers(&[
        ChunkFailure::Corrupt,
        ChunkFailure::Truncated,
        ChunkFailure::Stalled,
        ChunkFailure::NotStored,
    ]);
    assert_numbers(&[Encoding::Raw, Encoding::Zeros]);
    assert_numbers(&[Kind::File]);
    assert_numbers(&[PauseReason::Space, PauseReason::Owner]);
}

#[test]
fn numbers_of_a_refusal_follow_it() {
    let frame =
        codec::frame(&Message::Refuse(RefuseReason::Space { need: 0x0102, free: 3 }), MAX_FRAME_LEN).unwrap();
    assert_eq!(hex(&frame), packed("18000000 03000000 04000000 0201000000000000 0300000000000000"));
}

#[test]
fn chunk_headers_have_their_bytes() {
    let raw = ChunkHeader {
        transfer: 4,
        index: 0x0102,
        len: 7,
        encoding: Encoding::Raw,
        cv: None,
        proof: Vec::new(),
    };
    assert_eq!(hex(&raw.encode()), packed("1500 0400000000000000 02010000 07000000 00000000 00"));
    let zeros = ChunkHeader { encoding: Encoding::Zeros, cv: Some(Cv([0x22; 32])), ..raw.clone() };
    assert_eq!(
        hex(&zeros.encode()),
        packed(&format!("3500 0400000000000000 02010000 07000000 01000000 01 {CV_HEX}"))
    );
    let proven = ChunkHeader { proof: vec![Cv([0x33; 32])], ..zeros.clone() };
    assert_eq!(
        hex(&proven.encode()),
        packed(&format!("5500 0400000000000000 02010000 07000000 01000000 01 {CV_HEX} {}", "33".repeat(32)))
    );
    for header in [raw, zeros, proven] {
        assert_eq!(ChunkHeader::decode(&header.encode()[2..]), Ok(header.clone()));
        assert!(header.encode().len() <= MAX_CHUNK_HEADER_LEN);
    }
}

#[test]
fn close_codes_have_their_numbers() {
    let codes = [
        close::IDLE,
        close::SHUTDOWN,
        close::NOT_TRUSTED,
        close::WRONG_PEER,
        close::BUSY,
        close::STREAM_UNWANTED,
        close::STREAM_ABORTED,
        close::DEADLINE,
    ];
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(close::MISBEHAVED, 0x100);
    let geometry = p2p_protocol::Geometry::new(1, 0).unwrap_err();
    let range = p2p_protocol::bitmap::RangesError::TooMany;
    let faults = [
        PeerMisbehaved::FrameTooLong(1),
        PeerMisbehaved::MalformedFrame,
        PeerMisbehaved::UnexpectedMessage(""),
        PeerMisbehaved::Geometry(geometry),
        PeerMisbehaved::Ranges(range),
        PeerMisbehaved::ForgedList(p2p_protocol::tree::TreeError::Mismatch),
        PeerMisbehaved::UnaskedChunks,
        PeerMisbehaved::ChunkHeader(0),
        PeerMisbehaved::NoSuchPage(0),
        PeerMisbehaved::TooManyPages,
        PeerMisbehaved::Credit(0),
        PeerMisbehaved::FalseDone,
        PeerMisbehaved::WrongFile,
        PeerMisbehaved::BadChunks(1),
        PeerMisbehaved::Name(p2p_protocol::name::NameError::Dots),
        PeerMisbehaved::TooManyWanted,
        PeerMisbehaved::HaveCount(1),
        PeerMisbehaved::FalseSeal,
        PeerMisbehaved::FalseManifest,
        PeerMisbehaved::FalseListing,
        PeerMisbehaved::FalseBatch,
    ];
    for (n, fault) in faults.iter().enumerate() {
        assert_eq!(fault.close_code(), close::MISBEHAVED + n as u32, "{fault}");
    }
}

#[test]
fn manifests_have_their_bytes() {
    let entry = |path: &str, modified_ns, node| Entry { path: path.into(), modified_ns, node };
    let manifest = Manifest::new(vec![
        entry("a", Some(-2), Node::Folder),
        entry("a/b", Some(3), Node::File { size: 0x0102, file_id: ID, executable: false }),
        entry("a/c", None, Node::File { size: 3, file_id: ID, executable: true }),
        entry("d", Some(4), Node::Link { target: "a/b".into() }),
        entry("e", Some(5), Node::HardLink { of: 1 }),
    ]);
    let manifest = manifest.unwrap();
    let parts = |times: [&str; 5]| {
        let [t0, t1, t2, t3, t4] = times;
        packed(&format!(
            "00 0100 61 {t0} 01 0300 612f62 {t1} 0201000000000000 {ID_HEX} 02 0300 612f63 {t2} 0300000000000000 {ID_HEX} \
             03 0100 64 {t3} 0300 612f62 04 0100 65 {t4} 01000000"
        ))
    };
    let times =
        ["feffffffffffffff", "0300000000000000", "0000000000000080", "0400000000000000", "0500000000000000"];
    assert_eq!(hex(&manifest.encode()), parts(times));
    let hashed = HEXLOWER.decode(parts([""; 5]).as_bytes()).unwrap();
    let context = "p2p 2026-11-25 file id of a folder from its manifest";
    assert_eq!(hex(&manifest.id().0), hex(&blake3::derive_key(context, &hashed)));
}

#[test]
fn identities_and_names_of_the_protocol_are_fixed() {
    assert_eq!((ALPN, ALPN_BACKGROUND), (b"p2p/1".as_slice(), b"p2p/1-background".as_slice()));
    assert_eq!(PeerId::from_spki(b"spki").to_string().len(), 52);
    assert_eq!(
        hex(&PeerId::from_spki(b"spki").0),
        hex(&blake3::derive_key("p2p 2026-11-23 peer id from subject public key info", b"spki"))
    );
    assert_eq!(hex(&Preamble { version: 0x0102 }.encode()), packed("70327063746c 0201"));
    assert_eq!(Preamble::ours().version, 21);
}

#[test]
fn tokens_and_proofs_are_fixed() {
    let addresses = vec![
        Address::V4([192, 0, 2, 1], 0x0102),
        Address::V6([0x20; 16], 3),
        Address::Name("nas.example".into(), 4419),
    ];
    let token = Token::new(Grant::Join, PeerId([0x11; 32]), Secret::new([0x22; SECRET_LEN]), addresses);
    let v6 = "20".repeat(16);
    let secret = "22".repeat(16);
    let body =
        packed(&format!("01 {ID_HEX} {secret} fe c0000201 0102 ff {v6} 0003 0b 6e61732e6578616d706c65 1143"));
    let text = token.to_string();
    let encoded = text.strip_prefix("p2pinvite").unwrap().to_ascii_uppercase();
    let bytes = data_encoding::BASE32_NOPAD.decode(encoded.as_bytes()).unwrap();
    let (said, sum) = bytes.split_at(bytes.len() - 4);
    assert_eq!(hex(said), body);
    let mut hasher = blake3::Hasher::new_derive_key("p2p 2026-11-26 checksum of a token");
    hasher.update(b"p2pinvite").update(said);
    assert_eq!(sum, &hasher.finalize().as_bytes()[..4]);

    let ticket = Token { grant: Grant::Fetch(ID), addresses: Vec::new(), ..token.clone() };
    let encoded = ticket.to_string().strip_prefix("p2pticket").unwrap().to_ascii_uppercase();
    let bytes = data_encoding::BASE32_NOPAD.decode(encoded.as_bytes()).unwrap();
    assert_eq!(hex(&bytes[..bytes.len() - 4]), packed(&format!("01 {ID_HEX} {secret} {ID_HEX}")));

    let derived = |context| blake3::derive_key(context, &[0x22; SECRET_LEN]);
    assert_eq!(token.id().0, derived("p2p 2026-11-26 what a token's secret is called")[..8]);
    let key = derived("p2p 2026-11-26 proof of an invitation's secret");
    let binding = Binding { exporter: [1; 32], holder: PeerId([2; 32]), giver: PeerId([3; 32]) };
    let said = [[1; 32], [2; 32], [3; 32]].concat();
    assert_eq!(token.key().prove(&binding).0, *blake3::keyed_hash(&key, &said).as_bytes());
    let key = derived("p2p 2026-11-26 proof of a ticket's secret");
    assert_eq!(ticket.key().prove(&binding).0, *blake3::keyed_hash(&key, &said).as_bytes());
}

#[test]
fn successions_are_fixed() {
    let links = [Link { key: [1; 32], signature: [2; 64] }, Link { key: [3; 32], signature: [4; 64] }];
    let list = links.into_iter().fold(Succession::default(), Succession::followed_by);
    let of = |byte: &str, n| byte.repeat(n);
    let links = format!("{}{}{}{}", of("01", 32), of("02", 64), of("03", 32), of("04", 64));
    assert_eq!(hex(&list.encode()), format!("{}02{links}", hex(b"p2p succession 1")));
    let said = [b"p2p 2026-11-26 this key is succeeded by that one", &[1; 32][..], &[3; 32]].concat();
    assert_eq!(statement(&[1; 32], &[3; 32]), said);
}

#[test]
fn the_specification_names_every_message_and_limit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    for (message, _) in messages() {
        assert!(words.contains(&message.name()), "docs/protocol.md does not name {}", message.name());
    }
    for number in [MAX_FRAME_LEN, p2p_protocol::limits::MAX_FIRST_FRAME_LEN, MAX_CHUNK_HEADER_LEN] {
        assert!(
            words.contains(&number.to_string().as_str()),
            "docs/protocol.md does not have the limit {number}"
        );
    }
}
