//! Partials of folders: in what order what is made durable, what a crash and a hostile neighbour can leave.

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    sync::Arc,
};

use p2p_protocol::{
    ChunkSet, Layout, Manifest, Plan,
    manifest::{Entry, Node, order},
    plan::Span,
};
use rustix::io::Errno;

use super::{faulty::Op, *};
use crate::store::layout::{PART, TREE};

/// A folder in memory: small files, a long one, an empty one and a link.
pub(super) struct Tree {
    pub(super) manifest: Arc<Manifest>,
    pub(super) contents: Vec<(&'static str, Content)>,
}

impl Tree {
    pub(super) fn new(seed: u64) -> Self {
        let content = |len, seed| Content::new(noise(len, seed));
        let contents = vec![
            ("a/one", content(300, seed)),
            ("a/two", content(4000, seed + 1)),
            ("long", content(3 * GROUP_LEN as usize + 9, seed + 2)),
            ("z", content(7, seed + 3)),
        ];
        Self::of(contents)
    }

    /// These files, and the rest.
    fn of(contents: Vec<(&'static str, Content)>) -> Self {
        let entry = |path: &str, node| Entry { path: path.into(), modified_ns: Some(5_000_000_000), node };
        let mut entries = vec![entry("a", Node::Folder), entry("a/empty", Node::Folder)];
        entries.push(entry("link", Node::Link { target: "a/one".into() }));
        let file = |size, file_id| Node::File { size, file_id, executable: false };
        entries.push(entry("nothing", file(0, tree::empty_id())));
        entries.extend(
            contents.iter().map(|(path, content)| entry(path, file(content.bytes.len() as u64, content.id))),
        );
        entries.sort_by(|one, other| order(&one.path, &other.path));
        Self { manifest: Arc::new(Manifest::new(entries).unwrap()), contents }
    }

    pub(super) fn spec(&self, bed: &Bed) -> PartialSpec {
        PartialSpec {
            folder: bed.inbox(),
            key: PartialKey::Fetched(self.manifest.id()),
            file_id: Some(self.manifest.id()),
            geometry: Geometry::new(self.manifest.size(), 18).unwrap(),
            allocated: self.manifest.size(),
            executable: false,
            modified_ns: Some(9_000_000_000),
            manifest: Some(self.manifest.clone()),
            alike: Vec::new(),
            older: None,
            show: None,
        }
    }

    pub(super) fn open(&self, bed: &Bed) -> Partial {
        bed.store.open_partial(self.spec(bed)).unwrap()
    }

    fn content(&self, entry: u32) -> &Content {
        let path = &self.manifest.entries()[entry as usize].path;
        &self.contents.iter().find(|(known, _)| known == path).unwrap().1
    }

    pub(super) fn chunk(&self, plan: &Plan, chunk: u32) -> VerifiedChunk<Bytes> {
        let (bytes, expected) = match plan.span(chunk).unwrap() {
            Span::Files(entries) => (
                entries.iter().flat_map(|entry| self.content(*entry).bytes.clone()).collect(),
                Expected::Files,
            ),
            Span::Piece { entry, piece, .. } => {
                let content = self.content(entry);
                (content.part(piece).to_vec(), Expected::Subtree(content.chunks[piece as usize]))
            }
        };
        let layout = Layout::Folder(Arc::new(plan.clone()));
        tree::verify_in(&layout, chunk, expected, Some(Bytes::from(bytes))).unwrap()
    }

    pub(super) fn write_all(&self, partial: &Partial) {
        let plan = partial.layout().plan().unwrap().clone();
        (0..plan.chunks()).for_each(|chunk| partial.write(self.chunk(&plan, chunk)).unwrap());
    }

    /// Finishes what is missing, and publishes.
    pub(super) fn complete(&self, partial: &Partial) -> Published {
        let plan = partial.layout().plan().unwrap().clone();
        for chunk in 0..plan.chunks() {
            let here = partial.verified().contains(chunk)
                || partial.doubtful().contains(chunk) && partial.recheck(chunk, Expected::Files).unwrap();
            if !here {
                partial.write(self.chunk(&plan, chunk)).unwrap();
            }
        }
        partial.publish(&name("tree")).unwrap()
    }

    pub(super) fn assert_is_at(&self, path: &Path) {
        for (inside, content) in &self.contents {
            assert_eq!(read(&path.join(inside)), content.bytes, "{inside}");
        }
        assert_eq!(std::fs::read_link(path.join("link")).unwrap(), Path::new("a/one"));
        assert!(path.join("a/empty").is_dir() && read(&path.join("nothing")).is_empty());
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o777 & !umask());
    }

