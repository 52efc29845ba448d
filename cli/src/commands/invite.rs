//! `p2p invite`, `p2p invites`, `p2p uninvite` and `p2p join`.

use p2p_protocol::control::{Event, InvitationInfo, InviteRequest, Invited, JoinRequest, Request};

use super::{list::now_ms, qr, token};
use crate::{
    args::{Invite, Join, Right},
    client,
    context::Context,
    error::CliError,
    format,
    json::{Line, rights},
};

pub(crate) async fn make(ctx: &Context, typed: Invite) -> Result<(), CliError> {
    let with_qr = typed.qr;
    let answer = ctx.connect_or_start().await?.ask_all(&Request::Invite(request(typed))).await?;
    let [Event::Invited(invited)] = answer.as_slice() else { return Err(client::unexpected()) };
    let Invited { token, number, expires_ms, addresses } = invited;
    ctx.out.print(&token.0)?;
    if with_qr {
        qr::show(ctx, &token.0)?;
    }
    let holds = format::until(*expires_ms, now_ms());
    ctx.out.say(&format!(
        "invitation {number} lets one machine in, once, within {holds}; there: p2p join TOKEN"
    ));
    ctx.out.say(&format!(
        "whoever has it can use it; take it back with: {}",
        ctx.suggest(&format!("uninvite {number}"))
    ));
    ctx.out.detail(&format!("it says that this machine is at {}", addresses.join(", ")));
    token::warn_of_loopback(ctx, addresses);
    ctx.out.json(&Line::Invited { token: &token.0, number: *number, expires_ms: *expires_ms, addresses })
}

fn request(typed: Invite) -> InviteRequest {
    let Invite { name, allow, expires, address, qr: _ } = typed;
    InviteRequest {
        name,
        send: allow.contains(&Right::Send),
        fetch: allow.contains(&Right::Fetch),
        expires_s: format::whole_seconds(expires),
        addresses: address,
    }
}

/// `p2p invites`.
pub(crate) async fn list(ctx: &Context) -> Result<(), CliError> {
    let answer = ctx.connect().await?.ask_all(&Request::Invites).await?;
    let mut rows = vec![["N", "MAY", "HOLDS FOR", "USED BY"].map(str::to_owned).to_vec()];
    for event in &answer {
        let Event::Invitation(invitation) = event else { return Err(client::unexpected()) };
        let allow = rights(invitation.send, invitation.fetch);
        let InvitationInfo { number, created_ms, expires_ms, used_by, .. } = invitation;
        ctx.out.json(&Line::Invitation {
            number: *number,
            allow: &allow,
            created_ms: *created_ms,
            expires_ms: *expires_ms,
            used_by: used_by.as_deref(),
        })?;
        rows.push(vec![
            number.to_string(),
            allow.join(","),
            format::until(*expires_ms, now_ms()),
            used_by.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    if answer.is_empty() {
        ctx.out.say("no invitation is open");
        return Ok(());
    }
    format::table(&rows).iter().try_for_each(|line| ctx.out.print(line))
}

/// `p2p uninvite`.
pub(crate) async fn undo(ctx: &Context, number: u64) -> Result<(), CliError> {
    ctx.connect_or_start().await?.ask_ok(&Request::Uninvite(number)).await?;
    ctx.out
        .say(&format!("invitation {number} lets nobody in any longer; who has joined by it stays trusted"));
    ctx.out.json(&Line::Uninvited { number })
}

/// `p2p join`.
pub(crate) async fn join(ctx: &Context, typed: Join) -> Result<(), CliError> {
    let Join { token, token_file, name, allow } = typed;
    let token = token::read(ctx, token, token_file).await?;
    let (send, fetch) = (allow.contains(&Right::Send), allow.contains(&Right::Fetch));
    let request = Request::Join(JoinRequest { token, name, send, fetch });
    let answer = ctx.connect_or_start().await?.ask_all(&request).await?;
    let [Event::Joined(joined)] = answer.as_slice() else { return Err(client::unexpected()) };
    let (name, address) = (joined.name.as_str(), joined.address.as_str());
    ctx.out.say(&format!("joined {name} ({address}): the two machines trust each other"));
    ctx.out.say(&format!("send it something with: {}", ctx.suggest(&format!("send PATH --to {name}"))));
    ctx.out.json(&Line::Joined { peer: joined.peer, name, address })
}
