//! Room: asked for, reserved, waited for; and a folder that goes away and comes back.

use std::os::unix::fs::{MetadataExt, symlink};

use super::{faulty::Op, *};
use crate::store::layout::{PART, PARTIALS};

#[test]
fn zeros_need_no_disk() {
    let bed = Bed::new();
    let mut bytes = vec![0; 3 * GROUP_LEN as usize];
    bytes[..GROUP_LEN as usize].copy_from_slice(&noise(GROUP_LEN as usize, 1));
    let content = Content::new(bytes);
    let partial = bed.open(&content);
    content.write_all(&partial);
    assert_eq!(partial.checkpoint().unwrap(), set(0..3));
    let blocks = std::fs::metadata(bed.partial_file(&content, PART)).unwrap().blocks() * 512;
    assert!(blocks < 2 * GROUP_LEN, "{blocks}");
    assert_eq!(partial.read(2).unwrap(), content.part(2));
    drop(partial);
    let partial = bed.open(&content);
    assert_eq!(partial.doubtful(), set(0..3));
    assert!((0..3).all(|chunk| partial.recheck(chunk, content.expected(chunk)).unwrap()));
}

/// Fault 11.
#[test]
fn space_is_checked_before_anything_is_made() {
    let bed = Bed::new();
    let content = five();
    bed.disk.set_free(Some(1000));
    match bed.store.open_partial(bed.spec(&content)).unwrap_err() {
        StoreError::NoSpace { need, free, .. } => assert_eq!((need, free), (content.geometry.size(), 1000)),
        other => panic!("{other}"),
    }
    assert!(!bed.inbox().join(PARTIALS).exists());
    drop(bed.store.open_partial(PartialSpec { allocated: 900, ..bed.spec(&content) }).unwrap());

    bed.disk.set_free(None);
    for chunks in [1, 5] {
        bed.disk.set_free(None);
        let partial = bed.open(&content);
        (0..chunks).for_each(|chunk| partial.write(content.chunk(chunk)).unwrap());
        partial.park().unwrap();
        drop(partial);
        bed.disk.set_free(Some(0));
        assert_eq!(
            bed.open(&content).verified(),
            set(0..chunks),
            "what was begun goes on, and waits for room"
        );
    }
}

#[test]
fn reservation_is_only_for_what_is_not_sparse() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    partial.reserve(GROUP_LEN).unwrap();
    partial.reserve(GROUP_LEN / 2).unwrap();
    partial.reserve(u64::MAX).unwrap();
    assert_eq!(bed.disk.count(Op::Reserve), 2);
    let found = std::fs::metadata(bed.partial_file(&content, PART)).unwrap();
    let reserved = found.len()..found.len() + GROUP_LEN;
    assert!(found.len() == content.geometry.size() && reserved.contains(&(found.blocks() * 512)));
    drop(partial);
    let sparse = PartialSpec { allocated: GROUP_LEN, ..bed.spec(&content) };
    bed.store.open_partial(sparse).unwrap().reserve(u64::MAX).unwrap();
    assert_eq!(bed.disk.count(Op::Reserve), 2);
    let partial = bed.open(&content);
    bed.disk.fail(Op::Reserve, rustix::io::Errno::OPNOTSUPP, 0, 1);
    partial.reserve(GROUP_LEN).unwrap();
    bed.disk.fail(Op::Reserve, rustix::io::Errno::NOSPC, 0, 1);
    assert!(partial.reserve(2 * GROUP_LEN).unwrap_err().is_full());
}

/// Faults 12 and 19.
#[test]
fn what_is_reserved_is_no_room_that_is_waited_for() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    bed.disk.set_free(Some(GROUP_LEN));
    assert!(!partial.has_room(), "four chunks are missing");
    partial.reserve(3 * GROUP_LEN).unwrap();
    assert!(!partial.has_room(), "two of them have their room, and two have none");
    partial.reserve(u64::MAX).unwrap();
    assert!(partial.has_room());
    bed.disk.set_free(Some(0));
    assert!(!partial.has_room(), "not for a record");
    content.write_all(&partial);
    assert!(partial.has_room(), "nothing is missing");
    let partial = Arc::new(partial);
    let while_it_is_synced = partial.clone();
    bed.disk.at_next(Op::SyncData, move || assert!(while_it_is_synced.has_room()));
    partial.checkpoint().unwrap();
}

/// Fault 12.
#[test]
fn zeros_that_are_here_need_no_room() {
    let bed = Bed::new();
    let content = Content::new(vec![0; 5 * GROUP_LEN as usize]);
    let partial = bed.open(&content);
    (0..4).for_each(|chunk| partial.write(content.chunk(chunk)).unwrap());
    bed.disk.set_free(Some(GROUP_LEN));
    assert!(!partial.has_room(), "a chunk is missing, and a record");
    bed.disk.set_free(Some(2 * GROUP_LEN));
    assert!(partial.has_room());
}

/// Fault 19.
#[test]
fn a_folder_that_goes_away_is_noticed() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    let away = bed.path("away");
    std::fs::rename(bed.inbox(), &away).unwrap();
    assert!(partial.checkpoint().unwrap_err().is_gone());
    assert!(!partial.has_room());
    std::fs::create_dir(bed.inbox()).unwrap();
    assert!(partial.checkpoint().unwrap_err().is_gone());
    std::fs::remove_dir(bed.inbox()).unwrap();
    std::fs::rename(&away, bed.inbox()).unwrap();
    assert!(partial.has_room());
    assert_eq!(partial.checkpoint().unwrap(), set([0]));
    std::fs::remove_dir_all(bed.inbox()).unwrap();
    assert!(partial.checkpoint().unwrap_err().is_gone());
    std::fs::create_dir(bed.inbox()).unwrap();
    let error = partial.checkpoint().unwrap_err();
    assert!(matches!(error, StoreError::Removed { .. }) && !error.is_gone(), "{error}");
    assert!(partial.has_room(), "so that the run goes on, and finds out");
}

/// Fault 19.
#[test]
fn a_folder_on_whose_way_is_something_else_is_gone_and_one_that_cannot_be_looked_at_is_not() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    let parent = bed.inbox().parent().unwrap().to_owned();
    std::fs::rename(&parent, bed.path("away")).unwrap();
    std::fs::write(&parent, "a file").unwrap();
    assert!(partial.checkpoint().unwrap_err().is_gone());
    std::fs::remove_file(&parent).unwrap();
    // A way without end is one of the few that nobody can look along.
    symlink(&parent, &parent).unwrap();
    let error = partial.checkpoint().unwrap_err();
    assert!(!error.is_gone() && matches!(error, StoreError::Io { .. }), "{error}");
    std::fs::remove_file(&parent).unwrap();
    std::fs::rename(bed.path("away"), &parent).unwrap();
    assert_eq!(partial.checkpoint().unwrap(), set([0]));
}

#[test]
fn room_is_taken_by_what_is_in_a_folder_too() {
    let bed = Bed::new();
    std::fs::create_dir_all(bed.path("outer/inner")).unwrap();
    bed.file("outer/inner/file", &noise(300_000, 1));
    let root = cap_std::fs::Dir::open_ambient_dir(bed.root.path(), cap_std::ambient_authority()).unwrap();
    let (whole, file) = (data::blocks_of(&root, "outer"), data::blocks_of(&root, "outer/inner/file"));
    assert!(file >= 300_000 && whole >= file && whole < 2 * file, "{file} in {whole}");
    assert_eq!(data::blocks_of(&root, "nothing"), 0);
}
