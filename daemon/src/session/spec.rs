//! What a transfer is about, apart from how it goes.

use std::path::PathBuf;

use p2p_protocol::{
    ByteRange, FileId, PeerId, ResumeKey,
    control::{Direction, FetchRequest, KeyPolicy, Output, RequestId, SendRequest, TokenText},
};
use serde::{Deserialize, Serialize};

use super::run::path_of;

/// What a transfer is about, in enough detail to take it up again after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Spec {
    /// A file of this machine goes to a peer.
    Send {
        /// Absolute path of the source, as the operating system's bytes.
        path: Vec<u8>,
        /// Where to, as typed.
        target: String,
        /// The name to offer instead of the source's own.
        name: Option<String>,
        /// Whether the source is spooled standard input, and is to be removed at the end.
        #[serde(default)]
        spooled: bool,
        /// Patterns of what in a folder is left out.
        #[serde(default)]
        excludes: Vec<String>,
        /// What to do about the key found there.
        key: KeyPolicy,
        /// What tells its request, when that is made again.
        #[serde(default)]
        request: Option<RequestId>,
    },
    /// A file of a peer comes to this machine.
    Fetch {
        /// What to fetch.
        file_id: FileId,
        /// Where from, as typed.
        from: Vec<String>,
        /// Where to.
        output: Output,
        /// What to do about the keys found there.
        key: KeyPolicy,
        /// What gives the right to it. Its secret is kept for as long as the transfer is.
        #[serde(default)]
        ticket: Option<TokenText>,
        /// Paths and patterns of what of a folder is wanted; all of it, where there are none.
        #[serde(default)]
        only: Vec<String>,
        /// The bytes of a file that are wanted.
        #[serde(default)]
        range: Option<ByteRange>,
        /// Whether a folder appears file by file.
        #[serde(default)]
        progressive: bool,
        /// What tells its request, when that is made again.
        #[serde(default)]
        request: Option<RequestId>,
    },
    /// A peer sends a file here.
    Receive {
        /// Who sends.
        peer: PeerId,
        /// What.
        file_id: FileId,
    },
    /// A peer fetches a file from here.
    Serve {
        /// Who fetches.
        peer: PeerId,
        /// What.
        file_id: FileId,
    },
    /// A peer sends a file here whose File ID it did not know when it began.
    ReceiveUnsealed {
        /// Who sends.
        peer: PeerId,
        /// What stands for the file at that peer.
        key: ResumeKey,
    },
}

impl From<SendRequest> for Spec {
    fn from(request: SendRequest) -> Self {
        let SendRequest { path, target, name, spooled, excludes, key, wishes: _, detach: _, request } =
            request;
        Self::Send { path, target, name, spooled, excludes, key, request }
    }
}

impl From<FetchRequest> for Spec {
    fn from(request: FetchRequest) -> Self {
        let FetchRequest {
            file_id,
            from,
            ticket,
            output,
            key,
            only,
            range,
            progressive,
            wishes: _,
            detach: _,
            request,
        } = request;
        // What goes to standard output is made anew, as its reader is another one.
        let request = request.filter(|_| output != Output::Stdout);
        Self::Fetch { file_id, from, output, key, ticket, only, range, progressive, request }
    }
}

impl Spec {
    /// Which way the bytes go.
    pub(crate) fn direction(&self) -> Direction {
        match self {
            Self::Send { .. } => Direction::Send,
            Self::Fetch { .. } => Direction::Fetch,
            Self::Receive { .. } | Self::ReceiveUnsealed { .. } => Direction::Receive,
            Self::Serve { .. } => Direction::Serve,
        }
    }

    /// The peer that has begun it, where that is not for the owner of this machine to do, and which way.
    pub(crate) fn begun_by(&self) -> Option<(PeerId, Direction)> {
        match self {
            Self::Receive { peer, .. } | Self::ReceiveUnsealed { peer, .. } | Self::Serve { peer, .. } => {
                Some((*peer, self.direction()))
            }
            Self::Send { .. } | Self::Fetch { .. } => None,
        }
    }

    /// Whether less is wanted than the whole of a file or folder.
    pub(crate) fn is_choosy(&self) -> bool {
        matches!(self, Self::Fetch { only, range, .. } if !only.is_empty() || range.is_some())
    }

    /// Whether its owner wants a folder to appear file by file.
    pub(crate) fn is_progressive(&self) -> bool {
        matches!(self, Self::Fetch { progressive: true, .. })
    }

    /// What this content, which came of it, is a part of.
    pub(crate) fn part_of(&self, content: FileId) -> Option<FileId> {
        match self {
            Self::Fetch { file_id, range, .. } => {
                Some(*file_id).filter(|id| range.is_some() || *id != content)
            }
            _ => None,
        }
    }

