//! Content without a name: sources that are hashed while they are sent, and partials that begin before it has one.

use std::os::unix::fs::FileExt;

use p2p_protocol::{
    ChunkSet, Geometry, ResumeKey,
    limits::{HASH_FIRST_LEN, MAX_CHUNK_LOG2, MAX_SENT_UNSEALED, MAX_UNSEALED_CHUNKS},
};

use super::{faulty::Op, *};
use crate::store::file_source::FileSource;

const KEY: ResumeKey = ResumeKey([5; 16]);

/// Longer than what is hashed first, and not a whole number of chunks.
fn long() -> Content {
    Content::random((HASH_FIRST_LEN + 3 * GROUP_LEN) as usize + 77)
}

fn to_send(bed: &Bed, path: &Path) -> FileSource {
    bed.store.open_to_send(path).unwrap().expect("it is hashed on the way")
}

fn write_at(path: &Path, bytes: &[u8], offset: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

#[test]
fn a_source_is_read_once_and_then_has_its_name() {
    let bed = Bed::new();
    let content = long();
    let path = bed.file("a", &content.bytes);
    let source = to_send(&bed, &path);
    assert_eq!(bed.disk.bytes_read(), 0, "nothing is read to open it");
    assert_eq!((source.file_id(), source.size()), (None, content.geometry.size()));
    let geometry = Geometry::new(content.geometry.size(), 20).unwrap();
    let list = content.chunks.clone();
    for chunk in (0..geometry.chunks()).rev() {
        assert!(source.seal().is_err(), "a chunk is missing");
        let (ChunkData::Bytes(bytes), value) = source.read_hashed(geometry, chunk).unwrap() else {
            panic!("noise is not zeros")
        };
        assert_eq!(bytes, content.part_of(geometry, chunk));
        assert!(tree::verify(geometry, chunk, Expected::Subtree(value), bytes).is_some());
        assert!(source.hashed(geometry).iter().eq(chunk..geometry.chunks()));
    }
    assert_eq!(bed.disk.bytes_read(), content.geometry.size());
    assert_eq!(source.seal().unwrap(), content.id);
    assert_eq!((source.seal().unwrap(), source.file_id()), (content.id, Some(content.id)));
    assert_eq!(source.page(content.geometry, 0).unwrap(), list);
    let (_, value) = source.read_hashed(content.geometry, 1).unwrap();
    assert_eq!(value, content.chunks[1]);
    assert!(source.chunk_is_intact(geometry, 2).unwrap());
}

#[test]
fn only_whole_chunks_count_as_hashed() {
    let bed = Bed::new();
    let content = long();
    let source = to_send(&bed, &bed.file("a", &content.bytes));
    let geometry = Geometry::new(content.geometry.size(), 20).unwrap();
    let last = geometry.chunks() - 1;
    let mut hashed = Vec::new();
    for chunk in [2, 5, last, 1] {
        source.read_hashed(geometry, chunk).unwrap();
        hashed.push(chunk);
        assert_eq!(source.hashed(geometry), set(hashed.clone()));
    }
    // A quarter of a chunk is none.
    source.read_hashed(content.geometry, 0).unwrap();
    assert_eq!(source.hashed(geometry), set(hashed));
    assert!(source.hashed(content.geometry).contains(0));
}

#[test]
fn what_was_sent_just_now_is_hashed_first_the_next_time() {
    let bed = Bed::new();
    let content = long();
    let path = bed.file("a", &content.bytes);
    let (source, other) = (to_send(&bed, &path), to_send(&bed, &path));
    for chunk in 0..content.geometry.chunks() {
        source.read_hashed(content.geometry, chunk).unwrap();
    }
    assert!(!bed.store.was_hashed(&other));
    source.seal().unwrap();
    assert!(bed.store.was_hashed(&other));
    assert!(bed.store.open_to_send(&path).unwrap().is_none());
    write_at(&path, b"changed", 0);
    assert!(bed.store.open_to_send(&path).unwrap().is_some(), "it is another now");
    // As many others as are remembered push it out; it costs a second sending, no more.
    for n in 0..MAX_SENT_UNSEALED as u64 {
        let stamp = Stamp { ino: n, ..source.stamp() };
        bed.store.remember_sent(stamp, content.id, i64::MIN);
    }
    assert!(!bed.store.was_hashed(&other));
}

#[test]
fn what_rests_is_remembered_with_its_name() {
    let bed = Bed::new();
    let content = long();
    let path = bed.file("a", &content.bytes);
    let source = to_send(&bed, &path);
    for chunk in 0..content.geometry.chunks() {
        source.read_hashed(content.geometry, chunk).unwrap();
    }
    source.seal().unwrap();
    // As if it had rested when its hashing began: the change time of a file cannot be set back.
    bed.store.remember_sent(source.stamp(), content.id, i64::MAX);
    let again = bed.store.open_to_send(&path).unwrap().unwrap();
    assert_eq!(again.file_id(), Some(content.id));
    assert_eq!(again.page(content.geometry, 0).unwrap(), content.chunks);
}

#[test]
fn short_files_and_huge_ones_are_hashed_first() {
    let bed = Bed::new();
    let path = bed.file("a", &[1]);
    let most = MAX_UNSEALED_CHUNKS << MAX_CHUNK_LOG2;
    let short = [(0, true), (1, true), (HASH_FIRST_LEN, true), (HASH_FIRST_LEN + 1, false)];
    for (len, first) in short.into_iter().chain([(most, false), (most + 1, true)]) {
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
        assert_eq!(bed.store.open_to_send(&path).unwrap().is_none(), first, "{len}");
    }
    assert!(matches!(bed.store.open_to_send(&bed.path("none")), Err(StoreError::NotFound { .. })));
}

#[test]
fn a_source_that_is_another_when_it_is_read_again_has_changed() {
    let bed = Bed::new();
    let content = long();
    let path = bed.file("a", &content.bytes);
    let source = to_send(&bed, &path);
    source.read_hashed(content.geometry, 3).unwrap();
    source.read_hashed(content.geometry, 3).unwrap();
    assert!(source.chunk_is_intact(content.geometry, 3).unwrap());
    assert!(source.chunk_is_intact(content.geometry, 4).unwrap(), "nothing is known of it");
    write_at(&path, b"changed", 3 * GROUP_LEN);
    let again = source.read_hashed(content.geometry, 3).unwrap_err();
    assert!(matches!(again, StoreError::SourceChanged { .. }), "{again}");
    assert!(!source.chunk_is_intact(content.geometry, 3).unwrap());
}

#[test]
fn a_source_that_changed_is_not_sealed() {
    let bed = Bed::new();
    let content = long();
    let path = bed.file("a", &content.bytes);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let source = to_send(&bed, &path);
    for chunk in 0..content.geometry.chunks() {
        source.read_hashed(content.geometry, chunk).unwrap();
    }
    write_at(&path, b"changed", 9);
    assert!(matches!(source.seal().unwrap_err(), StoreError::SourceChanged { .. }));
    assert_eq!(source.file_id(), None);
    drop(source);
    let lists = std::fs::read_dir(bed.path("home/lists")).unwrap();
    assert_eq!(lists.count(), 0, "a list in the making leaves nothing");
}

#[test]
fn holes_are_hashed_without_reading() {
    let bed = Bed::new();
    let path = bed.path("sparse");
    let len = HASH_FIRST_LEN + 5;
    std::fs::File::create(&path).unwrap().set_len(len).unwrap();
    write_at(&path, b"end", len - 3);
    let source = to_send(&bed, &path);
    let geometry = Geometry::new(len, 20).unwrap();
    for chunk in 0..geometry.chunks() {
        let (data, value) = source.read_hashed(geometry, chunk).unwrap();
        match data {
            ChunkData::Zeros => {
                let zeros = tree::verify_zeros::<Bytes>(geometry, chunk, Expected::Subtree(value));
                assert!(zeros.is_some(), "{chunk}");
            }
            ChunkData::Bytes(bytes) => assert_eq!((chunk, &bytes[..]), (8, &b"\0\0end"[..])),
        }
    }
    assert_eq!(bed.disk.bytes_read(), 5);
    assert_eq!(source.seal().unwrap().0, *blake3::hash(&read(&path)).as_bytes());
}

#[test]
fn a_resume_key_is_that_of_an_unchanged_file() {
    let bed = Bed::new();
    let path = bed.file("a", &long().bytes);
    let key = to_send(&bed, &path).resume_key(&[1; 32]);
    assert_eq!(key, to_send(&bed, &path).resume_key(&[1; 32]));
    assert_ne!(key, to_send(&bed, &path).resume_key(&[2; 32]));
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_ne!(key, to_send(&bed, &path).resume_key(&[1; 32]));
}

/// A partial of this content, of which only its sender's key is known.
fn unsealed(bed: &Bed, content: &Content) -> PartialSpec {
    PartialSpec { key: PartialKey::Unsealed(KEY, anyone()), ..bed.spec(content) }
}

fn open(bed: &Bed, content: &Content) -> Partial {
    bed.store.open_partial(unsealed(bed, content)).unwrap()
}

fn five() -> Content {
    Content::random(4 * GROUP_LEN as usize + 99)
}

fn values(partial: &Partial) -> Vec<(u32, Cv)> {
    partial.values().unwrap().expect("it began without a File ID")
}

#[test]
fn a_partial_is_found_again_by_key_and_sender_only() {
    let bed = Bed::new();
    let content = five();
    let partial = open(&bed, &content);
    partial.write(content.chunk(1)).unwrap();
    partial.park().unwrap();
    drop(partial);
    for key in [
        PartialKey::Unsealed(ResumeKey([6; 16]), anyone()),
        PartialKey::Unsealed(KEY, PeerId([8; 32])),
        PartialKey::Sent(content.id, anyone()),
    ] {
        let other = PartialSpec { key, ..unsealed(&bed, &content) };
        assert!(bed.store.open_partial(other).unwrap().is_new(), "{key:?}");
    }
    let again = open(&bed, &content);
    assert_eq!((again.verified(), again.file_id()), (set([1]), None));
    assert_eq!(values(&again), [(1, content.chunks[1])]);
    drop(again);
    let named = PartialSpec { file_id: Some(content.id), ..unsealed(&bed, &content) };
    assert_eq!(bed.store.open_partial(named).unwrap().file_id(), Some(content.id));
    assert!(
        bed.open(&content).values().unwrap().is_none(),
        "what was checked against a list needs no values"
    );
}

#[test]
fn another_size_under_a_key_takes_its_own_chunk_size() {
    let bed = Bed::new();
    let content = five();
    let partial = open(&bed, &content);
    partial.write(content.chunk(1)).unwrap();
    partial.park().unwrap();
    drop(partial);
    let other = Geometry::new(64 * GROUP_LEN, 20).unwrap();
    let opened = bed.store.open_partial(PartialSpec { geometry: other, ..unsealed(&bed, &content) }).unwrap();
    assert_eq!((opened.layout().geometry(), opened.verified()), (other, set([])));
}

#[test]
fn what_lies_under_another_key_is_not_believed() {
    let bed = Bed::new();
    let content = five();
    let partial = open(&bed, &content);
    content.write_all(&partial);
    partial.park().unwrap();
    drop(partial);
    let (from, to) = (PartialKey::Unsealed(KEY, anyone()), PartialKey::Sent(content.id, anyone()));
    for ending in [layout::PART, layout::LOG, layout::CVS] {
        let partials = bed.inbox().join(layout::PARTIALS);
        std::fs::rename(partials.join(format!("{from}{ending}")), partials.join(format!("{to}{ending}")))
            .unwrap();
    }
    let renamed = bed.store.open_partial(PartialSpec { key: to, ..bed.spec(&content) }).unwrap();
    assert_eq!((renamed.verified(), renamed.claimed()), (ChunkSet::new(), ChunkSet::new()));
    assert_eq!(renamed.doubtful().len(), 5);
}

#[test]
fn after_an_unclean_end_there_are_values_to_hash_against() {
    let bed = Bed::new();
    let content = five();
    let partial = open(&bed, &content);
    (0..3).for_each(|chunk| partial.write(content.chunk(chunk)).unwrap());
    partial.checkpoint().unwrap();
    drop(partial);
    let stem = PartialKey::Unsealed(KEY, anyone());
    let file = |ending| bed.inbox().join(layout::PARTIALS).join(format!("{stem}{ending}"));
    // A value that was lost, and bytes that are not what they were.
    write_at(&file(layout::CVS), &[0; 32], 32);
    write_at(&file(layout::PART), b"rot", 2 * GROUP_LEN);
    let again = open(&bed, &content);
    assert_eq!((again.verified(), again.claimed()), (set([]), set([0, 1, 2])));
    let known = values(&again);
    assert_eq!(known, [(0, content.chunks[0]), (2, content.chunks[2])]);
    assert!(again.recheck(0, Expected::Subtree(known[0].1)).unwrap());
    assert!(!again.recheck(2, Expected::Subtree(known[1].1)).unwrap());
}

#[test]
fn there_are_values_only_of_what_is_here() {
    let bed = Bed::new();
    let content = five();
    let partial = open(&bed, &content);
    partial.write(content.chunk(0)).unwrap();
    partial.checkpoint().unwrap();
    (1..5).for_each(|chunk| partial.write(content.chunk(chunk)).unwrap());
    drop(partial);
    // Without extents, what is here is what the log says.
    let key = PartialKey::Unsealed(KEY, anyone());
    let path = bed.inbox().join(layout::PARTIALS).join(format!("{key}{}", layout::PART));
    let data = std::fs::File::options().write(true).open(path).unwrap();
    data.set_len(0).unwrap();
    data.set_len(content.geometry.size()).unwrap();
    let again = open(&bed, &content);
    assert_eq!(again.doubtful(), set([0]));
    assert_eq!(values(&again), [(0, content.chunks[0])]);
}

#[test]
fn an_orderly_end_without_its_values_is_none() {
    let bed = Bed::new();
    let content = five();
    let partial = open(&bed, &content);
    partial.write(content.chunk(0)).unwrap();
    partial.checkpoint().unwrap();
    bed.disk.fail(Op::SyncData, rustix::io::Errno::IO, 0, 1);
    partial.park().unwrap();
    drop(partial);
    let again = open(&bed, &content);
    assert_eq!((again.verified(), again.claimed()), (set([]), set([0])));
}

#[test]
fn nothing_is_published_without_a_name() {
    let bed = Bed::new();
    let content = five();
    let partial = open(&bed, &content);
    content.write_all(&partial);
    let error = partial.publish(&name("a")).unwrap_err();
    assert!(error.to_string().contains("File ID is not known"), "{error}");
    partial.seal(content.id);
    partial.seal(FileId([0; 32]));
    assert_eq!(partial.file_id(), Some(content.id));
    let published = partial.publish(&name("a")).unwrap();
    assert_eq!(read(&published.path), content.bytes);
    assert!(bed.leftovers().is_empty(), "{:?}", bed.leftovers());
}

/// A chunk that counts, and that the list then says is another: it does not count until the right bytes are there, and
/// no record vouches for the wrong ones.
#[test]
fn a_chunk_that_the_list_contradicts_is_written_anew() {
    for checkpointed in [true, false] {
        let bed = Bed::new();
        let content = five();
        let mut lie = Content::new(content.bytes.clone());
        lie.bytes[GROUP_LEN as usize] ^= 1;
        let lie = Content::new(lie.bytes);
        let partial = open(&bed, &content);
        partial.write(lie.chunk(1)).unwrap();
        for chunk in [0, 2, 3, 4] {
            partial.write(content.chunk(chunk)).unwrap();
        }
        if checkpointed {
            partial.checkpoint().unwrap();
        }
        partial.seal(content.id);
        assert!(partial.recheck(0, content.expected(0)).unwrap());
        assert!(!partial.recheck(1, content.expected(1)).unwrap());
        let error = partial.publish(&name("a")).unwrap_err();
        assert!(matches!(&error, StoreError::SyncFailed { lost, .. } if *lost == set([1])), "{error}");
        partial.write(content.chunk(1)).unwrap();
        drop(partial);
        let again = open(&bed, &content);
        assert!(!again.claimed().contains(1), "the record of the lie is withdrawn");
        (0..5).for_each(|chunk| assert!(again.recheck(chunk, content.expected(chunk)).unwrap(), "{chunk}"));
        again.seal(content.id);
        assert_eq!(read(&again.publish(&name("a")).unwrap().path), content.bytes);
    }
}
