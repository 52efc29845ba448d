use std::{collections::BTreeSet, os::unix::fs::MetadataExt};

use super::*;

fn os(name: &str) -> &OsStr {
    OsStr::new(name)
}

#[test]
fn a_new_name_is_durable_with_its_folder_alone() {
    let mut bed = Bed::new(1);
    for name in ["a", "b"] {
        let file = bed.create(&bed.root, name);
        bed.disk.sync_all(&file).unwrap();
        if name == "a" {
            bed.disk.sync_folder(&bed.root).unwrap();
        }
    }
    bed.power_loss(Loss::Everything);
    assert_eq!(bed.names(""), ["a"]);
}

#[test]
fn a_lost_folder_takes_what_is_in_it_along() {
    let mut bed = Bed::new(1);
    let folder = bed.folder("f");
    let file = bed.create(&folder, "a");
    bed.disk.sync_all(&file).unwrap();
    bed.disk.sync_folder(&folder).unwrap();
    drop((file, folder));
    bed.power_loss(Loss::Everything);
    assert_eq!(bed.names(""), [""; 0]);
}

#[test]
fn a_rename_has_both_sides_or_neither() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let mut bed = Bed::new(seed);
        let (from, to) = (bed.folder("from"), bed.folder("to"));
        let file = bed.create(&from, "a");
        bed.write(&file, b"content", 0);
        bed.disk.sync_all(&file).unwrap();
        bed.disk.sync_folder(&from).unwrap();
        bed.disk.sync_folder(&bed.root).unwrap();
        let number = file.metadata().unwrap().ino();
        bed.disk.rename_new(&from, os("a"), &to, os("b")).unwrap();
        drop((file, from, to));
        bed.power_loss(Loss::AnySubset);
        let (from, to) = (bed.names("from"), bed.names("to"));
        assert_eq!(from.len() + to.len(), 1);
        let path = if to.is_empty() { "from/a" } else { "to/b" };
        assert_eq!(bed.read(path), b"content");
        assert_eq!(std::fs::metadata(bed.disk.root().join(path)).unwrap().ino(), number);
        seen.insert(path);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn either_folder_makes_a_rename_durable() {
    for side in ["from", "to"] {
        let mut bed = Bed::new(1);
        let (from, to) = (bed.folder("from"), bed.folder("to"));
        bed.disk.sync_folder(&bed.root).unwrap();
        drop(bed.create(&from, "a"));
        bed.disk.rename(&from, os("a"), &to, os("b")).unwrap();
        bed.disk.sync_folder(if side == "from" { &from } else { &to }).unwrap();
        bed.power_loss(Loss::Everything);
        assert_eq!((bed.names("from").len(), bed.names("to").len()), (0, 1), "{side}");
    }
}

#[test]
fn what_a_rename_replaced_is_there_again() {
    let mut bed = Bed::new(1);
    let old = bed.file("a", b"old");
    let new = bed.file("b", b"new");
    bed.disk.rename(&bed.root, os("b"), &bed.root, os("a")).unwrap();
    drop((old, new));
    bed.power_loss(Loss::Everything);
    assert_eq!(bed.names(""), ["a", "b"]);
    assert_eq!((bed.read("a"), bed.read("b")), (b"old".to_vec(), b"new".to_vec()));
}

#[test]
fn what_was_unlinked_is_there_again_with_its_folder() {
    let mut bed = Bed::new(1);
    let folder = bed.folder("f");
    let file = bed.create(&folder, "a");
    bed.write(&file, b"content", 5000);
    bed.disk.sync_all(&file).unwrap();
    bed.disk.sync_folder(&folder).unwrap();
    bed.disk.sync_folder(&bed.root).unwrap();
    bed.disk.unlink(&folder, os("a")).unwrap();
    bed.disk.remove_folder(&bed.root, os("f")).unwrap();
    drop((file, folder));
    assert_eq!(bed.names(""), [""; 0]);
    bed.power_loss(Loss::Everything);
    assert_eq!(bed.names("f"), ["a"]);
    assert_eq!(bed.read("f/a")[5000..], *b"content");
}

#[test]
fn a_second_name_may_be_the_only_one_left() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let mut bed = Bed::new(seed);
        let file = bed.file("a", b"content");
        bed.disk.link(&bed.root, os("a"), &bed.root, os("b")).unwrap();
        bed.disk.unlink(&bed.root, os("a")).unwrap();
        drop(file);
        bed.power_loss(Loss::AnySubset);
        for name in bed.names("") {
            assert_eq!(bed.read(&name), b"content");
        }
        seen.insert(bed.names(""));
    }
    // Also neither: names in one folder may reach the disk in any order.
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_journal_keeps_the_order_of_names() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let mut bed = Bed::new(seed);
        let file = bed.file("a", b"content");
        bed.disk.link(&bed.root, os("a"), &bed.root, os("b")).unwrap();
        bed.disk.unlink(&bed.root, os("a")).unwrap();
        drop(file);
        bed.power_loss(Loss::Journal);
        seen.insert(bed.names(""));
    }
    let expected = [vec!["a"], vec!["a", "b"], vec!["b"]];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_sync_of_one_folder_does_not_bring_back_what_was_renamed_out_of_another() {
    let mut bed = Bed::new(1);
    let (here, there) = (bed.folder("here"), bed.folder("there"));
    bed.disk.sync_folder(&bed.root).unwrap();
    drop(bed.create(&here, "a"));
    bed.disk.rename(&here, os("a"), &there, os("a")).unwrap();
    bed.disk.sync_folder(&there).unwrap();
    for _ in 0..10 {
        bed.power_loss(Loss::AnySubset);
        assert_eq!((bed.names("here").len(), bed.names("there").len()), (0, 1));
    }
}
