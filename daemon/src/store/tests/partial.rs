use std::os::unix::fs::{FileExt, symlink};

use super::{faulty::Op, *};
use crate::store::{
    layout::{CVS, LOG, PART, PARTIALS},
    partial::State,
};

#[test]
fn chunks_count_once_a_checkpoint_has_returned_them() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    assert!(partial.verified().is_empty() && partial.doubtful().is_empty());
    partial.write(content.chunk(3)).unwrap();
    partial.write(content.chunk(0)).unwrap();
    partial.write(content.chunk(0)).unwrap();
    assert_eq!(partial.checkpoint().unwrap(), set([0, 3]));
    partial.write(content.chunk(4)).unwrap();
    assert_eq!(partial.read(4).unwrap(), content.part(4));
    assert!(partial.read(1).is_err(), "what was not verified is not given out");
    assert_eq!(partial.checkpoint().unwrap(), set([0, 3, 4]));
}

/// Fault 2.
#[test]
fn data_is_synced_before_the_record_and_the_folder_before_the_first() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    bed.disk.trace();
    let trace = |partial: &Partial| {
        partial.checkpoint().unwrap();
        let mut trace = bed.disk.trace();
        trace.retain(|said| !said.is_empty());
        trace
    };
    partial.write(content.chunk(4)).unwrap();
    let first = ["write part", "write cvs", "sync part", "sync .p2p/", "sync box/", "write log", "sync log"];
    assert_eq!(trace(&partial), first);
    partial.write(content.chunk(0)).unwrap();
    let next = ["write part", "write part", "write cvs", "sync part", "write log", "sync log"];
    assert_eq!(trace(&partial), next);
    assert_eq!(trace(&partial), [""; 0], "nothing new, nothing to do");
}

/// The header may be all that was written before the power failed.
///
/// Fault 2.
#[test]
fn a_log_without_a_record_says_nothing_of_the_folder() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    partial.write(content.chunk(4)).unwrap();
    partial.checkpoint().unwrap();
    drop(partial);
    let log = std::fs::File::options().write(true).open(bed.partial_file(&content, LOG)).unwrap();
    log.set_len(log::HEADER_LEN as u64).unwrap();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    bed.disk.trace();
    partial.checkpoint().unwrap();
    let trace = bed.disk.trace();
    assert!(trace.iter().any(|said| said == "sync .p2p/"), "{trace:?}");
}

#[test]
fn values_are_kept_of_all_but_what_is_its_own_list() {
    let bed = Bed::new();
    for (groups, kept) in [(1, false), (2, true), (3, true)] {
        let content = Content::random(groups * GROUP_LEN as usize);
        let partial = bed.open(&content);
        partial.write(content.chunk(0)).unwrap();
        assert_eq!(bed.partial_file(&content, CVS).exists(), kept, "{groups} groups");
    }
}

#[test]
fn new_folders_on_the_way_are_synced() {
    let bed = Bed::new();
    let content = five();
    bed.disk.trace();
    let root = bed.root.path().file_name().unwrap().to_str().unwrap().to_owned();
    let _partial = bed.open(&content);
    let trace = bed.disk.trace();
    let synced: Vec<_> = trace.iter().filter(|said| said.ends_with('/')).collect();
    assert_eq!(synced, [&format!("sync {root}/"), "sync in/"]);
}

#[test]
fn an_orderly_end_is_believed_without_reading() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    partial.write(content.chunk(1)).unwrap();
    partial.checkpoint().unwrap();
    partial.write(content.chunk(4)).unwrap();
    partial.park().unwrap();
    drop(partial);
    for _ in 0..2 {
        let partial = bed.open(&content);
        assert_eq!((partial.verified(), partial.doubtful()), (set([1, 4]), set([])));
        assert_eq!(partial.read(4).unwrap(), content.part(4));
    }
}

