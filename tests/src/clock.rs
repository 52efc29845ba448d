//! A wall clock that jumps: a library that is loaded before a daemon's own, and that adds to the time of day what a file
//! says. The clock that timers go by is left alone, as it is when a machine's time is set.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// What the library is made of. The file is mapped, so that a look at the time costs no system call.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static int (*real)(clockid_t, struct timespec *);
static volatile long long *offset;

__attribute__((constructor)) static void begin(void) {
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("P2P_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *at = mmap(0, sizeof(long long), PROT_READ, MAP_SHARED, file, 0);
        offset = at == MAP_FAILED ? 0 : at;
    }
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int answer = real(clock, now);
    if (answer == 0 && clock == CLOCK_REALTIME && offset) now->tv_sec += *offset;
    return answer;
}
"#;

/// A clock for daemons, which the test sets.
#[derive(Debug)]
pub struct Clock {
    room: TempDir,
}

impl Clock {
    /// A clock that is right. `None`, with a word on standard error, where there is no C compiler.
    pub fn new() -> Option<Self> {
        let this = Self { room: TempDir::with_prefix("p2p-clock-").expect("a temporary folder") };
        fs::write(this.source(), SOURCE).expect("a temporary folder is writable");
        this.set(0);
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([this.library(), this.source()])
            .arg("-ldl")
            .output();
        match built {
            Ok(output) if output.status.success() => Some(this),
            other => {
                eprintln!("left out: no C compiler to build a clock with: {other:?}");
                None
            }
        }
    }

    /// Variables of the environment that make a program go by this clock.
    pub fn env(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library()), ("P2P_TEST_CLOCK", self.offset())]
    }

    /// How many seconds it is ahead from now on.
    pub fn set(&self, seconds: i64) {
        // In place, since the file is mapped.
        let file = fs::File::options().write(true).create(true).truncate(false).open(self.offset());
        let written = file.and_then(|file| {
            use std::os::unix::fs::FileExt;
            file.write_all_at(&seconds.to_ne_bytes(), 0)
        });
        written.expect("a temporary folder is writable");
    }

    fn library(&self) -> PathBuf {
        self.path().join("clock.so")
    }

    fn source(&self) -> PathBuf {
        self.path().join("clock.c")
    }

    fn offset(&self) -> PathBuf {
        self.path().join("offset")
    }

    fn path(&self) -> &Path {
        self.room.path()
    }
}
