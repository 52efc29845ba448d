//! Folders that appear while they are filled: in what order, and after which crashes.

use std::{fs, os::unix::fs::MetadataExt};

use p2p_protocol::{
    Manifest, Plan,
    manifest::{Entry, Node},
};
use rustix::io::Errno;

use super::{faulty::Op, folders::Tree, *};
use crate::store::{
    layout::{FRESH, INTO},
    shown::{Show, chunks_of},
};

/// With a file of two names.
pub(super) fn tree() -> Tree {
    let tree = Tree::new(1);
    let mut entries = tree.manifest.entries().to_vec();
    let at = |wanted: &str| entries.iter().position(|entry| entry.path == wanted).unwrap();
    let (node, last) = (Node::HardLink { of: at("a/one") as u32 }, at("z"));
    entries.insert(last, Entry { path: "y".into(), modified_ns: None, node });
    Tree { manifest: Arc::new(Manifest::new(entries).unwrap()), ..tree }
}

pub(super) fn assert_is_at(tree: &Tree, path: &Path) {
    tree.assert_is_at(path);
    let inode = |inside: &str| fs::metadata(path.join(inside)).unwrap().ino();
    assert_eq!(inode("a/one"), inode("y"));
}

pub(super) fn spec(bed: &Bed, tree: &Tree) -> PartialSpec {
    let show = Show { name: name("tree"), asked: tree.manifest.id(), wanted: true };
    PartialSpec { show: Some(show), ..tree.spec(bed) }
}

pub(super) fn open(bed: &Bed, tree: &Tree) -> Partial {
    bed.store.open_partial(spec(bed, tree)).unwrap()
}

pub(super) fn plan(partial: &Partial) -> Plan {
    (**partial.layout().plan().unwrap()).clone()
}

pub(super) fn at(bed: &Bed) -> PathBuf {
    bed.inbox().join("tree")
}

/// The files that are in the folder, each of which has to be whole; those of which nobody knows are left out.
pub(super) fn appeared(tree: &Tree, folder: &Path) -> Vec<&'static str> {
    let there = tree.contents.iter().filter_map(|(path, content)| {
        let found = fs::read(folder.join(path)).ok()?;
        assert!(found == content.bytes, "{path} is not whole");
        Some(*path)
    });
    there.collect()
}

/// The same, but for one.
fn appeared_but(tree: &Tree, but: &str, folder: &Path) -> Vec<&'static str> {
    let contents = tree.contents.iter().filter(|(path, _)| *path != but);
    contents.filter(|(path, _)| folder.join(path).exists()).map(|(path, _)| *path).collect()
}

/// Brings what is missing, from a disk that may say no now and then.
pub(super) fn bring(tree: &Tree, partial: &Partial) -> Result<Published, StoreError> {
    let plan = plan(partial);
    for _ in 0..9 {
        for chunk in 0..plan.chunks() {
            if !partial.state().is_stored(chunk) && !partial.recheck(chunk, Expected::Files)? {
                partial.write(tree.chunk(&plan, chunk))?;
            }
        }
        match partial.checkpoint().and_then(|_| partial.publish(&name("tree"))) {
            Err(StoreError::SyncFailed { .. }) => {}
            other => return other,
        }
    }
    panic!("nine times and no end");
}

fn modified(path: &Path) -> i64 {
    fs::symlink_metadata(path).unwrap().mtime()
}

