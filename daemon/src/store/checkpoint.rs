//! Making written chunks durable, in the order that the crash argument rests on.

use std::io;

use p2p_protocol::ChunkSet;

use super::{
    error::StoreError,
    layout::{LOG, PART},
    log::{AppendError, Clean, Record},
    partial::{Journal, Partial},
};

impl Partial {
    /// Makes durable what was written before the call; returns all durable chunks. What is written meanwhile belongs
    /// to the next checkpoint.
    ///
    /// If a sync fails, the chunks that were not durable are lost, those of the next window too, and have to be
    /// written again: [`StoreError::SyncFailed`]. After any other error they stay and the next call tries again.
    pub(crate) fn checkpoint(&self) -> Result<ChunkSet, StoreError> {
        let mut journal = self.journal();
        if journal.ended {
            return Ok(self.state().durable.clone());
        }
        self.check_place()?;
        let before = self.state().durable.clone();
        let durable = self.checkpoint_with(&mut journal)?;
        let mut new = durable.clone();
        new.subtract(&before);
        self.show_whole(&new)?;
        Ok(durable)
    }

    fn checkpoint_with(&self, journal: &mut Journal) -> Result<ChunkSet, StoreError> {
        let disk = &**self.store.disk();
        self.settle_length()?;
        let window = {
            let mut state = self.state();
            state.syncing = std::mem::take(&mut state.pending);
            state.syncing.clone()
        };
        if window.is_empty() {
            return Ok(self.state().durable.clone());
        }
        self.data.sync(disk, !journal.anchored).map_err(|error| self.lost(&error))?;
        self.anchor(journal).map_err(|error| self.lost(&error))?;
        match journal.log.append(disk, &Record::Durable(window.clone())) {
            Ok(()) => {}
            Err(AppendError::Sync(error)) => return Err(self.lost(&error)),
            Err(AppendError::Write(error)) => {
                let mut state = self.state();
                let syncing = std::mem::take(&mut state.syncing);
                state.pending.union(&syncing);
                return Err(StoreError::io("write", &self.path_of(LOG))(error));
            }
        }
        let mut state = self.state();
        state.syncing = ChunkSet::new();
        state.claimed.subtract(&window);
        state.durable.union(&window);
        Ok(state.durable.clone())
    }

    /// Sets the data's length once more, where it may not be known to the disk, for the sync that follows.
    pub(super) fn settle_length(&self) -> Result<(), StoreError> {
        if self.state().length_in_doubt {
            let sized = self.data.settle_length(&**self.store.disk(), self.layout());
            sized.map_err(self.io("size the partial file"))?;
            self.state().length_in_doubt = false;
        }
        Ok(())
    }

    /// Makes the names of the partial's files durable, before the first record: a record is of no use without them.
    fn anchor(&self, journal: &mut Journal) -> io::Result<()> {
        if !journal.anchored {
            let disk = self.store.disk();
            disk.sync_folder(&self.partials)?;
            disk.sync_folder(&self.folder.dir)?;
            journal.anchored = true;
        }
        Ok(())
    }

    /// Takes back what a failed sync puts in doubt.
    pub(super) fn lost(&self, error: &io::Error) -> StoreError {
        let path = self.path_of(PART);
        tracing::error!(path = %path.display(), %error, "a sync failed");
        StoreError::SyncFailed { lost: self.state().lose(), path }
    }

    /// The orderly end of a run: a checkpoint, and a record with which the next run believes it without reading.
    /// A partial with nothing in it is removed.
    pub(crate) fn park(&self) -> Result<(), StoreError> {
        if self.is_empty() {
            return self.discard();
        }
        let mut journal = self.journal();
        if journal.ended {
            return Ok(());
        }
        self.check_place()?;
        let durable = self.checkpoint_with(&mut journal)?;
        if let Err(error) = self.show_whole(&durable) {
            tracing::warn!(%error, "what is whole of a folder appears when it goes on");
        }
        if !self.doubt_changed()? {
            // Without a record all of it is hashed.
            return Ok(());
        }
        let disk = &**self.store.disk();
        self.data.sync(disk, true).map_err(|error| self.lost(&error))?;
        if let Some(values) = &self.values
            && let Err(error) = disk.sync_data(values)
        {
            tracing::debug!(%error, "the chaining values of a partial were not synced");
            if self.spec.key.file_id().is_none() {
                // They are all that says what the data is. Without a record it is hashed before it counts.
                return Ok(());
            }
            // They are checked before they are used.
        }
        let stamp = self.data.stamp().map_err(self.io("look at"))?;
        let record = {
            let state = self.state();
            Record::Clean(Clean { stamp, verified: state.durable.clone(), doubtful: state.unchecked.clone() })
        };
        let appended = journal.log.append(disk, &record);
        appended.map_err(|error| StoreError::io("write", &self.path_of(LOG))(error.into_io()))
    }
}