    pub(super) fn part(&self, bed: &Bed) -> PathBuf {
        bed.inbox().join(layout::PARTIALS).join(format!("{}{PART}", self.manifest.id()))
    }
}

/// Faults 2 and 6.
#[test]
fn a_folder_is_synced_before_its_record_and_before_its_rename() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    bed.disk.trace();
    partial.checkpoint().unwrap();
    let said = |trace: Vec<String>| trace.into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>();
    let part = format!("sync all of {}{PART}", tree.manifest.id());
    assert_eq!(said(bed.disk.trace()), [&part, "sync .p2p/", "sync box/", "write log", "sync log"]);
    let published = partial.publish(&name("tree")).unwrap();
    let trace = said(bed.disk.trace());
    let at =
        |wanted: &str| trace.iter().position(|said| said == wanted).unwrap_or_else(|| panic!("{trace:?}"));
    assert!(at(&part) < at("rename") && at("rename") < at("sync box/"));
    tree.assert_is_at(&published.path);
    assert!(bed.leftovers().is_empty(), "{:?}", bed.leftovers());
}

/// Fault 16.
#[test]
fn a_failed_sync_of_a_folder_loses_its_window_and_nothing_else() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let partial = tree.open(&bed);
    let plan = partial.layout().plan().unwrap().clone();
    partial.write(tree.chunk(&plan, 0)).unwrap();
    assert_eq!(partial.checkpoint().unwrap(), set([0]));
    partial.write(tree.chunk(&plan, 1)).unwrap();
    bed.disk.fail(Op::SyncFileSystem, Errno::IO, 0, 1);
    let StoreError::SyncFailed { lost, .. } = partial.checkpoint().unwrap_err() else { panic!() };
    assert_eq!(lost, set([1]));
    partial.write(tree.chunk(&plan, 1)).unwrap();
    assert_eq!(partial.checkpoint().unwrap(), set([0, 1]));
}

/// Fault 1.
#[test]
fn a_folder_goes_on_after_any_number_of_chunks() {
    for stop in 0..=5 {
        for orderly in [false, true] {
            let (bed, tree) = (Bed::new(), Tree::new(1));
            let partial = tree.open(&bed);
            let plan = partial.layout().plan().unwrap().clone();
            assert_eq!(plan.chunks(), 5);
            (0..stop).for_each(|chunk| partial.write(tree.chunk(&plan, chunk)).unwrap());
            if orderly {
                partial.park().unwrap();
            }
            drop(partial);
            let again = tree.open(&bed);
            let expected = if orderly { ChunkSet::full(stop) } else { ChunkSet::new() };
            assert_eq!(again.verified(), expected, "{stop} {orderly}");
            if !orderly {
                assert_eq!(again.doubtful(), ChunkSet::full(stop), "{stop}");
            }
            tree.assert_is_at(&tree.complete(&again).path);
        }
    }
}

/// Fault 4.
#[test]
fn whatever_says_what_a_partial_is_of_may_be_damaged() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let path = bed.inbox().join(layout::PARTIALS).join(format!("{}{TREE}", tree.manifest.id()));
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    drop(partial);
    let whole = read(&path);
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x20;
        std::fs::write(&path, if at % 2 == 0 { &damaged[..] } else { &whole[..at] }).unwrap();
        let again = tree.open(&bed);
        assert_eq!(again.layout().plan().unwrap().chunks(), 5, "{at}");
        drop(again);
    }
    tree.assert_is_at(&tree.complete(&tree.open(&bed)).path);
}

