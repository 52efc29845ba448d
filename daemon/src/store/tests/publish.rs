use std::{
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    time::{Duration, UNIX_EPOCH},
};

use p2p_protocol::reason::Failure;
use rustix::io::Errno;

use super::{faulty::Op, *};
use crate::store::Excludes;
use crate::store::layout::{CVS, LOG, PART, PARTIALS};

fn small() -> Content {
    Content::random(2 * GROUP_LEN as usize + 77)
}

fn publish(bed: &Bed, content: &Content, as_name: &PublishName) -> Published {
    let partial = bed.open(content);
    content.write_all(&partial);
    partial.publish(as_name).unwrap()
}

/// Fault 32.
#[test]
fn every_size_arrives_as_it_was() {
    let group = GROUP_LEN as usize;
    for size in [0, 1, 1023, 1024, 1025, group - 1, group, group + 1, 3 * group, 3 * group + 1] {
        let bed = Bed::new();
        let content = Content::random(size);
        let published = publish(&bed, &content, &name("a.bin"));
        assert_eq!(
            published,
            Published { path: bed.inbox().join("a.bin"), name: "a.bin".into(), ..Published::default() }
        );
        assert_eq!(read(&published.path), content.bytes, "{size}");
        assert!(!bed.inbox().join(PARTIALS).exists(), "nothing is left beside it");
        assert!(bed.store.has_durably(&published.path, content.id, size as u64, Trust::Cache).unwrap());
    }
}

/// Faults 2 and 6.
#[test]
fn data_is_synced_before_the_rename_and_folders_after_it() {
    let bed = Bed::new();
    let content = Content::random(1000);
    let partial = bed.open(&content);
    content.write_all(&partial);
    bed.disk.trace();
    partial.publish(&name("x")).unwrap();
    let mut trace = bed.disk.trace();
    trace.retain(|said| !said.is_empty());
    let unlinks = ["unlink"];
    assert_eq!(trace[..4], ["sync part", "rename", "sync box/", "sync .p2p/"]);
    assert_eq!(trace[4..], unlinks);
}

/// Fault 6.
#[test]
fn where_it_is_about_to_be_is_said_before_it_is_there() {
    let bed = Bed::new();
    let content = small();
    let publish = |as_name: PublishName| {
        let partial = bed.open(&content);
        content.write_all(&partial);
        let said = std::cell::RefCell::new(Vec::new());
        let note = |path: &Path| said.borrow_mut().push((path.to_owned(), path.exists()));
        (partial.publish_noting(&as_name, &note).unwrap().path, said.into_inner())
    };
    std::fs::create_dir_all(bed.inbox()).unwrap();
    std::fs::write(bed.inbox().join("a.txt"), b"mine").unwrap();
    let numbered = bed.inbox().join("a (1).txt");
    assert_eq!(publish(name("a.txt")), (numbered.clone(), vec![(numbered.clone(), false)]));
    assert_eq!(publish(name("a.txt")), (numbered, Vec::new()), "it was there before");
    let older = bed.inbox().join("a.txt");
    assert_eq!(publish(PublishName::Instead("a.txt".into())), (older.clone(), vec![(older, true)]));
}

#[test]
fn what_is_left_of_a_file_stays_where_a_record_tells_of_it() {
    for recorded in [false, true] {
        let bed = Bed::new();
        let content = Content::random(4 * GROUP_LEN as usize);
        let partial = bed.open(&content);
        partial.write(content.chunk(1)).unwrap();
        partial.checkpoint().unwrap();
        partial.write(content.chunk(3)).unwrap();
        if recorded {
            partial.checkpoint().unwrap();
        }
        // Killed here.
        drop(partial);
        let partial = bed.open(&content);
        assert_eq!(partial.doubtful(), set([1, 3]));
        assert!(partial.recheck(1, content.expected(1)).unwrap());
        partial.publish_bytes(&name("x"), GROUP_LEN..2 * GROUP_LEN).unwrap();
        assert_eq!(bed.partial_file(&content, PART).exists(), recorded);
    }
}

/// Faults 2 and 6.
#[test]
fn some_bytes_of_a_file_are_synced_before_the_rename_and_their_name_after_it() {
    let bed = Bed::new();
    let content = Content::random(4 * GROUP_LEN as usize);
    let partial = bed.open(&content);
    partial.write(content.chunk(1)).unwrap();
    bed.disk.trace();
    let range = GROUP_LEN + 7..2 * GROUP_LEN - 1;
    let path = partial.publish_bytes(&name("x"), range.clone()).unwrap().path;
    assert_eq!(read(&path), content.bytes[range.start as usize..range.end as usize]);
    let mut trace = bed.disk.trace();
    trace.retain(|said| !said.is_empty());
    let rename = trace.iter().position(|said| said == "rename").unwrap();
    assert_eq!(trace[rename - 1], "sync cut");
    assert_eq!(trace[rename + 2..rename + 4], ["sync box/", "sync .p2p/"], "{trace:?}");
}

