//! What of a folder is taken along, what is left out of it, and what of it may change meanwhile.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    sync::Mutex,
    time::{Duration, SystemTime},
};

use p2p_protocol::manifest::Node;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{faulty::Op, *};
use crate::store::{excludes::Excludes, tree_source::TreeSource};

fn import(bed: &Bed, patterns: &[&str]) -> Result<TreeSource, StoreError> {
    let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    bed.store.import_folder(&bed.path("dir"), &Excludes::new(&patterns).unwrap(), &|_| true)
}

/// A folder with these files in it.
fn bed_with(files: &[(&str, usize)]) -> Bed {
    let bed = Bed::new();
    std::fs::create_dir(bed.path("dir")).unwrap();
    for (name, len) in files {
        bed.file(&format!("dir/{name}"), &noise(*len, 7));
    }
    bed
}

fn paths(source: &TreeSource) -> Vec<&str> {
    source.manifest().entries().iter().map(|entry| entry.path.as_str()).collect()
}

#[test]
fn times_are_those_of_files_and_folders_and_not_of_links() {
    let bed = bed_with(&[("one", 10)]);
    std::fs::create_dir(bed.path("dir/sub")).unwrap();
    symlink("one", bed.path("dir/link")).unwrap();
    for (seconds, name) in [(1_000, "one"), (2_000, "sub")] {
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 5);
        File::open(bed.path("dir").join(name)).unwrap().set_modified(time).unwrap();
    }
    let source = import(&bed, &[]).unwrap();
    let entries = source.manifest().entries().iter();
    let times: Vec<_> = entries.map(|entry| (entry.path.as_str(), entry.modified_ns)).collect();
    assert_eq!(times, [("link", None), ("one", Some(1_000_000_000_005)), ("sub", Some(2_000_000_000_005))]);
}

#[test]
fn a_folder_that_is_not_there_is_not_one_that_cannot_be_read() {
    let bed = Bed::new();
    assert!(matches!(import(&bed, &[]), Err(StoreError::NotFound { path }) if path == bed.path("dir")));
    bed.file("dir", b"a file");
    let ended = import(&bed, &[]).map(drop);
    assert!(!matches!(ended, Ok(()) | Err(StoreError::NotFound { .. })), "{ended:?}");
}

#[test]
fn what_may_have_some_content_is_not_empty() {
    let bed = bed_with(&[("none", 0), ("one", 1)]);
    let (_, candidates) = bed.store.candidates(&bed.path("dir")).unwrap();
    let found: Vec<_> = candidates.iter().map(|found| (found.path.as_str(), found.size)).collect();
    assert_eq!(found, [("one", 1)]);
}

/// Fault 52.
#[test]
fn every_name_that_nobody_would_take_is_told() {
    let bed = bed_with(&[("fine", 1), ("con.txt", 1), ("b\\c", 1)]);
    let raw = bed.path("dir").join(OsStr::from_bytes(b"\xff"));
    std::fs::write(raw, "x").unwrap();
    let ended = import(&bed, &[]).map(drop);
    let Err(StoreError::UnsafeNames { names, .. }) = &ended else { panic!("{ended:?}") };
    let said: Vec<_> = names.iter().map(|name| name.split_once(" (").unwrap()).collect();
    assert_eq!(said.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["b\\c", "con.txt", "\u{fffd}"]);
    assert_eq!(said[2].1, "the name is not UTF-8)");
    assert!(!said[1].1.contains("con.txt"), "the name is not said twice: {said:?}");
    // Where they stay at home they are no trouble.
    std::fs::create_dir(bed.path("dir").join(OsStr::from_bytes(b"sub\xfe"))).unwrap();
    assert_eq!(paths(&import(&bed, &["con.txt", "b*", "\u{fffd}", "sub*/"]).unwrap()), ["fine"]);
}

#[test]
fn what_is_excluded_may_be_folders_only() {
    let bed = bed_with(&[("build", 1), ("keep", 1)]);
    std::fs::create_dir_all(bed.path("dir/sub/build")).unwrap();
    std::fs::write(bed.path("dir/sub/build/out"), "x").unwrap();
    assert_eq!(paths(&import(&bed, &["build/"]).unwrap()), ["build", "keep", "sub"]);
    assert_eq!(paths(&import(&bed, &["build"]).unwrap()), ["keep", "sub"]);
    let ended = import(&bed, &["*"]).map(drop);
    assert!(matches!(ended, Err(StoreError::NothingLeft { .. })), "{ended:?}");
}

