//! The local socket, where the command line asks and the daemon answers.
//!
//! `socket` is the name under which it is found, `server` the conversation. What a request does is a handler's
//! affair, which yields events and knows no socket.

mod handlers;
mod server;
mod socket;

pub(crate) use handlers::{Facts, Handlers};
pub(crate) use server::serve;
pub(crate) use socket::{ControlSocket, SocketError};

#[cfg(test)]
mod tests;