#[test]
fn a_file_appears_when_it_is_whole_and_synced() {
    let (bed, tree) = (Bed::new(), tree());
    let partial = open(&bed, &tree);
    assert_eq!(partial.shown_at(), Some(&*at(&bed)));
    assert!(at(&bed).join("a/empty").is_dir() && at(&bed).join("nothing").is_file(), "what needs no chunk");
    let plan = plan(&partial);
    let files: Vec<_> = (0..plan.chunks())
        .map(|chunk| {
            bed.disk.trace();
            partial.write(tree.chunk(&plan, chunk)).unwrap();
            let before = appeared(&tree, &at(&bed));
            partial.checkpoint().unwrap();
            let after = appeared(&tree, &at(&bed));
            let trace = bed.disk.trace();
            let of = |said: &str| trace.iter().position(|one| one.starts_with(said));
            if before != after {
                assert!(of("sync log").unwrap() < of("link").unwrap(), "{trace:?}");
            }
            after
        })
        .collect();
    let all = vec!["a/one", "a/two", "long", "z"];
    assert_eq!(
        files,
        [
            vec!["a/one", "a/two", "z"],
            vec!["a/one", "a/two", "z"],
            vec!["a/one", "a/two", "z"],
            vec!["a/one", "a/two", "z"],
            all
        ]
    );
    assert!(!at(&bed).join("link").is_symlink(), "it comes at the end");
    bed.disk.trace();
    let published = partial.publish(&name("tree")).unwrap();
    assert!(published.is_exact() && published.path == at(&bed) && published.name == "tree");
    let trace: Vec<_> = bed.disk.trace().into_iter().filter(|said| !said.is_empty()).collect();
    let synced = trace.iter().rposition(|said| said == "sync all of tree").unwrap();
    let linked = trace.iter().rposition(|said| said == "link").unwrap();
    let removed = trace.iter().position(|said| said == "unlink").unwrap();
    assert!(linked < synced && synced < removed, "{trace:?}");
    assert_is_at(&tree, &at(&bed));
    for (inside, time) in
        [("a/one", 5), ("a/two", 5), ("long", 5), ("nothing", 5), ("a", 5), ("a/empty", 5), ("", 9)]
    {
        assert_eq!(modified(&at(&bed).join(inside)), time, "{inside}");
    }
    assert!(bed.leftovers().is_empty(), "{:?}", bed.leftovers());
}

/// A folder that nothing says anything of after a crash would be nobody's.
///
/// Fault 2.
#[test]
fn what_says_where_a_folder_appears_is_durable_before_it_does() {
    let (bed, tree) = (Bed::new(), tree());
    bed.disk.trace();
    let _partial = open(&bed, &tree);
    let trace = bed.disk.trace();
    let at = |wanted: &str| trace.iter().position(|said| said == wanted).unwrap();
    let between = &trace[at("write into")..at("rename")];
    for synced in ["sync into", "sync .p2p/"] {
        assert!(between.iter().any(|said| said == synced), "{synced}: {trace:?}");
    }
}

#[test]
fn the_same_folder_goes_on_being_filled_and_nothing_is_moved_twice() {
    for stop in 0..=5 {
        for orderly in [false, true] {
            let (bed, tree) = (Bed::new(), tree());
            // A name that is taken; the one that was found instead stays.
            fs::create_dir_all(at(&bed)).unwrap();
            let own = bed.inbox().join("tree (1)");
            let partial = open(&bed, &tree);
            let plan = plan(&partial);
            (0..stop).for_each(|chunk| partial.write(tree.chunk(&plan, chunk)).unwrap());
            partial.checkpoint().unwrap();
            let before = appeared(&tree, &own);
            if orderly {
                partial.park().unwrap();
            }
            drop(partial);
            if stop > 0 {
                assert_eq!(appeared(&tree, &own), before);
                fs::remove_dir(at(&bed)).unwrap();
            }
            let again = open(&bed, &tree);
            if stop > 0 {
                assert_eq!(again.shown_at(), Some(&*own), "{stop} {orderly}");
            }
            let mut missing = 0;
            for chunk in 0..5 {
                if !again.state().is_stored(chunk) && !again.recheck(chunk, Expected::Files).unwrap() {
                    missing += 1;
                }
            }
            assert_eq!(missing, 5 - stop, "{stop} {orderly}");
            let published = bring(&tree, &again).unwrap();
            assert_is_at(&tree, &published.path);
            assert!(bed.leftovers().is_empty(), "{:?}", bed.leftovers());
        }
    }
}

