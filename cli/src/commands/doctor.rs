//! `p2p doctor`: what the daemon's program finds about this machine, the daemon that runs, and the way to a peer.

use std::time::Duration;

use p2p_protocol::{
    control::{Event, Probe, Request},
    name::printable,
    reason::Failure,
};

use super::daemon_prints;
use crate::{
    client::{self, Client, ConnectError},
    context::Context,
    error::CliError,
    format,
    json::{Check, Line, Verdict},
};

pub(crate) async fn run(ctx: &Context) -> Result<(), CliError> {
    let mut checks = match daemon_prints::findings(ctx) {
        Ok(lines) => parse(&lines)?,
        // It says what is wrong with its settings, or is not there at all.
        Err(error) => vec![check("config", Verdict::Fail, error.message, error.hints.first().cloned())],
    };
    checks.push(daemon(ctx).await?);
    show(ctx, &checks)
}

fn show(ctx: &Context, checks: &[Check]) -> Result<(), CliError> {
    for check in checks {
        ctx.out.json(&Line::Check(check))?;
        lines(check).iter().try_for_each(|line| ctx.out.print(line))?;
    }
    match checks.iter().filter(|check| check.verdict == Verdict::Fail).count() {
        0 => Ok(()),
        failed => Err(CliError::new(Failure::Other, format!("{failed} of {} checks failed", checks.len()))),
    }
}

/// What to do where somebody answered, and has proved to have a key that is not known here.
pub(super) fn unknown_key(ctx: &Context, error: CliError, target: &str) -> CliError {
    let Some(key) = error.key.filter(|_| error.is(Failure::UnknownKey)) else { return error };
    let trust = ctx.suggest(&format!("peers trust {key} --address {target}"));
    error.hint(format!("if `p2p id` says the same there: {trust}"))
}

