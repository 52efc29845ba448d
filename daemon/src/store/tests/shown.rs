//! Folders that appear while they are filled: in what order, after which crashes, and beside whom.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
};

use p2p_protocol::{
    Manifest, Plan,
    manifest::{Entry, Node},
};
use rustix::io::Errno;

use super::{faulty::Op, folders::Tree, *};
use crate::store::{layout::INTO, shown::Show};

/// With a file of two names.
fn tree() -> Tree {
    let tree = Tree::new(1);
    let mut entries = tree.manifest.entries().to_vec();
    let at = |wanted: &str| entries.iter().position(|entry| entry.path == wanted).unwrap();
    let (node, last) = (Node::HardLink { of: at("a/one") as u32 }, at("z"));
    entries.insert(last, Entry { path: "y".into(), modified_ns: None, node });
    Tree { manifest: Arc::new(Manifest::new(entries).unwrap()), ..tree }
}

fn assert_is_at(tree: &Tree, path: &Path) {
    tree.assert_is_at(path);
    let inode = |inside: &str| fs::metadata(path.join(inside)).unwrap().ino();
    assert_eq!(inode("a/one"), inode("y"));
}

fn spec(bed: &Bed, tree: &Tree) -> PartialSpec {
    let show = Show { name: name("tree"), asked: tree.manifest.id(), wanted: true };
    PartialSpec { show: Some(show), ..tree.spec(bed) }
}

fn open(bed: &Bed, tree: &Tree) -> Partial {
    bed.store.open_partial(spec(bed, tree)).unwrap()
}

fn plan(partial: &Partial) -> Plan {
    (**partial.layout().plan().unwrap()).clone()
}

fn at(bed: &Bed) -> PathBuf {
    bed.inbox().join("tree")
}

/// The files that are in the folder, each of which has to be whole; those of which nobody knows are left out.
fn appeared(tree: &Tree, folder: &Path) -> Vec<&'static str> {
    let there = tree.contents.iter().filter_map(|(path, content)| {
        let found = fs::read(folder.join(path)).ok()?;
        assert!(found == content.bytes, "{path} is not whole");
        Some(*path)
    });
    there.collect()
}