#[test]
fn when_the_power_fails_what_had_appeared_is_whole() {
    for stop in 0..=5 {
        for round in 0..4_u64 {
            let (bed, tree) = (Bed::new(), tree());
            let partial = open(&bed, &tree);
            let plan = plan(&partial);
            for chunk in 0..stop {
                partial.write(tree.chunk(&plan, chunk)).unwrap();
                if round % 2 == 0 {
                    partial.checkpoint().unwrap();
                }
            }
            drop(partial);
            let mut bits = noise(64, u64::from(stop) * 4 + round).into_iter().cycle();
            bed.disk.power_loss(|| bits.next().unwrap() & 1 == 1);
            appeared(&tree, &at(&bed));
            let again = open(&bed, &tree);
            assert_is_at(&tree, &bring(&tree, &again).unwrap().path);
        }
    }
}

/// Whatever says no, and when, nothing half appears, and in the end all is there.
#[test]
fn a_disk_that_says_no_is_no_reason_to_show_half_a_file() {
    let ops = [
        Op::Link,
        Op::SyncFileSystem,
        Op::SyncFolder,
        Op::SyncAll,
        Op::SyncData,
        Op::Write,
        Op::Rename,
        Op::Unlink,
        Op::SetLen,
    ];
    for op in ops {
        for after in (0..24).step_by(2) {
            let (bed, tree) = (Bed::new(), tree());
            bed.disk.fail(op, Errno::IO, after, 1);
            let mut published = None;
            for _ in 0..6 {
                let Ok(partial) = bed.store.open_partial(spec(&bed, &tree)) else {
                    continue;
                };
                let plan = plan(&partial);
                for chunk in 0..plan.chunks() {
                    if !partial.state().is_stored(chunk)
                        && !partial.recheck(chunk, Expected::Files).unwrap_or(false)
                    {
                        let _ = partial.write(tree.chunk(&plan, chunk));
                    }
                    let _ = partial.checkpoint();
                    appeared(&tree, &at(&bed));
                }
                match bring(&tree, &partial) {
                    Ok(done) => {
                        published = Some(done);
                        break;
                    }
                    Err(_) => drop(partial.park()),
                }
            }
            let published = published.unwrap_or_else(|| panic!("{op:?} {after}"));
            assert_is_at(&tree, &published.path);
            let names: Vec<_> =
                fs::read_dir(bed.inbox()).unwrap().map(|found| found.unwrap().file_name()).collect();
            assert!(names.iter().all(|name| name == "tree" || name == ".p2p"), "{op:?} {after}: {names:?}");
        }
    }
}

#[test]
fn whatever_says_where_a_folder_appears_may_be_damaged() {
    let (bed, tree) = (Bed::new(), tree());
    let path = bed.inbox().join(layout::PARTIALS).join(format!("{}{INTO}", tree.manifest.id()));
    let partial = open(&bed, &tree);
    let plan = plan(&partial);
    partial.write(tree.chunk(&plan, 0)).unwrap();
    partial.park().unwrap();
    drop(partial);
    let mut bytes = read(&path);
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let again = open(&bed, &tree);
    let published = bring(&tree, &again).unwrap();
    assert_eq!(published.path, bed.inbox().join("tree (1)"));
    assert_is_at(&tree, &published.path);
    appeared(&tree, &at(&bed));
}

#[test]
fn what_begins_file_by_file_goes_on_so_and_what_is_only_looked_at_shows_nothing() {
    let (bed, tree) = (Bed::new(), tree());
    let whole = tree.open(&bed);
    let plan = plan(&whole);
    whole.write(tree.chunk(&plan, 0)).unwrap();
    whole.park().unwrap();
    drop(whole);
    let partial = open(&bed, &tree);
    assert_eq!(appeared(&tree, &at(&bed)), ["a/one", "a/two", "z"], "what is durable appears at once");
    partial.write(tree.chunk(&plan, 1)).unwrap();
    partial.park().unwrap();
    drop(partial);
    fs::remove_file(at(&bed).join("z")).unwrap();
    drop(tree.open(&bed));
    assert!(!at(&bed).join("z").exists());
    let goes_on = Show { name: name("tree"), asked: tree.manifest.id(), wanted: false };
    let again = bed.store.open_partial(PartialSpec { show: Some(goes_on), ..tree.spec(&bed) }).unwrap();
    assert_is_at(&tree, &bring(&tree, &again).unwrap().path);
}