/// Fault 23.
#[test]
fn some_bytes_of_a_file_follow_the_rules_for_a_whole_one() {
    for without_no_replace in [false, true] {
        let bed = Bed::new();
        let cut = |content: &Content| {
            let partial = bed.open(content);
            partial.write(content.chunk(0)).unwrap();
            partial.publish_bytes(&name("x"), 10..GROUP_LEN - 10)
        };
        let (content, other) =
            (Content::random(3 * GROUP_LEN as usize), Content::new(noise(2 * GROUP_LEN as usize, 7)));
        bed.disk.fail(Op::Rename, Errno::IO, 0, 1);
        let error = cut(&content).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
        assert!(!bed.inbox().join("x").exists());
        if without_no_replace {
            bed.disk.fail(Op::Rename, Errno::INVAL, 0, 99);
        }
        for (content, new, already) in
            [(&content, "x", false), (&content, "x", true), (&other, "x (1)", false)]
        {
            let published = cut(content).unwrap();
            let path = bed.inbox().join(new);
            assert_eq!((&*published.name, &published.path, published.already), (new, &path, already));
            assert_eq!(read(&path), content.bytes[10..GROUP_LEN as usize - 10]);
            let found = std::fs::metadata(&path).unwrap();
            assert_eq!((found.mode() & 0o777, found.nlink()), (0o666 & !umask(), 1));
        }
        assert!(bed.leftovers().is_empty(), "{:?}", bed.leftovers());
    }
}

/// Fault 23.
#[test]
fn nothing_is_replaced() {
    let bed = Bed::new();
    let content = small();
    std::fs::create_dir_all(bed.inbox()).unwrap();
    std::fs::write(bed.inbox().join("a.txt"), b"mine").unwrap();
    symlink(bed.inbox().join("a.txt"), bed.inbox().join("a (1).txt")).unwrap();
    std::fs::create_dir(bed.inbox().join("a (2).txt")).unwrap();
    let published = publish(&bed, &content, &name("a.txt"));
    assert_eq!((published.name.as_str(), published.already), ("a (3).txt", false));
    assert_eq!(read(&bed.inbox().join("a.txt")), b"mine");
    assert!(bed.inbox().join("a (1).txt").is_symlink());

    let again = publish(&bed, &content, &name("a.txt"));
    assert_eq!((again.name.as_str(), again.already), ("a (3).txt", true));
    assert!(!bed.inbox().join(PARTIALS).exists());
}

/// Fault 56.
#[test]
fn only_the_file_that_was_verified_gets_the_name() {
    let bed = Bed::new();
    let content = small();
    let victim = bed.file("victim", b"precious");
    let partial = bed.open(&content);
    content.write_all(&partial);
    let part = bed.partial_file(&content, PART);
    for planted in ["link", "file"] {
        std::fs::rename(&part, bed.inbox().join("aside")).unwrap();
        match planted {
            "link" => symlink(&victim, &part).unwrap(),
            _ => std::fs::write(&part, b"something else").unwrap(),
        }
        let error = partial.publish(&name("a.txt")).unwrap_err();
        assert!(matches!(error, StoreError::Removed { .. }), "{planted}: {error}");
        assert!(bed.inbox().join("a.txt").symlink_metadata().is_err(), "{planted} got the name");
        std::fs::rename(bed.inbox().join("aside"), &part).unwrap();
    }
    assert_eq!(partial.publish(&name("a.txt")).unwrap().name, "a.txt");
    assert_eq!(read(&bed.inbox().join("a.txt")), content.bytes);
    assert_eq!(read(&victim), b"precious");
}

#[test]
fn a_name_given_by_the_owner_follows_the_same_rule() {
    let bed = Bed::new();
    let content = small();
    let odd = std::ffi::OsString::from_vec(b"od\xffd:name".to_vec());
    let exactly = PublishName::Exactly(odd.clone());
    assert_eq!(publish(&bed, &content, &exactly).path, bed.inbox().join(&odd));
    assert!(publish(&bed, &content, &exactly).already);
    let other = Content::random(5);
    let numbered = std::ffi::OsString::from_vec(b"od\xffd:name (1)".to_vec());
    assert_eq!(publish(&bed, &other, &exactly).path, bed.inbox().join(numbered));
    for bad in ["", "..", "a/b"] {
        let partial = bed.open(&other);
        other.write_all(&partial);
        assert!(partial.publish(&PublishName::Exactly(bad.into())).is_err(), "{bad:?}");
    }
}

