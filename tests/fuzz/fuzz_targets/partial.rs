#![no_main]

use std::sync::LazyLock;

use p2p_daemon::fuzzing::Recovery;
use tempfile::TempDir;

static RECOVERY: LazyLock<(Recovery, TempDir)> = LazyLock::new(|| {
    let scratch = tempfile::tempdir().unwrap();
    (Recovery::new(scratch.path()), scratch)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| RECOVERY.0.check(bytes));