#[test]
fn what_is_given_up_leaves_whole_files_or_nothing() {
    let (bed, tree) = (Bed::new(), tree());
    let key = PartialKey::Fetched(tree.manifest.id());
    let partial = open(&bed, &tree);
    tree.write_all(&partial);
    partial.checkpoint().unwrap();
    drop(partial);
    assert!(bed.store.fills(&at(&bed), tree.manifest.id()) && !bed.store.fills(&at(&bed), FileId([9; 32])));
    assert_eq!(bed.store.filled_as(&bed.inbox(), &key), Some("tree".into()));
    assert_eq!(bed.store.leave_shown(&bed.inbox(), &key), Some(at(&bed)));
    bed.store.discard_partial(&bed.inbox(), &key).unwrap();
    assert_eq!(appeared(&tree, &at(&bed)).len(), 4);
    assert!(at(&bed).join("a/empty").is_dir(), "what is left is left as it was");
    assert!(bed.leftovers().is_empty(), "{:?}", bed.leftovers());
    assert_eq!(bed.store.filled_as(&bed.inbox(), &key), None);

    // Of one without an empty file nothing has appeared at first.
    let entries =
        tree.manifest.entries().iter().filter(|entry| entry.path != "nothing" && entry.path != "y").cloned();
    let manifest = Arc::new(Manifest::new(entries.collect()).unwrap());
    let other = Tree { manifest, contents: Vec::new() };
    let spec = PartialSpec {
        show: Some(Show { name: name("other"), asked: other.manifest.id(), wanted: true }),
        ..other.spec(&bed)
    };
    let partial = bed.store.open_partial(spec).unwrap();
    assert!(bed.inbox().join("other/a/empty").is_dir());
    drop(partial);
    assert!(!bed.inbox().join("other").exists() && bed.leftovers().is_empty());
}

#[test]
fn what_carries_a_file_is_known() {
    let (bed, tree) = (Bed::new(), tree());
    let partial = open(&bed, &tree);
    let plan = plan(&partial);
    let of = |paths: &[&str]| {
        let entries = tree.manifest.entries();
        let number = |path: &&str| entries.iter().position(|entry| entry.path == *path).unwrap() as u32;
        let (chunks, all) = chunks_of(&plan, &paths.iter().map(number).collect());
        (chunks.iter().collect::<Vec<_>>(), all)
    };
    assert_eq!(of(&[]), (vec![], true));
    assert_eq!(of(&["a/one"]), (vec![0], true));
    assert_eq!(of(&["long"]), (vec![1, 2, 3, 4], true));
    assert_eq!(of(&["long", "a/two", "z"]), (vec![0, 1, 2, 3, 4], true));
    assert_eq!(of(&["nothing"]), (vec![], false), "no chunk carries what is empty");
    assert_eq!(of(&["nothing", "z"]), (vec![0], false));
}

#[test]
fn where_a_file_has_one_name_only_it_is_refused_before_anything_appears() {
    let (bed, tree) = (Bed::new(), tree());
    bed.disk.fail(Op::Link, Errno::PERM, 0, 1);
    let error = bed.store.open_partial(spec(&bed, &tree)).unwrap_err();
    assert!(matches!(error, StoreError::NoLinks { .. }), "{error}");
    assert!(!at(&bed).exists());
    // Only that is said to be so, and not of a disk that fails.
    bed.disk.fail(Op::Link, Errno::IO, 0, 1);
    let error = bed.store.open_partial(spec(&bed, &tree)).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }) && !at(&bed).exists(), "{error}");
}

#[test]
fn what_a_crash_left_of_a_new_folder_is_used() {
    let (bed, tree) = (Bed::new(), tree());
    let fresh = bed.inbox().join(layout::PARTIALS).join(format!("{}{FRESH}", tree.manifest.id()));
    fs::create_dir_all(&fresh).unwrap();
    assert_eq!(open(&bed, &tree).shown_at(), Some(&*at(&bed)));
    assert!(!fresh.exists());
}

