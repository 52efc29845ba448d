//! The local socket, where the command line asks and the daemon answers.
//!
//! `socket` is the name under which it is found, `server` the conversation, `ping` the daemon as its own client. What a
//! request does is a handler's affair, which yields events and knows no socket.

mod handlers;
mod ping;
mod server;
mod socket;
mod spare;

pub(crate) use handlers::{Facts, Handlers};
pub(crate) use ping::ping;
pub(crate) use server::serve;
pub(crate) use socket::{ControlSocket, SocketError};

#[cfg(test)]
mod tests;