#[test]
fn what_is_left_out_has_its_name() {
    let bed = bed_with(&[("one", 1)]);
    mknodat(CWD, bed.path("dir/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _listener = UnixListener::bind(bed.path("dir/socket")).unwrap();
    symlink("../elsewhere", bed.path("dir/out")).unwrap();
    symlink("one", bed.path("dir/in")).unwrap();
    std::fs::create_dir(bed.path("dir").join(layout::PARTIALS)).unwrap();
    let source = import(&bed, &[]).unwrap();
    assert_eq!(paths(&source), ["in", "one"]);
    let left_out: Vec<_> = source.left_out().iter().map(|left| (left.path.as_str(), left.what)).collect();
    assert_eq!(
        left_out,
        [
            (layout::PARTIALS, "what p2p has not finished receiving"),
            ("out", "a symbolic link that leads out of the folder"),
            ("pipe", "a named pipe"),
            ("socket", "a socket"),
        ]
    );
}

/// It holds the private key.
#[test]
fn nothing_of_the_state_folder_goes_out_and_nothing_lands_in_it() {
    let bed = bed_with(&[]);
    let home = bed.path("home");
    std::fs::write(home.join("identity.pem"), "secret").unwrap();
    let left: Vec<_> = {
        let source = bed.store.import_folder(bed.root.path(), &Excludes::none(), &|_| true).unwrap();
        assert!(paths(&source).iter().all(|path| !path.starts_with("home")), "{:?}", paths(&source));
        source.left_out().iter().map(|left| (left.path.clone(), left.what)).collect()
    };
    assert_eq!(left, [("home".to_owned(), "p2p's own state folder")]);
    let link = bed.path("link");
    symlink(&home, &link).unwrap();
    let is_refused = |ended: Result<(), StoreError>| {
        assert!(matches!(ended, Err(StoreError::OwnHome { .. })), "{ended:?}");
    };
    for path in [home.clone(), home.join("lists"), home.join("identity.pem"), link.join("identity.pem")] {
        is_refused(bed.store.import(&path, &Excludes::none(), &|_| true).map(drop));
        if path.is_file() {
            is_refused(bed.store.open_to_send(&path).map(drop));
        }
    }
    let content = five();
    for folder in [home.clone(), link, home.join("lists"), home.join("lists/new")] {
        is_refused(bed.store.open_partial(PartialSpec { folder, ..bed.spec(&content) }).map(drop));
    }
    // An inbox in it is none of it.
    let inbox = home.join("new/inbox");
    for folder in [bed.store.spool(), inbox.clone()] {
        bed.store.open_partial(PartialSpec { folder, ..bed.spec(&content) }).unwrap();
    }
    std::fs::write(inbox.join("one"), "1").unwrap();
    for path in [inbox.join("one"), inbox, home.join("new")] {
        bed.store.import(&path, &Excludes::none(), &|_| true).unwrap();
    }
}

#[test]
fn a_file_with_several_names_is_hashed_once() {
    let bed = bed_with(&[("b", 100)]);
    std::fs::hard_link(bed.path("dir/b"), bed.path("dir/c")).unwrap();
    std::fs::hard_link(bed.path("dir/b"), bed.path("elsewhere")).unwrap();
    bed.file("dir/a", &noise(100, 7));
    let source = import(&bed, &[]).unwrap();
    let nodes: Vec<_> = source.manifest().entries().iter().map(|entry| &entry.node).collect();
    assert!(
        matches!(nodes.as_slice(), [Node::File { .. }, Node::File { .. }, Node::HardLink { of: 1 }]),
        "{nodes:?}"
    );
    assert_eq!(source.manifest().size(), 200);
}

#[test]
fn progress_counts_every_byte_once_and_goes_up() {
    let long = 2 * GROUP_LEN as usize;
    let bed = bed_with(&[("a", 10), ("b", 20), ("long", long), ("longer", long + 5)]);
    let said = Mutex::new(Vec::new());
    let progress = |hashed| {
        said.lock().unwrap().push(hashed);
        true
    };
    bed.store.import_folder(&bed.path("dir"), &Excludes::none(), &progress).unwrap();
    let said = said.into_inner().unwrap();
    assert!(said.is_sorted(), "{said:?}");
    assert_eq!((said[0], said[1]), (10, 30));
    assert_eq!(said.last().copied(), Some(35 + 2 * long as u64), "{said:?}");
}

/// Fault 29.
#[test]
fn what_changes_while_the_folder_is_hashed_is_a_source_that_changed() {
    let changed = |how: &(dyn Fn(&Path) + Sync)| {
        let bed = bed_with(&[("one", 10)]);
        std::fs::create_dir(bed.path("dir/sub")).unwrap();
        bed.file("dir/sub/two", b"abc");
        let once = std::sync::Once::new();
        let progress = |_| {
            once.call_once(|| how(&bed.path("dir/sub")));
            true
        };
        let ended = bed.store.import_folder(&bed.path("dir"), &Excludes::none(), &progress).map(drop);
        assert!(
            matches!(&ended, Err(StoreError::SourceChanged { path }) if *path == bed.path("dir/sub/two")),
            "{ended:?}"
        );
    };
    changed(&|sub| std::fs::remove_file(sub.join("two")).unwrap());
    changed(&|sub| {
        std::fs::remove_dir_all(sub).unwrap();
        std::fs::write(sub, "a file").unwrap();
    });
    changed(&|sub| {
        std::fs::rename(sub.join("two"), sub.join("three")).unwrap();
        symlink("three", sub.join("two")).unwrap();
    });
    changed(&|sub| std::fs::write(sub.join("two"), "abcd").unwrap());
}

/// Fault 30.
#[test]
fn a_file_that_is_cut_short_while_it_is_read_has_changed() {
    let bed = bed_with(&[("one", 1000)]);
    let path = bed.path("dir/one");
    bed.disk.at_next(Op::Read, move || File::options().write(true).open(&path).unwrap().set_len(10).unwrap());
    let ended = import(&bed, &[]).map(drop);
    assert!(
        matches!(&ended, Err(StoreError::SourceChanged { path }) if *path == bed.path("dir/one")),
        "{ended:?}"
    );
}
