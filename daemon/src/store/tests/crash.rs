//! Random lives of a partial with crashes in them: whatever happens, a chunk that counts has the right bytes.

use proptest::prelude::*;

use super::{faulty::Op, *};
use crate::store::layout::LOG;

const CHUNKS: u32 = 6;

#[derive(Clone, Debug)]
enum Step {
    Write(u32),
    Checkpoint,
    FailingCheckpoint,
    Park,
    /// The daemon is killed; the page cache stays.
    Kill,
    /// The power fails; of what was not synced, a part chosen by these bits is kept.
    PowerLoss(u64),
    /// Killed, and the log is cut at this part of its length.
    TornLog(f64),
    /// Killed, and a byte of the log is damaged.
    DamagedLog(f64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..CHUNKS).prop_map(Step::Write),
        3 => Just(Step::Checkpoint),
        1 => Just(Step::FailingCheckpoint),
        2 => Just(Step::Park),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::PowerLoss),
        1 => (0.0..1.0).prop_map(Step::TornLog),
        1 => (0.0..1.0).prop_map(Step::DamagedLog),
    ]
}

/// Noise, zeros and a short tail.
fn content() -> Content {
    let mut bytes = noise((CHUNKS as usize - 1) * GROUP_LEN as usize + 4321, 3);
    let group = GROUP_LEN as usize;
    bytes[2 * group..3 * group].fill(0);
    Content::new(bytes)
}

/// Every chunk that is believed at opening must be on the disk, byte for byte; what is doubtful is hashed, and
/// must then be there too.
fn open_and_check(bed: &Bed, content: &Content) -> Partial {
    let partial = bed.open(content);
    let data = read(&bed.partial_file(content, layout::PART));
    for chunk in partial.verified().iter() {
        let range = content.geometry.bytes_of(chunk);
        assert_eq!(&data[range.start as usize..range.end as usize], content.part(chunk), "chunk {chunk}");
    }
    partial
}

fn recheck(partial: &Partial, content: &Content) {
    for chunk in partial.doubtful().iter() {
        if partial.recheck(chunk, content.expected(chunk)).unwrap() {
            assert_eq!(partial.read(chunk).unwrap(), content.part(chunk));
        }
    }
}

fn change_log(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    if let Ok(mut log) = std::fs::read(path) {
        change(&mut log);
        std::fs::write(path, log).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Faults 2, 3, 4 and 5.
    #[test]
    fn a_chunk_that_counts_has_the_right_bytes(
        steps in prop::collection::vec((step(), any::<bool>()), 1..40),
    ) {
        let bed = Bed::new();
        let content = content();
        let log = bed.partial_file(&content, LOG);
        let mut partial = Some(open_and_check(&bed, &content));
        // What a checkpoint returned, and nothing but damage to the log may take back.
        let mut durable = set([]);
        for (step, rechecks) in steps {
            let running = partial.as_ref().unwrap();
            match step {
                Step::Write(chunk) => {
                    running.write(content.chunk(chunk)).unwrap();
                    // A claim is withdrawn before its chunk is written again.
                    if running.doubtful().contains(chunk) {
                        durable.remove(chunk);
                    }
                    continue;
                }
                Step::Checkpoint => { durable = running.checkpoint().unwrap(); continue }
                Step::FailingCheckpoint => {
                    bed.disk.fail(Op::SyncData, rustix::io::Errno::IO, 0, 1);
                    if let Err(StoreError::SyncFailed { lost, .. }) = running.checkpoint() {
                        durable.subtract(&lost);
                    }
                    bed.disk.heal();
                    continue;
                }
                Step::Park => { running.park().unwrap(); partial = None }
                Step::Kill => partial = None,
                Step::PowerLoss(bits) => {
                    partial = None;
                    let mut n = 0;
                    bed.disk.power_loss(|| { n += 1; bits >> (n % 64) & 1 == 1 });
                }
                Step::TornLog(at) => {
                    partial = None;
                    change_log(&log, |log| log.truncate((log.len() as f64 * at) as usize));
                    durable = set([]);
                }
                Step::DamagedLog(at) => {
                    partial = None;
                    change_log(&log, |log| {
                        let at = (log.len() as f64 * at) as usize;
                        if let Some(byte) = log.get_mut(at) { *byte ^= 0x55 }
                    });
                    durable = set([]);
                }
            }
            prop_assert!(partial.is_none());
            let opened = open_and_check(&bed, &content);
            let mut known = opened.verified();
            known.union(&opened.doubtful());
            let mut forgotten = durable.clone();
            forgotten.subtract(&known);
            prop_assert!(forgotten.is_empty(), "durable chunks {forgotten:?} are not even looked at");
            if rechecks {
                for chunk in durable.iter().filter(|chunk| opened.doubtful().contains(*chunk)) {
                    prop_assert!(opened.recheck(chunk, content.expected(chunk)).unwrap(), "chunk {chunk}");
                }
                recheck(&opened, &content);
            }
            partial = Some(opened);
        }
        let partial = partial.unwrap();
        recheck(&partial, &content);
        content.write_all(&partial);
        let published = partial.publish(&name("x")).unwrap();
        prop_assert!(read(&published.path) == content.bytes);
        bed.disk.power_loss(|| false);
        prop_assert!(read(&published.path) == content.bytes, "a published file survives a power cut");
    }
}