/// Brings what is missing, from a disk that may say no now and then.
fn bring(tree: &Tree, partial: &Partial) -> Result<Published, StoreError> {
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

/// Fault 2.
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

/// Fault 1.
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

/// Fault 5.
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

/// Faults 15 and 16: whatever says no, and when, nothing half appears, and in the end all is there.
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
        for after in 0..24 {
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
fn what_is_in_the_way_stays_and_is_named() {
    type Put = fn(&Path);
    let puts: [Put; 3] = [
        |path| fs::write(path, "mine").unwrap(),
        |path| symlink("/etc/hostname", path).unwrap(),
        |path| fs::create_dir(path).unwrap(),
    ];
    for put in puts {
        for place in ["a/two", "long", "link", "y", "nothing"] {
            let (bed, tree) = (Bed::new(), tree());
            let partial = open(&bed, &tree);
            let path = at(&bed).join(place);
            if place == "nothing" {
                fs::remove_file(&path).unwrap();
            }
            put(&path);
            let before = fs::symlink_metadata(&path).unwrap();
            let error = bring(&tree, &partial).unwrap_err();
            let StoreError::InTheWay { path: folder, names } = &error else { panic!("{error}") };
            assert_eq!((&**folder, &names[..]), (&*at(&bed), &[place.to_owned()][..]));
            let found = fs::symlink_metadata(&path).unwrap();
            assert_eq!(
                (found.ino(), found.len(), found.mtime()),
                (before.ino(), before.len(), before.mtime())
            );
            partial.park().unwrap();
            drop(partial);
            fs::rename(&path, bed.path("moved away")).unwrap();
            let again = open(&bed, &tree);
            assert_eq!(again.verified(), set(0..5), "nothing that was verified is lost: {place}");
            assert_is_at(&tree, &bring(&tree, &again).unwrap().path);
        }
    }
}

#[test]
fn what_is_in_the_way_and_is_the_very_content_is_what_should_be_there() {
    let (bed, tree) = (Bed::new(), tree());
    let partial = open(&bed, &tree);
    fs::write(at(&bed).join("long"), &tree.contents[2].1.bytes).unwrap();
    assert!(bring(&tree, &partial).unwrap().is_exact());
    assert_is_at(&tree, &at(&bed));
}

/// At whichever moment somebody writes to a file that has appeared: what is written stays, and the folder is not taken for the whole.
#[test]
fn a_file_that_is_changed_stays_as_it_was_changed() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum When {
        WhileItRuns,
        BeforeAnOrderlyEnd,
        AfterAnOrderlyEnd,
        AfterACrash,
    }
    type Change = fn(&Path);
    let changes: [Change; 3] = [
        |path| {
            std::os::unix::fs::FileExt::write_all_at(
                &fs::OpenOptions::new().write(true).open(path).unwrap(),
                b"changed",
                1,
            )
            .unwrap()
        },
        |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(3).unwrap(),
        |path| {
            let mut text = fs::read(path).unwrap();
            text.extend_from_slice(b"more");
            fs::write(path, text).unwrap();
        },
    ];
    for change in changes {
        for place in ["a/two", "long"] {
            for when in
                [When::WhileItRuns, When::BeforeAnOrderlyEnd, When::AfterAnOrderlyEnd, When::AfterACrash]
            {
                let (bed, tree) = (Bed::new(), tree());
                let mut partial = open(&bed, &tree);
                tree.write_all(&partial);
                partial.checkpoint().unwrap();
                let path = at(&bed).join(place);
                if when == When::AfterAnOrderlyEnd {
                    partial.park().unwrap();
                }
                if matches!(when, When::AfterAnOrderlyEnd | When::AfterACrash) {
                    drop(partial);
                    change(&path);
                    partial = open(&bed, &tree);
                } else {
                    change(&path);
                    if when == When::BeforeAnOrderlyEnd {
                        partial.park().unwrap();
                        drop(partial);
                        partial = open(&bed, &tree);
                    }
                }
                let changed = read(&path);
                let error = bring(&tree, &partial).expect_err(&format!("{place} {when:?}"));
                assert!(
                    matches!(&error, StoreError::InTheWay { names, .. } if *names == [place]),
                    "{error} {when:?}"
                );
                assert_eq!(read(&path), changed, "{place} {when:?}");
                partial.park().unwrap();
                drop(partial);
                fs::rename(&path, bed.path("mine")).unwrap();
                let again = open(&bed, &tree);
                assert_is_at(&tree, &bring(&tree, &again).unwrap().path);
                assert_eq!(read(&bed.path("mine")), changed);
                assert_eq!(fs::metadata(bed.path("mine")).unwrap().nlink(), 1, "it is nobody else's");
            }
        }
    }
}

#[test]
fn what_was_only_touched_is_read_again_and_counts() {
    let (bed, tree) = (Bed::new(), tree());
    let partial = open(&bed, &tree);
    tree.write_all(&partial);
    partial.checkpoint().unwrap();
    fs::File::options()
        .write(true)
        .open(at(&bed).join("long"))
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    assert_is_at(&tree, &bring(&tree, &partial).unwrap().path);
}

/// What was removed, or moved elsewhere, is there again at the end, and is not the file that somebody has now.
#[test]
fn what_was_moved_away_is_its_movers_own() {
    for restart in [false, true] {
        let (bed, tree) = (Bed::new(), tree());
        let mut partial = open(&bed, &tree);
        tree.write_all(&partial);
        partial.checkpoint().unwrap();
        fs::rename(at(&bed).join("long"), bed.path("mine")).unwrap();
        fs::rename(at(&bed).join("a/two"), at(&bed).join("a/renamed")).unwrap();
        fs::remove_dir(at(&bed).join("a/empty")).unwrap();
        fs::remove_file(at(&bed).join("z")).unwrap();
        if restart {
            partial.park().unwrap();
            drop(partial);
            partial = open(&bed, &tree);
        }
        let published = bring(&tree, &partial).unwrap();
        assert_is_at(&tree, &published.path);
        assert_eq!(published.others, ["a/renamed"]);
        assert!(!published.is_exact());
        for own in
            [bed.path("mine"), at(&bed).join("a/renamed"), at(&bed).join("long"), at(&bed).join("a/two")]
        {
            assert_eq!(fs::metadata(&own).unwrap().nlink(), 1, "{}", own.display());
        }
    }
}

#[test]
fn a_moved_file_that_was_changed_is_not_taken_for_what_was_verified() {
    let (bed, tree) = (Bed::new(), tree());
    let partial = open(&bed, &tree);
    tree.write_all(&partial);
    partial.checkpoint().unwrap();
    for place in ["long", "a/two"] {
        let mine = bed.path(&place.replace('/', "-"));
        fs::rename(at(&bed).join(place), &mine).unwrap();
        fs::write(mine, "changed").unwrap();
    }
    assert_is_at(&tree, &bring(&tree, &partial).unwrap().path);
    assert_eq!(
        (read(&bed.path("long")), read(&bed.path("a-two"))),
        (b"changed".to_vec(), b"changed".to_vec())
    );
}

/// Nobody is led out of the folder: neither by a link in the place of a folder in it, nor by one in its own.
#[test]
fn a_link_in_the_place_of_a_folder_is_not_followed() {
    let (bed, tree) = (Bed::new(), tree());
    let partial = open(&bed, &tree);
    let outside = bed.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::rename(at(&bed).join("a"), bed.path("a")).unwrap();
    symlink(&outside, at(&bed).join("a")).unwrap();
    let error = bring(&tree, &partial).unwrap_err();
    let StoreError::InTheWay { names, .. } = &error else { panic!("{error}") };
    assert_eq!(names[..], ["a", "a/empty", "a/one", "a/two"].map(str::to_owned));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    fs::remove_file(at(&bed).join("a")).unwrap();
    // Swapped while something is about to be put there.
    let (place, target) = (at(&bed), outside.clone());
    bed.disk.at_next(Op::Link, move || {
        if place.join("a").is_dir() {
            fs::rename(place.join("a"), place.parent().unwrap().join("swapped")).unwrap();
            symlink(&target, place.join("a")).unwrap();
        }
    });
    assert!(bring(&tree, &partial).is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    fs::remove_file(at(&bed).join("a")).unwrap();
    assert_is_at(&tree, &bring(&tree, &partial).unwrap().path);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_folder_that_somebody_else_made_is_never_filled() {
    let (bed, tree) = (Bed::new(), tree());
    let partial = open(&bed, &tree);
    let plan = plan(&partial);
    partial.write(tree.chunk(&plan, 0)).unwrap();
    partial.checkpoint().unwrap();
    fs::rename(at(&bed), bed.path("elsewhere")).unwrap();
    partial.write(tree.chunk(&plan, 1)).unwrap();
    for other in [0, 1, 2] {
        match other {
            0 => {}
            1 => fs::create_dir(at(&bed)).unwrap(),
            _ => {
                fs::remove_dir(at(&bed)).unwrap();
                symlink(bed.path("elsewhere"), at(&bed)).unwrap();
            }
        }
        assert!(!partial.has_room());
        (2..5).for_each(|chunk| partial.write(tree.chunk(&plan, chunk)).unwrap());
        let error = partial.publish(&name("tree")).unwrap_err();
        assert!(matches!(&error, StoreError::Gone { path } if *path == at(&bed)), "{error}");
    }
    // Put back, it goes on.
    fs::remove_file(at(&bed)).unwrap();
    fs::rename(bed.path("elsewhere"), at(&bed)).unwrap();
    assert!(partial.has_room());
    assert_is_at(&tree, &partial.publish(&name("tree")).unwrap().path);
}

#[test]
fn after_a_restart_another_folder_of_that_name_is_not_the_one() {
    let (bed, tree) = (Bed::new(), tree());
    let partial = open(&bed, &tree);
    let plan = plan(&partial);
    partial.write(tree.chunk(&plan, 0)).unwrap();
    partial.park().unwrap();
    drop(partial);
    fs::rename(at(&bed), bed.path("elsewhere")).unwrap();
    fs::create_dir(at(&bed)).unwrap();
    fs::write(at(&bed).join("theirs"), "theirs").unwrap();
    let again = open(&bed, &tree);
    let published = bring(&tree, &again).unwrap();
    assert_eq!(published.path, bed.inbox().join("tree (1)"));
    assert_is_at(&tree, &published.path);
    assert_eq!(fs::read_dir(at(&bed)).unwrap().count(), 1);
    for moved in ["a/one", "a/two", "z"] {
        assert_eq!(fs::metadata(bed.path("elsewhere").join(moved)).unwrap().nlink(), 1, "{moved}");
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
fn where_a_file_has_one_name_only_it_is_refused_before_anything_appears() {
    let (bed, tree) = (Bed::new(), tree());
    bed.disk.fail(Op::Link, Errno::PERM, 0, 1);
    let error = bed.store.open_partial(spec(&bed, &tree)).unwrap_err();
    assert!(matches!(error, StoreError::NoLinks { .. }), "{error}");
    assert!(!at(&bed).exists());
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
