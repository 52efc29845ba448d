//! What could keep a daemon with these settings from working well, found before it does: for `p2p doctor`.

mod hooks;
mod places;
mod system;

use serde::Serialize;

use crate::config::Settings;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    /// It works, though not as well as it could.
    Warn,
    /// Something will not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What, in a word.
    check: &'static str,
    verdict: Verdict,
    /// How it is.
    found: String,
    /// What to do about it.
    advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Looks at everything, and leaves it as it was.
pub(crate) fn examine(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![system::config(settings)];
    findings.extend(places::home(&settings.home.value));
    findings.extend(places::inbox(&settings.inbox.value));
    findings.push(system::buffers());
    findings.extend(system::ports(settings));
    findings.push(system::descriptors());
    findings.push(system::clock());
    findings.push(system::confinement(settings));
    findings.extend(hooks::programs(&settings.hooks.value));
    findings
}

/// The findings, one JSON object a line.
///
/// # Errors
/// They cannot be written as JSON.
pub(crate) fn lines(findings: &[Finding]) -> Result<String, serde_json::Error> {
    findings.iter().map(|finding| Ok(serde_json::to_string(finding)? + "\n")).collect()
}
