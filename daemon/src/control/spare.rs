//! Descriptors that are kept for clients of the local socket, so that a daemon whose others are all in use can still be asked how
//! it is, and told what to stop.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

/// How many: a client's own, and what its request may open.
const SPARE: usize = 8;

/// The descriptors, as far as there are any.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<OwnedFd>>);

impl Spare {
    /// Takes those that are missing, where there are some again.
    pub(super) fn fill(&self) {
        let mut kept = self.kept();
        while kept.len() < SPARE {
            match openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                Ok(descriptor) => kept.push(descriptor),
                Err(_) => return,
            }
        }
    }

    /// Gives back enough for a client, if it was for want of them that one could not be taken in.
    pub(super) fn give(&self, error: &io::Error) -> bool {
        let is_out = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
        let mut kept = self.kept();
        let left = kept.len().saturating_sub(SPARE / 2);
        is_out && !kept.is_empty() && {
            kept.truncate(left);
            true
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_want_of_descriptors_is_a_reason_and_they_run_out() {
        let (spare, out) = (Spare::default(), io::Error::from(Errno::MFILE));
        assert!(!spare.give(&out), "nothing is kept yet");
        spare.fill();
        assert!(!spare.give(&io::Error::from(Errno::CONNABORTED)));
        assert!(spare.give(&out) && spare.give(&io::Error::from(Errno::NFILE)));
        assert!(!spare.give(&out));
        spare.fill();
        assert!(spare.give(&out));
    }
}
