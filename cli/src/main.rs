//! `p2p`: tells the local daemon what to move and shows how it goes.

fn main() {
    std::process::exit(p2p_cli::main().into());
}
