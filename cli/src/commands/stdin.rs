//! Standard input as something to send. It has neither a size nor a second reading, so it goes to a file in the state
//! folder first, from where the daemon sends it, resumes it, and removes it in the end.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use p2p_protocol::control::{SPOOL_FOLDER, SPOOLED_INPUT};
use rustix::fs::FlockOperation;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{context::Context, error::CliError, format, interrupt::Interrupt, progress::Bar};

/// Bytes that are read at once.
const PIECE_LEN: usize = 1 << 20;

/// A file of standard input. Dropping it removes the file, until the daemon has it.
#[derive(Debug)]
pub(crate) struct Spooled {
    pub(crate) path: PathBuf,
    /// Keeps the daemon's hands off it. Closed, and with that given back, when this is dropped.
    file: File,
    kept: bool,
}

impl Spooled {
    /// Reads all of standard input.
    ///
    /// # Errors
    /// The state folder has no room or cannot be written to; Ctrl-C; the command's time is over.
    pub(crate) async fn read(ctx: &Context) -> Result<Self, CliError> {
        // The daemon makes the state folder.
        drop(ctx.connect_or_start().await?);
        let mut interrupt = Interrupt::listen()?;
        tokio::select! {
            spooled = Self::read_from(ctx, tokio::io::stdin()) => spooled,
            () = interrupt.wait() => Err(CliError::interrupted(None)),
            time = ctx.timeout.wait() => Err(CliError::timed_out(None, time)),
        }
    }

    async fn read_from(ctx: &Context, mut input: impl AsyncRead + Unpin) -> Result<Self, CliError> {
        let mut spooled = Self::create(&ctx.home.join(SPOOL_FOLDER))?;
        let path = spooled.path.clone();
        let failed = |error: io::Error| {
            CliError::io("cannot keep standard input in", &path, &error)
                .hint("a file that is sent by its own name needs no second place")
        };
        let mut bar = Bar::new(&ctx.out, None);
        let (mut piece, mut total) = (vec![0; PIECE_LEN], 0);
        loop {
            let read = input.read(&mut piece).await;
            let read =
                read.map_err(|error| CliError::io("cannot read", Path::new("standard input"), &error))?;
            if read == 0 {
                break;
            }
            spooled.file.write_all(&piece[..read]).map_err(failed)?;
            total += read as u64;
            if let Some(bar) = &mut bar {
                bar.words(&format!("reading standard input: {}", format::bytes(total)));
            }
        }
        if let Some(bar) = bar {
            bar.clear();
        }
        // After a power cut the daemon goes on with what is here, which then has to be what was read.
        let folder = path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all());
        spooled.file.sync_all().and(folder).map_err(failed)?;
        Ok(spooled)
    }

    fn create(folder: &Path) -> Result<Self, CliError> {
        let failed = |error: io::Error| CliError::io("cannot keep standard input in", folder, &error);
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let mut serial = 0;
        loop {
            let path = folder.join(format!("{SPOOLED_INPUT}{}-{serial}", std::process::id()));
            serial += 1;
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let file = match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(failed)?,
            };
            // A daemon that starts just now may have swept it before it was locked.
            let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if locked && file.metadata().map_err(failed)?.nlink() > 0 {
                return Ok(Self { path, file, kept: false });
            }
        }
    }

    /// The daemon has it, and removes it in the end.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if !self.kept {
            // Where that fails, the daemon's next start sweeps it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Captured, context, global};

    #[tokio::test]
    async fn what_is_read_is_there_until_it_is_dropped_unless_it_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let ctx = context(home.path(), Captured::default().output(&global(&[])));
        let input = vec![7; 3 * PIECE_LEN + 5];
        let first = Spooled::read_from(&ctx, &input[..]).await.unwrap();
        let second = Spooled::read_from(&ctx, &b""[..]).await.unwrap();
        assert_ne!(first.path, second.path);
        assert_eq!(std::fs::read(&first.path).unwrap(), input);
        let metadata = first.path.metadata().unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o600);
        let other = File::open(&first.path).unwrap();
        assert!(rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        let (kept, dropped) = (first.path.clone(), second.path.clone());
        first.keep();
        drop(second);
        assert!(kept.exists() && !dropped.exists());
        // A program that another test starts holds it too, from its fork to its exec, and so for a moment.
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(rustix::fs::flock(&other, FlockOperation::LockExclusive)));
        assert_eq!(told.recv_timeout(std::time::Duration::from_secs(60)), Ok(Ok(())), "it is still locked");
    }

    #[tokio::test]
    async fn no_room_is_said_with_the_place() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(SPOOL_FOLDER), "in the way").unwrap();
        let ctx = context(home.path(), Captured::default().output(&global(&[])));
        let error = Spooled::read_from(&ctx, &b"x"[..]).await.unwrap_err();
        assert!(error.message.contains(SPOOL_FOLDER), "{error}");
        assert!(matches!(error.exit_code(), 6 | 8), "{error}");
    }
}
