use rustix::io::Errno;

use super::{faulty::Op, *};
use crate::store::layout::LOG;

fn eight() -> Content {
    Content::random(8 * GROUP_LEN as usize)
}

fn lost(error: StoreError) -> p2p_protocol::ChunkSet {
    match error {
        StoreError::SyncFailed { lost, .. } => lost,
        other => panic!("{other}"),
    }
}

/// Fault 16.
#[test]
fn a_failed_sync_loses_its_window_and_nothing_else() {
    let bed = Bed::new();
    let content = eight();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    partial.checkpoint().unwrap();
    partial.write(content.chunk(1)).unwrap();
    partial.write(content.chunk(2)).unwrap();
    bed.disk.fail(Op::SyncData, Errno::IO, 0, 1);
    assert_eq!(lost(partial.checkpoint().unwrap_err()), set([1, 2]));
    assert_eq!(partial.checkpoint().unwrap(), set([0]));
    assert!(partial.read(1).is_err());
    partial.write(content.chunk(1)).unwrap();
    assert_eq!(partial.checkpoint().unwrap(), set([0, 1]));
    drop(partial);

    bed.disk.power_loss(|| false);
    let partial = bed.open(&content);
    let good: Vec<u32> =
        (0..8).filter(|chunk| partial.recheck(*chunk, content.expected(*chunk)).unwrap()).collect();
    assert_eq!(good, [0, 1]);
}

/// A hole that was punched shows as one also where the disk never heard of it.
/// Fault 16.
#[test]
fn zeros_are_made_again_after_a_failed_sync() {
    let bed = Bed::new();
    let content = Content::new(vec![0; 4 * GROUP_LEN as usize]);
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    assert_eq!(bed.disk.count(Op::Punch), 0);
    // Something else was there, and durable.
    let file = std::fs::File::options().write(true).open(bed.partial_file(&content, ".part")).unwrap();
    bed.disk.write_at(&file, &[7; 4096], GROUP_LEN).unwrap();
    bed.disk.sync_all(&file).unwrap();
    partial.write(content.chunk(1)).unwrap();
    assert_eq!(partial.read(1).unwrap(), content.part(1));
    bed.disk.fail(Op::SyncAll, Errno::IO, 0, 1);
    assert_eq!(lost(partial.checkpoint().unwrap_err()), set([0, 1]));
    partial.write(content.chunk(1)).unwrap();
    assert_eq!(partial.checkpoint().unwrap(), set([1]));
    drop(partial);
    bed.disk.power_loss(|| false);
    let partial = bed.open(&content);
    assert!(partial.recheck(1, content.expected(1)).unwrap());
}

/// A content that ends with a hole has its length from nothing else.
/// Fault 16.
#[test]
fn the_length_is_set_again_after_a_failed_sync_and_after_a_crash() {
    let bed = Bed::new();
    let mut bytes = vec![0; 4 * GROUP_LEN as usize];
    bytes[..GROUP_LEN as usize].fill(7);
    let content = Content::new(bytes);
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    bed.disk.fail(Op::SyncAll, Errno::IO, 0, 1);
    partial.checkpoint().unwrap_err();
    partial.write(content.chunk(0)).unwrap();
    bed.disk.trace();
    partial.checkpoint().unwrap();
    assert_eq!(bed.disk.trace()[..2], ["size part", "sync part"]);
    partial.write(content.chunk(1)).unwrap();
    partial.checkpoint().unwrap();
    assert!(!bed.disk.trace().contains(&"size part".to_owned()));
    drop(partial);

    // Whether an earlier daemon saw a sync fail, nobody knows.
    let partial = bed.open(&content);
    assert!(partial.recheck(0, content.expected(0)).unwrap());
    bed.disk.trace();
    partial.checkpoint().unwrap();
    assert_eq!(bed.disk.trace()[..2], ["size part", "sync part"]);
}

#[test]
fn what_was_written_while_the_failing_sync_ran_is_lost_too() {
    // The kernel tells of an error once, for all pages: one of a chunk that was written meanwhile may be among them.
    let bed = Bed::new();
    let content = Arc::new(eight());
    let partial = Arc::new(bed.open(&content));
    partial.write(content.chunk(0)).unwrap();
    partial.checkpoint().unwrap();
    partial.write(content.chunk(1)).unwrap();
    bed.disk.fail(Op::SyncData, Errno::IO, 0, 1);
    let (writer, source) = (partial.clone(), content.clone());
    bed.disk.at_next(Op::SyncData, move || writer.write(source.chunk(2)).unwrap());
    assert_eq!(lost(partial.checkpoint().unwrap_err()), set([1, 2]));
}