#[test]
fn identical_content_that_is_there_is_made_durable() {
    let bed = Bed::new();
    let content = small();
    std::fs::create_dir_all(bed.inbox()).unwrap();
    std::fs::write(bed.inbox().join("x"), &content.bytes).unwrap();
    let partial = bed.open(&content);
    content.write_all(&partial);
    bed.disk.trace();
    assert!(partial.publish(&name("x")).unwrap().already);
    let mut trace = bed.disk.trace();
    let syncs = trace.iter().filter(|said| said.starts_with("sync")).count();
    assert_eq!(syncs, 4, "{trace:?}");
    trace.retain(|said| !said.is_empty());
    let removal = trace.split_off(trace.len() - 4);
    assert_eq!(removal, ["unlink", "sync .p2p/", "unlink", "unlink"], "data never stays without its log");
}

/// A daemon that was killed between its rename and the sync of the folder has left a name that the next one finds.
#[test]
fn what_is_found_under_its_name_is_durable_before_it_counts() {
    let bed = Bed::new();
    let content = small();
    let path = publish(&bed, &content, &name("x")).path;
    bed.disk.trace();
    assert!(bed.store.has_durably(&path, content.id, content.geometry.size(), Trust::Cache).unwrap());
    let syncs: Vec<_> = bed.disk.trace().into_iter().filter(|said| said.starts_with("sync")).collect();
    assert_eq!(syncs, ["sync ", "sync box/"]);
    for op in [Op::SyncAll, Op::SyncFolder] {
        bed.disk.fail(op, Errno::IO, 0, 1);
        let error =
            bed.store.has_durably(&path, content.id, content.geometry.size(), Trust::Cache).unwrap_err();
        assert!(error.to_string().contains("sync"), "{error}");
    }
}

/// Fault 58.
#[test]
fn mode_and_time_are_those_that_were_asked_for() {
    let bed = Bed::new();
    let content = small();
    let allowed = 0o777 & !umask();
    for (executable, mode) in [(true, allowed), (false, allowed & 0o666)] {
        let modified_ns = Some(-1_500_000_000);
        let spec = PartialSpec { executable, modified_ns, ..bed.spec(&content) };
        let partial = bed.store.open_partial(spec).unwrap();
        let hidden = std::fs::metadata(bed.partial_file(&content, PART)).unwrap();
        assert_eq!(hidden.mode() & 0o777, 0o600);
        content.write_all(&partial);
        let published = partial.publish(&name(&format!("x{executable}"))).unwrap();
        let found = std::fs::metadata(published.path).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, mode);
        assert_eq!(found.modified().unwrap(), UNIX_EPOCH - Duration::from_millis(1500));
    }
}

#[test]
fn the_umask_is_read_without_being_changed() {
    let before = umask();
    assert_eq!(before, umask());
    assert!(before <= 0o777);
}

#[test]
fn a_reservation_that_comes_late_does_not_touch_what_is_published() {
    use std::os::unix::fs::MetadataExt;
    let bed = Bed::new();
    let content = Content::random(GROUP_LEN as usize);
    let spec = PartialSpec { modified_ns: Some(1_000_000_000), ..bed.spec(&content) };
    let partial = bed.store.open_partial(spec).unwrap();
    content.write_all(&partial);
    let published = partial.publish(&name("a")).unwrap();
    let before = bed.disk.count(faulty::Op::Reserve);
    partial.reserve(content.geometry.size()).unwrap();
    assert_eq!(bed.disk.count(faulty::Op::Reserve), before);
    assert_eq!(std::fs::metadata(published.path).unwrap().mtime(), 1);
}

