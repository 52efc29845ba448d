use std::{
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    sync::atomic::{AtomicU64, Ordering},
};

use p2p_protocol::{ChunkSet, Geometry, control::SPOOLED_INPUT, limits::PAGE_CHUNKS, tree};

use super::{faulty::Op, *};
use crate::store::Excludes;

const GO: &(dyn Fn(u64) -> bool + Sync) = &|_| true;

/// Marks a file as one that rests: its real change time cannot be set back, so the cache is told directly.
fn remember(bed: &Bed, path: &Path) -> FileId {
    let source = bed.store.import_file(path, GO).unwrap();
    bed.store.remember(stamp::Stamp::of(&std::fs::metadata(path).unwrap()), source.file_id().unwrap());
    source.file_id().unwrap()
}

/// Fault 32.
#[test]
fn every_size_gets_the_file_id_that_b3sum_prints() {
    let bed = Bed::new();
    let group = GROUP_LEN as usize;
    let sizes =
        [0, 1, 1023, 1024, 1025, group - 1, group, group + 1, 2 * group, 16 * group + 1, 33 * group - 7];
    for size in sizes {
        let content = Content::random(size);
        let path = bed.file("a", &content.bytes);
        let source = bed.store.import_file(&path, GO).unwrap();
        assert_eq!((source.file_id().unwrap(), source.size()), (content.id, size as u64));
        for log2 in [18, 20] {
            let geometry = Geometry::new(size as u64, log2).unwrap();
            let values = source.page(geometry, 0).unwrap();
            if geometry.pages() > 0 {
                tree::check_page(geometry, content.id, &[], 0, &values).unwrap();
            }
            for chunk in 0..geometry.chunks() {
                let ChunkData::Bytes(bytes) = source.read_chunk(geometry, chunk).unwrap() else {
                    panic!("noise is not zeros")
                };
                let range = geometry.bytes_of(chunk);
                assert_eq!(bytes, content.bytes[range.start as usize..range.end as usize]);
                assert!(source.chunk_is_intact(geometry, chunk).unwrap());
            }
        }
    }
}

#[test]
fn a_file_that_rests_is_not_read_again() {
    let bed = Bed::new();
    let content = Content::random(5 * GROUP_LEN as usize + 3);
    let path = bed.file("a", &content.bytes);
    remember(&bed, &path);
    let before = bed.disk.bytes_read();
    let source = bed.store.import_file(&path, GO).unwrap();
    assert_eq!(source.file_id().unwrap(), content.id);
    let list_len = content.geometry.list_len();
    assert_eq!(bed.disk.bytes_read() - before, list_len, "only the list is read");
    assert!(bed.store.has_durably(&path, content.id, content.geometry.size(), Trust::Cache).unwrap());
    assert_eq!(bed.disk.bytes_read() - before, list_len);
    assert_eq!(source.page(content.geometry, 0).unwrap(), content.chunks);
}

#[test]
fn a_file_just_written_is_hashed_again_and_right() {
    let bed = Bed::new();
    let path = bed.file("a", &noise(300_000, 1));
    let first = bed.store.import_file(&path, GO).unwrap().file_id().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let times = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"changed", 5).unwrap();
    file.set_modified(times).unwrap();
    let second = bed.store.import_file(&path, GO).unwrap().file_id().unwrap();
    assert_ne!(first, second);
    assert_eq!(second.0, *blake3::hash(&read(&path)).as_bytes());
}

/// Fault 39.
#[test]
fn only_times_well_past_are_believed() {
    let second = 1_000_000_000;
    assert!(crate::store::import::rests(0, 3 * second));
    assert!(!crate::store::import::rests(0, 2 * second));
    assert!(!crate::store::import::rests(5 * second, 3 * second), "a clock that was set back");
    assert!(!crate::store::import::rests(i64::MAX, i64::MAX));
}

