//! What becomes of content that is complete.

use std::sync::Arc;

use super::{receipts::Receipt, stdout::StdoutFeed};
use crate::store::PublishName;

/// What becomes of the complete file.
pub(super) enum Ending {
    /// It is published under this name, or the next free one like it.
    Publish {
        /// The name.
        name: PublishName,
        /// What to note down of it for the peer that has sent it.
        receipt: Option<Arc<Receipt>>,
    },
    /// It has gone to a client and is not kept.
    Stdout(StdoutFeed),
}