#[test]
fn damage_to_the_files_is_found_and_mended() {
    type Damage = fn(&Path);
    let damages: [Damage; 6] = [
        |part| {
            use std::io::Write;
            std::fs::File::options().append(true).open(part.join("z")).unwrap().write_all(b"more").unwrap();
        },
        |part| std::fs::write(part.join("a/one"), [0; 300]).unwrap(),
        |part| std::fs::write(part.join("a/two"), "short").unwrap(),
        |part| std::fs::remove_file(part.join("z")).unwrap(),
        |part| std::fs::remove_dir_all(part.join("a")).unwrap(),
        |part| {
            std::fs::File::options().write(true).open(part.join("long")).unwrap().set_len(GROUP_LEN).unwrap()
        },
    ];
    for (n, damage) in damages.iter().enumerate() {
        let (bed, tree) = (Bed::new(), Tree::new(1));
        let partial = tree.open(&bed);
        tree.write_all(&partial);
        partial.park().unwrap();
        drop(partial);
        damage(&tree.part(&bed));
        let again = tree.open(&bed);
        assert!(again.verified().is_empty(), "{n}: the stamp tells");
        tree.assert_is_at(&tree.complete(&again).path);
    }
}

/// Fault 53.
#[test]
fn links_planted_in_a_folder_in_the_making_are_not_followed() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let outside = bed.path("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("one"), "precious").unwrap();
    let partial = tree.open(&bed);
    let part = tree.part(&bed);
    for planted in ["a/one", "long"] {
        symlink(outside.join("one"), part.join(planted)).unwrap();
    }
    let plan = partial.layout().plan().unwrap().clone();
    for chunk in 0..plan.chunks() {
        // Either the link gives way, or the chunk is not stored.
        let _ = partial.write(tree.chunk(&plan, chunk));
    }
    drop(partial);
    std::fs::remove_dir_all(part.join("a")).unwrap();
    symlink(&outside, part.join("a")).unwrap();
    if let Ok(again) = bed.store.open_partial(tree.spec(&bed)) {
        let _ = again.write(tree.chunk(&plan, 0));
    }
    assert_eq!(read(&outside.join("one")), b"precious");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn without_a_rename_that_replaces_nothing_an_empty_folder_claims_the_name() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    std::fs::create_dir_all(bed.inbox().join("tree")).unwrap();
    std::fs::write(bed.inbox().join("tree/mine"), "x").unwrap();
    bed.disk.fail(Op::Rename, Errno::INVAL, 0, 99);
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    let published = partial.publish(&name("tree")).unwrap();
    assert_eq!(published.name, "tree (1)");
    tree.assert_is_at(&published.path);
    assert_eq!(read(&bed.inbox().join("tree/mine")), b"x");
}

#[test]
fn a_claim_of_a_name_does_not_outlive_a_rename_that_fails() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    bed.disk.fail(Op::Rename, Errno::INVAL, 0, 99);
    bed.disk.fail(Op::Replace, Errno::IO, 0, 1);
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    partial.publish(&name("tree")).unwrap_err();
    assert!(!bed.inbox().join("tree").exists());
    let published = partial.publish(&name("tree")).unwrap();
    assert_eq!(published.name, "tree");
    tree.assert_is_at(&published.path);
}

#[test]
fn what_is_there_already_is_copied_and_checked() {
    let (bed, tree, other) = (Bed::new(), Tree::new(1), Tree::new(50));
    let older = bed.path("older");
    std::fs::create_dir_all(older.join("deep")).unwrap();
    std::fs::write(older.join("deep/anything"), &tree.contents[2].1.bytes).unwrap();
    std::fs::write(older.join("two"), &tree.contents[1].1.bytes).unwrap();
    std::fs::write(older.join("other"), &other.contents[0].1.bytes).unwrap();
    let spec = PartialSpec { alike: vec![older.clone()], ..tree.spec(&bed) };
    let partial = bed.store.open_partial(spec.clone()).unwrap();
    let plan = partial.layout().plan().unwrap().clone();
    assert_eq!((plan.chunks(), plan.bytes()), (1, 307));
    // One in which nothing has come is not kept.
    partial.write(tree.chunk(&plan, 0)).unwrap();
    drop(partial);
    // What was copied is as it was, and nothing is looked for again.
    let partial = bed.store.open_partial(PartialSpec { alike: Vec::new(), ..spec.clone() }).unwrap();
    assert_eq!(partial.layout().plan().unwrap().bytes(), 307);
    drop(partial);
    // One that was damaged is enough.
    std::fs::write(tree.part(&bed).join("a/two"), vec![7; 4000]).unwrap();
    assert_eq!(bed.store.open_partial(spec.clone()).unwrap().layout().plan().unwrap().bytes(), 307);
    assert_eq!(read(&tree.part(&bed).join("a/two")), tree.contents[1].1.bytes, "it was copied again");
    let modified = std::fs::metadata(tree.part(&bed).join("long")).unwrap().modified().unwrap();
    assert_eq!(modified, std::time::UNIX_EPOCH + std::time::Duration::from_secs(5));
    // What was copied is gone, or another: the plan is made anew, and the older copy asked again.
    std::fs::write(tree.part(&bed).join("long"), "damaged").unwrap();
    std::fs::remove_file(older.join("two")).unwrap();
    std::fs::remove_file(tree.part(&bed).join("a/two")).unwrap();
    let again = bed.store.open_partial(spec).unwrap();
    assert_eq!(again.layout().plan().unwrap().bytes(), 4307);
    tree.assert_is_at(&tree.complete(&again).path);
}

