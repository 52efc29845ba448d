//! The trust file on disk: read whole or not at all, replaced whole, one writer.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use p2p_protocol::{
    PeerId,
    policy::Rights,
    rules::{Acceptance, Exists, Rules, Size},
};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    PeersError,
    book::{Book, Entry, check_name},
    invitations::{InvitationTable, Invitations},
    pending::Pending,
    target::Place,
};
use crate::{
    disk::{self, Disk, open_folder, write_all},
    home,
    text::line_and_column,
};

const FILE: &str = "peers.toml";
const NEW_FILE: &str = "peers.toml.new";
const VERSION: u32 = 2;
/// Before it, nothing told a file that was cut between two lines from a shorter one.
const WITHOUT_END: u32 = 1;
/// The last line.
const END: &str = "# end";
/// Largest trust file, in bytes: room for some ten thousand peers.
const MAX_LEN: u64 = 16 << 20;

const HEADER: &str = "\
# Whom this machine knows, and what they may do here.
#
# [[peer]]     A peer. `allow` holds its rights: \"send\" (it may send files here) and \"fetch\" (it may fetch what is
#              shared with it). Without `allow` it is known and may do nothing. Rules for what it sends, where there are some:
#              `accept` (\"always\", \"ask\", \"never\"), `folder`, `largest` and `quota` (\"10 GiB\"), `exists`
#              (\"keep-both\", \"overwrite\", \"skip\"), `seed` (whether it may fetch that back) and `progressive`
#              (whether a folder appears file by file).
# [[pin]]      The key that was found where this machine dialled. Another key there is refused.
# [[invitation]]  What `p2p invite` made: until when it holds, and a hash of its secret. Who has joined by it may do it again.
# [[succeeded]]  A key that a peer had before, and which has signed the one that it has now. It may do nothing.
# [[pending]]  Strangers that tried to connect. They may do nothing; `p2p peers trust ID` lets one in.
#
# `p2p peers`, `p2p peers trust`, `p2p peers rule` and `p2p peers forget` read and change this. By hand, change it only while no daemon runs.
# The last line has to stay `# end`, so that a file that was cut short is not taken for a whole one.
";

