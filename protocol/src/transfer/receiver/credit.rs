//! Words that give the provider credit for more, and how a limit on bandwidth holds them back: a provider sends no more
//! than it has credit for, so that what comes in is what was let in.

use super::{Receiver, ReceiverAction};
use crate::wire::peer::Message;

impl Receiver {
    /// Holds these words back from now on, or says them.
    pub(super) fn hold(&mut self, holds: bool) {
        self.holds = holds;
        if !holds {
            self.say_verified();
        }
    }

    /// A chunk is verified, of which the provider is to hear.
    pub(super) fn say_of(&mut self, chunk: u32) {
        self.unsaid.insert(chunk);
        if !self.holds {
            self.say_verified();
        }
    }

    /// Says what was held back.
    pub(super) fn say_verified(&mut self) {
        let unsaid = std::mem::take(&mut self.unsaid).ranges();
        if !unsaid.is_empty() {
            self.actions.push_back(ReceiverAction::Send(Message::Verified(unsaid)));
        }
    }
}