#[test]
fn a_folder_takes_its_name_also_without_a_rename_that_replaces_nothing() {
    let (bed, tree) = (Bed::new(), tree());
    bed.disk.fail(Op::Rename, Errno::INVAL, 0, 1);
    let partial = open(&bed, &tree);
    assert_eq!(partial.shown_at(), Some(&*at(&bed)));
    assert_is_at(&tree, &bring(&tree, &partial).unwrap().path);

    let (bed, tree) = (Bed::new(), self::tree());
    bed.disk.fail(Op::Rename, Errno::IO, 0, 1);
    let error = bed.store.open_partial(spec(&bed, &tree)).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }) && !at(&bed).exists(), "{error}");
}

/// Fault 23.
#[test]
fn a_name_that_is_taken_at_the_last_moment_stays_with_who_has_it() {
    let (bed, tree) = (Bed::new(), tree());
    let taken = at(&bed);
    bed.disk.at_next(Op::Rename, move || fs::create_dir(&taken).unwrap());
    let partial = open(&bed, &tree);
    assert_eq!(partial.shown_at(), Some(&*bed.inbox().join("tree (1)")));
    // And so it is with each file of it.
    let plan = plan(&partial);
    partial.write(tree.chunk(&plan, 0)).unwrap();
    let own = bed.inbox().join("tree (1)/a/one");
    let theirs = own.clone();
    bed.disk.at_next(Op::Link, move || fs::write(&theirs, "theirs").unwrap());
    partial.checkpoint().unwrap();
    assert_eq!(read(&own), b"theirs");
    assert_eq!(appeared_but(&tree, "a/one", &bed.inbox().join("tree (1)")), ["a/two", "z"]);
}

#[test]
fn a_file_appears_without_being_copied() {
    let (bed, tree) = (Bed::new(), tree());
    let partial = open(&bed, &tree);
    partial.write(tree.chunk(&plan(&partial), 0)).unwrap();
    partial.checkpoint().unwrap();
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(tree.part(&bed).join("a/one")), inode(at(&bed).join("a/one")));
    // One that cannot appear is not one whose name is taken.
    bed.disk.fail(Op::Link, Errno::IO, 0, 1);
    (1..5).for_each(|chunk| partial.write(tree.chunk(&plan(&partial), chunk)).unwrap());
    let ended = partial.checkpoint();
    assert!(matches!(&ended, Err(StoreError::Io { .. })), "{ended:?}");
    assert_is_at(&tree, &bring(&tree, &partial).unwrap().path);
}

/// Long files are served afterwards without being read, as after any transfer.
#[test]
fn what_appeared_is_served_without_being_hashed() {
    let (bed, tree) = (Bed::new(), tree());
    let partial = open(&bed, &tree);
    let published = bring(&tree, &partial).unwrap();
    drop(partial);
    let before = bed.disk.bytes_read();
    assert!(
        bed.store
            .holds(&published.path, tree.manifest.id(), tree.manifest.size(), true, Trust::Cache)
            .unwrap()
    );
    let small: u64 = tree
        .contents
        .iter()
        .filter(|(path, _)| *path != "long")
        .map(|(_, content)| content.bytes.len() as u64)
        .sum();
    assert!(bed.disk.bytes_read() - before < small + 1000, "besides these the values of the long one");
}

/// Nothing is in it that a chunk carries, and it is not taken back as one that came to nothing.
#[test]
fn a_folder_of_folders_stays() {
    let (bed, tree) = (Bed::new(), tree());
    let entries = tree.manifest.entries().iter().filter(|entry| entry.node == Node::Folder).cloned();
    let manifest = Arc::new(Manifest::new(entries.collect()).unwrap());
    let tree = Tree { manifest, contents: Vec::new() };
    let partial = open(&bed, &tree);
    let published = partial.publish(&name("tree")).unwrap();
    drop(partial);
    assert!(published.path.join("a/empty").is_dir());
    assert!(bed.leftovers().is_empty(), "{:?}", bed.leftovers());
    // Killed before that was noted: it is found.
    let again = open(&bed, &tree);
    assert!(again.publish(&name("tree")).unwrap().already);
    drop(again);
    assert!(published.path.join("a/empty").is_dir() && bed.leftovers().is_empty());
}

