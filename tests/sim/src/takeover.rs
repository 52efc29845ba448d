//! The process's randomness and clocks, taken over.
//!
//! Hash tables, random draws and time stamps of everything in this process then follow from a seed and from the
//! simulated time. The functions below stand in front of those of the C library, in programs and tests that are linked
//! with this crate; until [`begin`] is called they ask the operating system as usual. What asks the kernel by itself is
//! not reached: the cryptography library's own random numbers.

#![allow(unsafe_code, reason = "functions of the C library cannot be replaced without")]

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

static TAKEN: AtomicBool = AtomicBool::new(false);
static RANDOM: Mutex<Option<StdRng>> = Mutex::new(None);
/// Nanoseconds since the run began.
static NOW: AtomicU64 = AtomicU64::new(0);
/// Seconds since 1970 when the run began.
static BEGAN: AtomicU64 = AtomicU64::new(0);
/// What the process number is said to be, so that files in which it is written have the same length each time.
const PROCESS: i32 = 12345;
/// Reading of the clock that only counts on, when the run began.
const BOOTED: Duration = Duration::from_secs(1_000_000);

/// Takes the process over for good. From now on it is `began`, in seconds since 1970.
pub fn begin(seed: u64, began: u64) {
    *RANDOM.lock().unwrap_or_else(PoisonError::into_inner) = Some(StdRng::seed_from_u64(seed));
    BEGAN.store(began, Ordering::Relaxed);
    TAKEN.store(true, Ordering::Release);
}

/// Sets the clocks to so much after the beginning.
pub fn set_time(since: Duration) {
    NOW.store(since.as_nanos() as u64, Ordering::Relaxed);
}

fn is_taken() -> bool {
    TAKEN.load(Ordering::Acquire)
}

/// Fills memory with random bytes; how many, or -1.
///
/// # Safety
/// There are `len` bytes at `buffer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, flags: u32) -> isize {
    if len == 0 {
        return 0;
    }
    // SAFETY: the caller says so.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, len) };
    if is_taken()
        && let Some(random) = RANDOM.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
    {
        random.fill_bytes(bytes);
        return len as isize;
    }
    let flags = rustix::rand::GetRandomFlags::from_bits_truncate(flags);
    rustix::rand::getrandom(bytes, flags).map_or(-1, |filled| filled as isize)
}

/// A point in time, as the C library has it.
#[repr(C)]
#[derive(Debug)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// Reads a clock; 0, or -1.
///
/// # Safety
/// There is room for the answer at `time`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    const WALL: i32 = 0;
    const COUNTING: i32 = 1;
    let since = Duration::from_nanos(NOW.load(Ordering::Relaxed));
    let now = match clock {
        WALL if is_taken() => Duration::from_secs(BEGAN.load(Ordering::Relaxed)) + since,
        COUNTING if is_taken() => BOOTED + since,
        _ => {
            let clock = match clock {
                WALL => rustix::time::ClockId::Realtime,
                COUNTING => rustix::time::ClockId::Monotonic,
                2 => rustix::time::ClockId::ProcessCPUTime,
                3 => rustix::time::ClockId::ThreadCPUTime,
                4 => rustix::time::ClockId::MonotonicRaw,
                5 => rustix::time::ClockId::RealtimeCoarse,
                6 => rustix::time::ClockId::MonotonicCoarse,
                7 => rustix::time::ClockId::Boottime,
                _ => return -1,
            };
            let found = rustix::time::clock_gettime(clock);
            Duration::new(found.tv_sec as u64, found.tv_nsec as u32)
        }
    };
    let answer = Timespec { seconds: now.as_secs() as i64, nanoseconds: i64::from(now.subsec_nanos()) };
    // SAFETY: the caller says so.
    unsafe { time.write(answer) };
    0
}

/// The process's number.
#[unsafe(no_mangle)]
pub extern "C" fn getpid() -> i32 {
    if is_taken() { PROCESS } else { rustix::process::getpid().as_raw_nonzero().get() }
}
