//! `p2p peers rule`: what is settled for what a peer sends.

use p2p_protocol::{
    control::{Event, PeerInfo, Request},
    rules::{Exists, RulesChange, Size},
};

use crate::{args::Rule, client, context::Context, error::CliError, json::Line};

pub(crate) async fn run(ctx: &Context, typed: Rule) -> Result<(), CliError> {
    let Rule { peer, accept, folder, largest, quota, exists, seed, progressive } = typed;
    let change = RulesChange {
        accept: accept.map(|wanted| wanted.0),
        folder: folder.map(|wanted| wanted.0),
        largest: largest.map(|wanted| wanted.0),
        quota: quota.map(|wanted| wanted.0),
        exists: exists.map(|wanted| wanted.0),
        seed: seed.map(|wanted| wanted.0),
        progressive: progressive.map(|wanted| wanted.0),
    };
    let answer = ctx.connect_or_start().await?.ask_all(&Request::Rule { peer, change }).await?;
    let [Event::Peer(info)] = answer.as_slice() else { return Err(client::unexpected()) };
    described(info).iter().try_for_each(|line| ctx.out.print(line))?;
    ctx.out.json(&Line::Peer(info.into()))
}

/// The rules, each with what it means where nothing is settled.
fn described(info: &PeerInfo) -> Vec<String> {
    let rules = &info.rules;
    let or = |value: Option<String>, default: &str| value.unwrap_or_else(|| format!("{default} (default)"));
    let yes_or_no = |rule: Option<bool>| rule.map(|yes| if yes { "yes" } else { "no" }.to_owned());
    let size = |size: Option<Size>| or(size.map(|size| size.to_string()), "any size");
    [
        ("accept", or(rules.accept.map(|accept| accept.word().to_owned()), "as the config says")),
        ("folder", or(rules.folder.clone(), "the inbox")),
        ("largest", size(rules.largest)),
        ("quota", size(rules.quota)),
        ("exists", or(rules.exists.map(|exists| exists.word().to_owned()), Exists::default().word())),
        ("seed", or(yes_or_no(rules.seed), "yes")),
        ("progressive", or(yes_or_no(rules.progressive), "no")),
    ]
    .map(|(key, value)| format!("{key:<11} {value}"))
    .into()
}

#[cfg(test)]
mod tests {
    use p2p_protocol::{
        PeerId,
        control::Standing,
        rules::{Acceptance, Rules},
    };

    use super::*;

    #[test]
    fn every_rule_is_told() {
        let info = PeerInfo {
            id: PeerId([1; 32]),
            standing: Standing::Trusted,
            name: None,
            send: true,
            fetch: true,
            addresses: Vec::new(),
            connected: false,
            rules: Rules { accept: Some(Acceptance::Ask), quota: Some(Size(1 << 30)), ..Rules::default() },
        };
        insta::assert_snapshot!(described(&info).join("\n"), @"
        accept      ask
        folder      the inbox (default)
        largest     any size (default)
        quota       1 GiB
        exists      keep-both (default)
        seed        yes (default)
        progressive no (default)
        ");
    }
}
