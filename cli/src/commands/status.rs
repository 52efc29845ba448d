//! `p2p status`.

use std::time::Duration;

use p2p_protocol::control::{Event, Request, Status};

use crate::{client, context::Context, error::CliError, format, json::Line};

pub(crate) async fn run(ctx: &Context) -> Result<(), CliError> {
    let answer = ctx.connect().await?.ask_all(&Request::Status).await?;
    let [Event::Status(status)] = answer.as_slice() else {
        return Err(client::unexpected());
    };
    ctx.out.json(&Line::Status(status.into()))?;
    lines(status).iter().try_for_each(|line| ctx.out.print(line))
}

fn lines(status: &Status) -> Vec<String> {
    let up = format::duration(Duration::from_secs(status.uptime_s));
    let mut lines = vec![
        format!("p2pd {}, process {}, up {up}", status.version, status.pid),
        format!("  peer id      {}", status.peer),
    ];
    for (n, address) in status.listen.iter().enumerate() {
        lines.push(format!("  {:<12} {address}", if n == 0 { "listening on" } else { "" }));
    }
    lines.push(format!("  inbox        {}", status.inbox));
    lines.push(format!("  home         {}", status.home));
    lines.push(format!("  transfers    {} unfinished", status.unfinished));
    lines.push(format!("  connections  {}", status.connections));
    lines.push(format!("  shares       {}", status.shares));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_readable() {
        let status = Status {
            version: "0.1.0".into(),
            pid: 4242,
            peer: p2p_protocol::PeerId([0; 32]),
            listen: vec!["0.0.0.0:4419".into(), "[::]:4419".into()],
            home: "/home/a/.local/state/p2p".into(),
            inbox: "/home/a/Downloads/p2p".into(),
            uptime_s: 11_100,
            unfinished: 2,
            connections: 1,
            shares: 4,
        };
        insta::assert_snapshot!(lines(&status).join("\n"));
    }
}
