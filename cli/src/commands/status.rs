//! `p2p status`.

use std::time::Duration;

use p2p_protocol::control::{Confinement, Event, Request, Status, Writing};

use super::limit::words;
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
    lines.push(format!("  limits       {}", words(&status.limits)));
    lines.push(format!("  confinement  {}", confinement(&status.confinement)));
    lines
}

fn confinement(given_up: &Confinement) -> String {
    let writing = match &given_up.writing {
        Writing::Anywhere => "none".to_owned(),
        Writing::NotSupported => "not supported by this kernel".to_owned(),
        Writing::Landlock { abi, folders, tcp_refused } => {
            let tcp = if *tcp_refused { "; no TCP" } else { "" };
            format!("landlock (abi {abi}): writes only in {}{tcp}", folders.join(", "))
        }
    };
    let privileges = if given_up.no_new_privs { "no new privileges" } else { "new privileges possible" };
    let memory = if given_up.dumpable { "memory open to debuggers" } else { "memory closed to others" };
    format!("{writing}; {privileges}; {memory}")
}

#[cfg(test)]
mod tests {
    use p2p_protocol::rate::{InForce, Limits, Source};

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
            confinement: Confinement { writing: Writing::Anywhere, no_new_privs: true, dumpable: false },
            limits: InForce { limits: Limits::default(), source: Source::Config },
        };
        insta::assert_snapshot!(lines(&status).join("\n"));
    }

    #[test]
    fn what_was_given_up_is_said_in_words() {
        let of = |writing| confinement(&Confinement { writing, no_new_privs: true, dumpable: false });
        let folders = vec!["/home/a/p2p".to_owned(), "/srv/drop".to_owned()];
        let rest = "no new privileges; memory closed to others";
        assert_eq!(
            of(Writing::Landlock { abi: 7, folders: folders.clone(), tcp_refused: true }),
            format!("landlock (abi 7): writes only in /home/a/p2p, /srv/drop; no TCP; {rest}")
        );
        assert_eq!(
            of(Writing::Landlock { abi: 3, folders, tcp_refused: false }),
            format!("landlock (abi 3): writes only in /home/a/p2p, /srv/drop; {rest}")
        );
        assert_eq!(of(Writing::NotSupported), format!("not supported by this kernel; {rest}"));
        let open = Confinement { writing: Writing::Anywhere, no_new_privs: false, dumpable: true };
        assert_eq!(confinement(&open), "none; new privileges possible; memory open to debuggers");
    }
}