#[test]
fn a_damaged_or_missing_list_is_made_anew() {
    let bed = Bed::new();
    let content = Content::random(3 * GROUP_LEN as usize);
    let path = bed.file("a", &content.bytes);
    let id = remember(&bed, &path);
    let list = bed.store.inner.home.list(id);
    let good = read(&list);
    for damage in [Vec::new(), good[1..].to_vec(), {
        let mut bad = good.clone();
        bad[40] ^= 1;
        bad
    }] {
        std::fs::write(&list, damage).unwrap();
        assert_eq!(bed.store.import_file(&path, GO).unwrap().file_id().unwrap(), id);
        assert_eq!(read(&list), good);
    }
    std::fs::remove_file(&list).unwrap();
    assert_eq!(bed.store.import_file(&path, GO).unwrap().page(content.geometry, 0).unwrap(), content.chunks);
}

/// Fault 13.
#[test]
fn a_home_without_room_does_not_stop_a_send() {
    let bed = Bed::new();
    let content = Content::random(3 * GROUP_LEN as usize);
    let path = bed.file("a", &content.bytes);
    bed.disk.fail(Op::Write, rustix::io::Errno::NOSPC, 0, 99);
    bed.disk.fail(Op::Reserve, rustix::io::Errno::NOSPC, 0, 99);
    let source = bed.store.import_file(&path, GO).unwrap();
    assert_eq!(source.page(content.geometry, 0).unwrap(), content.chunks);
    let unfinished = std::fs::read_dir(bed.store.inner.home.lists()).unwrap().flatten();
    assert_eq!(unfinished.filter(|entry| entry.path().is_file()).count(), 0);
}

/// Fault 33.
#[test]
fn a_sparse_file_is_hashed_without_being_read() {
    let bed = Bed::new();
    let path = bed.path("sparse");
    let file = std::fs::File::create(&path).unwrap();
    // More groups than fit one run of a list, so that the list goes to disk and has two levels.
    let size = (PAGE_CHUNKS + 40) * GROUP_LEN + 5;
    file.set_len(size).unwrap();
    file.write_all_at(b"data", 100 * GROUP_LEN).unwrap();
    let before = bed.disk.bytes_read();
    let source = bed.store.import_file(&path, GO).unwrap();
    let list = Geometry::new(size, 18).unwrap().list_len();
    assert!(bed.disk.bytes_read() - before <= 16 * GROUP_LEN + 2 * list);
    assert!(source.allocated() < 1 << 20);
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(source.file_id().unwrap().0, *hasher.finalize().as_bytes());
    let geometry = Geometry::new(size, 18).unwrap();
    let top = source.top(geometry).unwrap();
    tree::check_top(geometry, source.file_id().unwrap(), &top).unwrap();
    tree::check_page(geometry, source.file_id().unwrap(), &top, 1, &source.page(geometry, 1).unwrap())
        .unwrap();
    assert!(matches!(source.read_chunk(geometry, 0).unwrap(), ChunkData::Zeros));
    assert!(matches!(source.read_chunk(geometry, 100).unwrap(), ChunkData::Bytes(_)));
    assert!(source.page(geometry, 2).unwrap().is_empty());
}

#[test]
fn progress_is_told_and_can_cancel() {
    let bed = Bed::new();
    let path = bed.file("a", &noise(20 * GROUP_LEN as usize, 1));
    let most = AtomicU64::new(0);
    bed.store
        .import_file(&path, &|hashed| {
            most.fetch_max(hashed, Ordering::Relaxed);
            true
        })
        .unwrap();
    assert_eq!(most.into_inner(), 20 * GROUP_LEN);
    let cancelled = bed.store.import_file(&path, &|_| false).unwrap_err();
    assert!(matches!(cancelled, StoreError::Cancelled));
    let unfinished = std::fs::read_dir(bed.store.inner.home.lists()).unwrap().flatten();
    assert_eq!(unfinished.filter(|entry| entry.path().is_file()).count(), 0);
}