/// What no chunk will carry is on the disk before it is written down that none does.
///
/// Fault 2.
#[test]
fn what_is_copied_is_synced_before_the_plan_that_leaves_it_out() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let older = bed.path("older");
    std::fs::create_dir_all(&older).unwrap();
    std::fs::write(older.join("two"), &tree.contents[1].1.bytes).unwrap();
    bed.disk.trace();
    let _partial = bed.store.open_partial(PartialSpec { alike: vec![older], ..tree.spec(&bed) }).unwrap();
    let trace = bed.disk.trace();
    let part = format!("sync all of {}{PART}", tree.manifest.id());
    let at =
        |wanted: &str| trace.iter().position(|said| said == wanted).unwrap_or_else(|| panic!("{trace:?}"));
    assert!(at("write ") < at(&part) && at(&part) < at("write tree") && at("write tree") < at("sync tree"));
}

/// Its holes may be in memory only, as may the lengths of its files.
///
/// Fault 2.
#[test]
fn what_is_left_of_a_folder_is_not_taken_for_new() {
    for in_order in [true, false] {
        let (bed, tree) = (Bed::new(), Tree::new(1));
        let partial = tree.open(&bed);
        let plan = partial.layout().plan().unwrap().clone();
        let last = plan.chunks() - 1;
        partial.write(tree.chunk(&plan, last)).unwrap();
        partial.checkpoint().unwrap();
        if in_order {
            partial.park().unwrap();
        }
        drop(partial);
        let partial = tree.open(&bed);
        assert_eq!((partial.verified().is_empty(), partial.doubtful().is_empty()), (!in_order, in_order));
        assert_eq!(std::fs::metadata(tree.part(&bed).join("long")).unwrap().len(), 3 * GROUP_LEN + 9);
        let sized = bed.disk.count(Op::SetLen);
        partial.write(tree.chunk(&plan, last - 1)).unwrap();
        partial.checkpoint().unwrap();
        assert!(bed.disk.count(Op::SetLen) > sized);
    }
}

/// Each has its own part of the values that were kept.
#[test]
fn every_long_file_of_a_folder_is_served_without_being_read() {
    let bed = Bed::new();
    let long = |seed, groups| Content::new(noise(groups * GROUP_LEN as usize + 5, seed));
    let tree = Tree::of(vec![("a/first", long(1, 2)), ("a/second", long(2, 3)), ("third", long(3, 2))]);
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    let published = partial.publish(&name("tree")).unwrap();
    for (path, content) in &tree.contents {
        let before = bed.disk.bytes_read();
        let source = bed.store.import_file(&published.path.join(path), &|_| true).unwrap();
        assert_eq!(source.file_id(), Some(content.id));
        assert!(bed.disk.bytes_read() - before < 1000, "{path}");
    }
}