/// Killed at any moment while the first names of its files are removed: all of it is found under its name, and nothing is moved.
#[test]
fn what_is_killed_at_its_very_end_is_found_where_it_is() {
    for after in 0..12 {
        let (bed, tree) = (Bed::new(), tree());
        fs::create_dir_all(at(&bed)).unwrap();
        let partial = open(&bed, &tree);
        tree.write_all(&partial);
        partial.checkpoint().unwrap();
        // From there on nothing that it removes is removed.
        bed.disk.fail(Op::Unlink, Errno::IO, after, u64::MAX);
        let published = partial.publish(&name("tree")).unwrap();
        drop(partial);
        bed.disk.heal();
        let own = bed.inbox().join("tree (1)");
        assert_eq!(published.path, own);
        let spec = PartialSpec { alike: name("tree").alike(&bed.inbox()), ..spec(&bed, &tree) };
        let again = bed.store.open_partial(spec).unwrap();
        if after > 1 {
            assert_eq!(again.layout().plan().unwrap().chunks(), 0, "{after}");
        }
        assert_eq!(bring(&tree, &again).unwrap().path, own, "{after}");
        assert_is_at(&tree, &own);
        drop(again);
        assert!(bed.leftovers().is_empty(), "{:?}", bed.leftovers());
        assert_eq!(fs::read_dir(bed.inbox()).unwrap().count(), 2);
    }
}

/// What a disk did not let go of goes with the next transfer.
#[test]
fn first_names_that_could_not_be_removed_are_swept() {
    for op in [Op::Unlink, Op::SyncFolder] {
        for after in 0..10 {
            let (bed, tree) = (Bed::new(), tree());
            let partial = open(&bed, &tree);
            tree.write_all(&partial);
            partial.checkpoint().unwrap();
            // Two syncs of folders come before the removal.
            bed.disk.fail(op, Errno::IO, after + if op == Op::SyncFolder { 2 } else { 0 }, 1);
            let published = partial.publish(&name("tree")).unwrap();
            drop(partial);
            bed.disk.heal();
            let content = Content::random(9);
            let other = bed.open(&content);
            content.write_all(&other);
            other.publish(&name("other")).unwrap();
            assert!(bed.leftovers().is_empty(), "{op:?} {after}: {:?}", bed.leftovers());
            assert_is_at(&tree, &published.path);
        }
    }
}

/// Nobody fills a folder any longer whose content is asked for under another name: what is whole in it stays, and is its owner's.
#[test]
fn under_another_name_it_comes_anew_and_what_had_appeared_stays() {
    for wanted in [true, false] {
        let (bed, tree) = (Bed::new(), tree());
        let partial = open(&bed, &tree);
        partial.write(tree.chunk(&plan(&partial), 0)).unwrap();
        partial.park().unwrap();
        drop(partial);
        let show = Show { name: PublishName::Exactly("other".into()), asked: tree.manifest.id(), wanted };
        let partial = bed.store.open_partial(PartialSpec { show: Some(show), ..tree.spec(&bed) }).unwrap();
        let other = bed.inbox().join("other");
        assert_eq!(partial.shown_at(), wanted.then_some(&*other));
        let published = bring(&tree, &partial).unwrap();
        assert_is_at(&tree, &published.path);
        assert!(published.path == other || !wanted);
        assert_eq!(appeared(&tree, &at(&bed)), ["a/one", "a/two", "z"]);
        for inside in ["a/two", "z"] {
            assert_eq!(fs::metadata(at(&bed).join(inside)).unwrap().nlink(), 1, "{inside} is nobody else's");
        }
    }
}
