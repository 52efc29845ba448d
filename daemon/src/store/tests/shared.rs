//! Folders that appear while they are filled, and their owners who use them meanwhile.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
};

use super::{
    faulty::Op,
    shown::{assert_is_at, at, bring, open, plan, tree},
    *,
};

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

/// Its chunks were recorded as durable; the copy has to be that before it stands for them.
#[test]
fn a_copy_is_durable_before_it_takes_the_place_of_what_others_have() {
    let (bed, tree) = (Bed::new(), tree());
    let partial = open(&bed, &tree);
    let plan = plan(&partial);
    partial.write(tree.chunk(&plan, 0)).unwrap();
    partial.checkpoint().unwrap();
    let crate::store::data::Data::Folder(staging) = &partial.data else { panic!() };
    bed.disk.trace();
    staging.own_all().unwrap();
    let mut trace = bed.disk.trace();
    trace.retain(|said| !said.is_empty());
    let places: Vec<_> = (0..trace.len()).filter(|at| trace[*at] == "replace").collect();
    assert!(!places.is_empty());
    for at in places {
        assert_eq!(trace[at - 1], "sync ", "{trace:?}");
        assert!(trace[at + 1].ends_with('/'), "{trace:?}");
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

/// Whoever has moved it may also make it longer or shorter; what is made anew is as long as it should be, and right.
#[test]
fn a_moved_file_of_another_length_is_made_anew_as_it_should_be() {
    for case in 0..8 {
        let [longer, restart, removed] = [1, 2, 4].map(|bit| case & bit != 0);
        let (bed, tree) = (Bed::new(), tree());
        let mut partial = open(&bed, &tree);
        tree.write_all(&partial);
        partial.checkpoint().unwrap();
        let mut changed = Vec::new();
        for place in ["long", "a/two", "z"] {
            let mine = bed.path(&place.replace('/', "-"));
            fs::rename(at(&bed).join(place), &mine).unwrap();
            let mut file = fs::File::options().append(true).open(&mine).unwrap();
            if longer {
                std::io::Write::write_all(&mut file, b"more").unwrap();
            } else {
                file.set_len(3).unwrap();
            }
            if removed {
                fs::remove_file(mine).unwrap();
            } else {
                changed.push((mine.clone(), read(&mine)));
            }
        }
        if restart {
            partial.park().unwrap();
            drop(partial);
            partial = open(&bed, &tree);
        }
        assert_is_at(&tree, &bring(&tree, &partial).unwrap().path);
        for (mine, bytes) in changed {
            assert_eq!(read(&mine), bytes, "{}", mine.display());
        }
    }
}

/// What was in other hands is looked at again, however it comes back: what is here of it may be what they have made of it.
#[test]
fn a_file_that_was_changed_and_removed_comes_again_as_it_should_be() {
    for restart in [false, true] {
        let (bed, tree) = (Bed::new(), tree());
        let mut partial = open(&bed, &tree);
        tree.write_all(&partial);
        partial.checkpoint().unwrap();
        for place in ["long", "a/two", "z"] {
            let path = at(&bed).join(place);
            let file = fs::File::options().write(true).open(&path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"!", 1).unwrap();
            // Whoever does it may even put the time back.
            file.set_modified(modified).unwrap();
            fs::remove_file(path).unwrap();
        }
        if restart {
            partial.park().unwrap();
            drop(partial);
            partial = open(&bed, &tree);
        }
        assert_is_at(&tree, &bring(&tree, &partial).unwrap().path);
    }
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
