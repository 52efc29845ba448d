//! `p2p peers`, `p2p peers trust` and `p2p peers forget`.

use p2p_protocol::control::{Event, PeerInfo, Request, Standing, TrustRequest};

use super::rule;
use crate::{
    args::{Peers, Right, Trust},
    client,
    context::Context,
    error::CliError,
    format,
    json::{Line, rights},
};

pub(crate) async fn run(ctx: &Context, command: Option<Peers>) -> Result<(), CliError> {
    match command {
        None => list(ctx).await,
        Some(Peers::Trust(typed)) => {
            let request = request(typed);
            let peer = request.id;
            let may = match (request.send, request.fetch) {
                (true, true) => "send files here and fetch what is shared",
                (true, false) => "send files here",
                (false, true) => "fetch what is shared",
                (false, false) => "do nothing here",
            };
            let who = request.name.clone().unwrap_or_else(|| peer.to_string());
            ctx.connect_or_start().await?.ask_ok(&Request::Trust(request)).await?;
            ctx.out.say(&format!("{who} is trusted: it may {may}"));
            ctx.out.json(&Line::Trusted { peer })
        }
        Some(Peers::Rule(rule)) => rule::run(ctx, rule).await,
        Some(Peers::Forget { peer }) => {
            ctx.connect_or_start().await?.ask_ok(&Request::Forget(peer.clone())).await?;
            ctx.out.say(&format!("{peer} is forgotten; its connections are closed"));
            ctx.out.json(&Line::Forgotten { peer: &peer })
        }
    }
}

fn request(typed: Trust) -> TrustRequest {
    let Trust { id, name, address, allow } = typed;
    TrustRequest {
        id,
        name,
        address,
        send: allow.contains(&Right::Send),
        fetch: allow.contains(&Right::Fetch),
    }
}

async fn list(ctx: &Context) -> Result<(), CliError> {
    let answer = ctx.connect().await?.ask_all(&Request::Peers).await?;
    let mut peers = Vec::new();
    for event in answer {
        match event {
            Event::Peer(peer) => peers.push(peer),
            Event::Ok => {}
            _ => return Err(client::unexpected()),
        }
    }
    peers.iter().try_for_each(|peer| ctx.out.json(&Line::Peer(peer.into())))?;
    if peers.is_empty() {
        ctx.out.say("no peers yet; trust one with: p2p peers trust ID (its `p2p id` prints the ID)");
        return Ok(());
    }
    table(&peers).iter().try_for_each(|line| ctx.out.print(line))?;
    if peers.iter().any(|peer| peer.standing == Standing::Pending) {
        let trust = ctx.suggest("peers trust ID");
        ctx.out.say(&format!("pending peers tried and were refused; let one in with: {trust}"));
    }
    Ok(())
}

fn table(peers: &[PeerInfo]) -> Vec<String> {
    let header = ["NAME", "STANDING", "MAY", "PEER ID", "ADDRESSES"].map(str::to_owned).to_vec();
    let rows = peers.iter().map(|peer| {
        let standing = match peer.standing {
            Standing::Known => "known",
            Standing::Trusted => "trusted",
            Standing::Pending => "pending",
        };
        let standing = if peer.connected { format!("{standing}, connected") } else { standing.to_owned() };
        let may = rights(peer.send, peer.fetch);
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        vec![
            or_dash(peer.name.clone().unwrap_or_default()),
            standing,
            or_dash(may.join(",")),
            peer.id.to_string(),
            or_dash(peer.addresses.join(" ")),
        ]
    });
    format::table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use p2p_protocol::PeerId;

    use super::*;
    use crate::{args::Command, testing::typed};

    #[test]
    fn rights_are_both_unless_named() {
        let id = PeerId([5; 32]).to_string();
        let of = |words: &[&str]| match typed(&[&["peers", "trust", &id], words].concat()).command {
            Command::Peers { command: Some(Peers::Trust(trust)) } => {
                let request = request(trust);
                (request.send, request.fetch)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(of(&[]), (true, true));
        assert_eq!(of(&["--allow", "fetch"]), (false, true));
        assert_eq!(of(&["--allow", "send,fetch"]), (true, true));
    }

    #[test]
    fn peers_line_up() {
        let peer = |n, standing, name: Option<&str>| PeerInfo {
            id: PeerId([n; 32]),
            standing,
            name: name.map(Into::into),
            send: standing == Standing::Trusted,
            fetch: standing == Standing::Trusted,
            addresses: if n == 3 { vec![] } else { vec![format!("10.0.0.{n}:4419")] },
            connected: n == 1,
            rules: p2p_protocol::rules::Rules::default(),
        };
        let peers = [
            peer(1, Standing::Trusted, Some("fifi")),
            peer(2, Standing::Known, None),
            peer(3, Standing::Pending, None),
        ];
        insta::assert_snapshot!(table(&peers).join("\n"));
    }
}