#[test]
fn an_unclean_end_makes_everything_doubtful() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    partial.write(content.chunk(1)).unwrap();
    partial.park().unwrap();
    partial.write(content.chunk(2)).unwrap();
    partial.checkpoint().unwrap();
    partial.write(content.chunk(3)).unwrap();
    drop(partial);

    let partial = bed.open(&content);
    assert_eq!((partial.verified(), partial.doubtful()), (set([]), set([1, 2, 3])));
    bed.disk.trace();
    assert!(partial.recheck(1, content.expected(1)).unwrap());
    assert!(!bed.disk.trace().contains(&"write part".into()), "a record proves that its data was synced");
    assert!(partial.recheck(3, content.expected(3)).unwrap());
    assert!(bed.disk.trace().contains(&"write part".into()), "nothing proves that of this one");
    assert!(!partial.recheck(2, content.expected(1)).unwrap());
    assert!(!partial.recheck(0, content.expected(0)).unwrap());
    assert_eq!(partial.checkpoint().unwrap(), set([1, 3]));
}

/// Fault 21.
#[test]
fn damage_to_the_data_is_found_and_mended() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    content.write_all(&partial);
    partial.park().unwrap();
    drop(partial);
    let data = std::fs::File::options().write(true).open(bed.partial_file(&content, PART)).unwrap();
    data.write_all_at(b"rot", 2 * GROUP_LEN + 77).unwrap();

    let partial = bed.open(&content);
    assert_eq!((partial.verified(), partial.doubtful()), (set([]), set(0..5)));
    let good: Vec<bool> =
        (0..5).map(|chunk| partial.recheck(chunk, content.expected(chunk)).unwrap()).collect();
    assert_eq!(good, [true, true, false, true, true]);
    bed.disk.trace();
    partial.write(content.chunk(2)).unwrap();
    let trace = bed.disk.trace();
    let withdrawn = trace.iter().position(|said| said == "sync log").unwrap();
    let written = trace.iter().position(|said| said == "write part").unwrap();
    assert!(withdrawn < written, "the old claim is withdrawn first");
    assert_eq!(partial.checkpoint().unwrap(), set(0..5));
    let published = partial.publish(&name("x")).unwrap();
    assert_eq!(read(&published.path), content.bytes);
}

#[test]
fn what_was_still_doubtful_at_an_orderly_end_stays_so() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    content.write_all(&partial);
    partial.checkpoint().unwrap();
    drop(partial);
    let partial = bed.open(&content);
    assert_eq!(partial.doubtful(), set(0..5));
    assert!(partial.recheck(1, content.expected(1)).unwrap());
    assert!(!partial.recheck(2, content.expected(3)).unwrap());
    partial.park().unwrap();
    drop(partial);
    let partial = bed.open(&content);
    assert_eq!((partial.verified(), partial.doubtful()), (set([1]), set([0, 3, 4])));
}

/// Fault 8.
#[test]
fn a_truncated_data_file_loses_only_what_was_cut() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    content.write_all(&partial);
    partial.park().unwrap();
    drop(partial);
    let data = std::fs::File::options().write(true).open(bed.partial_file(&content, PART)).unwrap();
    data.set_len(2 * GROUP_LEN + 5).unwrap();
    let partial = bed.open(&content);
    let good: Vec<bool> =
        (0..5).map(|chunk| partial.recheck(chunk, content.expected(chunk)).unwrap()).collect();
    assert_eq!(good, [true, true, false, false, false]);
}

#[test]
fn a_replaced_data_file_is_hashed_and_its_old_log_not_used() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    content.write_all(&partial);
    partial.park().unwrap();
    drop(partial);
    let path = bed.partial_file(&content, PART);
    std::fs::rename(&path, bed.path("moved")).unwrap();
    std::fs::copy(bed.path("moved"), &path).unwrap();
    let partial = bed.open(&content);
    assert_eq!((partial.verified(), partial.doubtful()), (set([]), set(0..5)));
    bed.disk.trace();
    assert!(partial.recheck(0, content.expected(0)).unwrap());
    assert!(bed.disk.trace().contains(&"write part".into()), "the copy may be in memory only");
}