/// `p2p doctor PEER`.
pub(crate) async fn probe(ctx: &Context, target: String) -> Result<(), CliError> {
    let events = ctx.connect_or_start().await?.ask_all(&Request::Probe(target.clone())).await;
    let events = events.map_err(|error| unknown_key(ctx, error, &target))?;
    let [Event::Probed(found)] = events.as_slice() else {
        return Err(client::unexpected());
    };
    let own = daemon_prints::own_id(ctx)?;
    ctx.out.json(&Line::Probe {
        peer: found.peer.id,
        address: &found.address,
        connect_ms: found.connect_us.map(millis),
        round_trip_ms: millis(found.round_trip_us),
        mtu: found.mtu,
        protocol: &found.protocol,
        trusts: found.trusts,
        version: &found.version,
        peer_version: found.peer_version.as_deref(),
        down_bps: found.down,
        up_bps: found.up,
    })?;
    show(ctx, &path(found, &own))
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// What trying the way to a peer says.
fn path(found: &Probe, own: &str) -> Vec<Check> {
    let reached = match found.connect_us {
        Some(micros) => format!("{} answered; connected in {:.1} ms", found.address, millis(micros)),
        None => format!("{} is connected already", found.address),
    };
    let peer = &found.peer;
    let name = peer.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let known = |what: &str| format!("{}{name}, {what}", peer.id);
    let may: Vec<&str> = [("send", peer.send), ("fetch", peer.fetch)]
        .iter()
        .filter(|(_, may)| *may)
        .map(|(right, _)| *right)
        .collect();
    let trusted_here = if may.is_empty() {
        check("peer", Verdict::Ok, known("which may do nothing here"), None)
    } else {
        check("peer", Verdict::Ok, known(&format!("which may {} here", may.join(" and "))), None)
    };
    let trusts = match found.trusts {
        Some(true) => check("trusted_there", Verdict::Ok, "it trusts this machine", None),
        Some(false) => {
            let advice = format!("have its owner run: p2p peers trust {own}");
            check("trusted_there", Verdict::Warn, "it does not trust this machine", Some(advice))
        }
        None => check(
            "trusted_there",
            Verdict::Ok,
            "it has dialled this machine; what it lets it do does not show",
            None,
        ),
    };
    vec![
        check("reached", Verdict::Ok, reached, None),
        trusted_here,
        trusts,
        check("round_trip", Verdict::Ok, format!("{:.1} ms", millis(found.round_trip_us)), None),
        check("packets", Verdict::Ok, format!("up to {} bytes so far", found.mtu), None),
        check("rate", Verdict::Ok, rate(found), None),
        check("protocol", Verdict::Ok, found.protocol.clone(), None),
        check("versions", Verdict::Ok, versions(found), None),
    ]
}

/// What a short burst came to. A longer one may go faster.
fn rate(found: &Probe) -> String {
    let ways = [("from there", found.down), ("to there", found.up)];
    let measured = ways.iter().filter_map(|(way, rate)| Some(format!("{} {way}", format::rate((*rate)?))));
    let measured: Vec<String> = measured.collect();
    match (measured.is_empty(), found.peer_version.is_some()) {
        (false, _) => format!("{}, in a short burst", measured.join(", ")),
        (true, true) => "not measured, as it just was; again in ten seconds".to_owned(),
        (true, false) => "not measured: that takes a daemon there that knows how, that trusts this machine and is trusted here, and that can be dialled".to_owned(),
    }
}

fn versions(found: &Probe) -> String {
    let there = match (&found.peer_version, found.trusts) {
        (Some(version), _) => printable(version),
        (None, Some(false)) => "not told to whom it does not trust".to_owned(),
        (None, _) => "not told: it is an older version, not trusted here, or cannot be dialled".to_owned(),
    };
    format!("p2pd {} here, there {there}", found.version)
}

fn parse(lines: &str) -> Result<Vec<Check>, CliError> {
    let parsed: Result<Vec<Check>, _> = lines.lines().map(serde_json::from_str).collect();
    parsed.map_err(|_| client::unexpected())
}

fn check(name: &str, verdict: Verdict, found: impl Into<String>, advice: Option<String>) -> Check {
    Check { check: name.to_owned(), verdict, found: found.into(), advice }
}

/// The one that runs, if one does.
async fn daemon(ctx: &Context) -> Result<Check, CliError> {
    const NAME: &str = "daemon";
    let client = match Client::connect(&ctx.home).await {
        Ok(client) => client,
        Err(ConnectError::NotRunning) => {
            let found = "none runs; a command that moves something starts one";
            return Ok(check(NAME, Verdict::Ok, found, None));
        }
        Err(error) => {
            let error = CliError::from(error);
            return Ok(check(NAME, Verdict::Fail, error.message, error.hints.first().cloned()));
        }
    };
    let answer = client.ask_all(&Request::Status).await?;
    let [Event::Status(status)] = answer.as_slice() else {
        return Err(client::unexpected());
    };
    let up = format::duration(Duration::from_secs(status.uptime_s));
    let found = format!("p2pd {}, process {}, up {up}", status.version, status.pid);
    let ours = env!("CARGO_PKG_VERSION");
    Ok(if status.version == ours {
        check(NAME, Verdict::Ok, found, None)
    } else {
        let found = format!("{found}; this is p2p {ours}");
        check(
            NAME,
            Verdict::Warn,
            found,
            Some("restart the daemon, so that both are of one version".to_owned()),
        )
    })
}

fn lines(check: &Check) -> Vec<String> {
    let word = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    let found = check.found.lines();
    let first = format!("{word:<5} {:<18} {}", check.check, check.found.lines().next().unwrap_or_default());
    let more = found.skip(1).chain(check.advice.as_deref()).map(|line| format!("{:24} {line}", ""));
    [first].into_iter().chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_lines_up() {
        let checks = [
            check("home", Verdict::Ok, "/home/a/.local/state/p2p: yours alone", None),
            check(
                "udp_buffers",
                Verdict::Warn,
                "208 KiB",
                Some("sudo sysctl -w net.core.rmem_max=1".to_owned()),
            ),
            check("config", Verdict::Fail, "config.toml:1:1: unknown key\nand more", None),
        ];
        let lines: Vec<String> = checks.iter().flat_map(lines).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
