//! What becomes of content that is complete.

use std::sync::Arc;

use p2p_protocol::FileId;

use super::stdout::StdoutFeed;
use crate::store::{PublishName, Published, StoreError};

/// Notes something down about a published file.
type Afterwards = dyn Fn(FileId, &Published) -> Result<(), StoreError> + Send + Sync;

/// What becomes of the complete file.
pub(crate) enum Ending {
    /// It is published under this name, or the next free one like it.
    Publish {
        /// The name.
        name: PublishName,
        /// What to note down before the provider is told.
        afterwards: Arc<Afterwards>,
    },
    /// It has gone to a client and is not kept.
    Stdout(StdoutFeed),
}
