//! The daemon asks itself, the way its clients do.

use std::{io, path::Path};

use interprocess::local_socket::{GenericFilePath, ToFsName, tokio::Stream, traits::tokio::Stream as _};
use p2p_protocol::{
    control::{Event, Preamble, Request},
    limits::MAX_CONTROL_FRAME_LEN,
    wire::codec::{self, PREFIX_LEN},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ControlSocket;

/// Whether the daemon of this home answers on its socket. One that has as many clients as it takes says so, which is an
/// answer too.
pub(crate) async fn ping(home: &Path) -> io::Result<()> {
    let mut stream = Stream::connect(ControlSocket::of(home).to_fs_name::<GenericFilePath>()?).await?;
    stream.write_all(&Preamble::ours().encode()).await?;
    let mut theirs = [0; Preamble::LEN];
    stream.read_exact(&mut theirs).await?;
    let frame = codec::frame(&Request::Ping, MAX_CONTROL_FRAME_LEN).map_err(io::Error::other)?;
    stream.write_all(&frame).await?;
    let mut prefix = [0; PREFIX_LEN];
    stream.read_exact(&mut prefix).await?;
    let len = codec::body_len(prefix, MAX_CONTROL_FRAME_LEN).map_err(io::Error::other)?;
    let mut body = Vec::new();
    stream.take(len as u64).read_to_end(&mut body).await?;
    match codec::decode(&body).map_err(io::Error::other)? {
        Event::Ok | Event::Error(_) => Ok(()),
        other => Err(io::Error::other(format!("an answer to another question: {other:?}"))),
    }
}