#[test]
fn a_published_file_is_served_without_being_read() {
    let bed = Bed::new();
    let content = small();
    let spec = PartialSpec { modified_ns: Some(1_000_000_000), ..bed.spec(&content) };
    let partial = bed.store.open_partial(spec).unwrap();
    content.write_all(&partial);
    partial.park().unwrap();
    let published = partial.publish(&name("x")).unwrap();
    let before = bed.disk.bytes_read();
    let source = bed.store.reopen(&published.path, &Excludes::none(), content.id, &|_| true).unwrap();
    assert_eq!(bed.disk.bytes_read() - before, content.geometry.list_len());
    assert_eq!(source.page(content.geometry, 0).unwrap(), content.chunks);
    // Somebody writes to it at once: in the same tick of the clock, the change time would not tell.
    std::fs::write(&published.path, &content.bytes[1..]).unwrap();
    assert!(bed.store.reopen(&published.path, &Excludes::none(), content.id, &|_| true).is_err());
}

#[test]
fn a_published_file_whose_time_is_recent_is_hashed_when_it_is_served() {
    let bed = Bed::new();
    let content = small();
    let spec = PartialSpec { modified_ns: Some(crate::store::import::now_ns()), ..bed.spec(&content) };
    let partial = bed.store.open_partial(spec).unwrap();
    content.write_all(&partial);
    let published = partial.publish(&name("x")).unwrap();
    let before = bed.disk.bytes_read();
    bed.store.reopen(&published.path, &Excludes::none(), content.id, &|_| true).unwrap();
    assert!(bed.disk.bytes_read() - before >= content.geometry.size());
}

#[test]
fn values_that_are_damaged_are_not_kept() {
    let bed = Bed::new();
    let content = small();
    let spec = PartialSpec { modified_ns: Some(1_000_000_000), ..bed.spec(&content) };
    let partial = bed.store.open_partial(spec).unwrap();
    content.write_all(&partial);
    std::fs::write(bed.partial_file(&content, CVS), [0; 96]).unwrap();
    let published = partial.publish(&name("x")).unwrap();
    assert!(!bed.store.inner.home.list(content.id).exists());
    let source = bed.store.reopen(&published.path, &Excludes::none(), content.id, &|_| true).unwrap();
    assert_eq!(source.page(content.geometry, 0).unwrap(), content.chunks);
}

#[test]
fn what_is_missing_is_not_published() {
    let bed = Bed::new();
    let content = small();
    let partial = bed.open(&content);
    partial.write(content.chunk(1)).unwrap();
    match partial.publish(&name("x")).unwrap_err() {
        StoreError::SyncFailed { lost, .. } => assert_eq!(lost, set([0, 2])),
        other => panic!("{other}"),
    }
    assert!(!bed.inbox().join("x").exists());
}

#[test]
fn an_empty_file_cannot_pass_for_another_one() {
    let bed = Bed::new();
    let empty = Content::new(Vec::new());
    let spec = bed.spec(&empty);
    let key = PartialKey::Fetched(FileId([1; 32]));
    let partial = bed.store.open_partial(PartialSpec { key, ..spec }).unwrap();
    let error = partial.publish(&name("x")).unwrap_err();
    assert_eq!(error.failure(), Failure::Integrity);
    assert!(!bed.inbox().join("x").exists());
}

#[test]
fn a_failed_sync_of_the_data_publishes_nothing() {
    let bed = Bed::new();
    let content = small();
    let partial = bed.open(&content);
    content.write_all(&partial);
    bed.disk.fail(Op::SyncAll, Errno::IO, 0, 1);
    match partial.publish(&name("x")).unwrap_err() {
        StoreError::SyncFailed { lost, .. } => assert_eq!(lost, set(0..3)),
        other => panic!("{other}"),
    }
    assert!(!bed.inbox().join("x").exists());
    content.write_all(&partial);
    assert_eq!(read(&partial.publish(&name("x")).unwrap().path), content.bytes);
}

/// Fault 6.
#[test]
fn a_rename_that_cannot_be_synced_is_made_again() {
    let bed = Bed::new();
    let content = small();
    let partial = bed.open(&content);
    content.write_all(&partial);
    partial.checkpoint().unwrap();
    bed.disk.fail(Op::SyncFolder, Errno::IO, 0, 1);
    let renames = bed.disk.count(Op::Rename);
    assert_eq!(read(&partial.publish(&name("x")).unwrap().path), content.bytes);
    assert_eq!(bed.disk.count(Op::Rename) - renames, 3, "there, back, and there");

    let other = Content::random(300);
    let partial = bed.open(&other);
    other.write_all(&partial);
    partial.checkpoint().unwrap();
    bed.disk.fail(Op::SyncFolder, Errno::IO, 0, 2);
    let error = partial.publish(&name("y")).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(!bed.inbox().join("y").exists());
    assert_eq!(read(&partial.publish(&name("y")).unwrap().path), other.bytes);
}

