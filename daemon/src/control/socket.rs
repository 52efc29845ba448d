//! The local socket's name: in the home, or, where that path is too long for a socket, in the run-time folder
//! with a link to it in the home.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, symlink},
    },
    path::{Path, PathBuf},
};

use interprocess::{
    local_socket::{
        GenericFilePath, ListenerOptions, ToFsName,
        tokio::{Listener, Stream},
        traits::tokio::Listener as _,
    },
    os::unix::local_socket::ListenerOptionsExt,
};

use crate::home::Home;

const SOCKET: &str = "p2pd.sock";
/// The link that is about to take the socket's name.
const NEW_LINK: &str = "p2pd.sock.new";
/// Longest path of a socket, in bytes. Linux takes 107, other systems a little less.
const MAX_PATH_LEN: usize = 100;
/// Bytes of the home's hash in the name of a socket that is elsewhere.
const HASH_LEN: usize = 8;

/// Why there is no local socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Something else has the socket's name.
    #[error("{path} is in the way of the daemon's socket; if it is not needed, remove it")]
    InTheWay { path: PathBuf },
    /// The folder for a socket that is not in the home is somebody else's, or open to others.
    #[error(
        "{path} cannot hold the daemon's socket: it is not a folder that only this user can write to; remove it, \
         or use a shorter path for the home"
    )]
    Runtime { path: PathBuf },
    /// No folder has a path that is short enough.
    #[error("{path} is too long for a socket; use a shorter path for the home, or set XDG_RUNTIME_DIR")]
    TooLong { path: PathBuf },
    /// The operating system said no.
    #[error("{path}: cannot {what}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// The socket, bound, and removed when dropped.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: Listener,
    _names: Names,
}

/// Names in the file system that end with the socket. The home's lock outlives them, so they are still this
/// daemon's when they are removed.
#[derive(Debug)]
struct Names(Vec<PathBuf>);

impl Drop for Names {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::debug!(path = %path.display(), %error, "cannot remove the socket");
            }
        }
    }
}

impl ControlSocket {
    /// Binds the socket of a home. What a daemon left that was killed is removed: the home is locked, so nobody
    /// listens there. Needs the runtime.
    pub(crate) fn bind(home: &Home) -> Result<Self, SocketError> {
        Self::bind_in(home, &runtime_folders())
    }

    /// The same with the folders for a socket that cannot be in the home, the best first.
    fn bind_in(home: &Home, runtime: &[PathBuf]) -> Result<Self, SocketError> {
        let path = home.path().join(SOCKET);
        clear(&path)?;
        if fits(&path) {
            let names = Names(vec![path.clone()]);
            return Ok(Self { listener: listen(&path)?, _names: names });
        }
        let real = place_for(home.path(), runtime)?;
        clear(&real)?;
        let names = Names(vec![path.clone(), real.clone()]);
        let listener = listen(&real)?;
        // A link appears whole or not at all.
        let new = home.path().join(NEW_LINK);
        clear(&new)?;
        symlink(&real, &new).map_err(failed("make the link", &new))?;
        fs::rename(&new, &path).map_err(failed("make the link", &path))?;
        Ok(Self { listener, _names: names })
    }

    /// The folder that the socket of this home will be in, where it cannot be in the home itself; made now, so that a
    /// daemon that may not write elsewhere can be let write in it.
    pub(crate) fn folder_beside(home: &Path) -> Result<Option<PathBuf>, SocketError> {
        if fits(&home.join(SOCKET)) {
            return Ok(None);
        }
        Ok(place_for(home, &runtime_folders())?.parent().map(Path::to_owned))
    }

    /// Whether a daemon listens for commands in this home.
    pub(crate) fn is_served(home: &Path) -> bool {
        std::os::unix::net::UnixStream::connect(Self::of(home)).is_ok()
    }

    /// Where the daemon of this home is found.
    pub(super) fn of(home: &Path) -> PathBuf {
        let path = home.join(SOCKET);
        fs::read_link(&path).unwrap_or(path)
    }

    /// The next client, whoever it is.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        self.listener.accept().await
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Io { what, path, source }
}

fn fits(path: &Path) -> bool {
    path.as_os_str().as_bytes().len() <= MAX_PATH_LEN
}

/// Binds and restricts in one step: at no time can another user connect.
fn listen(path: &Path) -> Result<Listener, SocketError> {
    let name = path.to_fs_name::<GenericFilePath>().map_err(failed("listen on the socket", path))?;
    let options = ListenerOptions::new().name(name).mode(0o600).reclaim_name(false);
    options.create_tokio().map_err(failed("listen on the socket", path))
}

/// Removes a socket, or a link to one, that nobody needs any longer. Anything else is not ours.
fn clear(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() || metadata.is_symlink() => {
            fs::remove_file(path).map_err(failed("remove the old socket", path))
        }
        Ok(_) => Err(SocketError::InTheWay { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("examine", path)(error)),
    }
}