/// Fault 4.
#[test]
fn the_log_may_be_cut_or_damaged_at_any_byte() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    let mut ends = vec![log::HEADER_LEN];
    let path = bed.partial_file(&content, LOG);
    for chunk in [0, 2, 4] {
        partial.write(content.chunk(chunk)).unwrap();
        partial.checkpoint().unwrap();
        ends.push(read(&path).len());
    }
    drop(partial);
    let whole = read(&path);
    let data = bed.partial_file(&content, PART);
    let damaged = |bytes: &[u8], at: usize| {
        std::fs::write(&path, bytes).unwrap();
        // Without extents, what is doubtful is what the log says.
        let file = std::fs::File::options().write(true).open(&data).unwrap();
        file.set_len(0).unwrap();
        file.set_len(content.geometry.size()).unwrap();
        let partial = bed.open(&content);
        let sound = ends.iter().filter(|end| **end <= at).count();
        let expected: Vec<u32> = [0, 2, 4].into_iter().take(sound.saturating_sub(1)).collect();
        assert_eq!((partial.verified(), partial.doubtful()), (set([]), set(expected)), "at {at}");
        // A record that follows is found again.
        partial.write(content.chunk(1)).unwrap();
        partial.checkpoint().unwrap();
        drop(partial);
        assert!(bed.open(&content).doubtful().contains(1), "at {at}");
    };
    for at in 0..whole.len() {
        damaged(&whole[..at], at);
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        damaged(&flipped, at);
    }
    let mut longer = whole.clone();
    longer.extend_from_slice(&[0xff; 40]);
    damaged(&longer, whole.len());
}

/// A damaged length costs no memory.
///
/// Fault 4.
#[test]
fn a_record_that_is_longer_than_any_is_not_read() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    partial.checkpoint().unwrap();
    drop(partial);
    let log = std::fs::File::options().write(true).open(bed.partial_file(&content, LOG)).unwrap();
    let end = log.metadata().unwrap().len();
    log.write_all_at(&(8u32 << 20).to_le_bytes(), end).unwrap();
    log.set_len(end + (9 << 20)).unwrap();
    let before = bed.disk.bytes_read();
    assert_eq!(bed.open(&content).doubtful(), set([0]));
    assert!(bed.disk.bytes_read() - before < 100_000, "{}", bed.disk.bytes_read() - before);
}

#[test]
fn a_record_left_behind_a_rewritten_one_is_not_its_successor() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    let path = bed.partial_file(&content, LOG);
    for chunk in [0, 1] {
        partial.write(content.chunk(chunk)).unwrap();
        partial.checkpoint().unwrap();
    }
    drop(partial);
    let old = read(&path);
    let record = (old.len() - log::HEADER_LEN) / 2;
    std::fs::write(&path, &old[..log::HEADER_LEN]).unwrap();
    let partial = bed.open(&content);
    partial.write(content.chunk(3)).unwrap();
    partial.checkpoint().unwrap();
    drop(partial);
    let mut mixed = read(&path);
    mixed.extend_from_slice(&old[log::HEADER_LEN + record..]);
    std::fs::write(&path, &mixed).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let contents = log::Contents::read(&crate::disk::System, &file).unwrap();
    assert_eq!(contents.claimed, set([3]));
}

#[test]
fn the_chunk_size_of_the_partial_wins() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    partial.write(content.chunk(2)).unwrap();
    partial.park().unwrap();
    drop(partial);
    let other = Geometry::new(content.geometry.size(), 20).unwrap();
    let partial = bed.store.open_partial(PartialSpec { geometry: other, ..bed.spec(&content) }).unwrap();
    assert_eq!(partial.layout().geometry(), content.geometry);
    assert_eq!(partial.verified(), set([2]));
}

