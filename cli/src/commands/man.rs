//! `p2p man`: manual pages, made of what the programs say of themselves.

use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use p2p_protocol::reason::Failure;

use super::daemon_prints;
use crate::{args::Typed, context::Context, error::CliError};

/// The page of `p2p` itself.
pub(crate) async fn print(ctx: &Context) -> Result<(), CliError> {
    let mut page = Vec::new();
    let rendered = Man::new(Typed::command()).render(&mut page);
    rendered.map_err(|error| CliError::new(Failure::Other, format!("no manual page: {error}")))?;
    ctx.out.data(page).await
}

/// All pages, for a package.
pub(crate) fn write(ctx: &Context, dir: &Path) -> Result<(), CliError> {
    let failed = |error| CliError::io("cannot write manual pages into", dir, &error);
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Typed::command(), dir).map_err(failed)?;
    std::fs::write(dir.join("p2pd.1"), daemon_prints::manual(ctx)?).map_err(failed)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Captured, context, global};

    #[tokio::test]
    async fn the_page_is_roff_and_names_every_command() {
        let folder = tempfile::tempdir().unwrap();
        let captured = Captured::default();
        super::print(&context(folder.path(), captured.output(&global(&[])))).await.unwrap();
        let page = captured.data();
        assert!(page.contains(".TH p2p 1"), "{page}");
        for command in ["p2p\\-send(1)", "p2p\\-service(1)"] {
            assert!(page.contains(command), "{page}");
        }
    }
}
