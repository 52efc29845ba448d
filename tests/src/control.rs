//! The local socket without the command line, for what would need too many processes.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use p2p_protocol::{
    FileId,
    control::{
        Event, FetchRequest, KeyPolicy, Output, Preamble, Request, SendRequest, ShareRequest, ShareWith,
        Wishes,
    },
    limits::MAX_CONTROL_FRAME_LEN,
    wire::codec::{self, PREFIX_LEN},
};

/// Asks the daemon of this home, and returns all that it answers.
///
/// # Errors
/// There is no daemon, or it closes the connection too early.
pub fn ask(home: &Path, request: &Request) -> io::Result<Vec<Event>> {
    let socket = home.join("p2pd.sock");
    // Where the home's path is too long for a socket, it has a link to one.
    let mut stream = UnixStream::connect(std::fs::read_link(&socket).unwrap_or(socket))?;
    stream.write_all(&Preamble::ours().encode())?;
    let mut theirs = [0; Preamble::LEN];
    stream.read_exact(&mut theirs)?;
    assert_eq!(Preamble::decode(theirs), Some(Preamble::ours()), "a daemon of this version");
    stream.write_all(&codec::frame(request, MAX_CONTROL_FRAME_LEN).expect("a request fits its frame"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let (mut events, mut rest) = (Vec::new(), answer.as_slice());
    while let Some((prefix, after)) = rest.split_first_chunk::<PREFIX_LEN>() {
        let len = codec::body_len(*prefix, MAX_CONTROL_FRAME_LEN).expect("the daemon keeps to its limits");
        let Some((body, after)) = after.split_at_checked(len) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        events.push(codec::decode(body).expect("the daemon speaks this version"));
        rest = after;
    }
    Ok(events)
}

/// `p2p send PATH --to TARGET --name NAME --detach --accept-new-key`.
pub fn send(path: &Path, target: &str, name: &str) -> Request {
    Request::Send(SendRequest {
        path: path.as_os_str().as_encoded_bytes().to_vec(),
        target: target.to_owned(),
        name: Some(name.to_owned()),
        spooled: false,
        excludes: Vec::new(),
        key: KeyPolicy::AcceptNew,
        wishes: Wishes::default(),
        detach: true,
        request: None,
    })
}

/// `p2p fetch ID --from FROM --detach --accept-new-key`.
pub fn fetch(file_id: FileId, from: &str) -> Request {
    let (from, key) = (vec![from.to_owned()], KeyPolicy::AcceptNew);
    Request::Fetch(FetchRequest {
        ticket: None,
        file_id,
        from,
        output: Output::Inbox,
        key,
        only: Vec::new(),
        range: None,
        progressive: false,
        wishes: Wishes::default(),
        detach: true,
        request: None,
    })
}

/// `p2p share PATH`.
pub fn share(path: &Path) -> Request {
    Request::Share(ShareRequest {
        path: path.as_os_str().as_encoded_bytes().to_vec(),
        with: ShareWith::Trusted,
        excludes: Vec::new(),
    })
}

/// Asks all of this, from several threads at once.
///
/// # Panics
/// The daemon does not answer.
pub fn ask_many(home: &Path, count: u64, request: &(dyn Fn(u64) -> Request + Sync)) -> Vec<Vec<Event>> {
    const AT_ONCE: u64 = 32;
    std::thread::scope(|scope| {
        let one = |first: u64| {
            let asked = (first..count).step_by(AT_ONCE as usize);
            let answers = asked.map(|n| ask(home, &request(n)).expect("the daemon answers"));
            answers.collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(move || one(first))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it does not panic")).collect()
    })
}
