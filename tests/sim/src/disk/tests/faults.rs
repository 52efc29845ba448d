use std::path::PathBuf;

use rustix::io::Errno;

use super::*;

fn fault(which: Which, after: u64, times: u64, error: Errno) -> Fault {
    Fault { which, after, times, error }
}

#[test]
fn the_nth_operation_fails_for_as_long_as_it_should() {
    let bed = Bed::new(1);
    let file = bed.file("a", b"x");
    for error in [Errno::IO, Errno::NOSPC, Errno::INTR, Errno::DQUOT, Errno::ROFS, Errno::MFILE] {
        bed.disk.fail(fault(Which::Kind(Op::Write), 1, 2, error));
        let results: Vec<bool> = (0..4).map(|_| bed.disk.write_at(&file, b"y", 0).is_ok()).collect();
        assert_eq!(results, [true, false, false, true]);
        bed.disk.fail(fault(Which::Any, 0, u64::MAX, error));
        let said = bed.disk.sync_data(&file).unwrap_err();
        assert_eq!(Errno::from_io_error(&said), Some(error));
        bed.disk.heal();
    }
    assert_eq!(bed.disk.failed(), 18);
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let bed = Bed::new(1);
    let file = bed.file("a", b"old");
    bed.disk.fail(fault(Which::Any, 0, 1, Errno::IO));
    bed.disk.write_at(&file, b"new", 0).unwrap_err();
    assert_eq!(bed.read("a"), b"old");
}

#[test]
fn nothing_has_an_effect_once_the_program_is_killed() {
    let bed = Bed::new(1);
    let file = bed.file("a", b"old");
    bed.disk.freeze_after(1);
    bed.disk.write_at(&file, b"1", 0).unwrap();
    bed.disk.read_at(&file, &mut [0], 0).unwrap();
    assert!(!bed.disk.is_frozen());
    bed.disk.write_at(&file, b"2", 1).unwrap_err();
    assert!(bed.disk.is_frozen());
    bed.disk.read_at(&file, &mut [0], 0).unwrap_err();
    bed.disk.sync_all(&file).unwrap_err();
    bed.disk.unlink(&bed.root, OsStr::new("a")).unwrap_err();
    assert_eq!(bed.read("a"), b"1ld");
    bed.disk.thaw();
    bed.disk.write_at(&file, b"2", 1).unwrap();
    assert_eq!(bed.read("a"), b"12d");
}

#[test]
fn reads_and_writes_may_stop_short() {
    let bed = Bed::new(1);
    let file = bed.file("a", &[b'.'; 100]);
    bed.disk.set_short(true);
    let mut short = 0;
    for _ in 0..100 {
        let done = bed.disk.write_at(&file, &[b'x'; 100], 0).unwrap();
        assert!(bed.read("a")[..done].iter().all(|byte| *byte == b'x'));
        short += u32::from(done < 100);
        assert!(bed.disk.read_at(&file, &mut [0; 100], 0).unwrap() > 0);
    }
    assert!((10..60).contains(&short), "{short}");
}

#[test]
fn a_full_disk_is_full_until_something_is_freed() {
    let bed = Bed::new(1);
    let file = bed.file("a", &[1; 8192]);
    let other = bed.file("b", &[]);
    bed.disk.set_room(Some(8192));
    assert_eq!(bed.disk.free(&bed.root).unwrap(), 8192);
    bed.write(&other, &[1; 5000], 0);
    bed.write(&other, &[2; 8192], 0);
    let said = bed.disk.write_at(&other, &[1], 8192).unwrap_err();
    assert_eq!(said.kind(), std::io::ErrorKind::StorageFull);
    bed.disk.reserve(&other, 8192, 1).unwrap_err();
    drop(file);
    bed.disk.unlink(&bed.root, OsStr::new("a")).unwrap();
    bed.write(&other, &[1], 8192);
    assert_eq!(bed.disk.free(&bed.root).unwrap(), 4096);
    bed.disk.set_len(&other, 0).unwrap();
    assert_eq!(bed.disk.free(&bed.root).unwrap(), 4096 * 4);
}

#[test]
fn time_is_owed_for_every_operation() {
    let bed = Bed::new(1);
    let file = bed.file("a", &[]);
    bed.disk.set_delay(Duration::from_millis(3));
    bed.write(&file, b"x", 0);
    bed.disk.sync_all(&file).unwrap();
    assert_eq!(bed.disk.take_delay(), Duration::from_millis(6));
    assert_eq!(bed.disk.take_delay(), Duration::ZERO);
}

#[test]
fn operations_are_counted_and_noted() {
    let bed = Bed::new(1);
    bed.disk.keep_trace();
    let file = bed.file("a", b"x");
    bed.disk.read_at(&file, &mut [0], 0).unwrap();
    let noted: Vec<(Op, PathBuf)> =
        bed.disk.trace().into_iter().map(|operation| (operation.op, operation.path)).collect();
    let expected =
        [(Op::Create, "a"), (Op::Write, "a"), (Op::SyncAll, "a"), (Op::SyncFolder, ""), (Op::Read, "a")];
    assert_eq!(noted, expected.map(|(op, path)| (op, path.into())));
    assert_eq!(bed.disk.count(Op::changes), 4);
    assert_eq!(bed.disk.count(|op| op == Op::Read), 1);
}

/// As with a file system's own errors, which count from when a folder is opened.
#[test]
fn whoever_syncs_everything_is_told_once_of_what_failed_before_and_not_of_what_was_before_it() {
    let bed = Bed::new(1);
    let folder = |name: &str| {
        bed.disk.make_folder(&bed.root, OsStr::new(name), Mode::RWXU).unwrap();
        bed.root.open_dir(name).unwrap().into_std_file()
    };
    let sync = |folder: &File| bed.disk.sync_file_system(folder).is_ok();
    let (first, second) = (folder("first"), folder("second"));
    bed.disk.fail(Fault { which: Which::Kind(Op::SyncFileSystem), after: 0, times: 1, error: Errno::IO });
    assert!(!sync(&first));
    assert!(!sync(&second), "it was there");
    assert!(sync(&first) && sync(&second));
    assert!(sync(&folder("third")));
}
