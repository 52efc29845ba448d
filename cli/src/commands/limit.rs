//! `p2p limit`.

use p2p_protocol::{
    control::{Event, Request},
    rate::{Change, InForce, Limits, Rate, Source},
};

use crate::{client, context::Context, error::CliError, format::Bound, json::Line};

/// Changes what is named, and shows what holds then.
pub(crate) async fn run(
    ctx: &Context,
    up: Option<Bound>,
    down: Option<Bound>,
    off: bool,
    reset: bool,
) -> Result<(), CliError> {
    let change = match off {
        true => Change { up: Some(None), down: Some(None) },
        false => Change { up: up.map(|bound| bound.0), down: down.map(|bound| bound.0) },
    };
    let looks = change == Change::default() && !reset;
    let client = if looks { ctx.connect().await? } else { ctx.connect_or_start().await? };
    let answer = client.ask_all(&Request::Limit { change, reset }).await?;
    let [Event::Limits(limits)] = answer.as_slice() else { return Err(client::unexpected()) };
    ctx.out.json(&Line::Limits(limits.into()))?;
    ctx.out.print(&words(limits))
}

/// The limits in words.
pub(super) fn words(in_force: &InForce) -> String {
    let InForce { limits: Limits { up, down }, source } = in_force;
    let rate = |rate: &Option<Rate>| rate.map_or_else(|| "off".to_owned(), |rate| rate.to_string());
    let why = match source {
        Source::Config => "",
        Source::Hours => " (at this hour)",
        Source::Command => " (set by `p2p limit`, until `p2p limit --reset`)",
    };
    format!("up {}, down {}{why}", rate(up), rate(down))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_say_where_they_come_from() {
        let limits = Limits { up: Some("10 MiB/s".parse().unwrap()), down: None };
        let of = |source| words(&InForce { limits, source });
        assert_eq!(of(Source::Config), "up 10 MiB/s, down off");
        assert_eq!(of(Source::Hours), "up 10 MiB/s, down off (at this hour)");
        assert!(of(Source::Command).contains("limit --reset"));
    }
}