#[test]
fn a_write_that_saw_a_failed_sync_is_done_again() {
    let bed = Bed::new();
    let content = Arc::new(eight());
    let partial = Arc::new(bed.open(&content));
    partial.write(content.chunk(0)).unwrap();
    partial.checkpoint().unwrap();
    partial.write(content.chunk(1)).unwrap();
    bed.disk.fail(Op::SyncData, Errno::IO, 0, 1);
    // The sync fails in the middle of the next write.
    let other = partial.clone();
    let half_way = move || assert_eq!(lost(other.checkpoint().unwrap_err()), set([1]));
    let writes = bed.disk.count(Op::Write);
    bed.disk.at_next(Op::Write, half_way);
    partial.write(content.chunk(2)).unwrap();
    assert!(bed.disk.count(Op::Write) >= writes + 6, "two pieces and the values, twice");
    assert_eq!(partial.checkpoint().unwrap(), set([0, 2]));
    drop(partial);
    bed.disk.power_loss(|| false);
    let partial = bed.open(&content);
    assert!(partial.recheck(2, content.expected(2)).unwrap());
    assert!(!partial.recheck(1, content.expected(1)).unwrap());
}

/// Fault 16.
#[test]
fn the_page_cache_is_no_proof_after_a_failed_sync() {
    let bed = Bed::new();
    let content = eight();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    partial.checkpoint().unwrap();
    partial.write(content.chunk(1)).unwrap();
    bed.disk.fail(Op::SyncData, Errno::IO, 0, 1);
    lost(partial.checkpoint().unwrap_err());
    drop(partial);
    // Killed: the bytes can still be read, and are not on the disk.
    let partial = bed.open(&content);
    assert!(partial.doubtful().contains(1));
    assert!(partial.recheck(1, content.expected(1)).unwrap());
    assert_eq!(partial.checkpoint().unwrap(), set([1]));
    drop(partial);
    bed.disk.power_loss(|| false);
    let partial = bed.open(&content);
    assert!(partial.recheck(1, content.expected(1)).unwrap(), "it was written anew before it counted");
}

/// Fault 16.
#[test]
fn a_claim_does_not_outlive_a_rewrite_whose_sync_fails() {
    use std::os::unix::fs::FileExt;
    let bed = Bed::new();
    let content = eight();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    partial.write(content.chunk(1)).unwrap();
    partial.checkpoint().unwrap();
    drop(partial);
    let data = std::fs::File::options().write(true).open(bed.partial_file(&content, layout::PART)).unwrap();
    // Damage that reached the disk.
    data.write_all_at(b"rot", 10).unwrap();
    bed.disk.power_loss(|| true);
    data.write_all_at(b"rot", 10).unwrap();

    let partial = bed.open(&content);
    assert!(!partial.recheck(0, content.expected(0)).unwrap());
    assert!(partial.recheck(1, content.expected(1)).unwrap());
    partial.checkpoint().unwrap();
    partial.write(content.chunk(0)).unwrap();
    bed.disk.fail(Op::SyncData, Errno::IO, 0, 1);
    lost(partial.checkpoint().unwrap_err());
    drop(partial);
    // The cache has the right bytes and the disk the damage; the log must not tip the balance.
    let partial = bed.open(&content);
    assert!(partial.recheck(0, content.expected(0)).unwrap());
    partial.checkpoint().unwrap();
    drop(partial);
    bed.disk.power_loss(|| false);
    let partial = bed.open(&content);
    assert!(partial.recheck(0, content.expected(0)).unwrap());
}

/// Fault 16.
#[test]
fn a_failed_sync_of_the_log_or_a_folder_loses_the_window_too() {
    for (op, after) in [(Op::SyncData, 0), (Op::SyncFolder, 0), (Op::SyncFolder, 1), (Op::SyncAll, 0)] {
        let bed = Bed::new();
        let content = eight();
        let partial = bed.open(&content);
        partial.write(content.chunk(0)).unwrap();
        bed.disk.fail(op, Errno::IO, after, 1);
        assert_eq!(lost(partial.checkpoint().unwrap_err()), set([0]), "{op:?} {after}");
        partial.write(content.chunk(0)).unwrap();
        partial.write(content.chunk(1)).unwrap();
        assert_eq!(partial.checkpoint().unwrap(), set([0, 1]));
        drop(partial);
        bed.disk.power_loss(|| false);
        assert_eq!(bed.open(&content).doubtful(), set([0, 1]));
    }
}

