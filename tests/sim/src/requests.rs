//! What hosts are asked for, as most runs ask it.

use std::{os::unix::ffi::OsStrExt, path::Path};

use p2p_protocol::control::{KeyPolicy, Request, SendRequest, ShareRequest, ShareWith, TrustRequest, Wishes};

use crate::host::Host;

/// Trust in a host, by its name and at its address, with every right.
pub fn trust(host: &Host) -> Request {
    Request::Trust(TrustRequest {
        id: host.peer.unwrap(),
        name: Some(host.name.clone()),
        address: Some(host.address().to_string()),
        send: true,
        fetch: true,
    })
}

/// A send of all that is at a path, to whoever is known under that.
pub fn send(path: &Path, target: String) -> Request {
    Request::Send(SendRequest {
        path: path.as_os_str().as_bytes().to_vec(),
        target,
        name: None,
        spooled: false,
        excludes: Vec::new(),
        key: KeyPolicy::Known,
        wishes: Wishes::default(),
        detach: false,
        request: None,
    })
}

/// A share of all that is at a path, with every trusted peer.
pub fn share(path: &Path) -> Request {
    let path = path.as_os_str().as_bytes().to_vec();
    Request::Share(ShareRequest { path, with: ShareWith::Trusted, excludes: Vec::new() })
}