/// Fault 46.
#[test]
fn a_size_that_was_proven_cannot_be_contradicted_and_one_that_was_not_can() {
    let bed = Bed::new();
    let content = five();
    let lie = Geometry::new(content.geometry.size() + GROUP_LEN, 18).unwrap();
    let lying = PartialSpec { geometry: lie, ..bed.spec(&content) };
    let partial = bed.store.open_partial(lying.clone()).unwrap();
    // All but the last chunk can be right in spite of the lie.
    let verified = tree::verify(lie, 1, content.expected(1), Bytes::copy_from_slice(content.part(1)));
    partial.write(verified.unwrap()).unwrap();
    partial.park().unwrap();
    drop(partial);

    let partial = bed.open(&content);
    assert_eq!(partial.layout().geometry(), content.geometry);
    assert_eq!(partial.doubtful(), set([1]));
    assert!(partial.recheck(1, content.expected(1)).unwrap());
    partial.write(content.chunk(4)).unwrap();
    partial.park().unwrap();
    drop(partial);
    let refused = bed.store.open_partial(lying).unwrap_err();
    assert!(matches!(refused, StoreError::SizeConflict { .. }), "{refused}");
    assert_eq!(bed.open(&content).verified(), set([1, 4]));
}

#[test]
fn zeros_replace_what_was_there() {
    for punch_works in [true, false] {
        let bed = Bed::new();
        let content = Content::new(vec![0; 2 * GROUP_LEN as usize]);
        drop(bed.open(&content));
        std::fs::create_dir_all(bed.inbox().join(PARTIALS)).unwrap();
        std::fs::write(bed.partial_file(&content, PART), noise(2 * GROUP_LEN as usize, 5)).unwrap();
        if !punch_works {
            bed.disk.fail(Op::Punch, rustix::io::Errno::OPNOTSUPP, 0, 9);
        }
        let partial = bed.open(&content);
        assert_eq!(partial.doubtful(), set([0, 1]));
        content.write_all(&partial);
        let published = partial.publish(&name("zeros")).unwrap();
        assert_eq!(read(&published.path), content.bytes);
    }
}

/// Fault 35.
#[test]
fn one_writer_at_a_time() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    let second = bed.store.open_partial(bed.spec(&content)).unwrap_err();
    assert!(matches!(second, StoreError::Busy { .. }), "{second}");
    let key = PartialKey::Fetched(content.id);
    assert!(matches!(bed.store.discard_partial(&bed.inbox(), &key).unwrap_err(), StoreError::Busy { .. }));
    let other = PartialKey::Sent(content.id, anyone());
    let other = PartialSpec { key: other, ..bed.spec(&content) };
    drop(bed.store.open_partial(other).unwrap());
    partial.write(content.chunk(0)).unwrap();
    partial.park().unwrap();
    drop(partial);
    assert_eq!(bed.open(&content).verified(), set([0]));
}

#[test]
fn a_partial_with_nothing_in_it_leaves_nothing() {
    let bed = Bed::new();
    let content = five();
    drop(bed.open(&content));
    assert!(!bed.inbox().join(PARTIALS).exists());
    bed.open(&content).park().unwrap();
    assert!(!bed.inbox().join(PARTIALS).exists());
}

#[test]
fn a_discarded_partial_leaves_nothing() {
    let bed = Bed::new();
    let content = five();
    let key = PartialKey::Fetched(content.id);
    for _ in 0..2 {
        let partial = bed.open(&content);
        partial.write(content.chunk(0)).unwrap();
        partial.park().unwrap();
        drop(partial);
        assert_eq!(bed.leftovers().len(), 3);
        bed.store.discard_partial(&bed.inbox(), &key).unwrap();
        assert!(!bed.inbox().join(PARTIALS).exists());
        bed.store.discard_partial(&bed.inbox(), &key).unwrap();
    }
    bed.store.discard_partial(&bed.path("nowhere"), &key).unwrap();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    partial.discard().unwrap();
    partial.discard().unwrap();
    partial.park().unwrap();
    drop(partial);
    assert!(!bed.inbox().join(PARTIALS).exists());
}

