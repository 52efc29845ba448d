//! `p2p completions`.

use clap::CommandFactory;

use crate::{args::Typed, context::Context, error::CliError};

pub(crate) async fn run(ctx: &Context, shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Typed::command(), "p2p", &mut script);
    ctx.out.data(script).await
}
