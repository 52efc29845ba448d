//! `p2p ls`: what a peer shares with this machine.

use p2p_protocol::{
    FileId,
    control::{EntryKind, Event, FolderEntry, Request},
    name::printable,
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

/// What is in a folder that a peer shares.
pub(crate) async fn folder(ctx: &Context, peer: String, file_id: FileId) -> Result<(), CliError> {
    let request = Request::Entries { target: peer, file_id };
    for event in ctx.connect_or_start().await?.ask_all(&request).await? {
        let Event::Entry(entry) = event else { return Err(client::unexpected()) };
        ctx.out.json(&Line::FolderEntry((&entry).into()))?;
        ctx.out.print(&row(&entry))?;
    }
    Ok(())
}

fn row(entry: &FolderEntry) -> String {
    let (size, path) = (entry.size.map_or_else(|| "-".to_owned(), format::bytes), printable(&entry.path));
    let target = || printable(entry.target.as_deref().unwrap_or_default());
    let tail = match entry.kind {
        EntryKind::Folder => "/".to_owned(),
        EntryKind::File => String::new(),
        EntryKind::Executable => "*".to_owned(),
        EntryKind::Link => format!(" -> {}", target()),
        EntryKind::HardLink => format!(" = {}", target()),
    };
    format!("{size:>9}  {path}{tail}")
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
    use super::*;

    #[test]
    fn what_is_in_a_folder_has_its_marks() {
        let entry = |path: &str, kind, size, target: Option<&str>| FolderEntry {
            path: path.into(),
            kind,
            size,
            file_id: None,
            target: target.map(str::to_owned),
        };
        let rows = [
            entry("a", EntryKind::Folder, None, None),
            entry("a/b\u{1b}", EntryKind::File, Some(5), None),
            entry("a/run", EntryKind::Executable, Some(7 << 20), None),
            entry("c", EntryKind::Link, None, Some("a/run")),
            entry("d", EntryKind::HardLink, None, Some("a/run")),
        ];
        insta::assert_snapshot!(rows.each_ref().map(row).join("\n"), @r"
              -  a/
            5 B  a/b\u{1b}
        7.0 MiB  a/run*
              -  c -> a/run
              -  d = a/run
        ");
    }

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
