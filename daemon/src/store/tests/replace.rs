//! What takes the place of an older copy, and names that are taken back.

use rustix::io::Errno;

use super::{faulty::Op, folders::Tree, *};

fn instead() -> PublishName {
    PublishName::Instead("x".into())
}

/// A complete partial, and the path whose place it is to take.
fn whole(bed: &Bed, content: &Content) -> (Partial, PathBuf) {
    let partial = bed.open(content);
    content.write_all(&partial);
    (partial, bed.inbox().join("x"))
}

#[test]
fn a_file_takes_the_place_of_a_file() {
    for can_exchange in [true, false] {
        let bed = Bed::new();
        let content = Content::random(1000);
        let (partial, path) = whole(&bed, &content);
        std::fs::write(&path, "older").unwrap();
        for op in [Op::Rename, Op::Exchange] {
            bed.disk.fail(op, Errno::IO, 0, 1);
            let error = partial.publish(&instead()).unwrap_err();
            assert!(matches!(error, StoreError::Io { .. }), "{error}");
            assert_eq!(read(&path), b"older");
        }
        if !can_exchange {
            bed.disk.fail(Op::Exchange, Errno::INVAL, 0, 1);
        }
        let published = partial.publish(&instead()).unwrap();
        assert_eq!((&*published.name, &published.path, published.already), ("x", &path, false));
        assert_eq!(read(&path), content.bytes);
        drop(partial);
        assert!(bed.leftovers().is_empty(), "{:?}", bed.leftovers());
    }
}

/// Fault 23.
#[test]
fn neither_takes_a_files_place_what_is_a_folder_nor_the_other_way_round() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let (partial, path) = whole(&bed, &Content::random(1000));
    std::fs::create_dir(&path).unwrap();
    let error = partial.publish(&instead()).unwrap_err();
    assert!(matches!(error, StoreError::Misplaced { what: "a folder", .. }), "{error}");
    assert!(path.is_dir());
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    let error = partial.publish(&instead()).unwrap_err();
    assert!(matches!(error, StoreError::Misplaced { what: "something else", .. }), "{error}");
    assert_eq!(read(&path), b"a file");
}

#[test]
fn what_was_closed_to_others_stays_closed_when_it_is_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let bed = Bed::new();
    let (partial, path) = whole(&bed, &Content::random(1000));
    std::fs::write(&path, "older").unwrap();
    set(&path, 0o600);
    partial.publish(&instead()).unwrap();
    assert_eq!(mode(&path), 0o600);

    let (bed, tree) = (Bed::new(), Tree::new(1));
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    let path = bed.inbox().join("x");
    std::fs::create_dir_all(path.join("a/empty")).unwrap();
    std::fs::write(path.join("a/one"), "older").unwrap();
    std::fs::write(path.join("long"), "older").unwrap();
    for (inside, closed) in [("a/empty", 0o711), ("a/one", 0o640), ("long", 0o600), ("a", 0o700), ("", 0o750)]
    {
        set(&path.join(inside), closed);
    }
    partial.publish(&instead()).unwrap();
    for (inside, closed) in [("a/empty", 0o711), ("a/one", 0o640), ("long", 0o600), ("a", 0o700), ("", 0o750)]
    {
        assert_eq!(mode(&path.join(inside)), closed, "{inside}");
    }
    assert_eq!(mode(&path.join("z")), 0o666 & !umask(), "what was not there before is like any other");
}

/// Between a removal and a rename there would be neither.
#[test]
fn a_folder_that_cannot_be_exchanged_stays() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    let path = bed.inbox().join("x");
    std::fs::create_dir(&path).unwrap();
    bed.disk.fail(Op::Exchange, Errno::INVAL, 0, 1);
    let error = partial.publish(&instead()).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    partial.publish(&instead()).unwrap();
    tree.assert_is_at(&path);
}

#[test]
fn a_rename_that_fails_is_not_made_in_another_way() {
    let bed = Bed::new();
    let content = Content::random(1000);
    let (partial, path) = whole(&bed, &content);
    bed.disk.fail(Op::Rename, Errno::IO, 0, 1);
    let error = partial.publish(&name("x")).unwrap_err();
    assert!(matches!(error, StoreError::Io { what: "publish as", .. }), "{error}");
    assert!(!path.exists());
    assert_eq!(read(&partial.publish(&name("x")).unwrap().path), content.bytes);
}

/// Fault 6.
#[test]
fn a_name_that_cannot_be_taken_back_is_an_error() {
    let publish = |bed: &Bed, partial: &Partial| {
        bed.disk.fail(Op::SyncFolder, Errno::IO, 0, 1);
        bed.disk.fail(Op::Rename, Errno::IO, 1, 1);
        let error = partial.publish(&name("x")).unwrap_err();
        assert!(matches!(error, StoreError::Io { what: "take back", .. }), "{error}");
    };
    let bed = Bed::new();
    let (partial, _) = whole(&bed, &Content::random(1000));
    partial.checkpoint().unwrap();
    publish(&bed, &partial);
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    partial.checkpoint().unwrap();
    publish(&bed, &partial);
}

/// Fault 6.
#[test]
fn a_folders_name_is_taken_back_where_no_rename_spares_what_is_there() {
    let (bed, tree) = (Bed::new(), Tree::new(1));
    let partial = tree.open(&bed);
    tree.write_all(&partial);
    partial.checkpoint().unwrap();
    bed.disk.fail(Op::Rename, Errno::INVAL, 0, u64::MAX);
    bed.disk.fail(Op::SyncFolder, Errno::IO, 0, 1);
    tree.assert_is_at(&partial.publish(&name("x")).unwrap().path);
}
