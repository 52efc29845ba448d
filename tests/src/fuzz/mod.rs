//! What the fuzz targets check, and what the ordinary tests check of their corpora: functions from any bytes to a
//! panic where something is not as it must be. Those for the daemon's own parts are in `p2p_daemon::fuzzing`.

mod file;
mod folders;
mod lists;
mod names;
mod provider;
mod receiver;
mod tokens;
mod wire;

pub use folders::folders;
pub use lists::lists;
pub use names::names;
pub use provider::provider;
pub use receiver::receiver;
pub use tokens::tokens;
pub use wire::wire;
