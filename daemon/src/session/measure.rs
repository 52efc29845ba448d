//! How fast the way to a peer is, for `p2p doctor`: bytes that mean nothing, in rounds that grow while they are quick, so that a slow
//! path is not filled. Each side keeps to its limits on bandwidth, and gives each peer so much of it within some time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use p2p_protocol::{
    PeerId,
    limits::{
        MAX_FRAME_LEN, MAX_VERSION_LEN, MEASURE_BUDGET, MEASURE_DEADLINE, MEASURE_EVERY, MEASURE_LEN,
        PIECE_LEN,
    },
    name::printable,
    reason::{Failure, PeerMisbehaved, RefuseReason},
    wire::peer::{Arrived, Measure, Measured, Message},
};
use tokio::time::{Instant, timeout};

use super::{Sessions, error::RunError, limiter::Valve, links::Link, say};
use crate::transport::ControlStream;

/// The first round has so many bytes …
const FIRST_ROUND: u32 = 64 * 1024;
/// … and the next so many times as many …
const GROWTH: u32 = 8;
/// … while a round takes less than this: the longest is then some second.
const QUICK: Duration = Duration::from_millis(100);
/// What a limit lets through within this is the most that a round has.
const LIMITED_TO: Duration = Duration::from_secs(1);

/// What a measurement has come to.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What the peer says of its program.
    pub(super) version: Option<String>,
    /// Bytes a second.
    pub(super) down: Option<u64>,
    pub(super) up: Option<u64>,
}

/// Who measures, and how much lately.
#[derive(Debug, Default)]
pub(super) struct Spent(Mutex<HashMap<PeerId, (Instant, u64)>>);

impl Spent {
    /// So many bytes more for this peer, if there is room for them.
    fn take(&self, peer: PeerId, bytes: u64, now: Instant) -> bool {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spent.retain(|_, (since, _)| now.saturating_duration_since(*since) < MEASURE_EVERY);
        let (_, so_far) = spent.entry(peer).or_insert((now, 0));
        let fits = *so_far + bytes <= MEASURE_BUDGET;
        if fits {
            *so_far += bytes;
        }
        fits
    }
}