/// What is asked of a partial that nobody has opened.
#[test]
fn what_is_here_of_a_partial_can_be_asked() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let key = PartialKey::Fetched(tree.manifest.id());
    let asked = || {
        let manifest = bed.store.stored_manifest(&bed.inbox(), &key)?;
        Ok::<_, StoreError>((bed.store.has_partial(&bed.inbox(), &key)?, manifest.map(|found| found.id())))
    };
    assert_eq!(asked().unwrap(), (false, None), "there is no folder");
    let refused = bed.store.has_partial(&bed.file("file", b""), &key).unwrap_err();
    assert!(matches!(refused, StoreError::Misplaced { what: "a file", .. }), "{refused}");
    std::fs::create_dir_all(bed.inbox()).unwrap();
    assert_eq!(asked().unwrap(), (false, None));
    let partial = tree.open(&bed);
    let plan = partial.layout().plan().unwrap().clone();
    partial.write(tree.chunk(&plan, 0)).unwrap();
    drop(partial);
    assert_eq!(asked().unwrap(), (true, Some(tree.manifest.id())));
    let away = bed.path("away");
    std::fs::rename(bed.inbox(), &away).unwrap();
    // Whether there is anything cannot be seen on a way without end.
    symlink(bed.inbox(), bed.inbox()).unwrap();
    assert!(bed.store.has_partial(&bed.inbox(), &key).is_err());
    assert!(bed.store.stored_manifest(&bed.inbox(), &key).is_err());
    assert!(bed.store.discard_partial(&bed.inbox(), &key).is_err());
}

/// In another plan the same numbers are other chunks.
///
/// Fault 2.
#[test]
fn a_log_is_emptied_durably_before_there_is_another_plan() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let partial = tree.open(&bed);
    let plan = partial.layout().plan().unwrap().clone();
    partial.write(tree.chunk(&plan, 0)).unwrap();
    partial.park().unwrap();
    drop(partial);
    std::fs::remove_file(tree.part(&bed).with_extension("tree")).unwrap();
    bed.disk.fail(Op::Unlink, Errno::IO, 0, 1);
    assert!(bed.store.open_partial(tree.spec(&bed)).is_err(), "values of the old plan are left");
    bed.disk.trace();
    let _again = tree.open(&bed);
    let trace = bed.disk.trace();
    let at =
        |wanted: &str| trace.iter().position(|said| said == wanted).unwrap_or_else(|| panic!("{trace:?}"));
    assert!(at("size log") < at("sync log") && at("sync log") < at("write tree"), "{trace:?}");
}

/// A daemon that was killed between its rename and the sync of the folder has left a name that the next one finds.
///
/// Fault 6.
#[test]
fn a_folder_that_is_found_is_durable_before_it_counts() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let path = tree.complete(&tree.open(&bed)).path;
    let (id, size) = (tree.manifest.id(), tree.manifest.size());
    bed.disk.trace();
    assert!(bed.store.holds(&path, id, size, true, Trust::Cache).unwrap());
    let syncs: Vec<_> = bed.disk.trace().into_iter().filter(|said| said.starts_with("sync")).collect();
    assert_eq!(syncs, ["sync all of tree", "sync box/"]);
    for op in [Op::SyncFileSystem, Op::SyncFolder] {
        bed.disk.fail(op, Errno::IO, 0, 1);
        let error = bed.store.holds(&path, id, size, true, Trust::Cache).unwrap_err();
        assert!(error.to_string().contains("sync"), "{error}");
    }
    // What no list of entries names is not of it, whatever it is.
    rustix::fs::mknodat(rustix::fs::CWD, path.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    assert!(!bed.store.holds(&path, id, size, true, Trust::Cache).unwrap());
}

/// On a file system that folds case one of two names takes the other's place, as it is done here by hand.
///
/// Fault 24.
#[test]
fn two_names_that_turn_out_to_be_one_are_an_error_and_nothing_is_published() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    let part = tree.part(&bed);
    let (one, other) = (part.join("a/one"), part.join("a/two"));
    std::fs::remove_file(&other).unwrap();
    std::fs::hard_link(&one, &other).unwrap();
    let error = partial.publish(&name("tree")).unwrap_err();
    assert!(matches!(&error, StoreError::SameName { .. }), "{error}");
    assert!(error.to_string().contains("a/one, a/two"), "{error}");
    assert!(!bed.inbox().join("tree").exists());
}