    /// Whether a second request for the same thing joins the running transfer instead of making another.
    /// It has to ask no more of keys and name no other peers than the running one does.
    pub(crate) fn same_work(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Send { path: a, target: b, name: c, excludes: d, key, .. },
                Self::Send { path: w, target: x, name: y, excludes: z, key: wanted, .. },
            ) => (a, b, c, d) == (w, x, y, z) && satisfies(*key, *wanted),
            (Self::Fetch { output: Output::Stdout, .. }, _)
            | (_, Self::Fetch { output: Output::Stdout, .. }) => false,
            (
                Self::Fetch {
                    file_id: a,
                    output: b,
                    from,
                    key,
                    ticket: c,
                    only: d,
                    range: e,
                    progressive: f,
                    request: _,
                },
                Self::Fetch {
                    file_id: u,
                    output: v,
                    from: also,
                    key: wanted,
                    ticket: w,
                    only: x,
                    range: y,
                    progressive: z,
                    request: _,
                },
            ) => {
                (a, b, c, d, e, f) == (u, v, w, x, y, z)
                    && also.iter().all(|peer| from.contains(peer))
                    && satisfies(*key, *wanted)
            }
            (Self::Receive { .. } | Self::ReceiveUnsealed { .. }, _) => self == other,
            _ => false,
        }
    }

    /// Whether it was asked for by this very request, made once more.
    pub(crate) fn same_request(&self, other: &Self) -> bool {
        self.request().is_some_and(|request| other.request() == Some(request))
    }

    fn request(&self) -> Option<RequestId> {
        match self {
            Self::Send { request, .. } | Self::Fetch { request, .. } => *request,
            Self::Receive { .. } | Self::ReceiveUnsealed { .. } | Self::Serve { .. } => None,
        }
    }

    /// Where it is on this machine what is sent because its owner said so.
    pub(crate) fn source(&self) -> Option<PathBuf> {
        match self {
            Self::Send { path, .. } => Some(path_of(path)),
            _ => None,
        }
    }

    /// What to do about the keys found at the targets.
    pub(crate) fn key_policy(&self) -> KeyPolicy {
        match self {
            Self::Send { key, .. } | Self::Fetch { key, .. } => *key,
            Self::Receive { .. } | Self::ReceiveUnsealed { .. } | Self::Serve { .. } => KeyPolicy::Known,
        }
    }
}

/// Whether a transfer that runs under one key policy does what is asked under another.
fn satisfies(running: KeyPolicy, wanted: KeyPolicy) -> bool {
    running == wanted || !matches!(wanted, KeyPolicy::Exactly(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_that_an_earlier_version_noted_is_read() {
        let noted = r#"{"Send":{"path":[47,102],"target":"b","name":null,"key":"Known"}}"#;
        let spec: Spec = serde_json::from_str(noted).unwrap();
        assert!(matches!(spec, Spec::Send { spooled: false, .. }));
    }

    #[test]
    fn a_request_joins_only_what_does_all_that_it_asks() {
        let sends = |excludes: &[&str], key| Spec::Send {
            path: b"/f".to_vec(),
            target: "b".into(),
            name: None,
            spooled: false,
            excludes: excludes.iter().map(|pattern| (*pattern).to_owned()).collect(),
            key,
            request: None,
        };
        let send = |key| sends(&[], key);
        assert!(!send(KeyPolicy::Known).same_work(&sends(&["*.o"], KeyPolicy::Known)));
        let (id, other) = (PeerId([1; 32]), PeerId([2; 32]));
        let accepting = send(KeyPolicy::AcceptNew);
        assert!(accepting.same_work(&send(KeyPolicy::Known)));
        assert!(!accepting.same_work(&send(KeyPolicy::Exactly(id))));
        assert!(send(KeyPolicy::Exactly(id)).same_work(&send(KeyPolicy::Exactly(id))));
        assert!(!send(KeyPolicy::Exactly(id)).same_work(&send(KeyPolicy::Exactly(other))));
        let fetch = |from: &[&str], output| Spec::Fetch {
            file_id: FileId([3; 32]),
            from: from.iter().map(|peer| (*peer).to_owned()).collect(),
            output,
            key: KeyPolicy::Known,
            ticket: None,
            only: Vec::new(),
            range: None,
            progressive: false,
            request: None,
        };
        let running = fetch(&["a", "b"], Output::Inbox);
        assert!(running.same_work(&fetch(&["b"], Output::Inbox)));
        assert!(!running.same_work(&fetch(&["c"], Output::Inbox)));
        assert!(!running.same_work(&fetch(&["a"], Output::Path(b"/x".to_vec()))));
        let key = ResumeKey([1; 16]);
        let unsealed = Spec::ReceiveUnsealed { peer: id, key };
        assert!(unsealed.same_work(&Spec::ReceiveUnsealed { peer: id, key }));
        assert!(!unsealed.same_work(&Spec::ReceiveUnsealed { peer: other, key }));
        assert!(!unsealed.same_work(&Spec::ReceiveUnsealed { peer: id, key: ResumeKey([2; 16]) }));
        assert!(!unsealed.same_work(&Spec::Receive { peer: id, file_id: FileId([3; 32]) }));
        assert!(!fetch(&["a"], Output::Stdout).same_work(&fetch(&["a"], Output::Stdout)));
    }
}