/// Fault 56.
#[test]
fn planted_links_are_not_followed() {
    let content = five();
    let precious = noise(100, 9);
    let bed = Bed::new();
    std::fs::create_dir_all(bed.path("elsewhere")).unwrap();
    std::fs::create_dir_all(bed.inbox()).unwrap();
    symlink(bed.path("elsewhere"), bed.inbox().join(PARTIALS)).unwrap();
    let refused = bed.store.open_partial(bed.spec(&content)).unwrap_err();
    assert!(matches!(refused, StoreError::Misplaced { .. }), "{refused}");
    assert_eq!(std::fs::read_dir(bed.path("elsewhere")).unwrap().count(), 0);
    std::fs::remove_file(bed.inbox().join(PARTIALS)).unwrap();

    for ending in [PART, LOG, CVS] {
        let bed = Bed::new();
        std::fs::create_dir_all(bed.inbox().join(PARTIALS)).unwrap();
        let target = bed.file("precious", &precious);
        symlink(&target, bed.partial_file(&content, ending)).unwrap();
        let refused = bed.store.open_partial(bed.spec(&content)).unwrap_err();
        assert!(
            matches!(refused, StoreError::Misplaced { what: "a symbolic link", .. }),
            "{ending}: {refused}"
        );
        assert_eq!(read(&target), precious);
    }
    for ending in [PART, LOG, CVS] {
        let bed = Bed::new();
        std::fs::create_dir_all(bed.inbox().join(PARTIALS)).unwrap();
        let target = bed.file("precious", &precious);
        std::fs::hard_link(&target, bed.partial_file(&content, ending)).unwrap();
        if let Ok(partial) = bed.store.open_partial(bed.spec(&content)) {
            content.write_all(&partial);
            partial.publish(&name("x")).unwrap();
        }
        assert_eq!(read(&target), precious, "{ending}");
    }
    for ending in [PART, LOG, CVS] {
        let bed = Bed::new();
        std::fs::create_dir_all(bed.inbox().join(PARTIALS)).unwrap();
        let pipe = bed.partial_file(&content, ending);
        rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let refused = bed.store.open_partial(bed.spec(&content)).unwrap_err();
        assert_eq!(refused.failure(), p2p_protocol::reason::Failure::Storage, "{ending}: {refused}");
        assert!(matches!(refused, StoreError::Misplaced { what: "a pipe or device", .. }), "{refused}");
    }
    for ending in [PART, LOG, CVS] {
        let bed = Bed::new();
        std::fs::create_dir_all(bed.partial_file(&content, ending)).unwrap();
        let refused = bed.store.open_partial(bed.spec(&content)).unwrap_err();
        assert!(matches!(refused, StoreError::Misplaced { what: "a folder", .. }), "{ending}: {refused}");
    }
}

#[test]
fn only_what_has_nothing_in_it_is_new() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    assert!(partial.is_new());
    partial.write(content.chunk(0)).unwrap();
    drop(partial);
    let partial = bed.open(&content);
    assert_eq!((partial.verified(), partial.claimed(), partial.doubtful()), (set([]), set([]), set([0])));
    assert!(!partial.is_new());
    assert!(partial.recheck(0, content.expected(0)).unwrap());
    partial.park().unwrap();
    drop(partial);
    let partial = bed.open(&content);
    assert_eq!((partial.verified(), partial.doubtful()), (set([0]), set([])));
    assert!(!partial.is_new());
}

#[test]
fn what_is_taken_back_is_looked_at_again_wherever_it_was() {
    let mut state = State::found(set([3]), set([]), set([]), true);
    state.pending = set([1, 4]);
    state.syncing = set([2, 4]);
    state.doubt_all(&set(0..5));
    assert!((0..5).all(|chunk| !state.is_stored(chunk)));
    assert_eq!((state.unchecked, state.claimed), (set([1, 2, 3, 4]), set([3])));
}