impl Sessions {
    /// Answers a peer that measures.
    pub(super) async fn measured_by(
        &self,
        link: &Link,
        control: &mut ControlStream,
        Measure { wants, brings }: Measure,
    ) -> Result<(), RunError> {
        let peer = link.peer();
        if !self.peers.is_trusted(&peer) {
            return self.turn_away(link, control, RefuseReason::NotAllowed).await;
        }
        let mut sends = wants.min(most(self.limiter.up()));
        let mut takes = brings.min(most(self.limiter.down()));
        if !self.measured.take(peer, u64::from(sends) + u64::from(takes), Instant::now()) {
            (sends, takes) = (0, 0);
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let burst = async {
            say(control, &Message::Measured(Measured { version, sends, takes })).await?;
            give(control, sends, self.limiter.up()).await?;
            if takes > 0 {
                let took = take(control, takes, self.limiter.down()).await?;
                // The first of them had a round trip to make before it could come.
                let took = took.saturating_sub(link.connection().stats().rtt);
                say(control, &Message::Arrived(Arrived { micros: micros(took) })).await?;
            }
            Ok(())
        };
        timeout(MEASURE_DEADLINE, burst).await.unwrap_or_else(|_| Err(RunError::stalled()))
    }

    /// What measuring a connection comes to; as much as there is by the time that something goes wrong.
    pub(super) async fn measure(&self, link: &Link) -> Found {
        let mut found = Found::default();
        let measuring = self.measure_into(link, &mut found);
        let result = timeout(MEASURE_DEADLINE, measuring).await.unwrap_or_else(|_| Err(RunError::stalled()));
        if let Err(error) = result {
            tracing::debug!(peer = %link.peer(), error = %error.message, "the way could not be measured");
            if let Some(fault) = &error.fault {
                link.condemn(fault);
            }
        }
        found
    }

    async fn measure_into(&self, link: &Link, found: &mut Found) -> Result<(), RunError> {
        let (up, down) = (self.limiter.up(), self.limiter.down());
        let mut wants = FIRST_ROUND;
        while let Some(len) = next_round(&mut wants, down) {
            let (mut control, answer) = ask(link, Measure { wants: len, brings: 0 }, found).await?;
            if answer.sends == 0 {
                break;
            }
            let took = take(&mut control, answer.sends, down).await?;
            found.down = Some(rate(answer.sends, took));
            if took >= QUICK || answer.sends < len {
                break;
            }
        }
        let mut brings = FIRST_ROUND;
        while let Some(len) = next_round(&mut brings, up) {
            let (mut control, answer) = ask(link, Measure { wants: 0, brings: len }, found).await?;
            if answer.takes == 0 {
                break;
            }
            give(&mut control, answer.takes, up).await?;
            let took = match control.receiver.recv(MAX_FRAME_LEN).await? {
                Some(Message::Arrived(Arrived { micros })) => Duration::from_micros(micros),
                other => return Err(unexpected(other)),
            };
            found.up = Some(rate(answer.takes, took));
            if took >= QUICK || answer.takes < len {
                break;
            }
        }
        Ok(())
    }
}

/// One round's question, and the answer to it.
async fn ask(
    link: &Link,
    measure: Measure,
    found: &mut Found,
) -> Result<(ControlStream, Measured), RunError> {
    let mut control = link.connection().open_control().await?;
    say(&mut control, &Message::Measure(measure)).await?;
    let answer = match control.receiver.recv(MAX_FRAME_LEN).await? {
        Some(Message::Measured(answer)) => answer,
        Some(Message::Refuse(reason)) => return Err(RunError::refused(reason)),
        other => return Err(unexpected(other)),
    };
    let is_false = answer.sends > measure.wants || answer.takes > measure.brings;
    if is_false || answer.version.len() > MAX_VERSION_LEN {
        return Err(PeerMisbehaved::UnexpectedMessage("Measured").into());
    }
    found.version = Some(printable(&answer.version));
    Ok((control, answer))
}

/// How long the next round is; `None` after the longest.
fn next_round(next: &mut u32, limit: &Valve) -> Option<u32> {
    let len = *next;
    *next = len.saturating_mul(GROWTH);
    (len <= MEASURE_LEN).then(|| len.min(most(limit)))
}

/// The longest round that a limit has room for.
fn most(limit: &Valve) -> u32 {
    let within = limit.rate().map_or(u64::MAX, |rate| rate.within(LIMITED_TO));
    within.min(u64::from(MEASURE_LEN)) as u32
}

/// Sends so many bytes, as fast as they may go.
async fn give(control: &mut ControlStream, bytes: u32, limit: &Valve) -> Result<(), RunError> {
    let mut left = u64::from(bytes);
    while left > 0 {
        let piece = left.min(PIECE_LEN);
        limit.pass(piece).await;
        say(control, &Message::Filler(vec![0; piece as usize])).await?;
        left -= piece;
    }
    Ok(())
}

/// Takes so many bytes in, and tells how long that took.
async fn take(control: &mut ControlStream, bytes: u32, limit: &Valve) -> Result<Duration, RunError> {
    let begun = Instant::now();
    let mut left = u64::from(bytes);
    while left > 0 {
        match control.receiver.recv(MAX_FRAME_LEN).await? {
            Some(Message::Filler(piece)) if !piece.is_empty() && piece.len() as u64 <= left => {
                limit.spend(piece.len() as u64);
                left -= piece.len() as u64;
            }
            other => return Err(unexpected(other)),
        }
    }
    Ok(begun.elapsed())
}

fn unexpected(heard: Option<Message>) -> RunError {
    match heard {
        Some(other) => PeerMisbehaved::UnexpectedMessage(other.name()).into(),
        None => RunError::new(Failure::Unreachable, "the peer ended the conversation without an answer"),
    }
}

fn rate(bytes: u32, took: Duration) -> u64 {
    (f64::from(bytes) / took.as_secs_f64().max(1e-6)) as u64
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_gets_so_much_and_then_nothing_for_a_while() {
        let (spent, begun, peer) = (Spent::default(), Instant::now(), PeerId([1; 32]));
        let whole = u64::from(MEASURE_LEN);
        let rounds = (0..10).filter(|_| spent.take(peer, whole, begun)).count() as u64;
        assert_eq!(rounds, MEASURE_BUDGET / whole);
        assert!(spent.take(PeerId([2; 32]), whole, begun), "another peer has its own");
        assert!(!spent.take(peer, whole, begun + MEASURE_EVERY / 2));
        assert!(spent.take(peer, whole, begun + MEASURE_EVERY));
        assert_eq!(spent.0.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
