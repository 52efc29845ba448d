//! What identifies a file and its content without reading it.

use std::{fs::Metadata, os::unix::fs::MetadataExt};

/// Device, inode, size and times of a file. While they are the same, so is the content, unless somebody
/// wrote within one tick of the file system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Device number.
    pub(crate) dev: u64,
    /// Inode number.
    pub(crate) ino: u64,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Modification time in nanoseconds since 1970 UTC.
    pub(crate) mtime_ns: i64,
    /// Change time in nanoseconds since 1970 UTC; nobody can set it.
    pub(crate) ctime_ns: i64,
}

impl Stamp {
    /// Bytes of an encoded stamp.
    pub(crate) const LEN: usize = 40;

    /// The stamp in this metadata.
    pub(crate) fn of(found: &Metadata) -> Self {
        Self {
            dev: found.dev(),
            ino: found.ino(),
            size: found.size(),
            mtime_ns: nanoseconds(found.mtime(), found.mtime_nsec()),
            ctime_ns: nanoseconds(found.ctime(), found.ctime_nsec()),
        }
    }

    /// The stamp in what `stat` says.
    pub(crate) fn of_stat(found: &rustix::fs::Stat) -> Self {
        Self {
            dev: found.st_dev,
            ino: found.st_ino,
            size: found.st_size.cast_unsigned(),
            mtime_ns: nanoseconds(found.st_mtime, found.st_mtime_nsec.cast_signed()),
            ctime_ns: nanoseconds(found.st_ctime, found.st_ctime_nsec.cast_signed()),
        }
    }

    /// Device, inode, size, mtime and ctime, eight bytes each, little-endian.
    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let fields =
            [self.dev, self.ino, self.size, self.mtime_ns.cast_unsigned(), self.ctime_ns.cast_unsigned()];
        let mut bytes = [0; Self::LEN];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let field = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
            u64::from_le_bytes(field)
        };
        Self {
            dev: field(0),
            ino: field(1),
            size: field(2),
            mtime_ns: field(3).cast_signed(),
            ctime_ns: field(4).cast_signed(),
        }
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_survive_storing() {
        let stamp = Stamp { dev: 1, ino: u64::MAX, size: 3, mtime_ns: -4, ctime_ns: i64::MAX };
        assert_eq!(Stamp::from_bytes(&stamp.to_bytes()), stamp);
    }
}
