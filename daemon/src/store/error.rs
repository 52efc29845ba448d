//! Why the store could not do something, with the path it happened at.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use p2p_protocol::{
    ChunkSet, FileId, manifest::ManifestError, name::printable, reason::Failure, shown::Bytes,
};

/// A failure of the store. Cheap to clone, as several waiters may be told of one.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A sync failed: these chunks may not be on the disk although they can be read back, so they are no
    /// longer counted and have to be written anew.
    #[error("{}: a sync to the disk failed, {} chunks have to be fetched again", path.display(), lost.len())]
    SyncFailed {
        /// What is lost.
        lost: ChunkSet,
        /// The partial's data.
        path: PathBuf,
    },
    /// Another transfer, here or in another program, writes this partial.
    #[error("{}: another transfer is writing it; wait for it or cancel it", path.display())]
    Busy {
        /// The partial's log, which holds the lock.
        path: PathBuf,
    },
    /// The source is not what it was when it was hashed.
    #[error("{}: the file changed while it was read or sent; send it again once it rests", path.display())]
    SourceChanged {
        /// The source.
        path: PathBuf,
    },
    /// There is nothing at this path.
    #[error("{}: no such file", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// A source that is no regular file.
    #[error("{} is {what}, not a regular file", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// Names in a folder that no receiver takes.
    #[error(
        "{}: no receiver takes these names: {}; rename what has them, or leave it out with --exclude",
        path.display(),
        some(names)
    )]
    UnsafeNames {
        /// The folder.
        path: PathBuf,
        /// They, from the folder on, each with what is wrong with it.
        names: Vec<String>,
    },
    /// Patterns that leave nothing of a folder.
    #[error("{}: the patterns exclude all that is in it; nothing would be left", path.display())]
    NothingLeft {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that cannot be described.
    #[error("{}: {error}", path.display())]
    BadTree {
        /// The folder.
        path: PathBuf,
        /// Why not.
        error: Arc<ManifestError>,
    },
    /// Two names of a folder that are one where it is to be, as its file system folds case or normal forms.
    #[error("{}: {} are one name on this file system; choose another place, or rename one of them", path.display(), shown(names))]
    SameName {
        /// The folder in the making.
        path: PathBuf,
        /// Both, from the folder on.
        names: [String; 2],
    },
    /// Something else lies where a destination's folder or a partial's file should.
    #[error("{} is {what}, not {wanted}; move it away, or name another destination", path.display())]
    Misplaced {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
        /// What should be.
        wanted: &'static str,
    },
    /// What was to appear in a folder while it is filled, and something else is there.
    #[error(
        "{}: what is there as {} is not what was received: it was changed since it appeared, or put there by somebody else. \
         Nothing of it was overwritten; move it away and start the transfer again, which goes on with what is here",
        path.display(),
        some(names)
    )]
    InTheWay {
        /// The folder.
        path: PathBuf,
        /// What is in the way, from the folder on.
        names: Vec<String>,
    },
    /// A folder cannot appear while it is filled.
    #[error("{}: the file system here gives no file two names, without which a folder cannot appear file by file; leave --progressive out", path.display())]
    NoLinks {
        /// The destination folder.
        path: PathBuf,
    },
    /// Not enough free space, found before anything was written.
    #[error("{}: {} are needed and {} are free; make room and try again", path.display(), Bytes(*need), Bytes(*free))]
    NoSpace {
        /// The destination folder.
        path: PathBuf,
        /// Bytes still to be stored.
        need: u64,
        /// Bytes that this user may still use there.
        free: u64,
    },
    /// The destination folder went away, or the partial in it.
    #[error("{}: the folder is gone; put it back, or start the transfer again", path.display())]
    Gone {
        /// The destination folder.
        path: PathBuf,
    },
    /// The partial was removed under the transfer while its folder stayed.
    #[error("{}: the partial file was removed while it was written; the transfer has to start again", path.display())]
    Removed {
        /// The partial's data.
        path: PathBuf,
    },
    /// The offered size contradicts what has already been verified of this content.
    #[error("{}: the content is {known} bytes long, not {offered} as the peer says", path.display())]
    SizeConflict {
        /// The partial's data.
        path: PathBuf,
        /// The size that the verified last chunk proves.
        known: u64,
        /// The size offered.
        offered: u64,
    },
    /// No content of this size has this File ID.
    #[error("no file of {size} bytes has the File ID {file_id}")]
    Impossible {
        /// The File ID.
        file_id: FileId,
        /// The claimed size.
        size: u64,
    },
    /// No free name was found.
    #[error("{}: this name and all its numbered variants are taken", path.display())]
    NoName {
        /// The wanted path.
        path: PathBuf,
    },
    /// The caller did not want it any longer.
    #[error("cancelled")]
    Cancelled,
    /// The operating system refused something.
    #[error("{}: {what}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// It lies where this machine's key and trust are kept.
    #[error("{}: is in p2p's own state folder, which holds its private key: nothing there is sent or shared, and nothing lands there", path.display())]
    OwnHome {
        /// What.
        path: PathBuf,
    },
    /// The catalog failed.
    #[error("{}: the catalog: {source}", path.display())]
    Catalog {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: Arc<rusqlite::Error>,
    },
    /// The catalog was written by a newer version.
    #[error(
        "{}: written by a newer version of p2p (schema {found}, this one knows {known}); \
         run that version, or move the file away to start without its history",
        path.display()
    )]
    CatalogNewer {
        /// Its file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema known here.
        known: u32,
    },
    /// The catalog's thread ended, which it does only with the store.
    #[error("the catalog is closed")]
    CatalogClosed,
}