/// Fault 31.
#[test]
fn what_is_no_regular_file_is_refused_by_name() {
    let bed = Bed::new();
    let target = bed.file("target", b"x");
    symlink(&target, bed.path("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, bed.path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bed.path("socket")).unwrap();
    std::fs::create_dir(bed.path("folder")).unwrap();
    let cases = [
        (bed.path("link"), "a symbolic link"),
        (bed.path("pipe"), "a named pipe"),
        (bed.path("socket"), "a socket"),
        (bed.path("folder"), "a folder"),
        ("/dev/null".into(), "a device"),
    ];
    for (path, kind) in cases {
        match bed.store.import_file(&path, GO).unwrap_err() {
            StoreError::NotRegular { what, .. } => assert_eq!(what, kind),
            other => panic!("{path:?}: {other}"),
        }
        let reopened = bed.store.reopen(&path, &Excludes::none(), FileId([0; 32]), GO).unwrap_err();
        assert!(matches!(reopened, StoreError::SourceChanged { .. }));
        assert!(!bed.store.has_durably(&path, FileId([0; 32]), 0, Trust::Cache).unwrap());
    }
    let missing = bed.store.import_file(&bed.path("none"), GO).unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }));
    assert!(!bed.store.has_durably(&bed.path("none"), FileId([0; 32]), 0, Trust::Cache).unwrap());
    assert!(bed.store.is_folder(&bed.path("folder")) && !bed.store.is_folder(&target));
}

/// Fault 29.
#[test]
fn a_source_that_changes_is_noticed() {
    let bed = Bed::new();
    let content = Content::random(4 * GROUP_LEN as usize);
    let path = bed.file("a", &content.bytes);
    let writing = path.clone();
    bed.disk.at_next(Op::Read, move || std::fs::write(&writing, b"shorter").unwrap());
    assert!(matches!(bed.store.import_file(&path, GO).unwrap_err(), StoreError::SourceChanged { .. }));

    let changes: [&dyn Fn(&Path); 5] = [
        &|path| std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(GROUP_LEN).unwrap(),
        &|path| std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"!", 9).unwrap(),
        &|path| std::fs::remove_file(path).unwrap(),
        &|path| {
            std::fs::remove_file(path).unwrap();
            symlink("/dev/null", path).unwrap()
        },
        &|path| {
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, b"other").unwrap()
        },
    ];
    for change in changes {
        let _ = std::fs::remove_file(&path);
        let path = bed.file("a", &content.bytes);
        // The change must not fall into the tick of the file system's clock in which the file was made.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(9)).unwrap();
        drop(file);
        let source = bed.store.import_file(&path, GO).unwrap();
        source.check_unchanged().unwrap();
        change(&path);
        assert!(matches!(source.check_unchanged().unwrap_err(), StoreError::SourceChanged { .. }));
        assert!(bed.store.reopen(&path, &Excludes::none(), content.id, GO).is_err());
    }
}

/// Fault 29.
#[test]
fn a_source_rewritten_while_it_is_hashed_is_noticed() {
    let bed = Bed::new();
    let size = 4 * GROUP_LEN as usize;
    let path = bed.file("a", &noise(size, 1));
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    bed.disk.at_next(Op::Read, move || file.write_all_at(&noise(size, 2), 0).unwrap());
    assert!(matches!(bed.store.import_file(&path, GO).unwrap_err(), StoreError::SourceChanged { .. }));
}

/// Fault 30.
#[test]
fn a_source_cut_short_is_an_error_and_not_zeros() {
    let bed = Bed::new();
    let content = Content::random(4 * GROUP_LEN as usize);
    let path = bed.file("a", &content.bytes);
    let source = bed.store.import_file(&path, GO).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(GROUP_LEN + 5).unwrap();
    for chunk in 1..4 {
        let read = source.read_chunk(content.geometry, chunk).unwrap_err();
        assert!(matches!(read, StoreError::SourceChanged { .. }), "{chunk}");
        assert!(!source.chunk_is_intact(content.geometry, chunk).unwrap());
    }
}

/// Fault 14.
#[test]
fn an_unreadable_source_names_its_path() {
    let bed = Bed::new();
    let path = bed.file("a", &noise(4 * GROUP_LEN as usize, 1));
    bed.disk.fail(Op::Read, rustix::io::Errno::IO, 3, 1);
    let error = bed.store.import_file(&path, GO).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert_eq!(error.failure(), p2p_protocol::reason::Failure::Storage);
}