#[test]
fn where_the_file_system_has_no_hard_links_they_become_copies() {
    let mut tree = Tree::new(1);
    let entries = tree.manifest.entries();
    let first = |path| entries.iter().position(|entry| entry.path == path).unwrap() as u32;
    let again = |path: &str, of| {
        let node = Node::HardLink { of: first(of) };
        Entry { path: path.into(), modified_ns: Some(5_000_000_000), node }
    };
    let links = [again("z2", "a/one"), again("z3", "long")];
    tree.manifest = Arc::new(Manifest::new(entries.iter().cloned().chain(links).collect()).unwrap());
    for (errno, copies) in
        [(None, vec![]), (Some(Errno::PERM), vec!["z2", "z3"]), (Some(Errno::OPNOTSUPP), vec!["z2", "z3"])]
    {
        let bed = Bed::new();
        if let Some(errno) = errno {
            bed.disk.fail(Op::Link, errno, 0, u64::MAX);
        }
        let published = tree.complete(&tree.open(&bed));
        assert_eq!(published.copies, copies, "{errno:?}");
        tree.assert_is_at(&published.path);
        for (path, of) in [("z2", 0), ("z3", 2)] {
            let path = published.path.join(path);
            assert_eq!(read(&path), tree.contents[of].1.bytes);
            let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
            assert_eq!(modified, std::time::UNIX_EPOCH + std::time::Duration::from_secs(5));
        }
    }
}

/// What of an older version is still right counts at once, durably; under false values nothing does.
#[test]
fn what_is_right_of_an_older_version_is_taken_over() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let older = bed.path("older");
    std::fs::create_dir_all(&older).unwrap();
    let mut bytes = tree.contents[2].1.bytes.clone();
    bytes[GROUP_LEN as usize + 7] ^= 1;
    std::fs::write(older.join("long"), &bytes).unwrap();
    // Those that lead elsewhere, and are no files, are let alone.
    std::fs::create_dir_all(older.join("z")).unwrap();
    let open = || bed.store.open_partial(PartialSpec { alike: vec![older.clone()], ..tree.spec(&bed) });
    let partial = open().unwrap();
    let found = partial.older_versions();
    let [long] = &found[..] else { panic!("{found:?}") };
    let values = &tree.contents[2].1.chunks;
    let mut forged = values.clone();
    forged[0] = forged[1];
    assert!(partial.take_over(long, &forged, &|| true).is_err());
    assert!(partial.take_over(long, &values[..3], &|| true).is_err());
    assert!(partial.verified().is_empty());
    partial.take_over(long, values, &|| false).unwrap();
    assert!(partial.verified().is_empty(), "nobody waits for it any longer");
    bed.disk.trace();
    partial.take_over(long, values, &|| true).unwrap();
    let first = partial.layout().plan().unwrap().long_files().next().unwrap().2.start;
    assert_eq!(partial.verified(), set([first, first + 2, first + 3]));
    let trace = bed.disk.trace();
    let at = |wanted: &str| trace.iter().position(|said| said.contains(wanted)).unwrap();
    assert!(at("sync all") < at("write log"), "{trace:?}");
    assert!(partial.older_versions().is_empty(), "what is begun goes on");
    tree.assert_is_at(&tree.complete(&partial).path);
}

/// A version that is a link, or shorter, or cannot be read, costs nothing but its bytes.
#[test]
fn an_older_version_that_is_not_what_it_seems_is_not_taken() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let (linked, short) = (bed.path("linked"), bed.path("short"));
    let bytes = tree.contents[2].1.bytes.clone();
    let elsewhere = bed.file("elsewhere", &bytes);
    std::fs::create_dir_all(&linked).unwrap();
    symlink(elsewhere, linked.join("long")).unwrap();
    std::fs::create_dir_all(&short).unwrap();
    std::fs::write(short.join("long"), &bytes[..GROUP_LEN as usize + 1]).unwrap();
    let partial =
        bed.store.open_partial(PartialSpec { alike: vec![linked, short], ..tree.spec(&bed) }).unwrap();
    let found = partial.older_versions();
    partial.take_over(&found[0], &tree.contents[2].1.chunks, &|| true).unwrap();
    assert_eq!(partial.verified().len(), 1, "the one that the shorter one has");
    tree.assert_is_at(&tree.complete(&partial).path);
}