fn shown(names: &[String]) -> String {
    names.iter().map(|name| printable(name)).collect::<Vec<_>>().join(", ")
}

/// The first few of them.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", shown(&names[..SHOWN])),
        _ => shown(names),
    }
}

impl StoreError {
    /// Joins an operating-system error with what was tried and where. For use in `map_err`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source: Arc::new(source) }
    }

    /// The class of failure for exit codes.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::SyncFailed { .. } | Self::NoSpace { .. } | Self::Gone { .. } | Self::Removed { .. } => {
                Failure::Storage
            }
            Self::Misplaced { .. } | Self::SameName { .. } | Self::NoLinks { .. } => Failure::Storage,
            _ if self.is_exhausted() => Failure::Conflict,
            Self::Io { .. } | Self::Catalog { .. } | Self::CatalogNewer { .. } => Failure::Storage,
            Self::Busy { .. } | Self::NoName { .. } | Self::InTheWay { .. } => Failure::Conflict,
            Self::SourceChanged { .. } | Self::SizeConflict { .. } | Self::Impossible { .. } => {
                Failure::Integrity
            }
            Self::NotFound { .. } => Failure::NotFound,
            Self::NotRegular { .. } | Self::UnsafeNames { .. } | Self::OwnHome { .. } => Failure::Usage,
            Self::NothingLeft { .. } | Self::BadTree { .. } => Failure::Usage,
            Self::Cancelled => Failure::Cancelled,
            Self::CatalogClosed => Failure::Other,
        }
    }

    /// Whether room on the disk, or in the user's quota, would help.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            ),
            Self::Catalog { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            _ => false,
        }
    }

    /// Whether the operating system does not allow it.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether the process or the machine has no file descriptor left, which passes when others are closed.
    pub(crate) fn is_exhausted(&self) -> bool {
        use rustix::io::Errno;
        let Self::Io { source, .. } = self else { return false };
        matches!(Errno::from_io_error(source), Some(Errno::MFILE | Errno::NFILE))
    }

    /// Whether the destination went away, so that it may come back.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Gone { .. } => true,
            Self::Io { source, .. } => matches!(
                rustix::io::Errno::from_io_error(source),
                Some(
                    rustix::io::Errno::NOENT
                        | rustix::io::Errno::STALE
                        | rustix::io::Errno::NODEV
                        | rustix::io::Errno::NXIO
                        | rustix::io::Errno::NOTCONN
                )
            ),
            _ => false,
        }
    }
}
