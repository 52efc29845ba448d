//! What has no place in the folder that replaces an older copy.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
};

use rustix::io::Errno;

use super::{faulty::Op, folders::Tree, *};

const NAME: &[u8] = b"not \xff UTF-8";

/// An older copy: some of the folder, changed, and things of its owner's.
fn older(bed: &Bed) -> PathBuf {
    let copy = bed.inbox().join("tree");
    fs::create_dir_all(copy.join("a/deep/er")).unwrap();
    fs::write(copy.join("a/one"), "changed").unwrap();
    fs::write(copy.join("mine"), "mine").unwrap();
    fs::write(copy.join("a/deep/er/mine"), "mine too").unwrap();
    fs::write(copy.join("a/deep").join(OsStr::from_bytes(NAME)), "and this").unwrap();
    symlink("mine", copy.join("a/link")).unwrap();
    copy
}

fn instead() -> PublishName {
    PublishName::Instead("tree".into())
}

/// Whether all that is its owner's is in a folder.
fn has_all(folder: &Path) -> bool {
    let has = |path: &Path, bytes: &[u8]| fs::read(folder.join(path)).is_ok_and(|found| found == bytes);
    has(Path::new("mine"), b"mine")
        && has(Path::new("a/deep/er/mine"), b"mine too")
        && has(&Path::new("a/deep").join(OsStr::from_bytes(NAME)), b"and this")
        && fs::read_link(folder.join("a/link")).is_ok_and(|target| target == Path::new("mine"))
}

#[test]
fn what_is_not_in_the_new_folder_is_kept_beside_it() {
    for links in [true, false] {
        let (bed, tree) = (Bed::new(), Tree::new(1));
        if !links {
            bed.disk.fail(Op::Link, Errno::PERM, 0, u64::MAX);
        }
        let copy = older(&bed);
        fs::create_dir(bed.inbox().join("tree (left over)")).unwrap();
        let partial = tree.open(&bed);
        tree.write_all(&partial);
        let published = partial.publish(&instead()).unwrap();
        tree.assert_is_at(&copy);
        assert!(!copy.join("mine").exists() && !copy.join("a/deep").exists());
        let kept = bed.inbox().join("tree (left over) (1)");
        assert_eq!(published.left_over.as_ref(), Some(&kept));
        assert!(has_all(&kept));
        assert!(!kept.join("a/one").exists(), "of what is in both the new one has taken the place");
    }
    let (bed, tree) = (Bed::new(), Tree::new(1));
    fs::create_dir_all(bed.inbox().join("tree/a/folder alone")).unwrap();
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    assert_eq!(partial.publish(&instead()).unwrap().left_over, None);
    assert_eq!(fs::read_dir(bed.inbox()).unwrap().count(), 1);
}

#[test]
fn what_is_kept_is_synced_to_its_last_folder() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    older(&bed);
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    bed.disk.trace();
    partial.publish(&instead()).unwrap();
    let trace = bed.disk.trace();
    for folder in ["sync tree (left over)/", "sync a/", "sync deep/", "sync er/"] {
        assert!(trace.iter().any(|said| said == folder), "{folder}: {trace:?}");
    }
}

/// Whoever works in a folder goes on working in it while another takes its place.
#[test]
fn what_comes_to_a_folder_while_it_is_replaced_is_kept_too() {
    /// Puts something into the older copy as soon as it has lost its name.
    fn late(disk: Arc<FaultyDisk>, replaced: PathBuf) {
        disk.clone().at_next(Op::SyncFolder, move || match replaced.join("mine").exists() {
            true => fs::write(replaced.join("late"), "late").unwrap(),
            false => late(disk.clone(), replaced.clone()),
        });
    }
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let copy = older(&bed);
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    late(bed.disk.clone(), tree.part(&bed));
    let kept = partial.publish(&instead()).unwrap().left_over.unwrap();
    assert_eq!(read(&kept.join("late")), b"late");
    assert!(has_all(&kept));
    tree.assert_is_at(&copy);
}

#[test]
fn whatever_fails_while_it_is_kept_nothing_of_it_is_lost() {
    for op in [Op::Link, Op::Rename, Op::Replace, Op::SyncFolder] {
        for n in 0..24 {
            let (bed, tree) = (Bed::new(), Tree::new(1));
            let copy = older(&bed);
            let partial = tree.open(&bed);
            tree.write_all(&partial);
            bed.disk.fail(op, Errno::IO, n, 1);
            let failed = partial.publish(&instead());
            let kept = |folder: fs::DirEntry| has_all(&folder.path());
            let is_kept = || fs::read_dir(bed.inbox()).unwrap().any(|folder| kept(folder.unwrap()));
            assert!(is_kept(), "{op:?} {n}");
            if failed.is_err() {
                assert!(has_all(&copy) && read(&copy.join("a/one")) == b"changed", "the old copy is whole");
                partial.publish(&instead()).unwrap();
                assert!(is_kept(), "{op:?} {n}");
            }
            tree.assert_is_at(&copy);
        }
    }
}