#[test]
fn a_file_system_without_no_replace_gets_a_link() {
    for errno in [Errno::INVAL, Errno::NOSYS] {
        let bed = Bed::new();
        let content = small();
        bed.disk.fail(Op::Rename, errno, 0, 99);
        let published = publish(&bed, &content, &name("x"));
        assert_eq!(read(&published.path), content.bytes);
        assert_eq!(std::fs::metadata(&published.path).unwrap().nlink(), 1);
        assert!(publish(&bed, &content, &name("x")).already);
        assert_eq!(publish(&bed, &Content::random(9), &name("x")).name, "x (1)");
        let other = Content::random(10);
        let partial = bed.open(&other);
        other.write_all(&partial);
        partial.checkpoint().unwrap();
        bed.disk.fail(Op::SyncFolder, Errno::IO, 0, 1);
        assert_eq!(read(&partial.publish(&name("y")).unwrap().path), other.bytes);
    }
}

/// Fault 6.
#[test]
fn a_crash_between_link_and_unlink_leaves_the_published_file_alone() {
    let bed = Bed::new();
    let content = small();
    let partial = bed.open(&content);
    content.write_all(&partial);
    partial.park().unwrap();
    drop(partial);
    let published = bed.inbox().join("x");
    std::fs::hard_link(bed.partial_file(&content, PART), &published).unwrap();
    let partial = bed.open(&content);
    assert!(partial.verified().is_empty());
    assert_eq!(read(&published), content.bytes);
    drop(partial);
    assert!(bed.store.has_durably(&published, content.id, content.geometry.size(), Trust::Cache).unwrap());
}

/// Fault 6.
#[test]
fn a_crash_after_the_rename_leaves_the_file_and_what_is_swept() {
    for removed in 0..2 {
        let bed = Bed::new();
        let content = small();
        let partial = bed.open(&content);
        content.write_all(&partial);
        partial.park().unwrap();
        drop(partial);
        // The steps of publishing, up to the crash.
        let published = bed.inbox().join("x");
        std::fs::rename(bed.partial_file(&content, PART), &published).unwrap();
        if removed > 0 {
            std::fs::remove_file(bed.partial_file(&content, CVS)).unwrap();
        }
        assert!(
            bed.store.has_durably(&published, content.id, content.geometry.size(), Trust::Cache).unwrap()
        );
        assert!(!bed.inbox().join(PARTIALS).exists(), "swept: {:?}", bed.leftovers());
    }
}

#[test]
fn what_a_crash_left_is_swept_by_the_next_transfer() {
    let bed = Bed::new();
    let (content, other) = (small(), Content::random(10));
    let partial = bed.open(&content);
    content.write_all(&partial);
    partial.park().unwrap();
    drop(partial);
    std::fs::rename(bed.partial_file(&content, PART), bed.inbox().join("x")).unwrap();
    let running = bed.open(&other);
    assert!(
        bed.leftovers().iter().all(|name| name.starts_with(&other.id.to_string())),
        "{:?}",
        bed.leftovers()
    );
    drop(running);

    let partial = bed.open(&content);
    assert!(partial.verified().is_empty() && partial.doubtful().is_empty());
    content.write_all(&partial);
    assert!(partial.publish(&name("x")).unwrap().already);
    assert!(!bed.inbox().join(PARTIALS).exists());
}

#[test]
fn the_sweep_leaves_a_partial_alone_that_is_being_opened() {
    let bed = Bed::new();
    let content = small();
    std::fs::create_dir_all(bed.inbox().join(PARTIALS)).unwrap();
    let log = bed.partial_file(&content, LOG);
    let held = std::fs::File::create(&log).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let _other = bed.open(&Content::random(10));
    assert!(log.exists());
}

#[test]
fn values_that_a_power_cut_left_alone_are_swept() {
    let bed = Bed::new();
    std::fs::create_dir_all(bed.inbox().join(PARTIALS)).unwrap();
    let values = bed.partial_file(&small(), CVS);
    std::fs::write(&values, [1; 32]).unwrap();
    let _other = bed.open(&Content::random(10));
    assert!(!values.exists() && !bed.partial_file(&small(), LOG).exists());
}

#[test]
fn a_published_partial_has_ended() {
    let bed = Bed::new();
    let content = small();
    let partial = bed.open(&content);
    content.write_all(&partial);
    let published = partial.publish(&name("x")).unwrap();
    assert!(partial.publish(&name("y")).is_err());
    partial.park().unwrap();
    partial.discard().unwrap();
    drop(partial);
    assert_eq!(read(&published.path), content.bytes);
}