fn is_none_yet(number: &u64) -> bool {
    *number == 0
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: Spanned<u32>,
    /// The number of the latest invitation, which may be gone.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    last_invitation: u64,
    #[serde(default, rename = "peer", skip_serializing_if = "Vec::is_empty")]
    peers: Vec<PeerTable>,
    #[serde(default, rename = "pin", skip_serializing_if = "Vec::is_empty")]
    pins: Vec<PinTable>,
    #[serde(default, rename = "invitation", skip_serializing_if = "Vec::is_empty")]
    invitations: Vec<InvitationTable>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    succeeded: Vec<SucceededTable>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pending: Vec<PendingTable>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PeerTable {
    id: Spanned<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Spanned<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow: Vec<Right>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Spanned<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accept: Option<Acceptance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<Spanned<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    largest: Option<Spanned<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<Spanned<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exists: Option<Exists>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progressive: Option<bool>,
}

impl PeerTable {
    fn rules(&self) -> Result<Rules, Mistake> {
        let size = |text: &Spanned<String>| {
            text.get_ref().parse::<Size>().map_err(|error| Mistake::new(text, error))
        };
        if let Some(folder) = self.folder.as_ref().filter(|folder| Path::new(folder.get_ref()).is_relative())
        {
            return Err(Mistake::new(folder, "not the absolute path of a folder"));
        }
        Ok(Rules {
            accept: self.accept,
            folder: self.folder.as_ref().map(|folder| folder.get_ref().clone()),
            largest: self.largest.as_ref().map(size).transpose()?,
            quota: self.quota.as_ref().map(size).transpose()?,
            exists: self.exists,
            seed: self.seed,
            progressive: self.progressive,
        })
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PinTable {
    target: Spanned<String>,
    id: Spanned<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SucceededTable {
    id: Spanned<String>,
    by: Spanned<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PendingTable {
    id: Spanned<String>,
    address: Spanned<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Right {
    Send,
    Fetch,
}

impl Right {
    /// Those of a list.
    pub(super) fn rights(list: &[Self]) -> Rights {
        Rights { send: list.contains(&Self::Send), fetch: list.contains(&Self::Fetch) }
    }

    /// As a list.
    pub(super) fn list(rights: Rights) -> Vec<Self> {
        let all = [(rights.send, Self::Send), (rights.fetch, Self::Fetch)];
        all.into_iter().filter_map(|(has, right)| has.then_some(right)).collect()
    }
}

/// The trust file of one home, and what it was when this process last read or wrote it.
#[derive(Debug)]
pub(super) struct TrustFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    stamp: Option<Stamp>,
}

/// Tells whether a file is still the one that was read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl TrustFile {
    /// Reads the trust file of a home. None at all means that nobody is known.
    pub(super) fn load(disk: Arc<dyn Disk>, home: &Path) -> Result<(Self, Book, Pending), PeersError> {
        let path = home.join(FILE);
        let file = match home::open_to_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Self { disk, path, stamp: None }, Book::default(), Pending::default()));
            }
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let metadata = file.metadata().map_err(failed("examine", &path))?;
        let (mode, uid) = (metadata.mode() & 0o777, metadata.uid());
        if uid != rustix::process::geteuid().as_raw() {
            return Err(PeersError::Foreign { path, uid });
        }
        if mode & 0o077 != 0 {
            return Err(PeersError::Exposed { path, mode });
        }
        let mut text = String::new();
        file.take(MAX_LEN + 1).read_to_string(&mut text).map_err(failed("read", &path))?;
        if text.len() as u64 > MAX_LEN {
            return Err(failed("read", &path)(io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        match decode(&text) {
            Ok((book, pending)) => {
                Ok((Self { disk, path, stamp: Some(Stamp::of(&metadata)) }, book, pending))
            }
            Err(Mistake { at, why }) => {
                let (line, column) = line_and_column(&text, at);
                Err(PeersError::Damaged { path, line, column, why })
            }
        }
    }

    /// Puts a new trust file in the old one's place: after a crash there is the one or the other. Refuses where
    /// the file is no longer the one that this process knows, so that nothing a person wrote gets lost. Which of
    /// the two a crash leaves is certain only after [`Self::sync`].
    pub(super) fn replace(&mut self, book: &Book, pending: &Pending) -> Result<(), PeersError> {
        let now = match fs::metadata(&self.path) {
            Ok(metadata) => Some(Stamp::of(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("examine", &self.path)(error)),
        };
        if now != self.stamp {
            return Err(PeersError::ChangedOutside { path: self.path.clone() });
        }
        let text = encode(book, pending)
            .map_err(|error| failed("encode", &self.path)(io::Error::other(error.to_string())))?;
        let new = self.path.with_file_name(NEW_FILE);
        // What an interrupted write left may have any mode and be open anywhere.
        let disk = &*self.disk;
        match disk::remove(disk, &new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &new)(error));
            }
            _ => {}
        }
        let file = disk::create(disk, &new).map_err(failed("create", &new))?;
        write_all(disk, &file, text.as_bytes(), 0).map_err(failed("write to", &new))?;
        disk.sync_all(&file).map_err(failed("sync", &new))?;
        let stamp = Stamp::of(&file.metadata().map_err(failed("examine", &new))?);
        disk::rename(disk, &new, &self.path).map_err(failed("replace", &self.path))?;
        self.stamp = Some(stamp);
        Ok(())
    }

    /// Makes the last replacement durable.
    pub(super) fn sync(&self) -> Result<(), PeersError> {
        let home = self.path.parent().unwrap_or(Path::new("."));
        open_folder(home)
            .and_then(|home| self.disk.sync_folder(&home))
            .map_err(failed("sync the folder of", &self.path))
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PeersError {
    let path = path.to_owned();
    move |source| PeersError::Io { what, path, source: Arc::new(source) }
}

/// What is wrong, and at which byte.
pub(super) struct Mistake {
    at: usize,
    why: String,
}

impl Mistake {
    pub(super) fn new<T>(spanned: &Spanned<T>, why: impl ToString) -> Self {
        Self { at: spanned.span().start, why: why.to_string() }
    }
}

fn decode(text: &str) -> Result<(Book, Pending), Mistake> {
    let document: Document = toml::from_str(text).map_err(|error| Mistake {
        at: error.span().map_or(0, |span| span.start),
        why: error.message().trim().replace('\n', "; "),
    })?;
    match *document.version.get_ref() {
        WITHOUT_END => {}
        VERSION if text.trim_end().lines().next_back() == Some(END) => {}
        VERSION => {
            let why = format!(
                "it ends without its last line, `{END}`, so that some of it may be missing; put back what is, and that line"
            );
            return Err(Mistake { at: text.trim_end().len(), why });
        }
        other => {
            let why = format!("version {other} is of another p2p; this one reads {VERSION}");
            return Err(Mistake::new(&document.version, why));
        }
    }
    let mut book = Book::default();
    let mut names = HashSet::new();
    for table in document.peers {
        let id = peer_id(&table.id)?;
        let addresses = table.addresses.iter().map(place).collect::<Result<_, _>>()?;
        if let Some(name) = &table.name {
            check_name(name.get_ref()).map_err(|why| Mistake::new(name, why))?;
            if !names.insert(name.get_ref().to_lowercase()) {
                return Err(Mistake::new(name, "another peer has this name already"));
            }
        }
        let (rights, rules) = (Right::rights(&table.allow), table.rules()?);
        let entry = Entry { name: table.name.map(Spanned::into_inner), rights, addresses, rules };
        if book.peers.insert(id, entry).is_some() {
            return Err(Mistake::new(&table.id, "this peer is in the file twice"));
        }
    }
    for table in &document.pins {
        let (place, id) = (place(&table.target)?, peer_id(&table.id)?);
        book.peers.entry(id).or_default();
        if book.pins.insert(place, id).is_some() {
            return Err(Mistake::new(&table.target, "this target is pinned twice"));
        }
    }
    book.invitations = Invitations::decode(&document.invitations)?;
    book.last_invitation = document.last_invitation.max(book.invitations.last_number());
    for table in &document.succeeded {
        if book.succeeded.insert(peer_id(&table.id)?, peer_id(&table.by)?).is_some() {
            return Err(Mistake::new(&table.id, "this key is in the file twice"));
        }
    }
    let mut pending = Pending::default();
    for table in &document.pending {
        let id = peer_id(&table.id)?;
        let address = table.address.get_ref().parse();
        let address = address.map_err(|_| Mistake::new(&table.address, "not an IP address and port"))?;
        if !book.peers.contains_key(&id) {
            pending.note(id, address);
        }
    }
    Ok((book, pending))
}

pub(super) fn peer_id(text: &Spanned<String>) -> Result<PeerId, Mistake> {
    text.get_ref().parse().map_err(|error| Mistake::new(text, error))
}

fn place(text: &Spanned<String>) -> Result<Place, Mistake> {
    Place::parse(text.get_ref()).map_err(|error| Mistake::new(text, error))
}

fn encode(book: &Book, pending: &Pending) -> Result<String, toml::ser::Error> {
    let text = |text: String| Spanned::new(0..0, text);
    let document = Document {
        version: Spanned::new(0..0, VERSION),
        peers: book
            .peers
            .iter()
            .map(|(id, entry)| PeerTable {
                id: text(id.to_string()),
                name: entry.name.clone().map(text),
                allow: Right::list(entry.rights),
                addresses: entry.addresses.iter().map(|place| text(place.to_string())).collect(),
                accept: entry.rules.accept,
                folder: entry.rules.folder.clone().map(text),
                largest: entry.rules.largest.map(|size| text(size.to_string())),
                quota: entry.rules.quota.map(|size| text(size.to_string())),
                exists: entry.rules.exists,
                seed: entry.rules.seed,
                progressive: entry.rules.progressive,
            })
            .collect(),
        pins: book
            .pins
            .iter()
            .map(|(place, id)| PinTable { target: text(place.to_string()), id: text(id.to_string()) })
            .collect(),
        last_invitation: book.last_invitation,
        invitations: book.invitations.encode(),
        succeeded: book
            .succeeded
            .iter()
            .map(|(id, by)| SucceededTable { id: text(id.to_string()), by: text(by.to_string()) })
            .collect(),
        pending: pending
            .iter()
            .map(|(id, address)| PendingTable {
                id: text(id.to_string()),
                address: text(address.to_string()),
            })
            .collect(),
    };
    Ok(format!("{HEADER}\n{}\n{END}\n", toml::to_string(&document)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::disk::System;

    const A: &str = "aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaq";
    const B: &str = "aibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaiba";

    fn home_with(text: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        home
    }

    fn sample() -> (Book, Pending) {
        let (a, b): (PeerId, PeerId) = (A.parse().unwrap(), B.parse().unwrap());
        let addresses = vec![Place::parse("[2001:db8::1]:5").unwrap(), Place::parse("bob.example").unwrap()];
        let rights = Rights { send: true, fetch: true };
        let rules = Rules {
            accept: Some(Acceptance::Ask),
            folder: Some("/srv/bob".to_owned()),
            largest: Some(Size(10 << 30)),
            quota: Some(Size(1 << 40)),
            exists: Some(Exists::KeepBoth),
            seed: Some(false),
            progressive: Some(true),
        };
        let bob = Entry { name: Some("bob".to_owned()), rights, addresses, rules };
        let pin = (Place::parse("bob.example").unwrap(), a);
        let mut pending = Pending::default();
        pending.note(PeerId([9; 32]), "192.0.2.9:5".parse().unwrap());
        let peers = [(a, bob), (b, Entry::default())].into();
        (Book { peers, pins: [pin].into(), ..Book::default() }, pending)
    }

    fn load(home: &Path) -> Result<(TrustFile, Book, Pending), PeersError> {
        TrustFile::load(Arc::new(System), home)
    }

    fn stored(home: &Path) -> TrustFile {
        let (mut file, ..) = load(home).unwrap();
        let (book, pending) = sample();
        file.replace(&book, &pending).unwrap();
        file.sync().unwrap();
        file
    }

    #[test]
    fn what_is_written_is_read() {
        let home = tempfile::tempdir().unwrap();
        stored(home.path());
        let (_, book, pending) = load(home.path()).unwrap();
        assert_eq!(book, sample().0);
        assert!(pending.iter().eq(sample().1.iter()));
        let path = home.path().join(FILE);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(!home.path().join(NEW_FILE).exists());
        let text = fs::read_to_string(path).unwrap();
        let expected = format!(
            "{HEADER}\nversion = 2\n\n\
             [[peer]]\nid = \"{A}\"\nname = \"bob\"\nallow = [\"send\", \"fetch\"]\n\
             addresses = [\"[2001:db8::1]:5\", \"bob.example:4419\"]\n\
             accept = \"ask\"\nfolder = \"/srv/bob\"\nlargest = \"10 GiB\"\nquota = \"1 TiB\"\n\
             exists = \"keep-both\"\nseed = false\nprogressive = true\n\n\
             [[peer]]\nid = \"{B}\"\n\n\
             [[pin]]\ntarget = \"bob.example:4419\"\nid = \"{A}\"\n\n\
             [[pending]]\nid = \"{}\"\naddress = \"192.0.2.9:5\"\n\n# end\n",
            PeerId([9; 32])
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn no_file_means_nobody() {
        let home = tempfile::tempdir().unwrap();
        let (_, book, pending) = load(home.path()).unwrap();
        assert_eq!((book, pending.iter().count()), (Book::default(), 0));
    }

    /// Fault 76.
    #[test]
    fn damage_is_refused_with_its_place() {
        let of = |text: &str| {
            let home = home_with(text);
            let error = load(home.path()).unwrap_err().to_string();
            let prefix = format!("{}:", home.path().join(FILE).display());
            error.strip_prefix(&prefix).unwrap_or_else(|| panic!("{error}")).to_owned()
        };
        let peer = format!("version = 1\n[[peer]]\nid = '{A}'\n");
        assert!(of("version = 1\n[[peer]\n").starts_with("2:"));
        assert!(of("").contains("missing field `version`"));
        assert!(of("version = 2").contains("it ends without its last line"));
        assert!(of("version = 3").starts_with("1:11: version 3 is of another p2p"));
        assert!(of("version = 1\n[[peer]]\nid = 'x'").starts_with("3:6: a Peer ID is 52"));
        assert!(of("version = 1\n[[peer]]\n").starts_with("2:1: missing field `id`"));
        assert!(of(&format!("{peer}nam = 'x'")).starts_with("4:1: unknown field `nam`"));
        assert!(of(&format!("{peer}name = 'a b'")).starts_with("4:8: a peer's name has letters"));
        assert!(of(&format!("{peer}folder = 'bob'")).starts_with("4:10: not the absolute path"));
        assert!(of(&format!("{peer}quota = '10 X'")).starts_with("4:9: `10 X` is not a size"));
        assert!(of(&format!("{peer}accept = 'no'")).starts_with("4:10: unknown variant `no`"));
        assert!(of(&format!("{peer}allow = ['all']")).starts_with("4:10: unknown variant `all`"));
        assert!(
            of(&format!("{peer}addresses = ['a', '::1']")).starts_with("4:19: ::1: an IPv6 address stands")
        );
        assert!(
            of(&format!("{peer}[[peer]]\nid = '{A}'")).starts_with("5:6: this peer is in the file twice")
        );
        let names = format!("{peer}name = 'Bob'\n[[peer]]\nid = '{B}'\nname = 'bob'");
        assert!(of(&names).starts_with("7:8: another peer has this name"));
        let pins = format!("[[pin]]\ntarget = 'h'\nid = '{A}'\n[[pin]]\ntarget = 'H:4419'\nid = '{B}'");
        assert!(of(&format!("version = 1\n{pins}")).starts_with("6:10: this target is pinned twice"));
        let pending = format!("version = 1\n[[pending]]\nid = '{A}'\naddress = 'h:1'");
        assert!(of(&pending).starts_with("4:11: not an IP address and port"));
    }

    /// Fault 26.
    #[test]
    fn a_file_cut_anywhere_is_read_whole_or_refused() {
        let home = tempfile::tempdir().unwrap();
        stored(home.path());
        let text = fs::read_to_string(home.path().join(FILE)).unwrap();
        for cut in 0..text.trim_end().len() {
            assert!(decode(&text[..cut]).is_err(), "cut at {cut}");
        }
        let said = decode(text.replace(END, "").trim_end()).unwrap_err();
        assert!(said.why.contains("`# end`"), "{}", said.why);
        assert!(matches!(
            load(home_with("version = 1\n\u{0}").path()),
            Err(PeersError::Damaged { line: 2, .. })
        ));
        let not_text = home_with("");
        fs::write(not_text.path().join(FILE), b"version = 1 # \xff").unwrap();
        assert!(matches!(load(not_text.path()), Err(PeersError::Io { .. })));
    }

    #[test]
    fn a_file_that_others_can_touch_is_refused_with_the_way_out() {
        let home = home_with("version = 1");
        let path = home.path().join(FILE);
        for mode in [0o640, 0o602, 0o604] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load(home.path()).unwrap_err();
            assert!(error.to_string().contains(&format!("run `chmod 600 {}`", path.display())), "{error}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(load(home.path()).is_err());
        fs::remove_dir(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(load(home.path()).is_err(), "and is not waited for");
    }

    #[test]
    fn an_edit_by_hand_is_not_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let mut file = stored(home.path());
        let path = home.path().join(FILE);
        let edited = fs::read_to_string(&path).unwrap().replace("bob", "robert");
        fs::write(&path, &edited).unwrap();
        let (book, pending) = sample();
        let error = file.replace(&book, &pending).unwrap_err();
        assert!(matches!(error, PeersError::ChangedOutside { .. }), "{error}");
        fs::remove_file(&path).unwrap();
        assert!(matches!(file.replace(&book, &pending), Err(PeersError::ChangedOutside { .. })));
        assert!(!path.exists());
    }

    #[test]
    fn what_an_interrupted_write_left_does_no_harm() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(NEW_FILE), "half a fi").unwrap();
        stored(home.path());
        assert_eq!(load(home.path()).unwrap().1, sample().0);
    }
}
