//! `p2pd`, the daemon.

fn main() -> std::process::ExitCode {
    p2p_daemon::main()
}
