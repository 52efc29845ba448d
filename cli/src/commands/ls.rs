//! `p2p ls`: what a peer shares with this machine.

use p2p_protocol::{
    control::{Event, Request},
    wire::peer::Shared,
};

use super::doctor::unknown_key;
use crate::{client, context::Context, error::CliError, format, json::Line};

pub(crate) async fn run(ctx: &Context, peer: &str) -> Result<(), CliError> {
    let answer = ctx.connect_or_start().await?.ask_all(&Request::Listing(peer.to_owned())).await;
    let answer = answer.map_err(|error| unknown_key(ctx, error, peer))?;
    let mut shares = Vec::new();
    for event in answer {
        let Event::Listed(share) = event else { return Err(client::unexpected()) };
        shares.push(share);
    }
    // As people look for things; programs get them so too.
    shares.sort_by(|one, other| (&one.name, one.file_id).cmp(&(&other.name, other.file_id)));
    shares.iter().try_for_each(|share| ctx.out.json(&Line::Listed(share.into())))?;
    if shares.is_empty() {
        ctx.out.say(&format!("{peer} shares nothing with this machine"));
        return Ok(());
    }
    table(&shares).iter().try_for_each(|line| ctx.out.print(line))?;
    ctx.out.say(&format!("fetch one with: {}", ctx.suggest(&format!("fetch FILE_ID --from {peer}"))));
    Ok(())
}

fn table(shares: &[Shared]) -> Vec<String> {
    let header = ["FILE ID", "SIZE", "NAME"].map(str::to_owned).to_vec();
    let rows = shares.iter().map(|share| {
        let size = share.size.map_or_else(|| "-".to_owned(), format::bytes);
        let slash = if share.is_folder { "/" } else { "" };
        vec![share.file_id.to_string(), size, format!("{}{slash}", share.name)]
    });
    format::table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use p2p_protocol::FileId;

    use super::*;

    #[test]
    fn shares_line_up() {
        let share = |n, name: &str, is_folder, size| Shared {
            file_id: FileId([n; 32]),
            name: name.into(),
            is_folder,
            size,
        };
        let shares = [share(1, "a.iso", false, Some(5 << 30)), share(2, "photos", true, None)];
        insta::assert_snapshot!(table(&shares).join("\n"), @"
        FILE ID                                                           SIZE     NAME
        0101010101010101010101010101010101010101010101010101010101010101  5.0 GiB  a.iso
        0202020202020202020202020202020202020202020202020202020202020202  -        photos/
        ");
    }
}