#[test]
fn a_source_tells_its_name_mode_and_time() {
    let bed = Bed::new();
    let path = bed.file("run me", b"#!");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(7, 5)).unwrap();
    let source = bed.store.import_file(&path, GO).unwrap();
    assert_eq!((source.path().file_name().unwrap(), source.executable()), ("run me".as_ref(), true));
    assert_eq!(source.modified_ns(), Some(7_000_000_005));
    assert_eq!(source.path(), path);
}

#[test]
fn identical_means_the_same_bytes() {
    let bed = Bed::new();
    let content = Content::random(300_000);
    let path = bed.file("a", &content.bytes);
    assert!(bed.store.has_durably(&path, content.id, 300_000, Trust::Cache).unwrap());
    assert!(!bed.store.has_durably(&path, FileId([0; 32]), 300_000, Trust::Cache).unwrap());
    let before = bed.disk.count(Op::Read);
    assert!(!bed.store.has_durably(&path, content.id, 300_001, Trust::Cache).unwrap());
    assert_eq!(bed.disk.count(Op::Read), before, "another size needs no reading");
}

/// Whatever the name was when it was looked at.
///
/// Fault 31.
#[test]
fn links_and_pipes_are_not_opened_in_place_of_a_file() {
    let bed = Bed::new();
    let content = Content::random(300);
    bed.file("a", &content.bytes);
    symlink("a", bed.path("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        bed.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let folder = folder::Folder::open(bed.root.path()).unwrap().dir;
    let is = |name: &str| {
        bed.store.identical_in(&folder, name.as_ref(), &bed.path(name), content.id, 300).unwrap().is_some()
    };
    assert!(is("a") && !is("link") && !is("pipe") && !is("nothing"));
}

#[test]
fn what_the_cache_says_is_not_believed_of_a_copy_that_is_to_be_mended() {
    let bed = Bed::new();
    let (right, damaged) = (Content::random(300_000), Content::new(noise(300_000, 9)));
    let path = bed.file("copy", &damaged.bytes);
    // As after a disk has changed what is in it, which no stamp shows.
    bed.store.remember(stamp::Stamp::of(&std::fs::metadata(&path).unwrap()), right.id);
    let has = |id, trust| bed.store.has_durably(&path, id, 300_000, trust).unwrap();
    assert!(has(right.id, Trust::Cache) && !has(right.id, Trust::Nothing));
    assert!(has(damaged.id, Trust::Nothing));
}

/// Whatever a catalog says is standard input, nothing else is removed, and that not while a command writes it.
#[test]
fn only_standard_input_that_nobody_writes_is_removed() {
    let bed = Bed::new();
    let (spool, named) = (bed.store.spool(), format!("{SPOOLED_INPUT}1"));
    std::fs::create_dir_all(&spool).unwrap();
    let (outside, inside, other) = (bed.file(&named, b"mine"), spool.join(&named), spool.join("other"));
    std::fs::write(&other, "no input").unwrap();
    let writing = std::fs::File::create(&inside).unwrap();
    crate::store::folder::lock(&writing, &inside).unwrap();
    bed.store.remove_spooled(&outside).unwrap();
    bed.store.remove_spooled(&other).unwrap();
    bed.store.sweep_spooled(&std::collections::HashSet::new()).unwrap();
    assert!(outside.exists() && inside.exists() && other.exists());
    drop(writing);
    bed.store.sweep_spooled(&std::collections::HashSet::from([inside.clone()])).unwrap();
    assert!(inside.exists(), "it is still to be sent");
    bed.store.sweep_spooled(&std::collections::HashSet::new()).unwrap();
    assert!(!inside.exists() && other.exists());
}

/// A file and a folder with it in, behind what they have in common.
#[test]
fn what_is_sent_says_of_itself_what_it_is() {
    let bed = Bed::new();
    let content = Content::random(3 * GROUP_LEN as usize + 9);
    std::fs::create_dir(bed.path("folder")).unwrap();
    let inside = bed.file("folder/long", &content.bytes);
    bed.file("folder/short", b"short");
    let path = bed.file("file", &content.bytes);
    let import = |path: &Path| bed.store.import(path, &Excludes::none(), &|_| true).unwrap();
    let (file, folder) = (import(&path), import(&bed.path("folder")));
    let size = content.geometry.size();

    assert_eq!((file.size(), folder.size()), (size, size + 5));
    let manifest = folder.manifest().unwrap().clone();
    assert!(file.manifest().is_none() && manifest.files().len() == 2);
    assert_eq!((file.file_id(), folder.file_id()), (Some(content.id), Some(manifest.id())));
    assert_eq!((file.seal().unwrap(), folder.seal().unwrap()), (content.id, manifest.id()));
    assert_eq!((file.list_len(), folder.list_len()), (0, manifest.encode().len()));
    let secret = [7; 32];
    assert!(file.resume_key(&secret).is_some() && folder.resume_key(&secret).is_none());
    assert_ne!(file.resume_key(&secret), file.resume_key(&[8; 32]));
    assert_eq!((file.name(), folder.name()), ("file".to_owned(), "folder".to_owned()));
    assert_eq!((file.path(), folder.path()), (&*path, &*bed.path("folder")));
    assert_eq!((file.allocated(), folder.allocated()), (size, size + 5));
    assert!(!file.executable() && !folder.executable());
    for source in [&file, &folder] {
        let modified = std::fs::metadata(source.path()).unwrap().modified().unwrap();
        let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(source.modified_ns(), Some(since.as_nanos() as i64));
    }
    assert!(file.remarks().is_empty() && folder.remarks().is_empty());

    let of_file = file.layout(18, &ChunkSet::new()).unwrap();
    assert_eq!((of_file.chunks(), of_file.geometry()), (4, content.geometry));
    let all = ChunkSet::full(manifest.files().len() as u32);
    let of_folder = folder.layout(18, &all).unwrap();
    assert_eq!(of_folder.chunks(), 5);
    for source in [&file, &folder] {
        assert_eq!(source.hashed(content.geometry), ChunkSet::full(4));
    }
    assert_eq!(file.page(content.geometry, 0).unwrap(), content.chunks);
    assert!(file.page(content.geometry, 9).unwrap().is_empty(), "there is no such page");
    assert!(folder.page(content.geometry, 0).unwrap().is_empty());
    assert_eq!(file.top(content.geometry).unwrap().len(), 1);
    assert!(folder.top(content.geometry).unwrap().is_empty());
    let long = manifest.files()[usize::from(manifest.file(manifest.files()[0]).unwrap().0 == 5)];
    assert_eq!(folder.values_of(long).unwrap().as_ref(), Some(&content.chunks));
    assert_eq!(file.values_of(long).unwrap(), None);

    let bytes_of = |chunk: source::Chunk| match chunk.data {
        file_source::ChunkData::Bytes(bytes) => bytes,
        file_source::ChunkData::Zeros => panic!("noise is not zeros"),
    };
    let mut hashed = 0;
    let bare = file.read(&of_file, 1, false, || hashed += 1).unwrap();
    assert!(bare.cv.is_none() && bare.proof.is_empty() && bytes_of(bare) == content.part(1));
    let valued = file.read(&of_file, 1, true, || hashed += 1).unwrap();
    assert_eq!((valued.cv, hashed), (Some(content.chunks[1]), 1));
    let pieces = (0..5).map(|chunk| bytes_of(folder.read(&of_folder, chunk, false, || ()).unwrap()));
    assert_eq!(pieces.map(|piece| piece.len() as u64).sum::<u64>(), size + 5);
    assert!(folder.read(&of_file, 0, false, || ()).is_err(), "it is cut in another way");

    // Of a folder's file nothing is right any longer once it is another.
    for (source, layout, damaged, left) in [(&file, &of_file, &path, 3), (&folder, &of_folder, &inside, 1)] {
        let intact = || (0..layout.chunks()).filter(|n| source.chunk_is_intact(layout, *n).unwrap()).count();
        assert_eq!(intact(), layout.chunks() as usize);
        let handle = std::fs::File::options().write(true).open(damaged).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&handle, b"rot", GROUP_LEN + 5).unwrap();
        assert_eq!(intact(), left);
    }
}
