use std::{
    collections::BTreeSet,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use super::*;
use crate::disk::data::extents;

#[test]
fn what_was_synced_stays_and_what_was_not_goes() {
    let mut bed = Bed::new(1);
    let file = bed.file("a", b"durable");
    bed.write(&file, b"lost", 0);
    bed.write(&file, b"lost too", 9000);
    bed.disk.set_len(&file, 20_000).unwrap();
    drop(file);
    bed.power_loss(Loss::Everything);
    assert_eq!(bed.read("a"), b"durable");
}

#[test]
fn a_cut_and_a_punched_hole_are_taken_back() {
    let mut bed = Bed::new(1);
    let content: Vec<u8> = (0..30_000).map(|n| n as u8).collect();
    let file = bed.file("a", &content);
    bed.disk.set_len(&file, 5000).unwrap();
    bed.disk.punch(&file, 0, 4096).unwrap();
    bed.write(&file, b"new", 25_000);
    drop(file);
    bed.power_loss(Loss::Everything);
    assert!(bed.read("a") == content);
}

#[test]
fn what_is_the_same_is_not_touched() {
    let mut bed = Bed::new(1);
    let path = bed.disk.root().join("a");
    let stamp = || {
        let found = std::fs::metadata(&path).unwrap();
        (found.ino(), found.mtime_nsec(), found.ctime_nsec())
    };
    let file = bed.file("a", b"durable");
    let before = stamp();
    let other = bed.create(&bed.root, "b");
    bed.write(&other, b"lost", 0);
    drop((file, other));
    bed.power_loss(Loss::Everything);
    assert_eq!(stamp(), before);
    assert_eq!(bed.names(""), ["a"]);
}

#[test]
fn any_subset_of_the_writes_is_kept() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut bed = Bed::new(seed);
        let file = bed.file("a", &[b'.'; 3]);
        for (byte, at) in b"abc".iter().zip(0..) {
            bed.write(&file, &[*byte], at);
        }
        drop(file);
        bed.power_loss(Loss::AnySubset);
        seen.insert(bed.read("a"));
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn a_write_may_be_torn_between_sectors_only() {
    let (mut torn, mut scattered) = (0, 0);
    for seed in 0..200 {
        let mut bed = Bed::new(seed);
        let file = bed.file("a", &[b'.'; 16_384]);
        bed.write(&file, &[b'x'; 16_000], 100);
        drop(file);
        bed.power_loss(Loss::AnySubset);
        let content = bed.read("a");
        assert_eq!(content.len(), 16_384);
        let changes: Vec<usize> = (1..content.len()).filter(|at| content[*at] != content[at - 1]).collect();
        for at in &changes {
            assert!(at % 512 == 0 || *at == 100 || *at == 16_100, "torn at {at}");
        }
        torn += u32::from(changes.len() == 2 && !changes.contains(&16_100));
        scattered += u32::from(changes.len() > 2);
    }
    assert!(torn > 10 && scattered > 10, "{torn} torn, {scattered} scattered");
}

#[test]
fn a_file_that_shrank_and_grew_has_a_length_that_it_had() {
    let mut lengths = BTreeSet::new();
    for seed in 0..100 {
        let mut bed = Bed::new(seed);
        let file = bed.file("a", &[b'a'; 1000]);
        bed.disk.set_len(&file, 10).unwrap();
        bed.write(&file, b"b", 4999);
        drop(file);
        bed.power_loss(Loss::AnySubset);
        let content = bed.read("a");
        assert!(content[..10].iter().all(|byte| *byte == b'a'));
        lengths.insert(content.len());
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [10, 1000, 5000]);
}

#[test]
fn what_never_reached_the_disk_is_a_hole_again() {
    let mut bed = Bed::new(1);
    let file = bed.create(&bed.root, "a");
    bed.disk.set_len(&file, 1 << 30).unwrap();
    bed.write(&file, b"durable", 1 << 20);
    bed.disk.sync_all(&file).unwrap();
    bed.disk.sync_folder(&bed.root).unwrap();
    bed.write(&file, &[1; 8192], 1 << 21);
    drop(file);
    bed.power_loss(Loss::Everything);
    let file = File::open(bed.disk.root().join("a")).unwrap();
    let found = extents(&file, 0..1 << 30);
    assert!(found.len() == 1 && found[0] == (1 << 20..(1 << 20) + 4096), "{found:?}");
}

#[test]
fn what_a_failed_sync_lost_no_later_sync_makes_durable() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut bed = Bed::new(seed);
        let file = bed.file("a", &[b'.'; 5000]);
        bed.write(&file, b"first", 0);
        bed.disk.fail(Fault {
            which: Which::Kind(Op::SyncData),
            after: 0,
            times: 1,
            error: rustix::io::Errno::IO,
        });
        bed.disk.sync_data(&file).unwrap_err();
        bed.write(&file, b"second", 4096);
        bed.disk.sync_data(&file).unwrap();
        bed.disk.sync_data(&file).unwrap();
        assert_eq!(&bed.read("a")[..5], b"first", "the page cache has it");
        drop(file);
        bed.power_loss(Loss::AnySubset);
        let content = bed.read("a");
        assert_eq!(&content[4096..4102], b"second");
        lost += u32::from(&content[..5] == b".....");
    }
    assert!((5..45).contains(&lost), "{lost}");
}

#[test]
fn mode_and_times_are_durable_with_a_whole_sync() {
    for whole in [false, true] {
        let mut bed = Bed::new(1);
        let file = bed.file("a", b"x");
        bed.disk.set_mode(&file, 0o644).unwrap();
        if whole {
            bed.disk.sync_all(&file).unwrap();
        } else {
            bed.disk.sync_data(&file).unwrap();
        }
        drop(file);
        bed.power_loss(Loss::Everything);
        let mode = std::fs::metadata(bed.disk.root().join("a")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if whole { 0o644 } else { 0o600 });
    }
}

#[test]
fn what_is_durable_is_not_kept_open() {
    let bed = Bed::new(1);
    let files: Vec<File> = (0..50).map(|n| bed.create(&bed.root, &n.to_string())).collect();
    files.iter().for_each(|file| bed.write(file, b"x", 0));
    assert!(bed.disk.lock().model.held() >= 50);
    files.iter().for_each(|file| bed.disk.sync_all(file).unwrap());
    bed.disk.sync_folder(&bed.root).unwrap();
    assert_eq!(bed.disk.lock().model.held(), 0);
}