/// Faults 12 and 20.
#[test]
fn a_full_disk_loses_nothing_that_was_written() {
    let bed = Bed::new();
    let content = eight();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
        bed.disk.fail(Op::Write, errno, 1, 1);
        let error = partial.write(content.chunk(1)).unwrap_err();
        assert!(error.is_full() && !error.is_gone(), "{error}");
    }
    // Room for the data, none for the record.
    bed.disk.fail(Op::Write, Errno::NOSPC, 0, 1);
    assert!(partial.checkpoint().unwrap_err().is_full());
    assert_eq!(partial.checkpoint().unwrap(), set([0]));
    content.write_all(&partial);
    assert_eq!(partial.checkpoint().unwrap(), set(0..8));

    bed.disk.set_free(Some(0));
    assert!(partial.has_room(), "nothing is missing");
    let other =
        PartialSpec { key: PartialKey::Sent(content.id, anyone()), allocated: 0, ..bed.spec(&content) };
    let other = bed.store.open_partial(other).unwrap();
    assert!(!other.has_room());
    bed.disk.set_free(None);
    assert!(other.has_room());
}

/// Faults 15 and 17.
#[test]
fn an_io_error_while_writing_is_neither_full_nor_gone() {
    let bed = Bed::new();
    let content = eight();
    let partial = bed.open(&content);
    bed.disk.fail(Op::Write, Errno::IO, 0, 1);
    let error = partial.write(content.chunk(0)).unwrap_err();
    assert!(!error.is_full() && !error.is_gone());
    assert_eq!(error.failure(), p2p_protocol::reason::Failure::Storage);
    assert!(error.to_string().contains(".part"), "{error}");
    bed.disk.fail(Op::Write, Errno::INTR, 0, 3);
    partial.write(content.chunk(0)).unwrap();
    assert_eq!(partial.checkpoint().unwrap(), set([0]));
}

#[test]
fn a_stored_chunk_that_cannot_be_read_is_fetched_again() {
    let bed = Bed::new();
    let content = eight();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    partial.checkpoint().unwrap();
    drop(partial);
    let partial = bed.open(&content);
    bed.disk.fail(Op::Read, Errno::IO, 0, 1);
    assert!(!partial.recheck(0, content.expected(0)).unwrap());
    partial.write(content.chunk(0)).unwrap();
    assert_eq!(partial.checkpoint().unwrap(), set([0]));
}

#[test]
fn an_unreadable_log_stops_the_transfer_and_is_kept() {
    let bed = Bed::new();
    let content = eight();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    partial.park().unwrap();
    drop(partial);
    bed.disk.fail(Op::Read, Errno::IO, 0, 1);
    assert!(bed.store.open_partial(bed.spec(&content)).unwrap_err().to_string().contains(LOG));
    assert_eq!(bed.open(&content).verified(), set([0]));
}

/// Fault 15.
#[test]
fn a_disk_that_fails_at_any_one_point_never_leads_to_a_wrong_file() {
    // Each operation of a whole life, in turn, fails once; the life is then lived again until it ends well.
    let content = Content::random(2 * GROUP_LEN as usize + 5);
    let ops =
        [Op::Write, Op::SetLen, Op::SyncData, Op::SyncAll, Op::SyncFolder, Op::Rename, Op::Unlink, Op::Read];
    for op in ops {
        for at in 0.. {
            let bed = Bed::new();
            bed.disk.fail(op, Errno::IO, at, 1);
            let before = bed.disk.count(op);
            let published = (0..4).find_map(|_| live(&bed, &content).ok()).unwrap();
            assert_eq!(read(&published.path), content.bytes, "{op:?} {at}");
            if bed.disk.count(op) - before <= at {
                break;
            }
        }
    }
}

fn live(bed: &Bed, content: &Content) -> Result<Published, StoreError> {
    let partial = bed.store.open_partial(bed.spec(content))?;
    for chunk in partial.doubtful().iter() {
        partial.recheck(chunk, content.expected(chunk))?;
    }
    for chunk in 0..content.geometry.chunks() {
        partial.write(content.chunk(chunk))?;
        if chunk == 1 {
            partial.checkpoint()?;
        }
    }
    partial.publish(&name("x"))
}

#[test]
fn a_record_that_was_never_synced_is_written_again_by_the_next_run() {
    let bed = Bed::new();
    let content = eight();
    let partial = bed.open(&content);
    partial.write(content.chunk(0)).unwrap();
    // The first checkpoint syncs its data with `SyncAll`; this is the log's.
    bed.disk.fail(Op::SyncData, Errno::IO, 0, 1);
    lost(partial.checkpoint().unwrap_err());
    partial.write(content.chunk(1)).unwrap();
    drop(partial);
    // Killed: the record can be read back, and is not on the disk.
    let partial = bed.open(&content);
    assert!(partial.recheck(0, content.expected(0)).unwrap());
    assert_eq!(partial.checkpoint().unwrap(), set([0]));
    drop(partial);
    bed.disk.power_loss(|| false);
    let file = std::fs::File::open(bed.partial_file(&content, LOG)).unwrap();
    assert_eq!(log::Contents::read(&crate::disk::System, &file).unwrap().claimed, set([0]));
}
