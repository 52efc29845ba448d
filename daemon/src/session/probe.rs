//! Tries the way to a peer, for `p2p doctor`: a connection as any transfer has it, and requests for what nobody has.

use std::{sync::Arc, time::Duration};

use p2p_protocol::{
    FileId,
    control::{KeyPolicy, PeerInfo, Probe, Standing},
    limits::MAX_FRAME_LEN,
    queue::Priority,
    reason::{Failure, PeerMisbehaved, RefuseReason, close},
    rules::Rules,
    wire::{
        ALPN,
        peer::{Fetch, Message},
    },
};
use tokio::time::{Instant, timeout};

use super::{Sessions, error::RunError, lanes::Place, links::Link, measure::Found, say};

/// No content has this hash, as far as anybody knows.
const NOTHING: FileId = FileId([0; 32]);
/// So many requests give the connection time to measure the way.
const ASKED: usize = 8;
/// A place among the transfers to the peer, and each answer, come within this.
const DEADLINE: Duration = Duration::from_secs(10);

/// A connection that was asked for.
pub(super) struct Called {
    pub(super) link: Arc<Link>,
    /// How long it took, unless it was there.
    connected_in: Option<Duration>,
    /// Its place among the transfers with that target.
    pub(super) _place: Place,
}

impl Called {
    /// A rule that was broken ends the connection, as in a transfer.
    pub(super) fn blame(&self, error: RunError) -> RunError {
        if let Some(fault) = &error.fault {
            self.link.condemn(fault);
        }
        error
    }
}

impl Sessions {
    /// Tries the way to a target, as typed.
    pub(crate) async fn probe(self: &Arc<Self>, target: &str) -> Result<Probe, RunError> {
        let Called { link, connected_in, _place } = self.call(target).await?;
        let connect_us = connected_in.map(micros);
        let _used = link.hold();
        // A peer that has dialled says the same to all that it does not know.
        let mut trusts = link.is_dialled().then_some(true);
        for _ in 0..ASKED {
            match ask_for_nothing(&link).await {
                Ok(()) => {}
                Err(error) if error.failure == Failure::Refused => {
                    trusts = Some(false);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let connection = link.connection();
        let probe = Probe {
            peer: self.known_as(&link),
            address: connection.remote_addr().to_string(),
            connect_us,
            round_trip_us: micros(connection.stats().rtt),
            mtu: connection.mtu(),
            protocol: String::from_utf8_lossy(ALPN).into_owned(),
            trusts,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            peer_version: None,
            down: None,
            up: None,
        };
        if trusts == Some(false) || !self.peers.is_trusted(&link.peer()) {
            return Ok(probe);
        }
        let found = self.measure_apart(target, &link).await;
        Ok(Probe { peer_version: found.version, down: found.down, up: found.up, ..probe })
    }

    /// Measures on a connection of its own: a peer of an older version ends it over a message that it does not know, and
    /// transfers run on the other.
    async fn measure_apart(self: &Arc<Self>, target: &str, link: &Arc<Link>) -> Found {
        let apart = match self.links.dial_apart(target, KeyPolicy::Known).await {
            Ok(apart) if apart.peer() == link.peer() => apart,
            Ok(other) => {
                other.connection().close(close::IDLE, "");
                return Found::default();
            }
            Err(error) => {
                tracing::debug!(peer = %link.peer(), error = %error.message, "no connection to measure on");
                return Found::default();
            }
        };
        let _used = apart.hold();
        let found = self.measure(&apart).await;
        apart.connection().close(close::IDLE, "measured");
        found
    }

    /// A connection to a target, as typed, for a question that somebody sits there and waits for.
    pub(super) async fn call(self: &Arc<Self>, target: &str) -> Result<Called, RunError> {
        self.call_with(target, KeyPolicy::Known).await
    }

    /// The same, with a word on the key that is found there.
    pub(super) async fn call_with(
        self: &Arc<Self>,
        target: &str,
        key: KeyPolicy,
    ) -> Result<Called, RunError> {
        self.links.check_target(target)?;
        let asked = self.links.lanes().ask(target, 0, Priority::High.into());
        let place = timeout(DEADLINE, asked.place()).await.map_err(|_| {
            RunError::new(Failure::Conflict, format!("as many transfers with {target} run as can; try again"))
        })?;
        let begun = Instant::now();
        let (link, fresh) = self.links.dial(target, key, &place, false).await?;
        let connected_in = fresh.then(|| begun.elapsed());
        if fresh {
            tokio::spawn(self.clone().attend(link.clone()));
        }
        Ok(Called { link, connected_in, _place: place })
    }

    fn known_as(&self, link: &Link) -> PeerInfo {
        let nobody = || PeerInfo {
            id: link.peer(),
            standing: Standing::Known,
            name: None,
            send: false,
            fetch: false,
            addresses: Vec::new(),
            connected: true,
            rules: Rules::default(),
        };
        self.peers().into_iter().find(|peer| peer.id == link.peer()).unwrap_or_else(nobody)
    }
}

/// A request that costs its peer a look into its list of shares. One that trusts this daemon says that it has no such
/// thing; any other ends the connection.
async fn ask_for_nothing(link: &Link) -> Result<(), RunError> {
    let conversation = async {
        let mut control = link.connection().open_control().await?;
        say(&mut control, &Message::Fetch(Fetch { file_id: NOTHING, eager: false })).await?;
        control.sender.finish();
        match control.receiver.recv(MAX_FRAME_LEN).await? {
            Some(Message::Refuse(RefuseReason::NotFound | RefuseReason::Busy)) => Ok(()),
            Some(other) => Err(PeerMisbehaved::UnexpectedMessage(other.name()).into()),
            None => {
                Err(RunError::new(Failure::Unreachable, "the peer ended the conversation without an answer"))
            }
        }
    };
    timeout(DEADLINE, conversation).await.unwrap_or_else(|_| {
        let words = format!("{} took the connection and does not answer", link.connection().remote_addr());
        Err(RunError::new(Failure::Unreachable, words))
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
