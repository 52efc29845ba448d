//! `p2p verify`: whether a file or folder has a File ID, found out here without a daemon.

use std::{fs::File, io::Read, path::Path};

use p2p_protocol::{
    FileId,
    control::{FetchRequest, KeyPolicy, Wishes},
    reason::Failure,
};

use super::{
    daemon_prints,
    fetch::older,
    source::{Source, not_stdin},
    transfer::{self, Job},
};
use crate::{context::Context, error::CliError, format, json::Line, progress::Bar};

/// Bytes read and hashed at a time. They are read, not mapped: a file that is cut short meanwhile is an error
/// and not a signal.
const BLOCK: usize = 8 << 20;

pub(crate) fn run(ctx: &Context, path: &Path, file_id: FileId) -> Result<(), CliError> {
    not_stdin(path)?;
    let source = Source::look(path)?;
    if source.path.is_dir() {
        return compare(ctx, path, file_id, daemon_prints::folder_id(ctx, &source.path)?, "");
    }
    let cannot = |error: std::io::Error| CliError::io("cannot read", path, &error);
    let file = File::open(&source.path).map_err(cannot)?;
    let total = file.metadata().map_err(cannot)?.len();
    let mut bar = Bar::new(&ctx.out, None);
    let hashed = hash(file, |done| {
        if let Some(bar) = &mut bar {
            let behind = format!("{} of {}", format::bytes(done), format::bytes(total));
            bar.numbers(done, total.max(done), behind);
        }
    });
    if let Some(bar) = bar {
        bar.clear();
    }
    compare(ctx, path, file_id, hashed.map_err(cannot)?, &format!(" ({})", format::bytes(total)))
}

/// Fetches what is wrong.
pub(crate) async fn repair(
    ctx: &Context,
    path: &Path,
    file_id: FileId,
    from: Vec<String>,
) -> Result<(), CliError> {
    match run(ctx, path, file_id) {
        Err(error) if error.is(Failure::Integrity) => {}
        other => return other,
    }
    ctx.out.say(&format!("{} has another content; what is wrong with it is fetched", path.display()));
    let output = older(path.to_owned())?;
    let key = KeyPolicy::Known;
    transfer::run(
        ctx,
        Job::Fetch(FetchRequest {
            ticket: None,
            file_id,
            from,
            output,
            key,
            only: Vec::new(),
            range: None,
            progressive: false,
            wishes: Wishes::default(),
            detach: false,
            request: None,
        }),
    )
    .await
}

fn compare(ctx: &Context, path: &Path, file_id: FileId, actual: FileId, size: &str) -> Result<(), CliError> {
    let ok = actual == file_id;
    ctx.out.json(&Line::Verified { path: &path.to_string_lossy(), file_id, ok, actual })?;
    if !ok {
        return Err(CliError::new(Failure::Integrity, format!("{} has another content", path.display()))
            .hint(format!("its File ID is {actual}")));
    }
    ctx.out.say(&format!("{} is intact{size}", path.display()));
    Ok(())
}

/// The File ID of what can be read, on all cores.
pub(crate) fn hash(mut file: impl Read, mut progress: impl FnMut(u64)) -> std::io::Result<FileId> {
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK];
    let mut done = 0;
    loop {
        let mut filled = 0;
        while filled < block.len() {
            match file.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            return Ok(FileId(*hasher.finalize().as_bytes()));
        }
        hasher.update_rayon(&block[..filled]);
        done += filled as u64;
        progress(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Captured, context, global};

    #[test]
    fn a_file_is_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let id: FileId = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85".parse().unwrap();
        let captured = Captured::default();
        let ctx = context(folder.path(), captured.output(&global(&["--json"])));
        run(&ctx, &path, id).unwrap();
        assert_eq!(run(&ctx, &path, FileId([0; 32])).unwrap_err().exit_code(), 7);
        assert_eq!(run(&ctx, &folder.path().join("no"), id).unwrap_err().exit_code(), 6);
        let shown = path.display();
        assert_eq!(
            captured.data(),
            format!(
                "{{\"event\":\"verified\",\"path\":\"{shown}\",\"file_id\":\"{id}\",\"ok\":true,\"actual\":\"{id}\"}}\n\
                 {{\"event\":\"verified\",\"path\":\"{shown}\",\"file_id\":\"{}\",\"ok\":false,\"actual\":\"{id}\"}}\n",
                "0".repeat(64)
            )
        );
    }

    #[test]
    fn blocks_do_not_show_in_the_hash() {
        let data = vec![7; 2 * BLOCK + 1];
        assert_eq!(hash(data.as_slice(), |_| {}).unwrap().0, *blake3::hash(&data).as_bytes());
    }
}
