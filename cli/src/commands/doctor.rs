//! `p2p doctor`: what the daemon's program finds about this machine, and the daemon that runs.

use std::time::Duration;

use p2p_protocol::{
    control::{Event, Request},
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
    for check in &checks {
        ctx.out.json(&Line::Check(check))?;
        lines(check).iter().try_for_each(|line| ctx.out.print(line))?;
    }
    match checks.iter().filter(|check| check.verdict == Verdict::Fail).count() {
        0 => Ok(()),
        failed => Err(CliError::new(Failure::Other, format!("{failed} of {} checks failed", checks.len()))),
    }
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