/// Folders for run-time files of this user: the session's, and one of our own among the temporary files.
fn runtime_folders() -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = |temp: PathBuf| temp.join(format!("p2p-{uid}"));
    let temp = [own(std::env::temp_dir()), own(PathBuf::from("/tmp"))];
    session.filter(|path| path.is_absolute() && path.is_dir()).into_iter().chain(temp).collect()
}

/// The path of a socket that cannot be in its home, in the first run-time folder whose path is short enough.
fn place_for(home: &Path, runtime: &[PathBuf]) -> Result<PathBuf, SocketError> {
    let hash = blake3::hash(home.as_os_str().as_bytes()).to_hex();
    let name = format!("{}.sock", &hash[..2 * HASH_LEN]);
    let fitting = runtime.iter().find(|folder| fits(&folder.join("p2p").join(&name)));
    let Some(folder) = fitting else {
        return Err(SocketError::TooLong { path: home.join(SOCKET) });
    };
    let below = folder.join("p2p");
    for path in [folder, &below] {
        make_private(path)?;
    }
    Ok(below.join(name))
}

/// Makes a folder of this user's alone. One that is there already must be that: among temporary files anybody may
/// have made it.
fn make_private(path: &Path) -> Result<(), SocketError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("make this folder", path)(error));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(path).map_err(failed("examine", path))?;
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if metadata.is_dir() && ours && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(SocketError::Runtime { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use interprocess::local_socket::{tokio::Stream, traits::tokio::Stream as _};

    use super::*;
    use crate::disk::System;

    async fn connect(path: &Path) -> io::Result<Stream> {
        Stream::connect(path.to_fs_name::<GenericFilePath>()?).await
    }

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o777
    }

    fn deep(temp: &tempfile::TempDir) -> Home {
        Home::open(&System, &temp.path().join("a".repeat(60)).join("b".repeat(60))).unwrap()
    }

    #[tokio::test]
    async fn a_short_home_holds_its_socket() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::open(&System, temp.path()).unwrap();
        let path = temp.path().join(SOCKET);
        let socket = ControlSocket::bind_in(&home, &[]).unwrap();
        assert_eq!(mode(&path), 0o600);
        connect(&path).await.unwrap();
        socket.accept().await.unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    /// Fault 9.
    #[tokio::test]
    async fn what_a_killed_daemon_left_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::open(&System, temp.path()).unwrap();
        let path = temp.path().join(SOCKET);
        let mut killed = ControlSocket::bind_in(&home, &[]).unwrap();
        killed._names.0.clear();
        drop(killed);
        assert!(connect(&path).await.is_err() && path.exists());
        let _socket = ControlSocket::bind_in(&home, &[]).unwrap();
        connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn something_else_in_the_way_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::open(&System, temp.path()).unwrap();
        fs::write(temp.path().join(SOCKET), "precious").unwrap();
        assert!(matches!(ControlSocket::bind_in(&home, &[]), Err(SocketError::InTheWay { .. })));
        assert_eq!(fs::read(temp.path().join(SOCKET)).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_deep_home_links_to_its_socket() {
        let (temp, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let home = deep(&temp);
        let link = home.path().join(SOCKET);
        let folders = [temp.path().join("c".repeat(100)), runtime.path().join("p2p-7")];
        for _ in 0..2 {
            let mut socket = ControlSocket::bind_in(&home, &folders).unwrap();
            let real = fs::read_link(&link).unwrap();
            assert_eq!(real.parent().unwrap(), runtime.path().join("p2p-7/p2p"));
            assert_eq!(real.file_name().unwrap().len(), 2 * HASH_LEN + ".sock".len());
            assert_eq!((mode(&real), mode(real.parent().unwrap())), (0o600, 0o700));
            assert_eq!(mode(&runtime.path().join("p2p-7")), 0o700);
            connect(&real).await.unwrap();
            // The first one leaves everything behind, as a killed daemon does.
            socket._names.0.clear();
        }
        let real = fs::read_link(&link).unwrap();
        drop(ControlSocket::bind_in(&home, &folders).unwrap());
        assert!(link.symlink_metadata().is_err() && !real.exists());
    }

    #[tokio::test]
    async fn a_runtime_folder_that_others_made_is_refused() {
        let (temp, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let home = deep(&temp);
        let folders = [runtime.path().join("p2p-7")];
        fs::create_dir(&folders[0]).unwrap();
        for mode in [0o770, 0o702, 0o777] {
            fs::set_permissions(&folders[0], fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(ControlSocket::bind_in(&home, &folders), Err(SocketError::Runtime { .. })));
        }
        fs::remove_dir(&folders[0]).unwrap();
        symlink(temp.path(), &folders[0]).unwrap();
        assert!(matches!(ControlSocket::bind_in(&home, &folders), Err(SocketError::Runtime { .. })));
        let far = [temp.path().join("c".repeat(100))];
        assert!(matches!(ControlSocket::bind_in(&home, &far), Err(SocketError::TooLong { .. })));
    }
}