/// What the log says of a chunk that was found right, or not looked at yet, stays.
#[test]
fn only_claims_on_what_is_wrong_are_withdrawn() {
    let bed = Bed::new();
    let content = five();
    let partial = bed.open(&content);
    content.write_all(&partial);
    partial.checkpoint().unwrap();
    drop(partial);
    let partial = bed.open(&content);
    assert_eq!(partial.claimed(), set(0..5));
    for (chunk, other) in [(0, 0), (1, 2), (4, 0)] {
        assert_eq!(partial.recheck(chunk, content.expected(other)).unwrap(), chunk == other);
    }
    partial.write(content.chunk(1)).unwrap();
    let log = std::fs::File::open(bed.partial_file(&content, LOG)).unwrap();
    assert_eq!(log::Contents::read(&crate::disk::System, &log).unwrap().claimed, set([0, 2, 3]));
}

#[test]
fn a_hole_that_cannot_be_punched_is_an_error() {
    let bed = Bed::new();
    let content = Content::new(vec![0; 2 * GROUP_LEN as usize]);
    drop(bed.open(&content));
    std::fs::create_dir_all(bed.inbox().join(PARTIALS)).unwrap();
    std::fs::write(bed.partial_file(&content, PART), noise(2 * GROUP_LEN as usize, 5)).unwrap();
    let partial = bed.open(&content);
    bed.disk.fail(Op::Punch, rustix::io::Errno::IO, 0, 1);
    partial.write(content.chunk(0)).unwrap_err();
    partial.write(content.chunk(0)).unwrap();
}

#[test]
fn many_threads_write_while_checkpoints_run() {
    let bed = Bed::new();
    let content = Content::random(40 * GROUP_LEN as usize + 1);
    let partial = bed.open(&content);
    std::thread::scope(|scope| {
        for first in 0..4 {
            let (partial, content) = (&partial, &content);
            scope.spawn(move || {
                for chunk in (first..content.geometry.chunks()).step_by(4) {
                    partial.write(content.chunk(chunk)).unwrap();
                }
            });
        }
        for _ in 0..5 {
            partial.checkpoint().unwrap();
        }
    });
    assert_eq!(partial.checkpoint().unwrap(), set(0..41));
    let published = partial.publish(&name("x")).unwrap();
    assert_eq!(read(&published.path), content.bytes);
}

#[test]
fn transfers_that_end_do_not_pull_the_folder_from_under_others() {
    let bed = Bed::new();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let bed = &bed;
            scope.spawn(move || {
                let content = Content::new(noise(10, seed));
                for _ in 0..200 {
                    let partial = bed.open(&content);
                    content.write_all(&partial);
                    if seed % 2 == 0 {
                        partial.checkpoint().unwrap();
                    }
                    partial.discard().unwrap();
                }
            });
        }
    });
    assert!(!bed.inbox().join(PARTIALS).exists());
}

/// Fault 56.
#[test]
fn a_folder_of_partials_that_another_user_has_made_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a folder to somebody else");
        return;
    }
    let (bed, content) = (Bed::new(), five());
    let partials = bed.inbox().join(layout::PARTIALS);
    std::fs::create_dir_all(&partials).unwrap();
    std::os::unix::fs::chown(&partials, Some(65_534), None).unwrap();
    let ended = bed.store.open_partial(bed.spec(&content)).map(drop);
    assert!(matches!(&ended, Err(StoreError::Misplaced { path, .. }) if *path == partials), "{ended:?}");
    // On some file systems all has one owner.
    std::os::unix::fs::chown(bed.inbox(), Some(65_534), None).unwrap();
    bed.store.open_partial(bed.spec(&content)).unwrap();
}
