//! The programs under test. `cargo test` does not build the binaries of other packages, so they are built here,
//! once per test process, into the folder that the test itself was built into.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The daemon's program.
pub fn p2pd() -> PathBuf {
    folder().join("p2pd")
}

/// The command line's program; the daemon's lies beside it.
pub fn p2p() -> PathBuf {
    folder().join("p2p")
}

fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build)
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own program");
    // <target>/<profile>/deps/<test>, or <target>/<profile>/<benchmark>
    let folder = test.parent().expect("a program lies in a folder");
    let profile_folder = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    let profile_folder = profile_folder.expect("a profile's folder lies in the target folder");
    let target = profile_folder.parent().expect("a profile's folder lies in the target folder");
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace");
    // The whole workspace, so that dependencies have the features that they have in every other build of it.
    // Cargo's own lock keeps two test processes apart.
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()))
        .args(["build", "--workspace", "--bins", "--offline", "--quiet", "--profile", profile])
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace)
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "the programs under test do not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    profile_folder.to_owned()
}
